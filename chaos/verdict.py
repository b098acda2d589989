"""The verdict on a scenario: what was accepted, compared with what happened and what is said of it.

Lost: accepted, and not final in time, or unknown to the API. Wrong: what the API says contradicts
the effects, or itself; an effect that happened twice with no attempt killed in between is that,
too. Duplicated: surplus starts of handlers whose earlier attempt was really cut short.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from chaos import records
from chaos.book import Entry
from chaos.client import Client
from chaos.effects import END, START, STEP, Effect
from chaos.faults import Faults
from chaos.followers import FINAL
from chaos.platform import Platform
from chaos.records import Record

CUT_SHORT = frozenset({"crashed", "interrupted", "lease_lost"})
CRASHES = 3  # end a job, says the contract
SAMPLED = 20  # one in so many plain jobs is asked of the API; the others are read at once
CLEARLY = 0.5  # seconds by which an attempt ended before the fault that would explain it


@dataclass(slots=True)
class Verdict:
    """All about one scenario's jobs."""

    accepted: int = 0
    lost: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    duplicated_starts: int = 0
    duplicated_ends: int = 0
    crashed_out: int = 0  #: failed since their process was killed three times


@dataclass(frozen=True, slots=True)
class Story:
    """What is known of one job."""

    entry: Entry
    job: Mapping[str, Any]
    attempts: Sequence[Mapping[str, Any]]
    events: Sequence[Mapping[str, Any]]
    effects: Sequence[Effect]
    faults: Faults

    @property
    def starts(self) -> list[Effect]:
        return [effect for effect in self.effects if effect.word == START]

    @property
    def ends(self) -> list[Effect]:
        return [effect for effect in self.effects if effect.word == END]

    @property
    def is_crashed_out(self) -> bool:
        """Whether it was killed once too often, against its own design."""
        return (
            self.entry.order.state == "succeeded"
            and self.job["state"] == "failed"
            and self.job["crashes"] == CRASHES
            and all(attempt["outcome"] in CUT_SHORT for attempt in self.attempts)
        )


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a verdict is made from, besides what the API says."""

    faults: Faults
    platform: Platform


def judge(entries: Sequence[Entry], evidence: Evidence, client: Client) -> Verdict:
    """The verdict; every job that is not final by now is lost."""
    verdict = Verdict(accepted=sum(bool(entry.ids) for entry in entries))
    jobs = {job["id"]: job for job in client.jobs([e.id for e in entries if e.ids], full=True)}
    happened = evidence.platform.effects.by_job()  # after that: what is final by now is all there
    for entry in entries:
        if entry.refusal is not None:
            verdict.wrong.append(f"{entry.order.kind} was refused: {entry.refusal}")
        elif not entry.ids:
            verdict.wrong.append(f"{entry.order.kind} was never answered: key {entry.order.key}")
        elif len(entry.ids) > 1:
            verdict.wrong.append(f"one key became several jobs: {entry.ids}")
        elif entry.id not in jobs:
            verdict.lost.append(f"{entry.id}: accepted, and unknown")
        elif jobs[entry.id]["state"] not in FINAL:
            verdict.lost.append(_unfinished(jobs[entry.id]))
    judged = [e for e in entries if len(e.ids) == 1 and jobs.get(e.id, {}).get("state") in FINAL]
    told = records.read(evidence.platform, [e.id for e in judged])
    for number, entry in enumerate(judged):
        job = jobs[entry.id]
        is_asked = number % SAMPLED == 0 or entry.followed is not None or _is_odd(job)
        record = records.ask(client, entry.id) if is_asked else told[entry.id]
        effects = happened.get(entry.id, ())
        weigh(Story(entry, job, *record, effects, evidence.faults), verdict)
    return verdict


def _is_odd(job: Mapping[str, Any]) -> bool:
    return bool(job["state"] != "succeeded" or job["attempt"] != 1)


def weigh(story: Story, verdict: Verdict) -> None:
    """The verdict counts this job as well."""
    flaws = [
        *_against_the_order(story),
        *_against_the_effects(story),
        *_between_attempts(story),
        *_within_the_events(story),
        *_within_the_steps(story),
        *_in_the_stream(story),
    ]
    if flaws:
        said = "; ".join(flaws)
        told = recount(Record(story.attempts, story.events), story.effects)
        verdict.wrong.append(f"{story.entry.order.kind} {story.entry.id}: {said}\n{told}")
    if story.entry.order.starts == 1:
        verdict.duplicated_starts += max(0, len(story.starts) - 1)
        verdict.duplicated_ends += max(0, len(story.ends) - 1)
    verdict.crashed_out += story.is_crashed_out


def _against_the_order(story: Story) -> list[str]:
    """Whether it ended as it was made to."""
    order, job = story.entry.order, story.job
    if story.is_crashed_out:
        return []
    flaws = []
    cause = (job["error"] or {}).get("cause")
    if (job["state"], cause if order.cause else None) != (order.state, order.cause):
        flaws.append(f"it is {job['state']} ({cause}), not {order.state} ({order.cause})")
    if job["state"] == "succeeded" and job["result"] != order.key:
        flaws.append(f"its result is {job['result']}")
    if order.starts > 1 and len(story.starts) != order.starts:
        flaws.append(f"it was started {len(story.starts)} times, not {order.starts}")
    return flaws


def _against_the_effects(story: Story) -> list[str]:
    """Whether what happened is what the attempts' rows say."""
    started = [effect.attempt for effect in story.starts]
    ended = {effect.attempt for effect in story.ends}
    rows = {attempt["attempt"]: attempt["outcome"] for attempt in story.attempts}
    flaws = [f"attempt {n} started twice" for n in set(started) if started.count(n) > 1]
    flaws += [f"attempt {n} has no row" for n in set(started) - rows.keys()]
    for number, outcome in rows.items():
        if outcome is None:
            flaws.append(f"attempt {number} has no end, though the job has")
        elif outcome not in CUT_SHORT and number not in started:
            flaws.append(f"attempt {number} is {outcome} and was never started")
        elif outcome == "succeeded" and number not in ended:
            flaws.append(f"attempt {number} has succeeded and never came to its end")
    successes = [number for number, outcome in rows.items() if outcome == "succeeded"]
    if (story.job["state"] == "succeeded") != (len(successes) == 1) or len(successes) > 1:
        flaws.append(f"{story.job['state']}, with successful attempts {successes}")
    if rows and max(rows) != story.job["attempt"]:
        flaws.append(f"its attempt is {story.job['attempt']}, and its last row {max(rows)}")
    return flaws


def _between_attempts(story: Story) -> list[str]:
    """Whether each attempt that was cut short, and so made an effect happen twice, had a reason."""
    if story.entry.order.starts > 1:
        return []
    pids = {effect.attempt: effect.pid for effect in story.starts}
    starts = {effect.attempt: effect.at for effect in story.starts}
    flaws = []
    for attempt in story.attempts:
        number, outcome = attempt["attempt"], attempt["outcome"]
        if outcome == "succeeded" or number not in pids or attempt["finished_at"] is None:
            continue
        end = monotonic(attempt["finished_at"])
        has_reason = story.faults.excuse(pids[number], starts[number], end + CLEARLY)
        may_raise = story.entry.order.asks_database and has_reason
        if outcome not in CUT_SHORT and story.entry.order.state == "succeeded" and not may_raise:
            flaws.append(f"attempt {number} is {outcome}: {attempt['error']}")
        if outcome in CUT_SHORT and not has_reason:
            flaws.append(f"attempt {number} is {outcome}, though nothing had happened to it")
    return flaws


def _within_the_events(story: Story) -> list[str]:
    """Whether the history is whole and says what the job says."""
    seqs = [event["seq"] for event in story.events]
    types = [event["type"] for event in story.events]
    flaws = []
    if seqs != [*range(1, len(seqs) + 1)] or story.job["seq"] != len(seqs):
        flaws.append(f"its events are {seqs}, and its seq {story.job['seq']}")
    if types[-1:] != [story.job["state"]] or sum(each in FINAL for each in types) != 1:
        flaws.append(f"its events are {types}")
    if types.count("started") != story.job["attempt"]:
        flaws.append(f"{types.count('started')} events of a start, attempt {story.job['attempt']}")
    return flaws


def _within_the_steps(story: Story) -> list[str]:
    """Whether no step ran again once it was stored."""
    stored = {e["data"]["name"]: e["attempt"] for e in story.events if e["type"] == "step"}
    return [
        f"{effect.name} ran in attempt {effect.attempt}, stored by attempt {stored[effect.name]}"
        for effect in story.effects
        if effect.word == STEP and effect.attempt > stored.get(effect.name, effect.attempt)
    ]


def _in_the_stream(story: Story) -> list[str]:
    """Whether a follower saw the history, all of it, once."""
    followed = story.entry.followed
    if followed is None:
        return []
    if story.entry.fault is not None:
        return [story.entry.fault]
    if followed != [*story.events]:
        return [f"a follower saw {followed}, the history is {story.events}"]
    return []


def monotonic(moment: str | datetime) -> float:
    """When that was by the monotonic clock. The database's clock is this machine's."""
    known = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    return known.timestamp() - time.time() + time.monotonic()


def _unfinished(job: Mapping[str, Any]) -> str:
    shown = ("id", "kind", "state", "attempt", "failures", "crashes", "queued_at", "started_at")
    return " ".join(f"{name}={job[name]}" for name in shown)


def recount(record: Record, effects: Sequence[Effect] = ()) -> str:
    """The story in lines, with monotonic times, for whoever has to understand it."""
    lines = [
        f"    attempt {each['attempt']} {each['outcome']} {each['cause']} worker {each['worker']}"
        f" {monotonic(each['started_at']):.3f} …"
        f" {monotonic(each['finished_at']) if each['finished_at'] else 0:.3f}"
        for each in record.attempts
    ]
    lines += [
        f"    effect  {each.word} {each.attempt} pid {each.pid} at {each.at:.3f} {each.name}"
        for each in effects
        if each.word != STEP
    ]
    lines += [
        f"    event   {each['seq']} {each['type']} {each['attempt']} {monotonic(each['at']):.3f}"
        f" {each['data'] if each['type'] != 'log' else ''}"
        for each in record.events
    ]
    return "\n".join(lines)
