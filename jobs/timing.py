"""When a schedule is due: cron in a time zone, an interval from an anchor, or once.

Pure: the clock is whoever asks. Every time that comes out is aware and in UTC, and lies strictly
behind the one that was asked about, so that no walk along a schedule stands still or goes back.

Where the clocks change, cron does as Debian's cron(8). A time of day that is named (none of
seconds, minutes and hours begins with `*`) comes once a day: one that does not exist comes at the
first moment behind the gap, one that exists twice comes the first time. What begins with `*`
follows the clock: it comes whenever the clock shows it, so not in a gap, and twice in an hour that
is repeated.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import NamedTuple
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

LONGEST_EXPRESSION = 200  # characters
SHORTEST = timedelta(seconds=1)  # between two ticks: dispatchers look once a second
MOST_COUNTED = 2000  # missed ticks of a cron schedule, at some 40 µs each; beyond: "at least"
_SECOND = timedelta(seconds=1)
_FIELDS = 5  # minute hour day month weekday; a sixth in front of them is the second
_SAMPLE = datetime(2000, 1, 1)  # noqa: DTZ001 - wall clocks have no zone


class NoTiming(ValueError):
    """No schedule can be made of it; `field` says of what."""

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(detail)
        self.field = field


@dataclass(frozen=True, slots=True)
class Cron:
    """When the wall clock of a zone shows what the expression says."""

    expression: str
    zone: str = "UTC"

    def check(self) -> None:
        """NoTiming: it cannot be read, never comes, or the zone is unknown."""
        check_zone(self.zone)
        if not self.expression.isascii() or len(self.expression) > LONGEST_EXPRESSION:
            raise NoTiming("cron", f"more than {LONGEST_EXPRESSION} characters, or none of ASCII")
        try:
            walls = CronSim(self.expression, _SAMPLE)
        except CronSimError as error:
            raise NoTiming("cron", f"no cron expression: {error}") from None
        if next(walls, None) is None:
            raise NoTiming("cron", "there is no such day")

    def sentence(self) -> str:
        """The expression in English."""
        return CronSim(self.expression, _SAMPLE).explain()

    def after(self, moment: datetime) -> datetime | None:
        """The next tick behind that moment; None: there is none within fifty years."""
        zone = ZoneInfo(self.zone)
        local = moment.astimezone(zone)
        if self._names_times_of_day():
            times = (_first_time(wall, zone) for wall in self._walls(local))
            return next((time for time in times if time > moment), None)
        times = (time for wall in self._walls(local) for time in _times(wall, zone))
        found = next((time for time in times if time > moment), None)
        return min(filter(None, (found, self._repeated(local, zone))), default=None)

    def _names_times_of_day(self) -> bool:
        fields = self.expression.split()
        return not any(each.startswith("*") for each in fields[: len(fields) - _FIELDS + 2])

    def _walls(self, local: datetime) -> Iterator[datetime]:
        """What the clock shows at the ticks to come, without a zone."""
        return CronSim(self.expression, local.replace(tzinfo=None, fold=0))

    def _repeated(self, local: datetime, zone: ZoneInfo) -> datetime | None:
        """In an hour that will be repeated: the first tick of the repetition."""
        first, second = (local.replace(fold=fold).astimezone(UTC) for fold in (0, 1))
        if local.fold or second <= first:
            return None
        begin = _transition(first, second, zone)
        wall = next(self._walls((begin - _SECOND).astimezone(UTC) + _offset(begin, zone)), None)
        time = None if wall is None else wall.replace(tzinfo=zone, fold=1).astimezone(UTC)
        return time if time is not None and time < begin + (second - first) else None


@dataclass(frozen=True, slots=True)
class Interval:
    """At the anchor, and at every so many seconds from it."""

    every: timedelta
    anchor: datetime

    def check(self) -> None:
        """NoTiming: it is too short."""
        if self.every < SHORTEST:
            raise NoTiming("every", f"shorter than {SHORTEST.total_seconds():g} s")

    def sentence(self) -> str:
        """The interval in English."""
        seconds = self.every.total_seconds()
        return "Every second" if seconds == 1 else f"Every {seconds:g} seconds"

    def after(self, moment: datetime) -> datetime:
        """The next tick behind that moment."""
        return self.anchor + max(0, (moment - self.anchor) // self.every + 1) * self.every


@dataclass(frozen=True, slots=True)
class Once:
    """At one time."""

    at: datetime

    def check(self) -> None:
        """Any time will do; one that is past is due at once."""

    def sentence(self) -> str:
        """The time in words."""
        return f"Once, at {self.at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"

    def after(self, moment: datetime) -> datetime | None:
        """The time, if it lies behind that moment."""
        return self.at if self.at > moment else None


Timing = Cron | Interval | Once


def check_zone(name: str) -> None:
    """NoTiming: it is the name of no IANA time zone."""
    if name not in _zones():
        raise NoTiming("timezone", f"no IANA time zone: {name!r:.100}")


class Due(NamedTuple):
    """What has become due, and what comes next."""

    ticks: list[datetime]  #: the newest, oldest first
    older: int  #: so many more lie before those; of cron, at least so many
    next_at: datetime | None  #: the first one that is not due yet


def next_times(timing: Timing, first: datetime | None, count: int) -> list[datetime]:
    """At most `count` ticks from the tick `first` on."""
    times: list[datetime] = []
    while first is not None and len(times) < count:
        times.append(first)
        first = timing.after(first)
    return times


def find_due(timing: Timing, first: datetime, now: datetime, keep: int) -> Due:
    """The newest `keep` of the ticks from the tick `first` on until `now`, `first` being due."""
    if isinstance(timing, Interval):
        count = (now - first) // timing.every + 1
        older = max(0, count - keep)
        ticks = [first + number * timing.every for number in range(older, count)]
        return Due(ticks, older, first + count * timing.every)
    newest: deque[datetime] = deque(maxlen=keep)
    count, tick = 0, first
    while count < MOST_COUNTED:
        newest.append(tick)
        count += 1
        following = timing.after(tick)
        if following is None or following > now:
            return Due([*newest], count - len(newest), following)
        tick = following
    return Due(_newest(timing, now, keep), MOST_COUNTED - keep, timing.after(now))


def _newest(timing: Timing, now: datetime, keep: int) -> list[datetime]:
    """The last `keep` ticks until `now`; there are more than those."""
    ticks: deque[datetime] = deque()
    until, step = now, _SECOND
    while len(ticks) < keep:
        ticks.appendleft(_last(timing, until, step))
        step = max(_SECOND, until - ticks[0])  # most distances are like the one before
        until = ticks[0] - timedelta(microseconds=1)
    return [*ticks]


def _last(timing: Timing, until: datetime, step: timedelta) -> datetime:
    """The last tick until that moment; there is one. Some ten looks, twice as many at most."""

    def is_before(moment: datetime) -> bool:
        tick = timing.after(moment)
        return tick is not None and tick <= until

    late, early = until, until - step
    while not is_before(early):
        late, early = early, early - 2 * (until - early)
    while late - early > _SECOND:
        middle = early + (late - early) / 2
        early, late = (middle, late) if is_before(middle) else (early, middle)
    found = timing.after(early)
    assert found is not None
    return found


def _times(wall: datetime, zone: ZoneInfo) -> list[datetime]:
    """The moments, none to two, at which the clock of that zone shows it."""
    times = (wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    return sorted({time for time in times if time.astimezone(zone).replace(tzinfo=None) == wall})


def _first_time(wall: datetime, zone: ZoneInfo) -> datetime:
    """The first moment at which the clock shows that, or where it leaps over it."""
    times = _times(wall, zone)
    if times:
        return times[0]
    before, behind = (wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (1, 0))
    return _transition(before, behind, zone)


def _transition(early: datetime, late: datetime, zone: ZoneInfo) -> datetime:
    """The second at which the zone's offset changes from the one of `early` to the one of `late`.

    It lies in between: `early` < it ≤ `late`.
    """
    old = _offset(early, zone)
    while late - early > _SECOND:
        middle = early + (late - early) // (2 * _SECOND) * _SECOND
        early, late = (middle, late) if _offset(middle, zone) == old else (early, middle)
    return late.replace(microsecond=0)


def _offset(moment: datetime, zone: ZoneInfo) -> timedelta:
    offset = moment.astimezone(zone).utcoffset()
    assert offset is not None
    return offset


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())
