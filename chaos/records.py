"""What the tables say of many jobs at once, in the shape in which the API tells it of one.

The API is asked for every job that was touched by a fault or followed, and for a sample of the
others: asking for all would take longer than the scenario.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from chaos.client import Client
from chaos.platform import Platform

_ATTEMPTS = """
SELECT job_id::text, attempt, outcome, cause, error, worker::text, started_at, finished_at
FROM job_attempt WHERE job_id = ANY(%s::uuid[]) ORDER BY job_id, attempt
"""
_EVENTS = """
SELECT job_id::text, seq, type, attempt, at, data
FROM job_event WHERE job_id = ANY(%s::uuid[]) ORDER BY job_id, seq
"""
_ATTEMPT = ("attempt", "outcome", "cause", "error", "worker", "started_at", "finished_at")
_EVENT = ("seq", "type", "attempt", "at", "data")

Documents = Sequence[Mapping[str, Any]]


class Record(NamedTuple):
    """Of one job."""

    attempts: Documents
    events: Documents


def ask(client: Client, job_id: str) -> Record:
    """As a client of the API reads it."""
    path = f"/v1/jobs/{job_id}"
    return Record(client.get(f"{path}/attempts")["items"], client.get(f"{path}/events")["items"])


def read(platform: Platform, ids: Sequence[str]) -> Mapping[str, Record]:
    """The same of many, out of the database."""
    attempts = _by_job(platform.query(_ATTEMPTS, [*ids]), _ATTEMPT)
    events = _by_job(platform.query(_EVENTS, [*ids]), _EVENT)
    return {job_id: Record(attempts.get(job_id, ()), events.get(job_id, ())) for job_id in ids}


def _by_job(rows: Sequence[tuple[Any, ...]], names: Sequence[str]) -> Mapping[str, Documents]:
    found: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for job_id, *values in rows:
        found[job_id].append(dict(zip(names, values, strict=True)))
    return found
