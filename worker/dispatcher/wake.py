"""Hears the hints that something can be done now. Without it all is done too, a second later."""

from collections.abc import Callable, Sequence

from jobs.hints import BUS, SCHEDULES, WAKE
from worker.dispatcher.loop import spawn
from worker.ear import Ear


class Wake:
    """A thread that calls the listeners at each hint, and when it can hear again.

    `on_schedules` hears of schedules that have changed, `on_bus` of events that wait, the
    `listeners` of everything else.
    """

    def __init__(
        self,
        broker_url: str,
        listeners: Sequence[Callable[[], None]],
        on_schedules: Callable[[], None],
        on_bus: Callable[[], None],
    ) -> None:
        self._listeners = listeners
        self._named = {SCHEDULES.encode(): on_schedules, BUS.encode(): on_bus}
        self._ear = Ear(broker_url, WAKE, on_open=self._tell_all, on_message=self._tell)

    def start(self) -> None:
        spawn("wake", self._ear.keep, self._ear.closing)

    def stop(self) -> None:
        """It may go on for a while, and does not matter any more."""
        self._ear.closing.set()

    def _tell_all(self) -> None:
        for listener in (*self._listeners, *self._named.values()):
            listener()

    def _tell(self, queue: bytes) -> None:
        named = self._named.get(queue)
        for listener in self._listeners if named is None else [named]:
            listener()
