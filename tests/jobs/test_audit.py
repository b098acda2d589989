"""An audit finds each kind of damage, and none where everything went its legal way."""

import json
import random
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from uuid import UUID

import pytest
from sqlalchemy import Connection, Engine, text

from jobs import accounts, balance
from jobs.audit import CHECKS, audit
from jobs.audit.__main__ import main
from jobs.audit.snapshot import inspect
from jobs.database import autocommit
from jobs.errors import JobsError
from jobs.ids import FIRST
from jobs.settings import Settings
from tests.jobs.damage import DAMAGES, damage, make_jobs
from tests.jobs.living import live, remove, submit
from tests.jobs.making import LEASE
from tests.jobs.overseeing import BRIEF, look, oversee


@pytest.fixture(scope="module")
def jobs(engine: Engine) -> dict[str, UUID]:
    """Healthy ones, by what they have lived through, overseen by a dispatcher."""
    with engine.begin() as connection:
        oversee(connection)
        return make_jobs(connection)


def test_lawful_lives_leave_no_trace(engine: Engine) -> None:
    chance = random.Random(1)
    with engine.begin() as connection:
        living = submit(connection, 12)
    with autocommit(engine).connect() as connection:
        for _ in range(400):
            live(connection, chance.choice(living), chance)
    with engine.connect() as connection:
        seen = audit(connection)
    assert seen.findings == []
    assert seen.jobs >= 12
    assert seen.events > 50


def test_what_is_well_is_found_well(jobs: dict[str, UUID], connection: Connection) -> None:
    assert inspect(connection, BRIEF).findings == []
    assert look(connection) == {}


@pytest.mark.parametrize("kind", DAMAGES)
def test_each_kind_of_damage_is_found(
    jobs: dict[str, UUID], connection: Connection, kind: str
) -> None:
    wanted = {*DAMAGES[kind].found}
    damage(connection, kind, jobs[DAMAGES[kind].kind])
    assert {finding.check for finding in inspect(connection, BRIEF).findings} == wanted
    found = {*look(connection)}
    assert found <= wanted
    assert bool(found) == bool(wanted & {*accounts.REASONS})


def test_every_check_has_its_damage() -> None:
    assert {check for each in DAMAGES.values() for check in each.found} == {*CHECKS}
    assert {*accounts.REASONS} < {*CHECKS}


def test_racing_submits_moves_and_deletes_are_no_damage(engine: Engine) -> None:
    over = Event()

    def use(number: int) -> int:
        chance, mine = random.Random(number), list[UUID]()
        with autocommit(engine).connect() as connection:
            while not over.is_set():
                if len(mine) < 20:
                    mine += submit(connection, chance.randint(1, 3))
                job_id = chance.choice(mine)
                live(connection, job_id, chance)
                if chance.random() < 0.3:
                    with suppress(JobsError):
                        remove(connection, job_id)
                        mine.remove(job_id)
        return len(mine)

    with ThreadPoolExecutor(3) as pool:
        users = [pool.submit(use, number) for number in range(3)]
        try:
            for _ in range(6):
                with engine.connect() as connection:
                    assert audit(connection).findings == []
                with engine.begin() as connection:
                    balance.settle(connection, datetime.now(UTC) + timedelta(hours=1))
                with engine.begin() as connection:
                    assert look(connection, size=50, lease=LEASE) == {}
        finally:
            over.set()
    assert sum(user.result() for user in users)
    with engine.connect() as connection:
        seen = audit(connection)
    assert (seen.findings, seen.jobs > 10) == ([], True)


def test_the_command_tells_what_it_found(
    jobs: dict[str, UUID],
    settings: Settings,
    engine: Engine,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("LADING_DATABASE_URL", settings.database_url.get_secret_value())
    assert main([]) == 0
    assert capsys.readouterr().out.endswith("UTC: clean\n")
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO intake_total VALUES ('ab', :id, 1)"), {"id": FIRST})
    assert main([]) == 1
    assert capsys.readouterr().out.endswith("UTC: 1 findings\n")
    assert main(["--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert [finding["check"] for finding in document["findings"]] == ["missing"]
    assert {check for check, count in document["counts"].items() if count} == {"missing"}
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM intake_total WHERE bucket = 'ab'"))


def test_the_command_says_that_the_database_is_away(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LADING_DATABASE_URL", "postgresql://127.0.0.1:1/none")
    assert main([]) == 3
    monkeypatch.delenv("LADING_DATABASE_URL")
    monkeypatch.setenv("LADING_DATA_DIR", str(tmp_path))
    assert main([]) == 3
    (tmp_path / "dev.json").write_text('{"database_url": "postgresql://127.0.0.1:1/none"}')
    assert main([]) == 3
