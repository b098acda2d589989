"""How a command ends: its exit code, and what stderr says."""

import os
import sys
from collections.abc import Sequence

from lading.cli.words import plain
from lading.client import (
    DamagedFile,
    JobFailed,
    LadingError,
    ProblemError,
    ServerError,
    UnexpectedAnswer,
    Unreachable,
    ValidationFailed,
)

OK, JOB_FAILED, USAGE, UNREACHABLE = 0, 1, 2, 3
INTERRUPTED = 130  # 128 + SIGINT, as shells have it
_OTHER_SIDE = (Unreachable, ServerError, UnexpectedAnswer, DamagedFile)


def code_of(error: LadingError | OSError) -> int:
    """What the process exits with after this error."""
    if isinstance(error, JobFailed):
        return JOB_FAILED
    return UNREACHABLE if isinstance(error, _OTHER_SIDE) else USAGE


def code_of_state(state: str) -> int:
    """What the process exits with after the job has ended like this."""
    return OK if state == "succeeded" else JOB_FAILED


def report(error: LadingError | OSError) -> int:
    """Stderr says what went wrong, for people; the exit code is returned."""
    for line in _lines(error):
        tell(line)
    return code_of(error)


def tell(words: str) -> None:
    """A line for people, beside the results."""
    print(plain(words), file=sys.stderr)  # noqa: T201


def tell_person(words: str) -> None:
    """A hint that only somebody at a terminal needs."""
    if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        tell(words)


def _lines(error: LadingError | OSError) -> Sequence[str]:
    lines = [str(error), *getattr(error, "__notes__", ())]
    if isinstance(error, ValidationFailed) and len(error.errors) > 1:
        lines = [f"{flaw.pointer}: {flaw.detail}" for flaw in error.errors]
    if isinstance(error, ProblemError) and error.request_id:
        lines.append(f"({error.status} {error.code}, request {error.request_id})")
    return lines
