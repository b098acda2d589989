"""Says that this dispatcher lives, and forgets processes that have long been gone."""

import os
import socket
from datetime import timedelta
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlmodel import col

from jobs.models import Dispatcher, Worker
from jobs.workers import beat_of
from worker.dispatcher.loop import Rest

FIRST_BEATS = 5  # one a second: somebody waits for the first of them
FORGET_AFTER = 120  # leases, an hour by default: until then one sees which process has died
BEATS_PER_SWEEP = 12  # a minute


class Presence:
    """A row that is fresh while the process lives, and gone when it was asked to end."""

    def __init__(self, instance: UUID, heartbeat: timedelta, lease: timedelta) -> None:
        self._row = {"id": instance, "host": socket.gethostname(), "pid": os.getpid()}
        self._heartbeat, self._lease = heartbeat, lease
        self._beats = 0

    def turn(self, connection: Connection) -> Rest:
        _BEAT.first(connection, self._row)
        if self._beats % BEATS_PER_SWEEP == 0:
            for statement in _FORGET:
                connection.execute(statement, {"age": FORGET_AFTER * self._lease})
        self._beats += 1
        seconds = self._heartbeat.total_seconds()
        return Rest(min(seconds, 1.0) if self._beats < FIRST_BEATS else seconds)

    def end(self, connection: Connection) -> None:
        connection.execute(_LEAVE, {"instance": self._row["id"]})


_NOW = sa.func.clock_timestamp()
_BEAT = beat_of(Dispatcher)
_FORGET = [
    sa.delete(table).where(col(table.seen_at) < _NOW - sa.bindparam("age", type_=sa.Interval))
    for table in (Dispatcher, Worker)
]
_LEAVE = sa.delete(Dispatcher).where(col(Dispatcher.id) == sa.bindparam("instance"))
