"""Who did what: the audit trail, newest first."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field

from api import operating
from api.bodies import Moment, Text
from api.paging import Page, find_place
from api.parts import parts_of, principal_of
from api.promises import answer, problems
from api.strict import StrictRoute
from jobs.trail.reading import EntryView, TrailFilter, page_trail

router = APIRouter(route_class=StrictRoute, tags=["audit"])


class AuditQuery(Page):
    """Which entries, and how many of them; what is left out does not narrow the list."""

    actor: Text | None = Field(default=None, description="Of the key with this id")
    action: Text | None = Field(default=None, description="As in `job.cancel`")
    target: Text | None = Field(default=None, description="Done to what has this id or name")
    since: Moment | None = Field(default=None, description="Younger than this")
    until: Moment | None = Field(default=None, description="Older than this")


@router.get(
    "/v1/audit",
    responses={
        200: answer("A page", "Link", model=operating.AuditPage),
        **problems("cursor-mismatch", "validation-failed"),
    },
)
async def read_audit(request: Request, asked: Annotated[AuditQuery, Query()]) -> Response:
    """List who did what in the project, newest first. `next_cursor: null` is the only end."""
    place = find_place(request, asked)
    page = await parts_of(request).database.run(
        page_trail,
        principal_of(request).project_id,
        TrailFilter(asked.actor, asked.action, asked.target, asked.since, asked.until),
        limit=place.limit,
        before_id=place.before,
    )
    return place.answer([_document(entry) for entry in page.entries], page.last_id)


def _document(entry: EntryView) -> dict[str, Any]:
    document = entry._asdict()
    actor = {"key_id": document.pop("key_id"), "name": document.pop("key_name")}
    return {**document, "actor": actor}
