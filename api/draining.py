"""Whether this process has been told to end, said early enough to end what is open.

uvicorn waits for open responses before it tells the application that it ends (the lifespan's end),
so a stream would keep it for ever. Hence its signal handlers are wrapped: the signal is heard here
first, streams and long polls end at once, and then uvicorn goes on as usual.
"""

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT)
FAREWELL = 0.5  # seconds that what is `held` has for its last words, before uvicorn cuts it off


class Draining:
    """Begins once and never ends. To be used on the event loop's thread."""

    def __init__(self) -> None:
        self._began = False
        self._callbacks: list[Callable[[], None]] = []
        self._held = 0
        self._pass_on: Callable[[], None] | None = None  # a signal that waits for the held

    @property
    def is_set(self) -> bool:
        """Whether nothing new should begin."""
        return self._began

    def begin(self) -> None:
        """Everybody who asked to be called has been called."""
        if not self._began:
            self._began = True
            for callback in self._callbacks:
                callback()

    def call(self, callback: Callable[[], None]) -> None:
        """`callback` is called when it begins, or now if it has begun."""
        self._callbacks.append(callback)
        if self._began:
            callback()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Inside, a signal that begins it is passed on only after FAREWELL, or when all are out."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
            if not self._held:
                self._release()

    def _begin_and_wait(self, pass_on: Callable[[], None]) -> None:
        if not self._held or self._began:
            pass_on()
            return
        self._pass_on = pass_on
        asyncio.get_running_loop().call_later(FAREWELL, self._release)
        self.begin()

    def _release(self) -> None:
        if self._pass_on is not None:
            pass_on, self._pass_on = self._pass_on, None
            pass_on()

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Inside, SIGTERM and SIGINT begin it, and then do what they did before.

        Where signals cannot be handled, off the main thread, nothing is changed.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        before = {number: signal.getsignal(number) for number in SIGNALS}

        def handle(number: int, frame: FrameType | None) -> None:
            pass_on = partial(_pass_on, before[signal.Signals(number)], number, frame)
            if self._held and not self._began:
                loop.call_soon_threadsafe(self._begin_and_wait, pass_on)
            else:
                loop.call_soon_threadsafe(self.begin)
                pass_on()

        for number in SIGNALS:
            signal.signal(number, handle)
        try:
            yield
        finally:
            for number in SIGNALS:
                if signal.getsignal(number) is handle:
                    signal.signal(number, before[number])


def _pass_on(before: Any, number: int, frame: FrameType | None) -> None:
    """What stood there before happens, the default action included."""
    if callable(before):
        before(number, frame)
    elif before is signal.SIG_DFL:
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)
