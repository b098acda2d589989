from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import AuthenticationError

from dev import valkey as module
from dev.errors import DevError
from dev.valkey import EmbeddedValkey, temporary_valkey
from tests.eventually import eventually


def test_what_a_durable_server_has_written_survives_a_kill(tmp_path: Path) -> None:
    with EmbeddedValkey(tmp_path, durable=True) as server:
        with Redis.from_url(server.url) as redis:
            redis.set("bell", "rung")
            assert redis.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        server.kill()
        server.start()
        with Redis.from_url(server.url) as redis:
            assert redis.get("bell") == b"rung"


def test_a_fleeting_server_starts_empty() -> None:
    with temporary_valkey() as server:
        with Redis.from_url(server.url) as redis:
            redis.set("bell", "rung")
        server.stop()
        server.start()
        with Redis.from_url(server.url) as redis:
            assert redis.get("bell") is None


def test_a_password_is_asked_for_and_stands_in_no_process_list(tmp_path: Path) -> None:
    with EmbeddedValkey(tmp_path, password="secret") as server:
        assert "secret" not in " ".join(server.command())
        with Redis.from_url(server.url) as redis:
            assert redis.ping()
        with (
            Redis.from_url(server.url.replace(":secret@", "")) as stranger,
            pytest.raises(AuthenticationError),
        ):
            stranger.ping()


def test_a_killed_server_is_not_ready_and_has_no_pid() -> None:
    with temporary_valkey() as server:
        assert server.is_ready()
        server.kill()
        assert eventually(lambda: not server.is_ready())
        assert server.pid is None


def test_a_machine_without_valkey_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "wheel_folder", lambda _: None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(DevError, match=r"LADING_BROKER_URL.*docker compose"):
        module.find_valkey()
