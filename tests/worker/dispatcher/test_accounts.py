"""A dispatcher, or two, keeps the accounts by itself, and says when something is wrong."""

import random

from sqlalchemy import Connection, text

from tests.eventually import eventually
from tests.jobs.living import submit
from tests.worker.dispatcher.conftest import Running


def unaccounted(connection: Connection) -> dict[str, int]:
    rows = connection.execute(text("SELECT reason, jobs FROM account_finding"))
    return {row.reason: row.jobs for row in rows}


def looks(connection: Connection) -> int:
    """How many of the checks have seen everything since they began."""
    count = text("SELECT count(*) FROM account_check WHERE ended_at >= began_at")
    return int(connection.execute(count).scalar_one())


def test_what_is_missing_is_told_until_it_is_back(
    dispatchers: list[Running], eyes: Connection
) -> None:
    submit(eyes, 3)
    eventually(lambda: looks(eyes) == 5, within=60)
    assert unaccounted(eyes) == {}
    by = random.randint(1, 1000)
    count = text("""
        UPDATE intake_total SET accepted = accepted + :by
        WHERE bucket = (SELECT max(bucket) FROM intake_total)
    """)
    told = [running.count("jobs unaccounted for") for running in dispatchers]
    eyes.execute(count, {"by": by})
    eventually(lambda: unaccounted(eyes) == {"missing": by}, within=60)
    for running, before in zip(dispatchers, told, strict=True):
        eventually(lambda r=running, b=before: r.count("jobs unaccounted for") > b, within=60)  # type: ignore[misc]
    eyes.execute(count, {"by": -by})
    eventually(lambda: unaccounted(eyes) == {}, within=60)
    assert all(running.process.poll() is None for running in dispatchers)
