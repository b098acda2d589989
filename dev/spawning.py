"""How a child is started: in a session of its own, as whom, and never outliving its parent.

A session of its own keeps the terminal's Ctrl-C away from it: only its parent ends it, in order.
On Linux the kernel signals it when the parent dies, however that happened.
"""

import ctypes
import os
import pwd
import signal
import sys
from dataclasses import dataclass
from typing import Any

_PR_SET_PDEATHSIG = 1  # <sys/prctl.h>
_libc = ctypes.CDLL(None)  # loaded before any fork: between fork and exec nothing may be


@dataclass(frozen=True, slots=True)
class Account:
    """The user that a child runs as."""

    name: str
    uid: int
    gid: int


def unprivileged_account() -> Account | None:
    """Where we are root: the account for servers that refuse root. Else None: our own will do."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    return Account("nobody", 65534, 65534)


def as_account(account: Account | None) -> dict[str, Any]:
    """Keyword arguments of subprocess.Popen that drop root for the account's rights."""
    if account is None:
        return {}
    return {"user": account.uid, "group": account.gid, "extra_groups": []}


def child_options(
    account: Account | None = None, death_signal: int = signal.SIGTERM
) -> dict[str, Any]:
    """Keyword arguments of subprocess.Popen for a child that ends with the calling *thread*.

    Linux sends `death_signal` when the thread that started the child ends, so start children from
    one that lives as long as they shall.
    """
    options = as_account(account) | {"start_new_session": True}
    if sys.platform == "linux":
        parent = os.getpid()
        # Runs after the change of user, which would clear the setting (prctl(2)).
        options["preexec_fn"] = lambda: _die_with(parent, death_signal)
    return options


def _die_with(parent: int, death_signal: int) -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, death_signal)
    if os.getppid() != parent:  # it died before the kernel knew
        os._exit(1)


def is_alive(pid: int) -> bool:
    """Whether a process of that id runs, ours or not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
