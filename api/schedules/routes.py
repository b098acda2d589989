"""Schedules: made, read, changed, paused, resumed, run now, deleted; and their history."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Concatenate, ParamSpec, TypeVar
from uuid import UUID

from anyio import to_thread
from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import Field
from sqlalchemy import Connection

from api import schemas
from api.bodies import Text
from api.documents import job_document, json_response
from api.errors import parameter_flaw
from api.keyring import Principal
from api.paging import Page, find_place
from api.parts import Parts, actor_of, parts_of, principal_of
from api.preconditions import etag
from api.promises import answer, problems
from api.schedules import answers
from api.schedules.answers import schedule_document
from api.schedules.bodies import NewSchedule, ScheduleChange
from api.sealing import require_tied_tls, sealed_tie
from api.strict import StrictRoute
from jobs.enqueue import Accepted, created
from jobs.hints import SCHEDULES
from jobs.ids import uuid7
from jobs.schedules import store
from jobs.schedules.history import page_ticks
from jobs.schedules.store import ScheduleView
from jobs.trail.record import Deed

router = APIRouter(route_class=StrictRoute, tags=["schedules"])

P = ParamSpec("P")
T = TypeVar("T")

ScheduleId = Annotated[UUID, Path(description="The schedule's id")]
_SENT = ("bad-request", "payload-too-large", "unsupported-media-type", "validation-failed")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_LATEST = (datetime(9999, 1, 1, tzinfo=UTC) - _EPOCH) // _MICROSECOND


class ScheduleQuery(Page):
    """Which schedules, and how many of them."""

    kind: Text | None = Field(default=None, description="Of this kind")


@router.post(
    "/v1/schedules",
    status_code=201,
    responses={
        201: answer("It stands", "Location", model=answers.Schedule),
        **problems(*_SENT, "schedule-exists", "secret-key-missing"),
    },
)
async def make_schedule(request: Request, body: NewSchedule) -> Response:
    """Make a schedule. Each of its ticks makes one job, however many dispatchers there are."""
    parts, actor = parts_of(request), actor_of(request)
    principal_of(request).require_kind(body.kind)
    require_tied_tls(parts.settings, body)
    schedule_id = uuid7()
    asked = replace(body.asked(), **sealed_tie(parts.vault, body, schedule_id))
    made = await parts.database.change(
        actor,
        lambda made: Deed("schedule.create", made.id, {"name": made.name, "kind": made.kind}),
        store.create,
        parts.registry,
        actor.project_id,
        asked,
        schedule_id,
    )
    return await _changed(parts, made, 201, {"Location": f"/v1/schedules/{made.id}"})


@router.get(
    "/v1/schedules",
    responses={
        200: answer("A page", "Link", model=answers.SchedulePage),
        **problems("cursor-mismatch", "validation-failed"),
    },
)
async def list_schedules(request: Request, asked: Annotated[ScheduleQuery, Query()]) -> Response:
    """List the project's schedules, newest first."""
    place = find_place(request, asked)
    page = await parts_of(request).database.run(
        store.page,
        principal_of(request).project_id,
        limit=place.limit,
        kind=asked.kind or None,
        before=place.before,
    )
    items = await to_thread.run_sync(lambda: [schedule_document(each) for each in page.schedules])
    return place.answer(items, page.last_id)


@router.get(
    "/v1/schedules/{schedule_id}",
    responses={
        200: answer("The schedule", model=answers.Schedule),
        **problems("schedule-not-found"),
    },
)
async def read_schedule(request: Request, schedule_id: ScheduleId) -> Response:
    """Read a schedule, with its next five times."""
    project_id = principal_of(request).project_id
    found = await parts_of(request).database.run(store.get, project_id, schedule_id)
    return json_response(schedule_document(found))


@router.patch(
    "/v1/schedules/{schedule_id}",
    responses={
        200: answer("It is so from the next tick on", model=answers.Schedule),
        **problems(
            *(*_SENT, "schedule-not-found", "schedule-exists", "schedule-from-code"),
            "secret-key-missing",
        ),
    },
)
async def change_schedule(
    request: Request, schedule_id: ScheduleId, body: ScheduleChange
) -> Response:
    """Change what is named. With another time, the next tick is the first one from now."""
    parts, actor = parts_of(request), actor_of(request)
    require_tied_tls(parts.settings, body)
    changes = {**body.changes(), **sealed_tie(parts.vault, body, schedule_id)}
    if "kind" in changes:
        principal_of(request).require_kind(body.kind)
    changed = await parts.database.change(
        actor,
        Deed("schedule.change", schedule_id, _details(changes)),
        _if_allowed(principal_of(request), schedule_id, store.edit),
        parts.registry,
        actor.project_id,
        schedule_id,
        changes,
    )
    return await _changed(parts, changed)


@router.delete(
    "/v1/schedules/{schedule_id}",
    status_code=204,
    response_class=Response,
    responses=problems("schedule-not-found", "schedule-from-code"),
)
async def delete_schedule(request: Request, schedule_id: ScheduleId) -> Response:
    """Delete a schedule with its history; its jobs stay."""
    actor = actor_of(request)
    await parts_of(request).database.change(
        actor,
        lambda name: Deed("schedule.delete", schedule_id, {"name": name}),
        store.delete,
        actor.project_id,
        schedule_id,
    )
    return Response(status_code=204)


@router.post(
    "/v1/schedules/{schedule_id}/pause",
    responses={
        200: answer("It is paused", model=answers.Schedule),
        **problems("schedule-not-found"),
    },
)
async def pause_schedule(request: Request, schedule_id: ScheduleId) -> Response:
    """Let no tick make a job until the schedule is resumed."""
    parts, actor = parts_of(request), actor_of(request)
    deed = Deed("schedule.pause", schedule_id)
    paused = await parts.database.change(actor, deed, store.pause, actor.project_id, schedule_id)
    return await _changed(parts, paused)


@router.post(
    "/v1/schedules/{schedule_id}/resume",
    responses={
        200: answer("It goes on", model=answers.Schedule),
        **problems("schedule-not-found"),
    },
)
async def resume_schedule(request: Request, schedule_id: ScheduleId) -> Response:
    """Go on; what becomes of the ticks of the meantime is up to `misfire`."""
    parts, actor = parts_of(request), actor_of(request)
    deed = Deed("schedule.resume", schedule_id)
    resume = _if_allowed(principal_of(request), schedule_id, store.resume)
    resumed = await parts.database.change(actor, deed, resume, actor.project_id, schedule_id)
    return await _changed(parts, resumed)


@router.post(
    "/v1/schedules/{schedule_id}/run-now",
    status_code=202,
    responses={
        202: answer("The job is accepted", "Location", "ETag", model=schemas.Job),
        200: answer("It is the one that has the unique key", "Location", "ETag", model=schemas.Job),
        **problems("schedule-not-found", "unique-conflict"),
    },
)
async def run_schedule_now(request: Request, schedule_id: ScheduleId) -> Response:
    """Make one more job now, beside the plan: also while the schedule is paused."""
    parts, actor = parts_of(request), actor_of(request)

    def deed(accepted: Accepted) -> Deed | None:
        details = {"job_id": str(accepted.jobs[0].id)}
        return Deed("schedule.run-now", schedule_id, details) if accepted.made else None

    accepted = await parts.database.change(
        actor,
        deed,
        _if_allowed(principal_of(request), schedule_id, store.run_now),
        actor.project_id,
        schedule_id,
        parts.removals_id,
    )
    job = accepted.jobs[0]
    parts.hints.tell(accepted.moved)
    parts.hints.tell(created(actor.project_id, each) for each in accepted.made)
    parts.hints.wake([job.queue])
    parts.metrics.count_submitted(accepted.made)
    headers = {"Location": f"/v1/jobs/{job.id}", "ETag": etag(job.seq)}
    document = job_document(job, parts.settings.flower_url)
    return json_response(document, 202 if accepted.made else 200, headers)


@router.get(
    "/v1/schedules/{schedule_id}/ticks",
    responses={
        200: answer("A page", "Link", model=answers.TickPage),
        **problems("schedule-not-found", "cursor-mismatch", "validation-failed"),
    },
)
async def list_ticks(
    request: Request, schedule_id: ScheduleId, asked: Annotated[Page, Query()]
) -> Response:
    """List what became of a schedule's ticks, newest first, as long as succeeded jobs are kept."""
    place = find_place(request, asked)
    page = await parts_of(request).database.run(
        page_ticks,
        principal_of(request).project_id,
        schedule_id,
        limit=place.limit,
        before=None if place.before is None else _time(place.before),
    )
    last = None if page.last_at is None else _place(page.last_at)
    return place.answer([tick._asdict() for tick in page.ticks], last)


def _if_allowed(
    principal: Principal, schedule_id: UUID, function: Callable[Concatenate[Connection, P], T]
) -> Callable[Concatenate[Connection, P], T]:
    """The function, where the key may run the schedule's kind; else Problem 403, and no change."""

    def call(connection: Connection, /, *args: P.args, **kwargs: P.kwargs) -> T:
        principal.require_kind(store.hold(connection, principal.project_id, schedule_id))
        return function(connection, *args, **kwargs)

    return call


async def _changed(
    parts: Parts, schedule: ScheduleView, status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    """Dispatchers look again; if they do not hear of it, a second later."""
    parts.hints.wake([SCHEDULES])
    document = await to_thread.run_sync(schedule_document, schedule)
    return json_response(document, status, headers)


def _details(changes: dict[str, Any]) -> dict[str, Any]:
    """What the trail may say: neither the args nor a secret."""
    return {name: str(value) for name, value in changes.items() if name not in {"args", "sealed"}}


def _place(time: datetime) -> UUID:
    """A time as cursors carry it."""
    return UUID(int=(time - _EPOCH) // _MICROSECOND)


def _time(place: UUID) -> datetime:
    if place.int > _LATEST:
        raise parameter_flaw("cursor", "this is no cursor of this server")
    return _EPOCH + place.int * _MICROSECOND
