import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from dev.reload import Sources


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with two of the packages, and kinds of its user's beside it."""
    for name in ("api", "jobs", "dev", "shop/kinds"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "__init__.py").touch()
    (tmp_path / "shop" / "__init__.py").write_text("raise RuntimeError('it was imported')\n")
    (tmp_path / "my_kinds.py").write_text("raise RuntimeError('it was imported')\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_packages_and_the_users_kinds_are_source(root: Path) -> None:
    sources = Sources(root, ["shop.kinds", "my_kinds", "not_there"])
    assert sources.has(root / "api" / "app.py")
    assert sources.has(root / "shop" / "kinds" / "mail.py")
    assert sources.has(root / "my_kinds.py")
    assert not sources.has(root / "dev" / "supervisor.py")
    assert not sources.has(root / "conftest.py")


async def changes_while(sources: Sources, act: Callable[[], object], count: int) -> list[Path]:
    """What is told while `act` is done again and again: a watcher takes a moment to begin."""
    told: list[Path] = []

    async def on_change(path: Path) -> None:
        told.append(path)

    watch = asyncio.create_task(sources.watch(on_change))
    async with asyncio.timeout(20):
        while len(told) < count:
            act()
            await asyncio.sleep(0.1)
    watch.cancel()
    return told


@pytest.mark.parametrize("name", ["jobs/states.py", "my_kinds.py", "jobs/welcome.html"])
def test_a_changed_source_is_told(root: Path, name: str) -> None:
    def touch() -> None:
        (root / "notes.md").write_text("no source")
        (root / "conftest.py").write_text("no source either")
        temporary = root / f"{name}.part"
        temporary.write_text("x = 1\n")
        temporary.replace(root / name)  # as editors do it

    told = asyncio.run(changes_while(Sources(root, ["my_kinds"]), touch, 2))
    assert set(told) == {root / name}
