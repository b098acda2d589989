"""`python -m worker.healthcheck`: exit 0 if this host's worker or dispatcher has beaten lately.

For containers, where one process is one host: its row in PostgreSQL is the proof that it does its
work, which an open port or a living pid is not.
"""

import socket
import sys

import psycopg

from jobs.database import connect_args
from jobs.settings import Settings, load_settings

_SEEN = """
SELECT exists(
    SELECT FROM worker WHERE host = %(host)s AND seen_at > clock_timestamp() - %(lease)s
    UNION ALL
    SELECT FROM dispatcher WHERE host = %(host)s AND seen_at > clock_timestamp() - %(lease)s
)
"""


def is_healthy(settings: Settings, host: str) -> bool:
    """Whether a worker or dispatcher on `host` was seen within one lease.

    psycopg.OperationalError when the database is away.
    """
    url = settings.database_url.get_secret_value()
    with psycopg.connect(url, **connect_args("healthcheck")) as connection:  # type: ignore[arg-type]
        row = connection.execute(_SEEN, {"host": host, "lease": settings.lease}).fetchone()
    return row is not None and bool(row[0])


if __name__ == "__main__":
    sys.exit(0 if is_healthy(load_settings(), socket.gethostname()) else 1)
