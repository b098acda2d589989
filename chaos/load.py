"""Open-loop load: orders leave at their times, whether the ones before were answered or not."""

import threading
import time
from collections.abc import Callable, Sequence

from chaos.book import Book, Entry, Order
from chaos.client import Client

SENDERS = 16  # threads: that many submissions may wait for an answer at a time


class Load:
    """Sends `orders`, `rate` a second. `sent` is called with each accepted entry, by any thread."""

    def __init__(
        self,
        orders: Sequence[Order],
        rate: float,
        book: Book,
        make_client: Callable[[], Client],
        *,
        patience: float,
        sent: Callable[[Entry], None],
    ) -> None:
        self.rate, self.count = rate, len(orders)
        self._orders = iter(enumerate(orders))
        self._book, self._make_client, self._patience = book, make_client, patience
        self._sent = sent
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._begun = time.monotonic()
        self._threads = [
            threading.Thread(target=self._send, name=f"sender {n}", daemon=True)
            for n in range(min(SENDERS, len(orders)))
        ]

    def begin(self) -> None:
        """The first order leaves now."""
        self._begun = time.monotonic()
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """No more orders leave."""
        self._stopping.set()

    def join(self) -> None:
        """All are answered, or given up."""
        for thread in self._threads:
            thread.join()

    def _send(self) -> None:
        client = self._make_client()
        while (due := self._next()) is not None:
            index, order = due
            if self._stopping.wait(max(0.0, self._begun + index / self.rate - time.monotonic())):
                break
            entry = self._book.enter(order)
            client.submit(entry, self._patience)
            if entry.ids:
                self._sent(entry)
        client.close()

    def _next(self) -> tuple[int, Order] | None:
        with self._lock:
            return next(self._orders, None)
