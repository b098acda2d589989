"""Events that have been, for a trigger that has not met them: looked at first, then confirmed."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.dialects.postgresql import JSONB

from jobs.bus.envelope import OWN_SOURCE, NewEvent
from jobs.bus.matching import matches, view
from jobs.bus.publishing import MOST_DEPTH, Published, fire
from jobs.bus.queries import Accepted, EventFilter, conditions, get_event
from jobs.bus.triggers import TriggerView
from jobs.errors import CountDiffers, Flaw, InvalidSubmission
from jobs.ids import FIRST
from jobs.registry import Registry
from lading.patterns import ANY

MOST_EVENTS = 1000  # at a time: one transaction, a few seconds; a longer range is done in parts
MOST_SEEN = 20_000  # events that a filter may have to look through
PAGE = 500
SAMPLE = 5


@dataclass(frozen=True, slots=True)
class Preview:
    """What a replay would bring."""

    count: int  #: events that the trigger has not made a job of
    sample: list[Accepted]  #: the oldest of them


def preview(connection: Connection, trigger: TriggerView, wanted: EventFilter) -> Preview:
    """Nothing is done. InvalidSubmission: the range holds too much for one time."""
    events = _unmet(connection, trigger, wanted)
    sample = [get_event(connection, trigger.project_id, each.id) for each, _ in events[:SAMPLE]]
    return Preview(len(events), sample)


def replay(
    connection: Connection,
    registry: Registry,
    trigger: TriggerView,
    wanted: EventFilter,
    confirmed: int,
) -> list[Published]:
    """The trigger has met those events, from the oldest on.

    In the transaction that has locked the trigger, so that of two replays the second finds nothing
    left. CountDiffers: there are not as many as were confirmed, and nothing was done.
    """
    events = _unmet(connection, trigger, wanted)
    if len(events) != confirmed:
        raise CountDiffers(confirmed, len(events))
    done: list[Published] = []
    for start in range(0, len(events), PAGE):
        part = events[start : start + PAGE]
        meetings = ((event, trigger) for event, _ in part)
        fired = fire(connection, registry, trigger.project_id, meetings)
        for event, received_at in part:
            firings, jobs = fired[event.id]
            met = Accepted(event.id, event.document, event.depth, None, received_at, firings)
            done.append(Published(met, is_new=False, jobs=jobs))
    return done


def _unmet(
    connection: Connection, trigger: TriggerView, wanted: EventFilter
) -> list[tuple[NewEvent, Any]]:
    """Oldest first."""
    found = []
    for number, row in enumerate(_rows(connection, trigger, wanted)):
        if matches(trigger.filter, view(row.envelope)):
            event = NewEvent(
                row.id, row.source, row.event_id, row.type, row.envelope, "", row.depth
            )
            found.append((event, row.received_at))
        if len(found) > MOST_EVENTS or number >= MOST_SEEN:
            raise InvalidSubmission(
                Flaw(
                    "#",
                    f"more than {MOST_EVENTS} events to replay, or {MOST_SEEN} to look at:"
                    " narrow the range by received_after and received_before",
                )
            )
    return found


def _rows(
    connection: Connection, trigger: TriggerView, wanted: EventFilter
) -> Iterator[sa.Row[Any]]:
    condition, binds = conditions(replace(wanted, pattern=trigger.pattern))
    statement = sa.text(f"""
    SELECT id, source, event_id, type, envelope, depth, received_at FROM cloud_event
    WHERE project_id = :project AND id > :after AND depth <= :depth AND NOT is_pending{condition}
          AND (:with_own OR NOT starts_with(source, :own)) AND NOT EXISTS (
        SELECT FROM trigger_firing AS firing WHERE firing.event_id = cloud_event.id
        AND firing.trigger_id = :trigger AND firing.job_id IS NOT NULL)
    ORDER BY id LIMIT :limit
    """).columns(envelope=JSONB)  # noqa: S608 - names of columns only
    binds |= {"project": trigger.project_id, "trigger": trigger.id, "depth": MOST_DEPTH}
    binds |= {"with_own": trigger.pattern != ANY, "own": OWN_SOURCE, "limit": PAGE}
    after: UUID | None = FIRST
    while after is not None:
        rows = [*connection.execute(statement, {**binds, "after": after})]
        yield from rows
        after = rows[-1].id if len(rows) == PAGE else None
