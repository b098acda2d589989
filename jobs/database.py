"""How this project talks to PostgreSQL: what every connection promises, and who commits.

Engines are made after a fork, one per process and purpose. Two ways to use one: `begin()` opens a
transaction that its `with` commits; an `autocommit()` engine sends each statement as a transaction
of its own, in one round trip, which suffices for all of jobs.lifecycle.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from sqlalchemy import Engine, create_engine
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from jobs import documents
from jobs.errors import DatabaseUnavailable
from jobs.settings import Settings

STATEMENT_TIMEOUT = timedelta(seconds=5)  # a heartbeat must fail early enough to try again
LOCK_TIMEOUT = timedelta(seconds=1)  # a blocked row stalls its neighbours no longer
IDLE_TIMEOUT = timedelta(seconds=10)  # in a transaction: nobody holds locks while it is paused
CONNECT_TIMEOUT = 5  # seconds; libpq's own is for ever
UNANSWERED = 10_000  # milliseconds until the kernel gives up on a silent peer (TCP_USER_TIMEOUT)


def make_engine(settings: Settings, *, name: str, size: int, pings: bool = True) -> Engine:
    """An engine of at most `size` connections, shown to PostgreSQL as `lading <name>`.

    A pool checks a connection before use, so that one broken by a restart is replaced; who tries
    again by itself saves the round trip without `pings`.
    """
    return create_engine(
        settings.sqlalchemy_url,
        pool_size=size,
        max_overflow=0,
        pool_timeout=STATEMENT_TIMEOUT.total_seconds(),
        pool_pre_ping=pings,
        json_serializer=documents.encode,
        connect_args=connect_args(name),
    )


def autocommit(engine: Engine) -> Engine:
    """The same pool; each statement is a transaction of its own."""
    return engine.execution_options(isolation_level="AUTOCOMMIT")


def connect_args(name: str) -> dict[str, object]:
    """What libpq is told: time zone, time-outs, and a name for pg_stat_activity."""
    options = {
        "timezone": "UTC",
        "statement_timeout": _milliseconds(STATEMENT_TIMEOUT),
        "lock_timeout": _milliseconds(LOCK_TIMEOUT),
        "idle_in_transaction_session_timeout": _milliseconds(IDLE_TIMEOUT),
    }
    return {
        "application_name": f"lading {name}",
        "connect_timeout": CONNECT_TIMEOUT,
        "tcp_user_timeout": UNANSWERED,
        "options": " ".join(f"-c {key}={value}" for key, value in options.items()),
    }


def is_unavailable(error: BaseException) -> bool:
    """Whether the database is away, so that the same call may succeed later.

    SQLSTATE classes 08 (connection), 57P (operator intervention) and 53 (resources), a standby that
    is not the primary yet (25006), or no answer (PostgreSQL manual, appendix A).
    """
    if isinstance(error, PoolTimeout | InterfaceError):
        return True
    if not isinstance(error, DBAPIError):
        return False
    state = getattr(error.orig, "sqlstate", None)
    if state is None:
        return isinstance(error, OperationalError)
    return str(state).startswith(("08", "57P", "53", "25P03", "25006"))


def is_blocked(error: BaseException) -> bool:
    """Whether a lock was not had within LOCK_TIMEOUT (SQLSTATE 55P03)."""
    return isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", None) == "55P03"


@contextmanager
def translated() -> Iterator[None]:
    """Inside, an absent database is raised as DatabaseUnavailable, chained to what was seen."""
    try:
        yield
    except (DBAPIError, PoolTimeout) as error:
        if is_unavailable(error):
            raise DatabaseUnavailable from error
        raise


def _milliseconds(duration: timedelta) -> int:
    return int(duration / timedelta(milliseconds=1))
