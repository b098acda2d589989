"""With LADING_RELOAD=1: which files count as source, and when one of them has changed."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterable
from importlib.machinery import PathFinder
from pathlib import Path

from watchfiles import PythonFilter, awatch

PACKAGES = ("api", "console", "worker", "kinds", "jobs", "lading")
_TEMPLATES = (".html", ".j2", ".txt")  # mails and pages are source, too


class Sources:
    """The project's packages and the modules in LADING_KINDS, found without importing them."""

    def __init__(self, root: Path, kinds: Iterable[str]) -> None:
        folders = (root.resolve() / name for name in PACKAGES)
        self.folders = {folder for folder in folders if folder.is_dir()}
        self.files: set[Path] = set()
        search = [str(Path.cwd()), str(root), *sys.path]
        for name in kinds:
            spec = PathFinder.find_spec(name.strip().partition(".")[0], search)
            inner = list(spec.submodule_search_locations or ()) if spec else []
            self.folders.update(Path(folder).resolve() for folder in inner)
            if spec and spec.origin and not inner:
                self.files.add(Path(spec.origin).resolve())

    def has(self, path: Path) -> bool:
        """Whether a change of that file is a reason to reload."""
        return path in self.files or any(path.is_relative_to(folder) for folder in self.folders)

    async def watch(self, on_change: Callable[[Path], Awaitable[None]]) -> None:
        """Calls back with one of the files after each burst of changes, until it is cancelled."""
        one_at_a_time = asyncio.Lock()

        async def follow(paths: Iterable[Path], *, recursive: bool) -> None:
            is_source = PythonFilter(extra_extensions=_TEMPLATES)
            async for changes in awatch(*paths, watch_filter=is_source, recursive=recursive):
                changed = sorted(Path(name) for _, name in changes)
                if sources := [path for path in changed if self.has(path)]:
                    async with one_at_a_time:
                        await on_change(sources[0])

        # An editor replaces a file, so its folder is watched; not below, it may hold a .venv.
        parents = {file.parent for file in self.files}
        async with asyncio.TaskGroup() as group:
            group.create_task(follow(self.folders, recursive=True))
            if parents:
                group.create_task(follow(parents, recursive=False))
