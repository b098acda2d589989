"""The status table that everybody writes, and its engine."""

import os
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import JSON, Column, DateTime
from sqlmodel import Field, SQLModel, create_engine

URL = os.environ["BENCH_POSTGRES"].replace("postgresql://", "postgresql+psycopg://")

# As many connections as FastAPI has threads: overflow would open one for each request.
engine = create_engine(URL, pool_size=40, max_overflow=0, pool_pre_ping=False)


def now() -> datetime:
    return datetime.now(UTC)


class Job(SQLModel, table=True):
    """One job and what became of it."""

    id: UUID = Field(default_factory=uuid4, primary_key=True)
    kind: str
    args: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    status: str = Field(default="queued", index=True)
    error: str | None = None
    created_at: datetime = Field(
        default_factory=now, sa_column=Column(DateTime(timezone=True), nullable=False, index=True)
    )
    started_at: datetime | None = Field(default=None, sa_column=Column(DateTime(timezone=True)))
    finished_at: datetime | None = Field(default=None, sa_column=Column(DateTime(timezone=True)))


if __name__ == "__main__":
    SQLModel.metadata.create_all(engine)
