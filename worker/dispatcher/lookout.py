"""Looks whether there is anything to do, so that idle services need not look for themselves."""

from collections.abc import Callable, Mapping

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from jobs.duties import look
from worker.dispatcher.loop import Rest

EVERY = 0.8  # seconds: what nobody has hinted at is seen by then, which is within one


class Lookout:
    """Calls those who have something to do, by the names of the duties."""

    def __init__(self, calls: Mapping[str, Callable[[], None]]) -> None:
        self._calls = calls

    def turn(self, connection: Connection) -> Rest:
        try:
            duties = look(connection)
        except DBAPIError:  # perhaps only here, by a lock on one of many tables
            for call in self._calls.values():
                call()
            raise
        for name, call in self._calls.items():
            if getattr(duties, name):
                call()
        return Rest(EVERY, least=EVERY)

    def end(self, connection: Connection) -> None:
        pass
