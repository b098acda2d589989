"""Hears the hints that something can be done now. Without it all is done too, a second later."""

from collections.abc import Callable, Sequence

from jobs.hints import SCHEDULES, WAKE
from worker.dispatcher.loop import spawn
from worker.ear import Ear


class Wake:
    """A thread that calls the listeners at each hint, and when it can hear again.

    `on_schedules` hears of schedules that have changed, the `listeners` of everything else.
    """

    def __init__(
        self,
        broker_url: str,
        listeners: Sequence[Callable[[], None]],
        on_schedules: Callable[[], None],
    ) -> None:
        self._listeners, self._on_schedules = listeners, on_schedules
        self._ear = Ear(broker_url, WAKE, on_open=self._tell_all, on_message=self._tell)

    def start(self) -> None:
        spawn("wake", self._ear.keep, self._ear.closing)

    def stop(self) -> None:
        """It may go on for a while, and does not matter any more."""
        self._ear.closing.set()

    def _tell_all(self) -> None:
        for listener in (*self._listeners, self._on_schedules):
            listener()

    def _tell(self, queue: bytes) -> None:
        if queue == SCHEDULES.encode():
            self._on_schedules()
            return
        for listener in self._listeners:
            listener()
