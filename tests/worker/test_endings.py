"""How attempts end whose handlers raise what few should, and whose ends cannot be stored."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy import Engine

from jobs import lifecycle
from jobs.attempts import Outcome
from jobs.audit import audit
from jobs.database import is_unavailable
from jobs.errors import DatabaseUnavailable
from jobs.registry import Registry
from jobs.settings import Settings
from jobs.states import JobState
from tests.eventually import eventually
from tests.worker.attempting import make, outcome_of
from tests.worker.platform import Platform
from worker.board import ThreadBoard
from worker.lines import Lines
from worker.patience import until_answered
from worker.runtime import Runtime

SHORT = timedelta(milliseconds=1)  # a lease that the test's server has been up for


@pytest.fixture
def runtime(settings: Settings, registry: Registry) -> Iterator[Runtime]:
    """This process makes attempts, as one of a threads pool."""
    runtime = Runtime(settings, registry, uuid4(), ThreadBoard(), forked=False)
    yield runtime
    runtime.hints.close()
    runtime.engine.dispose()


@pytest.mark.parametrize("kind", ["odd.raises", "odd.raises_io", "odd.raises_beside_io"])
@pytest.mark.parametrize(
    "name",
    ["SystemExit", "KeyboardInterrupt", "GeneratorExit", "MemoryError", "RecursionError"],
)
def test_whatever_a_handler_raises_is_a_failure(
    runtime: Runtime, platform: Platform, kind: str, name: str
) -> None:
    job = platform.submit(kind, {"name": name})
    assert outcome_of(runtime, job) is Outcome.FAILED
    row = platform.row(job)
    assert (row.state, row.failures, row.crashes) == (JobState.FAILED, 1, 0)
    assert (row.error["cause"], row.error["type"]) == ("exception", name)
    after = platform.submit("test.echo_io", {"value": 1})
    assert outcome_of(runtime, after) is Outcome.SUCCEEDED


def test_endless_recursion_is_a_failure(runtime: Runtime, platform: Platform) -> None:
    job = platform.submit("odd.recurses")
    make(runtime, job)
    assert platform.row(job).error["type"] == "RecursionError"


def test_an_end_that_cannot_be_stored_is_a_failure_for_good(
    runtime: Runtime, platform: Platform
) -> None:
    job = platform.submit("odd.much_later")
    assert outcome_of(runtime, job) is Outcome.FAILED
    row = platform.row(job)
    assert (row.state, row.failures) == (JobState.FAILED, 1)
    assert "retried, cannot be stored" in row.error["message"]
    assert platform.attempts(job) == [(1, "failed", "exception")]


def test_a_late_report_changes_nothing_but_the_word_for_its_attempt(
    runtime: Runtime, platform: Platform, engine: Engine, notes: Path
) -> None:
    job = platform.submit("test.waits", {"path": str(notes), "seconds": 30})
    with ThreadPoolExecutor(1) as pool:
        late = pool.submit(outcome_of, runtime, job)
        eventually(notes.exists)
        platform.execute("UPDATE job SET lease_until = now() WHERE id = :id", id=job.id)
        with engine.begin() as connection:
            lifecycle.rescue(connection, 10, SHORT)
        assert platform.attempts(job) == [(1, "crashed", "crashed")]
        before = platform.row(job), platform.events(job)
        Path(f"{notes}.go").touch()
        assert late.result(15) is Outcome.LEASE_LOST
    assert (platform.row(job), platform.events(job)) == before
    assert platform.attempts(job) == [(1, "lease_lost", "crashed")]
    assert outcome_of(runtime, job, 2) is Outcome.SUCCEEDED
    with engine.connect() as connection:
        assert [each for each in audit(connection).findings if each.job_id == job.id] == []


def test_whoever_finds_no_line_free_asks_again(engine: Engine) -> None:
    lines = Lines(engine, 1, within=SHORT)

    def question() -> int:
        with lines.line() as connection:
            return int(connection.execute(sa.text("SELECT 1")).scalar_one())

    with lines.line(), pytest.raises(DatabaseUnavailable):
        until_answered(question, 0.01)
    assert until_answered(question, 0.01) == 1


def test_a_standby_is_no_database_yet(engine: Engine) -> None:
    with engine.connect() as connection:
        connection.execute(sa.text("SET TRANSACTION READ ONLY"))
        with pytest.raises(sa.exc.InternalError) as caught:
            connection.execute(sa.text("DELETE FROM job"))
    assert is_unavailable(caught.value)
