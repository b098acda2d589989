"""Outcomes: what a handler's end means for its job; pure."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from pydantic import BaseModel, SecretStr, ValidationError

from jobs.attempts import Cause, Outcome
from jobs.lifecycle import Claim
from jobs.states import JobState
from lading import Cancel, Fail, JobCancelled, JobContext, JobTimeout, Retry, RetryPolicy, job
from lading.authoring import Kind, find_kind
from worker import outcomes
from worker.link import Stop


class Args(BaseModel):
    number: int
    secret: SecretStr = SecretStr("")


@job("test.any", max_attempts=3, retry=RetryPolicy(base=8, cap=16))
def handler(context: JobContext, args: Args) -> Any:
    """Never called."""


def kind() -> Kind:
    found = find_kind(handler)
    assert found is not None
    return found


def claim(failures: int = 0) -> Claim:
    return Claim(
        id=uuid4(),
        project_id="default",
        queue="default",
        state=JobState.RUNNING,
        attempt=1,
        cancel_requested=False,
        seq=2,
        type="started",
        at=datetime.now(UTC),
        data={},
        kind="test.any",
        args="{}",
        failures=failures,
        max_attempts=3,
        timeout_seconds=60,
        labels={},
    )


@pytest.mark.parametrize(
    ("error", "stop", "outcome", "cause"),
    [
        (RuntimeError("x"), None, Outcome.RETRIED, Cause.EXCEPTION),
        (SystemExit(1), None, Outcome.RETRIED, Cause.EXCEPTION),
        (asyncio.CancelledError(), None, Outcome.RETRIED, Cause.EXCEPTION),
        (Retry(), None, Outcome.RETRIED, Cause.EXCEPTION),
        (Fail("no"), None, Outcome.FAILED, Cause.FAIL),
        (Cancel("no"), None, Outcome.CANCELLED, None),
        (JobCancelled(), None, Outcome.CANCELLED, None),
        (JobTimeout(), None, Outcome.RETRIED, Cause.TIMEOUT),
        (JobTimeout(), Stop.TIMEOUT, Outcome.RETRIED, Cause.TIMEOUT),
        (asyncio.CancelledError(), Stop.TIMEOUT, Outcome.RETRIED, Cause.TIMEOUT),
        (RuntimeError("cleaning up"), Stop.TIMEOUT, Outcome.RETRIED, Cause.TIMEOUT),
        (JobCancelled(), Stop.CANCELLED, Outcome.CANCELLED, None),
        (asyncio.CancelledError(), Stop.CANCELLED, Outcome.CANCELLED, None),
        (JobCancelled(), Stop.INTERRUPTED, Outcome.INTERRUPTED, None),
        (JobCancelled(), Stop.LOST, Outcome.LEASE_LOST, None),
        (Fail("for good"), Stop.INTERRUPTED, Outcome.FAILED, Cause.FAIL),
    ],
)
def test_what_a_raise_means(
    error: BaseException, stop: Stop | None, outcome: Outcome, cause: Cause | None
) -> None:
    ended = outcomes.raised(claim(), kind(), error, stop)
    assert ended.outcome is outcome
    assert (ended.error.cause if ended.error else None) is cause


@pytest.mark.parametrize("error", [RuntimeError(), Retry(after=1), JobTimeout()])
def test_the_last_failure_of_the_budget_ends_the_job(error: BaseException) -> None:
    assert outcomes.raised(claim(failures=1), kind(), error, None).outcome is Outcome.RETRIED
    assert outcomes.raised(claim(failures=2), kind(), error, None).outcome is Outcome.FAILED


def test_a_retry_waits_as_long_as_it_asks_for_and_else_as_the_policy_says() -> None:
    asked = outcomes.raised(claim(), kind(), Retry(after=99), None)
    assert asked.delay == timedelta(seconds=99)
    waits = [outcomes.raised(claim(1), kind(), RuntimeError(), None).delay for _ in range(50)]
    assert timedelta() <= min(waits) < max(waits) <= timedelta(seconds=16)


def test_refused_args_are_named_and_not_repeated() -> None:
    with pytest.raises(ValidationError) as caught:
        Args.model_validate({"number": "hunter2", "secret": 7})
    ended = outcomes.refused(caught.value, Args)
    assert ended.outcome is Outcome.FAILED
    assert ended.error is not None
    assert "#/args/number" in ended.error.message
    assert "hunter2" not in str(ended.error)


def test_a_traceback_shows_causes_and_is_bounded() -> None:
    def deep(depth: int) -> None:
        if depth:
            deep(depth - 1)
        raise KeyError("inner" * 5000)

    try:
        try:
            deep(20)
        except KeyError as error:
            raise ValueError("outer") from error
    except ValueError as error:
        described = outcomes.described(error)
    assert (described.type, described.message) == ("ValueError", "outer")
    assert described.traceback is not None
    assert described.traceback.startswith("…")
    assert described.traceback.rstrip().endswith("ValueError: outer")
    assert len(described.traceback) == outcomes.MAX_TRACEBACK + 1
