"""Statements that are committed while their answer is lost: each is tried again, and done once."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy import Engine

from jobs import lifecycle
from jobs.attempts import Outcome
from jobs.lifecycle import Claim, Moved, Next, Success
from jobs.registry import Registry
from jobs.settings import Settings
from jobs.states import JobState
from tests.api.relay import Relay
from tests.eventually import eventually
from tests.worker.attempting import make, outcome_of
from tests.worker.platform import Platform
from worker import claiming
from worker.board import ThreadBoard
from worker.execute import execute
from worker.runtime import Runtime


def test_a_claim_whose_answer_is_lost_is_given_back(
    runtime: Runtime, line: Relay, platform: Platform
) -> None:
    job = platform.submit("test.echo", {"value": 1})
    line.lose_reply_to(b"started")
    assert make(runtime, job) is None
    assert line.lost == 1
    row = platform.row(job)
    assert (row.state, row.attempt, row.crashes) == (JobState.QUEUED, 1, 0)
    assert platform.types(job) == ["created", "started", "interrupted"]
    assert outcome_of(runtime, job, 2) is Outcome.SUCCEEDED


def test_a_claim_that_may_have_been_committed_is_remembered_however_long_it_takes(
    runtime: Runtime, line: Relay, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claiming, "CLAIM_WITHIN", 0.2)
    job = platform.submit("test.echo", {"value": 1})
    line.lose_reply_to(b"started", stay_away=True)
    with ThreadPoolExecutor(1) as pool:
        attempt = pool.submit(make, runtime, job)
        eventually(lambda: line.refused > 4)  # pauses between them: 0.05 s, doubled each time
        assert [running.key for running in runtime.board.running()] == [(job.id, 1)]
        assert not attempt.done()
        line.come_back()
        assert attempt.result(15) is None
    row = platform.row(job)
    assert (row.state, row.attempt, row.crashes) == (JobState.QUEUED, 1, 0)
    assert platform.types(job) == ["created", "started", "interrupted"]


def test_a_claim_that_was_never_sent_is_given_up(
    runtime: Runtime, line: Relay, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claiming, "CLAIM_WITHIN", 0.2)
    job = platform.submit("test.echo", {"value": 1})
    line.close()
    assert make(runtime, job) is None
    assert platform.types(job) == ["created"]


def test_an_answer_that_comes_when_the_lease_may_be_gone_is_given_back(
    settings: Settings, registry: Registry, platform: Platform
) -> None:
    own = settings.model_copy(update={"lease_seconds": 0.3})
    runtime = Runtime(own, registry, uuid4(), ThreadBoard(), forked=False)
    job = platform.submit("test.echo", {"value": 1})
    with ThreadPoolExecutor(1) as pool:
        with platform.engine.begin() as connection:
            connection.execute(sa.text("SELECT FROM job WHERE id = :id FOR UPDATE"), {"id": job.id})
            attempt = pool.submit(make, runtime, job)
            eventually(lambda: _waits_longer_than(platform, "0.3 s"))
        assert attempt.result(15) is None
    assert platform.types(job) == ["created", "started", "interrupted"]
    assert platform.attempts(job) == [(1, "interrupted", None)]


@pytest.mark.parametrize(
    ("kind", "event"),
    [
        ("test.echo", "succeeded"),
        ("test.gives_up", "failed"),
        ("test.raises", "retrying"),
        ("test.cancels_itself", "cancelled"),
    ],
)
def test_a_report_whose_answer_is_lost_counts(
    runtime: Runtime, line: Relay, platform: Platform, kind: str, event: str
) -> None:
    job = platform.submit(kind, {"value": 1})
    line.lose_reply_to(event.encode())
    ended = make(runtime, job)
    assert ended is not None
    assert line.lost == 1
    assert platform.types(job) == ["created", "started", event]
    assert [outcome for _, outcome, _ in platform.attempts(job)] == [ended.outcome]


def test_attempts_in_a_row_share_their_round_trips(
    runtime: Runtime, platform: Platform, engine: Engine
) -> None:
    jobs = [platform.submit("test.echo", {"value": number}) for number in range(3)]
    ends = [turn.ended for turn in execute(runtime, [(job.id, 1) for job in jobs])]
    assert [end and end.outcome for end in ends] == [Outcome.SUCCEEDED] * 3
    assert [platform.row(job).result for job in jobs] == [0, 1, 2]
    assert all(platform.types(job) == ["created", "started", "succeeded"] for job in jobs)
    with engine.connect() as connection:
        statement = sa.text("SELECT xact_id FROM job_event WHERE job_id = :job ORDER BY seq")
        written = [[*connection.scalars(statement, {"job": job.id})] for job in jobs]
    assert [one[2] for one in written[:2]] == [one[1] for one in written[1:]]  # end, and next start
    assert runtime.board.running() == []


def test_what_is_stale_does_not_hold_up_the_row(runtime: Runtime, platform: Platform) -> None:
    jobs = [platform.submit(kind) for kind in ("test.echo", "test.echo", "test.gives_up")]
    stale = platform.submit("test.echo")
    platform.cancel(stale)
    row = [stale, jobs[0], stale, jobs[1], jobs[2], stale]
    ends = [turn.ended for turn in execute(runtime, [(job.id, 1) for job in row])]
    made = [None if end is None else str(end.outcome) for end in ends]
    assert made == [None, "succeeded", None, "succeeded", "failed", None]
    assert platform.types(stale) == ["created", "cancelled"]


@pytest.mark.parametrize("stay_away", [False, True])
def test_an_end_and_a_claim_whose_answer_is_lost_both_count(
    runtime: Runtime, line: Relay, platform: Platform, stay_away: bool
) -> None:
    first, second = (platform.submit("test.echo", {"value": 1}) for _ in range(2))
    line.lose_reply_to(b"succeeded", stay_away=stay_away)
    with ThreadPoolExecutor(1) as pool:
        row = [(first.id, 1), (second.id, 1)]
        made = pool.submit(lambda: [turn.ended for turn in execute(runtime, row)])
        if stay_away:
            eventually(lambda: line.refused > 1)
            running = {running.key for running in runtime.board.running()}
            assert running == {(first.id, 1), (second.id, 1)}
            line.come_back()
        end, given_back = made.result(15)
    assert end is not None
    assert given_back is None
    assert platform.types(first) == ["created", "started", "succeeded"]
    assert platform.types(second) == ["created", "started", "interrupted"]
    assert outcome_of(runtime, second, 2) is Outcome.SUCCEEDED


def test_an_end_that_has_lost_its_job_still_brings_the_next(
    runtime: Runtime, platform: Platform, engine: Engine
) -> None:
    first, second = platform.submit("test.echo"), platform.submit("test.echo")
    exchange = runtime.exchange

    def too_late(
        successes: Sequence[Success], starts: Sequence[Next], on_send: Callable[[], object]
    ) -> list[Moved | Claim | None]:
        with engine.begin() as connection:
            lifecycle.interrupt(connection, first.id, attempt=1, reason="taken away")
        return exchange(successes, starts, on_send)

    runtime.exchange = too_late  # type: ignore[method-assign]
    lost, made = (turn.ended for turn in execute(runtime, [(first.id, 1), (second.id, 1)]))
    assert lost is not None
    assert made is not None
    assert (lost.outcome, made.outcome) == (Outcome.LEASE_LOST, Outcome.SUCCEEDED)
    assert platform.types(first) == ["created", "started", "interrupted"]


def test_a_step_whose_answer_is_lost_is_stored_once(
    runtime: Runtime, line: Relay, platform: Platform, notes: Path
) -> None:
    job = platform.submit("test.steps", {"times": 0, "path": str(notes)})
    line.lose_reply_to(b"step")
    ended = make(runtime, job)
    assert ended is not None
    assert (line.lost, ended.outcome, ended.result) == (1, Outcome.SUCCEEDED, [1, 2])
    assert notes.read_text() == "one\n"
    assert platform.types(job) == ["created", "started", "step", "step", "succeeded"]


def test_a_child_whose_answer_is_lost_is_made_once(
    runtime: Runtime, line: Relay, platform: Platform
) -> None:
    job = platform.submit("test.parent", {"value": 1})
    line.lose_reply_to(b"COMMIT")
    ended = make(runtime, job)
    assert ended is not None
    assert (line.lost, ended.outcome) == (1, Outcome.SUCCEEDED)
    with platform.engine.connect() as connection:
        found = connection.exec_driver_sql("SELECT id FROM job WHERE parent_id = %s", (job.id,))
        assert [row.id for row in found] == [UUID(ended.result)]


def _waits_longer_than(platform: Platform, duration: str) -> bool:
    """Whether a statement waits for a lock."""
    waiting = sa.text(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        " AND clock_timestamp() - query_start > CAST(:duration AS interval)"
    )
    with platform.engine.connect() as connection:
        return bool(connection.execute(waiting, {"duration": duration}).scalar_one())
