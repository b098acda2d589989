"""The stage of a scenario: the platform, a load, faults, and what is measured.

A scenario acts in one thread, the main one: servers that it starts end with their thread.
"""

import os
import random
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from chaos.book import Book, Entry, Order
from chaos.client import Client
from chaos.effects import Effect
from chaos.faults import Fault, Faults
from chaos.followers import FINAL, Followers
from chaos.keeper import Keeper
from chaos.load import Load
from chaos.platform import Platform
from chaos.waiting import until

DEFAULT_LEASE = 30.0  # seconds, where the layout says nothing
DEFAULT_SOFT_SHUTDOWN = 25.0  # seconds, likewise
PATIENCE = 120.0  # seconds in which a client repeats a submission that nobody answers
LONGEST = 180.0  # seconds of a load that a scenario stops when it is done
READERS = 6  # followers at a time
FOLLOWED = 12  # one in so many jobs of a load has a follower


@dataclass(slots=True)
class Measured:
    """One thing that a scenario has measured."""

    words: str
    seconds: float
    limit: float | None = None

    @property
    def is_late(self) -> bool:
        return self.limit is not None and self.seconds > self.limit


@dataclass(slots=True)
class Stage:
    """What a scenario is given."""

    platform: Platform
    random: random.Random
    name: str
    book: Book = field(default_factory=Book)
    faults: Faults = field(init=False)
    measured: list[Measured] = field(default_factory=list)
    flaws: list[str] = field(default_factory=list)  #: what a check of the scenario's own found
    notes: list[str] = field(default_factory=list)  #: worth telling
    loads: list[Load] = field(default_factory=list)
    followers: Followers = field(init=False)

    def __post_init__(self) -> None:
        self.faults = Faults(grace=2 * self.lease)
        self.followers = Followers(self.platform.urls, self.platform.key, READERS)

    @property
    def lease(self) -> float:
        """Seconds."""
        return self.platform.layout.lease or DEFAULT_LEASE

    @property
    def soft_limit(self) -> float:
        """Seconds that a worker lets its attempts run on when it is told to stop."""
        limit = self.platform.layout.soft_shutdown
        return DEFAULT_SOFT_SHUTDOWN if limit is None else limit

    def client(self, **options: Any) -> Client:
        """A new one; a client is one thread's."""
        return Client(self.platform.urls, self.platform.key, **options)

    def load(
        self,
        rate: float,
        seconds: float,
        *,
        orders: Sequence[Order] | None = None,
        urls: Sequence[str] | None = None,
        **client: Any,
    ) -> Load:
        """`rate` jobs a second begin to be submitted, the usual mix unless `orders` are given."""
        chosen = orders or self.mix(round(rate * seconds))
        load = Load(
            chosen,
            rate,
            self.book,
            lambda: Client(urls or self.platform.urls, self.platform.key, **client),
            patience=PATIENCE,
            sent=self._maybe_follow,
        )
        self.loads.append(load)
        load.begin()
        return load

    def mix(self, count: int) -> list[Order]:
        """Mostly quick jobs of both pools; some with steps, some that take a second or two."""
        return [self._any_order() for _ in range(count)]

    def order(
        self,
        kind: str,
        args: Mapping[str, Any],
        options: Mapping[str, Any] | None = None,
        **expected: Any,
    ) -> Order:
        """An order with a key of this scenario's; `expected`: what else an Order says."""
        key = f"{self.random.getrandbits(128):032x}"
        return Order(kind, args, options or {}, key=key, **expected)

    def submit(self, kind: str, *, options: dict[str, Any] | None = None, **wanted: Any) -> Entry:
        """One job is accepted. `wanted`: the fields of an Order, and any others are its args."""
        known = {name: wanted.pop(name) for name in ("state", "cause", "starts") if name in wanted}
        entry = self.book.enter(self.order(kind, wanted, options or {}, **known))
        client = self.client()
        client.submit(entry, PATIENCE)
        client.close()
        return entry

    def wait(self, seconds: float) -> None:
        """Nothing is done for so long."""
        time.sleep(seconds)

    def started(self, entry: Entry, attempt: int = 1) -> Effect | None:
        """The start of that attempt, if its handler has been called."""
        effects = self.platform.effects.by_job().get(entry.id, [])
        found = (e for e in effects if e.word == "start" and e.attempt >= attempt)
        return next(found, None)

    def await_start(self, entry: Entry, attempt: int = 1, *, within: float = 60.0) -> Effect:
        """The start of that attempt, or of a later one; NotInTime if it does not come."""
        found = until(lambda: self.started(entry, attempt), within=within, every=0.02)
        assert found is not None
        return found

    def finish(self, entries: Sequence[Entry], *, within: float = 60.0) -> None:
        """These jobs are final; NotInTime after `within` seconds in which none became so.

        A machine that others use as well is slow, not wrong; five times as long is the end of it.
        """
        waiting = {entry.id for entry in entries}
        client = self.client()

        def some_are() -> bool:
            found = client.jobs([*waiting])
            final = {job["id"] for job in found if job["state"] in FINAL}
            waiting.difference_update(final)
            return bool(final)

        end = time.monotonic() + 5 * within
        try:
            while waiting:
                until(some_are, within=min(within, end - time.monotonic()), every=0.25)
        finally:
            client.close()

    def slowest_answer(self) -> float:
        """Seconds that a client has waited for its 202, tries and pauses included, at most."""
        return max(
            (e.answered_at - e.sent_at for e in self.book.entries if e.answered_at), default=0
        )

    def slowest_start(self) -> float:
        """Seconds from a 202 to the handler's start, at most, of the jobs that have started."""
        starts = ((entry, self.started(entry)) for entry in self.book.accepted)
        return max((s.at - (e.answered_at or s.at) for e, s in starts if s), default=0)

    def tell(self, note: str) -> None:
        """The note stands with the figures."""
        self.notes.append(note)

    def kill(self, keeper: Keeper) -> Fault:
        """A process and all its children die (SIGKILL); its keeper starts it again."""
        fault = self.faults.add(f"kill -9 of {keeper.name}", frozenset(keeper.family))
        keeper.kill()
        return fault

    def kill_again_and_again(self, keepers: Sequence[Keeper], times: int, between: float) -> None:
        """One after the other is killed, `between` seconds after all of them serve (again)."""
        for count in range(times):
            for keeper in keepers:
                self.platform.await_ready(keeper)
            self.wait(between)
            self.kill(keepers[count % len(keepers)])

    def terminate(self, worker: Keeper) -> Fault:
        """A worker is told to stop (SIGTERM); the fault is over with its soft limit."""
        fault = self.faults.add(f"SIGTERM to {worker.name}", frozenset(worker.family))
        fault.until = fault.at + self.soft_limit
        worker.send(signal.SIGTERM, is_fatal=True)
        return fault

    def kill_child(self, pid: int) -> Fault:
        """One pool process dies (SIGKILL)."""
        fault = self.faults.add("kill -9 of a pool process", frozenset({pid}))
        os.kill(pid, signal.SIGKILL)
        return fault

    def outage(self, words: str) -> Fault:
        """A fault that excuses nothing: no attempt may be cut short by it; end() it."""
        return self.faults.add(words)

    def excuse(self, words: str) -> Fault:
        """A fault after which attempts may rightly be cut short wherever they run; end() it."""
        return self.faults.add(words, is_excuse=True)

    def measure(self, words: str, seconds: float, limit: float | None = None) -> None:
        """The scenario's own figure; above its limit the scenario has failed."""
        self.measured.append(Measured(words, seconds, limit))

    def check(self, is_so: object, words: str) -> None:
        """What has to be so; else `words` say what is wrong."""
        if not is_so:
            self.flaws.append(words)

    def _maybe_follow(self, entry: Entry) -> None:
        if int(entry.order.key[:4], 16) % FOLLOWED == 0:
            self.followers.follow(entry)

    def _any_order(self) -> Order:
        draw = self.random.random()
        if draw < 0.65:  # noqa: PLR2004 - shares of the mix
            return self.order("chaos.work", {"ms": 20})
        if draw < 0.88:  # noqa: PLR2004
            return self.order("chaos.io", {"ms": self.random.choice([20, 200])})
        if draw < 0.96:  # noqa: PLR2004
            return self.order("chaos.steps", {"ms": 40, "steps": 5})
        return self.order("chaos.work", {"ms": self.random.choice([600, 1200])})
