"""Projects: made by the admins of the project `default`, each seen by its own keys alone."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response

from api import operating, schemas
from api.bodies import NewKey, NewProject, Text
from api.cursors import read_name_cursor, write_name_cursor
from api.documents import json_response
from api.keyring import Principal
from api.keys import MAKING, made_key
from api.paging import Page, page_answer
from api.parts import actor_of, parts_of, principal_of
from api.problems import Problem
from api.promises import answer, problems
from api.strict import StrictRoute
from jobs.errors import ProjectMissing
from jobs.keys.projects import OPERATOR, create_project, get_project, page_projects
from jobs.keys.scopes import Scope
from jobs.trail.record import Deed

router = APIRouter(route_class=StrictRoute, tags=["projects"])

ProjectId = Annotated[Text, Path(description="The project's id")]


@router.post(
    "/v1/projects",
    status_code=201,
    responses={
        201: answer("The project, which has no key yet", "Location", model=operating.Project),
        **problems(
            "bad-request",
            "insufficient-scope",
            "payload-too-large",
            "project-exists",
            "unsupported-media-type",
            "validation-failed",
        ),
    },
)
async def make_project(request: Request, body: NewProject) -> Response:
    """Make a project. Admins of the project `default` may."""
    if not _is_operator(principal_of(request)):
        raise Problem("insufficient-scope", f"This needs an admin of the project {OPERATOR!r}.")
    made = await parts_of(request).database.change(
        actor_of(request),
        Deed("project.create", body.id, {"name": body.name}),
        create_project,
        body.id,
        body.name or body.id,
    )
    return json_response(made._asdict(), 201, {"Location": f"/v1/projects/{made.id}"})


@router.get(
    "/v1/projects",
    responses={
        200: answer("A page", "Link", model=operating.Projects),
        **problems("validation-failed"),
    },
)
async def list_projects(request: Request, asked: Annotated[Page, Query()]) -> Response:
    """List the projects by id: all of them to admins of `default`, to others their own."""
    principal = principal_of(request)
    only = None if _is_operator(principal) else principal.project_id
    after = read_name_cursor(asked.cursor) if asked.cursor else ""
    found, last_id = await parts_of(request).database.run(
        page_projects, only, limit=asked.size, after=after
    )
    next_cursor = write_name_cursor(last_id) if last_id else None
    return page_answer(request, [each._asdict() for each in found], next_cursor)


@router.get(
    "/v1/projects/{project_id}",
    responses={
        200: answer("The project", model=operating.Project),
        **problems("project-not-found"),
    },
)
async def read_project(request: Request, project_id: ProjectId) -> Response:
    """Read a project."""
    _require_seen(principal_of(request), project_id)
    return json_response((await parts_of(request).database.run(get_project, project_id))._asdict())


@router.post(
    "/v1/projects/{project_id}/keys",
    status_code=201,
    responses={
        201: answer("The key, this once", "Location", model=schemas.MadeApiKey),
        **MAKING,
        **problems("project-not-found"),
    },
)
async def make_project_key(request: Request, project_id: ProjectId, body: NewKey) -> Response:
    """Make a key of that project: its first one, or another where all are lost."""
    _require_seen(principal_of(request), project_id)
    await parts_of(request).database.run(get_project, project_id)
    return await made_key(request, body, project_id)


def _is_operator(principal: Principal) -> bool:
    return principal.project_id == OPERATOR and Scope.ADMIN in principal.scopes


def _require_seen(principal: Principal, project_id: str) -> None:
    """Another's project is none."""
    if project_id != principal.project_id and not _is_operator(principal):
        raise ProjectMissing(project_id)
