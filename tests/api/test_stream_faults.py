"""Whatever is cut whenever: a follower that comes back has each job's events, all and in order.

Hypothesis draws what happens to jobs, to the way to the server, to Redis and to the server itself.
Much more of it: `LADING_PROPERTIES=1000 pytest tests/api/test_stream_faults.py` (half an hour).
"""

import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from typing import Any
from uuid import UUID

import pytest
import redis
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr
from sqlalchemy import Engine

from dev.valkey import EmbeddedValkey, temporary_valkey
from jobs.feed import read_position
from jobs.hints import Hints
from jobs.settings import Settings
from tests.api.returning import (
    FINAL,
    Asynchronous,
    Blocking,
    EventSource,
    ManyOnOneSocket,
    OneSocket,
    Returning,
    Told,
    told,
)
from tests.api.serving import Api, new_key, serve
from tests.api.stories import BadHints, Story, telling
from tests.api.trouble import Trouble, trouble
from tests.eventually import eventually
from tests.jobs.making import read_events
from tests.jobs.properties import examples

SHORT = 0.3  # seconds, for the product's own pauses: what is late stays late, and tests end
PATIENCE = 60.0  # seconds in which everybody has everything, on a machine with much else to do

Plan = Sequence[tuple[Any, ...]]
JOB = st.integers(0, 1)
#: What may happen, and how often compared with the rest.
STEPS = [
    *[st.tuples(st.just("progress"), JOB, st.integers(1, 8))] * 4,
    *[st.tuples(st.just("log"), JOB, st.integers(1, 3))] * 2,
    *[st.tuples(st.just("fall"), JOB)] * 2,
    *[st.tuples(st.just("settle"))] * 2,
    *[st.tuples(st.just("cut"), st.booleans())] * 3,
    *[st.tuples(st.just("cut_after"), st.integers(0, 3000))] * 3,
    st.tuples(st.just("stall"), st.floats(0.1, 0.5)),
    st.tuples(st.just("delay"), st.floats(0, 0.03)),
    st.tuples(st.just("mislead"), st.booleans()),
    st.tuples(st.just("wipe")),
    st.tuples(st.just("freeze")),
    st.tuples(st.just("kill")),
    st.tuples(st.just("bring_back")),
    st.tuples(st.just("restart"), st.booleans()),
]
CUT_AGAIN_AND_AGAIN: Plan = [
    *[("cut_after", size) for size in (0, 150, 400, 700, 1000, 1500, 2000, 2500)],
    *[("progress", 0, 3), ("settle",), ("cut", False), ("fall", 1), ("log", 0, 2), ("cut", True)],
    *[("stall", 0.2), ("progress", 1, 8), ("cut", True), ("progress", 0, 2), ("settle",)],
    *[("mislead", True), ("progress", 0, 8), ("progress", 1, 8), ("fall", 0), ("fall", 1)],
]
EVERYTHING_GOES: Plan = [
    *[("progress", 0, 3), ("settle",), ("freeze",), ("progress", 0, 2), ("restart", False)],
    *[("fall", 0), ("progress", 1, 2), ("settle",), ("bring_back",), ("wipe",), ("log", 1, 1)],
    *[("kill",), ("cut", False), ("progress", 0, 3), ("bring_back",), ("restart", True)],
    *[("progress", 1, 3), ("fall", 1)],
]


class World:
    """A server behind a troubled path, with a Redis of its own; all of them may go."""

    def __init__(
        self, settings: Settings, engine: Engine, path: Trouble, valkey: EmbeddedValkey
    ) -> None:
        self.settings, self.engine, self.path, self.valkey = settings, engine, path, valkey
        self.key = new_key(settings)
        self._serving = ExitStack()
        self._api: Api | None = None
        self._is_frozen = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.path.port}"

    def start(self) -> None:
        self._api = self._serving.enter_context(serve(self.settings))
        self.path.lead_to(int(self._api.url.rpartition(":")[2]))

    def stop(self, *, is_polite: bool) -> None:
        """With a bye for everybody, or as if the machine had gone."""
        assert self._api is not None
        if not is_polite:
            self.path.lead_to(None)
            self.path.cut(is_reset=True)
        draining, (task, *_) = self._api.parts.draining, self._api.parts.hub._background.tasks
        task.get_loop().call_soon_threadsafe(draining.begin)
        self._serving.close()

    def freeze(self) -> None:
        if self.valkey.pid is not None:
            os.kill(self.valkey.pid, signal.SIGSTOP)
            self._is_frozen = True

    def kill(self) -> None:
        self.valkey.kill()
        self._is_frozen = False

    def bring_back(self) -> None:
        if self.valkey.pid is None:
            self.valkey.start()
        os.kill(self.valkey.pid or 0, signal.SIGCONT)
        self._is_frozen = False

    def wipe(self) -> None:
        if self.valkey.pid is not None and not self._is_frozen:
            with redis.Redis.from_url(self.valkey.url) as client:
                client.flushall()


@pytest.fixture(scope="module")
def world(settings: Settings, engine: Engine) -> Iterator[World]:
    with (
        pytest.MonkeyPatch.context() as patch,
        trouble() as path,
        temporary_valkey() as valkey,
    ):
        for name in ("api.hub.SWEEP_EVERY", "api.tail.SWEEP_EVERY", "api.subscription.QUIET"):
            patch.setattr(name, SHORT)
        patch.setattr("api.ws.session.SLUGGISH", PATIENCE)  # for the slow, progress is left out
        patch.setattr("api.subscription.LONGEST_PAUSE", SHORT)
        patch.setattr("lading.client.trying.CAP", SHORT)
        mine = settings.model_copy(update={"broker_url": SecretStr(valkey.url)})
        made = World(mine, engine, path, valkey)
        made.start()
        yield made
        made.bring_back()
        made.stop(is_polite=False)


class Life:
    """Two jobs, everybody who follows them, and what happens meanwhile."""

    def __init__(self, world: World, good: Hints, bad: Hints) -> None:
        self.world, self.good, self.bad = world, good, bad
        self.story = story = Story(world.engine, good)
        with world.engine.connect() as connection:
            position = read_position(connection).text()
        self.jobs = [story.begin(), story.begin()]
        self.attempts = dict.fromkeys(self.jobs, 1)
        first, second = both = [str(job_id) for job_id in self.jobs]
        at = (world.url, world.key)
        self.followers: list[Returning] = [
            ManyOnOneSocket(*at, both, position),
            OneSocket(*at, [first]),
            EventSource(*at, [second]),
            Blocking(*at, [second]),
            Asynchronous(*at, both),
        ]
        self._following: list[Future[None]] = []

    @contextmanager
    def followed(self) -> Iterator[None]:
        """Inside, they follow; at its end all have ended, or one has failed."""
        with ThreadPoolExecutor(len(self.followers)) as pool:
            self._following = [follower.begin(pool) for follower in self.followers]
            try:
                yield
                for future in self._following:
                    future.result(PATIENCE)
            finally:
                for follower in self.followers:
                    follower.give_up()

    def progress(self, job: int, times: int) -> None:
        for step in range(times):
            self._report("record_progress", job, fraction=step / times, message="half ½ way")

    def log(self, job: int, times: int) -> None:
        for step in range(times):
            line = {"level": "info", "message": "x" * 1000 * (step + 1), "fields": {}}
            self._report("record_log", job, lines=[line])

    def fall(self, job: int) -> None:
        """An end that is taken back."""
        job_id = self.jobs[job]
        self.story.fail(job_id, self.attempts[job_id])
        self.story.retry(job_id)
        self.attempts[job_id] += 1
        self.story.start(job_id, self.attempts[job_id])

    def succeed(self) -> None:
        for job in range(len(self.jobs)):
            self._report("succeed", job, result=None)

    def settle(self) -> None:
        """Everybody has everything so far."""
        heads = {str(job_id): len(self.logged(job_id)) for job_id in self.jobs}
        eventually(
            lambda: (
                any(future.done() and future.exception() for future in self._following)
                or all(follower.has(heads) for follower in self.followers)
            ),
            within=PATIENCE,
        )
        for future in self._following:
            if future.done():
                future.result()

    def restart(self, is_polite: bool) -> None:
        self.world.stop(is_polite=is_polite)
        self.world.start()

    def mislead(self, is_misled: bool) -> None:
        """From now on hints are lost, doubled and overtake each other; or not any more."""
        self.story.hints = self.bad if is_misled else self.good

    def cut(self, is_reset: bool) -> None:
        self.world.path.cut(is_reset=is_reset)

    def play(self, plan: Plan) -> None:
        for name, *arguments in plan:
            owners: list[Any] = [self, self.world, self.world.path]
            owner = next(each for each in owners if hasattr(each, name))
            getattr(owner, name)(*arguments)

    def logged(self, job_id: UUID) -> list[Told]:
        with self.world.engine.connect() as connection:
            return [told(row._asdict()) for row in read_events(connection, job_id)]

    def judge(self) -> None:
        """Who stays has all; who ends with a job has all up to an end of it."""
        for follower in self.followers:
            for job, seen in follower.everything:
                logged = self.logged(UUID(job))
                assert seen.events == logged[: seen.seq]
                assert seen.seq == len(logged) or not follower.stays
                assert seen.type in FINAL

    def _report(self, move: str, job: int, **facts: Any) -> None:
        job_id = self.jobs[job]
        self.story._do(move, job_id, attempt=self.attempts[job_id], **facts)


def live(world: World, plan: Plan) -> Life:
    """What the plan says has happened, and all who followed are content."""
    bad = BadHints(world.valkey.url, seed=len(plan), lost=0.3)
    with telling(world.valkey.url) as good, closing(bad):
        life = Life(world, good, bad)
        try:
            with life.followed():
                try:
                    life.play(plan)
                finally:
                    world.path.calm()
                    life.succeed()
        finally:
            world.bring_back()
        life.judge()
    return life


# Shrinking would play hundreds of plans more, a second or two each.
@settings(examples(8), phases=[Phase.explicit, Phase.generate])
@example(plan=CUT_AGAIN_AND_AGAIN)
@example(plan=EVERYTHING_GOES)
@given(plan=st.lists(st.one_of(STEPS), min_size=4, max_size=14))
def test_whoever_comes_back_has_every_event_once_and_in_order(world: World, plan: Plan) -> None:
    live(world, plan)


def test_the_path_is_as_bad_as_it_is_said_to_be(world: World) -> None:
    """Else the test above would prove nothing."""
    life = live(world, CUT_AGAIN_AND_AGAIN)
    for follower in life.followers[:3]:
        assert follower.comings > 1, follower
    assert world.path.cuts > 8
