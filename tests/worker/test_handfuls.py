"""Handfuls: quick attempts of one bell, claimed and reported together, lose nothing by it."""

import math
import multiprocessing
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID

import billiard.process
import pytest
import sqlalchemy as sa
from pydantic import SecretStr
from sqlalchemy import Engine

from dev.postgres import EmbeddedPostgres
from jobs import lifecycle
from jobs.attempts import Outcome
from jobs.registry import Registry, load_registry
from jobs.settings import Settings
from jobs.submissions import NewJob
from kinds import MODULES
from tests.api.relay import Relay
from tests.eventually import eventually
from tests.worker.platform import Platform
from worker.board import Running, ThreadBoard
from worker.execute import execute
from worker.handfuls import MOST, WORTH, Sizes
from worker.reports import Reports
from worker.runtime import Runtime
from worker.shared_board import SharedBoard
from worker.watch import ProcessWatch

KIND = "odd.as_told"
WORKER = UUID(int=11)


@pytest.fixture
def runtime(
    line: Relay,
    postgres: EmbeddedPostgres,
    settings: Settings,
    registry: Registry,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Runtime]:
    """Of a pool process, which this one stands for; it takes handfuls from the start."""
    monkeypatch.setattr(billiard.process.current_process(), "index", 0, raising=False)
    monkeypatch.setattr("worker.execute.WORTH", 60.0)  # whatever else the machine does
    url = settings.database_url.get_secret_value().replace(f":{postgres.port}/", f":{line.port}/")
    own = settings.model_copy(update={"database_url": SecretStr(url)})
    runtime = _process(own, registry, SharedBoard.create(1, is_forked=True))
    yield runtime
    runtime.hints.close()
    runtime.engine.dispose()


def _process(settings: Settings, registry: Registry, board: SharedBoard) -> Runtime:
    runtime = Runtime(settings, registry, WORKER, board, forked=True)
    runtime.sizes.learn(KIND, WORTH / MOST)
    return runtime


@pytest.fixture
def told(platform: Platform, notes: Path) -> Callable[..., list[NewJob]]:
    """Jobs that do these things."""
    return lambda *what: [
        platform.submit(KIND, {"path": str(notes), "does": does}) for does in what
    ]


def _make(runtime: Runtime, jobs: Sequence[NewJob]) -> list[str | None]:
    turns = execute(runtime, [(job.id, 1) for job in jobs], KIND)
    return [None if turn.ended is None else str(turn.ended.outcome) for turn in turns]


def _commits(engine: Engine, job: NewJob) -> list[Any]:
    """In which transaction each of its events was written."""
    with engine.connect() as connection:
        statement = sa.text("SELECT xact_id FROM job_event WHERE job_id = :job ORDER BY seq")
        return [*connection.scalars(statement, {"job": job.id})]


def test_a_handful_is_one_claim_and_one_report(
    runtime: Runtime, platform: Platform, engine: Engine, told: Callable[..., list[NewJob]]
) -> None:
    jobs = told("", "", "")
    assert _make(runtime, jobs) == ["succeeded"] * 3
    assert all(platform.types(job) == ["created", "started", "succeeded"] for job in jobs)
    assert len({tuple(_commits(engine, job)[1:]) for job in jobs}) == 1
    assert runtime.board.running() == []


def test_the_report_of_a_handful_brings_the_next_one(
    runtime: Runtime, engine: Engine, told: Callable[..., list[NewJob]]
) -> None:
    first, *_, last = jobs = told(*[""] * (MOST + 1))
    assert _make(runtime, jobs) == ["succeeded"] * (MOST + 1)
    assert _commits(engine, first)[2] == _commits(engine, last)[1]


def test_each_of_a_handful_ends_as_it_does(
    runtime: Runtime, platform: Platform, told: Callable[..., list[NewJob]]
) -> None:
    jobs = told("", "fails", "speaks", "", "brings much")
    platform.cancel(jobs[3])
    assert _make(runtime, jobs) == ["succeeded", "retried", "succeeded", None, "succeeded"]
    assert platform.types(jobs[1]) == ["created", "started", "retrying"]
    assert platform.types(jobs[2]) == ["created", "started", "log", "succeeded"]
    assert platform.types(jobs[3]) == ["created", "cancelled"]
    assert [platform.row(job).result for job in (jobs[0], jobs[4])] == ["", "x" * 1000]
    assert runtime.board.running() == []


def test_a_job_that_is_named_twice_is_made_once(
    runtime: Runtime, platform: Platform, told: Callable[..., list[NewJob]], notes: Path
) -> None:
    one, other = told("", "")
    assert _make(runtime, [one, one, other, one]) == ["succeeded", None, "succeeded", None]
    assert len(notes.read_text().split()) == 2


def test_what_was_begun_before_goes_by_itself(
    runtime: Runtime, platform: Platform, engine: Engine, told: Callable[..., list[NewJob]]
) -> None:
    first, again, last = told("", "", "")
    with engine.begin() as connection:
        lease = runtime.settings.lease
        lifecycle.start(connection, again.id, attempt=1, worker=WORKER, lease=lease)
        lifecycle.crash(connection, again.id, attempt=1, detail="it died")
    attempts = [(first.id, 1), (again.id, 2), (last.id, 1)]
    for turn in execute(runtime, attempts, KIND):
        assert turn.ended is not None
        assert turn.ended.outcome is Outcome.SUCCEEDED
    begun = [_commits(engine, first)[1], _commits(engine, again)[3], _commits(engine, last)[1]]
    assert len({*begun}) == 3


def test_a_locked_row_holds_up_its_own_job_alone(
    runtime: Runtime, platform: Platform, engine: Engine, told: Callable[..., list[NewJob]]
) -> None:
    jobs = told("", "", "")
    with ThreadPoolExecutor(1) as pool:
        with engine.begin() as connection:
            locked = sa.text("SELECT 1 FROM job WHERE id = :job FOR UPDATE")
            connection.execute(locked, {"job": jobs[1].id})
            made = pool.submit(_in_a_process, runtime, jobs)
            eventually(lambda: platform.types(jobs[2])[-1] == "started")
            assert platform.types(jobs[1]) == ["created"]
        assert made.result(30) == ["succeeded"] * 3


def _in_a_process(runtime: Runtime, jobs: Sequence[NewJob]) -> list[str | None]:
    """By another thread: billiard keeps the current process by thread."""
    billiard.process.current_process().index = 0  # type: ignore[attr-defined]
    return _make(runtime, jobs)


Unanswered = Callable[[bytes], tuple[list[NewJob], list[str | None]]]


@pytest.fixture
def unanswered(
    line: Relay, runtime: Runtime, told: Callable[..., list[NewJob]], stay_away: bool
) -> Unanswered:
    """Makes three jobs. The first answer to a statement with that event is lost, or the line."""

    def make(event: bytes) -> tuple[list[NewJob], list[str | None]]:
        jobs = told("", "", "")
        line.lose_reply_to(event, stay_away=stay_away)
        with ThreadPoolExecutor(1) as pool:
            made = pool.submit(_in_a_process, runtime, jobs)
            if stay_away:
                eventually(lambda: line.refused > 1)
                assert len(runtime.board.running()) == len(jobs)
                line.come_back()
            ends = made.result(40)
        assert line.lost == 1
        return jobs, ends

    return make


@pytest.mark.parametrize("stay_away", [False, True])
@pytest.mark.parametrize(
    ("unheard", "outcome", "last"),
    [("started", None, "interrupted"), ("succeeded", "succeeded", "succeeded")],
)
def test_a_handful_that_has_no_answer_is_given_back_or_counts(
    unanswered: Unanswered, platform: Platform, unheard: str, outcome: str | None, last: str
) -> None:
    """A claim is given back; a report stands."""
    jobs, ends = unanswered(unheard.encode())
    assert ends == [outcome] * 3
    assert all(platform.types(job) == ["created", "started", last] for job in jobs)


class Watched:
    """A pool process of its own that makes one list, and its parent's watch."""

    def __init__(self, settings: Settings, registry: Registry, jobs: Sequence[NewJob]) -> None:
        board = SharedBoard.create(1, is_forked=False)
        self.process = multiprocessing.get_context("spawn").Process(
            target=_run, args=(settings, jobs), daemon=True
        )
        self.process.start()
        self.reports = Reports(settings, registry, WORKER)
        self.watch = ProcessWatch(settings, board, self.reports, lambda: None)
        self.watch.begin(lambda: None)

    def close(self) -> None:
        self.watch.close()
        assert self.reports.drain(30)
        self.process.join(30)
        assert self.process.exitcode is not None
        self.watch.board.close()


def _run(settings: Settings, jobs: Sequence[NewJob]) -> None:
    billiard.process.current_process().index = 0  # type: ignore[attr-defined]
    registry = load_registry((*MODULES, *settings.kinds))
    runtime = _process(settings, registry, SharedBoard.inherited())
    _make(runtime, jobs)
    runtime.hints.close()


@pytest.fixture
def watched(
    settings: Settings, registry: Registry
) -> Iterator[Callable[[Sequence[NewJob]], Watched]]:
    made: list[Watched] = []

    def begin(jobs: Sequence[NewJob]) -> Watched:
        made.append(Watched(settings, registry, jobs))
        return made[-1]

    yield begin
    for each in made:
        each.close()


def _outcomes(platform: Platform, jobs: Sequence[NewJob]) -> list[str]:
    return [outcome for job in jobs for _, outcome, _ in platform.attempts(job)]


def _runs(notes: Path, jobs: Sequence[NewJob]) -> list[int]:
    lines = Counter(notes.read_text().split())
    return [lines[str(job.id)] for job in jobs]


def test_of_a_killed_process_what_was_done_counts_and_what_had_not_begun_has_not_crashed(
    platform: Platform,
    told: Callable[..., list[NewJob]],
    watched: Callable[[Sequence[NewJob]], Watched],
    notes: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("worker.watch.LONG", 60.0)  # else who stands still loses the others
    jobs = told("", "speaks", "dies", "", "")
    watched(jobs)
    ends = ["succeeded", "succeeded", "crashed", "interrupted", "interrupted"]
    eventually(lambda: _outcomes(platform, jobs) == ends, within=30)
    assert _runs(notes, jobs) == [1, 1, 1, 0, 0]
    assert [platform.row(job).result for job in jobs[:2]] == ["", "speaks"]
    assert [platform.row(job).crashes for job in jobs] == [0, 0, 1, 0, 0]


def test_a_process_that_dies_before_it_begins_counts_one_crash(
    platform: Platform,
    settings: Settings,
    registry: Registry,
    engine: Engine,
    told: Callable[..., list[NewJob]],
) -> None:
    jobs = told("", "", "")
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    board, reports = ThreadBoard(), Reports(settings, registry, WORKER)
    watch = ProcessWatch(settings, board, reports, lambda: None)
    for number, job in enumerate(jobs):
        with engine.begin() as connection:
            lifecycle.start(connection, job.id, attempt=1, worker=WORKER, lease=settings.lease)
        board.write(Running(child.pid, job.id, 1, time.monotonic() + number, math.inf))
    watch.begin(lambda: None)
    child.kill()
    eventually(lambda: len(_outcomes(platform, jobs)) == 3, within=30)
    assert _outcomes(platform, jobs) == ["crashed", "interrupted", "interrupted"]
    watch.close()
    child.wait(30)
    assert reports.drain(30)


def test_whose_turn_takes_long_holds_up_nobody(
    platform: Platform,
    told: Callable[..., list[NewJob]],
    watched: Callable[[Sequence[NewJob]], Watched],
    notes: Path,
) -> None:
    jobs = told("", "brings much", "", "waits", "", "")
    watched(jobs)
    last = ["succeeded"] * 3 + ["started"] + ["interrupted"] * 2
    eventually(lambda: [platform.types(job)[-1] for job in jobs] == last, within=30)
    Path(f"{notes}.go").touch()
    eventually(lambda: platform.types(jobs[3])[-1] == "succeeded", within=30)
    assert _runs(notes, jobs) == [1, 1, 1, 1, 0, 0]
    assert [len(platform.attempts(job)) for job in jobs] == [1] * 6


def test_a_worker_that_stops_reports_what_is_done(
    platform: Platform,
    told: Callable[..., list[NewJob]],
    watched: Callable[[Sequence[NewJob]], Watched],
    notes: Path,
) -> None:
    jobs = told("", "waits", "")
    worker = watched(jobs)
    eventually(lambda: notes.exists() and _runs(notes, jobs) == [1, 1, 0], within=30)
    worker.watch.stop_now()
    last = ["succeeded", "interrupted", "interrupted"]
    eventually(lambda: [platform.types(job)[-1] for job in jobs] == last, within=30)
    worker.process.join(30)
    assert _runs(notes, jobs) == [1, 1, 0]


def test_who_begins_although_it_was_withdrawn_gives_it_back(
    runtime: Runtime, platform: Platform, told: Callable[..., list[NewJob]], notes: Path
) -> None:
    """As its parent says so just when it begins."""
    jobs = told("", "")
    board, heard = runtime.board, runtime.board.heard
    runtime.board.heard = lambda *key: heard(*key)._replace(is_withdrawn=key == (jobs[1].id, 1))  # type: ignore[method-assign]
    assert _make(runtime, jobs) == ["succeeded", None]
    assert platform.types(jobs[1]) == ["created", "started", "interrupted"]
    assert _runs(notes, jobs) == [1, 0]
    assert board.running() == []


def test_how_many_are_a_handful() -> None:
    sizes = Sizes()
    assert sizes.of(KIND) == 1
    sizes.learn(KIND, WORTH / 4)
    assert sizes.of(KIND) == 4
    sizes.learn(KIND, 3600.0)
    assert sizes.of(KIND) == 1
    for _ in range(64):
        sizes.learn(KIND, 0.0)
    assert sizes.of(KIND) == MOST
    assert sizes.of("another") == 1
