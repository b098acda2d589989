"""What a handler publishes: with its transaction once, elsewhere at least once."""

from typing import Any
from uuid import UUID

import sqlalchemy as sa

from jobs.attempts import Outcome
from jobs.bus.pending import settle
from jobs.bus.triggers import TriggerSpec, create_trigger
from jobs.submissions import NewJob
from lading import AsyncJobContext, JobContext
from tests.worker.bench import Bench, Nothing, Once
from worker.outcomes import Ended


def events(bench: Bench, job: NewJob) -> list[sa.Row[Any]]:
    statement = sa.text(
        "SELECT id, source, type, envelope, depth, is_pending FROM cloud_event"
        " WHERE job_id = :job ORDER BY id"
    )
    with bench.platform.engine.connect() as connection:
        return [*connection.execute(statement, {"job": job.id})]


def ended(bench: Bench, handler: Any) -> tuple[NewJob, Ended]:
    job, first = bench.run(handler)
    return job, bench.attempt(job, 2) if first.outcome is Outcome.RETRIED else first


def test_a_block_publishes_once(bench: Bench) -> None:
    inside, after = Once(), Once()

    def handler(context: JobContext, args: Nothing) -> None:
        with context.transaction("tell"):
            context.publish("order.paid", {"total": 17}, subject="order-17")
            inside()
        after()

    job, first = bench.run(handler)
    assert (first.outcome, events(bench, job)) == (Outcome.RETRIED, [])
    assert bench.attempt(job, 2).outcome is Outcome.RETRIED
    assert bench.attempt(job, 3).outcome is Outcome.SUCCEEDED
    (event,) = events(bench, job)
    assert (event.type, event.depth, event.is_pending) == ("order.paid", 1, True)
    assert event.source == f"/projects/default/jobs/{job.id}"
    assert (event.envelope["data"], event.envelope["subject"]) == ({"total": 17}, "order-17")


def test_outside_of_a_block_an_id_makes_it_one_event(bench: Bench) -> None:
    after, found = Once(), list[UUID]()

    def handler(context: JobContext, args: Nothing) -> None:
        found.append(context.publish("order.paid", id="17"))
        context.publish("order.seen")
        after()

    job, end = ended(bench, handler)
    assert end.outcome is Outcome.SUCCEEDED
    assert [event.type for event in events(bench, job)].count("order.seen") == 2
    assert len(events(bench, job)) == 3
    assert found[0] == found[1]


def test_an_async_handler_publishes_as_well(bench: Bench) -> None:
    async def handler(context: AsyncJobContext, args: Nothing) -> None:
        await context.publish("order.paid", {"n": 1})
        async with context.transaction("tell"):
            await context.publish("order.paid", {"n": 2})

    job, end = ended(bench, handler)
    assert end.outcome is Outcome.SUCCEEDED
    assert [event.envelope["data"] for event in events(bench, job)] == [{"n": 1}, {"n": 2}]


def test_an_attempt_that_lost_its_job_publishes_nothing(bench: Bench) -> None:
    taken: list[NewJob] = []

    def handler(context: JobContext, args: Nothing) -> None:
        bench.take_over(taken[0])
        context.publish("order.paid")

    job = bench.submit(handler)
    taken.append(job)
    bench.attempt(job)
    assert events(bench, job) == []


def test_an_event_that_cannot_be_fails_the_job(bench: Bench) -> None:
    def handler(context: JobContext, args: Nothing) -> None:
        context.publish("order.paid", source="/lading/jobs/1")

    _, end = ended(bench, handler)
    assert end.error is not None
    assert "#/source" in end.error.message


def test_events_count_the_jobs_that_have_led_to_them(bench: Bench) -> None:
    def handler(context: JobContext, args: Nothing) -> None:
        context.publish("chain.next", {})

    first, _ = ended(bench, handler)
    engine, registry = bench.platform.engine, bench.platform.registry
    with engine.begin() as connection:
        create_trigger(
            connection, "default", TriggerSpec(pattern="chain.next", kind="block.tried", args={})
        )
        settled = settle(connection, registry, 100)
    made = next(
        job.id
        for each in settled["default"]
        if each.event.envelope["source"].endswith(str(first.id))
        for job in each.jobs
    )
    second = first._replace(id=made)
    bench.attempt(second)
    (event,) = events(bench, second)
    assert event.depth == 2
