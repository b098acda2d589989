import random
from string import ascii_letters
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Connection, Engine, delete, text
from sqlmodel import col

from jobs import database, lifecycle
from jobs.errors import JobNotFound
from jobs.events import (
    ENDINGS,
    MOST_BYTES,
    History,
    News,
    key_of,
    list_events,
    read_history,
    read_news,
)
from jobs.models import Job
from jobs.states import FINAL, JobState, Move
from tests.jobs.making import PROJECT, make_job

NOBODY = uuid4()


def run_on(connection: Connection, job_id: UUID, steps: int) -> None:
    """`steps` progress events more."""
    for step in range(steps):
        lifecycle.record_progress(connection, job_id, attempt=1, fraction=step / 10, message=None)


def seqs(history: History) -> list[int]:
    return [event.seq for event in history.events]


def test_an_event_ends_a_job_exactly_when_its_move_reaches_a_final_state() -> None:
    for move in Move:
        assert (move.event in ENDINGS) == (move.target in FINAL)


@pytest.mark.parametrize("after", range(5))
def test_a_history_goes_on_after_every_seq(connection: Connection, after: int) -> None:
    job_id = make_job(connection, JobState.RUNNING)
    run_on(connection, job_id, 2)
    history = read_history(connection, PROJECT, job_id, after, 10)
    assert (history.seq, history.is_final) == (3, False)
    assert seqs(history) == list(range(after + 1, 4))
    assert [event.seq for event in list_events(connection, PROJECT, job_id, after, 1)] == [
        *range(after + 1, 4)
    ][:1]


def test_an_event_is_read_as_it_was_written(connection: Connection) -> None:
    job_id = make_job(connection, JobState.RUNNING)
    moved = lifecycle.record_progress(
        connection, job_id, attempt=1, fraction=0.5, message="half \u2028 way"
    )
    (event,) = list_events(connection, PROJECT, job_id, 1, 10)
    assert event == (job_id, moved.seq, moved.type, moved.at, moved.attempt, moved.data)


def test_long_events_come_in_shorter_parts(connection: Connection) -> None:
    job_id = make_job(connection, JobState.RUNNING)
    for _ in range(6):  # chance, so that it is not stored shorter than it is
        message = "".join(random.choices(ascii_letters, k=MOST_BYTES // 2))
        lifecycle.record_log(connection, job_id, attempt=1, lines=[{"message": message}])
    parts, after = [], 0
    while events := list_events(connection, PROJECT, job_id, after, 100):
        parts.append(len(events))
        after = events[-1].seq
    assert (after, parts) == (7, [3, 2, 2])
    news = read_news(connection, {key_of(job_id): 1}, 100)
    history = news.histories[key_of(job_id)]
    assert (seqs(history), history.seq) == ([2, 3], 7)


def test_a_history_is_final_until_the_job_is_retried(connection: Connection) -> None:
    job_id = make_job(connection, JobState.RUNNING)
    lifecycle.cancel_running(connection, job_id, attempt=1, reason="test")
    assert read_history(connection, PROJECT, job_id, 1, 10)[:2] == (2, True)
    assert read_history(connection, PROJECT, job_id, 7, 10) == (2, True, [])
    lifecycle.retry(connection, PROJECT, job_id)
    history = read_history(connection, PROJECT, job_id, 1, 10)
    assert history[:2] == (3, False)
    assert [event.type for event in history.events] == ["cancelled", "queued"]


def test_what_belongs_to_others_is_not_there(connection: Connection) -> None:
    job_id = make_job(connection, JobState.QUEUED)
    for project, wanted in ((PROJECT, NOBODY), ("another", job_id)):
        with pytest.raises(JobNotFound):
            read_history(connection, project, wanted, 0, 10)


def test_news_are_of_jobs_that_went_on_or_away(connection: Connection) -> None:
    jobs = [make_job(connection, JobState.RUNNING) for _ in range(4)]
    run_on(connection, jobs[1], 3)
    lifecycle.succeed(connection, jobs[2], attempt=1, result=None)
    connection.execute(delete(Job).where(col(Job.id) == jobs[3]))
    quiet, busy, ended, gone = map(key_of, jobs)
    news = read_news(connection, {quiet: 1, busy: 2, ended: 1, gone: 1}, 100)
    assert (set(news.histories), news.gone, news.is_whole) == ({busy, ended}, {gone}, True)
    assert (seqs(news.histories[busy]), news.histories[busy][:2]) == ([3, 4], (4, False))
    assert (seqs(news.histories[ended]), news.histories[ended][:2]) == ([2], (2, True))
    assert read_news(connection, {}, 100) == News({}, set(), is_whole=True)


def test_much_news_comes_in_parts_without_a_gap(connection: Connection) -> None:
    jobs = dict[bytes, int]()
    for _ in range(5):
        job_id = make_job(connection, JobState.RUNNING)
        run_on(connection, job_id, 7)
        jobs[key_of(job_id)] = 1
    sizes = []
    while True:
        news = read_news(connection, jobs, 10)
        sizes.append(sum(len(history.events) for history in news.histories.values()))
        for key, history in news.histories.items():
            assert seqs(history) == [*range(jobs[key] + 1, seqs(history)[-1] + 1)]
            jobs[key] = seqs(history)[-1]
        if news.is_whole:
            break
    assert (set(jobs.values()), sizes) == ({8}, [10, 10, 10, 5])


def test_news_find_each_job_by_its_key_however_young_the_table_was(engine: Engine) -> None:
    """A plan that was made for an empty table would read the grown one whole for each job."""
    with database.autocommit(engine).connect() as connection:
        connection.execute(text("VACUUM ANALYZE job, job_event"))
        for _ in range(12):  # often enough for a driver and a server that keep plans
            read_news(connection, {key_of(NOBODY): 0}, 10)
        jobs = [make_job(connection, JobState.RUNNING) for _ in range(1000)]
        before = scans(connection)
        assert read_news(connection, dict.fromkeys(map(key_of, jobs[::100]), 0), 100).is_whole
        after = scans(connection)
    assert all(after[table] - before[table] <= 1 for table in before)


def scans(connection: Connection) -> dict[str, int]:
    """How often each table was read whole, by statements of this connection and before."""
    connection.execute(text("SELECT pg_stat_force_next_flush()"))
    counts = "SELECT relname, seq_scan FROM pg_stat_user_tables WHERE relname LIKE 'job%'"
    return {row.relname: row.seq_scan for row in connection.execute(text(counts))}
