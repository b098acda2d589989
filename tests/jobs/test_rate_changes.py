"""A rate that is changed while jobs wait for it holds at once; against PostgreSQL."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Connection

from jobs import gates
from jobs.gates import Rate
from tests.eventually import eventually
from tests.jobs.making import PROJECT
from tests.jobs.ringing import add_job, add_worker
from tests.jobs.test_flow import KEY_A, KIND, limit, ring, start


@pytest.mark.parametrize("burst", [1, 5])
def test_a_changed_rate_does_not_wait_for_the_old_ones_next_start(
    connection: Connection, burst: int
) -> None:
    add_worker(connection)
    limit(connection, KIND, None, Rate(1, timedelta(days=1), burst))
    for _ in range(burst + 1):
        add_job(connection)
    for bell in ring(connection):
        start(connection, bell)
    assert gates.get_gate(connection, PROJECT, KIND).tokens == 0
    limit(connection, KIND, None, Rate(1000, timedelta(seconds=1), burst))
    eventually(lambda: len(ring(connection)) == 1)


def test_a_changed_rate_gives_no_start_back(connection: Connection) -> None:
    add_worker(connection)
    limit(connection, KIND, None, Rate(1, timedelta(hours=1), 2))
    for _ in range(3):
        add_job(connection)
    for bell in ring(connection):
        start(connection, bell)
    limit(connection, KIND, None, Rate(1, timedelta(days=1), 2))
    view = gates.get_gate(connection, PROJECT, KIND)
    assert view.tokens == 0
    assert view.next_start_at is not None
    assert timedelta(0) < view.next_start_at - datetime.now(UTC) <= timedelta(days=1)


def test_only_a_rate_has_a_next_start(connection: Connection) -> None:
    limit(connection, KEY_A, 1)
    assert gates.get_gate(connection, PROJECT, KEY_A).next_start_at is None
    limit(connection, KEY_A, 1, Rate(1, timedelta(hours=1), 1))
    assert gates.get_gate(connection, PROJECT, KEY_A).next_start_at is not None
