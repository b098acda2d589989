"""Folders for what an attempt downloads, unpacks and spills: gone when it ends, however it ends."""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PREFIX = "lading-data-"
NEWBORN = 60.0  # seconds that a folder may have no lock yet


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """An empty folder on disk (TMPDIR, else /var/tmp: /tmp may be memory), gone afterwards.

    It is locked (`flock`) while it is in use. What processes killed with -9 have left there, and
    nobody holds any more, is removed first.
    """
    place = _place()
    _sweep(place)
    with tempfile.TemporaryDirectory(
        prefix=PREFIX, dir=place, ignore_cleanup_errors=True
    ) as folder:
        held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with suppress(OSError):  # NFS has no locks of folders: nobody sweeps there either
                fcntl.flock(held, fcntl.LOCK_EX)
            yield Path(folder)
        finally:
            os.close(held)


def _place() -> Path:
    persistent = Path("/var/tmp")  # noqa: S108 - a folder with a random name is made inside
    if "TMPDIR" in os.environ or not persistent.is_dir():
        return Path(tempfile.gettempdir())
    return persistent


def _sweep(place: Path) -> None:
    for left in place.glob(f"{PREFIX}*"):
        with suppress(OSError):  # somebody else's, or gone meanwhile
            if time.time() - left.stat().st_mtime > NEWBORN:
                _remove_unless_held(left)


def _remove_unless_held(left: Path) -> None:
    held = os.open(left, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(left, ignore_errors=True)
    finally:
        os.close(held)
