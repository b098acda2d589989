"""What jobs have come to, published where somebody waits for it: once, and not for ever."""

from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Connection, Engine, delete, select
from sqlmodel import col

from jobs import lifecycle
from jobs.bus.declared import register_triggers
from jobs.bus.facts import publish_facts
from jobs.bus.models import CloudEvent, Trigger, TriggerFiring
from jobs.bus.publishing import MOST_DEPTH
from jobs.bus.triggers import TriggerSpec, create_trigger
from jobs.models import Job
from jobs.registry import Registry, load_registry
from jobs.states import JobState
from lading import JobContext, job, on
from lading.authoring import find_kind
from tests.jobs.making import LEASE, PROJECT, WORKER, make_job
from tests.kinds_for_tests import Echo


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(["tests.kinds_for_tests"])


@pytest.fixture(autouse=True)
def nobody_waits(engine: Engine, registry: Registry) -> None:
    """Each test begins with no triggers, no events, and a position at the log's end."""
    with engine.begin() as connection:
        for table in (Trigger, TriggerFiring, CloudEvent, Job):
            connection.execute(delete(table))
    look(engine, registry)


def look(engine: Engine, registry: Registry) -> list[dict[str, Any]]:
    """What one dispatcher publishes until there is no more."""
    found: list[dict[str, Any]] = []
    while True:
        with engine.begin() as connection:
            turn = publish_facts(connection, registry, 3)
        assert turn is not None
        for published in turn.published.values():
            found += [each.event.envelope for each in published if each.is_new]
        if turn.is_last:
            return found


def wait_for(engine: Engine, pattern: str, **spec: Any) -> UUID:
    given = {"kind": "test.echo", "args": {"value": "data.kind"}, **spec}
    with engine.begin() as connection:
        return create_trigger(connection, PROJECT, TriggerSpec(pattern=pattern, **given)).id


def succeed(connection: Connection, job_id: UUID, result: Any = None) -> None:
    """The queued job is started and has succeeded."""
    row = connection.execute(select(col(Job.attempt)).where(col(Job.id) == job_id)).one()
    claim = lifecycle.start(connection, job_id, attempt=row.attempt + 1, worker=WORKER, lease=LEASE)
    lifecycle.succeed(connection, job_id, attempt=claim.attempt, result=result)


def made(engine: Engine) -> list[UUID]:
    with engine.connect() as connection:
        return [*connection.execute(select(col(Job.id)).order_by(col(Job.id))).scalars()]


def test_facts_are_published_only_where_somebody_waits(engine: Engine, registry: Registry) -> None:
    with engine.begin() as connection:
        succeed(connection, make_job(connection, attempt=0))
    assert look(engine, registry) == []
    wait_for(engine, "job.succeeded")
    wait_for(engine, "*")
    assert look(engine, registry) == []  # it ended before
    with engine.begin() as connection:
        job_id = make_job(connection, attempt=0, labels={"a": "b"})
        succeed(connection, job_id, {"rows": 3})
        other = make_job(connection, attempt=0, project_id="other")
        succeed(connection, other)
    (fact,) = look(engine, registry)
    assert (fact["type"], fact["source"]) == ("job.succeeded", f"/lading/jobs/{job_id}")
    assert (fact["id"], fact["subject"]) == ("3", str(job_id))
    assert fact["data"] == {
        "job_id": str(job_id),
        "kind": "test.echo",
        "queue": "default",
        "state": "succeeded",
        "attempt": 1,
        "labels": {"a": "b"},
        "result": {"rows": 3},
    }
    assert len(made(engine)) == 4  # one of the fact, and those of before
    assert look(engine, registry) == []


def test_what_was_not_committed_is_published_again_and_once(
    engine: Engine, registry: Registry
) -> None:
    wait_for(engine, "job.*", filter={"type": "job.succeeded"})
    with engine.begin() as connection:
        for _ in range(7):
            succeed(connection, make_job(connection, attempt=0))
    with engine.connect() as connection, connection.begin() as transaction:
        first = publish_facts(connection, registry, 3)
        assert first is not None
        assert first.published
        with engine.begin() as second:
            assert publish_facts(second, registry, 3) is None  # another one is at it
        transaction.rollback()  # killed before its commit
    assert len([fact for fact in look(engine, registry) if fact["type"] == "job.succeeded"]) == 7
    assert len(made(engine)) == 14


def test_a_loop_is_cut(engine: Engine, registry: Registry) -> None:
    """A job for each success of such a job, which would go on for ever."""
    wait_for(engine, "job.succeeded", filter={"data.kind": "test.echo"})
    with engine.begin() as connection:
        make_job(connection, attempt=0)
    for _ in range(MOST_DEPTH + 3):
        with engine.begin() as connection:
            queued = select(col(Job.id)).where(col(Job.state) == JobState.QUEUED)
            for job_id in [*connection.execute(queued).scalars()]:
                succeed(connection, job_id)
        look(engine, registry)
    assert len(made(engine)) == 1 + MOST_DEPTH
    with engine.connect() as connection:
        newest = select(col(CloudEvent.depth), col(CloudEvent.error)).order_by(
            col(CloudEvent.depth).desc()
        )
        depth, error = connection.execute(newest).first() or (0, None)
    assert (depth, error) == (9, "9 jobs in a row led to it, more than 8: it fires nothing")


def test_a_child_counts_as_what_made_its_parent(engine: Engine, registry: Registry) -> None:
    wait_for(engine, "job.succeeded", filter={"data.labels.loop": "yes"})
    with engine.begin() as connection:
        succeed(connection, make_job(connection, attempt=0, labels={"loop": "yes"}))
    look(engine, registry)
    (parent,) = made(engine)[-1:]
    with engine.begin() as connection:
        child = make_job(connection, attempt=0, parent_id=parent, labels={"loop": "yes"})
        succeed(connection, child)
    look(engine, registry)
    with engine.connect() as connection:
        depths = connection.execute(select(col(CloudEvent.depth))).scalars()
        assert sorted(depths) == [1, 2]


@on("user.created", args={"value": "data.name"}, filter={"data.name": {"exists": True}}, delay=5)
@on("user.*", name="all", project="other")
@job("test.declared")
def declared(context: JobContext, args: Echo) -> None:
    pass


@on("user.created", args={"missing": "data.name"})
@job("test.misdeclared")
def misdeclared(context: JobContext, args: Echo) -> None:
    pass


def test_triggers_in_code_are_rows_that_stay_switched(connection: Connection) -> None:
    kinds = [kind for kind in (find_kind(declared), find_kind(misdeclared)) if kind]
    register_triggers(connection, Registry(kinds))

    def rows() -> dict[str, Any]:
        columns = [getattr(Trigger, name) for name in ("code_key", "pattern", "enabled", "options")]
        found = connection.execute(select(*map(col, columns), col(Trigger.project_id)))
        return {row.code_key: row for row in found}

    assert {key: row.project_id for key, row in rows().items()} == {
        "test.declared user.created": "default",
        "test.declared user.* all": "other",
    }
    assert rows()["test.declared user.created"].options == {"delay": 5}
    connection.execute(Trigger.__table__.update().values(enabled=False))  # type: ignore[attr-defined]
    register_triggers(connection, Registry(kinds))
    assert [row.enabled for row in rows().values()] == [False, False]

    @job("test.declared")
    def another(context: JobContext, args: Echo) -> None:
        pass

    kind = find_kind(another)
    assert kind is not None
    register_triggers(connection, Registry([kind]))
    assert rows() == {}


def test_on_says_at_once_what_cannot_be() -> None:
    with pytest.raises(ValueError, match="no pattern of types"):
        on("*.created")
    with pytest.raises(ValueError, match="a job has no colour"):
        on("user.created", colour="red")
    with pytest.raises(ValueError, match="stands here twice"):
        on("user.*")(on("user.*")(lambda: None))
