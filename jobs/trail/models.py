"""The audit trail's table; its rows are written with what they tell of, or not at all."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import DateTime, Index, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

_EMPTY = {"server_default": text("'{}'")}
_NOW = {"server_default": func.clock_timestamp()}


class AuditEntry(SQLModel, table=True):
    """Something that somebody did. Outlives the key, and whatever it was done to."""

    __tablename__ = "audit"
    __table_args__ = (
        Index("audit_by_project", "project_id", "id"),
        Index("audit_by_actor", "project_id", "key_id", "id"),
        Index("audit_by_action", "project_id", "action", "id"),
        Index("audit_by_target", "project_id", "target", "id"),
        # A key's submissions of a minute are added up in one row, on its own page.
        {"postgresql_with": {"fillfactor": 90}},
    )

    id: UUID = Field(primary_key=True)  #: UUIDv7: sorts by birth
    project_id: str
    at: datetime = Field(sa_type=DateTime(timezone=True), sa_column_kwargs=_NOW)
    key_id: str | None  #: whose request it was; NULL: Lading itself
    key_name: str  #: as the key was called then
    action: str  #: a noun and a verb, as in `job.cancel`
    target: str  #: the id or name of what it was done to
    times: int = Field(sa_column_kwargs={"server_default": text("1")})  #: of what it tells together
    request_id: str | None  #: of the only request, or of the first
    address: str | None  #: the client's, as the server saw it
    details: dict[str, Any] = Field(
        sa_type=JSONB, sa_column_kwargs={"server_default": text("'{}'")}
    )
