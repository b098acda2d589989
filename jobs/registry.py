"""Which kinds there are: those that the built-in and the operator's modules bring."""

import importlib
import pkgutil
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType, ModuleType

from jobs.timing import Cron, NoTiming
from lading.authoring import Kind, find_kind

IO_QUEUE = "io"  # it and `io.*` run on threads, every other queue on processes


class Registry(Mapping[str, Kind]):
    """The kinds of one process by name, in order of their names. It does not change."""

    def __init__(self, kinds: Iterable[Kind]) -> None:
        """ValueError: two handlers claim a name, threads are to limit memory, or a bad schedule."""
        found: dict[str, Kind] = {}
        for kind in kinds:
            if found.setdefault(kind.name, kind).handler is not kind.handler:
                first, second = found[kind.name].handler, kind.handler
                raise ValueError(f"{kind.name} is handled by {first!r} and by {second!r}")
            if kind.memory_limit is not None and runs_on_threads(kind.queue):
                raise ValueError(
                    f"{kind.name} cannot have a memory_limit: {kind.queue} runs on threads"
                )
            if kind.schedule is not None:
                try:
                    Cron(kind.schedule.cron, kind.schedule.timezone).check()
                except NoTiming as flaw:
                    raise ValueError(f"the {flaw.field} of {kind.name}: {flaw}") from flaw
        self._kinds = MappingProxyType(dict(sorted(found.items())))

    def __getitem__(self, name: str) -> Kind:
        return self._kinds[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._kinds)

    def __len__(self) -> int:
        return len(self._kinds)

    def queues(self, *, on_threads: bool) -> list[str]:
        """The queues of its kinds that the pool in question serves."""
        names = {kind.queue for kind in self._kinds.values()} | {
            IO_QUEUE if on_threads else "default"
        }
        return sorted(name for name in names if runs_on_threads(name) == on_threads)


def runs_on_threads(queue: str) -> bool:
    """Whether the threads pool serves the queue; the prefork pool serves all others."""
    return queue == IO_QUEUE or queue.startswith(f"{IO_QUEUE}.")


def load_registry(modules: Iterable[str]) -> Registry:
    """The kinds that these modules, and the submodules of those that are packages, bring.

    ImportError as the import raises it; ValueError for a name that is claimed twice.
    """
    return Registry(
        kind
        for name in modules
        for module in _with_submodules(importlib.import_module(name))
        for value in vars(module).values()
        if (kind := find_kind(value)) is not None
    )


def _with_submodules(module: ModuleType) -> Iterator[ModuleType]:
    yield module
    for found in pkgutil.walk_packages(getattr(module, "__path__", []), f"{module.__name__}."):
        yield importlib.import_module(found.name)
