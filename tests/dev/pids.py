"""Whether processes are gone."""

import psutil


def lives(pid: int | None) -> bool:
    """Runs, or is stopped; one that nobody has waited for yet does not count."""
    if pid is None:
        return False
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
