from collections.abc import Iterator

import pytest

from tests.e2e.platform import Platform


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """One for all tests of a process that end nothing for good."""
    started = Platform(tmp_path_factory.mktemp("platform")).start()
    yield started
    left = started.stop()
    started.remove()
    assert left == []
