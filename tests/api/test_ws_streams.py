"""What a socket follows comes whole and in order, through whatever cuts it off."""

import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import pytest
from pydantic import SecretStr
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError

from api.recorded import Recorded
from api.ws.coalescing import coalesced
from dev.postgres import temporary_postgres
from dev.valkey import temporary_valkey
from jobs import database
from jobs.feed import Place, Position, Snapshot
from jobs.hints import Hints
from jobs.settings import Settings
from tests.api.serving import Api, serve
from tests.api.speaking import Client, Frame, ends, seqs, speaking
from tests.api.stories import Story, telling
from tests.conftest import migrate
from tests.eventually import eventually
from tests.jobs.making import make_job
from tests.jobs.test_feed import write


@pytest.fixture(scope="module")
def hints(api: Api) -> Iterator[Hints]:
    with telling(api.settings.broker_url.get_secret_value()) as sender:
        yield sender


@pytest.fixture
def story(engine: Engine, hints: Hints) -> Story:
    return Story(engine, hints)


def listed(api: Api, job_id: UUID, after: int = 0) -> Any:
    return api.http.get(f"/v1/jobs/{job_id}/events", params={"after": after}).json()["items"]


def test_a_job_is_followed_from_its_beginning_and_beyond_its_end(api: Api, story: Story) -> None:
    job_id = story.begin()
    story.progress(job_id, 2, "half \u2028 way")
    with speaking(api) as client:
        answer = client.follow(job_id)
        assert answer["seq"] == answer["snapshot"]["seq"] == 3
        story.fail(job_id)
        events = client.events(ends)
        assert [each["event"] for each in events] == listed(api, job_id)
        assert not any("position" in each for each in events)
        story.retry(job_id)
        assert client.receive("event")["event"]["type"] == "queued", "the stream stays"


def test_a_job_resumes_after_every_seq(api: Api, story: Story) -> None:
    job_id = story.begin()
    story.progress(job_id, 2)
    story.succeed(job_id)
    with speaking(api) as client:
        for after in range(5):
            client.follow(job_id, after, id_=str(after))
            if after < 4:
                events = client.events(ends, str(after))
                assert [each["event"] for each in events] == listed(api, job_id, after)
        assert client.is_silent()


def test_a_job_that_is_deleted_ends_its_stream_only(api: Api, story: Story) -> None:
    job_id, other = story.begin(), story.begin()
    story.succeed(job_id)
    with speaking(api) as client:
        client.follow(job_id, after=2)
        client.follow(other, after=1, id_="other")
        assert api.http.delete(f"/v1/jobs/{job_id}").status_code == 204
        error = client.receive("error")
        assert (error["id"], error["problem"]["code"]) == ("s", "job-not-found")
        assert client.follow(other, after=1)["type"] == "subscribed", "its id is free again"


def test_the_feed_begins_with_what_there_is_and_goes_on(api: Api, story: Story) -> None:
    first = story.begin()
    with speaking(api) as client:
        answer = client.follow_all(kind="test.echo")
        page = api.http.get("/v1/jobs", params={"kind": "test.echo"}).json()
        assert answer["snapshot"] == page
        assert str(first) in {job["id"] for job in page["items"]}
        story.progress(first)
        second = story.begin()
        story.succeed(second)
        events = client.events(ends)
        got = {(each["event"]["job_id"], each["event"]["seq"]) for each in events}
        assert got == {(str(first), 2), (str(second), 1), (str(second), 2)}
        assert Position.parse(events[-1]["position"]) is not None


def test_the_feeds_cursor_leads_on_in_the_list(api: Api, engine: Engine) -> None:
    with engine.begin() as connection:
        for _ in range(60):
            make_job(connection, kind="test.many", labels={"a": "1"})
    with speaking(api) as client:
        snapshot = client.follow_all(kind="test.many", label={"a": "1"})["snapshot"]
    query = {"kind": "test.many", "label.a": "1", "cursor": snapshot["next_cursor"]}
    rest = api.http.get("/v1/jobs", params=query)
    assert (len(snapshot["items"]), len(rest.json()["items"])) == (50, 10)


def test_filters_narrow_the_feed(api: Api, engine: Engine, story: Story) -> None:
    with speaking(api) as client:
        client.follow_all(id_="states", state=["succeeded", "failed"], queue="default")
        client.follow_all(id_="labels", label={"customer": "17"})
        client.follow_all(id_="nothing", kind="test.none")
        for _ in range(2):
            job_id = story.begin()
            story.progress(job_id)
            story.succeed(job_id)
        with engine.begin() as connection:
            labelled = make_job(connection, labels={"customer": "17", "x": "y"})
        got: dict[str, list[str]] = {"states": [], "labels": [], "nothing": []}
        while len(got["states"]) < 2 or not got["labels"]:
            frame = client.receive("event")
            got[frame["id"]].append(frame["event"]["type"])
            assert frame["id"] == "states" or frame["event"]["job_id"] == str(labelled)
        assert got == {"states": ["succeeded"] * 2, "labels": ["created"], "nothing": []}
        assert client.is_silent()


def test_a_transaction_that_commits_late_is_in_the_feed_all_the_same(
    api: Api, engine: Engine, hints: Hints
) -> None:
    """Two are open; the one that began first ends last, after a reader has gone past it."""
    first, second = Story(engine).begin(), Story(engine).begin()
    with speaking(api) as client, engine.connect() as lower, engine.connect() as higher:
        client.follow_all()
        write(lower, first)
        write(higher, second)
        higher.commit()
        (seen,) = client.events(lambda event: event["job_id"] == str(second))
        with speaking(api) as resumed:
            resumed.follow_all(seen["position"])
            lower.commit()
            for each in (client, resumed):
                (late,) = each.events(lambda _: True)
                assert (late["event"]["job_id"], late["event"]["seq"]) == (str(first), 2)
                assert each.is_silent()


def test_the_feed_resumes_from_every_position(api: Api, story: Story) -> None:
    with speaking(api) as client:
        position = client.follow_all()["position"]
        frames: list[Frame] = []
        for _ in range(5):
            job_id = story.begin()
            story.progress(job_id)
            story.succeed(job_id)
            frames += client.events(is_end_of(job_id))
    keys = [*map(key, frames)]
    for number, frame in enumerate(frames):
        with speaking(api) as client:
            client.follow_all(position)
            again = [*map(key, client.events(is_end_of(job_id)))]
        assert set(keys[number:]) <= set(again) <= set(keys), "a part may come again"
        position = frame.get("position", position)
    with speaking(api) as client:
        client.follow_all(position)
        assert client.is_silent()


def is_end_of(job_id: UUID) -> Callable[[Frame], bool]:
    return lambda event: ends(event) and event["job_id"] == str(job_id)


def key(frame: Frame) -> tuple[str, int]:
    return frame["event"]["job_id"], frame["event"]["seq"]


def test_a_position_of_another_database_resets_the_feed(api: Api, story: Story) -> None:
    job_id = story.begin()
    with speaking(api) as client:
        position = Position.parse(client.follow_all()["position"])
        assert position is not None
        client.say("unsubscribe", id="s")
        ahead = Place(Snapshot(position.place.after.end + 10**9))
        for wrong in (position._replace(epoch="00000000"), position._replace(place=ahead)):
            answer = client.follow_all(wrong.text(), id_=wrong.text()[:64])
            assert answer["snapshot"] is None
            reset = client.receive("reset")
            assert (reset["id"], reset["reason"]) == (wrong.text()[:64], "position-unknown")
            assert reset["snapshot"]["items"][0]["id"] == str(job_id)
            story.progress(job_id)
            while client.receive("event")["id"] != answer["id"]:
                pass


def test_feeds_are_the_projects_own(api: Api, engine: Engine, story: Story) -> None:
    with api.client_of(project="theirs") as theirs:
        headers = {"Authorization": theirs.headers["authorization"]}
    with speaking(api) as mine, speaking(api, headers=headers) as client:
        mine.follow_all()
        client.follow_all()
        with engine.begin() as connection:
            hidden = make_job(connection, project_id="theirs")
        story.begin()
        (first,) = client.events(lambda _: True)
        assert first["event"]["job_id"] == str(hidden)
        (first,) = mine.events(lambda _: True)
        assert first["event"]["job_id"] != str(hidden)


def test_streams_go_on_where_they_were_through_restarts_and_without_redis(
    settings: Settings, engine: Engine
) -> None:
    """The API ends and another begins, three times; Redis is killed and comes back empty."""
    with temporary_valkey() as server, telling(server.url) as hints:
        mine = settings.model_copy(update={"broker_url": SecretStr(server.url)})
        story = Story(engine, hints)
        job_id = story.begin()
        writing = threading.Thread(target=story.progress, args=(job_id, 300))
        reader = Resuming(str(job_id))
        with database.autocommit(engine).connect():
            writing.start()
            for away in (server.kill, server.start, lambda: None):
                with serve(mine) as api, speaking(api) as client:
                    reader.read(client, 40)
                    away()
                    reader.read(client, 40)
            writing.join()
            story.succeed(job_id)
            with serve(mine) as api, speaking(api) as client:
                reader.read(client, 10_000)
                expected = [*range(1, 303)]
                assert reader.of_job == expected
                assert reader.of_feed == expected


def test_streams_wait_for_a_database_that_is_away(settings: Settings) -> None:
    with temporary_postgres() as server:
        migrate(server.url)
        mine = settings.model_copy(update={"database_url": SecretStr(server.url)})
        engine = database.make_engine(mine, name="tests", size=2)
        with (
            telling(mine.broker_url.get_secret_value()) as hints,
            serve(mine) as api,
            speaking(api) as client,
        ):
            story = Story(engine, hints)
            job_id = story.begin()
            position = client.follow_all(id_="feed")["position"]
            client.follow(job_id, after=1, id_="job")
            story.progress(job_id)
            assert {client.receive("event")["id"] for _ in range(2)} == {"feed", "job"}
            server.stop()
            client.say("subscribe", id="late", stream="jobs", after={"position": position})
            assert client.receive("error")["problem"]["code"] == "database-unavailable"
            server.start()
            eventually(lambda: has_ended(story, job_id), within=30)
            ended = [client.receive("event") for _ in range(2)]
            assert {each["id"] for each in ended} == {"feed", "job"}
            assert [each["event"]["seq"] for each in ended] == [3, 3]
        engine.dispose()


def has_ended(story: Story, job_id: UUID) -> bool:
    """Once the database is there again."""
    try:
        story.succeed(job_id)
    except OperationalError:
        return False
    return True


class Resuming:
    """A client that follows a job and the feed, and drops what it has."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        self.of_job: list[int] = []
        self.of_feed: list[int] = []
        self._position: str | None = None
        self._client: Client | None = None

    def read(self, client: Client, frames: int) -> None:
        """So many frames, or until both have seen the end."""
        if client is not self._client:
            self._client = client
            client.say(
                "subscribe", id="job", stream=f"job:{self.job_id}", after={"seq": len(self.of_job)}
            )
            after = {} if self._position is None else {"after": {"position": self._position}}
            client.say("subscribe", id="feed", stream="jobs", **after)
        ended: set[str] = set()
        while frames > 0 and ended < {"job", "feed"}:
            frame = client.receive("subscribed", "event")
            if frame["id"] == "feed":
                self._position = frame.get("position", self._position)
            if frame["type"] == "event" and frame["event"]["job_id"] == self.job_id:
                frames -= 1
                got = self.of_job if frame["id"] == "job" else self.of_feed
                if frame["id"] == "feed" and not got:
                    got += range(1, frame["event"]["seq"])  # what was before it began
                if frame["event"]["seq"] > (got[-1] if got else 0):
                    got.append(frame["event"]["seq"])
                if ends(frame["event"]):
                    ended.add(frame["id"])


def test_feeds_miss_nothing_while_transactions_overlap(
    api: Api, engine: Engine, hints: Hints
) -> None:
    """Readers come, go and resume at any time; transactions stay open and end in any order."""
    story, chance = Story(engine), random.Random(7)
    jobs = [story.begin() for _ in range(8)]
    with speaking(api) as first:
        position = first.follow_all(kind="test.echo")["position"]
        readers = [Feeding(chance.random() < 0.5, position) for _ in range(6)]
        with ThreadPoolExecutor(10) as pool:
            writing = [pool.submit(overlap, engine, hints, jobs[n::4], n) for n in range(4)]
            reading = [pool.submit(reader.read, api, jobs) for reader in readers]
            expected = {key for future in writing for key in future.result(60)}
            for job_id in jobs:
                story.succeed(job_id)
            for future in reading:
                future.result(60)
    for reader in readers:
        assert {key for key in reader.got if key[1] < reader.last[key[0]]} == expected
        for job_id in jobs:
            found = [seq for job, seq in reader.got if job == str(job_id)]
            assert found == sorted(found)


def overlap(engine: Engine, hints: Hints, jobs: list[UUID], seed: int) -> set[tuple[str, int]]:
    """Events of two transactions at a time, the older one of which may end last."""
    chance, written = random.Random(seed), set[tuple[str, int]]()
    with engine.connect() as one, engine.connect() as other:
        for _ in range(15):
            for connection, job_id in zip((one, other), jobs, strict=True):
                written.add((str(job_id), write(connection, job_id)[1]))
            for connection in chance.sample([one, other], 2):
                connection.commit()
                hints.wake([])
    return written


class Feeding:
    """A client of the feed that drops what it has, and may leave and come back."""

    def __init__(self, leaves: bool, position: str) -> None:
        self.leaves, self.position = leaves, position
        self.got: list[tuple[str, int]] = []
        self.last: dict[str, int] = {}
        self.frames = 0

    def read(self, api: Api, jobs: list[UUID]) -> None:
        """Until it has seen all of the jobs end."""
        left = {str(job_id) for job_id in jobs}
        while left:
            with speaking(api) as client:
                client.follow_all(self.position, kind="test.echo")
                for _ in range(20 if self.leaves else 10_000):
                    frame = client.receive("event")
                    self.take(frame)
                    if ends(frame["event"]):
                        left.discard(frame["event"]["job_id"])
                    if not left:
                        break

    def take(self, frame: Frame) -> None:
        self.position = frame.get("position", self.position)
        self.frames += 1
        assert self.frames < 5000, "it gets on, however often it leaves"
        job_id, seq = key(frame)
        if seq > self.last.get(job_id, 0):
            self.last[job_id] = seq
            self.got.append((job_id, seq))


def test_many_who_follow_the_feed_read_the_log_once(
    api: Api, story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0
    run = api.parts.database.run

    async def counting(function: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal looks
        looks += function.__name__ == "read_feed"
        return await run(function, *args, **kwargs)

    with speaking(api) as client:
        for number in range(100):
            assert client.follow_all(id_=str(number), kind="test.echo")["type"] == "subscribed"
        monkeypatch.setattr(api.parts.tail._database, "run", counting)
        job_id = story.begin()
        story.succeed(job_id)
        left = {str(number) for number in range(100)}
        while left:
            frame = client.receive("event")
            assert frame["event"]["job_id"] == str(job_id)
            if ends(frame["event"]):
                left.discard(frame["id"])
        assert 0 < looks < 30
    eventually(lambda: not len(api.parts.tail))


def test_a_reader_that_is_far_behind_reads_the_log_by_itself(
    api: Api, story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.tail.KEPT_EVENTS", 3)
    monkeypatch.setattr("api.tail.PAGE", 5)
    with speaking(api) as client:
        position = client.follow_all()["position"]
        job_id = story.begin()
        story.progress(job_id, 40)
        story.succeed(job_id)
        assert set(seqs(client.events(ends))) == set(range(1, 43))
    with speaking(api) as client:
        client.follow_all(position)
        assert seqs(client.events(ends)) == [*range(1, 43)]


def test_a_server_that_stands_still_does_not_take_its_clients_for_slow(
    api: Api, story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.ws.session.SLUGGISH", 0.0)  # as if each frame had taken that long
    with speaking(api) as client:
        position = client.follow_all()["position"]
        job_id = story.begin()
        story.progress(job_id, 40)
        story.succeed(job_id)
        assert set(seqs(client.events(ends))) == set(range(1, 43))
        client.follow_all(position, id_="again")
        assert seqs(client.events(ends, "again")) == [*range(1, 43)]


def test_progress_alone_is_coalesced_and_only_where_newer_follows() -> None:
    def event(seq: int, type_: str, job: str = "a") -> Recorded:
        return Recorded(seq, type_, f'{{"job_id":"{job * 36}","seq":{seq}}}')

    events = [
        event(1, "created"),
        event(2, "progress"),
        event(3, "progress"),
        event(7, "progress", "b"),
        event(4, "log"),
        event(5, "progress"),
        event(8, "progress", "b"),
        event(6, "succeeded"),
    ]
    assert [each.seq for each in coalesced(events)] == [1, 3, 4, 5, 8, 6]
    assert coalesced([]) == []
