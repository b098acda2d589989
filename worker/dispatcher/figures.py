"""Counts how jobs have ended, and how long they ran and waited, for /metrics."""

from sqlalchemy import Connection

from jobs.figures.counting import count_ended
from worker.dispatcher.loop import Rest

EVERY = 5.0  # seconds from look to look; /metrics asks each ten seconds at most
PAUSE = 0.2  # seconds, while there is more
LIMIT = 5000  # events a transaction: some 100 ms of PostgreSQL


class Figures:
    """One of the dispatchers at a time; the others find its lock."""

    def turn(self, connection: Connection) -> Rest:
        with connection.begin():
            is_last = count_ended(connection, LIMIT)
        if is_last is False:
            return Rest(PAUSE, least=PAUSE)
        return Rest(EVERY, least=EVERY, heeds_after=EVERY)

    def end(self, connection: Connection) -> None:
        pass
