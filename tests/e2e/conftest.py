from collections.abc import Iterator

import pytest

from dev.ports import free_port
from tests.e2e.platform import Platform


@pytest.fixture(scope="session")
def pages_port() -> int:
    """Where an application of our own may serve pages that follow jobs."""
    return free_port()


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory, pages_port: int) -> Iterator[Platform]:
    """One for all tests of a process that end nothing for good."""
    allowed = {"LADING_ALLOWED_ORIGINS": f"http://127.0.0.1:{pages_port}"}
    started = Platform(tmp_path_factory.mktemp("platform"), allowed).start()
    yield started
    left = started.stop()
    started.remove()
    assert left == []
