"""What a scenario is, and the list of all of them."""

from collections.abc import Callable
from dataclasses import dataclass

from chaos.platform import Layout
from chaos.stage import Stage

Act = Callable[[Stage], None]
USUAL = Layout()


@dataclass(frozen=True, slots=True)
class Scenario:
    """One row of the table."""

    name: str
    act: Act
    title: str  #: what is done to the platform
    plain: str  #: plain Celery's figures, in our own words; empty where none was measured
    seconds: float  #: that it takes on two quiet cores, verdict included
    limit: (
        float | None
    )  #: seconds in which every job that it cut short must have been started again
    layout: Layout
    settle: float  #: seconds without any end after which what is not final is lost


@dataclass(frozen=True, slots=True)
class Mishap:
    """A fault for the random mix: it is over when `act` returns."""

    name: str
    act: Act


SCENARIOS: dict[str, Scenario] = {}
MISHAPS: dict[str, Mishap] = {}


def scenario(
    name: str,
    *,
    title: str,
    plain: str = "",
    seconds: float,
    limit: float | None = None,
    layout: Layout = USUAL,
    settle: float = 60.0,
) -> Callable[[Act], Act]:
    """The function is that scenario."""

    def register(act: Act) -> Act:
        SCENARIOS[name] = Scenario(name, act, title, plain, seconds, limit, layout, settle)
        return act

    return register


def mishap(name: str) -> Callable[[Act], Act]:
    """The function is a fault that the random mix may choose."""

    def register(act: Act) -> Act:
        MISHAPS[name] = Mishap(name, act)
        return act

    return register
