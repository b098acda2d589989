"""How long the platform took after a fault, read from the effects.

`again`: until every job whose handler the fault cut short has been started again; of several faults
the slowest. `flow`: from a fault's end until a second in which jobs ended as fast as they are
submitted, or until nothing was left to do.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise

from chaos.effects import END, START, Effect
from chaos.faults import Fault

FULL = 0.8  # of the rate of submission: jobs arrive and end in bunches
WINDOW = 1.0  # seconds


def again(
    effects: Mapping[str, Sequence[Effect]], faults: Sequence[Fault]
) -> tuple[float, str] | None:
    """Seconds, and the job that waited so long; None where no handler was cut short."""
    waits = [
        (wait, job_id)
        for job_id, lines in effects.items()
        for first, second in pairwise(_starts(lines))
        for fault in faults
        if (wait := _wait(lines, first, second, fault)) is not None
    ]
    return max(waits, default=None)


def flow(
    effects: Mapping[str, Sequence[Effect]], faults: Sequence[Fault], rate: float, until: float
) -> float | None:
    """Seconds; `until` is when the load ended; None where there was no fault during it."""
    ends = sorted(e.at for lines in effects.values() for e in lines if e.word == END)
    if not ends or not rate:
        return None
    waits = [_until_full(ends, fault.over_at, rate) for fault in faults if fault.over_at < until]
    return max(waits, default=None)


def _starts(lines: Sequence[Effect]) -> list[Effect]:
    return [line for line in lines if line.word == START]


def _wait(lines: Sequence[Effect], first: Effect, second: Effect, fault: Fault) -> float | None:
    """From the fault to the second start, if the fault came while the first one ran."""
    ended = [e.at for e in lines if e.word == END and e.attempt == first.attempt]
    is_hit = first.pid in fault.pids and first.at < fault.at < second.at
    if not is_hit or any(at < fault.at for at in ended):
        return None
    return second.at - fault.at


def _until_full(ends: Sequence[float], begin: float, rate: float) -> float:
    later = [at for at in ends if at >= begin]
    needed = max(1, int(FULL * rate * WINDOW))
    for first, last in zip(later, later[needed - 1 :], strict=False):
        if last - first <= WINDOW:
            return first - begin
    return later[-1] - begin if later else 0.0
