"""The watch of a pool of threads, of which none can be killed by itself."""

from collections.abc import Mapping
from uuid import UUID

import structlog
from celery.platforms import EX_FAILURE
from celery.worker import state

from jobs.settings import Settings
from worker.board import Board, Running
from worker.link import Link
from worker.loop import LAST_CALL
from worker.reports import Reports
from worker.verdicts import OVERRUN, STOPPED, Verdict
from worker.watch import Watch

_log = structlog.get_logger(__name__)


class ThreadWatch(Watch):
    """For a pool of threads: handlers are asked to end; one that is deaf ends the process."""

    def __init__(
        self,
        settings: Settings,
        board: Board,
        reports: Reports,
        links: Mapping[tuple[UUID, int], Link],
    ) -> None:
        super().__init__(settings, board, reports)
        self._links = links

    def end(self, running: Running, verdict: Verdict) -> None:
        link = self._links.get(running.key)
        if link is not None and verdict.stop is not None:
            link.stop(verdict.stop)

    def _look(self, standing: list[Running], now: float) -> None:
        for running in standing:
            if now > running.since + running.limit + 2 * LAST_CALL and self.board.shows(running):
                _log.error("attempt does not end, so the process does", job_id=str(running.job_id))
                state.should_stop = EX_FAILURE  # type: ignore[assignment]
                self.reports.add(running, OVERRUN)
                self._leave(EX_FAILURE)

    def _settle(self) -> None:
        for running in self.board.running():
            self.reports.add(running, STOPPED)
