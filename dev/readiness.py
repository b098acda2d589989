"""Whether a child serves. A log line or a process that merely runs is no proof."""

import asyncio
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable
from datetime import datetime
from http import HTTPStatus
from http.client import HTTPException

import psycopg

from dev.ports import LOOPBACK, is_open

_without_proxy = urllib.request.build_opener(urllib.request.ProxyHandler({}))
Check = Callable[[int], Awaitable[bool]]  # given the child's pid

_HEARTBEATS = {
    "worker": "SELECT 1 FROM worker WHERE pid = %s AND pool = 'prefork' AND seen_at > %s",
    "worker_io": "SELECT 1 FROM worker WHERE pid = %s AND pool = 'threads' AND seen_at > %s",
    "dispatcher": "SELECT 1 FROM dispatcher WHERE pid = %s AND seen_at > %s",
}


def answers(url: str, *statuses: int) -> Check:
    """HTTP answers with one of the statuses, 200 by default."""

    def ask() -> bool:
        try:
            with _without_proxy.open(url, timeout=2) as answer:
                status: int = answer.status
        except urllib.error.HTTPError as error:
            status = error.code
        except (OSError, HTTPException):
            return False
        return status in (statuses or (HTTPStatus.OK,))

    async def check(_pid: int) -> bool:
        return await asyncio.to_thread(ask)

    return check


def listens(*ports: int) -> Check:
    """Somebody accepts connections on each of the ports."""

    async def check(_pid: int) -> bool:
        return all([await asyncio.to_thread(is_open, port, LOOPBACK) for port in ports])

    return check


def beats(name: str, database_url: str) -> Check:
    """The program has written its heartbeat into the database since the check was made.

    A row that an earlier process with the same pid has left does not count; only the database's
    clock is asked, which may be another machine's.
    """
    url = database_url.replace("postgresql+psycopg://", "postgresql://", 1)  # libpq knows no driver
    since: dict[int, datetime] = {}

    def ask(pid: int) -> bool:
        try:
            with psycopg.connect(url, connect_timeout=2, autocommit=True) as connection:
                if pid not in since:
                    row = connection.execute("SELECT clock_timestamp()").fetchone()
                    assert row is not None
                    since[pid] = row[0]
                beat = connection.execute(_HEARTBEATS[name], [pid, since[pid]])
                return beat.fetchone() is not None
        except psycopg.OperationalError:
            return False

    async def check(pid: int) -> bool:
        return await asyncio.to_thread(ask, pid)

    return check
