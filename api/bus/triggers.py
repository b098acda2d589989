"""Triggers: made, read, changed, switched, tried, deleted."""

from dataclasses import replace
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Path, Query, Request, Response
from sqlalchemy import Connection

from api.bus import answers
from api.bus.answers import event_document, trial_document, trigger_document
from api.bus.binding import read_plain
from api.bus.bodies import NewTrigger, Replay, SampleEvent, TriggerChange
from api.documents import json_response
from api.keyring import Principal
from api.paging import Page, find_place
from api.parts import actor_of, parts_of, principal_of
from api.promises import answer, problems
from api.sealing import require_tied_tls, sealed_tie
from api.strict import StrictRoute
from jobs.bus.making import check_trigger, rehearse
from jobs.bus.publishing import Published, tell
from jobs.bus.queries import EventFilter
from jobs.bus.replay import preview, replay
from jobs.bus.triggers import (
    TriggerView,
    change_trigger,
    create_trigger,
    delete_trigger,
    get_trigger,
    page_triggers,
)
from jobs.errors import Flaw, InvalidSubmission
from jobs.ids import uuid7
from jobs.registry import Registry
from jobs.trail.record import Deed

router = APIRouter(route_class=StrictRoute, tags=["triggers"])

TriggerId = Annotated[UUID, Path(description="The trigger's id")]
_WRITING = problems(
    "bad-request", "payload-too-large", "unsupported-media-type", "validation-failed"
)
_SEALING = problems("secret-key-missing")


@router.post(
    "/v1/triggers",
    status_code=201,
    responses={
        201: answer("The trigger", "Location", model=answers.Trigger),
        **_WRITING,
        **_SEALING,
    },
)
async def make_trigger(request: Request, body: NewTrigger) -> Response:
    """Make a trigger: events that come from now on meet it."""
    parts, project_id = parts_of(request), principal_of(request).project_id
    trigger_id = uuid7()
    spec = replace(body.spec(), **sealed_tie(parts.vault, body, trigger_id))
    principal_of(request).require_kind(spec.kind)
    require_tied_tls(parts.settings, body)
    check_trigger(parts.registry, spec)
    made = await parts.database.change(
        actor_of(request),
        lambda made: Deed("trigger.create", made.id, _told(made)),
        create_trigger,
        project_id,
        spec,
        trigger_id,
    )
    document = trigger_document(made)
    return json_response(document, 201, {"Location": document["links"]["self"]})


@router.get(
    "/v1/triggers",
    responses={
        200: answer("A page", "Link", model=answers.TriggerPage),
        **problems("cursor-mismatch", "validation-failed"),
    },
)
async def list_triggers(request: Request, asked: Annotated[Page, Query()]) -> Response:
    """List triggers, newest first."""
    place, project_id = find_place(request, asked), principal_of(request).project_id
    triggers, last_id = await parts_of(request).database.run(
        page_triggers, project_id, limit=place.limit, before=place.before
    )
    return place.answer([*map(trigger_document, triggers)], last_id)


@router.get(
    "/v1/triggers/{trigger_id}",
    responses={200: answer("The trigger", model=answers.Trigger), **problems("trigger-not-found")},
)
async def read_trigger(request: Request, trigger_id: TriggerId) -> Response:
    """Read a trigger."""
    parts, project_id = parts_of(request), principal_of(request).project_id
    found = await parts.database.run(get_trigger, project_id, trigger_id)
    return json_response(trigger_document(found))


@router.patch(
    "/v1/triggers/{trigger_id}",
    responses={
        200: answer("The trigger as it is now", model=answers.Trigger),
        **_WRITING,
        **_SEALING,
        **problems("trigger-not-found", "trigger-in-code"),
    },
)
async def change(request: Request, trigger_id: TriggerId, body: TriggerChange) -> Response:
    """Change a trigger, or switch it on or off."""
    if body.kind:
        principal_of(request).require_kind(body.kind)
    parts = parts_of(request)
    require_tied_tls(parts.settings, body)
    changed = await parts.database.change(
        actor_of(request),
        lambda changed: Deed("trigger.change", changed.id, _told(changed)),
        _change,
        parts.registry,
        principal_of(request),
        trigger_id,
        body,
        sealed_tie(parts.vault, body, trigger_id),
    )
    return json_response(trigger_document(changed))


@router.delete(
    "/v1/triggers/{trigger_id}",
    status_code=204,
    response_class=Response,
    responses=problems("trigger-not-found", "trigger-in-code"),
)
async def remove_trigger(request: Request, trigger_id: TriggerId) -> Response:
    """Delete a trigger; its jobs stay."""
    actor = actor_of(request)
    await parts_of(request).database.change(
        actor,
        Deed("trigger.delete", trigger_id),
        delete_trigger,
        actor.project_id,
        trigger_id,
    )
    return Response(status_code=204)


@router.post(
    "/v1/triggers/{trigger_id}/test",
    responses={
        200: answer("What would come of it", model=answers.Trial),
        **_WRITING,
        **problems("trigger-not-found"),
    },
)
async def test_trigger(request: Request, trigger_id: TriggerId, body: SampleEvent) -> Response:
    """Try a trigger with an event; nothing is published, and no job is made."""
    parts, project_id = parts_of(request), principal_of(request).project_id
    trigger = await parts.database.run(get_trigger, project_id, trigger_id)
    try:
        event = read_plain(body.event, project_id)
    except InvalidSubmission as error:
        raise InvalidSubmission(
            *(Flaw(f"#/event{each.pointer[1:]}", each.detail) for each in error.flaws)
        ) from None
    return json_response(trial_document(rehearse(parts.registry, trigger.spec, event.document)))


@router.post(
    "/v1/triggers/{trigger_id}/replay",
    responses={
        200: answer("What a replay would bring; nothing is done", model=answers.ReplayPreview),
        202: answer("The trigger has met them", model=answers.Replayed),
        **_WRITING,
        **problems("trigger-not-found", "count-differs"),
    },
)
async def replay_events(request: Request, trigger_id: TriggerId, body: Replay) -> Response:
    """Let a trigger meet events that were accepted before.

    Without `confirm` they are counted; with it, if there are still as many, their jobs are made.
    """
    parts, actor = parts_of(request), actor_of(request)
    wanted = EventFilter(received_after=body.received_after, received_before=body.received_before)
    principal, project_id = principal_of(request), actor.project_id
    if body.confirm is None:
        trigger = await parts.database.run(get_trigger, project_id, trigger_id)
        principal.require_kind(trigger.kind)
        found = await parts.database.run(preview, trigger, wanted)
        sample = [event_document(each) for each in found.sample]
        return json_response({"count": found.count, "sample": sample})
    done = await parts.database.change(
        actor,
        lambda done: Deed("trigger.replay", trigger_id, {"events": len(done)}),
        _replay,
        parts.registry,
        principal,
        trigger_id,
        wanted,
        body.confirm,
    )
    tell(parts.hints, project_id, done)
    made = [job for each in done for job in each.jobs]
    parts.metrics.count_submitted(made)
    return json_response({"count": len(done), "jobs": len(made)}, 202)


def _replay(  # noqa: PLR0917 - passed on as they are
    connection: Connection,
    registry: Registry,
    principal: Principal,
    trigger_id: UUID,
    wanted: EventFilter,
    confirmed: int,
) -> list[Published]:
    trigger = get_trigger(connection, principal.project_id, trigger_id, lock=True)
    principal.require_kind(trigger.kind)
    return replay(connection, registry, trigger, wanted, confirmed)


def _told(trigger: TriggerView) -> dict[str, Any]:
    """What the audit trail says of it."""
    return {"type": trigger.pattern, "kind": trigger.kind, "enabled": trigger.enabled}


def _change(  # noqa: PLR0917 - passed on as they are
    connection: Connection,
    registry: Registry,
    principal: Principal,
    trigger_id: UUID,
    body: TriggerChange,
    secret: dict[str, Any],
) -> TriggerView:
    trigger = get_trigger(connection, principal.project_id, trigger_id, lock=True)
    principal.require_kind(trigger.kind)
    spec = replace(body.changed(trigger.spec), **secret)
    if body.model_fields_set - {"enabled"}:
        check_trigger(registry, spec)
    return change_trigger(connection, trigger, spec)
