"""Accepting jobs: rows, `created` events, idempotency keys and the intake count, together or not.

The row is the outbox: nothing else has to happen for the job to run one day. The edge commits.
"""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from jobs.database import is_blocked
from jobs.enqueue import bound, keys
from jobs.enqueue.intake import Accepted, FailurePolicy, Intake, NewBatch
from jobs.enqueue.plain import insert_plain
from jobs.errors import JobsError, UniqueConflict
from jobs.lifecycle import Moved
from jobs.trail.tallies import add_up
from jobs.views import JobView

__all__ = [
    "Accepted",
    "FailurePolicy",
    "Intake",
    "NewBatch",
    "created",
    "enqueue",
    "enqueue_unblocked",
]


def enqueue(
    connection: Connection, intakes: Sequence[Intake], *, process_id: UUID
) -> list[Accepted | JobsError]:
    """Each intake's jobs exist as queued, scheduled or waiting, or its refusal is in the result.

    Refused are, without touching the others, KeyReused and JobDeleted; and of those that are not
    plain UniqueConflict, InvalidSubmission (a parent is unknown), BatchNotFound and BatchClosed.
    No two intakes may bring the same key. Plain ones share one statement, which is all there is to
    do for those without a key; the others take statements of their own, within a transaction.

    Locks: the keys in their order, and then unique keys in theirs, where a twin that has not
    committed yet makes this wait for up to `lock_timeout` (then OperationalError, and nothing is
    done); and the rows of `process_id` in intake_total, and of the tallies, until the commit.
    """
    taken = keys.take(connection, [intake for intake in intakes if intake.key is not None])
    is_new = [each.key is None or (each.project_id, each.key) in taken for each in intakes]
    plain = [each for each, new in zip(intakes, is_new, strict=True) if new and each.is_plain]
    inserted = iter(insert_plain(connection, plain, process_id))

    def answer(intake: Intake, new: bool) -> Accepted | JobsError:
        if not new:
            return keys.replay(connection, intake)
        if intake.is_plain:
            return next(inserted)
        accepted = bound.enter(connection, intake, process_id)
        if intake.tally is not None and isinstance(accepted, Accepted) and accepted.made:
            add_up(connection, [intake.tally._replace(times=len(accepted.made))])
        return accepted

    return [answer(intake, new) for intake, new in zip(intakes, is_new, strict=True)]


def enqueue_unblocked(
    connection: Connection, intakes: Sequence[Intake], *, process_id: UUID, gives_up: bool = True
) -> list[Accepted | JobsError]:
    """As `enqueue`, in a transaction, for intakes that nobody sends again.

    A unique key that another transaction is just taking, and has not got within `lock_timeout`, is
    taken: UniqueConflict for the one that brings it, or OperationalError, where the caller will try
    again rather than give it up. Keys are tried in their order.
    """
    plain = [number for number, intake in enumerate(intakes) if intake.is_plain]
    bound_ones = [number for number, intake in enumerate(intakes) if not intake.is_plain]
    together = enqueue(connection, [intakes[number] for number in plain], process_id=process_id)
    answers = dict(zip(plain, together, strict=True))
    for number in sorted(bound_ones, key=lambda number: _unique_key(intakes[number])):
        answers[number] = _enter(connection, intakes[number], process_id, gives_up=gives_up)
    return [answers[number] for number in range(len(intakes))]


def _enter(
    connection: Connection, intake: Intake, process_id: UUID, *, gives_up: bool
) -> Accepted | JobsError:
    try:
        with connection.begin_nested():
            (answer,) = enqueue(connection, [intake], process_id=process_id)
    except OperationalError as error:
        if not (gives_up and is_blocked(error)):
            raise
        return UniqueConflict(_unique_key(intake), None)
    return answer


def _unique_key(intake: Intake) -> str:
    return next((job.unique.key for job in intake.jobs if job.unique is not None), "")


def created(project_id: str, job: JobView) -> Moved:
    """The event that came with the new job's row."""
    return Moved(
        id=job.id,
        project_id=project_id,
        queue=job.queue,
        state=job.state,
        attempt=0,
        cancel_requested=False,
        seq=1,
        type="created",
        at=job.created_at,
        data={"state": str(job.state)},
    )
