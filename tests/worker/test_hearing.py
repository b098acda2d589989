"""Pool processes that hear for themselves what else hangs, while every slot is taken."""

import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import billiard.process
import pytest
import sqlalchemy as sa
from kombu import Connection
from pytest_celery import CeleryTestSetup
from sqlalchemy import Engine

from dev.valkey import EmbeddedValkey
from jobs import messages
from jobs.broker import Bell, Broker
from jobs.registry import Registry
from jobs.settings import Settings
from jobs.submissions import NewJob
from tests.eventually import eventually
from tests.worker.dispatcher.hearing import pop
from tests.worker.platform import Platform
from tests.worker.test_handfuls import KIND, WORKER
from worker.consumer import Consumer
from worker.execute import execute
from worker.handfuls import MOST, WORTH
from worker.hearing import Hearing
from worker.runtime import Runtime
from worker.shared_board import SharedBoard

QUEUE = "heard"
ALL = 100  # bells, more than there are


@pytest.fixture
def runtime(
    settings: Settings, registry: Registry, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Runtime]:
    """Of a pool process whose parent has no slot left; it knows that the kind is quick."""
    monkeypatch.setattr(billiard.process.current_process(), "index", 0, raising=False)
    monkeypatch.setattr("worker.execute.WORTH", 60.0)  # whatever else the machine does
    monkeypatch.setattr("worker.execute.TURN", 60.0)
    monkeypatch.setattr("worker.hearing.WITHIN", 30.0)
    pop(broker, QUEUE, ALL)
    board = SharedBoard.create(1, is_forked=True)
    board.say_all_taken(is_so=True)
    runtime = Runtime(settings, registry, WORKER, board, forked=True)
    runtime.sizes.learn(KIND, WORTH / MOST)
    monkeypatch.setattr(runtime.sizes, "learn", lambda *_: None)
    yield runtime
    runtime.hints.close()
    runtime.engine.dispose()


@pytest.fixture
def told(platform: Platform, notes: Path) -> Callable[..., list[NewJob]]:
    """So many quick jobs."""
    return lambda count, **options: [
        platform.submit(KIND, {"path": str(notes)}, queue=QUEUE, **options) for _ in range(count)
    ]


def _ring(broker: Broker, *jobs: NewJob, **facts: Any) -> None:
    bells = [Bell(QUEUE, job.kind, ((job.id, 1),), job.priority) for job in jobs]
    broker.ring([bell._replace(**facts) for bell in bells])


def _made(runtime: Runtime, first: NewJob) -> list[tuple[Any, str | None]]:
    """Which were made from that job's bell on, and how they ended."""
    turns = execute(runtime, [(first.id, 1)], KIND, QUEUE)
    return [(turn.key, None if turn.ended is None else str(turn.ended.outcome)) for turn in turns]


def _fine(jobs: Sequence[NewJob]) -> list[tuple[Any, str | None]]:
    return [((job.id, 1), "succeeded") for job in jobs]


def test_what_hangs_is_made_after_a_bells_own(
    runtime: Runtime, broker: Broker, engine: Engine, told: Callable[..., list[NewJob]]
) -> None:
    """The report of the bell's own attempt brings the claim of the others along."""
    first, *others = jobs = told(5)
    _ring(broker, *others)
    assert _made(runtime, first) == _fine(jobs)
    assert pop(broker, QUEUE, ALL) == []
    assert runtime.board.running() == []
    shared = "SELECT count(*), count(DISTINCT xact_id) FROM job_event WHERE type <> 'created'"
    ids = {"ids": [job.id for job in jobs]}
    with engine.connect() as connection:
        counts = connection.execute(sa.text(f"{shared} AND job_id = ANY(:ids)"), ids).one()
    assert tuple(counts) == (10, 3)


def test_what_hangs_is_left_to_the_parent_while_it_hears(
    runtime: Runtime, broker: Broker, told: Callable[..., list[NewJob]]
) -> None:
    runtime.board.say_all_taken(is_so=False)
    first, other = told(2)
    _ring(broker, other)
    assert _made(runtime, first) == _fine([first])
    assert pop(broker, QUEUE, ALL) == [(other.id, 1)]


def test_what_hangs_is_left_to_a_parent_that_has_lost_its_broker(
    runtime: Runtime, broker: Broker, told: Callable[..., list[NewJob]], valkey: EmbeddedValkey
) -> None:
    """A report would wait for who is not there, and for whoever knows where that one was."""
    consumer: Any = Consumer.__new__(Consumer)
    consumer.app = SimpleNamespace(board=runtime.board)
    with Connection(valkey.url) as connection:
        consumer.ensure_connected(connection)
    first, other = told(2)
    _ring(broker, other)
    assert _made(runtime, first) == _fine([first])
    assert pop(broker, QUEUE, ALL) == [(other.id, 1)]


def test_urgent_ones_are_heard_first(
    runtime: Runtime, broker: Broker, told: Callable[..., list[NewJob]]
) -> None:
    (first, usual), (urgent,) = told(2), told(1, priority=9)
    _ring(broker, usual)
    _ring(broker, urgent)
    assert _made(runtime, first) == _fine([first, urgent, usual])


@pytest.mark.parametrize("facts", [{"kind": "test.echo"}, {"is_limited": True}])
def test_what_is_not_for_it_hangs_as_before(
    runtime: Runtime, broker: Broker, told: Callable[..., list[NewJob]], facts: dict[str, Any]
) -> None:
    first, fit, not_fit, last = told(4)
    _ring(broker, fit)
    _ring(broker, not_fit, **facts)
    _ring(broker, last)
    assert _made(runtime, first) == _fine([first, fit])
    assert pop(broker, QUEUE, ALL) == [(not_fit.id, 1), (last.id, 1)]


def test_what_is_too_much_hangs_as_before(
    runtime: Runtime, broker: Broker, told: Callable[..., list[NewJob]]
) -> None:
    """Bells of several attempts come where such of one had been expected."""
    jobs = told(9)
    ids = [(job.id, 1) for job in jobs]
    for number in range(0, 9, 3):
        _ring(broker, jobs[0], attempts=tuple(ids[number : number + 3]))
    assert runtime.hearing.more(QUEUE, KIND, 4) == ids[:6]
    assert pop(broker, QUEUE, ALL) == ids[6:]


def test_a_twin_of_what_runs_here_is_dropped(
    runtime: Runtime, broker: Broker, told: Callable[..., list[NewJob]]
) -> None:
    running, other = told(2)
    _ring(broker, running, other, running)
    with runtime.board.place(running.id, 1):
        assert runtime.hearing.more(QUEUE, KIND, MOST) == [(other.id, 1)]


def test_a_message_of_somebody_else_hangs_as_before(runtime: Runtime, broker: Broker) -> None:
    redis: Any = broker._redis
    redis.lpush(QUEUE, "not ours")
    assert runtime.hearing.more(QUEUE, KIND, MOST) == []
    assert redis.lrange(QUEUE, 0, -1) == [b"not ours"]
    redis.delete(QUEUE)


def test_a_bell_that_names_nobody_hangs_as_before(runtime: Runtime, broker: Broker) -> None:
    redis: Any = broker._redis
    message = messages.write(
        QUEUE, KIND, [], task="nobody", place=0, is_limited=False, origin="somebody"
    )
    redis.lpush(QUEUE, message)
    assert runtime.hearing.more(QUEUE, KIND, MOST) == []
    assert redis.lrange(QUEUE, 0, -1) == [message.encode()]
    redis.delete(QUEUE)


def test_what_is_taken_is_made_where_the_rest_cannot_hang_back(
    runtime: Runtime, broker: Broker, valkey: EmbeddedValkey, told: Callable[..., list[NewJob]]
) -> None:
    """The rest is lost, and rung again."""
    redis: Any = broker._redis
    redis.acl_setuser(
        "taker", enabled=True, nopass=True, keys="*", commands=["+@connection", "+lmpop"]
    )
    url = valkey.url.replace("redis://", "redis://taker:any@")
    runtime.hearing = Hearing(url, runtime.board)
    fit, not_fit = told(2)
    _ring(broker, fit)
    _ring(broker, not_fit, kind="test.echo")
    assert runtime.hearing.more(QUEUE, KIND, MOST) == [(fit.id, 1)]
    assert runtime.hearing.more(QUEUE, KIND, MOST) == []
    redis.acl_deluser("taker")


def test_a_broker_that_goes_away_a_hundred_times_is_asked_again(
    runtime: Runtime, broker: Broker, told: Callable[..., list[NewJob]]
) -> None:
    """A pool of redis-py makes a hundred connections."""
    for _ in range(100):
        assert runtime.hearing.more(QUEUE, KIND, MOST) == []
        runtime.hearing._close()
    (job,) = told(1)
    _ring(broker, job)
    assert runtime.hearing.more(QUEUE, KIND, MOST) == [(job.id, 1)]


def test_a_broker_that_does_not_answer_holds_up_no_report(
    runtime: Runtime, told: Callable[..., list[NewJob]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked once, and then not for a while."""
    monkeypatch.setattr("worker.hearing.WITHIN", 0.25)
    monkeypatch.setattr("worker.hearing.PAUSE", 60.0)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        runtime.hearing = Hearing(f"redis://127.0.0.1:{deaf.getsockname()[1]}/0", runtime.board)
        first, second = told(2)
        assert _made(runtime, first) == _fine([first])
        assert _made(runtime, second) == _fine([second])
        deaf.settimeout(0)
        deaf.accept()[0].close()
        with pytest.raises(BlockingIOError):
            deaf.accept()


@pytest.mark.usefixtures("celery_setup")
def test_a_busy_workers_processes_hear_for_themselves(
    platform: Platform, broker: Broker, engine: Engine, celery_setup: CeleryTestSetup, notes: Path
) -> None:
    """Bells of one attempt each; some of those are reported with the claim of another."""
    pairs = sa.text(
        "SELECT count(*) FROM job_event ended JOIN job_event began USING (xact_id)"
        " WHERE ended.type = 'succeeded' AND began.type = 'started'"
        " AND ended.job_id = ANY(:ids) AND began.job_id = ANY(:ids)"
    )

    def shares() -> bool:
        jobs = [platform.submit(KIND, {"path": str(notes)}) for _ in range(40)]
        broker.ring(Bell(job.queue, job.kind, ((job.id, 1),), job.priority) for job in jobs)
        for job in jobs:
            assert platform.finish(job).state == "succeeded"
        with engine.connect() as connection:
            return bool(connection.execute(pairs, {"ids": [job.id for job in jobs]}).scalar_one())

    assert eventually(shares, within=60)
