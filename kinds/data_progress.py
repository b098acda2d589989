"""What the engine tells while it works: counted bytes and rows, as a share of the whole."""

import json
import os
import threading
import time
from dataclasses import dataclass
from typing import Any

EVERY = 0.2  # seconds between two reports of progress; the platform keeps the newest anyway


class Channel:
    """Lines of JSON to the handler's process; from any thread. Progress never goes back."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()
        self._fraction, self._at = 0.0, 0.0

    def send(self, message: dict[str, Any]) -> None:
        """The message has been written; the parent reads all the time."""
        left = json.dumps(message).encode() + b"\n"
        with self._lock:
            while left:
                left = left[os.write(self._descriptor, left) :]

    def log(self, level: str, message: str, **fields: Any) -> None:
        """The line will stand in the job's log."""
        self.send({"log": message, "level": level, "fields": fields})

    def progress(self, fraction: float, message: str, *, now: bool = False) -> None:
        """The job shows it soon; between two reports (unless `now`) it is left out."""
        with self._lock:
            self._fraction = fraction = max(self._fraction, min(fraction, 1.0))
            if not now and time.monotonic() - self._at < EVERY:
                return
            self._at = time.monotonic()
        self.send({"progress": round(fraction, 4), "message": message})


@dataclass(slots=True)
class Phase:
    """A part of the work, from `start` to `end` on the scale of the whole: 0 … 1."""

    channel: Channel
    start: float
    end: float

    def report(self, done: float, total: float, message: str, *, now: bool = False) -> None:
        """So much of this part is done; of an unknown total (0) nothing is claimed."""
        share = min(done / total, 1.0) if total else 0.0
        fraction = self.start + (self.end - self.start) * share
        self.channel.progress(fraction, message, now=now)

    def split(self, number: int, count: int) -> "Phase":
        """The `number`-th (0, 1, …) of `count` equal parts."""
        width = (self.end - self.start) / count
        return Phase(self.channel, self.start + number * width, self.start + (number + 1) * width)
