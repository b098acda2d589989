"""Hears the hints that something can be done now. Without it all is done too, a second later."""

from collections.abc import Callable, Sequence

from jobs.hints import WAKE
from worker.dispatcher.loop import spawn
from worker.ear import Ear


class Wake:
    """A thread that calls the listeners at each hint, and when it can hear again."""

    def __init__(self, broker_url: str, listeners: Sequence[Callable[[], None]]) -> None:
        self._listeners = listeners
        self._ear = Ear(
            broker_url, WAKE, on_open=self._tell, on_message=lambda _queue: self._tell()
        )

    def start(self) -> None:
        spawn("wake", self._ear.keep, self._ear.closing)

    def stop(self) -> None:
        """It may go on for a while, and does not matter any more."""
        self._ear.closing.set()

    def _tell(self) -> None:
        for listener in self._listeners:
            listener()
