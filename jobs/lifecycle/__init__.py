"""Every change of a job's state, one function per move.

A move is one statement: under a guard it changes the row, takes the next `seq` from it, inserts the
event and, where an attempt ends, its row; or it finds no row and changes nothing. Then a move that
names its attempt raises LeaseLost, any other JobNotFound or InvalidTransition. Since each is one
statement, an autocommit connection is enough; nothing here commits. Row locks only, never two jobs
at once but in pairs, and in sweeps and groups, which skip what is locked.
"""

from jobs.lifecycle.asked import cancel, cancel_idle, retry, run_now
from jobs.lifecycle.groups import settle
from jobs.lifecycle.pairs import Next, Success, start, succeed, succeed_and_start
from jobs.lifecycle.priority import reprioritise
from jobs.lifecycle.reports import (
    cancel_running,
    crash,
    fail,
    interrupt,
    record_log,
    record_progress,
    record_step,
    retry_later,
)
from jobs.lifecycle.statements import Claim, Moved
from jobs.lifecycle.sweeps import (
    cancel_let_down,
    cancel_of_batch,
    expire_due,
    look_for_lost,
    release_due,
    release_let_go,
    rescue,
)

__all__ = [
    "Claim",
    "Moved",
    "Next",
    "Success",
    "cancel",
    "cancel_idle",
    "cancel_let_down",
    "cancel_of_batch",
    "cancel_running",
    "crash",
    "expire_due",
    "fail",
    "interrupt",
    "look_for_lost",
    "record_log",
    "record_progress",
    "record_step",
    "release_due",
    "release_let_go",
    "reprioritise",
    "rescue",
    "retry",
    "retry_later",
    "run_now",
    "settle",
    "start",
    "succeed",
    "succeed_and_start",
]
