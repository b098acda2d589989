"""`Schedule`: when jobs of a kind come by themselves, and what is said of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal, get_args

from lading.durations import as_timedelta

Misfire = Literal["skip", "last", "all"]
Overlap = Literal["allow", "skip", "cancel_old"]


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """What stands beside a kind, as `POST /v1/schedules` has it over HTTP, and means there.

    What a kind says of all its jobs (queue, timeout, max_attempts) it says of these, too. A webhook
    in code has a `url` alone: a secret is no part of code. ValueError for a word or a number that
    is none of a schedule's; the rest is checked by the workers that bring it.
    """

    cron: str  #: `0 7 * * 1-5`
    timezone: str = "UTC"  #: IANA
    args: Mapping[str, Any] = field(default_factory=dict)  #: JSON
    misfire: Misfire = "last"
    misfire_max: int = 100  #: jobs, of `misfire="all"`
    overlap: Overlap = "allow"
    priority: int = 5
    labels: Mapping[str, str] = field(default_factory=dict)
    expires_in: float | timedelta | None = None  #: seconds or timedelta, from the tick on
    unique: Mapping[str, Any] | None = None
    concurrency: Mapping[str, Any] | None = None
    webhook: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        for word, known in ((self.misfire, Misfire), (self.overlap, Overlap)):
            if word not in get_args(known):
                raise ValueError(f"{word!r} is none of {', '.join(get_args(known))}")
        if not 1 <= self.misfire_max <= 1000:  # noqa: PLR2004 - as over HTTP
            raise ValueError(f"misfire_max is 1 … 1000, not {self.misfire_max}")
        if self.expires_in is not None:
            as_timedelta(self.expires_in)
        if "secret" in (self.webhook or {}):
            raise ValueError("a webhook in code has no secret: give a schedule over REST one")
