"""An ear: a thread that hears what is said on one channel of the broker, while that is there.

What is said meanwhile is lost; `on_open` is called whenever it begins to hear, to look for it.
"""

import random
import threading
from collections.abc import Callable

import redis
import structlog

from jobs.forks import busy

SILENCE = 5.0  # seconds without a message, after which the connection has to prove itself
PAUSE = 1.0  # seconds, give or take a half, between attempts to reach a broker that is away

_log = structlog.get_logger(__name__)


class Ear:
    """One channel's. The callbacks run in its thread."""

    def __init__(
        self,
        broker_url: str,
        channel: str,
        *,
        on_open: Callable[[], object],
        on_message: Callable[[bytes], object],
    ) -> None:
        self._client = redis.Redis.from_url(
            broker_url, socket_timeout=SILENCE, socket_connect_timeout=SILENCE
        )
        self._channel = channel
        self._on_open, self._on_message = on_open, on_message
        self.closing = threading.Event()  #: set it to end; it may hear a little longer
        self._is_away = False

    def begin(self) -> None:
        """It hears in a thread of its own, as soon as the broker is there."""
        threading.Thread(target=self.keep, name=f"ear {self._channel}", daemon=True).start()

    def keep(self) -> None:
        """It has heard until it was closed."""
        while not self.closing.is_set():
            try:
                self._listen()
            except redis.RedisError as error:
                if not self._is_away:
                    _log.warning("no hints for now", channel=self._channel, reason=str(error))
                self._is_away = True
                self.closing.wait(PAUSE * (0.5 + random.random()))

    def _listen(self) -> None:
        with self._client.pubsub() as heard:  # type: ignore[no-untyped-call]
            with busy():
                heard.subscribe(self._channel)
            is_asked = False
            while not self.closing.is_set():
                message = heard.get_message(timeout=SILENCE)
                if message is None and is_asked:
                    raise redis.TimeoutError(f"no answer for {SILENCE} s")
                is_asked = message is None
                if message is None:
                    heard.ping()
                elif message["type"] == "subscribe":
                    self._is_away = False
                    self._on_open()
                elif message["type"] == "message":
                    self._on_message(message["data"])
