"""The judge of the chaos suite is judged here: each fault that it is there for, it finds."""

import time
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from chaos.book import Entry, Order
from chaos.effects import END, START, STEP, Effect
from chaos.faults import Fault, Faults
from chaos.verdict import Story, Verdict, weigh

JOB, KEY, PID = "0197", "k" * 8, 4711


@dataclass
class Draft:
    """What a story is made of, to be changed by a test."""

    order: dict[str, Any]
    job: dict[str, Any]
    attempts: list[dict[str, Any]]
    events: list[dict[str, Any]]
    effects: list[Effect]
    faults: list[Fault]
    followed: list[dict[str, Any]] | None = None

    def story(self) -> Story:
        order = Order(**self.order)
        entry = Entry(order, [JOB], followed=self.followed)
        faults = Faults(grace=12, items=self.faults)
        return Story(entry, self.job, self.attempts, self.events, self.effects, faults)


def at(monotonic: float) -> str:
    moment = monotonic - time.monotonic() + time.time()
    return datetime.fromtimestamp(moment, UTC).isoformat()


def event(seq: int, kind: str, attempt: int, **data: Any) -> dict[str, Any]:
    return {"seq": seq, "type": kind, "attempt": attempt, "at": at(100.0), "data": data}


def attempt(number: int, outcome: str, start: float, end: float) -> dict[str, Any]:
    facts = {"attempt": number, "outcome": outcome, "cause": None, "error": None, "worker": "w"}
    return {**facts, "started_at": at(start), "finished_at": at(end)}


def plain() -> Draft:
    """A job that ran once and succeeded."""
    return Draft(
        {"kind": "chaos.work", "args": {}, "options": {}, "key": KEY},
        {"state": "succeeded", "error": None, "result": KEY, "attempt": 1, "crashes": 0, "seq": 3},
        [attempt(1, "succeeded", 100, 101)],
        [event(1, "created", 0), event(2, "started", 1), event(3, "succeeded", 1)],
        [Effect(START, JOB, 1, PID, 100), Effect(END, JOB, 1, PID, 101)],
        [],
    )


def killed() -> Draft:
    """A job whose first attempt was killed at 100.5, and reported at 107."""
    draft = plain()
    draft.job |= {"attempt": 2, "crashes": 1, "seq": 5}
    draft.attempts = [attempt(1, "crashed", 100, 107), attempt(2, "succeeded", 108, 109)]
    draft.events = [
        *plain().events[:2],
        event(3, "crashed", 1),
        event(4, "started", 2),
        event(5, "succeeded", 2),
    ]
    draft.effects = [
        Effect(START, JOB, 1, PID, 100),
        Effect(START, JOB, 2, PID + 1, 108),
        Effect(END, JOB, 2, PID + 1, 109),
    ]
    draft.faults = [Fault("kill -9", 100.5, frozenset({PID}))]
    return draft


def judged(draft: Draft) -> Verdict:
    verdict = Verdict()
    weigh(draft.story(), verdict)
    return verdict


def test_what_ran_once_is_right() -> None:
    verdict = judged(plain())
    assert (verdict.wrong, verdict.duplicated_starts) == ([], 0)


def test_an_effect_of_a_killed_attempt_is_a_duplicate_and_not_wrong() -> None:
    verdict = judged(killed())
    assert (verdict.wrong, verdict.duplicated_starts, verdict.duplicated_ends) == ([], 1, 0)


def test_three_kills_end_a_job_by_right() -> None:
    draft = killed()
    draft.job |= {"state": "failed", "attempt": 3, "crashes": 3, "seq": 7, "result": None}
    draft.job["error"] = {"cause": "crashed"}
    starts = {1: 100.0, 2: 110.0, 3: 120.0}
    draft.attempts = [attempt(n, "crashed", start, start + 1) for n, start in starts.items()]
    draft.effects = [Effect(START, JOB, n, PID + n, start) for n, start in starts.items()]
    draft.faults = [Fault("kill", start + 0.5, frozenset({PID + n})) for n, start in starts.items()]
    draft.events = [event(1, "created", 0)]
    for n in starts:
        draft.events += [event(2 * n, "started", n), event(2 * n + 1, "crashed", n)]
    draft.events[-1]["type"] = "failed"
    verdict = judged(draft)
    assert (verdict.wrong, verdict.crashed_out) == ([], 1)


def nobody_was_killed(draft: Draft) -> None:
    draft.faults = []


def another_was_killed(draft: Draft) -> None:
    draft.faults = [Fault("kill", 100.5, frozenset({1}))]


def the_kill_came_later(draft: Draft) -> None:
    draft.faults = [Fault("kill", 200, frozenset({PID}))]


def it_succeeded_twice(draft: Draft) -> None:
    draft.attempts[0]["outcome"] = "succeeded"


def it_never_ended(draft: Draft) -> None:
    draft.effects.pop()


def it_never_started(draft: Draft) -> None:
    draft.effects = draft.effects[:1]


def an_attempt_started_twice(draft: Draft) -> None:
    draft.effects.append(draft.effects[-2])


def an_attempt_is_missing(draft: Draft) -> None:
    del draft.attempts[0]


def an_attempt_has_no_end(draft: Draft) -> None:
    draft.attempts[0]["outcome"] = None


def its_result_is_anothers(draft: Draft) -> None:
    draft.job["result"] = "another"


def it_failed(draft: Draft) -> None:
    draft.job["state"] = "failed"


def an_event_is_missing(draft: Draft) -> None:
    del draft.events[2]


def its_last_event_is_another(draft: Draft) -> None:
    draft.events[-1]["type"] = "cancelled"


def it_ends_twice(draft: Draft) -> None:
    draft.events[2]["type"] = "failed"


def a_start_has_no_event(draft: Draft) -> None:
    draft.events[3]["type"] = "queued"


def its_follower_missed_one(draft: Draft) -> None:
    draft.followed = draft.events[1:]


def a_stored_step_ran_again(draft: Draft) -> None:
    draft.events[2] = event(3, "step", 1, name="one")
    draft.effects.append(Effect(STEP, JOB, 2, PID, 108, "one"))


FLAWS = [
    nobody_was_killed,
    another_was_killed,
    the_kill_came_later,
    it_succeeded_twice,
    it_never_ended,
    it_never_started,
    an_attempt_started_twice,
    an_attempt_is_missing,
    an_attempt_has_no_end,
    its_result_is_anothers,
    it_failed,
    an_event_is_missing,
    its_last_event_is_another,
    it_ends_twice,
    a_start_has_no_event,
    its_follower_missed_one,
    a_stored_step_ran_again,
]


@pytest.mark.parametrize("change", FLAWS, ids=lambda change: change.__name__)
def test_a_flaw_is_found(change: Callable[[Draft], None]) -> None:
    draft = deepcopy(killed())
    change(draft)
    assert len(judged(draft).wrong) == 1


@pytest.mark.parametrize("expected", [{"state": "failed"}, {"starts": 3}], ids=["state", "starts"])
def test_a_job_has_to_end_as_it_was_made_to(expected: Mapping[str, Any]) -> None:
    draft = plain()
    draft.order |= expected
    assert len(judged(draft).wrong) == 1
