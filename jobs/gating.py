"""The table of gates; `jobs.gates` tells what they keep from starting."""

from datetime import datetime

from sqlalchemy import CheckConstraint, DateTime, Index, func, text
from sqlmodel import Field, SQLModel

_TIME = DateTime(timezone=True)
_NOW = {"server_default": func.clock_timestamp()}
_FALSE = {"server_default": text("false")}


class Gate(SQLModel, table=True):
    """What is set for a queue, a kind or a concurrency key; one without a row is open.

    The rate is a GCRA (ITU-T I.371, annex A): `rate_spent_until` is its theoretical arrival time.
    """

    __table_args__ = (
        CheckConstraint("scope IN ('key', 'kind', 'queue')", "scope_is_known"),
        CheckConstraint("concurrency >= 1", "concurrency_lets_one_run"),
        CheckConstraint(
            "(rate_limit IS NULL) = (rate_seconds IS NULL)"
            " AND (rate_limit IS NULL) = (rate_burst IS NULL)",
            "rate_is_whole",
        ),
        CheckConstraint(
            "rate_limit >= 1 AND rate_seconds > 0 AND rate_burst >= 1", "rate_is_positive"
        ),
        Index("gate_paused", "project_id", "scope", "name", postgresql_where=text("paused")),
        Index(
            "gate_limited",
            "project_id",
            "scope",
            "name",
            postgresql_where=text(
                "scope <> 'key' AND (concurrency IS NOT NULL OR rate_limit IS NOT NULL)"
            ),
        ),
        {"postgresql_with": {"fillfactor": 50}},
    )

    project_id: str = Field(primary_key=True)
    scope: str = Field(primary_key=True)  #: key, kind or queue
    name: str = Field(primary_key=True)
    paused: bool = Field(default=False, sa_column_kwargs=_FALSE)
    pause_reason: str | None = None
    paused_by: str | None = None
    paused_at: datetime | None = Field(default=None, sa_type=_TIME)
    concurrency: int | None = None  #: attempts at a time, bells included; NULL: any number
    rate_limit: int | None = None  #: starts …
    rate_seconds: float | None = None  #: … in so many seconds
    rate_burst: int | None = None  #: starts at once after a pause
    rate_spent_until: datetime | None = Field(default=None, sa_type=_TIME)
    changed_at: datetime = Field(sa_type=_TIME, sa_column_kwargs=_NOW)
