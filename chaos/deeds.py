"""Applications beside the platform: each deed is a row of theirs and an event, in one transaction.

Their table is the other side of the verdict: what stands there was committed, whether its author
heard of that or not; and what does not was rolled back.
"""

import json
import random
import threading
from collections.abc import Sequence
from typing import Any

import psycopg

from lading import publish

SAID = "chaos.deed"  # the events' type
TABLE = """
CREATE TABLE IF NOT EXISTS chaos_deed (token text PRIMARY KEY, speaker text, number integer)
"""
DO = "INSERT INTO chaos_deed VALUES (:token, :speaker, :number)"  # as SQLAlchemy wants it
DONE = "SELECT token FROM chaos_deed"
_DO = "INSERT INTO chaos_deed VALUES (%(token)s, %(speaker)s, %(number)s)"
_PUBLISH = "SELECT lading_publish(%s, CAST(%s AS jsonb))"
UNDONE = 0.3  # of the deeds
PAUSES = (0.0, 0.0, 0.02, 0.1, 1.5)  # seconds before the end of a transaction: one of these
BETWEEN = (0.02, 0.2)  # seconds between two of them, from … to
AWAY = 0.3  # seconds until an application tries again to reach its database


class Deeds:
    """Some applications, each a thread: by turns they speak SQL, and use the library."""

    def __init__(self, url: str, seeds: Sequence[int]) -> None:
        self._url = url
        self._stopping = threading.Event()
        self.undone: set[str] = set()  #: tokens of those that were rolled back
        self._threads = [
            threading.Thread(target=self._act, args=(place, seed), name="deeds", daemon=True)
            for place, seed in enumerate(seeds)
        ]

    def begin(self) -> None:
        """They act from now on."""
        for thread in self._threads:
            thread.start()

    def end(self, within: float) -> None:
        """They act no more."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(within)

    def _act(self, place: int, seed: int) -> None:
        chance, number = random.Random(seed), 0
        while not self._stopping.wait(chance.uniform(*BETWEEN)):
            number += 1
            token = f"{chance.getrandbits(128):032x}"
            deed = {"token": token, "speaker": f"application {place}", "number": number}
            is_undone, pause = chance.random() < UNDONE, chance.choice(PAUSES)
            try:
                self._do(deed, pause, is_undone=is_undone, by_library=bool(place % 2))
            except psycopg.Error:  # the table knows whether it was done
                self._stopping.wait(AWAY)
                continue
            if is_undone:
                self.undone.add(token)

    def _do(self, deed: dict[str, Any], pause: float, *, is_undone: bool, by_library: bool) -> None:
        with psycopg.connect(self._url, connect_timeout=5) as connection:
            connection.execute(_DO, deed)
            data = {**deed, "ms": 1}
            if by_library:
                publish(connection, SAID, data)
            else:
                connection.execute(_PUBLISH, (SAID, json.dumps(data)))
            self._stopping.wait(pause)
            if is_undone:
                connection.rollback()
