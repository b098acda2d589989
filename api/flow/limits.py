"""Limits, rates and pauses of queues, kinds and keys: read and changed while all runs."""

import math
from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Body, Path, Query, Request, Response
from starlette import convertors

from api import standing
from api.cursors import read_name_cursor, write_name_cursor
from api.documents import json_response
from api.flow.bodies import NewLimit, NewRate, Pausing
from api.paging import Page, page_answer
from api.parts import actor_of, parts_of, principal_of
from api.problems import Problem
from api.promises import Responses, answer, problems
from api.strict import StrictRoute
from jobs import gates
from jobs.gates import Gate, GateView, Rate, Scope
from jobs.trail.record import Deed
from lading.authoring import NAME, NAME_LENGTH, QUEUE


class _LimitConvertor(convertors.StringConvertor):
    """A limit's name may have slashes; two words end an address of their own."""

    regex = r".*(?<!/pause)(?<!/resume)"


convertors.register_url_convertor("limit", _LimitConvertor())  # before the routes that name it
router = APIRouter(route_class=StrictRoute, tags=["limits and pauses"])

LOOK = timedelta(seconds=0.1)  # between a busy dispatcher's looks: what is due then starts at once
_NAME_LENGTH = 260  # of the longest key, and its scope
_SENT = ("bad-request", "payload-too-large", "unsupported-media-type", "validation-failed")
#: Of a limit that stands, whose name may be from when names were checked less.
KnownLimit = Annotated[
    str,
    Path(
        pattern=r"^(?:key|kind|queue):[^\x00]+$",
        max_length=_NAME_LENGTH,
        description="`key:…`, `kind:…` or `queue:…`",
        examples=["key:tenant-7"],
    ),
]
LimitName = Annotated[
    str,
    Path(
        pattern=rf"^(?:key:[^\x00]+|kind:{NAME.pattern}|queue:{QUEUE.pattern})$",
        max_length=_NAME_LENGTH,
        description="`key:…`, `kind:…` or `queue:…`",
        examples=["key:tenant-7"],
    ),
]
KindName = Annotated[str, Path(examples=["demo.sleep"])]
QueueName = Annotated[
    str, Path(pattern=f"^(?:{QUEUE.pattern})$", max_length=NAME_LENGTH, examples=["default"])
]
Why = Annotated[Pausing | None, Body()]


_PAUSED: Responses = {200: answer("It is paused", model=standing.Limit)}
_RESUMED: Responses = {200: answer("It is not paused", model=standing.Limit)}


@router.get(
    "/v1/limits",
    responses={
        200: answer("A page", "Link", model=standing.LimitPage),
        **problems("validation-failed"),
    },
)
async def list_limits(request: Request, asked: Annotated[Page, Query()]) -> Response:
    """List what is limited or paused, by name. Kinds' own limits stand at `GET /v1/kinds`."""
    size = asked.size
    found = await parts_of(request).database.run(
        gates.page_gates,
        principal_of(request).project_id,
        limit=size + 1,
        after=_read(read_name_cursor(asked.cursor)) if asked.cursor else None,
    )
    next_cursor = write_name_cursor(str(found[size - 1])) if len(found) > size else None
    return page_answer(request, [_document(request, view) for view in found[:size]], next_cursor)


@router.post(
    "/v1/limits/{limit:path}/pause",
    responses={**_PAUSED, **problems(*_SENT, "limit-not-found")},
)
async def pause_limit(request: Request, limit: LimitName, body: Why = None) -> Response:
    """Start nothing more of a key, a kind or a queue. What runs goes on."""
    return await _pause(request, _read(limit), body)


@router.post(
    "/v1/limits/{limit:path}/resume", responses={**_RESUMED, **problems("limit-not-found")}
)
async def resume_limit(request: Request, limit: KnownLimit) -> Response:
    """Let it go on."""
    return await _resume(request, _read(limit))


@router.get(
    "/v1/limits/{limit:limit}",
    responses={200: answer("As it stands", model=standing.Limit), **problems("limit-not-found")},
)
async def read_limit(request: Request, limit: KnownLimit) -> Response:
    """Read a limit, and what counts against it now."""
    project_id = principal_of(request).project_id
    view = await parts_of(request).database.run(gates.find_limit, project_id, _read(limit))
    return json_response(_document(request, view))


@router.put(
    "/v1/limits/{limit:limit}",
    responses={
        200: answer("It holds from now on", model=standing.Limit),
        **problems(*_SENT, "limit-not-found"),
    },
)
async def set_limit(request: Request, limit: LimitName, body: NewLimit) -> Response:
    """Limit how many run at a time, or start in a time. What runs beyond it goes on.

    A kind may have its limit before it is deployed: see `kind_known`.
    """
    actor = actor_of(request)
    view = await parts_of(request).database.change(
        actor,
        Deed("limit.set", limit, body.model_dump(exclude_none=True)),
        gates.set_limit,
        actor.project_id,
        _read(limit),
        concurrency=body.concurrency,
        rate=None if body.rate is None else _rate(body.rate),
    )
    _wake(request, _read(limit))
    return json_response(_document(request, view))


@router.delete(
    "/v1/limits/{limit:limit}",
    status_code=204,
    response_class=Response,
    responses=problems("limit-not-found"),
)
async def delete_limit(request: Request, limit: KnownLimit) -> Response:
    """Take the limits away; a pause stands. A kind's own limit holds again."""
    actor = actor_of(request)
    await parts_of(request).database.change(
        actor, Deed("limit.delete", limit), gates.delete_limit, actor.project_id, _read(limit)
    )
    _wake(request, _read(limit))
    return Response(status_code=204)


@router.post(
    "/v1/queues/{queue}/pause", responses={**_PAUSED, **problems(*_SENT, "queue-not-found")}
)
async def pause_queue(request: Request, queue: QueueName, body: Why = None) -> Response:
    """Start nothing more from a queue. What runs goes on, and jobs are accepted."""
    return await _pause(request, Gate(Scope.QUEUE, queue), body)


@router.post("/v1/queues/{queue}/resume", responses={**_RESUMED, **problems("queue-not-found")})
async def resume_queue(request: Request, queue: QueueName) -> Response:
    """Let the queue go on."""
    return await _resume(request, Gate(Scope.QUEUE, queue))


@router.post("/v1/kinds/{kind}/pause", responses={**_PAUSED, **problems(*_SENT, "kind-not-found")})
async def pause_kind(request: Request, kind: KindName, body: Why = None) -> Response:
    """Start nothing more of a kind, in any queue. What runs goes on, and jobs are accepted."""
    return await _pause(request, _kind(request, kind), body)


@router.post("/v1/kinds/{kind}/resume", responses={**_RESUMED, **problems("kind-not-found")})
async def resume_kind(request: Request, kind: KindName) -> Response:
    """Let the kind go on."""
    return await _resume(request, _kind(request, kind))


async def _pause(request: Request, gate: Gate, body: Pausing | None) -> Response:
    actor, reason = actor_of(request), body.reason if body else None
    deed = Deed(f"{gate.scope}.pause", gate.name, {"reason": reason})
    view = await parts_of(request).database.change(
        actor, deed, gates.pause, actor.project_id, gate, reason=reason, by=actor.name
    )
    return json_response(_document(request, view))


async def _resume(request: Request, gate: Gate) -> Response:
    actor = actor_of(request)
    deed = Deed(f"{gate.scope}.resume", gate.name)
    view = await parts_of(request).database.change(
        actor, deed, gates.resume, actor.project_id, gate
    )
    _wake(request, gate)
    return json_response(_document(request, view))


def _wake(request: Request, gate: Gate) -> None:
    """Dispatchers look at all queues, whichever is named."""
    parts_of(request).hints.wake([gate.name if gate.scope is Scope.QUEUE else ""])


def _read(limit: str) -> Gate:
    scope, _, name = limit.partition(":")
    return Gate(Scope(scope), name)


def _kind(request: Request, kind: str) -> Gate:
    if kind not in parts_of(request).registry:
        raise Problem("kind-not-found", f"no kind {kind}")
    return Gate(Scope.KIND, kind)


def _rate(asked: NewRate) -> Rate:
    due = math.ceil(asked.limit * LOOK.total_seconds() / asked.period)
    return Rate(asked.limit, timedelta(seconds=asked.period), asked.burst or max(1, due))


def _document(request: Request, view: GateView) -> dict[str, Any]:
    rate = {"limit": view.rate_limit, "period": view.rate_seconds, "burst": view.rate_burst}
    pause = {"reason": view.pause_reason, "by": view.paused_by, "at": view.paused_at}
    is_kind = view.scope == Scope.KIND
    return {
        "name": str(view),
        "kind_known": view.name in parts_of(request).registry if is_kind else None,
        "concurrency": view.concurrency,
        "rate": None if view.rate_limit is None else rate,
        "running": view.running,
        "rung": view.rung,
        "free": view.free,
        "next_start_at": view.next_start_at,
        "paused": view.paused,
        "pause": pause if view.paused else None,
        "changed_at": view.changed_at,
    }
