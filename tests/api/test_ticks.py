"""An idle server ticks once a second, and ends as soon as it is told to."""

import asyncio
import signal
import time
from collections.abc import Iterator

import pytest
import uvicorn

from api.draining import Draining
from api.ticks import TICK, slow_down


class Ticking:
    """A server at which nothing but its ticks happens; they are counted."""

    def __init__(self, **options: int) -> None:
        self.server = uvicorn.Server(uvicorn.Config("nobody:asks", **options))  # type: ignore[arg-type]
        self.ticked_at: list[float] = []
        self.has_ticked_twice = asyncio.Event()
        self._on_tick = self.server.on_tick
        self.server.on_tick = self._tick  # type: ignore[method-assign]

    async def _tick(self, counter: int) -> bool:
        self.ticked_at.append(time.monotonic())
        if len(self.ticked_at) == 2:
            self.has_ticked_twice.set()
        self.server.server_state.default_headers = []
        is_over = await self._on_tick(counter)
        if counter == 0:
            assert self.server.server_state.default_headers[0][0] == b"date"
        return is_over

    async def until_told_to_end(self) -> None:
        """Two ticks have been, and then the process was told to end, and has."""
        draining = Draining()
        slow_down(draining)
        with draining.on_signals():
            running = asyncio.create_task(self.server.main_loop())
            await asyncio.wait_for(self.has_ticked_twice.wait(), 30)
            signal.raise_signal(signal.SIGTERM)
            await asyncio.wait_for(running, 30)


@pytest.fixture
def handled() -> Iterator[None]:
    """What handles SIGTERM afterwards is what did before."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("handled")
def test_a_server_ticks_once_a_second_and_heeds_a_signal_at_once() -> None:
    ticking = Ticking()
    signal.signal(signal.SIGTERM, ticking.server.handle_exit)
    asyncio.run(ticking.until_told_to_end())
    first, second = ticking.ticked_at[:2]
    assert second - first > 0.9 * TICK
    assert ticking.server.should_exit


@pytest.mark.usefixtures("handled")
def test_a_server_that_counts_its_requests_is_left_alone() -> None:
    ticking = Ticking(limit_max_requests=100)
    own = ticking.server.main_loop
    signal.signal(signal.SIGTERM, ticking.server.handle_exit)
    slow_down(Draining())
    assert ticking.server.main_loop == own


@pytest.mark.usefixtures("handled")
def test_a_server_that_handles_no_signals_is_left_alone() -> None:
    ticking = Ticking()
    own = ticking.server.main_loop
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    slow_down(Draining())
    assert ticking.server.main_loop == own
