"""A job's events, followed to the end through whatever breaks on the way."""

import itertools
import threading
from collections.abc import Iterator
from uuid import uuid4

import anyio
import pytest

from dev.ports import free_port
from jobs.settings import Settings
from lading import AsyncClient, Client, Event, Job, LadingError, NotFound
from tests.api.serving import Api, serve
from tests.eventually import eventually
from tests.kinds_for_tests import echo
from tests.lading.gateway import EVENT_STREAM, Canned, cutting, gateway
from tests.lading.handwork import Background, Handwork


class Follower:
    """Follows a job in a thread; `events` is what it has seen so far."""

    def __init__(self, client: Client, job: Job, after: int = 0) -> None:
        self.events: list[Event] = []
        self._error: LadingError | None = None
        self._follow = client.follow(job, after=after)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            for event in self._follow:
                self.events.append(event)
        except LadingError as error:  # it is raised in the test
            self._error = error

    @property
    def seqs(self) -> list[int]:
        return [event.seq for event in self.events]

    def has(self, count: int) -> None:
        """It has seen so many events."""
        eventually(lambda: len(self.events) >= count, within=30)

    def end(self) -> list[Event]:
        """All events, once there are no more."""
        self._thread.join(40)
        assert not self._thread.is_alive()
        if self._error is not None:
            raise self._error
        return self.events


def test_history_comes_first_and_then_what_happens(client: Client, by_hand: Handwork) -> None:
    job = client.submit(echo)
    by_hand.start(job.id)
    follower = Follower(client, job)
    follower.has(2)
    by_hand.progress(job.id, 0.5, "half")
    follower.has(3)
    by_hand.succeed(job.id)
    assert [(event.seq, event.type) for event in follower.end()] == [
        (1, "created"),
        (2, "started"),
        (3, "progress"),
        (4, "succeeded"),
    ]
    assert follower.events == client.events(job)
    assert [event.seq for event in client.follow(job, after=2)] == [3, 4]
    assert [*client.follow(job, after=4)] == []


def test_an_end_that_was_taken_back_is_not_the_end(client: Client, by_hand: Handwork) -> None:
    job = client.submit(echo)
    by_hand.start(job.id)
    by_hand.fail(job.id)
    client.retry(job)
    follower = Follower(client, job)
    follower.has(4)
    by_hand.start(job.id, attempt=2)
    by_hand.succeed(job.id, attempt=2)
    assert [event.type for event in follower.end()] == [
        *("created", "started", "failed"),
        *("queued", "started", "succeeded"),
    ]


def test_no_event_is_lost_or_doubled_wherever_a_connection_is_cut(
    api: Api, client: Client, by_hand: Handwork
) -> None:
    job = client.submit(echo)
    port = int(api.url.rpartition(":")[2])
    budgets = itertools.chain([1, 300], range(500, 2500, 300))
    with cutting(port, budgets) as between:
        with Client(f"http://127.0.0.1:{between.port}", api.key) as through:
            follower = Follower(through, job)
            by_hand.run(job.id, steps=20)
            assert [event.seq for event in follower.end()] == list(range(1, 24))
        assert between.cuts >= 5
    assert follower.events == client.events(job)


def test_an_async_follower_survives_cuts_as_well(
    api: Api, client: Client, by_hand: Handwork, background: Background
) -> None:
    job = client.submit(echo)
    port = int(api.url.rpartition(":")[2])

    async def follow(url: str) -> list[Event]:
        async with AsyncClient(url, api.key) as through:
            return [event async for event in through.follow(job)]

    with cutting(port, itertools.chain([1, 300], range(500, 2000, 500))) as between:
        background(lambda: by_hand.run(job.id, steps=5))
        events = anyio.run(follow, f"http://127.0.0.1:{between.port}")
        assert between.cuts >= 3
    assert events == client.events(job)


def test_following_goes_on_over_a_restart_of_the_api(settings: Settings, by_hand: Handwork) -> None:
    with cutting(1) as between:
        with serve(settings) as first:
            between.lead_to(int(first.url.rpartition(":")[2]))
            through = Client(f"http://127.0.0.1:{between.port}", first.key)
            job = through.submit(echo)
            by_hand.start(job.id)
            follower = Follower(through, job)
            follower.has(2)
            between.lead_to(free_port())
        by_hand.progress(job.id, 0.5)  # nobody serves now
        with serve(settings) as second:
            between.lead_to(int(second.url.rpartition(":")[2]))
            by_hand.succeed(job.id)
            assert [event.seq for event in follower.end()] == [1, 2, 3, 4]
        through.close()


def test_a_deleted_job_ends_its_followers(api: Api, client: Client, by_hand: Handwork) -> None:
    with pytest.raises(NotFound):
        next(client.follow(uuid4()))
    port = int(api.url.rpartition(":")[2])
    with cutting(port) as between, Client(f"http://127.0.0.1:{between.port}", api.key) as through:
        job = client.submit(echo)
        follower = Follower(through, job)
        follower.has(1)
        between.lead_to(free_port())
        by_hand.run(job.id)
        client.delete(job)
        between.lead_to(port)
        with pytest.raises(NotFound):
            follower.end()


@pytest.mark.parametrize(
    "refusal",
    [
        Canned(406, {}, b"streams are not allowed here"),
        Canned(403, {"Content-Type": "text/html"}, b"<h1>no</h1>"),
        Canned(200, {"Content-Type": "application/json"}, b'{"items": []}'),
        Canned(502, {}, b""),
    ],
    ids=["406", "403", "200-of-another-type", "502-always"],
)
def test_where_streams_are_refused_it_asks_again_and_again(
    api: Api, client: Client, by_hand: Handwork, refusal: Canned
) -> None:
    with gateway(api.url) as between, Client(between.url, api.key) as through:
        between.to_streams = refusal
        job = client.submit(echo)
        follower = Follower(through, job)
        follower.has(1)
        by_hand.run(job.id, steps=3)
        assert follower.end() == client.events(job)
        assert [each for each in between.seen if "wait=" in each.path]


def test_where_streams_are_held_back_it_asks_again_and_again(
    api: Api, client: Client, by_hand: Handwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lading.client.wire.LISTENING", 1.0)  # not 20 s, for the test's sake
    with gateway(api.url) as between, Client(between.url, api.key) as through:
        between.holds_streams = True
        job = client.submit(echo)
        follower = Follower(through, job)
        follower.has(1)
        by_hand.run(job.id, steps=3)
        assert follower.end() == client.events(job)
        streams = [each for each in between.seen if each.headers["accept"] == EVENT_STREAM]
        assert len(streams) == 1


def test_leaving_early_closes_the_stream(api: Api, client: Client) -> None:
    job = client.submit(echo)
    with Client(api.url, api.key) as leaving:
        events = leaving.follow(job)
        assert next(events).seq == 1
        assert isinstance(events, Iterator)
        events.close()  # type: ignore[attr-defined]
        assert leaving.get(job).id == job.id
