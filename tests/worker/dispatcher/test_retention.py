"""The dispatcher's own way through what is old: slice by slice, with rests, and then a long one."""

from datetime import timedelta
from pathlib import Path

from sqlalchemy import Engine, text

from jobs import balance
from jobs.files import FileStore
from jobs.retention import SLICE
from jobs.settings import Settings
from tests.jobs.living import submit, succeed
from worker.dispatcher.retention import EVERY, Retention, terms_of

WEEKS = timedelta(days=15)


def test_a_pass_is_made_in_turns(engine: Engine, settings: Settings, tmp_path: Path) -> None:
    with engine.begin() as connection:
        jobs = submit(connection, SLICE, ago=WEEKS)  # an event each, so that they are a slice
        jobs += submit(connection, 1, ago=WEEKS - timedelta(minutes=1))
        for job_id in jobs[:2] + jobs[-1:]:
            succeed(connection, job_id)
        connection.execute(text("UPDATE job SET finished_at = finished_at - :age"), {"age": WEEKS})
    service = Retention(terms_of(settings), FileStore(tmp_path))
    with engine.connect() as connection:
        rest = service.turn(connection)
        assert 0 < rest.least < EVERY
        rests = [service.turn(connection).least for _ in range(2)]
        assert EVERY in rests
        assert balance.compare(connection) == []
        ended = text("SELECT count(*) FROM job WHERE finished_at IS NOT NULL")
        assert connection.execute(ended).scalar_one() == 0
        assert connection.execute(text("SELECT count(*) FROM job")).scalar_one() == SLICE - 2
