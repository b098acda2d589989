"""What a dispatcher sees at one glance, with which its services go on."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Connection, func, text

from jobs.bus.envelope import stored
from jobs.bus.pending import publish_later
from jobs.duties import Duties, look
from jobs.states import JobState
from tests.jobs.making import PROJECT, make_job

NOW = func.clock_timestamp()
HOUR = timedelta(hours=1)
SOON = timedelta(seconds=0.5)
NOTHING = Duties(*[False] * len(Duties._fields))


def seen(connection: Connection) -> set[str]:
    return {name for name, is_so in look(connection)._asdict().items() if is_so}


def test_an_idle_platform_has_no_duties(connection: Connection) -> None:
    make_job(connection, JobState.SUCCEEDED, finished_at=NOW - HOUR)
    make_job(connection, JobState.SCHEDULED, run_at=NOW + HOUR)
    make_job(connection, JobState.RUNNING, expires_at=NOW - HOUR)
    assert look(connection) == NOTHING


@pytest.mark.parametrize(
    ("duties", "state", "columns"),
    [
        ({"dispatch"}, JobState.QUEUED, {}),
        ({"dispatch"}, JobState.QUEUED, {"concurrency_key": "one"}),
        ({"dispatch"}, JobState.QUEUED, {"rung_at": NOW}),
        ({"dispatch", "ring_again"}, JobState.QUEUED, {"rung_at": NOW - timedelta(seconds=4)}),
        ({"release"}, JobState.SCHEDULED, {"run_at": NOW + SOON}),
        ({"release"}, JobState.RETRYING, {"run_at": NOW - HOUR}),
        ({"release"}, JobState.SCHEDULED, {"run_at": NOW + HOUR, "expires_at": NOW, "attempt": 0}),
        ({"waiting"}, JobState.SUCCEEDED, {"is_awaited": True, "finished_at": NOW}),
        ({"waiting"}, JobState.WAITING, {"parents_left": 0}),
        ({"waiting"}, JobState.WAITING, {"parents_left": -1, "run_at": NOW + HOUR}),
    ],
    ids=lambda each: "-".join(sorted(each)) if isinstance(each, set | dict) else None,
)
def test_a_job_is_seen_by_whom_it_concerns(
    connection: Connection, duties: set[str], state: JobState, columns: dict[str, Any]
) -> None:
    make_job(connection, state, **columns)
    assert seen(connection) == duties


def test_an_event_that_waits_for_its_triggers_is_seen(connection: Connection) -> None:
    document = {"specversion": "1.0", "id": "1", "source": "/test", "type": "user.created"}
    publish_later(connection, PROJECT, stored(document))
    assert seen(connection) == {"pending"}


def test_a_batch_that_has_not_ended_is_seen(connection: Connection) -> None:
    add = text("""
        INSERT INTO batch (id, project_id, failure_policy, jobs)
        VALUES (gen_random_uuid(), 'default', 'continue', 1)
    """)
    connection.execute(add)
    assert seen(connection) == {"waiting"}


@pytest.mark.parametrize(
    ("position", "are_new"),
    [("{after}", False), ("{before}", True), ("{after}-{before}", True), ("{after}~1~a~1", True)],
)
def test_the_log_is_read_where_it_may_have_gone_on(
    connection: Connection, position: str, are_new: bool
) -> None:
    job_id = make_job(connection, JobState.SUCCEEDED, finished_at=NOW - HOUR)
    xact_id = read_xact_id(connection, job_id)
    place(connection, position.format(before=xact_id, after=xact_id + 1))
    assert seen(connection) == ({"facts", "figures"} if are_new else set())


def test_facts_are_looked_for_while_somebody_may_wait(connection: Connection) -> None:
    job_id = make_job(connection, JobState.SCHEDULED, run_at=NOW + HOUR)
    place(connection, str(read_xact_id(connection, job_id) + 1))
    add = "INSERT INTO job_webhook (job_id, project_id, url) VALUES (:job, 'default', 'https://x')"
    connection.execute(text(add), {"job": job_id})
    assert seen(connection) == {"facts"}


def read_xact_id(connection: Connection, job_id: UUID) -> int:
    """Of its first event."""
    query = text("SELECT xact_id FROM job_event WHERE job_id = :job ORDER BY seq LIMIT 1")
    return int(connection.execute(query, {"job": job_id}).scalar_one())


def place(connection: Connection, snapshot: str) -> None:
    """Facts have been published, and figures counted, up to there."""
    add = text("""
        INSERT INTO bus_position (name, position)
        VALUES ('facts', :position), ('figures', :position)
    """)
    connection.execute(add, {"position": f"0123abcd.{snapshot}"})
