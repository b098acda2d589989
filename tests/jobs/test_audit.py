"""An audit finds each kind of damage, and none where everything went its legal way."""

import random

from sqlalchemy import Engine

from jobs.audit import audit
from tests.jobs.living import live, submit


def test_lawful_lives_leave_no_trace(engine: Engine) -> None:
    chance = random.Random(1)
    with engine.begin() as connection:
        jobs = submit(connection, 12)
    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        for _ in range(500):
            live(connection, chance.choice(jobs), chance)
    with engine.connect() as connection:
        seen = audit(connection)
    assert seen.findings == []
    assert seen.jobs == 12
    assert seen.events > 100
