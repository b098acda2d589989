"""What a phase has found, and the arithmetic of many of them."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

MILLISECOND = 1e-3


class Spread(NamedTuple):
    """Of times, in milliseconds."""

    p50: float
    p95: float
    p99: float


def quantile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that so large a share of them does not exceed (nearest rank)."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def spread(seconds: Iterable[float]) -> Spread:
    """Of at least one time."""
    ordered = sorted(seconds)
    p50, p95, p99 = (quantile(ordered, share) / MILLISECOND for share in (0.50, 0.95, 0.99))
    return Spread(p50, p95, p99)


def per_job(before: Mapping[str, float], after: Mapping[str, float], jobs: int) -> dict[str, float]:
    """CPU-ms of each group for each job, and of `all` of them."""
    found = {name: (after[name] - before[name]) / MILLISECOND / jobs for name in after}
    return found | {"all": sum(found.values())}


def median_of(rounds: Sequence[Any]) -> Any:
    """The same shape with the median in the place of each number; what one lacks counts not."""
    rounds = [each for each in rounds if each is not None]
    if not rounds:
        return None
    first = rounds[0]
    if isinstance(first, Mapping):
        names = dict.fromkeys(name for each in rounds for name in each)
        return {name: median_of([each.get(name) for each in rounds]) for name in names}
    return statistics.median(rounds)
