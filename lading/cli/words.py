"""Numbers, times and foreign text as people read them on a terminal."""

import json
import re
from datetime import UTC, datetime
from typing import Any

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(rf"(\d+(?:\.\d+)?)({'|'.join(_UNITS)})?")
_MINUTE, _HOUR, _DAY = 60, 3600, 86400
CLOCK_SLACK = 1.0  # seconds by which this machine's clock may be behind the server's


def plain(text: object) -> str:
    """The text without what could steer a terminal or turn its reading around."""
    return _CONTROLS.sub("\ufffd", str(text))


def one_line(text: object, most: int = 60) -> str:
    """The beginning of the text, on one line."""
    line = " ".join(plain(text).split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def seconds_of(text: str) -> float:
    """The seconds that `90`, `1.5m`, `2h` or `7d` stand for; ValueError."""
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is no duration: 90, 1.5m, 2h, 7d")
    return float(found[1]) * _UNITS[found[2] or "s"]


def span(seconds: float | None) -> str:
    """A duration in its largest useful unit."""
    if seconds is None:
        return ""
    if seconds < _MINUTE:
        return f"{seconds:.1f} s"
    if seconds < _HOUR:
        return f"{seconds / _MINUTE:.0f} min"
    if seconds < 2 * _DAY:
        return f"{seconds / _HOUR:.1f} h"
    return f"{seconds / _DAY:.0f} d"


def ago(moment: datetime | None) -> str:
    """How long it is since then."""
    return "" if moment is None else f"{span(since(moment))} ago"


def apart(moment: datetime) -> str:
    """How long it is since then, or until then where that is to come."""
    ahead = (moment - datetime.now(UTC)).total_seconds()
    return f"in {span(ahead)}" if ahead > CLOCK_SLACK else ago(moment)


def since(moment: datetime) -> float:
    """Seconds since then; this machine's clock may be off."""
    return max(0.0, (datetime.now(UTC) - moment).total_seconds())


def clock(moment: datetime) -> str:
    """The time of day here."""
    return moment.astimezone().strftime("%H:%M:%S")


def percent(fraction: float) -> str:
    return f"{fraction:.0%}"


def json_line(document: Any) -> str:
    """JSON on one line."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))
