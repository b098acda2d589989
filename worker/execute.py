"""The executor: attempts as a pipeline, claim → read args → handle → report.

Each step that speaks with PostgreSQL is one statement, guarded by the attempt's number, so it may
be tried again; between claim and report no connection is held. Quick attempts of one bell go
through it in handfuls: the report of one brings the claim of the next along. Where the bell has no
more, a process hears whether another one hangs (worker/hearing.py).
"""

import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from uuid import UUID

from worker.handfuls import WORTH
from worker.handover import hand_over
from worker.hearing import MOST, TURN
from worker.runtime import Runtime
from worker.turn import Turn


def execute(
    runtime: Runtime,
    attempts: Sequence[tuple[UUID, int]],
    kind: str | None = None,
    queue: str | None = None,
) -> Iterator[Turn]:
    """The attempts have been made and reported, in their order.

    `kind`: of all of them, if a pool process may take them in handfuls; else each is claimed by
    itself. `queue`: where more of the kind may hang, which are made as well.
    """
    waiting = deque(attempts)
    handful: Sequence[Turn] = []
    end, taken = time.monotonic() + TURN, len(waiting)
    with ExitStack() as places:
        while waiting or handful:
            most = runtime.sizes.of(kind) if kind is not None and runtime.forked else 1
            if not waiting and taken < MOST and time.monotonic() < end:
                waiting.extend(_hear(runtime, kind, queue, end))
                taken += len(waiting)
            keys = _take(waiting, most, {turn.key[0] for turn in handful})
            following = [
                Turn(runtime, places.enter_context(runtime.board.place(*key))) for key in keys
            ]
            hand_over(runtime, handful, following)
            yield from handful
            _make(runtime, following)
            handful = following


def _hear(
    runtime: Runtime, kind: str | None, queue: str | None, end: float
) -> Sequence[tuple[UUID, int]]:
    """What hangs there, if one of it is likely to be done by the `end` (monotonic)."""
    if kind is None or queue is None or time.monotonic() + runtime.sizes.seconds(kind) > end:
        return []
    return runtime.hearing.more(queue, kind, runtime.sizes.of(kind))


def _take(
    waiting: deque[tuple[UUID, int]], most: int, still_here: set[UUID]
) -> list[tuple[UUID, int]]:
    """The next handful, of jobs that are in it once, and of whose jobs nothing is `still_here`.

    What was begun before goes by itself: should it be what kills its processes, nobody else's
    attempt is taken along.
    """
    taken: list[tuple[UUID, int]] = []
    jobs = {*still_here}
    while waiting and len(taken) < most and waiting[0][0] not in jobs:
        if taken and max(taken[0][1], waiting[0][1]) > 1:
            break
        jobs.add(waiting[0][0])
        taken.append(waiting.popleft())
    return taken


def _make(runtime: Runtime, handful: Sequence[Turn]) -> None:
    """All are made. What has succeeded is reported meanwhile, if the others take their time."""
    began = time.monotonic()
    for number, turn in enumerate(handful, 1):
        turn.make()
        if number == len(handful):
            return
        must_report = turn.success is not None and not turn.is_kept
        if must_report or time.monotonic() > began + WORTH:
            hand_over(runtime, handful[:number], [])
            began = time.monotonic()
