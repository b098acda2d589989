"""Which bells are put together: those of quick kinds, as far as every slot gets some."""

from collections.abc import Sequence
from itertools import chain
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection, Engine

from jobs import lifecycle
from jobs.attempts import UNKNOWN_USAGE, Usage
from jobs.broker import Bell
from jobs.durations import measure
from jobs.settings import Settings
from tests.worker.platform import Platform
from worker.dispatcher.lists import BESIDE, FEWEST, MOST, WORTH, Lists


def ring(kind: str, priority: int = 5) -> Bell:
    return Bell("default", kind, ((uuid4(), 1),), priority)


def known(**seconds: float) -> Lists:
    lists = Lists()
    lists._seconds = {name.replace("_", "."): value for name, value in seconds.items()}
    return lists


@pytest.mark.parametrize(
    ("seconds", "bells", "slots", "sizes"),
    [
        (0.001, 1, 2, [1]),
        (0.001, 2, 2, [2]),  # a bell costs more than the second waits for the first
        (0.001, 5, 5, [3, 2]),
        (0.001, 9, 9, [3] * 3),
        (0.004, 4, 2, [2] * 2),
        (0.004, 4, 4, [1] * 4),  # four would wait for each other too long, with slots enough
        (0.001, 8, 2, [4] * 2),
        (0.001, 9, 3, [3] * 3),
        (0.001, 1000, 2, [MOST] * (1000 // MOST)),
        (0.001, 1000, 100, [10] * 100),
        (0.01, 1000, 2, [10] * 100),
        (0.021, 100, 2, [1] * 100),
    ],
)
def test_lists_are_as_long_as_their_work_is_short(
    seconds: float, bells: int, slots: int, sizes: list[int]
) -> None:
    rung = [ring("a.b") for _ in range(bells)]
    listed = known(a_b=seconds).put_together(rung, slots)
    assert [len(bell.attempts) for bell in listed] == sizes
    assert [*chain(*(bell.attempts for bell in listed))] == [bell.attempts[0] for bell in rung]


@pytest.mark.parametrize("seconds", [0.0, 0.0001, 0.001, 0.003, 0.006, 0.019])
@pytest.mark.parametrize("bells", [1, 2, 7, 20, 60])
def test_none_waits_long_in_a_list_while_slots_have_nothing_to_do(
    seconds: float, bells: int
) -> None:
    rung = [ring("a.b") for _ in range(bells)]
    listed = known(a_b=seconds).put_together(rung, slots=100)
    longest = max(len(bell.attempts) for bell in listed)
    assert longest == 1 or longest * (seconds + BESIDE) <= WORTH


def test_a_list_has_one_kind_and_one_priority() -> None:
    rung = [ring(kind, priority) for kind in ("a.b", "c.d") * 50 for priority in (9, 1)]
    of_each = {bell.attempts[0]: (bell.kind, bell.priority) for bell in rung}
    listed = known(a_b=0.001, c_d=0.001).put_together(rung, 2)
    assert len(listed) < len(rung)
    for bell in listed:
        assert {of_each[attempt] for attempt in bell.attempts} == {(bell.kind, bell.priority)}


def test_of_an_unknown_kind_each_attempt_has_its_bell() -> None:
    rung = [ring(kind) for _ in range(50) for kind in ("a.b", "c.d")]
    assert Lists().put_together(rung, 2) == rung


def test_lists_keep_the_order_of_their_firsts() -> None:
    rung = [ring(kind) for kind in ("a.b", "c.d", "e.f") for _ in range(8)][::-1]
    listed = known(a_b=0.001, e_f=0.001).put_together(rung, 1)
    places = [bell.attempts[0] for bell in rung]
    firsts = [places.index(bell.attempts[0]) for bell in listed]
    assert len(listed) == 1 + 8 + 1
    assert firsts == sorted(firsts)


def test_how_long_attempts_take_is_learnt_from_those_that_were_rung(
    platform: Platform, settings: Settings, engine: Engine
) -> None:
    jobs = [platform.submit("demo.sleep", {"seconds": 0}) for _ in range(FEWEST + 1)]
    lists = Lists()
    lists.put_together([Bell("default", "demo.sleep", ((j.id, 1),), 5) for j in jobs], slots=2)
    with engine.begin() as connection:
        lists.learn(connection)
        assert lists._seconds == {}
        for job in jobs[:FEWEST]:
            lifecycle.start(connection, job.id, attempt=1, worker=uuid4(), lease=settings.lease)
        connection.execute(
            sa.text("UPDATE job SET started_at = now() - interval '1 h' WHERE id = ANY (:ids)"),
            {"ids": [job.id for job in jobs[:FEWEST]]},
        )
        (running,) = measure(connection, [job.id for job in jobs])
        assert (running.kind, running.attempts) == ("demo.sleep", FEWEST)
        assert running.seconds >= 3600
        lists._looked_at = 0
        lists.learn(connection)
        assert lists._seconds["demo.sleep"] >= 3600


def test_in_a_backlog_those_are_looked_at_that_were_rung_first(
    platform: Platform, settings: Settings, engine: Engine
) -> None:
    jobs = [platform.submit("demo.sleep", {"seconds": 0}) for _ in range(FEWEST)]
    lists = Lists()
    lists.put_together([Bell("default", "demo.sleep", ((j.id, 1),), 5) for j in jobs], slots=2)
    lists.put_together([ring("demo.sleep") for _ in range(1000)], slots=2)
    with engine.begin() as connection:
        make(connection, settings, [job.id for job in jobs])
        lists.learn(connection)
    assert "demo.sleep" in lists._seconds


def test_a_quick_kind_stays_quick_while_its_attempts_wait_for_the_machine(
    platform: Platform, settings: Settings, engine: Engine
) -> None:
    jobs = [platform.submit("demo.sleep", {"seconds": 0}).id for _ in range(2 * FEWEST)]
    lists = Lists()
    lists.put_together([Bell("default", "demo.sleep", ((job, 1),), 5) for job in jobs], slots=2)
    with engine.begin() as connection:
        make(connection, settings, jobs[:FEWEST], Usage(run_seconds=0.001))
        for job_id in jobs[FEWEST:]:  # they may have been held up: nobody knows as yet
            lifecycle.start(connection, job_id, attempt=1, worker=uuid4(), lease=settings.lease)
        connection.execute(
            sa.text(
                "UPDATE job SET started_at = created_at, finished_at = created_at + interval '1 h'"
                " WHERE id = ANY (:ids)"
            ),
            {"ids": jobs[:FEWEST]},
        )
        lists.learn(connection)
    assert lists._seconds["demo.sleep"] == pytest.approx(0.001)
    assert len(lists.put_together([ring("demo.sleep") for _ in range(2 * MOST)], slots=2)) == 2


def test_of_an_attempt_that_did_not_say_how_long_it_ran_the_claim_and_the_report_tell(
    platform: Platform, settings: Settings, engine: Engine
) -> None:
    jobs = [platform.submit("demo.sleep", {"seconds": 0}).id for _ in range(2)]
    with engine.begin() as connection:
        make(connection, settings, jobs)
        connection.execute(
            sa.text(
                "UPDATE job SET started_at = created_at, finished_at = created_at + interval '3 s'"
                " WHERE id = ANY (:ids)"
            ),
            {"ids": jobs},
        )
        (found,) = measure(connection, jobs)
    assert found.attempts == 2
    assert found.seconds == pytest.approx(3)


def make(
    connection: Connection, settings: Settings, jobs: Sequence[UUID], usage: Usage = UNKNOWN_USAGE
) -> None:
    for job_id in jobs:
        lifecycle.start(connection, job_id, attempt=1, worker=uuid4(), lease=settings.lease)
        lifecycle.succeed(connection, job_id, attempt=1, result=None, usage=usage)
