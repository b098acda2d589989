"""A dispatcher stands still, with its machine or by a debugger, and goes on as if nothing were."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from sqlalchemy import Connection, func, select, text

from jobs.broker import Broker
from jobs.settings import Settings
from jobs.states import JobState
from tests.eventually import eventually
from tests.jobs.making import make_job, read_events
from tests.jobs.ringing import add_job, add_worker, count_rung
from tests.worker.dispatcher.conftest import (
    FOR_AN_HOUR,
    Running,
    Start,
    has_bells,
    has_state,
    wait_until_it_rescues,
)

NOW = select(func.clock_timestamp())
BUSY_PICK = text("""
SELECT pid FROM pg_stat_activity
WHERE application_name = 'lading dispatcher' AND wait_event_type = 'Lock'
  AND query LIKE '%WITH hanging%'
""")
IS_HELD = text("""
SELECT FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE pid = :pid AND locktype = 'advisory' AND granted AND state LIKE 'idle in transaction%'
""")


@contextmanager
def stopped(dispatcher: Running) -> Iterator[None]:
    """Inside, it stands still."""
    os.kill(dispatcher.process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(dispatcher.process.pid, signal.SIGCONT)


def test_one_that_is_frozen_in_its_transaction_soon_loses_the_queue_to_another(
    dispatcher: Running, start: Start, eyes: Connection, queue: str, bells: Broker
) -> None:
    """Its pick is counted, for the job has a key; what is not is no transaction of the client's."""
    other = start()
    add_job(eyes, queue=queue, concurrency_key="key")
    with stopped(other), eyes.engine.connect() as blocker:
        blocker.execute(text("BEGIN"))
        # The other one may have been stopped in a transaction, which it loses two seconds later.
        blocker.execute(text("SET LOCAL lock_timeout = '20s'"))
        blocker.execute(text("LOCK TABLE job IN SHARE MODE"))
        add_worker(eyes, queues=[queue], seen_at=FOR_AN_HOUR)
        pid = eventually(lambda: eyes.execute(BUSY_PICK).scalar(), every=0.005)
        os.kill(dispatcher.process.pid, signal.SIGSTOP)
        blocker.execute(text("COMMIT"))
    try:
        eventually(lambda: eyes.execute(IS_HELD, {"pid": pid}).first() is not None)
        began = time.monotonic()
        eventually(partial(has_bells, bells, queue, 1))
        assert time.monotonic() - began < 8  # two, and what a busy machine adds
    finally:
        os.kill(dispatcher.process.pid, signal.SIGCONT)
    add_job(eyes, queue=queue)
    with stopped(other):
        # It goes on; bells that nobody hears are rung again, so that they say less.
        eventually(lambda: count_rung(eyes, queue) == 2)
    assert dispatcher.process.poll() is other.process.poll() is None


def test_one_that_thaws_gives_every_worker_a_lease(
    dispatcher: Running, eyes: Connection, queue: str, settings: Settings
) -> None:
    wait_until_it_rescues(eyes, queue)
    with stopped(dispatcher):
        began = eyes.execute(NOW).scalar_one()
        job_id = make_job(eyes, JobState.RUNNING, queue=queue, lease_until=func.clock_timestamp())
        eventually(lambda: eyes.execute(NOW).scalar_one() - began > settings.lease)
        thawed = eyes.execute(NOW).scalar_one()
    eventually(partial(has_state, eyes, job_id, JobState.QUEUED), within=30)
    assert read_events(eyes, job_id)[-1].at - thawed > 0.9 * settings.lease
