"""How a pool process ended, seen before whoever reaps it has done so."""

import os
import re

from billiard.common import human_status

REAPED = ""  # it is gone, and somebody else knows how
_LOST = re.compile(r"prematurely: (.*?)(?: Job: \d+)?\.?$")  # billiard's WorkerLostError
TERMINATED = frozenset({human_status(-15), human_status(15)})  # as the pool's handler exits, too


def look(pid: int) -> str | None:
    """None while the child lives; else how it ended, or REAPED. It is left to be reaped."""
    if not hasattr(os, "waitid"):  # macOS before Python 3.13: the pool tells when it has reaped it
        return None
    try:
        result = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return REAPED
    if result is None:
        return None
    exited = result.si_code == os.CLD_EXITED
    return str(human_status(result.si_status if exited else -result.si_status))


def said(words: str) -> str:
    """The same from what the pool says of a lost process."""
    found = _LOST.search(words)
    return found[1] if found else words
