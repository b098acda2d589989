"""Next times: against a walk over every minute, and over days on which clocks change."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jobs.timing import MOST_COUNTED, Cron, Interval, NoTiming, Once, find_due, next_times

MINUTE = timedelta(minutes=1)
# Zones, and moments about which their clocks change: by an hour, by half of one, by two, by a day.
CHANGES = [
    ("Europe/Berlin", "2026-03-29T01:00"),
    ("Europe/Berlin", "2026-10-25T01:00"),
    ("America/New_York", "2026-03-08T07:00"),
    ("America/New_York", "2026-11-01T06:00"),
    ("Australia/Lord_Howe", "2026-04-04T15:00"),
    ("Australia/Lord_Howe", "2026-10-03T15:30"),
    ("Antarctica/Troll", "2026-03-29T01:00"),
    ("Antarctica/Troll", "2026-10-25T01:00"),
    ("Pacific/Apia", "2011-12-30T10:00"),
    ("UTC", "2026-01-01T00:00"),
]


def field(least: int, most: int) -> st.SearchStrategy[str]:
    number = st.integers(least, most).map(str)
    return st.one_of(
        st.just("*"),
        st.integers(2, 20).map(lambda step: f"*/{step}"),
        st.lists(number, min_size=1, max_size=3).map(",".join),
    )


EXPRESSIONS = st.builds(
    lambda *parts: " ".join(parts),
    field(0, 59),
    field(0, 4) | field(0, 23),
    st.just("*") | field(1, 31),
    st.just("*"),
    st.sampled_from(["*", "0", "0,6", "1-5"]),
)


def minutes(first: datetime, last: datetime) -> Iterator[datetime]:
    while first <= last:
        yield first
        first += MINUTE


def by_hand(cron: Cron, after: datetime, until: datetime) -> list[datetime]:
    """Every tick of whole minutes, found by looking at the clock each minute."""
    asked = CronSim(cron.expression, datetime(2000, 1, 1))  # noqa: DTZ001 - a clock has no zone
    zone = ZoneInfo(cron.zone)

    def shows(wall: datetime) -> bool:
        is_time = wall.minute in asked.minutes and wall.hour in asked.hours
        return is_time and wall.month in asked.months and asked.match_day(wall.date())

    names_times = not any(part.startswith("*") for part in cron.expression.split()[:2])
    found: list[datetime] = []
    seen: set[datetime] = set()
    before: datetime | None = None
    for moment in minutes(after - timedelta(days=1, hours=3), until):
        wall = moment.astimezone(zone).replace(tzinfo=None)
        leapt: list[datetime] = [] if before is None else [*minutes(before + MINUTE, wall - MINUTE)]
        if names_times:
            is_tick = (wall not in seen and shows(wall)) or any(map(shows, leapt))
        else:
            is_tick = shows(wall)
        if is_tick and moment > after:
            found.append(moment)
        seen.add(wall)
        before = wall
    return found


def walk(cron: Cron, after: datetime, until: datetime) -> list[datetime]:
    found = []
    tick = cron.after(after)
    while tick is not None and tick <= until:
        found.append(tick)
        tick = cron.after(tick)
    return found


@settings(max_examples=60, deadline=None)
@given(EXPRESSIONS, st.sampled_from(CHANGES), st.integers(0, 4 * 60))
@example("30 2 * * *", CHANGES[0], 120)
@example("*/15 2 * * *", CHANGES[1], 120)
@example("15,45 1,2 * * *", CHANGES[5], 120)
def test_cron_ticks_when_the_clock_says_so(
    expression: str, change: tuple[str, str], before: int
) -> None:
    zone, moment = change
    cron = Cron(expression, zone)
    try:
        cron.check()
    except NoTiming:
        return
    start = datetime.fromisoformat(moment).replace(tzinfo=UTC) - before * MINUTE
    end = start + timedelta(hours=9)
    ticks = walk(cron, start, end)
    assert all(earlier < later for earlier, later in pairwise(ticks))
    assert ticks == by_hand(cron, start, end)


def local(cron: Cron, after: str, count: int) -> list[str]:
    first = cron.after(datetime.fromisoformat(after).replace(tzinfo=UTC))
    zone = ZoneInfo(cron.zone)
    return [f"{time.astimezone(zone):%m-%d %H:%M%z}" for time in next_times(cron, first, count)]


@pytest.mark.parametrize(
    ("cron", "after", "times"),
    [
        pytest.param(
            Cron("30 2 * * *", "Europe/Berlin"),
            "2026-03-28T12:00",
            ["03-29 03:00+0200", "03-30 02:30+0200"],
            id="in the gap: at its end",
        ),
        pytest.param(
            Cron("30 2 * * *", "America/New_York"),
            "2026-10-31T12:00",
            ["11-01 02:30-0500", "11-02 02:30-0500"],
            id="beside the repeated hour",
        ),
        pytest.param(
            Cron("30 1 * * *", "America/New_York"),
            "2026-10-31T12:00",
            ["11-01 01:30-0400", "11-02 01:30-0500"],
            id="twice on the clock: the first time",
        ),
        pytest.param(
            Cron("30 * * * *", "Europe/Berlin"),
            "2026-10-25T00:00",
            ["10-25 02:30+0200", "10-25 02:30+0100", "10-25 03:30+0100"],
            id="hourly: in both",
        ),
        pytest.param(
            Cron("0 30 2 * * *", "Europe/Berlin"),
            "2026-10-24T12:00",
            ["10-25 02:30+0200", "10-26 02:30+0100"],
            id="with seconds",
        ),
        pytest.param(
            Cron("45 1 * * *", "Australia/Lord_Howe"),
            "2026-04-03T16:00",
            ["04-05 01:45+1100", "04-06 01:45+1030"],
            id="half an hour twice",
        ),
        pytest.param(
            Cron("15 2 * * *", "Australia/Lord_Howe"),
            "2026-10-03T00:00",
            ["10-04 02:30+1100", "10-05 02:15+1100"],
            id="half an hour left out",
        ),
    ],
)
def test_when_the_clocks_change(cron: Cron, after: str, times: list[str]) -> None:
    assert local(cron, after, len(times)) == times


@settings(max_examples=40, deadline=None)
@given(
    EXPRESSIONS,
    st.sampled_from(CHANGES),
    st.integers(0, 3 * 24 * 60),
    st.integers(1, 5),
)
def test_what_is_due_is_all_that_lies_between(
    expression: str, change: tuple[str, str], minutes_late: int, keep: int
) -> None:
    zone, moment = change
    cron = Cron(expression, zone)
    first = cron.after(datetime.fromisoformat(moment).replace(tzinfo=UTC) - timedelta(days=1))
    if first is None:
        return
    now = first + minutes_late * MINUTE
    due = find_due(cron, first, now, keep)
    ticks = [first, *walk(cron, first, now)]
    if len(ticks) <= MOST_COUNTED:
        assert due.older == max(0, len(ticks) - keep)
    assert due.ticks == ticks[-keep:]
    assert due.next_at == cron.after(now)


@settings(max_examples=60, deadline=None)
@given(
    st.floats(1, 1e6, allow_nan=False),
    st.integers(-(10**6), 10**6),
    st.integers(0, 10**7),
    st.integers(1, 50),
)
def test_an_interval_counts_from_its_anchor(
    every: float, anchor: int, late: int, keep: int
) -> None:
    now = datetime(2026, 5, 5, tzinfo=UTC)
    timing = Interval(timedelta(seconds=every), now + timedelta(seconds=anchor))
    first = timing.after(now)
    assert first > now
    assert first == timing.anchor or first - timing.every <= now
    assert (first - timing.anchor) % timing.every == timedelta()
    due = find_due(timing, first, first + timedelta(seconds=late), keep)
    assert due.ticks == next_times(timing, first, due.older + len(due.ticks))[-keep:]
    assert due.next_at == due.ticks[-1] + timing.every > first + timedelta(seconds=late)


def test_after_a_long_outage_the_newest_are_found_without_a_walk_along_all() -> None:
    cron = Cron("* * * * * *", "Europe/Berlin")
    now = datetime(2026, 10, 25, 1, 0, 0, 500, tzinfo=UTC)
    due = find_due(cron, now - timedelta(days=400), now, 3)
    assert [tick.second for tick in due.ticks] == [58, 59, 0]
    assert due.older >= MOST_COUNTED - 3
    rare = Cron("* * 1 1 *", "UTC")
    first = rare.after(now - timedelta(days=4 * 365))
    assert first is not None
    assert find_due(rare, first, now, 2).ticks[-1] == datetime(2026, 1, 1, 23, 59, tzinfo=UTC)


def test_a_one_off_comes_once() -> None:
    at = datetime(2026, 5, 5, tzinfo=UTC)
    assert next_times(Once(at), Once(at).after(at - MINUTE), 5) == [at]
    assert Once(at).after(at) is None
    assert find_due(Once(at), at, at + MINUTE, 3) == ([at], 0, None)


@pytest.mark.parametrize(
    "expression",
    ["", "* * * *", "@daily", "60 * * * *", "0 0 30 2 *", "0 0 31 4 *", "x * * * *", "1" * 201],
)
def test_what_cannot_be_read_or_never_comes_is_refused(expression: str) -> None:
    with pytest.raises(NoTiming) as caught:
        Cron(expression).check()
    assert caught.value.field == "cron"


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="0123456789*/-,#LWMONJA ", max_size=30))
def test_whatever_is_written_is_refused_or_can_be_told(expression: str) -> None:
    cron = Cron(expression)
    try:
        cron.check()
    except NoTiming:
        return
    assert cron.sentence()
    assert cron.after(datetime(2026, 1, 1, tzinfo=UTC)) is not None


def test_an_unknown_zone_is_refused() -> None:
    for zone in ("Europe/Nowhere", "../etc/passwd", "", "Europe"):
        with pytest.raises(NoTiming) as caught:
            Cron("0 0 * * *", zone).check()
        assert caught.value.field == "timezone"
