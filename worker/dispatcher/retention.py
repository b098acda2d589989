"""Forgets what is old enough, slowly enough that nobody notices."""

import time
from datetime import timedelta
from uuid import UUID, uuid4

import structlog
from sqlalchemy import Connection

from jobs import retention
from jobs.bus.retention import prune_events
from jobs.files import FileStore
from jobs.ids import FIRST
from jobs.retention import Terms
from jobs.schedules.history import prune_ticks
from jobs.settings import Settings
from jobs.trail.reading import prune_trail
from worker.dispatcher.loop import Rest

EVERY = 600.0  # seconds from the end of one pass to the next
SHARE = 1 / 5  # of the time is spent on it while there is something
KEYS = 500  # a statement
ABANDONED = timedelta(days=1)  # no upload pauses for so long

_log = structlog.get_logger(__name__)


class Retention:
    """Goes through all jobs that may be old enough, from the oldest on, again and again."""

    def __init__(self, terms: Terms, files: FileStore) -> None:
        self._terms, self._files = terms, files
        self._process_id = uuid4()
        self._reached: UUID | None = FIRST
        self._jobs, self._keys = 0, 0

    def turn(self, connection: Connection) -> Rest:
        began = time.monotonic()
        has_more = any(
            [
                self._prune_jobs(connection),
                self._prune_keys(connection),
                self._prune_trail(connection),
                self._prune_ticks(connection),
                self._prune_events(connection),
            ]
        )
        if has_more:
            rest = (time.monotonic() - began) / SHARE
            return Rest(rest, least=rest)
        if self._jobs or self._keys:
            _log.info("what is old was forgotten", jobs=self._jobs, keys=self._keys)
        try:
            self._files.forget_incoming(ABANDONED)
        except OSError as error:  # the folder is not ours to clear, or somebody else clears it
            _log.warning("abandoned uploads stay", reason=str(error))
        self._reached, self._jobs, self._keys = FIRST, 0, 0
        return Rest(EVERY, least=EVERY)

    def end(self, connection: Connection) -> None:
        pass

    def _prune_jobs(self, connection: Connection) -> bool:
        if self._reached is None:
            return False
        with connection.begin():
            pruned = retention.prune_jobs(connection, self._terms, self._reached, self._process_id)
        self._reached = pruned.reach
        self._jobs += pruned.jobs
        return pruned.reach is not None

    def _prune_ticks(self, connection: Connection) -> bool:
        """A tick's line is kept as long as a job that succeeded."""
        with connection.begin():
            return prune_ticks(connection, self._terms.succeeded, KEYS) == KEYS

    def _prune_events(self, connection: Connection) -> bool:
        with connection.begin():
            return prune_events(connection, self._terms.events, KEYS) == KEYS

    def _prune_keys(self, connection: Connection) -> bool:
        with connection.begin():
            keys = retention.prune_keys(connection, self._terms, KEYS)
        self._keys += keys
        return keys == KEYS

    def _prune_trail(self, connection: Connection) -> bool:
        with connection.begin():
            return prune_trail(connection, self._terms.audit, KEYS) == KEYS


def terms_of(settings: Settings) -> Terms:
    """What the operator has set."""
    return Terms(
        succeeded=timedelta(seconds=settings.retain_succeeded_seconds),
        failed=timedelta(seconds=settings.retain_failed_seconds),
        logs=timedelta(seconds=settings.retain_logs_seconds),
        keys=timedelta(seconds=settings.retain_keys_seconds),
        audit=timedelta(seconds=settings.retain_audit_seconds),
        events=timedelta(seconds=settings.retain_events_seconds),
    )
