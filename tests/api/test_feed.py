"""Whatever happens to hints, a feed hands out each event once, in order, without gaps."""

import asyncio
import json
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import uuid4

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from api.feed import KEPT_CHARACTERS, KEPT_EVENTS, Feed
from api.recorded import Hint, Page, Recorded, hinted_job, page_of, read_hint
from jobs import hints
from jobs.events import ENDINGS, History
from jobs.views import EventView

JOB = uuid4()
TYPES = ["progress", "log", "queued", "failed", "cancelled", "succeeded"]


def event(seq: int, type_: str = "progress", size: int = 0) -> Recorded:
    view = EventView(JOB, seq, type_, datetime(2026, 11, 21, tzinfo=UTC), 1, {"x": "x" * size})
    return Recorded(seq, type_, view.json())


def page(log: list[Recorded], after: int, limit: int = 1000) -> Page:
    """What PostgreSQL would say."""
    is_final = log[-1].type in ENDINGS
    return Page(len(log), is_final, log[after : after + limit])


class Reader:
    """As api.follower.Follower reads, without the waiting."""

    def __init__(self, after: int, feed: Feed, log: list[Recorded]) -> None:
        self.first = self.seq = after
        self.got: list[Recorded] = []
        self.is_at_rest = False  #: takes what comes next
        self.read(feed, log, known=None)

    def accept(self, seq: int, told: bytes) -> bool:
        if not self.is_at_rest or self.seq != seq - 1:
            return False
        self.got.append(Recorded(seq, json.loads(told)["type"], told.decode()))
        self.seq = seq
        return True

    def wake(self) -> None:
        self.is_at_rest = False

    def read(self, feed: Feed, log: list[Recorded], known: list[Recorded] | None) -> None:
        """`known` is what the feed has for it."""
        events = known
        if events is None:
            heard = feed.heard
            asked = page(log, self.seq, limit=3)
            if asked.is_last:
                feed.learn(asked, heard)
            events = asked.events
        self.got.extend(events)
        self.seq = max([self.seq, *(each.seq for each in events)])


class Feeding(RuleBasedStateMachine):
    """Events are committed; their hints come late, twice, in any order, cut short or never."""

    def __init__(self) -> None:
        super().__init__()
        self.feed = Feed(JOB)
        self.log = [event(1, "created")]
        self.readers: list[Reader] = []
        self.asked: tuple[int, Page] | None = None

    @rule(type_=st.sampled_from(TYPES))
    def commit(self, type_: str) -> None:
        self.log.append(event(len(self.log) + 1, type_))

    @rule(data=st.data(), is_whole=st.booleans())
    def hint(self, data: st.DataObject, is_whole: bool) -> None:
        told = data.draw(st.sampled_from(self.log[-6:]))
        if not (is_whole and self.feed.pass_on(told.json.encode())):
            self.feed.hear(Hint(told.seq, told if is_whole else None))

    @rule(data=st.data())
    def join(self, data: st.DataObject) -> None:
        after = data.draw(st.integers(0, len(self.log)))
        self.readers.append(Reader(after, self.feed, self.log))
        self.feed.waiting.add(self.readers[-1])

    @precondition(lambda self: self.readers)
    @rule(data=st.data())
    def read(self, data: st.DataObject) -> None:
        reader = data.draw(st.sampled_from(self.readers))
        reader.read(self.feed, self.log, self.feed.after(reader.seq))
        reader.is_at_rest = data.draw(st.booleans())

    @precondition(lambda self: self.feed.newest is not None and self.asked is None)
    @rule(limit=st.integers(1, 4))
    def ask(self, limit: int) -> None:
        assert self.feed.newest is not None
        self.asked = self.feed.heard, page(self.log, self.feed.newest, limit)

    @precondition(lambda self: self.asked is not None)
    @rule()
    def answer(self) -> None:
        assert self.asked is not None
        (heard, answer), self.asked = self.asked, None
        if answer.events:
            self.feed.learn(answer, heard)
        else:
            self.feed.confirm(heard)

    @invariant()
    def nobody_misses_anything(self) -> None:
        for reader in self.readers:
            assert reader.got == self.log[reader.first : reader.seq]

    @invariant()
    def an_end_is_one_that_was_written(self) -> None:
        if self.feed.is_over:
            assert self.feed.newest is not None
            assert self.log[self.feed.newest - 1].type in ENDINGS

    def teardown(self) -> None:
        """Once the log was read, all readers have all, and the end is known for what it is."""
        self.readers.append(Reader(0, self.feed, self.log))
        for _ in range(len(self.log)):
            for reader in self.readers:
                reader.read(self.feed, self.log, self.feed.after(reader.seq))
        newest = self.feed.newest
        assert newest is not None
        heard, rest = self.feed.heard, page(self.log, newest)
        if rest.events:
            self.feed.learn(rest, heard)
        else:
            self.feed.confirm(heard)
        for reader in self.readers:
            reader.read(self.feed, self.log, self.feed.after(reader.seq))
            assert reader.got == self.log[reader.first :]
        assert self.feed.is_over == (self.log[-1].type in ENDINGS)
        assert not self.feed.is_behind


Feeding.TestCase.settings = hypothesis_settings(max_examples=200, deadline=None)
TestFeeding = Feeding.TestCase


def test_what_is_kept_for_slow_readers_is_bounded() -> None:
    feed = Feed(JOB)
    feed.begin_after(0)
    for seq in range(1, 3 * KEPT_EVENTS):
        feed.hear(Hint(seq, event(seq)))
    assert len(feed.after(3 * KEPT_EVENTS - 1 - KEPT_EVENTS) or []) == KEPT_EVENTS
    assert feed.after(3 * KEPT_EVENTS - 2 - KEPT_EVENTS) is None
    for seq in range(3 * KEPT_EVENTS, 3 * KEPT_EVENTS + 20):
        feed.hear(Hint(seq, event(seq, size=KEPT_CHARACTERS // 10 - 200)))
    assert len(feed.after(3 * KEPT_EVENTS + 9) or []) == 10
    assert feed.after(3 * KEPT_EVENTS + 8) is None


def test_every_sign_of_news_wakes_readers(monkeypatch: pytest.MonkeyPatch) -> None:
    feed, woken = Feed(JOB), asyncio.Event()
    waiter = Reader(0, feed, [event(1)])
    monkeypatch.setattr(waiter, "wake", woken.set)
    feed.waiting.add(waiter)
    feed.learn(page([event(1)], 0), feed.heard)
    news = [Hint(3, event(3)), Hint(2, event(2)), Hint(5, None), Hint(9, event(9))]
    for hint in news:
        woken.clear()
        feed.hear(hint)
        assert woken.is_set(), hint
    woken.clear()
    feed.hear(Hint(2, event(2)))
    assert not woken.is_set()


def test_who_cannot_be_woken_keeps_no_other_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    feed, woken, log = Feed(JOB), list[str](), [event(1), event(2)]

    def fail() -> None:
        woken.append("bad")
        raise RuntimeError("broken")

    for wake in (fail, lambda: woken.append("good"), fail):
        waiter = Reader(0, feed, log[:1])
        monkeypatch.setattr(waiter, "wake", wake)
        feed.waiting.add(waiter)
    for tell in (lambda: feed.pass_on(log[1].json.encode()), feed.wake):
        woken.clear()
        with pytest.raises(RuntimeError, match="broken"):
            tell()
        assert sorted(woken) == ["bad", "bad", "good"]


def test_what_all_readers_have_taken_is_not_kept() -> None:
    feed, log = Feed(JOB), [event(seq) for seq in range(1, 5)]
    quick, slow = Reader(0, feed, log[:1]), Reader(0, feed, log[:1])
    feed.waiting.update((quick, slow))
    quick.is_at_rest = True
    assert feed.pass_on(log[1].json.encode())
    assert (quick.got, feed.after(1)) == (log[:2], [log[1]])
    slow.read(feed, log, feed.after(1))
    slow.is_at_rest = True
    assert feed.pass_on(log[2].json.encode())
    assert (quick.got, slow.got, feed.after(3), feed.after(2)) == (log[:3], log[:3], [], None)


def test_only_the_next_whole_event_is_passed_on() -> None:
    feed, log = Feed(JOB), [event(1), event(2), event(3), event(4)]
    reader = Reader(0, feed, log[:1])
    feed.waiting.add(reader)
    reader.is_at_rest = True
    broken = log[1].json.replace('"x"', '"x').encode()
    for message in (log[0].json.encode(), log[2].json.encode(), broken, b"published"):
        assert not feed.pass_on(message)
    feed.hear(Hint(3, None))
    assert not feed.pass_on(log[1].json.encode())
    assert (reader.got, feed.newest, feed.is_behind) == (log[:1], 1, True)


def test_news_after_the_end_are_no_end() -> None:
    feed, log = Feed(JOB), [event(1), event(2, "failed")]
    feed.learn(page(log, 0), feed.heard)
    assert feed.is_over
    feed.hear(Hint(4, event(4)))
    assert not feed.is_over
    log += [event(3, "queued"), event(4)]
    feed.learn(page(log, 2), feed.heard)
    assert (feed.is_over, feed.is_behind, feed.after(2)) == (False, False, log[2:])


def test_the_end_is_known_to_a_reader_that_has_all() -> None:
    feed, log = Feed(JOB), [event(1), event(2, "failed")]
    feed.learn(page(log, 2), feed.heard)
    assert (feed.newest, feed.is_over) == (2, True)


def test_a_part_of_the_news_asks_for_the_rest() -> None:
    feed, log = Feed(JOB), [event(1)]
    feed.learn(page(log, 0), feed.heard)
    log += [event(2), event(3)]
    feed.learn(page(log, 1, limit=1), feed.heard)
    assert (feed.newest, feed.is_behind) == (2, True)


def test_a_hint_that_comes_while_the_log_is_read_is_not_forgotten() -> None:
    feed, log = Feed(JOB), [event(1)]
    feed.learn(page(log, 0), feed.heard)
    asked = feed.heard
    feed.hear(Hint(3, None))
    feed.confirm(asked)
    assert feed.is_behind
    feed.confirm(feed.heard)
    assert not feed.is_behind


def test_a_hint_of_what_never_was_is_forgotten() -> None:
    feed, log = Feed(JOB), [event(1)]
    feed.learn(page(log, 0), feed.heard)
    feed.hear(Hint(3, event(3, "alien")))
    feed.confirm(feed.heard)
    feed.hear(Hint(2, event(2)))
    assert feed.after(1) == [event(2)]


class Told(NamedTuple):
    """As an edge tells of a committed event."""

    id: Any
    project_id: str
    queue: str
    seq: int
    type: str
    at: datetime
    attempt: int
    data: dict[str, Any]


def told(type_: str = "progress", microsecond: int = 0, **data: Any) -> Told:
    at = datetime(2026, 11, 21, 22, 0, 0, microsecond, UTC)
    return Told(JOB, "default", "default", 7, type_, at, 2, data)


def test_a_hint_and_the_log_say_the_same() -> None:
    for each in (
        told(),
        told(microsecond=120000, fraction=1.0, message="half \u2028 way \n “so”"),
        told("failed", error={"cause": "fail", "type": "Fail", "message": "ü\x7f"}),
    ):
        message = hints.encode(each)
        assert hinted_job(message) == str(JOB).encode()
        view = EventView(JOB, each.seq, each.type, each.at, each.attempt, each.data)
        (from_log,) = page_of(History(7, is_final=False, events=[view])).events
        assert read_hint(message) == Hint(7, from_log)
        assert "\n" not in from_log.json
        assert json.loads(from_log.json) == {
            "job_id": str(JOB),
            "seq": 7,
            "type": each.type,
            "at": each.at.isoformat().replace("+00:00", "Z"),
            "attempt": 2,
            "data": each.data,
        }


def test_a_hint_without_its_data_says_what_to_read() -> None:
    large = told(message="x" * hints.MAX_BYTES)
    for each in (large, told("log", lines=[])):
        assert read_hint(hints.encode(each)) == Hint(7, None)


def test_what_is_no_hint_is_none() -> None:
    for message in (b"", b"\xff\xfe", b"[]", b"7", b'{"seq":"x"}', b'{"seq":1,"data":{}}'):
        assert read_hint(message) is None
