"""Transactions of handlers, one attempt at a time: what they leave, and what they refuse."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from threading import Event

import pytest
import sqlalchemy as sa
from sqlmodel import select

from jobs.attempts import Outcome
from jobs.states import JobState
from lading import AsyncJobContext, JobContext
from tests.eventually import eventually
from tests.worker.bench import SOON, Bench, Handler, Nothing, Once, paying, paying_async
from tests.worker.blocks import Payment, first
from worker.link import Stop

both = pytest.mark.parametrize("made", [paying, paying_async])


@both
def test_a_block_is_committed_with_its_step(bench: Bench, made: Callable[..., Handler]) -> None:
    job, ended = bench.run(made())
    assert (ended.outcome, ended.result) == (Outcome.SUCCEEDED, "paid")
    assert bench.payments(job) == ["first"]
    assert bench.steps(job) == [("pay", 1)]
    assert bench.platform.events(job)[2:] == [("step", {"name": "pay"}), ("succeeded", {})]


@both
def test_what_a_block_raises_undoes_it_and_passes(
    bench: Bench, made: Callable[..., Handler]
) -> None:
    inside = Once()
    job, ended = bench.run(made(inside=inside))
    assert ended.error is not None
    assert ended.error.message == "not yet"
    assert (bench.payments(job), bench.steps(job)) == ([], [])
    assert bench.attempt(job, 2).outcome is Outcome.SUCCEEDED
    assert (bench.payments(job), bench.steps(job)) == (["first"], [("pay", 2)])


@both
def test_a_later_attempt_skips_the_block(bench: Bench, made: Callable[..., Handler]) -> None:
    inside, after = Once(times=0), Once(times=2)
    job, ended = bench.run(made(inside=inside, after=after))
    assert ended.outcome is Outcome.RETRIED
    assert bench.attempt(job, 2).outcome is Outcome.RETRIED
    assert bench.attempt(job, 3).outcome is Outcome.SUCCEEDED
    assert (inside.calls, after.calls) == (1, 3)
    assert (bench.payments(job), bench.steps(job)) == (["first"], [("pay", 1)])


def test_a_block_that_cannot_be_traced_ends_at_its_first_use(bench: Bench) -> None:
    after = Once()

    def handler(context: JobContext, args: Nothing) -> str:
        with ExitStack() as stack:
            session = stack.enter_context(context.transaction("pay"))
            session.connection().execute(first(context.job_id))
        after()
        return "paid"

    job, ended = bench.run(handler)
    assert ended.outcome is Outcome.RETRIED
    assert bench.attempt(job, 2).result == "paid"
    assert bench.payments(job) == ["first"]


@both
def test_an_attempt_that_lost_its_job_commits_nothing(
    bench: Bench, made: Callable[..., Handler]
) -> None:
    inside, after = Event(), Event()

    def wait() -> None:
        inside.set()
        assert after.wait(SOON)

    job = bench.submit(made(inside=wait))
    with ThreadPoolExecutor(1) as pool:
        zombie = pool.submit(bench.attempt, job)
        assert inside.wait(SOON)
        bench.take_over(job)
        after.set()
        assert zombie.result(SOON).outcome is Outcome.LEASE_LOST
    assert (bench.payments(job), bench.steps(job)) == ([], [])
    row = bench.platform.row(job)
    assert (row.state, row.attempt) == (JobState.RUNNING, 2)


@both
def test_a_commit_whose_answer_is_lost_counts(bench: Bench, made: Callable[..., Handler]) -> None:
    calls = []

    def inside() -> None:
        calls.append("inside")
        bench.line.lose_reply_to(b"COMMIT")

    job, ended = bench.run(made(inside=inside))
    assert (bench.line.lost, ended.result, calls) == (1, "paid", ["inside"])
    assert (bench.payments(job), bench.steps(job)) == (["first"], [("pay", 1)])
    assert bench.platform.types(job).count("step") == 1


@both
def test_a_block_whose_connection_breaks_before_the_commit_is_undone(
    bench: Bench, made: Callable[..., Handler]
) -> None:
    inside = Once(times=0)
    job = bench.submit(made(inside=inside))
    bench.line.lose_reply_to(b"job_step")  # the step's statement
    ended = bench.attempt(job)
    assert (bench.line.lost, ended.outcome, inside.calls) == (1, Outcome.RETRIED, 1)
    assert (bench.payments(job), bench.steps(job)) == ([], [])
    assert bench.attempt(job, 2).result == "paid"
    assert (bench.payments(job), bench.steps(job)) == (["first"], [("pay", 2)])


@both
def test_an_earlier_attempts_late_commit_stands_instead(
    bench: Bench, made: Callable[..., Handler]
) -> None:
    inside = Once()
    job = bench.submit(made(inside=inside))

    def arrive() -> None:
        """The first attempt's step, which nobody had seen when the second began its block."""
        inside()
        bench.platform.execute(
            "INSERT INTO job_step (job_id, name, attempt) VALUES (:job, 'pay', 1)", job=job.id
        )

    job = bench.submit(made(inside=arrive))
    assert bench.attempt(job).outcome is Outcome.RETRIED
    assert bench.attempt(job, 2).result == "paid"
    assert (bench.payments(job), bench.steps(job)) == ([], [("pay", 1)])


@pytest.mark.parametrize("verb", ["commit", "rollback", "close"])
def test_a_block_may_not_end_its_transaction(bench: Bench, verb: str) -> None:
    def handler(context: JobContext, args: Nothing) -> None:
        with context.transaction("pay") as session:
            session.connection().execute(first(context.job_id))
            getattr(session, verb)()

    job, ended = bench.run(handler)
    assert ended.error is not None
    assert ended.error.message.startswith(f"{verb}() inside context.transaction()")
    assert (bench.payments(job), bench.steps(job)) == ([], [])


@pytest.mark.parametrize("verb", ["commit", "rollback", "close"])
def test_an_async_block_may_not_either(bench: Bench, verb: str) -> None:
    async def handler(context: AsyncJobContext, args: Nothing) -> None:
        async with context.transaction("pay") as session:
            await (await session.connection()).execute(first(context.job_id))
            await getattr(session, verb)()

    job, ended = bench.run(handler)
    assert ended.error is not None
    assert ended.error.message.startswith(f"{verb}() inside context.transaction()")
    assert (bench.payments(job), bench.steps(job)) == ([], [])


@pytest.mark.parametrize("words", ["COMMIT", "ROLLBACK"])
def test_a_block_that_ends_it_in_sql_is_told(bench: Bench, words: str) -> None:
    def handler(context: JobContext, args: Nothing) -> None:
        with context.transaction("pay") as session:
            session.connection().exec_driver_sql(words)
            session.connection().execute(first(context.job_id))

    job, ended = bench.run(handler)
    assert ended.error is not None
    assert "has ended its transaction by itself" in ended.error.message
    assert (bench.payments(job), bench.steps(job)) == ([], [])


def test_a_savepoint_is_the_blocks_own_affair(bench: Bench) -> None:
    def handler(context: JobContext, args: Nothing) -> str:
        with context.transaction("pay") as session:
            kept = Payment(job_id=context.job_id, line="kept")
            session.add(kept)
            session.flush()
            with session.begin_nested() as savepoint:
                session.connection().execute(first(context.job_id))
                savepoint.rollback()
        return kept.line  # readable after the block

    job, ended = bench.run(handler)
    assert ended.result == "kept"
    assert bench.payments(job) == ["kept"]


def test_a_constraint_that_fails_at_the_commit_undoes_the_block(bench: Bench) -> None:
    def handler(context: JobContext, args: Nothing) -> None:
        with context.transaction("pay") as session:
            session.connection().exec_driver_sql(
                "CREATE TABLE shop.only (n int UNIQUE DEFERRABLE INITIALLY DEFERRED);"
                "INSERT INTO shop.only VALUES (1), (1)"
            )

    job, ended = bench.run(handler)
    assert ended.error is not None
    assert ended.error.type == "IntegrityError"
    assert bench.steps(job) == []


def test_what_a_block_sets_is_not_in_the_way(bench: Bench) -> None:
    bench.platform.execute("DROP ROLE IF EXISTS shopkeeper; CREATE ROLE shopkeeper")
    bench.platform.execute("GRANT ALL ON SCHEMA shop TO shopkeeper")
    bench.platform.execute("GRANT ALL ON shop.payment TO shopkeeper")

    def handler(context: JobContext, args: Nothing) -> str:
        with context.transaction("pay") as session:
            session.connection().exec_driver_sql("SET LOCAL search_path TO shop")
            session.connection().exec_driver_sql("SET LOCAL ROLE shopkeeper")
            session.connection().execute(first(context.job_id))
        return "paid"

    job, ended = bench.run(handler)
    assert ended.result == "paid"
    assert (bench.payments(job), bench.steps(job)) == (["first"], [("pay", 1)])


@pytest.mark.parametrize("limit", [None, 600])
def test_a_statement_may_take_as_long_as_its_attempt(bench: Bench, limit: float | None) -> None:
    def handler(context: JobContext, args: Nothing) -> dict[str, int]:
        shown: dict[str, int] = {}
        statement = "SELECT name, setting::int FROM pg_settings WHERE name ~ '_timeout$'"
        with context.transaction("look") as session:
            shown |= {
                row.name: row.setting for row in session.connection().exec_driver_sql(statement)
            }
        return shown

    _, ended = bench.run(handler, timeout=limit)
    fence = bench.runtime.settings.self_fence.total_seconds()
    assert ended.result["idle_in_transaction_session_timeout"] == fence * 1000
    assert ended.result["lock_timeout"] == 0
    longest = ended.result["statement_timeout"]
    assert longest == 0 if limit is None else 500_000 < longest <= 600_000


def test_a_block_that_stands_still_for_too_long_is_undone(bench: Bench) -> None:
    inside = Once(times=0)

    def handler(context: JobContext, args: Nothing) -> None:
        with context.transaction("pay") as session:
            session.connection().execute(first(context.job_id))
            inside()
            eventually(lambda: bench.transactions() == 0)

    bench.shorten_the_lease()
    job, ended = bench.run(handler)
    assert ended.error is not None
    assert ("idle-in-transaction" in ended.error.message, inside.calls) == (True, 1)
    assert (bench.payments(job), bench.steps(job)) == ([], [])


def test_a_soft_limit_ends_the_statement_and_undoes_the_block(bench: Bench) -> None:
    def handler(context: JobContext, args: Nothing) -> None:
        with context.transaction("pay") as session:
            session.connection().execute(first(context.job_id))
            session.connection().execute(sa.select(sa.func.pg_sleep(SOON)))

    job, ended = bench.run(handler, timeout=1)
    assert ended.error is not None
    assert ended.error.cause == "timeout"
    eventually(lambda: bench.transactions() == 0)
    assert (bench.payments(job), bench.steps(job)) == ([], [])
    assert bench.run(paying())[1].result == "paid"


@pytest.mark.parametrize("reason", [Stop.CANCELLED, Stop.LOST, Stop.INTERRUPTED])
def test_a_cancelled_coroutine_undoes_its_block(bench: Bench, reason: Stop) -> None:
    async def handler(context: AsyncJobContext, args: Nothing) -> None:
        async with context.transaction("pay") as session:
            await (await session.connection()).execute(first(context.job_id))
            bench.runtime.links[context.job_id, context.attempt].stop(reason)
            await (await session.connection()).execute(sa.select(sa.func.pg_sleep(SOON)))

    job, ended = bench.run(handler)
    assert ended.outcome in {Outcome.CANCELLED, Outcome.LEASE_LOST, Outcome.INTERRUPTED}
    eventually(lambda: bench.transactions() == 0)
    assert (bench.payments(job), bench.steps(job)) == ([], [])
    assert bench.run(paying_async())[1].result == "paid"


def test_a_block_in_a_block_is_committed_for_itself(bench: Bench) -> None:
    def handler(context: JobContext, args: Nothing) -> None:
        with context.transaction("outer") as outer:
            outer.add(Payment(job_id=context.job_id, line="outer"))
            with context.transaction("inner") as inner:
                inner.add(Payment(job_id=context.job_id, line="inner"))
            raise RuntimeError

    job, _ = bench.run(handler)
    assert (bench.payments(job), bench.steps(job)) == (["inner"], [("inner", 1)])


def test_the_async_session_is_one(bench: Bench) -> None:
    async def handler(context: AsyncJobContext, args: Nothing) -> list[str]:
        lines: list[str] = []
        async with context.transaction("pay") as session:
            session.add(Payment(job_id=context.job_id, line="added"))
            await session.flush()
            lines += await session.exec(
                select(Payment.line).where(Payment.job_id == context.job_id)
            )
        return lines

    job, ended = bench.run(handler)
    assert ended.result == ["added"]
    assert bench.payments(job) == ["added"]
