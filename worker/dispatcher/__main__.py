"""`python -m worker.dispatcher`: runs until SIGTERM or SIGINT, exit 1 when a service has died."""

import os
import signal
import sys
import threading
import time
from functools import partial
from typing import Any
from uuid import uuid4

import psycopg
import structlog
from sqlalchemy import Engine, event

import kinds
from jobs import database
from jobs.broker import Broker
from jobs.files import FileStore
from jobs.hints import Hints
from jobs.registry import load_registry
from jobs.settings import Settings, load_settings
from worker import engines, logs
from worker.dispatcher.accounts import Accounts
from worker.dispatcher.bulk import Bulk
from worker.dispatcher.dispatch import Dispatch
from worker.dispatcher.epoch import EpochWatch
from worker.dispatcher.facts import Facts
from worker.dispatcher.figures import Figures
from worker.dispatcher.lookout import Lookout
from worker.dispatcher.loop import ENDED, Loop
from worker.dispatcher.pending import Pending
from worker.dispatcher.presence import Presence
from worker.dispatcher.release import Release
from worker.dispatcher.rescue import Rescue
from worker.dispatcher.retention import Retention, terms_of
from worker.dispatcher.ring_again import RingAgain
from worker.dispatcher.schedules import Schedules
from worker.dispatcher.waiting import Waiting
from worker.dispatcher.wake import Wake
from worker.dispatcher.webhooks import Webhooks

END_WITHIN = 0.8  # seconds; a turn takes milliseconds, unless a server is frozen
SERVICES = 16  # of the process at most, each with its connection
# Milliseconds in a transaction without a statement, which takes one: as long as a dispatcher that
# is frozen in it keeps the others from a queue.
MAY_STAND_STILL = 2000

_log = structlog.get_logger("worker.dispatcher")


def main(settings: Settings) -> int:
    """The exit code, when it was asked to end or one of its threads has."""
    awaited = {signal.SIGTERM, signal.SIGINT, ENDED}
    signal.pthread_sigmask(signal.SIG_BLOCK, awaited)  # in every thread to come, too
    loops, wake = make_services(settings)
    for loop in loops:
        loop.start()
    wake.start()
    _log.info("dispatcher ready", pid=os.getpid())
    received = signal.sigwait(awaited)
    is_asked = received != ENDED
    _log.info("dispatcher ending", is_asked=is_asked)
    wake.stop()
    stop(loops)
    return 0 if is_asked else 1


def make_services(settings: Settings) -> tuple[list[Loop], Wake]:
    """The services, not yet started. Each has a broker of its own where it needs one."""
    broker_url = settings.broker_url.get_secret_value()
    registry = load_registry((*kinds.MODULES, *settings.kinds))
    hints = Hints(broker_url)
    transactional = make_engine(settings)
    single = database.autocommit(transactional)
    lease = settings.lease
    epoch = threading.Event()
    watched = partial(Loop, is_watched=True)
    ringing = Dispatch(Broker(settings), lease, epoch)
    dispatch = watched("dispatch", ringing, transactional)
    calls = {
        "dispatch": dispatch,
        "release": watched("release", Release(hints, dispatch.nudge), single),
        "schedules": watched("schedules", Schedules(hints, lease, dispatch.nudge), transactional),
        "pending": watched("pending", Pending(registry, hints, dispatch.nudge), transactional),
        "waiting": watched("waiting", Waiting(hints, dispatch.nudge), transactional),
        "bulk": watched("bulk", Bulk(hints, dispatch.nudge), transactional),
        "ring_again": watched("ring again", RingAgain(Broker(settings), dispatch.nudge), single),
        "figures": watched("figures", Figures(), transactional),
        "facts": watched("facts", Facts(registry, hints, dispatch.nudge), transactional),
    }
    loops = [
        *calls.values(),
        Loop("lookout", Lookout({name: loop.call for name, loop in calls.items()}), single),
        Loop("rescue", Rescue(lease, hints, dispatch.nudge), transactional),
        Loop("epoch", EpochWatch(Broker(settings), epoch, dispatch.nudge), transactional),
        Loop("accounts", Accounts(lease), transactional),
        Loop(
            "retention", Retention(terms_of(settings), FileStore(settings.files_dir)), transactional
        ),
        Loop("webhooks", Webhooks(registry, settings.retained_deliveries), transactional),
        Loop("presence", Presence(uuid4(), settings.heartbeat, lease), single),
    ]
    wake = Wake(
        broker_url,
        [ringing.expect, dispatch.nudge, calls["release"].nudge],
        on_schedules=calls["schedules"].nudge,
        on_bus=calls["pending"].nudge,
    )
    return loops, wake


def make_engine(settings: Settings) -> Engine:
    """An engine whose sessions end soon, with their locks, when their transactions stand still."""
    engine = engines.make_engine(settings, name="dispatcher", size=SERVICES)

    @event.listens_for(engine, "connect")
    def hurry(connection: psycopg.Connection[Any], _record: object) -> None:
        connection.execute(f"SET idle_in_transaction_session_timeout = {MAY_STAND_STILL}")
        connection.commit()

    return engine


def stop(loops: list[Loop]) -> None:
    """They have ended, but for those that a frozen server keeps waiting."""
    end = time.monotonic() + END_WITHIN
    for loop in loops:
        loop.stop()
    for loop in loops:
        loop.join(max(0.0, end - time.monotonic()))


if __name__ == "__main__":
    logs.configure()
    sys.exit(main(load_settings()))
