"""The feed of all jobs has no hole, however transactions overlap, and can be resumed anywhere."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Connection, Engine, func, insert, select, text, update
from sqlmodel import col

from jobs import database, lifecycle
from jobs.feed import FeedEvent, FeedFilter, Place, Position, Snapshot, read_feed, read_position
from jobs.models import Job, JobEvent
from jobs.states import JobState
from tests.jobs.making import LEASE, PROJECT, WORKER, make_job

Key = tuple[UUID, int]


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    with database.autocommit(engine).connect() as connection:
        yield connection


def write(connection: Connection, job_id: UUID, type_: str = "progress", size: int = 0) -> Key:
    """One more event of the job, as a move writes it: the row's lock is held until the commit."""
    seq = connection.execute(
        update(Job)
        .where(col(Job.id) == job_id)
        .values(seq=col(Job.seq) + 1)
        .returning(col(Job.seq))
    ).scalar_one()
    row = {"job_id": job_id, "seq": seq, "type": type_, "attempt": 1, "data": {"x": "x" * size}}
    connection.execute(insert(JobEvent).values(**row))
    return job_id, seq


def new_job(engine: Engine, **columns: Any) -> UUID:
    with engine.begin() as connection:
        return make_job(connection, JobState.RUNNING, **columns)


def keys(events: list[FeedEvent]) -> list[Key]:
    return [(each.event.job_id, each.event.seq) for each in events]


def begin(engine: Engine) -> Place:
    with reading(engine) as connection:
        return read_position(connection).place


def read_all(
    engine: Engine, place: Place, limit: int = 100, projects: tuple[str, ...] = (PROJECT,)
) -> tuple[list[FeedEvent], Place]:
    found: list[FeedEvent] = []
    while True:
        with reading(engine) as connection:
            page = read_feed(connection, place, projects, limit)
        found, place = found + page.events, page.place
        assert len(page.events) <= limit
        if page.is_last:
            return found, place


def test_the_lower_transaction_that_commits_later_is_not_lost(engine: Engine) -> None:
    first, second = new_job(engine), new_job(engine)
    place = begin(engine)
    with engine.connect() as lower, engine.connect() as higher:
        early = write(lower, first)
        late = write(higher, second)
        higher.commit()
        found, place = read_all(engine, place)
        assert keys(found) == [late], "nobody waits for the one that stays open"
        assert keys(read_all(engine, place)[0]) == []
        lower.commit()
    found, place = read_all(engine, place)
    assert keys(found) == [early]
    assert keys(read_all(engine, place)[0]) == []


def test_what_is_rolled_back_never_was(engine: Engine) -> None:
    job_id, place = new_job(engine), begin(engine)
    with engine.connect() as connection:
        write(connection, job_id)
        assert read_all(engine, place)[0] == []
        connection.rollback()
    found, place = read_all(engine, place)
    assert found == []


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_a_transaction_that_began_early_does_not_overtake_its_jobs_own_events(
    engine: Engine, limit: int
) -> None:
    job_id, other = new_job(engine), new_job(engine)
    place = begin(engine)
    with engine.connect() as early, engine.connect() as stranger:
        early.execute(select(func.pg_current_xact_id()))
        with engine.begin() as quick:
            write(quick, other)
        stranger.execute(select(func.pg_current_xact_id()))
        with engine.begin() as quick:
            write(quick, job_id)
        write(early, job_id)
        early.commit()
        found, after = read_all(engine, place, limit)
        assert sorted(keys(found)) == sorted([(job_id, 2), (job_id, 3), (other, 2)])
        assert [seq for job, seq in keys(found) if job == job_id] == [2, 3]
        stranger.commit()
    assert read_all(engine, after, limit)[0] == []


@pytest.mark.parametrize("seed", range(8))
def test_however_transactions_overlap_readers_miss_nothing(engine: Engine, seed: int) -> None:
    chance = random.Random(seed)
    jobs = [new_job(engine) for _ in range(4)]
    readers = [Reader(begin(engine), limit) for limit in (1, 2, 5, 50)]
    writers = Writers(engine)
    for _ in range(150):
        reader, writer = chance.choice(readers), chance.choice(writers.connections)
        match chance.choice(["begin", "write", "write", "write", "end", "read", "resume"]):
            case "begin":
                writer.execute(select(func.pg_current_xact_id()))
            case "write":
                writers.write(writer, chance.choice(jobs))
            case "end":
                writers.end(writer, commits=chance.random() < 0.8)
            case "read":
                reader.read(engine)
            case "resume":
                reader.resume()
    writers.close()
    for reader in readers:
        found, _ = read_all(engine, reader.place, reader.limit)
        reader.take(found)
        assert sorted(reader.got) == sorted(writers.committed), "once each, after its own filter"


class Writers:
    """Transactions that are open at the same time; a job's events wait for its lock."""

    def __init__(self, engine: Engine) -> None:
        self.connections = [engine.connect() for _ in range(5)]
        self.committed: set[Key] = set()
        self._holders: dict[UUID, Connection] = {}
        self._pending: dict[Connection, list[Key]] = {each: [] for each in self.connections}

    def write(self, writer: Connection, job_id: UUID) -> None:
        if self._holders.setdefault(job_id, writer) is writer:
            self._pending[writer].append(write(writer, job_id))

    def end(self, writer: Connection, *, commits: bool) -> None:
        if commits:
            writer.commit()
            self.committed.update(self._pending[writer])
        else:
            writer.rollback()
        self._pending[writer] = []
        self._holders = {job: each for job, each in self._holders.items() if each is not writer}

    def close(self) -> None:
        for writer in self.connections:
            self.end(writer, commits=False)
            writer.close()


class Reader:
    """A client: it keeps positions, and drops what it has."""

    def __init__(self, place: Place, limit: int) -> None:
        self.place, self.limit = place, limit
        self.got: list[Key] = []
        self.last: dict[UUID, int] = {}

    def read(self, engine: Engine) -> None:
        with reading(engine) as connection:
            page = read_feed(connection, self.place, [PROJECT], self.limit)
        self.place = page.place
        self.take(page.events)

    def resume(self) -> None:
        position = Position.parse(Position("0123abcd", self.place).text())
        assert position is not None
        assert position.place == self.place
        self.place = position.place

    def take(self, events: list[FeedEvent]) -> None:
        for job_id, seq in keys(events):
            if seq > self.last.get(job_id, 0):
                self.last[job_id] = seq
                self.got.append((job_id, seq))


def test_a_transaction_larger_than_a_page_is_read_in_parts(engine: Engine) -> None:
    jobs = [new_job(engine) for _ in range(3)]
    place = begin(engine)
    with engine.begin() as connection:
        written = [write(connection, job_id) for _ in range(7) for job_id in jobs]
    found, place = read_all(engine, place, limit=4)
    assert keys(found) == sorted(written)
    assert place == Place(place.after), "and then it can be resumed from there"


def test_a_page_is_bounded_in_bytes(engine: Engine) -> None:
    job_id, place = new_job(engine), begin(engine)
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE job_event ALTER COLUMN data SET STORAGE EXTERNAL"))
        written = [write(connection, job_id, size=100_000) for _ in range(5)]
    with reading(engine) as connection:
        page = read_feed(connection, place, [PROJECT], 100)
    assert 1 <= len(page.events) < 5
    assert keys(read_all(engine, place)[0]) == written


def test_a_feed_is_of_the_projects_that_were_asked_for(engine: Engine) -> None:
    place = begin(engine)
    mine, theirs = new_job(engine), new_job(engine, project_id="theirs")
    found, _ = read_all(engine, place)
    assert keys(found) == [(mine, 1)]
    found, _ = read_all(engine, place, projects=(PROJECT, "theirs"))
    assert sorted(keys(found)) == sorted([(mine, 1), (theirs, 1)])


def test_filters_ask_for_facts_of_the_job_and_the_state_an_event_leaves(engine: Engine) -> None:
    place = begin(engine)
    labels = {"customer": "17", "tier": "gold"}
    job_id = new_job(engine, kind="test.one", queue="slow", labels=labels)
    new_job(engine, kind="test.two")
    with engine.begin() as connection:
        lifecycle.interrupt(connection, job_id, attempt=1, reason="deploy")
        lifecycle.start(connection, job_id, attempt=2, worker=WORKER, lease=LEASE)
        lifecycle.succeed(connection, job_id, attempt=2, result=None)
    found, _ = read_all(engine, place)

    def types(**asked: Any) -> list[str]:
        wanted = FeedFilter(asked.pop("project_id", PROJECT), **asked)
        return [each.event.type for each in found if wanted.matches(each)]

    whole = ["created", "interrupted", "started", "succeeded"]
    assert sorted(types()) == sorted(["created", *whole])
    assert types(kind="test.one") == types(queue="slow") == types(labels={"tier": "gold"}) == whole
    assert types(labels=labels, kind="test.one", queue="slow") == whole
    assert types(kind="test.one", states=[JobState.QUEUED, JobState.SUCCEEDED]) == whole[1::2]
    assert types(kind="test.one", states={JobState.RUNNING}) == ["started"]
    assert types(labels={"tier": "tin"}) == types(kind="test.three") == []
    assert types(project_id="theirs") == []


def test_an_event_that_a_deleted_job_had_is_gone_with_it(engine: Engine) -> None:
    place, job_id = begin(engine), new_job(engine)
    with engine.begin() as connection:
        connection.execute(Job.__table__.delete().where(col(Job.id) == job_id))  # type: ignore[attr-defined]
    assert read_all(engine, place)[0] == []


def test_positions_are_written_and_read(engine: Engine) -> None:
    for position in (
        Position("00ff00ff", Place(Snapshot(7))),
        Position("deadbeef", Place(Snapshot(2**40, frozenset({3, 2**40 - 1})))),
        Position("deadbeef", Place(Snapshot(7), Snapshot(9, frozenset({8})), (WORKER, 12))),
    ):
        assert Position.parse(position.text()) == position
    with reading(engine) as connection:
        position = read_position(connection)
        assert Position.parse(position.text()) == position
        assert position.epoch == read_position(connection).epoch


@pytest.mark.parametrize(
    "wrong",
    [
        *("", "7", "deadbeef", "deadbeef.", "deadbeef.7-", "deadbeef.7-9", "DEADBEEF.7"),
        *("deadbeef.7\n", "deadbeef.7~9", "deadbeef.7~9-9~" + "0" * 32 + "~1"),
        "deadbeef.7~9~" + "0" * 32 + "~9999999999",
    ],
    ids=range(11),
)
def test_what_is_no_position_is_none(wrong: str) -> None:
    assert Position.parse(wrong) is None


def test_a_position_has_its_bounds() -> None:
    assert Position.parse(f"deadbeef.{2**63}") is None
    assert Position.parse("deadbeef.9999999999" + "-1" * 5000) is None


def test_a_snapshot_that_is_cut_off_still_tells_the_truth() -> None:
    snapshot = Snapshot(100, frozenset({90, 95}))
    assert [snapshot.sees(each) for each in (89, 90, 91, 95, 99, 100)] == [
        *(True, False, True, False, True, False)
    ]
    assert snapshot.until(92) == Snapshot(93, frozenset({90}))
    assert snapshot.until(200) == snapshot


def test_the_index_finds_what_is_new_in_a_large_table(engine: Engine) -> None:
    job_id = new_job(engine)
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO job_event (job_id, seq, type, attempt, data)"
                " SELECT :job, n, 'progress', 1, '{}' FROM generate_series(2, 20000) AS n"
            ),
            {"job": job_id},
        )
    place = begin(engine)
    with engine.begin() as connection:
        connection.execute(update(Job).where(col(Job.id) == job_id).values(seq=20000))
        key = write(connection, job_id)
    scans = text("SELECT seq_scan FROM pg_stat_xact_user_tables WHERE relname = 'job_event'")
    with engine.begin() as connection:
        before = connection.execute(scans).scalar_one()  # of the session, if not told of yet
        for _ in range(12):  # often enough that a plan could have been kept
            assert keys(read_feed(connection, place, [PROJECT], 100).events) == [key]
        assert connection.execute(scans).scalar_one() == before
