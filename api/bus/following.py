"""Following the events of the bus, by whatever transport."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Any, NamedTuple

from pydantic import Field
from pydantic_core import to_json

from api.members import Member
from api.parts import Parts
from api.problems import Problem
from api.recorded import Recorded
from api.tail import FeedReader
from jobs.bus.consumers import NAME
from jobs.bus.stream import StreamedEvent, StreamFilter
from jobs.feed import Place, Position, Snapshot
from jobs.trail.record import Actor
from lading.patterns import ANY, WRONG, is_pattern

OLDEST = "oldest"  # a position: before every event that is kept
MOST_TYPES = 100  # patterns of one subscription
ConsumerName = Annotated[
    str,
    Field(
        pattern=f"^{NAME}$",
        description="The position is kept under this name, as far as it was acknowledged",
        examples=["billing"],
    ),
]


class Asked(NamedTuple):
    """What somebody wants to follow."""

    types: Sequence[str]  #: patterns; none: all
    consumer: str | None
    after: str | None  #: a position, or OLDEST; else from now on. Of a consumer: where it begins


class Followed(NamedTuple):
    """The way of one reader through the events."""

    reader: FeedReader[StreamedEvent]
    member: Member | None  #: of a consumer


@asynccontextmanager
async def following(
    parts: Parts, actor: Actor, asked: Asked, flaw: Callable[[str, str], Problem]
) -> AsyncIterator[Followed]:
    """The events from there on; of a consumer that is known, those that it did not acknowledge.

    `flaw` makes the problem of a field, by its name, and why.

    Problem, DatabaseUnavailable before anything else.
    """
    types = [*asked.types] or [ANY]
    if len(types) > MOST_TYPES:
        raise flaw("type", f"more than {MOST_TYPES} patterns")
    if not all(map(is_pattern, types)):
        raise flaw("type", WRONG)
    after = await _position(parts, asked.after, flaw)
    if asked.consumer is None:
        wanted = StreamFilter(actor.project_id, types)
        async with parts.bus_tail.follow(wanted, after) as reader:
            yield Followed(reader, None)
        return
    begin = after or await parts.bus_tail.read_position()
    async with (
        parts.members.join(actor, asked.consumer, types, begin) as member,
        parts.bus_tail.follow(StreamFilter(actor.project_id, types), member.position) as reader,
    ):
        if reader.is_reset:
            await member.restart(Position(reader.epoch, reader.place))
        member.when_lost = reader.stop
        if member.loss is not None:
            reader.stop()
        yield Followed(reader, member)


async def _position(
    parts: Parts, text: str | None, flaw: Callable[[str, str], Problem]
) -> Position | None:
    if text is None:
        return None
    if text == OLDEST:
        epoch = (await parts.bus_tail.read_position()).epoch
        return Position(epoch, Place(Snapshot(0)))
    position = Position.parse(text)
    if position is None:
        raise flaw("after", "this is no position of this server")
    return position


def record(event: StreamedEvent) -> Recorded:
    """The event, ready to go out."""
    return Recorded(0, event.type, to_json(stream_document(event)).decode())


def stream_document(event: StreamedEvent) -> dict[str, Any]:
    """The StreamedEvent of the reference."""
    return {
        "id": event.id,
        "event": event.envelope,
        "received_at": event.received_at,
        "depth": event.depth,
        "error": event.error,
        "job_id": event.job_id,
        "links": {"self": f"/v1/events/{event.id}"},
    }
