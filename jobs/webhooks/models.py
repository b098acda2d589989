"""The tables of webhooks. Secrets stand in them sealed (jobs/vault.py), bound to their own row."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    CheckConstraint,
    DateTime,
    Index,
    LargeBinary,
    SmallInteger,
    Text,
    func,
    text,
)
from sqlmodel import Field, SQLModel

_TIME = DateTime(timezone=True)
_NOW = {"server_default": func.clock_timestamp()}
_TRUE = {"server_default": text("true")}
_ZERO = {"server_default": text("0")}
_IS_PENDING = text("state = 'pending'")
_HAS_ENDED = text("state <> 'pending'")


class WebhookEndpoint(SQLModel, table=True):
    """Where somebody wants to be told of events."""

    __tablename__ = "webhook_endpoint"
    __table_args__ = (
        CheckConstraint("enabled = (disabled_reason IS NULL)", "says_why_it_is_off"),
        Index("webhook_endpoint_by_project", "project_id", "id"),
        Index("webhook_endpoint_to_tell", "id", postgresql_where=text("NOT is_told")),
    )

    id: UUID = Field(primary_key=True)
    project_id: str
    url: str
    description: str
    event_types: list[str] = Field(sa_type=ARRAY(Text))  #: patterns, see lading.patterns
    enabled: bool
    disabled_reason: str | None = None  #: see jobs.webhooks.endpoints.DisabledReason
    disabled_at: datetime | None = Field(default=None, sa_type=_TIME)
    failing_since: datetime | None = Field(default=None, sa_type=_TIME)  #: no success since
    is_told: bool = Field(default=True, sa_column_kwargs=_TRUE)  #: that Lading switched it off
    created_at: datetime = Field(sa_type=_TIME, sa_column_kwargs=_NOW)
    updated_at: datetime = Field(sa_type=_TIME, sa_column_kwargs=_NOW)


class WebhookSecret(SQLModel, table=True):
    """What an endpoint's deliveries are signed with; during a rotation there are several."""

    __tablename__ = "webhook_secret"
    __table_args__ = (Index("webhook_secret_by_endpoint", "endpoint_id"),)

    id: UUID = Field(primary_key=True)
    endpoint_id: UUID = Field(foreign_key="webhook_endpoint.id", ondelete="CASCADE")
    sealed: bytes = Field(sa_type=LargeBinary)  #: bound to `id`
    created_at: datetime = Field(sa_type=_TIME, sa_column_kwargs=_NOW)
    expires_at: datetime | None = Field(default=None, sa_type=_TIME)  #: signs until then


class JobWebhook(SQLModel, table=True):
    """Who is told how one job ended, as its submission asked."""

    __tablename__ = "job_webhook"
    __table_args__ = (
        CheckConstraint("(sealed IS NULL) = (sealed_for IS NULL)", "sealed_for_a_row"),
        Index("job_webhook_by_project", "project_id"),
    )

    job_id: UUID = Field(primary_key=True, foreign_key="job.id", ondelete="CASCADE")
    project_id: str
    url: str
    sealed: bytes | None = Field(default=None, sa_type=LargeBinary)
    sealed_for: UUID | None = None  #: what it is bound to: the job, or the rule that made it


class WebhookDelivery(SQLModel, table=True):
    """One event for one receiver, from the transaction that made it to the answer that took it."""

    __tablename__ = "webhook_delivery"
    __table_args__ = (
        CheckConstraint("state IN ('pending', 'delivered', 'failed')", "known_state"),
        CheckConstraint("(state = 'pending') = (finished_at IS NULL)", "finished_unless_pending"),
        CheckConstraint("(endpoint_id IS NULL) <> (about_job_id IS NULL)", "one_receiver"),
        CheckConstraint("(about_job_id IS NULL) = (url IS NULL)", "url_of_a_job"),
        CheckConstraint("(sealed IS NULL) = (sealed_for IS NULL)", "sealed_for_a_row"),
        # An event comes once to a receiver, however often it is handed over.
        Index(
            "webhook_delivery_once",
            "endpoint_id",
            "event_source",
            "event_id",
            unique=True,
            postgresql_where=text("endpoint_id IS NOT NULL"),
        ),
        Index(
            "webhook_delivery_once_of_job",
            "about_job_id",
            "event_source",
            "event_id",
            unique=True,
            postgresql_where=text("about_job_id IS NOT NULL"),
        ),
        Index("webhook_delivery_by_endpoint", "endpoint_id", "id"),
        Index("webhook_delivery_by_state", "endpoint_id", "state", "id"),
        Index("webhook_delivery_pending", "id", postgresql_where=_IS_PENDING),
        Index("webhook_delivery_ended", "finished_at", postgresql_where=_HAS_ENDED),
    )

    id: UUID = Field(primary_key=True)  #: UUIDv7; the webhook-id is made of it
    project_id: str
    endpoint_id: UUID | None = Field(
        default=None, foreign_key="webhook_endpoint.id", ondelete="CASCADE"
    )
    about_job_id: UUID | None = None  #: of a submission's own webhook: the job that has ended
    url: str | None = None  #: likewise; an endpoint's is the endpoint's
    sealed: bytes | None = Field(default=None, sa_type=LargeBinary)  #: likewise its secret, and …
    sealed_for: UUID | None = None  #: … what that is bound to
    event_source: str
    event_id: str
    event_type: str
    body: str = Field(sa_type=Text)  #: JSON, byte for byte as it is signed and sent
    state: str
    attempts: int = Field(default=0, sa_column_kwargs=_ZERO)  #: begun so far, over all replays
    last_status: int | None = Field(default=None, sa_type=SmallInteger)  #: of the newest answer
    last_error: str | None = None  #: why the newest attempt did not deliver it
    next_at: datetime | None = Field(default=None, sa_type=_TIME)  #: while it is pending
    job_id: UUID  #: the job that delivers it, the newest one after a replay
    created_at: datetime = Field(sa_type=_TIME, sa_column_kwargs=_NOW)
    finished_at: datetime | None = Field(default=None, sa_type=_TIME)


class WebhookAttempt(SQLModel, table=True):
    """One request to a receiver; unfinished while it is under way, or when its process died."""

    __tablename__ = "webhook_attempt"

    delivery_id: UUID = Field(
        primary_key=True, foreign_key="webhook_delivery.id", ondelete="CASCADE"
    )
    number: int = Field(primary_key=True)  #: 1, 2, … over all replays
    job_id: UUID
    at: datetime = Field(sa_type=_TIME, sa_column_kwargs=_NOW)
    seconds: float | None = None  #: until the answer, or until none was to come
    status: int | None = Field(default=None, sa_type=SmallInteger)  #: of the answer, if one came
    error: str | None = None  #: why it did not deliver
    response: str | None = None  #: how the answer's body begins
