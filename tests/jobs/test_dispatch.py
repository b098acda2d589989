"""What is rung, in which order, and how marks are taken back; against PostgreSQL."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Connection, Engine, TextClause, func, insert, select, text, update
from sqlmodel import col

from jobs import dispatch
from jobs.broker import Bell
from jobs.direct import Direct
from jobs.dispatch import Epoch, Standing, Turns
from jobs.gating import Gate
from jobs.models import Dispatcher, Job
from jobs.picks import _PICK_AT_ONCE, _PICK_LONE, _PICK_PLAIN, HAS_LOCKS
from jobs.states import JobState
from tests.jobs.making import LEASE, make_job, read_job
from tests.jobs.ringing import add_job, add_jobs, add_worker, count_rung

HOUR = timedelta(hours=1)
PAUSE = insert(Gate).values(project_id="default", scope="queue", name="default", paused=True)
AGE = timedelta(seconds=15)


def ring(connection: Connection, size: int = 100) -> list[Bell]:
    """Whatever a dispatcher with a window of `size` would ring now."""
    bells = []
    for standing in dispatch.survey(connection, LEASE):
        bells += dispatch.pick(connection, standing, size)
    return bells


def jobs_of(bells: list[Bell]) -> list[UUID]:
    return [job_id for bell in bells for job_id, _ in bell.attempts]


def test_the_highest_priority_is_rung_first_then_the_oldest(connection: Connection) -> None:
    add_worker(connection)
    ids = [add_job(connection, priority=priority) for priority in (5, 9, 0, 5, 9, 7)]
    assert jobs_of(ring(connection, 4)) == [ids[1], ids[4], ids[5], ids[0]]
    assert jobs_of(ring(connection, 6)) == [ids[3], ids[2]]


def test_kinds_share_the_order_of_their_queue(connection: Connection) -> None:
    add_worker(connection, kinds=["test.a", "test.b"])
    ids = [add_job(connection, kind=f"test.{'ab'[number % 2]}") for number in range(6)]
    assert jobs_of(ring(connection, 5)) == ids[:5]


def test_a_bell_names_the_next_attempt_and_what_the_worker_needs(connection: Connection) -> None:
    add_worker(connection, queues=["other"])
    job_id = add_job(connection, queue="other", attempt=3, priority=8)
    assert ring(connection) == [Bell("other", "test.echo", ((job_id, 4),), 8)]
    assert read_job(connection, job_id).rung_at is not None
    assert ring(connection) == []


def test_never_more_than_the_window_is_rung(connection: Connection) -> None:
    add_worker(connection)
    ids = [add_job(connection) for _ in range(10)]
    assert jobs_of(ring(connection, 4)) == ids[:4]
    assert ring(connection, 4) == []
    release = update(Job).where(col(Job.id).in_(ids[:3])).values(rung_at=None, state="cancelled")
    connection.execute(release.values(finished_at=func.clock_timestamp()))
    assert jobs_of(ring(connection, 4)) == ids[4:7]
    assert count_rung(connection) == 4


def test_marks_are_flushed_only_with_what_is_counted(connection: Connection) -> None:
    add_worker(connection, queues=["default", "other"])
    how, other = text("SHOW synchronous_commit"), text("SET LOCAL synchronous_commit = 'local'")
    usual = connection.execute(how).scalar_one()
    connection.execute(other)
    add_job(connection)
    assert len(ring(connection)) == 1
    assert connection.execute(how).scalar_one() == "off"
    connection.execute(other)
    add_job(connection, queue="other", concurrency_key="some")
    assert len(ring(connection)) == 1
    assert connection.execute(how).scalar_one() == usual


@pytest.mark.parametrize(
    ("slots", "starts", "size"),
    [(2, 0, 4), (2, 1, 4), (2, 40, 80), (100, 7, 200), (1, 0, 2), (2, 900, 1000), (800, 0, 1000)],
)
def test_the_window_follows_slots_and_starts(slots: int, starts: int, size: int) -> None:
    assert dispatch.window(slots, starts) == size


def test_a_queue_has_the_slots_of_all_its_live_workers(connection: Connection) -> None:
    add_worker(connection, slots=2)
    add_worker(connection, slots=3, queues=["other", "default"])
    add_worker(connection, slots=5, seen_at=func.clock_timestamp() - HOUR)
    slots = {each.queue: each.slots for each in dispatch.survey(connection, LEASE)}
    assert slots == {"default": 5, "other": 3}


@pytest.mark.parametrize(
    "columns",
    [
        {"kinds": ["test.other"]},
        {"queues": ["other"]},
        {"seen_at": func.clock_timestamp() - 2 * LEASE},
    ],
    ids=["of other kinds", "of other queues", "dead"],
)
def test_a_job_without_a_fitting_worker_waits(
    connection: Connection, columns: dict[str, Any]
) -> None:
    add_worker(connection, **columns)
    add_job(connection)
    assert ring(connection) == []
    add_worker(connection)
    assert len(ring(connection)) == 1


def test_a_kind_must_be_known_where_the_queue_is_served(connection: Connection) -> None:
    add_worker(connection, kinds=["test.other"])
    add_worker(connection, queues=["other"])
    add_job(connection)
    assert ring(connection) == []


def test_a_paused_queue_is_not_rung(connection: Connection) -> None:
    add_worker(connection)
    add_job(connection)
    connection.execute(PAUSE)
    assert ring(connection) == []
    connection.execute(update(Gate).values(paused=False))
    assert len(ring(connection)) == 1


def test_one_projects_pause_is_not_anothers(connection: Connection) -> None:
    add_worker(connection)
    add_job(connection)
    theirs = add_job(connection, project_id="theirs")
    connection.execute(PAUSE)
    assert jobs_of(ring(connection)) == [theirs]


def test_what_has_expired_before_its_first_start_is_not_rung(connection: Connection) -> None:
    add_worker(connection)
    past = func.clock_timestamp() - HOUR
    add_job(connection, expires_at=past)
    started = add_job(connection, expires_at=past, attempt=1)
    later = add_job(connection, expires_at=func.clock_timestamp() + HOUR)
    assert jobs_of(ring(connection)) == [started, later]


@pytest.mark.parametrize("state", [state for state in JobState if state is not JobState.QUEUED])
def test_only_queued_jobs_are_rung(connection: Connection, state: JobState) -> None:
    add_worker(connection)
    make_job(connection, state)
    assert ring(connection) == []


@pytest.fixture
def backlog(engine: Engine) -> Iterator[list[UUID]]:
    """Six jobs and a worker that other connections see, too."""
    with engine.begin() as setup:
        add_worker(setup)
        ids = [add_job(setup) for _ in range(6)]
    yield ids
    with engine.begin() as cleanup:
        cleanup.execute(text("TRUNCATE job, worker CASCADE"))


def test_two_dispatchers_never_fill_one_window_together(
    engine: Engine, backlog: list[UUID]
) -> None:
    with engine.connect() as first, engine.connect() as second:
        with first.begin():
            [standing] = dispatch.survey(first, LEASE)
            bells = dispatch.pick(first, standing, 4)
            with second.begin():
                assert dispatch.pick(second, standing, 4) == []  # the first holds the queue
        with second.begin():
            assert dispatch.pick(second, standing, 4) == []  # and has filled its window
            assert jobs_of(dispatch.pick(second, standing, 5)) == [backlog[4]]
        assert jobs_of(bells) == backlog[:4]


def test_at_once_the_same_is_rung_as_after_a_look(connection: Connection) -> None:
    connection.execute(text("INSERT INTO project (id, name) VALUES ('p2', 'p2'), ('p3', 'p3')"))
    add_worker(connection, kinds=["test.a", "test.b"])
    past = func.clock_timestamp() - timedelta(hours=1)
    for project in ("default", "p2", "p3"):
        for kind in ("test.a", "test.b", "test.orphan"):
            for priority in (9, 5, 0):
                add_job(connection, project_id=project, kind=kind, priority=priority)
        add_job(connection, project_id=project, kind="test.a", expires_at=past)
        add_job(connection, project_id=project, kind="test.a", rung_at=past)
        add_job(connection, project_id=project, kind="test.b", queued_at=past)
        add_job(connection, project_id=project, kind="test.b", queue="other")
    paused = insert(Gate).values(scope="queue", name="default", paused=True)
    connection.execute(paused, {"project_id": "p2"})
    connection.execute(paused, {"project_id": "p3", "scope": "kind", "name": "test.a"})
    for size in (3, 4, 8, 100):
        [standing] = [each for each in dispatch.survey(connection, LEASE) if each.kinds]
        with connection.begin_nested() as look:
            wanted = dispatch.pick(connection, standing, size, Turns(rung=size))
            look.rollback()
        with connection.begin_nested() as glance:
            found = pick_at_once(connection, size, Turns(rung=size))
            glance.rollback()
        assert found == wanted
        assert len(wanted) == min(size - 3, 11)


def pick_at_once(connection: Connection, size: int, turns: Turns | None = None) -> list[Bell]:
    return dispatch.pick_at_once(connection, "default", size, LEASE, turns or Turns())


def test_at_once_nothing_is_rung_that_would_have_to_be_counted(connection: Connection) -> None:
    add_worker(connection)
    plain = add_job(connection)
    for barred in (
        insert(Gate).values(project_id="p2", scope="kind", name="test.other", concurrency=1),
        update(Job).values(concurrency_key="a", concurrency_limit=1),
    ):
        with connection.begin_nested() as barring:
            connection.execute(barred)
            assert pick_at_once(connection, 4) == []
            barring.rollback()
    assert jobs_of(pick_at_once(connection, 4)) == [plain]


def test_at_once_and_after_a_look_no_window_is_filled_twice(
    engine: Engine, backlog: list[UUID]
) -> None:
    with engine.connect() as first, engine.connect() as second:
        with first.begin():
            [standing] = dispatch.survey(first, LEASE)
            assert jobs_of(dispatch.pick(first, standing, 2)) == backlog[:2]
            assert pick_at_once(second, 4) == []  # the first holds the queue
        assert jobs_of(pick_at_once(second, 4)) == backlog[2:4]
        assert pick_at_once(second, 4) == []


def test_a_locked_job_is_passed_over(engine: Engine, backlog: list[UUID]) -> None:
    with engine.begin() as holder, engine.begin() as dispatcher:
        holder.execute(select(col(Job.id)).where(col(Job.id) == backlog[0]).with_for_update())
        assert jobs_of(ring(dispatcher)) == backlog[1:]


def add_backlog(connection: Connection, state: str, kind: str, number: int = 5000) -> None:
    """Jobs that PostgreSQL has no statistics of, and the settings that a dispatcher plans with."""
    backlog = text("""
    INSERT INTO job (id, kind, state, queue, priority, args, max_attempts, seq, created_at,
                     queued_at, run_at)
    SELECT gen_random_uuid(), :kind, CAST(:state AS job_state), 'default', 9, '{}', 1, 1, now(),
           now(), now() + interval '1 hour'
    FROM generate_series(1, :number)
    """)
    connection.execute(backlog, {"kind": kind, "state": state, "number": number})
    for setting in ("enable_seqscan", "enable_bitmapscan"):
        connection.execute(text(f"SET LOCAL {setting} = off"))


@pytest.mark.parametrize("is_analyzed", [False, True])
def test_a_large_backlog_is_not_walked(connection: Connection, is_analyzed: bool) -> None:
    add_worker(connection)
    add_backlog(connection, "queued", "test.orphan")
    add_backlog(connection, "queued", "test.echo")
    if is_analyzed:
        connection.execute(text("ANALYZE job"))
    assert rows_read(connection, dispatch._surveyed(LEASE)) < 100
    [standing] = dispatch.survey(connection, LEASE)
    assert (standing.projects, standing.kinds) == (["default"], ["test.echo"])
    binds = {
        "queue": "default",
        "projects": standing.projects,
        "kinds": standing.kinds,
        "priorities": standing.priorities,
        "offset": 0,
    }
    connection.execute(text(f"SET LOCAL {HAS_LOCKS} = 'true'"))
    assert rows_read(connection, _PICK_PLAIN, **binds, window=10) < 100
    assert count_rung(connection) == 10
    at_once = {"queue": "default", "lease": LEASE, "offset": 0, "window": 20}
    assert rows_read(connection, _PICK_AT_ONCE, **at_once) < 100
    assert count_rung(connection) == 20
    assert rows_read(connection, _PICK_LONE, queue="default", lease=LEASE) < 100
    assert count_rung(connection) == 20


@pytest.mark.parametrize("is_analyzed", [False, True])
def test_jobs_with_a_time_are_not_walked(connection: Connection, is_analyzed: bool) -> None:
    add_backlog(connection, "scheduled", "test.echo")
    if is_analyzed:
        connection.execute(text("ANALYZE job"))
    assert rows_read(connection, dispatch._NEXT_DUE) < 10


def rows_read(connection: Connection, statement: TextClause | Direct, **binds: Any) -> float:
    """Of the jobs and their indexes, over all loops of the plan."""
    explain = text(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement.text}")
    found = 0.0
    todo = [connection.execute(explain, binds).scalar_one()[0]["Plan"]]
    while todo:
        node = todo.pop()
        todo += node.get("Plans", [])
        if node.get("Relation Name") == "job":
            removed = node.get("Rows Removed by Filter", 0)
            found += (node["Actual Rows"] + removed) * node["Actual Loops"]
    return found


def test_bells_that_were_not_sent_are_taken_back(connection: Connection) -> None:
    add_worker(connection)
    ids = [add_job(connection) for _ in range(3)]
    bells = ring(connection)
    started = update(Job).where(col(Job.id) == ids[0])
    connection.execute(started.values(attempt=1, rung_at=None))
    assert len(ring(connection)) == 1  # its second attempt
    dispatch.take_back(connection, bells)
    assert jobs_of(ring(connection)) == ids[1:]


def test_lost_bells_are_the_old_ones_that_do_not_hang(connection: Connection) -> None:
    now = func.clock_timestamp()
    ages = [20, 300, 60, 1, 40]
    ids = [add_job(connection, rung_at=now - timedelta(seconds=age)) for age in ages]
    add_job(connection)
    other = add_job(connection, queue="other", attempt=3, rung_at=now - HOUR)
    unanswered = dispatch.find_unanswered(connection, AGE)
    assert unanswered.queues == ["default", "other"]
    hanging = [(ids[1], 1), (ids[2], 2), (ids[3], 1), (ids[4], 1), (other, 4)]
    assert dispatch.forget_lost(connection, unanswered, hanging) == 2
    forgotten = [read_job(connection, job_id).rung_at is None for job_id in ids]
    assert forgotten == [True, False, True, False, False]  # the third one's bell was its first
    assert dispatch.forget_lost(connection, unanswered, []) == 3
    assert read_job(connection, other).rung_at is None
    assert read_job(connection, ids[3]).rung_at is not None  # the newest may be under way


def test_a_bell_that_was_rung_after_the_look_is_not_lost(connection: Connection) -> None:
    add_worker(connection)
    ids = [add_job(connection) for _ in range(3)]
    ring(connection, 2)
    unanswered = dispatch.find_unanswered(connection, timedelta())
    assert unanswered.queues == ["default"]
    ring(connection, 3)
    assert dispatch.forget_lost(connection, unanswered, []) == 2
    assert jobs_of(ring(connection)) == ids[:2]
    assert dispatch.find_unanswered(connection, AGE).queues == []


def test_one_dispatcher_begins_an_epoch(connection: Connection) -> None:
    first = dispatch.get_epoch(connection)
    assert first.run_id == ""
    assert dispatch.get_epoch(connection) == first
    second = Epoch(uuid4(), "a run")
    assert dispatch.begin_epoch(connection, first, second)
    assert not dispatch.begin_epoch(connection, first, Epoch(uuid4(), "another"))
    assert dispatch.get_epoch(connection) == second


def test_the_next_time_that_anything_is_due_is_known(connection: Connection) -> None:
    assert dispatch.find_next_due(connection) is None
    now = func.clock_timestamp()
    make_job(connection, JobState.RUNNING, expires_at=now - HOUR)
    add_job(connection, attempt=1, expires_at=now - HOUR)
    assert dispatch.find_next_due(connection) is None
    make_job(connection, JobState.SCHEDULED, run_at=now + HOUR)
    assert dispatch.find_next_due(connection) == pytest.approx(3600, abs=5)
    add_job(connection, expires_at=now + timedelta(seconds=600))
    assert dispatch.find_next_due(connection) == pytest.approx(600, abs=5)
    make_job(connection, JobState.RETRYING, run_at=now - HOUR)
    assert dispatch.find_next_due(connection) == pytest.approx(-3600, abs=5)


def test_a_standing_tells_what_is_rung(connection: Connection) -> None:
    add_worker(connection)
    for _ in range(3):
        add_job(connection)
    ring(connection, 2)
    assert dispatch.survey(connection, LEASE) == [
        Standing(
            *("default", 2, 2, ["default"], ["test.echo"], [5], [False]),
            is_limited=False,
            epoch=None,
            dispatchers=0,
        )
    ]
    ring(connection, 3)
    epoch = dispatch.get_epoch(connection).epoch
    now = func.clock_timestamp()
    for seen_at in (now, now - 2 * LEASE):
        row = {"id": uuid4(), "host": "here", "pid": 1, "seen_at": seen_at}
        connection.execute(insert(Dispatcher).values(row))
    assert dispatch.survey(connection, LEASE) == [
        Standing("default", 2, 3, [], [], [], [], is_limited=False, epoch=epoch, dispatchers=1)
    ]


def test_a_survey_is_not_planned_anew_after_a_look_at_waiting_jobs(engine: Engine) -> None:
    """An ANALYZE makes its plan dearer than it was; another for each survey costs much more."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for waiting in (0, 500):
            add_jobs(connection, "default", waiting)
            connection.execute(text("ANALYZE job"))
            for _ in range(8):
                dispatch.survey(connection, LEASE)
        planned = text("SELECT custom_plans FROM pg_prepared_statements WHERE name ~ 'survey'")
        assert connection.execute(planned).scalar_one() == 0
        connection.execute(text("DELETE FROM job"))
