"""How often a key may ask: a token bucket for each limited key, in this process alone.

Of N API processes each lets the whole rate through, so that a key with 10 requests a second may
send up to N times 10; what is exact costs a round trip for each request. The fields RateLimit and
RateLimit-Policy are those of draft-ietf-httpapi-ratelimit-headers-10: `q` requests in `w` seconds,
of which `r` are left, and all again in `t` seconds; of a refusal `t` is when to come back, as the
draft has it beside a Retry-After.
"""

import math
import time
from collections.abc import Callable
from typing import NamedTuple

from api.keyring import Principal
from api.problems import Problem

MOST_REMEMBERED = 10_000  # keys
POLICY = "key"  # what the fields call it


class Taken(NamedTuple):
    """What a key has left of its rate after a request."""

    is_granted: bool
    headers: dict[str, str]

    def refusal(self) -> Problem:
        """429, with when to come back."""
        detail = "This key has sent more requests than it may."
        members = {"violated-policies": [POLICY]}  # as of the draft's `quota-exceeded`
        return Problem("rate-limited", detail, headers=self.headers, **members)


class Rates:
    """For the event loop's thread alone. Keys without a rate are not counted."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._left: dict[str, tuple[float, float]] = {}  # and when that was so

    def take(self, principal: Principal) -> Taken | None:
        """One request of the key; None: it has no rate."""
        rate, burst = principal.limits.rate, principal.limits.burst
        if rate is None or burst is None:
            return None
        now = self._clock()
        left, at = self._left.get(principal.key_id, (float(burst), now))
        left = min(burst, left + (now - at) * rate)
        is_granted = left >= 1
        if is_granted:
            left -= 1
        if len(self._left) >= MOST_REMEMBERED:
            self._left.clear()
        self._left[principal.key_id] = (left, now)
        return Taken(is_granted, _headers(left, rate, burst, is_granted=is_granted))


def _headers(left: float, rate: float, burst: int, *, is_granted: bool) -> dict[str, str]:
    wait = math.ceil((burst - left) / rate) if is_granted else math.ceil((1 - left) / rate)
    headers = {
        "RateLimit-Policy": f'"{POLICY}";q={burst};w={math.ceil(burst / rate)}',
        "RateLimit": f'"{POLICY}";r={math.floor(left)};t={wait}',
    }
    if not is_granted:
        headers["Retry-After"] = str(wait)
    return headers
