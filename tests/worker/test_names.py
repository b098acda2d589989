"""Names of steps and transactions, and children, which are counted in them."""

from typing import Any
from uuid import UUID

import pytest

from jobs.attempts import Outcome
from lading import AsyncJobContext, JobContext
from tests.worker.bench import Bench, Handler, Nothing, Once
from tests.worker.blocks import first


def use_twice(context: JobContext, args: Nothing) -> None:
    for _ in range(2):
        with context.transaction("pay"):
            pass


def use_as_both(context: JobContext, args: Nothing) -> None:
    context.step("pay", lambda: 1)
    with context.transaction("pay"):
        pass


def use_as_both_again(context: JobContext, args: Nothing) -> None:
    with context.transaction("pay"):
        pass
    context.step("pay", lambda: 1)


@pytest.mark.parametrize("handler", [use_twice, use_as_both, use_as_both_again])
def test_a_name_is_used_once(bench: Bench, handler: Handler) -> None:
    job, ended = bench.run(handler)
    assert ended.error is not None
    assert (ended.error.type, "'pay'" in ended.error.message) == ("ValueError", True)
    assert bench.attempt(job, 2).error is not None


def test_a_block_that_was_undone_may_be_tried_again_at_once(bench: Bench) -> None:
    inside = Once(times=2)

    def handler(context: JobContext, args: Nothing) -> str:
        while True:
            try:
                with context.transaction("pay") as session:
                    session.connection().execute(first(context.job_id))
                    inside()
            except RuntimeError:
                continue
            return "paid"

    job, ended = bench.run(handler)
    assert (ended.result, inside.calls) == ("paid", 3)
    assert bench.payments(job) == ["first"]


@pytest.mark.parametrize("name", ["", "x" * 256, "two\nlines", "nul\0", "\ud800", 7])
def test_a_name_is_a_line_of_text(bench: Bench, name: Any) -> None:
    def step(context: JobContext, args: Nothing) -> None:
        context.step(name, lambda: 1)

    async def transaction(context: AsyncJobContext, args: Nothing) -> None:
        async with context.transaction(name):
            pass

    for handler in (step, transaction):
        _, ended = bench.run(handler)
        assert ended.error is not None
        assert ended.error.type == "ValueError"
        assert "1 … 255 printable characters" in ended.error.message


def test_children_of_a_block_are_committed_with_it(bench: Bench) -> None:
    inside = Once()

    def handler(context: JobContext, args: Nothing) -> str:
        with context.transaction("pay"):
            child = context.submit("test.echo", {"value": "of the block"})
            inside()
        return str(child)

    job, _ = bench.run(handler)
    assert bench.children(job) == []
    ended = bench.attempt(job, 2)
    assert [str(child) for child in bench.children(job)] == [ended.result]


@pytest.mark.parametrize("part", ["step", "transaction"])
def test_children_after_a_part_that_is_skipped_stay_the_same(bench: Bench, part: str) -> None:
    seen: list[UUID] = []
    after = Once()

    def submit(context: JobContext) -> None:
        context.submit("test.echo", {"value": "inside"})

    def handler(context: JobContext, args: Nothing) -> None:
        if part == "step":
            context.step("one", lambda: submit(context))
        else:
            with context.transaction("one"):
                submit(context)
        seen.append(context.submit("test.echo", {"value": "after"}))
        after()

    job, _ = bench.run(handler)
    assert bench.attempt(job, 2).outcome is Outcome.SUCCEEDED
    assert seen[0] == seen[1]
    assert len(bench.children(job)) == 2


@pytest.mark.parametrize(
    "options",
    [
        {"priority": 10},
        {"priority": "high"},
        {"max_attempts": 0},
        {"queue": "no queue"},
        {"timeout": 0},
        {"delay": -1},
        {"delay": "soon"},
        {"labels": {"n": 1}},
        {"prio": 3},
        {"parent_id": "x"},
    ],
    ids="-".join,
)
def test_a_child_is_refused_by_name(bench: Bench, options: dict[str, Any]) -> None:
    def handler(context: JobContext, args: Nothing) -> None:
        context.submit("test.echo", {}, **options)

    job, ended = bench.run(handler)
    assert ended.outcome is Outcome.FAILED
    assert ended.error is not None
    assert "a child job is refused: #/" + next(iter(options)) in ended.error.message
    assert bench.children(job) == []


def test_a_child_may_have_a_unique_key_and_wait_for_another(bench: Bench) -> None:
    key = {"key": "the only one", "on_conflict": "return"}

    def handler(context: JobContext, args: Nothing) -> list[str]:
        first = context.submit("test.echo", {}, unique=key)
        last = context.submit("test.echo", {}, after=[first])
        return [str(each) for each in (first, context.submit("test.echo", {}, unique=key), last)]

    job, ended = bench.run(handler)
    first, same, last = ended.result
    assert first == same
    assert {str(child) for child in bench.children(job)} == {first, last}

    def refused(context: JobContext, args: Nothing) -> None:
        context.submit("test.echo", {}, unique={"key": "the only one"})

    _, ended = bench.run(refused)
    assert ended.error is not None
    assert (ended.error.cause, first in ended.error.message) == ("fail", True)
