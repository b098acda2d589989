"""One look for all services of a dispatcher: whether there may be something for each to do."""

from typing import NamedTuple

from sqlalchemy import Connection

from jobs import dispatch
from jobs.bulk import turns
from jobs.bus import facts, pending
from jobs.direct import flags
from jobs.figures import counting
from jobs.schedules import firing
from jobs.waiting import parents


class Duties(NamedTuple):
    """What may have to be done now, or within a second. What is not said has not to be."""

    dispatch: bool
    release: bool
    ring_again: bool
    schedules: bool
    pending: bool
    waiting: bool
    bulk: bool
    facts: bool
    figures: bool


def look(connection: Connection) -> Duties:
    """A few looks at the ends of indexes, in one statement. No transaction has begun."""
    return Duties._make(_LOOK.glance(connection))


_CONDITIONS = {
    "dispatch": dispatch.IS_ANY_QUEUED,
    "release": dispatch.IS_ANY_DUE,
    "ring_again": dispatch.IS_ANY_UNANSWERED,
    "schedules": firing.IS_ANY_SOON,
    "pending": pending.IS_ANY,
    "waiting": parents.IS_ANY,
    "bulk": turns.IS_ANY,
    "facts": facts.IS_ANY,
    "figures": counting.IS_ANY,
}
_LOOK = flags(
    "lading_look_for_duties",
    f"SELECT {', '.join(_CONDITIONS[name] for name in Duties._fields)}",
    len(Duties._fields),
)
