"""From one attempt to the next: a success is reported and the next one claimed at once.

That is one round trip and one commit, of which nobody need know more: where anything hinders it,
the two are done one after the other, by the code that has the patience for it.
"""

import time
from uuid import UUID

from sqlalchemy.exc import SQLAlchemyError

from jobs.errors import DatabaseUnavailable, LeaseLost
from jobs.lifecycle import Claim, Next, Success
from worker import claiming
from worker.execution import Execution
from worker.outcomes import Ended
from worker.reporting import flush, report, usage_of


class Passing:
    """An attempt that succeeded, and the one that follows it in its bell. To be taken once."""

    def __init__(self, execution: Execution, ended: Ended, following: tuple[UUID, int]) -> None:
        self._execution, self._following = execution, following
        self.ended = ended  #: once taken: how it really ended

    def take(self) -> Claim:
        """The first one is reported, and the claim of the following one.

        LeaseLost, DatabaseUnavailable: as `claiming.claim` says of the following one.
        """
        execution, sent_at = self._execution, time.monotonic()
        try:
            flush(execution)
            moved, claimed = execution.runtime.pass_on(self._success(), self._next())
        except (SQLAlchemyError, DatabaseUnavailable, LeaseLost):
            self.ended = report(execution, self.ended)
            return claiming.claim(execution.runtime, *self._following, may_be_claimed=True)
        if moved is None:
            self.ended = report(execution, self.ended)
        if claimed is None:
            raise LeaseLost(*self._following)
        return claiming.in_time(execution.runtime, claimed, sent_at)

    def _success(self) -> Success:
        claim = self._execution.claim
        return Success(claim.id, claim.attempt, self.ended.result, usage_of(self._execution))

    def _next(self) -> Next:
        runtime = self._execution.runtime
        return Next(*self._following, runtime.worker_id, runtime.settings.lease)
