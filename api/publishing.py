"""The writer of events: those of many requests a commit, with all that comes of them.

Each event's jobs, firings and deliveries stand in its own transaction, which other events share. A
publication of several events goes alone. Of twins in one group the first is accepted, and answers
for the others.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from api.grouping import GroupWriter
from jobs.bus.envelope import NewEvent
from jobs.bus.publishing import Published, publish, tell
from jobs.errors import DatabaseUnavailable
from jobs.hints import Hints
from jobs.registry import Registry
from jobs.settings import Settings
from jobs.trail.tallies import Tally, add_up

MOST_IN_GROUP = 100  # events: with five triggers each as many jobs as a group of submissions


@dataclass(frozen=True, slots=True)
class Publication:
    """What one request publishes."""

    project_id: str
    events: Sequence[NewEvent]
    tally: Callable[[UUID, int], Tally]  #: how the trail tells of so many, of which that is first


class EventWriter(GroupWriter[Publication, list[Published]]):
    """Who publishes is answered what `jobs.bus.publishing.publish` says of each event."""

    def __init__(self, settings: Settings, hints: Hints, registry: Registry) -> None:
        self._hints, self._registry = hints, registry
        super().__init__(settings, "events", most_in_group=MOST_IN_GROUP)

    def key(self, item: Publication) -> Hashable:
        return id(item)  # any may have to wait for a twin elsewhere, and none for one here

    def is_alone(self, item: Publication) -> bool:
        return len(item.events) != 1

    def commit(self, items: Sequence[Publication]) -> list[list[Published]]:
        with self._engine.begin() as connection:
            return self._publish(connection, items, gives_up=False)

    def give_up(self, item: Publication) -> list[Published] | Exception:
        """Who has one of its unique keys keeps it; a twin that is not committed is an outage."""
        try:
            with self._engine.begin() as connection:
                return self._publish(connection, [item], gives_up=True)[0]
        except SQLAlchemyError as error:
            unavailable = DatabaseUnavailable()
            unavailable.__cause__ = error
            return unavailable

    def tell(self, done: Sequence[tuple[Publication, list[Published]]]) -> None:
        for item, answer in done:
            tell(self._hints, item.project_id, answer)

    def _publish(
        self, connection: Connection, items: Sequence[Publication], *, gives_up: bool
    ) -> list[list[Published]]:
        answers: dict[int, list[Published]] = {}
        for project_id in sorted({item.project_id for item in items}):
            ours = [item for item in items if item.project_id == project_id]
            events = [event for item in ours for event in item.events]
            published = iter(
                publish(connection, self._registry, project_id, events, gives_up=gives_up)
            )
            for item in ours:
                answers[id(item)] = [next(published) for _ in item.events]
        found = [answers[id(item)] for item in items]
        tallies = [*filter(None, map(_tally, items, found))]
        if tallies:
            add_up(connection, tallies)
        return found


def _tally(item: Publication, published: Sequence[Published]) -> Tally | None:
    new = [each.event.id for each in published if each.is_new]
    return item.tally(new[0], len(new)) if new else None
