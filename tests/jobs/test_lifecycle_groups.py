"""What many threads bring at once: each is answered, and changes what it would alone."""

import re
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection, Engine, select
from sqlalchemy.exc import DBAPIError
from sqlmodel import col

from jobs import lifecycle
from jobs.attempts import Usage
from jobs.database import autocommit
from jobs.errors import LeaseLost
from jobs.lifecycle import Claim, Moved, Next, Success
from jobs.models import JobAttempt
from jobs.states import JobState
from tests.jobs.making import LEASE, WORKER, make_job, read, read_events, read_job

RESULTS: list[Any] = [{"a": [1, None, 'q"\\']}, None, "NULL", 'ü"', [], {}, "{x,y}", 7, True]


def one_by_one(connection: Connection, asked: Success | Next) -> Moved | Claim | None:
    """What the single moves answer."""
    try:
        if isinstance(asked, Next):
            job_id, attempt, worker, lease = asked
            return lifecycle.start(connection, job_id, attempt=attempt, worker=worker, lease=lease)
        return lifecycle.succeed(
            connection, asked.job_id, attempt=asked.attempt, result=asked.result, usage=asked.usage
        )
    except LeaseLost:
        return None


def ask(connection: Connection) -> list[Success | Next]:
    """Of everything something, and of everything what is refused."""
    running = [make_job(connection, JobState.RUNNING) for _ in RESULTS]
    usages = [Usage(), Usage(2**40), Usage(None, 0.25), *[Usage(1, 2.0, 0.5)] * len(RESULTS)]
    asked: list[Success | Next] = [
        Success(job_id, 1, result, usage)
        for job_id, result, usage in zip(running, RESULTS, usages, strict=False)
    ]
    asked.append(Success(make_job(connection, JobState.RUNNING, attempt=2), 1, "late"))
    asked.append(Success(make_job(connection, JobState.CANCELLED), 1, "late"))
    asked += [
        Next(make_job(connection, attempt=number, args={"n": number}), number + 1, WORKER, LEASE)
        for number in range(3)
    ]
    asked.append(Next(make_job(connection, attempt=3), 3, WORKER, LEASE))
    asked.append(Next(make_job(connection, JobState.RUNNING), 2, WORKER, LEASE))
    return asked


def facts(connection: Connection, job_id: UUID) -> Any:
    """All that is left of a move but ids and times."""
    job, events = read(connection, job_id)
    rows = connection.execute(
        select(JobAttempt.__table__).where(col(JobAttempt.job_id) == job_id)  # type: ignore[attr-defined]
    ).all()
    kept = [job, *events, *rows]
    left = [
        {
            key: value
            for key, value in each._mapping.items()
            if key not in {"id", "job_id"} and not key.endswith(("_at", "_until")) and key != "at"
        }
        for each in kept
    ]
    times = [
        {key: value is None for key, value in each._mapping.items() if key.endswith("_at")}
        for each in kept
    ]
    return left, times


@pytest.mark.parametrize("part", ["both", "ends", "begins"])
def test_each_of_a_group_does_what_it_would_alone(connection: Connection, part: str) -> None:
    kinds = {"both": (Success, Next), "ends": (Success,), "begins": (Next,)}[part]
    expected = [each for each in ask(connection) if isinstance(each, kinds)]
    asked = [each for each in ask(connection) if isinstance(each, kinds)]
    alone = [one_by_one(connection, each) for each in expected]
    for _ in range(2):  # the second time, with nothing to be done any more
        together = lifecycle.settle(connection, asked)
        for one, other, answer, twin in zip(asked, expected, together, alone, strict=True):
            assert facts(connection, one.job_id) == facts(connection, other.job_id)
            assert (answer is None) == (twin is None)
            if answer is not None and twin is not None:
                assert answer.id == one.job_id
                at = read_events(connection, one.job_id)[-1].at
                assert answer.at == at
                assert answer._replace(id=twin.id, at=twin.at) == twin
        alone = [None for _ in alone]


def test_a_row_that_somebody_holds_is_passed_over(engine: Engine) -> None:
    with engine.begin() as connection:
        ids = [make_job(connection, JobState.RUNNING) for _ in range(2)]
        queued = [make_job(connection, attempt=0) for _ in range(2)]
    asked: list[Success | Next] = [
        *(Success(job_id, 1, None) for job_id in ids),
        *(Next(job_id, 1, WORKER, LEASE) for job_id in queued),
    ]
    with engine.begin() as holder, autocommit(engine).connect() as connection:
        holder.execute(
            sa.text("SELECT FROM job WHERE id = ANY (:ids) FOR UPDATE"),
            {"ids": [ids[0], queued[0]]},
        )
        answers = lifecycle.settle(connection, asked)
    assert [answer is None for answer in answers] == [True, False, True, False]
    with engine.connect() as connection:
        states = [read_job(connection, each.job_id).state for each in asked]
    assert states == ["running", "succeeded", "queued", "running"]


def test_what_the_server_refuses_of_one_undoes_all(engine: Engine) -> None:
    with engine.begin() as connection:
        ids = [make_job(connection, JobState.RUNNING) for _ in range(2)]
    usages = [Usage(1), Usage(2**70)]  # no bigint
    asked = [Success(job_id, 1, None, usage) for job_id, usage in zip(ids, usages, strict=True)]
    with autocommit(engine).connect() as connection:
        with pytest.raises(DBAPIError):
            lifecycle.settle(connection, asked)
        assert [read_job(connection, job_id).state for job_id in ids] == ["running"] * 2


@pytest.mark.parametrize("is_known", [False, True])
def test_rows_are_found_by_key_however_few_they_are(connection: Connection, is_known: bool) -> None:
    """The plan is made once; a table that is small then may be large soon.

    Of a small table that has been analyzed, an index that has the id behind the project will do.
    """
    make_job(connection)
    if is_known:
        connection.exec_driver_sql("ANALYZE job")
    text = lifecycle.groups._STATEMENTS[True, True].text
    connection.exec_driver_sql("SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off")
    connection.exec_driver_sql("SET LOCAL plan_cache_mode = force_generic_plan")
    connection.exec_driver_sql(f"PREPARE grouped AS {text}")
    arguments = ",".join(["NULL"] * len(set(re.findall(r"\$\d+", text))))
    plan = connection.exec_driver_sql(f"EXPLAIN EXECUTE grouped ({arguments})").scalars().all()
    on_job = [pair for pair in pairwise(plan) if " on job" in pair[0] and "Scan" in pair[0]]
    assert len(on_job) == 4  # each is locked, and changed
    for scan, condition in on_job:
        assert re.search("Index Scan using job_(pkey|by_project) on job", scan), plan
        assert "Index Cond: (id = ANY " in condition, plan
    connection.exec_driver_sql("DEALLOCATE grouped")
