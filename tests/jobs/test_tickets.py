"""A ticket opens once, for as long as it and its key are good."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from sqlalchemy import Connection, Engine, text

from jobs import database
from jobs.keys import tickets
from jobs.keys.limits import KeyLimits
from jobs.keys.store import create_key, delete_key
from jobs.keys.tickets import TicketView, make_ticket, take_ticket


def ticket_of(connection: Connection, key_id: str) -> str:
    made = make_ticket(connection, key_id, {"jobs:write", "jobs:read"})
    assert made is not None
    return made[0]


def age(connection: Connection) -> None:
    connection.execute(text("UPDATE ws_ticket SET expires_at = clock_timestamp()"))


def count(connection: Connection) -> int:
    number: int = connection.execute(text("SELECT count(*) FROM ws_ticket")).scalar_one()
    return number


def test_a_ticket_opens_once(connection: Connection) -> None:
    limits = KeyLimits(["test.*"], datetime(2100, 1, 1, tzinfo=UTC), 2.5, 3)
    key, _ = create_key(connection, "mine", "page", limits=limits)
    ticket = ticket_of(connection, key.id)
    assert take_ticket(connection, ticket[:-1]) is None
    taken = take_ticket(connection, ticket)
    assert taken is not None
    assert taken[:4] == ("mine", key.id, "page", ["jobs:read", "jobs:write"])
    assert taken.limits == limits
    assert take_ticket(connection, ticket) is None


def test_a_ticket_does_not_outlive_its_key(connection: Connection) -> None:
    ended = KeyLimits(expires_at=datetime(2001, 1, 1, tzinfo=UTC))
    key, _ = create_key(connection, "mine", "page", limits=ended)
    assert take_ticket(connection, ticket_of(connection, key.id)) is None


def test_one_of_many_who_come_at_once_gets_in(engine: Engine) -> None:
    with engine.begin() as connection:
        key, _ = create_key(connection, "mine", "page")
        ticket = ticket_of(connection, key.id)

    def take(_: int) -> TicketView | None:
        with database.autocommit(engine).connect() as connection:
            return take_ticket(connection, ticket)

    with ThreadPoolExecutor(8) as pool:
        assert sum(taken is not None for taken in pool.map(take, range(8))) == 1


def test_a_ticket_expires_and_is_swept_with_the_next_one(connection: Connection) -> None:
    key, _ = create_key(connection, "mine", "page")
    old = [ticket_of(connection, key.id) for _ in range(3)]
    age(connection)
    assert take_ticket(connection, old[0]) is None
    new = ticket_of(connection, key.id)
    assert count(connection) == 1
    assert take_ticket(connection, new) is not None


def test_no_ticket_outlives_its_key(connection: Connection) -> None:
    key, _ = create_key(connection, "mine", "page")
    ticket = ticket_of(connection, key.id)
    delete_key(connection, "mine", key.id)
    assert take_ticket(connection, ticket) is None
    assert make_ticket(connection, key.id, set()) is None


def test_a_ticket_stands_nowhere_in_the_clear(connection: Connection) -> None:
    key, _ = create_key(connection, "mine", "page")
    ticket = ticket_of(connection, key.id)
    row = connection.execute(text("SELECT ws_ticket::text FROM ws_ticket")).scalar_one()
    assert ticket not in row
    assert tickets.GOOD_FOR.total_seconds() == 30
