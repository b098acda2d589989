"""The stream of events: whatever the order of commits, each comes once; and who follows it."""

import random
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Connection, Engine, delete

from jobs.bus import consumers
from jobs.bus.envelope import complete_event
from jobs.bus.facts import publish_facts
from jobs.bus.models import CloudEvent, EventConsumer, Trigger
from jobs.bus.publishing import publish
from jobs.bus.stream import StreamedEvent, StreamFilter, read_stream
from jobs.errors import ConsumerDeleted, ConsumerMissing, ConsumerTaken, PositionUnknown
from jobs.feed import Place, Position, Snapshot, read_position
from jobs.registry import Registry, load_registry
from tests.jobs.making import PROJECT, make_job
from tests.jobs.test_feed import begin, reading

POSITION = "00000000.17"


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(["tests.kinds_for_tests"])


@pytest.fixture
def no_consumers(engine: Engine) -> None:
    with engine.begin() as connection:
        for table in (EventConsumer, Trigger, CloudEvent):
            connection.execute(delete(table))


def write(connection: Connection, size: int = 0, project: str = PROJECT) -> UUID:
    """An event, not yet committed."""
    event = complete_event({"type": "user.created", "data": "x" * size}, project)
    (published,) = publish(connection, load_registry([]), project, [event])
    return published.event.id


def read_all(
    engine: Engine, place: Place, limit: int = 100, project: str = PROJECT
) -> tuple[list[UUID], Place]:
    found: list[StreamedEvent] = []
    while True:
        with reading(engine) as connection:
            page = read_stream(connection, place, [project], limit)
        found, place = [*found, *page.events], page.place
        assert len(page.events) <= limit
        if page.is_last:
            return [each.id for each in found], place


def test_an_event_that_is_committed_late_is_no_hole(engine: Engine) -> None:
    place = begin(engine)
    with engine.connect() as lower, engine.connect() as higher:
        early, late = write(lower), write(higher)
        higher.commit()
        found, place = read_all(engine, place)
        assert found == [late], "nobody waits for the one that stays open"
        lower.commit()
    found, place = read_all(engine, place)
    assert found == [early]
    assert read_all(engine, place)[0] == []


@pytest.mark.parametrize("limit", [1, 3])
def test_long_events_come_in_pieces(engine: Engine, limit: int) -> None:
    place = begin(engine)
    with engine.begin() as connection:
        written = [write(connection, size) for size in (200_000, 10, 150_000, 10)]
        write(connection, project="other")
    assert read_all(engine, place, limit)[0] == written


@pytest.mark.parametrize("seed", range(4))
def test_however_transactions_overlap_each_event_comes_once(engine: Engine, seed: int) -> None:
    chance = random.Random(seed)
    begun = begin(engine)
    readers: list[list[Any]] = [[limit, begun, []] for limit in (1, 2, 50)]
    writers = [engine.connect() for _ in range(4)]
    pending: dict[Connection, list[UUID]] = {writer: [] for writer in writers}
    committed: list[UUID] = []
    for _ in range(80):
        writer, reader = chance.choice(writers), chance.choice(readers)
        match chance.choice(["write", "write", "end", "read"]):
            case "write":
                pending[writer].append(write(writer))
            case "end":
                if chance.random() < 0.8:
                    writer.commit()
                    committed += pending[writer]
                else:
                    writer.rollback()
                pending[writer] = []
            case "read":
                step(engine, reader)
    for writer in writers:
        writer.close()
    for reader in readers:
        rest, _ = read_all(engine, reader[1], reader[0])
        assert sorted([*reader[2], *rest]) == sorted(committed)


def step(engine: Engine, reader: list[Any]) -> None:
    """One page; the position goes out and comes back as text."""
    limit, place, got = reader
    with reading(engine) as connection:
        page = read_stream(connection, place, [PROJECT], limit)
    kept = Position.parse(Position("0123abcd", page.place).text())
    assert kept is not None
    reader[1] = kept.place
    got += [each.id for each in page.events]


@pytest.mark.parametrize(
    ("patterns", "fits"),
    [(["*"], True), (["user.*"], True), (["a", "user.created"], True), (["user"], False)],
)
def test_patterns_say_which_events_are_meant(
    engine: Engine, patterns: list[str], fits: bool
) -> None:
    place = begin(engine)
    with engine.begin() as connection:
        write(connection)
    with reading(engine) as connection:
        (event,) = read_stream(connection, place, [PROJECT], 10).events
    assert StreamFilter(PROJECT, patterns).matches(event) is fits
    assert not StreamFilter("other", patterns).matches(event)


def test_only_the_newest_member_acknowledges(engine: Engine, no_consumers: None) -> None:
    with engine.begin() as connection:
        older = consumers.join(connection, PROJECT, "billing", ["*"], POSITION)
        newer = consumers.join(connection, PROJECT, "billing", ["user.*"], "00000000.18")
        assert (older.is_new, newer.is_new) == (True, False)
        assert newer.position == POSITION, "what was acknowledged, not what was offered"
        position = read_position(connection)
        with pytest.raises(ConsumerTaken):
            consumers.acknowledge(connection, PROJECT, "billing", older.id, position)
        kept = consumers.acknowledge(connection, PROJECT, "billing", newer.id, position)
        assert (kept.position, kept.patterns) == (position.text(), ["user.*"])
        with pytest.raises(ConsumerMissing):
            consumers.acknowledge(connection, "other", "billing", newer.id, position)


def test_who_has_lost_the_place_is_found_and_why(engine: Engine, no_consumers: None) -> None:
    with engine.begin() as connection:
        older, newer = (
            consumers.join(connection, PROJECT, "billing", ["*"], POSITION).id for _ in range(2)
        )
        elsewhere = consumers.join(connection, "other", "billing", ["*"], POSITION).id
        gone = consumers.join(connection, PROJECT, "gone", ["*"], POSITION).id
        consumers.delete_consumer(connection, PROJECT, "gone")
        asked = [(each, PROJECT, "billing") for each in (older, newer)]
        asked += [(elsewhere, "other", "billing"), (gone, PROJECT, "gone")]
        lost = consumers.find_lost(connection, asked)
        assert {each: type(why) for each, why in lost.items()} == {
            older: ConsumerTaken,
            gone: ConsumerDeleted,
        }


def test_an_acknowledgement_moves_nothing_back_and_nothing_ahead(
    engine: Engine, no_consumers: None
) -> None:
    early = begin(engine)
    with engine.begin() as connection:
        write(connection)
    with engine.begin() as connection:
        epoch, late = read_position(connection)
        member = consumers.join(connection, PROJECT, "billing", ["*"], POSITION).id

        def kept_after(position: Position) -> str:
            return consumers.acknowledge(connection, PROJECT, "billing", member, position).position

        for place in (early, late):  # from POSITION, which is of another life
            assert kept_after(Position(epoch, place)) == Position(epoch, place).text()
        assert kept_after(Position(epoch, early)) == Position(epoch, late).text()
        ahead = Snapshot(late.after.end + 10_000_000)
        for unknown in (
            Position("00000000", late),
            Position(epoch, Place(ahead)),
            Position(epoch, Place(late.after, ahead)),
            Position(epoch, Place(ahead, late.after)),
        ):
            with pytest.raises(PositionUnknown):
                kept_after(unknown)
        assert kept_after(Position(epoch, late)) == Position(epoch, late).text()


A, B = UUID(int=1), UUID(int=2)


@pytest.mark.parametrize(
    ("further", "place", "covers"),
    [
        (Place(Snapshot(9)), Place(Snapshot(9)), True),
        (Place(Snapshot(9)), Place(Snapshot(8, frozenset({3}))), True),
        (Place(Snapshot(8)), Place(Snapshot(9)), False),
        (Place(Snapshot(9, frozenset({3}))), Place(Snapshot(8)), False),
        (Place(Snapshot(9, frozenset({8}))), Place(Snapshot(8)), True),
        (Place(Snapshot(9)), Place(Snapshot(5), Snapshot(9), (B, 1)), True),
        (Place(Snapshot(5), Snapshot(9), (B, 1)), Place(Snapshot(5), Snapshot(9), (A, 1)), True),
        (Place(Snapshot(5), Snapshot(9), (A, 1)), Place(Snapshot(5), Snapshot(9), (B, 1)), False),
        (Place(Snapshot(5), Snapshot(9), (B, 1)), Place(Snapshot(6)), False),
    ],
    ids=str,
)
def test_a_place_covers_what_is_surely_behind_it(
    further: Place, place: Place, covers: bool
) -> None:
    assert further.covers(place) is covers


def test_what_a_consumer_names_becomes_a_fact(
    engine: Engine, registry: Registry, no_consumers: None
) -> None:
    with engine.begin() as connection:
        consumers.join(connection, PROJECT, "all", ["*"], POSITION)
        assert facts(connection, registry) == []
        make_job(connection)
    with engine.begin() as connection:
        assert facts(connection, registry) == [], "a star does not name them"
        consumers.join(connection, PROJECT, "billing", ["user.*", "job.created"], POSITION)
        make_job(connection)
    with engine.begin() as connection:
        assert facts(connection, registry) == ["job.created"]
        consumers.delete_consumer(connection, PROJECT, "billing")
        make_job(connection)
    with engine.begin() as connection:
        assert facts(connection, registry) == []


def facts(connection: Connection, registry: Registry) -> list[str]:
    """The types of the facts that are published now."""
    read_position(connection)
    turn = publish_facts(connection, registry, 100)
    assert turn is not None
    return [each.event.envelope["type"] for made in turn.published.values() for each in made]
