"""Keys: their text, their rows, and the command that makes the first one."""

import os
import string
import subprocess
import sys
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, text

from jobs.errors import KeyGone, KeyMissing
from jobs.keys.limits import KeyLimits
from jobs.keys.scopes import Scope
from jobs.keys.store import (
    create_key,
    delete_key,
    find_existing,
    find_key,
    list_keys,
    require_key,
    touch_key,
)
from jobs.keys.text import make_key, parse_key, shown
from jobs.settings import Settings

KEY = make_key()


def test_a_made_key_is_read_back() -> None:
    key = make_key()
    assert parse_key(key.text) == key
    assert len(key.text) == 53
    assert key.text.startswith(shown(key.id))
    assert make_key().text != key.text


@given(
    at=st.integers(0, len(KEY.text) - 1),
    other=st.sampled_from(string.ascii_letters + string.digits + "_ é"),
)
def test_a_typo_is_seen_without_a_query(at: int, other: str) -> None:
    mistyped = f"{KEY.text[:at]}{other}{KEY.text[at + 1 :]}"
    assert (parse_key(mistyped) is None) == (mistyped != KEY.text)


@pytest.mark.parametrize(
    "given",
    ["", "lading_", KEY.text[:-1], f"{KEY.text} ", KEY.text[7:]],
    ids=["empty", "prefix", "short", "long", "bare"],  # a key is another one in each process
)
def test_what_has_another_form_is_no_key(given: str) -> None:
    assert parse_key(given) is None


def test_a_key_is_stored_as_a_hash_and_found_by_its_text(connection: Connection) -> None:
    made, given = create_key(connection, "default", "mine", [Scope.JOBS_READ])
    key = parse_key(given)
    assert key is not None
    assert find_key(connection, key) == made
    assert made.scopes == ["jobs:read"]
    row = connection.execute(text("SELECT * FROM api_key WHERE id = :id"), {"id": made.id}).one()
    assert key.text not in str(row)
    assert key.text[17:] not in str(row)
    other = make_key()
    assert find_key(connection, key._replace(hash=other.hash)) is None
    assert find_key(connection, other) is None


def test_a_key_is_listed_and_deleted_in_its_project_alone(connection: Connection) -> None:
    made, _ = create_key(connection, "one", "first")
    second, _ = create_key(connection, "one", "second")
    assert list_keys(connection, "one") == [second, made]
    assert list_keys(connection, "two") == []
    with pytest.raises(KeyMissing):
        delete_key(connection, "two", made.id)
    delete_key(connection, "one", made.id)
    assert list_keys(connection, "one") == [second]


def test_an_expired_key_is_not_found(connection: Connection) -> None:
    ended = KeyLimits(expires_at=datetime(2001, 1, 1, tzinfo=UTC))
    made, given = create_key(connection, "default", "ended", limits=ended)
    good, _ = create_key(connection, "default", "good")
    key = parse_key(given)
    assert key is not None
    assert find_key(connection, key) is None
    assert find_existing(connection, {made.id, good.id}) == {good.id}
    require_key(connection, good.id)
    with pytest.raises(KeyGone):
        require_key(connection, made.id)


def test_the_last_use_is_written_once_a_minute(connection: Connection) -> None:
    made, _ = create_key(connection, "default", "used")

    def used() -> object:
        return list_keys(connection, "default")[0].last_used_at

    assert used() is None
    touch_key(connection, made.id)
    first = used()
    assert first is not None
    touch_key(connection, made.id)
    assert used() == first
    connection.execute(text("UPDATE api_key SET last_used_at = last_used_at - interval '61 s'"))
    touch_key(connection, made.id)
    assert used() != first


def keys(settings: Settings, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    env = {
        **os.environ,
        "LADING_DATABASE_URL": settings.database_url.get_secret_value(),
        "LADING_BROKER_URL": settings.broker_url.get_secret_value(),
    }
    command = [sys.executable, "-m", "jobs.keys", *arguments]
    return subprocess.run(
        command, env=env, input=given, capture_output=True, text=True, check=False
    )


def test_the_command_makes_a_key_and_knows_it_again(settings: Settings, engine: Engine) -> None:
    made = keys(settings, "create", "--name", "dev", "--project", "ours")
    assert made.returncode == 0, made.stderr
    assert parse_key(made.stdout.removesuffix("\n")) is not None
    assert keys(settings, "check", given=made.stdout).returncode == 0
    assert keys(settings, "check", given=make_key().text).returncode == 1
    assert keys(settings, "check", given="nonsense").returncode == 1
    with engine.connect() as connection:
        assert [key.name for key in list_keys(connection, "ours")] == ["dev"]


def test_the_command_says_when_the_database_is_away(settings: Settings) -> None:
    away = settings.model_copy(
        update={"database_url": type(settings.database_url)("postgresql://127.0.0.1:1/x")}
    )
    asked = keys(away, "create", "--name", "dev")
    assert (asked.returncode, asked.stdout) == (3, "")
    assert "does not answer" in asked.stderr
