"""The bus: an event and the jobs that it makes are accepted together, and once."""

import threading
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Connection, Engine, func, select
from sqlmodel import col

from jobs.bus.envelope import complete_event, stored
from jobs.bus.making import check_trigger
from jobs.bus.models import CloudEvent, TriggerFiring
from jobs.bus.publishing import MOST_DEPTH, Published, publish
from jobs.bus.triggers import TriggerSpec, TriggerView, create_trigger
from jobs.errors import InvalidSubmission
from jobs.models import Job
from jobs.registry import Registry, load_registry
from tests.eventually import eventually
from tests.jobs.making import PROJECT, read_events, read_job


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(["tests.kinds_for_tests"])


def trigger(connection: Connection, pattern: str = "user.created", **spec: Any) -> TriggerView:
    """One that makes test.echo of an event."""
    given = {"kind": "test.echo", "args": {"value": "data.value"}, **spec}
    return create_trigger(connection, PROJECT, TriggerSpec(pattern=pattern, **given))


def say(
    connection: Connection, registry: Registry, type_: str = "user.created", **fields: Any
) -> Published:
    event = complete_event({"type": type_, "data": {"value": 1}, **fields}, PROJECT)
    (published,) = publish(connection, registry, PROJECT, [event])
    return published


def count(connection: Connection, table: Any) -> int:
    return int(connection.execute(select(func.count()).select_from(table)).scalar_one())


def test_an_event_makes_a_job_of_each_trigger_that_it_meets(
    connection: Connection, registry: Registry
) -> None:
    meant = [
        trigger(connection, pattern, options={"priority": 9, "delay": 0, "labels": {"by": "it"}})
        for pattern in ("user.created", "user.*", "*")
    ]
    for pattern in ("user", "user.created.*", "users.*", "user.deleted"):
        trigger(connection, pattern)
    trigger(connection, filter={"data.value": 2})
    trigger(connection, enabled=False)
    published = say(connection, registry)
    assert published.is_new
    assert {firing.trigger_id for firing in published.event.firings} == {t.id for t in meant}
    assert {job.id for job in published.jobs} == {f.job_id for f in published.event.firings}
    for job in published.jobs:
        assert (job.args, job.priority, job.labels) == ({"value": 1}, 9, {"by": "it"})
        assert [event.type for event in read_events(connection, job.id)] == ["created"]


def test_the_same_event_again_is_the_first_one_and_makes_nothing(
    connection: Connection, registry: Registry
) -> None:
    trigger(connection)
    first = say(connection, registry, id="1")
    trigger(connection)  # a new trigger is no reason either
    again = say(connection, registry, id="1", data={"value": "other"})
    assert (first.is_new, again.is_new, again.jobs) == (True, False, [])
    assert again.event == first.event
    assert len(first.jobs) == 1
    assert say(connection, registry, id="1", source="/another").is_new


def test_an_event_twice_in_a_batch_is_accepted_once(
    connection: Connection, registry: Registry
) -> None:
    trigger(connection)
    twins = [complete_event({"type": "user.created", "id": "1", "data": {}}, PROJECT)] * 2
    twins.append(complete_event({"type": "user.created", "id": "2", "data": {}}, PROJECT))
    assert [each.is_new for each in publish(connection, registry, PROJECT, twins)] == [
        True,
        True,
        True,
    ]
    assert count(connection, CloudEvent) == 2


def test_args_that_do_not_fit_are_told_and_the_other_triggers_go_on(
    connection: Connection, registry: Registry
) -> None:
    bad = trigger(connection, kind="test.flaky", args={"times": "data.value", "path": "'x'"})
    trigger(connection)
    published = say(connection, registry, data={"value": "no number"})
    assert len(published.jobs) == 1
    (failed,) = [firing for firing in published.event.firings if firing.error]
    assert (failed.trigger_id, failed.job_id) == (bad.id, None)
    assert failed.error is not None
    assert [error["pointer"] for error in failed.error["errors"]] == ["#/args/times"]


def test_an_event_nobody_waits_for_is_kept(connection: Connection, registry: Registry) -> None:
    published = say(connection, registry, "nobody.waits")
    assert (published.is_new, published.jobs, published.event.firings) == (True, [], [])
    assert count(connection, CloudEvent) == 1


def test_projects_do_not_see_each_others_events(connection: Connection, registry: Registry) -> None:
    trigger(connection)
    event = complete_event({"type": "user.created", "id": "1", "data": {"value": 1}}, "other")
    (published,) = publish(connection, registry, "other", [event])
    assert (published.is_new, published.jobs) == (True, [])


def test_an_event_that_too_many_led_to_is_kept_and_fires_nothing(
    connection: Connection, registry: Registry
) -> None:
    trigger(connection)
    base = complete_event({"type": "user.created", "data": {"value": 1}}, PROJECT).document
    last = stored({**base, "id": "last"}, depth=MOST_DEPTH)
    over = stored({**base, "id": "over"}, depth=MOST_DEPTH + 1)
    fired, kept = publish(connection, registry, PROJECT, [last, over])
    assert (len(fired.jobs), fired.event.error) == (1, None)
    assert (kept.jobs, kept.is_new) == ([], True)
    assert "9 jobs in a row led to it, more than 8" in (kept.event.error or "")


def test_of_what_lading_says_itself_a_star_alone_means_nothing(
    connection: Connection, registry: Registry
) -> None:
    trigger(connection, "*")
    named = trigger(connection, "job.*")
    event = {"specversion": "1.0", "id": "3", "source": "/lading/jobs/1", "type": "job.succeeded"}
    (published,) = publish(
        connection, registry, PROJECT, [stored({**event, "data": {"value": 1}}, depth=1)]
    )
    assert [firing.trigger_id for firing in published.event.firings] == [named.id]


@pytest.fixture
def committed(engine: Engine, registry: Registry) -> Iterator[UUID]:
    """A trigger that all connections see."""
    with engine.begin() as connection:
        made = trigger(connection, "race.*")
    yield made.id
    with engine.begin() as connection:
        connection.execute(TriggerFiring.__table__.delete())  # type: ignore[attr-defined]


def test_of_concurrent_twins_one_makes_the_job(
    engine: Engine, registry: Registry, committed: UUID
) -> None:
    """Eight publishers say the same ten events at once, in batches of another order each."""
    results: list[Published] = []

    def publisher(shift: int) -> None:
        with engine.connect() as connection:
            for start in range(0, 10, 5):
                batch = [
                    complete_event(
                        {"type": "race.on", "id": str(start + (n + shift) % 5), "data": {}}, PROJECT
                    )
                    for n in range(5)
                ]
                with connection.begin():
                    results.extend(publish(connection, registry, PROJECT, batch))

    threads = [threading.Thread(target=publisher, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    eventually(lambda: not any(thread.is_alive() for thread in threads))
    assert len(results) == 80
    assert sum(each.is_new for each in results) == 10
    with engine.connect() as connection:
        fired = select(col(TriggerFiring.job_id)).where(col(TriggerFiring.trigger_id) == committed)
        job_ids = [*connection.execute(fired).scalars()]
        assert len(job_ids) == len({*job_ids}) == 10
        made = select(func.count()).select_from(Job).where(col(Job.id).in_(job_ids))
        assert connection.execute(made).scalar_one() == 10
        assert read_job(connection, job_ids[0]).state == "queued"


def test_a_key_of_a_triggers_jobs_is_made_of_the_event(
    connection: Connection, registry: Registry
) -> None:
    options = {
        "unique": {"key": "welcome-{data.value}", "on_conflict": "return"},
        "concurrency": {"key": "{data.tenant}", "limit": 3},
        "webhook": {"url": "https://example.org/hooks"},
    }
    made = trigger(connection, options=options)
    check_trigger(registry, made.spec)
    first, second, other = (
        say(connection, registry, data={"value": value, "tenant": "t"}) for value in (1, 1, 2)
    )
    jobs = [read_job(connection, job.id) for job in (*first.jobs, *other.jobs)]
    assert [job.unique_key for job in jobs] == ["welcome-1", "welcome-2"]
    assert {(job.concurrency_key, job.concurrency_limit) for job in jobs} == {("t", 3)}
    assert second.jobs == []  # it is the first one's
    assert second.event.firings[0].job_id == first.jobs[0].id
    lost = say(connection, registry, data={"value": 3}).event.firings[0]
    assert lost.error is not None
    assert lost.error["errors"][0]["pointer"] == "#/concurrency/key"


def test_a_conflict_leaves_the_other_triggers_their_jobs(
    connection: Connection, registry: Registry
) -> None:
    refused = trigger(connection, options={"unique": {"key": "one"}})
    trigger(connection)
    assert len(say(connection, registry).jobs) == 2
    again = say(connection, registry)
    assert len(again.jobs) == 1
    (error,) = [each.error for each in again.event.firings if each.trigger_id == refused.id]
    assert error is not None
    assert "unique key 'one'" in error["message"]


@pytest.mark.parametrize(
    ("options", "pointer"),
    [
        ({"unique": {"key": "{customer}"}}, "#/unique/key"),
        ({"unique": {"key": "{data.a"}}, "#/unique/key"),
        ({"concurrency": {"key": "x", "most": 1}}, "#/concurrency"),
        ({"webhook": {"url": "https://x", "secret": "s"}}, "#/webhook/secret"),
    ],
    ids=range(4),
)
def test_a_triggers_ties_are_checked_when_it_is_made(
    registry: Registry, options: dict[str, Any], pointer: str
) -> None:
    spec = TriggerSpec(pattern="a.b", kind="test.echo", options=options)
    with pytest.raises(InvalidSubmission) as caught:
        check_trigger(registry, spec)
    assert [flaw.pointer for flaw in caught.value.flaws] == [pointer]
