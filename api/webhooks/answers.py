"""What is answered about webhooks: the shapes that the OpenAPI document promises."""

from datetime import datetime
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from jobs.webhooks.deliveries import DeliveryState
from jobs.webhooks.endpoints import DisabledReason


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Secret(_Answer):
    """A secret that signs, without itself."""

    created_at: datetime
    expires_at: datetime | None = Field(description="Signs until then; null: the newest")


class Webhook(_Answer):
    """An endpoint that is told of events."""

    id: UUID
    url: str
    description: str
    event_types: list[str]
    enabled: bool
    disabled_reason: DisabledReason | None = Field(
        description="operator: it was switched off; gone: it answered 410; failing: it had no"
        " success for LADING_WEBHOOK_DISABLE_AFTER_SECONDS"
    )
    disabled_at: datetime | None
    failing_since: datetime | None = Field(description="The first failure after its last success")
    created_at: datetime
    updated_at: datetime
    secrets: list[Secret] = Field(description="That sign now, newest first")


class MadeWebhook(Webhook):
    secret: str = Field(description="`whsec_…`, to verify deliveries with; it is shown this once")


class WebhookPage(_Answer):
    """Some endpoints, newest first."""

    items: list[Webhook]
    next_cursor: str | None = Field(description="For the next page; null is the only end")


class Delivery(_Answer):
    """One event for one receiver."""

    id: UUID
    webhook_id: str = Field(description="The `webhook-id` header: the same on every attempt")
    endpoint_id: UUID | None = Field(description="null: of a job's own webhook")
    about_job_id: UUID | None = Field(description="The job whose own webhook it is")
    event_source: str
    event_id: str
    event_type: str
    state: DeliveryState
    attempts: int = Field(ge=0, description="Begun so far, over all replays")
    last_status: int | None = Field(description="Of the newest answer")
    last_error: str | None = Field(description="Why the newest attempt did not deliver it")
    next_at: datetime | None = Field(description="When the next attempt may begin, while pending")
    job_id: UUID = Field(description="The job that delivers it")
    created_at: datetime
    finished_at: datetime | None


class DeliveryAttempt(_Answer):
    """One request."""

    number: int = Field(ge=1)
    job_id: UUID
    at: datetime
    seconds: float | None = Field(
        description="null: it is under way, or its process died before it was recorded"
    )
    status: int | None = Field(description="Of the answer; null: none came")
    error: str | None
    response: str | None = Field(description="How the answer's body begins")


class DeliveryStory(Delivery):
    """A delivery with what is sent, and its attempts."""

    payload: JsonValue
    history: list[DeliveryAttempt] = Field(description="Oldest first")


class DeliveryPage(_Answer):
    """Some deliveries, newest first."""

    items: list[Delivery]
    next_cursor: str | None = Field(description="For the next page; null is the only end")


class JobDeliveries(_Answer):
    """What a job's own webhook was told."""

    items: list[Delivery]


class Replayed(_Answer):
    """How many deliveries are made again."""

    replayed: int = Field(ge=0)
    has_more: bool = Field(description="There may be more: ask again")
