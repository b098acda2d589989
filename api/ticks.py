"""uvicorn's main loop, with a tick a second instead of ten: they were what an idle API did.

At a tick uvicorn looks whether it is to end, and once a second it writes the date for its answers.
Whoever is told to end is told by a signal, which is heard here (api/draining.py), so nobody has to
look for it. See docs/decisions/0019-ticks.md.
"""

import asyncio
import signal
from contextlib import suppress
from functools import partial

import uvicorn

from api.draining import Draining

TICK = 1.0  # seconds: as often as the date changes


def slow_down(draining: Draining) -> None:
    """The server whose lifespan begins ticks seldom until it drains, and then as ever.

    To be called before anybody else handles its signals. It is left alone where it handles none,
    off the main thread; where it counts requests up to a limit; and where it is not uvicorn's own.
    """
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    if type(server) is uvicorn.Server and server.limit_max_requests is None:
        server.main_loop = partial(_tick, server, draining)  # type: ignore[method-assign]


async def _tick(server: uvicorn.Server, draining: Draining) -> None:
    has_begun = asyncio.Event()
    draining.call(has_begun.set)
    while not has_begun.is_set():
        if await server.on_tick(0):  # each of them is one at which the date is written
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(TICK):
                await has_begun.wait()
    await uvicorn.Server.main_loop(server)
