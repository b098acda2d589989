import time
from uuid import uuid4

import pytest
from pydantic import ValidationError

from kinds.demo import SleepArgs, sleep
from lading import JobCancelled
from lading.context import Attempt
from lading.testing import Run, _Recorder, run


def test_it_sleeps_as_long_as_asked_and_reports_each_step() -> None:
    start = time.monotonic()
    record = run(sleep, {"seconds": 0.2, "steps": 4})
    assert time.monotonic() - start >= 0.2
    assert (record.outcome, record.result) == ("succeeded", {"slept": 0.2})
    assert record.progress == [(n / 4, f"step {n} of 4") for n in range(1, 5)]


def test_ten_steps_are_usual() -> None:
    assert len(run(sleep, {"seconds": 0}).progress) == 10


def test_a_cancelled_job_does_not_begin() -> None:
    record = run(sleep, {"seconds": 3600, "steps": 1}, cancelled=True)
    assert (record.outcome, record.progress) == ("cancelled", [])


@pytest.mark.parametrize(
    ("args", "field"),
    [
        ({}, "seconds"),
        ({"seconds": -1}, "seconds"),
        ({"seconds": 86401}, "seconds"),
        ({"seconds": "soon"}, "seconds"),
        ({"seconds": float("nan")}, "seconds"),
        ({"seconds": 1, "steps": 0}, "steps"),
        ({"seconds": 1, "steps": 1001}, "steps"),
        ({"seconds": 1, "nap": True}, "nap"),
    ],
)
def test_what_makes_no_sense_is_refused(args: dict[str, object], field: str) -> None:
    with pytest.raises(ValidationError) as refused:
        SleepArgs.model_validate(args)
    assert [error["loc"] for error in refused.value.errors()] == [(field,)]


class CancelledLater(_Recorder):
    """The third time it asks, a cancel has been asked for."""

    questions = 0

    def check(self) -> None:
        self.questions += 1
        if self.questions == 3:
            raise JobCancelled


def test_a_cancel_is_noticed_in_the_middle_of_a_long_step() -> None:
    facts, record = Attempt(uuid4(), "demo.sleep", 1, 0, 5, {}), Run()
    start = time.monotonic()
    with pytest.raises(JobCancelled):
        sleep(CancelledLater(facts, record, cancelled=False), SleepArgs(seconds=3600, steps=1))
    assert time.monotonic() - start < 5
    assert record.progress == []
