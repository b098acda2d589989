"""What is done too often for an entry each: a key's submissions of a minute share entries.

A row for every request would cost more to keep for a year than the jobs themselves. The entry is
made with the first of them and counted up with the others, each in its own transaction: `times` is
right at every moment. A row is locked until the commit, so that each thread has entries of its own,
and what goes through the API's quick lane (api/lane.py) has others: none waits for another's.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection

from jobs import documents
from jobs.ids import uuid7
from jobs.trail.record import Actor

MINUTE = 60.0  # seconds that an entry adds up
MOST_REMEMBERED = 10_000  # entries that may still grow


class Tally(NamedTuple):
    """How an entry of the trail begins, or grows."""

    id: str
    project_id: str
    key_id: str | None
    key_name: str
    action: str
    target: str
    request_id: str | None
    address: str | None
    times: int

    def aside(self) -> "Tally":
        """The same in another entry, for who would have to wait for this one.

        Always the same other one; and its own is this one.
        """
        return self._replace(id=str(UUID(int=UUID(self.id).int ^ 1)))


class Tallies:
    """The entries of this process that still grow."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._growing: dict[tuple[int, bool, str, str], tuple[Tally, float]] = {}

    def tally(
        self,
        key_id: str,
        action: str,
        actor: Callable[[], Actor],
        target: UUID,
        times: int,
        *,
        lane: bool = False,
    ) -> Tally:
        """So many more of the action by the key; a new entry takes actor and target, too.

        Half a microsecond where the entry is there. `lane`: it is for the quick lane.
        """
        what = (threading.get_ident(), lane, key_id, action)
        known, began = self._growing.get(what, (None, 0.0))
        if known is None or self._clock() - began > MINUTE:
            if len(self._growing) >= MOST_REMEMBERED:
                self._growing.clear()
            project_id, _, name, request_id, address = actor()
            said = (project_id, key_id, name, action, str(target), request_id, address)
            known = Tally(str(uuid7()), *said, times=1)
            self._growing[what] = (known, self._clock())
        return known if times == 1 else known._replace(times=times)


_TYPES = dict.fromkeys(Tally._fields, "text") | {"id": "uuid", "times": "integer"}
_NAMES = ", ".join(_TYPES)
_ROW = ", ".join(f"{name} {type_}" for name, type_ in _TYPES.items())
#: Adds up what `tally_binds` says: a statement, or a part of one. Names of columns only. A single
#: value is bound, since each costs as much as some rows do.
ADD_UP = f"""
INSERT INTO audit ({_NAMES})
SELECT * FROM jsonb_to_recordset(CAST(:tallies AS jsonb)) AS tally ({_ROW})
ON CONFLICT (id) DO UPDATE SET times = audit.times + excluded.times
"""  # noqa: S608 - see above
_ADD_UP = sa.text(ADD_UP)


def tally_binds(tallies: Iterable[Tally]) -> dict[str, str]:
    """What ADD_UP binds: one row for each entry, for a statement may touch it only once."""
    first: dict[str, Tally] = {}
    times: Counter[str] = Counter()
    for tally in tallies:
        first.setdefault(tally.id, tally)
        times[tally.id] += tally.times
    rows = [{**tally._asdict(), "times": times[tally.id]} for tally in first.values()]
    return {"tallies": documents.encode(rows)}


def add_up(connection: Connection, tallies: Iterable[Tally]) -> None:
    """The trail tells of them, as soon as the caller's transaction is committed."""
    connection.execute(_ADD_UP, tally_binds(tallies))
