"""What a key may not: run other kinds, last longer, ask more often than its limits say."""

import re
from collections.abc import Collection
from datetime import datetime
from functools import lru_cache
from typing import NamedTuple, TypeVar

PATTERN = re.compile(r"[a-z0-9_.*]+")  #: of kinds; `*` stands for any characters, dots too
MOST_PATTERNS = 100  # of one key: each submission is compared with them
Bound = TypeVar("Bound", float, datetime)
MOST_REMEMBERED = 1000  # compiled patterns


class KeyLimits(NamedTuple):
    """The limits of one key; None does not limit it."""

    kinds: Collection[str] | None = None  #: patterns of the kinds that it may run
    expires_at: datetime | None = None  #: by the database's clock
    rate: float | None = None  #: requests a second, at each API process
    burst: int | None = None  #: requests at once, after a while of silence

    def within(self, other: "KeyLimits") -> "KeyLimits":
        """The same; what does not limit takes the other's limit."""
        given = {name: mine for name, mine in self._asdict().items() if mine is not None}
        return other._replace(**given)

    def beyond(self, other: "KeyLimits") -> str | None:
        """The first limit that lets more through than the other one does; None: there is none."""
        wider = {
            "kinds": not _covers(other.kinds, self.kinds),
            "expires_at": _is_more(self.expires_at, other.expires_at),
            "rate": _is_more(self.rate, other.rate) or _is_more(self.burst, other.burst),
        }
        return next((name for name, is_wider in wider.items() if is_wider), None)


def allows(patterns: Collection[str] | None, kind: str) -> bool:
    """Whether a key with these patterns may run the kind."""
    return patterns is None or any(_compiled(each).fullmatch(kind) for each in patterns)


def _covers(held: Collection[str] | None, given: Collection[str] | None) -> bool:
    """Whether all that `given` lets through is let through by `held`, too.

    A pattern is covered by one that matches it as a text: only a `*` matches its `*`.
    """
    if held is None:
        return True
    return given is not None and all(allows(held, each) for each in given)


def _is_more(mine: Bound | None, held: Bound | None) -> bool:
    return held is not None and (mine is None or mine > held)


@lru_cache(MOST_REMEMBERED)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, pattern.split("*"))))
