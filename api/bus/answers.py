"""What is answered about events and triggers, as documents and as the models that promise them."""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from api.schemas import RuleWebhook
from api.submission_bodies import Sharing, UniqueKey
from jobs.bus.making import OPTIONS, Rehearsal
from jobs.bus.queries import Accepted
from jobs.bus.triggers import TriggerView
from jobs.submissions import shown_ties


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")


class CloudEvent(BaseModel):
    """An event in the JSON format of CloudEvents 1.0.2; extensions stand beside these."""

    model_config = ConfigDict(extra="allow")

    specversion: Literal["1.0"]
    id: str = Field(description="The publisher's; with `source` it is the same event for ever")
    source: str = Field(json_schema_extra={"format": "uri-reference"})
    type: str = Field(examples=["user.created"])
    datacontenttype: str | None = Field(default=None)
    dataschema: str | None = Field(default=None, json_schema_extra={"format": "uri"})
    subject: str | None = None
    time: datetime | None = None
    data: JsonValue = None
    data_base64: str | None = None


class Wrong(_Answer):
    """One thing that is wrong with the args."""

    pointer: str
    detail: str


class FiringError(_Answer):
    """Why a trigger made no job of an event."""

    message: str
    errors: list[Wrong]


class Firing(_Answer):
    """What came of the event at a trigger."""

    trigger_id: UUID
    job_id: UUID | None = Field(description="null: `error` says why")
    error: FiringError | None


class PublishedEvent(_Answer):
    """An event that was accepted, and what came of it."""

    id: UUID = Field(description="Its address here; the publisher's id is in `event`")
    event: CloudEvent
    received_at: datetime
    depth: int = Field(ge=0, description="How many jobs in a row led to it")
    error: str | None = Field(description="Why it was kept from firing anything")
    job_id: UUID | None = Field(description="Whose handler published it")
    jobs: list[UUID] = Field(description="Those that it made")
    firings: list[Firing] = Field(description="The triggers that it met, one by one")
    links: dict[Literal["self"], str]


class StreamedEvent(_Answer):
    """An event as it was accepted; what came of it is told at its address."""

    id: UUID = Field(description="Its address here; the publisher's id is in `event`")
    event: CloudEvent
    received_at: datetime
    depth: int = Field(ge=0, description="How many jobs in a row led to it")
    error: str | None = Field(description="Why it was kept from firing anything")
    job_id: UUID | None = Field(description="Whose handler published it")
    links: dict[Literal["self"], str]


class StreamPage(_Answer):
    """Some events, in the order in which they are followed."""

    items: list[StreamedEvent] = Field(description="None: there is nothing more now")
    position: str = Field(description="Behind them: ask for what comes `after` it")
    member: UUID | None = Field(description="With `consumer`: to acknowledge them")


class EventPage(_Answer):
    """Some events, newest first."""

    items: list[PublishedEvent]
    next_cursor: str | None = Field(description="For the next page; null is the only end")


class EventBatch(_Answer):
    """The events of a batch, in its order."""

    items: list[PublishedEvent]
    duplicates: list[int] = Field(
        description="The places in it, from 0, of those that had been accepted before"
    )


class Trigger(_Answer):
    """Which events make which jobs."""

    id: UUID
    name: str | None
    type: str
    kind: str
    filter: dict[str, JsonValue]
    args: JsonValue = Field(description="null: the event's `data`")
    enabled: bool
    origin: Literal["api", "code"] = Field(
        description="code: it stands beside its handler, and only `enabled` can be changed here"
    )
    queue: str | None
    priority: int | None
    delay: float | None
    max_attempts: int | None
    timeout: float | None
    expires_in: float | None
    labels: dict[str, str] | None
    unique: UniqueKey | None
    concurrency: Sharing | None
    webhook: RuleWebhook | None
    created_at: datetime
    updated_at: datetime
    links: dict[Literal["self", "test", "replay"], str]


class TriggerPage(_Answer):
    """Some triggers, newest first."""

    items: list[Trigger]
    next_cursor: str | None = Field(description="For the next page; null is the only end")


class Trial(_Answer):
    """What a trigger would make of an event; nothing is done."""

    matches: bool = Field(description="Both of the following")
    fits_type: bool
    passes_filter: bool
    args: dict[str, JsonValue] | None = Field(description="Made in any case; null: none are made")
    valid: bool = Field(description="A job of the kind takes these args")
    errors: list[Wrong]


class ReplayPreview(_Answer):
    """What a replay would bring."""

    count: int = Field(ge=0, description="Events that the trigger has made no job of; `confirm` it")
    sample: list[PublishedEvent] = Field(description="The oldest of them")


class Replayed(_Answer):
    """What a replay has brought."""

    count: int = Field(ge=0, description="Events")
    jobs: int = Field(ge=0, description="Those that it made; of the others, the args did not fit")


def event_document(accepted: Accepted) -> dict[str, Any]:
    """The PublishedEvent."""
    return {
        "id": accepted.id,
        "event": accepted.envelope,
        "received_at": accepted.received_at,
        "depth": accepted.depth,
        "error": accepted.error,
        "job_id": accepted.job_id,
        "jobs": [firing.job_id for firing in accepted.firings if firing.job_id is not None],
        "firings": [
            {"trigger_id": each.trigger_id, "job_id": each.job_id, "error": each.error}
            for each in accepted.firings
        ],
        "links": {"self": f"/v1/events/{accepted.id}"},
    }


def trigger_document(trigger: TriggerView) -> dict[str, Any]:
    """The Trigger."""
    path = f"/v1/triggers/{trigger.id}"
    return {
        "id": trigger.id,
        "name": trigger.name,
        "type": trigger.pattern,
        "kind": trigger.kind,
        "filter": trigger.filter,
        "args": trigger.args,
        "enabled": trigger.enabled,
        "origin": "api" if trigger.code_key is None else "code",
        **{name: trigger.options.get(name) for name in sorted(OPTIONS)},
        **shown_ties(trigger.options, is_signed=trigger.sealed is not None),
        "created_at": trigger.created_at,
        "updated_at": trigger.updated_at,
        "links": {"self": path, "test": f"{path}/test", "replay": f"{path}/replay"},
    }


def trial_document(rehearsal: Rehearsal) -> dict[str, Any]:
    """The Trial."""
    return {
        "matches": rehearsal.fits_type and rehearsal.passes_filter,
        "fits_type": rehearsal.fits_type,
        "passes_filter": rehearsal.passes_filter,
        "args": rehearsal.args,
        "valid": not rehearsal.flaws,
        "errors": [{"pointer": f.pointer, "detail": f.detail} for f in rehearsal.flaws],
    }
