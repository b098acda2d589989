import sys
from pathlib import Path

import pytest

from jobs.registry import Registry, load_registry, runs_on_threads
from lading import JobContext, job
from tests.kinds_for_tests import Echo, echo


def test_a_module_brings_its_kinds_in_order_of_their_names() -> None:
    registry = load_registry(["tests.kinds_for_tests"])
    assert list(registry) == sorted(registry)
    assert registry["test.echo"].handler is echo


def test_a_packages_submodules_are_looked_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "mine_for_test"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "deep.py").write_text("from tests.kinds_for_tests import echo\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert list(load_registry(["mine_for_test"])) == ["test.echo"]
    del sys.modules["mine_for_test"], sys.modules["mine_for_test.deep"]


def test_a_name_cannot_be_claimed_twice() -> None:
    @job("test.echo")
    def other(context: JobContext, args: Echo) -> None: ...

    with pytest.raises(ValueError, match="is handled by"):
        Registry([other.__lading_kind__, echo.__lading_kind__])  # type: ignore[attr-defined]


def test_threads_cannot_limit_memory() -> None:
    @job("test.large", queue="io.large", memory_limit="1GiB")
    def large(context: JobContext, args: Echo) -> None: ...

    with pytest.raises(ValueError, match=r"test.large cannot have a memory_limit: io.large"):
        Registry([large.__lading_kind__])  # type: ignore[attr-defined]


def test_the_queue_decides_the_pool() -> None:
    registry = load_registry(["tests.kinds_for_tests"])
    assert registry.queues(on_threads=True) == ["io"]
    assert registry.queues(on_threads=False) == ["default"]
    assert runs_on_threads("io.slow")
    assert not runs_on_threads("iota")
