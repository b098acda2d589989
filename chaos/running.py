"""Runs scenarios: a platform for each layout, and for each scenario its act and its verdict."""

import random
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import psycopg

from chaos import records, recovery
from chaos.auditing import find_faults
from chaos.client import Client, Unanswered
from chaos.effects import Effect
from chaos.platform import Layout, Platform
from chaos.scenario import Scenario
from chaos.stage import Measured, Stage
from chaos.verdict import Evidence, Verdict, judge, recount
from chaos.waiting import NotInTime
from dev.errors import DevError

BROKEN = (DevError, NotInTime, OSError, Unanswered, psycopg.Error, subprocess.SubprocessError)
REPLAY_WITHIN = 60.0  # seconds for the answer that a submission has never got
_TOKENS = "SELECT args ->> 'token', array_agg(id::text) FROM job GROUP BY 1 HAVING count(*) > 1"
STREAMS_END_WITHIN = 15.0  # seconds after the last job is final


@dataclass(slots=True)
class Outcome:
    """One row's figures."""

    name: str
    title: str
    plain: str
    accepted: int = 0
    lost: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    duplicated: int = 0  #: surplus starts of handlers, each after an attempt that was cut short
    duplicated_ends: int = 0  #: those of them whose first attempt had come to its end as well
    crashed_out: int = 0  #: jobs that were killed three times, and failed by right
    recovered: float | None = None  #: seconds
    limit: float | None = None  #: of it
    flow: float | None = None  #: seconds
    seconds: float = 0.0  #: in all
    notes: list[str] = field(default_factory=list)
    measured: list[Measured] = field(default_factory=list)
    is_unjudged: bool = False

    @property
    def is_late(self) -> bool:
        """Whether a limit was broken."""
        if self.limit is not None and self.recovered is not None and self.recovered > self.limit:
            return True
        return any(each.is_late for each in self.measured)

    @property
    def is_good(self) -> bool:
        return not (self.lost or self.wrong or self.is_late)


def run_all(
    scenarios: Sequence[Scenario], seed: int, tell: Callable[[Outcome], None]
) -> list[Outcome]:
    """All have run, those of one layout on one platform; `tell` hears of each at its end."""
    outcomes = []
    order = {layout: n for n, layout in enumerate(dict.fromkeys(s.layout for s in scenarios))}
    arranged = sorted(scenarios, key=lambda s: order[s.layout])
    for layout, some in groupby(arranged, key=lambda s: s.layout):
        outcomes += _run_on_one(layout, [*some], seed, tell)
    return outcomes


def _run_on_one(
    layout: Layout, scenarios: Sequence[Scenario], seed: int, tell: Callable[[Outcome], None]
) -> list[Outcome]:
    """All of that layout; after a scenario that could not be judged the next has a new platform."""
    outcomes: list[Outcome] = []
    while rest := scenarios[len(outcomes) :]:
        try:
            with Platform(layout) as platform:
                for scenario in rest:
                    outcome = _run_and_keep(scenario, platform, seed)
                    outcomes.append(outcome)
                    tell(outcome)
                    if outcome.is_unjudged:
                        break
        except BROKEN as error:
            if len(outcomes) + len(rest) == len(scenarios):  # it did not get to the first of them
                outcomes.append(_unjudged(rest[0], f"there was no platform: {error}"))
                tell(outcomes[-1])
    return outcomes


def _run_and_keep(scenario: Scenario, platform: Platform, seed: int) -> Outcome:
    try:
        outcome = run(scenario, platform, seed)
    except BROKEN as error:
        outcome = _unjudged(scenario, f"{type(error).__name__}: {error}")
    if not outcome.is_good:
        platform.is_kept = True
        outcome.notes.append(f"the logs are kept in {platform.logs}")
    return outcome


def _unjudged(scenario: Scenario, reason: str) -> Outcome:
    words = [f"it could not be judged: {reason}"]
    return Outcome(scenario.name, scenario.title, scenario.plain, wrong=words, is_unjudged=True)


def run(scenario: Scenario, platform: Platform, seed: int) -> Outcome:
    """The scenario has run on that platform, which is whole again."""
    begun = time.monotonic()
    stage = Stage(platform, random.Random(f"{seed} {scenario.name}"), scenario.name)
    try:
        scenario.act(stage)
    except NotInTime as error:
        stage.flaws.append(f"the scenario did not come to its end: {error}")
    for load in stage.loads:
        load.join()
    loaded_until = time.monotonic()
    platform.heal()
    client = stage.client()
    _resolve(stage, client)
    _await_final(stage, scenario.settle)
    stage.followers.close(STREAMS_END_WITHIN)
    stage.flaws += [*_twins(stage), *find_faults(platform)]
    verdict = judge(stage.book.entries, Evidence(stage.faults, platform), client)
    effects = _effects_of(stage)
    slowest = recovery.again(effects, stage.faults.items)
    found = _outcome(scenario, stage, verdict, effects, (begun, loaded_until))
    if found.is_late and slowest:
        found.notes.append(f"the slowest one:\n{recount(records.ask(client, slowest[1]))}")
    client.close()
    found.notes += [*stage.notes, *_surprises(platform, begun)]
    return found


def _resolve(stage: Stage, client: Client) -> None:
    """Each key has its answer: those that nobody answered are sent once more."""
    for entry in stage.book.unknown:
        client.submit(entry, REPLAY_WITHIN)


def _await_final(stage: Stage, within: float) -> None:
    try:
        stage.finish(stage.book.accepted, within=within)
    except NotInTime:
        return  # the verdict names them


def _twins(stage: Stage) -> list[str]:
    """Jobs in the database that came of one key."""
    sent = {entry.order.key for entry in stage.book.entries}
    rows = stage.platform.query(_TOKENS)
    return [f"one key became several jobs: {ids}" for key, ids in rows if key in sent]


def _effects_of(stage: Stage) -> Mapping[str, Sequence[Effect]]:
    ids = {entry.id for entry in stage.book.accepted}
    return {job: lines for job, lines in stage.platform.effects.by_job().items() if job in ids}


def _surprises(platform: Platform, since: float) -> list[str]:
    return [
        f"{death.name} ended by itself with {death.code}"
        for keeper in platform.keepers
        for death in keeper.deaths
        if death.at > since and not death.is_asked
    ]


def _outcome(
    scenario: Scenario,
    stage: Stage,
    verdict: Verdict,
    effects: Mapping[str, Sequence[Effect]],
    span: tuple[float, float],
) -> Outcome:
    """`span`: when it began, and when its load was over."""
    begun, loaded_until = span
    faults = stage.faults.items
    rate = sum(load.rate for load in stage.loads)
    return Outcome(
        name=scenario.name,
        title=scenario.title,
        plain=scenario.plain,
        accepted=verdict.accepted,
        lost=verdict.lost,
        wrong=[*stage.flaws, *verdict.wrong],
        duplicated=verdict.duplicated_starts,
        duplicated_ends=verdict.duplicated_ends,
        crashed_out=verdict.crashed_out,
        recovered=slowest[0] if (slowest := recovery.again(effects, faults)) else None,
        limit=scenario.limit,
        flow=recovery.flow(effects, faults, rate, loaded_until),
        seconds=time.monotonic() - begun,
        measured=stage.measured,
    )
