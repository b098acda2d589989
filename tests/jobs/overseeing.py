"""The accounts' own walk through a database, made at once."""

from datetime import timedelta

from sqlalchemy import Connection, text

from jobs import accounts
from jobs.accounts import WALKS
from jobs.ids import FIRST

BRIEF = timedelta(milliseconds=10)  # a lease whose grace is over by now
EVERYTHING = [walk._replace(behind=None) for walk in WALKS]


def clear(connection: Connection) -> None:
    """No job, no account."""
    for table in ("job", "intake_total", "account_check", "account_finding", "dispatcher"):
        connection.execute(text(f"DELETE FROM {table}"))


def oversee(connection: Connection, age: timedelta = timedelta(hours=2)) -> None:
    """A dispatcher is alive and has looked without interruption for so long."""
    connection.execute(_DISPATCHER, {"age": age})
    connection.execute(_LOOKED, {"age": age})


def look(connection: Connection, size: int = 3, lease: timedelta = BRIEF) -> dict[str, int]:
    """What is found after every check has seen everything."""
    connection.execute(_AFRESH, {"first": FIRST})
    accounts.check_overdue(connection, lease)
    accounts.check_newest(connection)
    for walk in EVERYTHING:
        while accounts.advance(connection, walk, size):
            pass
    found = accounts.read_standing(connection).unaccounted
    return {reason: jobs for reason, jobs in found.items() if jobs}


_DISPATCHER = text("""
INSERT INTO dispatcher (id, host, pid, started_at, seen_at)
VALUES (gen_random_uuid(), 'here', 1, clock_timestamp() - :age,
        clock_timestamp() + interval '1 hour')
""")
_LOOKED = text("""
INSERT INTO account_check (name, checked_at, began_at)
VALUES ('overdue', clock_timestamp() + interval '1 hour', clock_timestamp() - :age)
""")
_AFRESH = text("UPDATE account_check SET position = :first WHERE name <> 'overdue'")
