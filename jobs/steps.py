"""Stored steps: what an earlier attempt of the same job has done already."""

from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlmodel import col

from jobs.models import JobStep


def read_steps(connection: Connection, job_id: UUID) -> dict[str, Any]:
    """The JSON results of the job's stored steps by name."""
    statement = sa.select(col(JobStep.name), col(JobStep.result)).where(
        col(JobStep.job_id) == job_id
    )
    return {name: result for name, result in connection.execute(statement)}  # noqa: C416 - rows
