"""The job that all peers run: it says that it has started, if it is asked to, and may wait.

Imported from the virtual environments of all of them, so that it needs the standard library alone.
"""

import asyncio
import os
import socket
import time
from functools import cache

VARIABLE = "BENCH_MARKS"  # environment: the path of the datagram socket


def run(token: str = "", seconds: float = 0) -> None:
    """With a token its start is told; then it sleeps."""
    if token:
        mark(token)
    if seconds:
        time.sleep(seconds)


async def run_async(token: str = "", seconds: float = 0) -> None:
    """The same for who has an event loop."""
    if token:
        mark(token)
    if seconds:
        await asyncio.sleep(seconds)


def mark(token: str) -> None:
    """Whoever listens knows when this was, on the clock that all processes share."""
    try:
        _socket().sendto(f"{token} {time.monotonic():.6f}".encode(), os.environ[VARIABLE])
    except OSError:  # nobody listens any more
        return


@cache
def _socket() -> socket.socket:
    return socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
