"""A program's structured log line as a person reads it; any other line as it is."""

import json
from datetime import datetime

_LEFT_OUT = frozenset({"event", "level", "logger", "timestamp", "exception", "request_id"})


def for_people(line: str) -> list[str]:
    """`12:30:59 worker ready  pool=prefork slots=2`, and below it the traceback if there is one."""
    try:
        entry = json.loads(line) if line.startswith("{") else None
        at = datetime.fromisoformat(entry["timestamp"]).astimezone() if entry else None
    except (ValueError, KeyError, TypeError):
        return [line]
    if entry is None or at is None:
        return [line]
    level = str(entry.get("level", "info"))
    words = [f"{at:%H:%M:%S}"]
    words += [] if level == "info" else [level.upper()]
    words += [str(entry.get("event", "")), *_fields(entry)]
    return [" ".join(words), *str(entry.get("exception") or "").splitlines()]


def _fields(entry: dict[str, object]) -> list[str]:
    return [f"{name}={value}" for name, value in entry.items() if name not in _LEFT_OUT]
