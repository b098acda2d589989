"""Hears the hints that something can be done now. Without it all is done too, a second later."""

import threading
from collections.abc import Callable, Sequence

import redis
import structlog

from jobs.hints import WAKE
from worker.dispatcher.loop import spawn

SILENCE = 5.0  # seconds without a message, after which the connection has to prove itself
PAUSE = 1.0  # seconds between attempts to reach a broker that is away

_log = structlog.get_logger(__name__)


class Wake:
    """A thread that calls the listeners at each hint, and when it can hear again."""

    def __init__(self, broker_url: str, listeners: Sequence[Callable[[], None]]) -> None:
        self._client = redis.Redis.from_url(
            broker_url, socket_timeout=SILENCE, socket_connect_timeout=SILENCE
        )
        self._listeners = listeners
        self._stopping = threading.Event()
        self._is_away = False

    def start(self) -> None:
        spawn("wake", self._keep, self._stopping)

    def stop(self) -> None:
        """It may go on for a while, and does not matter any more."""
        self._stopping.set()

    def _keep(self) -> None:
        while not self._stopping.is_set():
            try:
                self._listen()
            except redis.RedisError as error:
                if not self._is_away:
                    _log.warning("no hints for now", reason=str(error))
                self._is_away = True
                self._stopping.wait(PAUSE)

    def _listen(self) -> None:
        with self._client.pubsub() as channel:  # type: ignore[no-untyped-call]
            channel.subscribe(WAKE)
            self._is_away = False
            self._tell()  # of what was said while nobody listened
            is_asked = False
            while not self._stopping.is_set():
                message = channel.get_message(timeout=SILENCE)
                if message is None and is_asked:
                    raise redis.TimeoutError(f"no answer for {SILENCE} s")
                is_asked = message is None
                if message is None:
                    channel.ping()
                elif message["type"] == "message":
                    self._tell()

    def _tell(self) -> None:
        for listener in self._listeners:
            listener()
