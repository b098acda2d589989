"""What operators get back: webhooks, bulk operations, the audit trail, keys and projects."""

from datetime import datetime
from typing import Any
from uuid import UUID

from lading.client.models import Answered, Job


class Secret(Answered):
    """A secret that signs, without itself."""

    created_at: datetime
    expires_at: datetime | None = None  #: signs until then; None: the newest


class Endpoint(Answered):
    """An address that is told of events."""

    id: UUID
    url: str
    description: str
    event_types: list[str]
    enabled: bool
    disabled_reason: str | None = None
    disabled_at: datetime | None = None
    failing_since: datetime | None = None
    created_at: datetime
    updated_at: datetime
    secrets: list[Secret]
    secret: str | None = None  #: shown once: when it was made or rotated


class Delivery(Answered):
    """One event for one receiver."""

    id: UUID
    webhook_id: str  #: the header, the same on every attempt
    endpoint_id: UUID | None = None  #: None: of a job's own webhook
    about_job_id: UUID | None = None
    event_source: str
    event_id: str
    event_type: str
    state: str
    attempts: int
    last_status: int | None = None
    last_error: str | None = None
    next_at: datetime | None = None
    job_id: UUID
    created_at: datetime
    finished_at: datetime | None = None


class DeliveryAttempt(Answered):
    """One request."""

    number: int
    job_id: UUID
    at: datetime
    seconds: float | None = None
    status: int | None = None
    error: str | None = None
    response: str | None = None


class DeliveryStory(Delivery):
    """A delivery with what is sent, and its attempts."""

    payload: Any
    history: list[DeliveryAttempt]


class Redelivery(Answered):
    """How many deliveries are made again."""

    replayed: int
    has_more: bool


class BulkPreview(Answered):
    """What an operation would mean now."""

    count: int
    is_capped: bool
    sample: list[Job]


class Actor(Answered):
    """Who did something."""

    key_id: str | None = None  #: None: Lading itself
    name: str


class BulkOperation(Answered):
    """One word that is said to many jobs."""

    id: UUID
    op: str
    filter: dict[str, Any]
    priority: int | None = None
    reason: str | None = None
    rate: float  #: jobs a second, at most
    state: str  #: running, stopped or done
    total: int
    done: int
    skipped: int
    failed: int
    actor: Actor
    created_at: datetime
    finished_at: datetime | None = None


class AuditEntry(Answered):
    """Something that somebody did."""

    id: UUID
    at: datetime
    actor: Actor
    action: str
    target: str
    times: int
    request_id: str | None = None
    address: str | None = None
    details: dict[str, Any]


class ApiKey(Answered):
    """An API key."""

    id: str
    name: str
    prefix: str
    scopes: list[str]
    created_at: datetime
    last_used_at: datetime | None = None
    kinds: list[str] | None = None
    expires_at: datetime | None = None
    rate: dict[str, Any] | None = None
    key: str | None = None  #: shown once: when it was made


class Project(Answered):
    """Whose jobs, files, keys and rules are whose."""

    id: str
    name: str
    created_at: datetime
