"""Links: how a handler hears that it has to stop, and the alarm of pool processes."""

import signal
import time
from datetime import timedelta
from uuid import uuid4

import pytest

from lading.context import Attempt
from lading.outcomes import JobCancelled, JobTimeout
from worker.limits import alarm
from worker.link import Link, Stop


def make_link(limit: float | None = None) -> Link:
    facts = Attempt(uuid4(), "test.echo", 1, 0, 5, {})
    return Link(facts, None if limit is None else timedelta(seconds=limit))


@pytest.mark.parametrize(("limit", "soft"), [(1, 0.9), (50, 45), (60, 55), (3600, 3595)])
def test_the_soft_limit_is_a_tenth_or_five_seconds_earlier(limit: float, soft: float) -> None:
    assert make_link(limit).soft_limit == pytest.approx(soft)


def test_without_a_limit_nothing_is_over() -> None:
    link = make_link()
    assert link.soft_limit is None
    link.check()


@pytest.mark.parametrize(
    ("reason", "raised"),
    [
        (Stop.CANCELLED, JobCancelled),
        (Stop.LOST, JobCancelled),
        (Stop.INTERRUPTED, JobCancelled),
        (Stop.TIMEOUT, JobTimeout),
    ],
)
def test_a_check_raises_what_fits_the_reason(reason: Stop, raised: type[BaseException]) -> None:
    link = make_link()
    link.stop(reason)
    with pytest.raises(raised):
        link.check()


def test_the_first_reason_counts() -> None:
    link = make_link()
    link.stop(Stop.CANCELLED)
    link.stop(Stop.TIMEOUT)
    assert link.reason is Stop.CANCELLED


def test_a_check_sees_by_itself_that_the_time_is_over() -> None:
    link = make_link(0.001)
    link.started_at -= 1
    with pytest.raises(JobTimeout):
        link.check()


def test_whoever_can_be_interrupted_is_so_once_and_only_while_it_runs() -> None:
    link, calls = make_link(), list[str]()
    link.stop(Stop.CANCELLED)
    link.attach(lambda: calls.append("late"))
    link.stop(Stop.TIMEOUT)
    assert calls == ["late"]
    link.insist()
    link.detach()
    link.insist()
    assert calls == ["late", "late"]


def test_the_alarm_strikes_in_the_middle_of_a_sleep() -> None:
    link, begun = make_link(0.1), time.monotonic()
    with pytest.raises(JobTimeout), alarm(link):
        time.sleep(10)
    assert time.monotonic() - begun < 5
    assert link.reason is Stop.TIMEOUT


def test_the_alarm_waits_for_the_end_of_a_call_of_ours() -> None:
    link, done = make_link(0.05), list[str]()

    def call() -> None:
        with alarm(link), link.shielded():
            signal.sigtimedwait([], 0.2)  # no sleep of Python's: it ends when the alarm has struck
            done.append("the call")

    with pytest.raises(JobTimeout):
        call()
    assert done == ["the call"]


def test_no_alarm_strikes_after_the_handler() -> None:
    before = signal.getsignal(signal.SIGALRM)
    with alarm(make_link(50)):
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 40
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0
    assert signal.getsignal(signal.SIGALRM) is before
