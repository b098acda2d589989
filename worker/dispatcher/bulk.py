"""Carries out bulk operations, batch by batch, at the rate that each may have."""

from collections.abc import Callable
from uuid import uuid4

from sqlalchemy import Connection

from jobs.bulk.turns import is_any_running, take_turn
from jobs.hints import Hints
from worker.dispatcher.loop import Rest

IDLE = 1.0  # seconds until a new operation is seen
LEAST = 0.05  # seconds, while another dispatcher is at the only one that is due


class Bulk:
    """One batch a turn; several dispatchers share the operations, never a batch."""

    def __init__(self, hints: Hints, wake_dispatch: Callable[[], None]) -> None:
        self._hints, self._wake_dispatch = hints, wake_dispatch
        self._process_id = uuid4()  #: of the row of intake_total that counts deleted jobs

    def turn(self, connection: Connection) -> Rest:
        if not is_any_running(connection):
            return Rest(IDLE, heeds_after=0.0)
        with connection.begin():
            turn = take_turn(connection, self._process_id)
        if turn.moved:
            self._hints.tell(turn.moved)
            self._wake_dispatch()
        rest = IDLE if turn.seconds is None else min(IDLE, turn.seconds)
        return Rest(rest, least=0.0 if turn.moved else min(rest, LEAST))

    def end(self, connection: Connection) -> None:
        pass
