"""What became of all jobs of a run."""

from typing import NamedTuple

from pydantic import SecretStr

from bench.servers import Servers
from jobs import database
from jobs.audit import audit
from jobs.settings import Settings

SHOWN = 5  # findings


class Outcome(NamedTuple):
    """Of all jobs that are there."""

    jobs: int
    wrong: int  #: not succeeded, or not in the first attempt


def settings_of(servers: Servers) -> Settings:
    """For our own code on them."""
    broker = SecretStr(f"{servers.redis_url}/0")
    return Settings(database_url=SecretStr(servers.database_url), broker_url=broker)


def outcome(servers: Servers) -> Outcome:
    """Reads the whole table."""
    return Outcome(int(servers.query(_JOBS)), int(servers.query(_WRONG)))


def count_findings(servers: Servers) -> int:
    """Of the audit, however long it takes; the first are printed."""
    engine = database.make_engine(settings_of(servers), name="audit", size=1)
    with engine.connect() as connection:
        connection.exec_driver_sql("SET statement_timeout = 0")
        found = audit(connection).findings
    engine.dispose()
    for each in found[:SHOWN]:
        print(each, flush=True)
    return len(found)


_JOBS = "SELECT count(*) FROM job"
_WRONG = "SELECT count(*) FROM job WHERE state <> 'succeeded' OR attempt <> 1"
