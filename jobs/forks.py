"""Forks beside threads: a child inherits every lock as it stands, without the thread that holds it.

Libraries are full of locks: of modules being imported, of SQLAlchemy's mappers, of drivers. A child
that needs one of them would wait for ever. So the threads of a process that forks are `busy` while
they use a library, not while they wait for something to do; and a fork waits for those.
See POSIX on fork(), and Python's documentation of os.register_at_fork.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

PATIENCE = 2.0  # seconds; PostgreSQL may hang, and a pool's dead must be replaced nevertheless


class _Forks:
    """Those of this process."""

    def __init__(self) -> None:
        self.busy = 0  #: threads
        self.changed = threading.Condition()

    def before(self) -> None:
        self.changed.acquire()
        self.changed.wait_for(lambda: self.busy == 0, PATIENCE)

    def after_in_parent(self) -> None:
        self.changed.release()

    def after_in_child(self) -> None:
        self.__init__()  # type: ignore[misc]


_FORKS = _Forks()  # a process forks as a whole


def guard() -> None:
    """From now on, for as long as this process lives, a fork waits for the busy threads."""
    os.register_at_fork(
        before=_FORKS.before,
        after_in_parent=_FORKS.after_in_parent,
        after_in_child=_FORKS.after_in_child,
    )


@contextmanager
def busy() -> Iterator[None]:
    """No fork meanwhile, unless it takes longer than two seconds. Not for a thread that forks."""
    with _FORKS.changed:
        _FORKS.busy += 1
    try:
        yield
    finally:
        with _FORKS.changed:
            _FORKS.busy -= 1
            _FORKS.changed.notify_all()
