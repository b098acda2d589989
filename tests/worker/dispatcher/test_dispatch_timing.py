"""When a rescue may begin, how quick a queue seems, and how a service's turns follow each other."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from threading import Event

import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import OperationalError, ProgrammingError

from jobs.duties import Duties
from jobs.errors import BrokerUnavailable
from jobs.hints import Hints
from tests.eventually import eventually
from worker.dispatcher.lookout import Lookout
from worker.dispatcher.loop import Loop, Rest, may_pass
from worker.dispatcher.pace import LONGEST_GAP, Pace, gap
from worker.dispatcher.rescue import Rescue

LEASE = timedelta(seconds=30)
START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def allowed(hints: Hints) -> Callable[[float], bool]:
    """Whether a rescue may be made in the sweep at this second."""
    rescue = Rescue(LEASE, hints, Event().set)
    return lambda second: rescue._may_rescue(START + timedelta(seconds=second))


def test_rescue_begins_after_a_lease_of_sweeps(allowed: Callable[[float], bool]) -> None:
    answers = {second: allowed(second) for second in range(0, 60, 5)}
    assert [second for second, answer in answers.items() if answer] == [*range(30, 60, 5)]


def test_rescue_waits_again_after_an_interruption(allowed: Callable[[float], bool]) -> None:
    for second in range(0, 41, 5):
        allowed(second)
    assert allowed(50)  # one sweep was missed
    assert not allowed(66)  # three were: the machine slept, or the database was away
    assert not any(allowed(second) for second in range(71, 96, 5))
    assert allowed(96)


def test_the_starts_of_the_last_second_are_marks_that_have_gone() -> None:
    pace = Pace()
    assert pace.see(0.0, 0) == 0
    pace.ring(10)
    assert pace.see(0.1, 4) == 6
    pace.ring(6)
    assert pace.see(0.5, 0) == 16
    assert pace.see(1.2, 0) == 10  # those at 0.1 are longer ago
    assert pace.see(1.6, 0) == 0


def test_marks_that_were_taken_back_are_no_starts() -> None:
    pace = Pace()
    pace.ring(10)
    pace.ring(-10)
    assert pace.see(0.0, 0) == 0


def test_marks_of_another_dispatcher_are_no_starts() -> None:
    pace = Pace()
    assert pace.see(0.0, 5) == 0
    assert pace.see(0.1, 3) == 2


@pytest.mark.parametrize("rung", [0, 1, 50, 600, 5000])
@pytest.mark.parametrize("dispatchers", [1, 2, 3])
def test_dispatchers_that_share_jobs_look_as_often_together_as_one(
    rung: int, dispatchers: int
) -> None:
    alone = gap(dispatchers * rung, 1)
    assert alone <= LONGEST_GAP
    assert gap(rung, dispatchers) == pytest.approx(dispatchers * alone)


def test_the_gap_of_a_crowd_stays_short() -> None:
    assert gap(0, 0) == gap(0, 10) == 0
    assert gap(10_000, 10) == gap(10_000, 1000) <= 0.5


class Counted:
    """A service that remembers its turns, and fails as often as it is told to."""

    def __init__(self, rest: Rest, *failures: Exception) -> None:
        self.rest, self.failures = rest, [*failures]
        self.turns: list[float] = []
        self.has_ended = Event()

    def turn(self, _connection: Connection) -> Rest:
        self.turns.append(time.monotonic())
        if self.failures:
            raise self.failures.pop()
        return self.rest

    def end(self, _connection: Connection) -> None:
        self.has_ended.set()


@pytest.fixture
def run(engine: Engine) -> Callable[[Counted], Loop]:
    def start(service: Counted) -> Loop:
        loop = Loop("test", service, engine)
        loop.start()
        return loop

    return start


def test_a_nudge_ends_the_rest(run: Callable[[Counted], Loop]) -> None:
    service = Counted(Rest(60))
    loop = run(service)
    eventually(lambda: len(service.turns) == 1)
    loop.nudge()
    eventually(lambda: len(service.turns) == 2)
    loop.stop()
    loop.join(30)
    assert service.has_ended.is_set()


def test_nudges_do_not_hurry_a_service_beyond_its_least_rest(
    run: Callable[[Counted], Loop],
) -> None:
    service = Counted(Rest(60, least=0.2))
    loop = run(service)

    def nudge() -> bool:
        loop.nudge()
        return len(service.turns) >= 4

    eventually(nudge)
    loop.stop()
    loop.join(30)
    pauses = [after - before for before, after in pairwise(service.turns)]
    assert min(pauses) >= 0.19


def test_a_call_ends_the_rest_of_who_heeds_it_only(engine: Engine) -> None:
    services = [Counted(Rest(60, heeds_after=0.0)), Counted(Rest(60))]
    idle, other = (Loop("test", each, engine, is_watched=True) for each in services)
    for loop in (idle, other):
        loop.start()

    def call() -> bool:
        idle.call()
        other.call()
        return len(services[0].turns) >= 3 and len(services[1].turns) == 1

    eventually(call)
    for loop in (idle, other):
        loop.stop()
    for loop in (idle, other):
        loop.join(30)
    assert len(services[1].turns) == 1


def test_a_lookout_that_may_not_look_calls_everybody(engine: Engine) -> None:
    called = {name: Event() for name in Duties._fields}
    lookout = Lookout({name: each.set for name, each in called.items()})
    with engine.begin() as holder, engine.connect() as connection:
        lookout.turn(connection)
        assert not any(each.is_set() for each in called.values())
        holder.execute(text("LOCK TABLE bulk_operation"))
        with pytest.raises(OperationalError):
            lookout.turn(connection)
    assert all(each.is_set() for each in called.values())


def test_a_service_outlives_absent_servers(run: Callable[[Counted], Loop]) -> None:
    gone = OperationalError("SELECT 1", {}, Exception("server closed the connection"))
    service = Counted(Rest(0.01), BrokerUnavailable(), gone)
    loop = run(service)
    eventually(lambda: len(service.turns) >= 4)
    loop.stop()
    loop.join(30)
    assert service.has_ended.is_set()


def test_a_mistake_of_ours_does_not_pass() -> None:
    assert not may_pass(ProgrammingError("SELECT", {}, Exception("syntax error")))
    assert may_pass(BrokerUnavailable())
