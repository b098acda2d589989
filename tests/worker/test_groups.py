"""Claims and successes of a worker's threads that share a commit, and what may come between."""

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from jobs.attempts import UNKNOWN_USAGE, Outcome, Usage
from jobs.errors import LeaseLost
from jobs.lifecycle import Claim, Moved, Next, Success
from jobs.states import JobState
from jobs.submissions import NewJob
from tests.api.relay import Relay
from tests.eventually import eventually
from tests.worker.attempting import make
from tests.worker.platform import Platform
from worker.groups import CROWD
from worker.runtime import Runtime

WITHIN = 60.0  # seconds


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as pool:
        yield pool


def claim(runtime: Runtime, job: NewJob) -> Claim:
    following = Next(job.id, 1, runtime.worker_id, runtime.settings.lease)
    return runtime.start(following, WITHIN, lambda: None)


def succeed(
    runtime: Runtime, job: NewJob, result: Any = None, usage: Usage = UNKNOWN_USAGE
) -> Moved:
    return runtime.succeed(Success(job.id, 1, result, usage), WITHIN)


@contextmanager
def one_in_flight(
    runtime: Runtime, pool: ThreadPoolExecutor, first: Callable[[], Any]
) -> Iterator[None]:
    """Inside, a commit is under way: the `first` move's, which cannot have its connection yet."""
    groups = runtime._groups
    assert groups is not None
    with groups._lines.line():
        leader = pool.submit(first)
        eventually(lambda: groups._is_led)
        yield
    leader.result(WITHIN)


def together(
    runtime: Runtime, pool: ThreadPoolExecutor, moves: Sequence[Callable[[], Any]]
) -> list[Future[Any]]:
    """They wait for the commit that is under way, in this order."""
    groups = runtime._groups
    assert groups is not None
    asked = []
    for move in moves:
        asked.append(pool.submit(move))
        eventually(lambda: len(groups._waiting) == len(asked))
    return asked


def commits(platform: Platform, jobs: Sequence[NewJob], type_: str) -> int:
    """How many transactions wrote these events."""
    statement = sa.text(
        "SELECT count(DISTINCT CAST(xmin AS text)) FROM job_event"
        " WHERE type = :type AND job_id = ANY (:ids)"
    )
    with platform.engine.connect() as connection:
        binds = {"type": type_, "ids": [job.id for job in jobs]}
        return int(connection.execute(statement, binds).scalar_one())


def test_what_arrives_during_a_commit_shares_the_next_one(
    runtime: Runtime, platform: Platform, pool: ThreadPoolExecutor
) -> None:
    first, *others = [platform.submit("test.echo", {"value": n}) for n in range(7)]
    with one_in_flight(runtime, pool, partial(claim, runtime, first)):
        claims = together(runtime, pool, [partial(claim, runtime, job) for job in others])
    for number, (job, answer) in enumerate(zip(others, claims, strict=True), start=1):
        claimed = answer.result(WITHIN)
        assert (claimed.id, claimed.attempt, claimed.state) == (job.id, 1, JobState.RUNNING)
        assert json.loads(claimed.args)["value"] == number
    assert commits(platform, others, "started") == 1
    late = platform.submit("test.echo", {"value": 7})
    with one_in_flight(runtime, pool, partial(succeed, runtime, first)):
        moves: list[Callable[[], Any]] = [partial(succeed, runtime, job, 1) for job in others]
        ended = together(runtime, pool, [*moves, partial(claim, runtime, late)])
    assert {answer.result(WITHIN).type for answer in ended} == {"succeeded", "started"}
    assert commits(platform, others, "succeeded") == 1
    for job in (first, *others):
        assert platform.types(job) == ["created", "started", "succeeded"]
        assert platform.attempts(job) == [(1, "succeeded", None)]


def test_while_many_come_of_a_crowd_groups_are_gathered(
    runtime: Runtime, platform: Platform, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime._groups, "_crowd", lambda: CROWD)
    jobs = [platform.submit("test.echo", {"value": n}) for n in range(200)]
    for _ in pool.map(partial(claim, runtime), jobs):
        pass
    for _ in pool.map(partial(succeed, runtime), jobs):
        pass
    assert commits(platform, jobs, "succeeded") < len(jobs) / 4
    for job in jobs[::20]:
        assert platform.types(job) == ["created", "started", "succeeded"]


def test_a_cancel_that_comes_before_the_group_stands_in_each_history(
    runtime: Runtime, platform: Platform, pool: ThreadPoolExecutor
) -> None:
    first, fine, *asked_to_end = [platform.submit("test.echo", {"value": n}) for n in range(4)]
    for job in (first, fine, *asked_to_end):
        claim(runtime, job)
    with one_in_flight(runtime, pool, partial(succeed, runtime, first)):
        moves = [partial(succeed, runtime, job) for job in (fine, *asked_to_end)]
        answers = together(runtime, pool, moves)
        for job in asked_to_end:
            platform.cancel(job)
    assert [answer.result(WITHIN).cancel_requested for answer in answers] == [False, True, True]
    assert platform.types(fine) == ["created", "started", "succeeded"]
    for job in asked_to_end:  # it was done before it could heed that
        assert platform.types(job) == ["created", "started", "cancel_requested", "succeeded"]
        assert platform.attempts(job) == [(1, "succeeded", None)]


def test_one_that_is_stale_or_blocked_spoils_it_for_no_other(
    runtime: Runtime, platform: Platform, pool: ThreadPoolExecutor
) -> None:
    first, fine, stale, blocked = [platform.submit("test.echo", {"value": n}) for n in range(4)]
    for job in (first, fine, blocked):
        claim(runtime, job)
    with platform.engine.begin() as holder:
        holder.execute(sa.text("SELECT FROM job WHERE id = :id FOR UPDATE"), {"id": blocked.id})
        with one_in_flight(runtime, pool, partial(succeed, runtime, first)):
            moves = [partial(succeed, runtime, job) for job in (fine, stale, blocked)]
            fine_one, stale_one, blocked_one = together(runtime, pool, moves)
        assert fine_one.result(WITHIN).type == "succeeded"
        with pytest.raises(LeaseLost):
            stale_one.result(WITHIN)
        assert not blocked_one.done()
    assert blocked_one.result(WITHIN).type == "succeeded"
    assert platform.types(stale) == ["created"]


def test_one_that_the_server_refuses_spoils_it_for_no_other(
    runtime: Runtime, platform: Platform, pool: ThreadPoolExecutor
) -> None:
    first, bad, *others = [platform.submit("test.echo", {"value": n}) for n in range(5)]
    for job in (first, bad, *others):
        claim(runtime, job)
    with one_in_flight(runtime, pool, partial(succeed, runtime, first)):
        moves: list[Callable[[], Any]] = [
            partial(succeed, runtime, bad, usage=Usage(max_rss_bytes=2**70)),  # no bigint
            *(partial(succeed, runtime, job) for job in others),
        ]
        refused, *answers = together(runtime, pool, moves)
    assert {answer.result(WITHIN).type for answer in answers} == {"succeeded"}
    with pytest.raises(DBAPIError):
        refused.result(WITHIN)
    assert platform.types(bad) == ["created", "started"]
    for job in others:
        assert platform.types(job) == ["created", "started", "succeeded"]


def test_two_claims_of_one_attempt_have_one_holder(
    runtime: Runtime, platform: Platform, pool: ThreadPoolExecutor
) -> None:
    first, job = [platform.submit("test.echo", {"value": n}) for n in range(2)]
    with one_in_flight(runtime, pool, partial(claim, runtime, first)):
        twins = together(runtime, pool, [partial(claim, runtime, job)] * 2)
    first_one, second_one = [twin.exception(WITHIN) for twin in twins]
    assert first_one is None
    assert isinstance(second_one, LeaseLost)
    assert platform.types(job) == ["created", "started"]


@pytest.mark.parametrize("stay_away", [False, True])
def test_a_group_whose_answer_is_lost_counts_once(
    runtime: Runtime, line: Relay, platform: Platform, tmp_path: Path, stay_away: bool
) -> None:
    """PostgreSQL is done with it, and goes away before it has said so."""
    args = {"path": str(tmp_path / "notes"), "seconds": 50}
    jobs = [platform.submit("test.waits", args) for _ in range(4)]
    first, other = [platform.submit("test.echo", {"value": n}) for n in range(2)]
    groups = runtime._groups
    assert groups is not None
    with ThreadPoolExecutor(len(jobs) + 1) as pool:
        with one_in_flight(runtime, pool, partial(claim, runtime, first)):
            made = [pool.submit(make, runtime, job) for job in jobs]
            eventually(lambda: len(groups._waiting) == len(jobs))
        eventually(lambda: all(platform.row(job).state is JobState.RUNNING for job in jobs))
        line.lose_reply_to(b"ended_asked", stay_away=stay_away)
        with one_in_flight(runtime, pool, partial(claim, runtime, other)):
            (tmp_path / "notes.go").touch()
            eventually(lambda: len(groups._waiting) == len(jobs))
        if stay_away:
            eventually(lambda: line.refused > len(jobs))
            assert not any(each.done() for each in made)
            line.come_back()
        ended = [each.result(WITHIN) for each in made]
    assert [each and each.outcome for each in ended] == [Outcome.SUCCEEDED] * len(jobs)
    for job in jobs:
        assert platform.types(job) == ["created", "started", "succeeded"]
        assert platform.attempts(job) == [(1, "succeeded", None)]
    assert line.lost == 1
    assert commits(platform, jobs, "succeeded") == 1
