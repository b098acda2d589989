"""Each verb of the client against a real API."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from pydantic import SecretStr

from lading import (
    Client,
    InvalidTransition,
    JobFailed,
    NewJob,
    NotFound,
    StillRunning,
    Unauthorized,
)
from lading.client import KeyReused, UnexpectedAnswer, Unreachable, ValidationFailed
from tests.api.serving import Api
from tests.kinds_for_tests import Echo, Secret, echo, secret
from tests.lading.gateway import Canned, gateway
from tests.lading.handwork import Background, Handwork


def test_a_submitted_job_is_what_was_asked_for(client: Client) -> None:
    run_at = datetime.now(UTC) + timedelta(hours=2)
    job = client.submit(
        "test.echo",
        {"value": [1, {"at": run_at, "id": UUID(int=7)}]},
        queue="other",
        priority=9,
        run_at=run_at,
        max_attempts=2,
        timeout=timedelta(minutes=1),
        expires_in=90,
        labels={"customer": "17"},
    )
    found = client.get(job)
    assert found == job
    assert (found.kind, found.state, found.queue, found.priority) == (
        "test.echo",
        "scheduled",
        "other",
        9,
    )
    assert found.args["value"][1]["id"] == str(UUID(int=7))
    assert datetime.fromisoformat(found.args["value"][1]["at"]) == run_at
    assert found.run_at == run_at
    assert (found.max_attempts, found.labels) == (2, {"customer": "17"})


def test_a_handler_stands_for_its_kind_and_a_model_for_its_args(client: Client) -> None:
    assert client.submit(echo, Echo(value="x")).args == {"value": "x"}
    hidden = client.submit(secret, Secret(user="ann", password=SecretStr("hush")))
    assert hidden.args["password"] != "hush"  # it was sent, and is not read back
    with pytest.raises(TypeError, match="@job"):
        client.submit(test_a_handler_stands_for_its_kind_and_a_model_for_its_args)


def test_a_batch_is_accepted_in_order_or_not_at_all(client: Client) -> None:
    label = {"batch": str(uuid4())}
    made = client.submit_many([NewJob(echo, {"value": n}, labels=label) for n in range(5)])
    assert [job.args["value"] for job in made] == [0, 1, 2, 3, 4]
    with pytest.raises(ValidationFailed) as caught:
        client.submit_many([NewJob("test.echo", labels=label), NewJob("test.unknown")])
    assert [flaw.pointer for flaw in caught.value.errors] == ["#/jobs/1/kind"]
    assert len([*client.list(labels=label)]) == 5


def test_the_same_key_makes_one_job_and_another_body_is_refused(client: Client) -> None:
    key = str(uuid4())
    first, again = (client.submit(echo, {"value": 1}, idempotency_key=key) for _ in range(2))
    assert first.id == again.id
    with pytest.raises(KeyReused) as caught:
        client.submit(echo, {"value": 2}, idempotency_key=key)
    assert (caught.value.status, caught.value.code) == (422, "idempotency-key-reused")


def test_without_a_key_each_call_makes_a_job(client: Client) -> None:
    assert client.submit(echo).id != client.submit(echo).id


def test_a_list_goes_over_all_pages(client: Client) -> None:
    label = {"pages": str(uuid4())}
    made = client.submit_many([NewJob(echo, {"value": n}, labels=label) for n in range(450)])
    listed = [*client.list(labels=label)]
    assert [job.id for job in listed] == [job.id for job in reversed(made)]
    assert listed[0].args == {}
    assert [job.id for job in client.list(labels=label, limit=201)] == [
        job.id for job in listed[:201]
    ]
    assert next(client.list(labels=label, full=True)).args == {"value": 449}


def test_a_list_is_narrowed(client: Client, by_hand: Handwork) -> None:
    label = {"narrow": str(uuid4())}
    one, two = client.submit_many([NewJob(echo, labels=label), NewJob(echo, labels=label)])
    by_hand.run(one.id)
    assert [job.id for job in client.list(labels=label, state="succeeded")] == [one.id]
    assert len([*client.list(labels=label, state=["queued", "succeeded"])]) == 2
    assert [*client.list(labels=label, kind="test.talks")] == []
    assert [*client.list(labels=label, created_after=two.created_at + timedelta(days=1))] == []
    assert {job.id for job in client.list(ids=[one, str(two.id)])} == {one.id, two.id}
    assert [*client.list(ids=[])] == []
    with pytest.raises(TypeError, match="colour"):
        next(client.list(colour="red"))  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="offset"):
        next(client.list(created_before=datetime(2030, 1, 1)))  # noqa: DTZ001


def test_history_attempts_and_logs_are_read(client: Client, by_hand: Handwork) -> None:
    job = client.submit(echo)
    by_hand.start(job.id)
    by_hand.log(job.id, "hello", n=1)
    by_hand.succeed(job.id, 7)
    events = client.events(job)
    assert [(event.seq, event.type) for event in events] == [
        (1, "created"),
        (2, "started"),
        (3, "log"),
        (4, "succeeded"),
    ]
    assert events[-1].is_final
    assert client.events(job, after=2) == events[2:]
    assert [(each.attempt, each.outcome) for each in client.attempts(job)] == [(1, "succeeded")]
    (line,) = client.logs(job)
    assert (line.message, line.fields) == ("hello", {"n": 1})


def test_jobs_are_cancelled_retried_hurried_repeated_and_deleted(
    client: Client, by_hand: Handwork
) -> None:
    job = client.submit(echo, {"value": 1}, delay=3600)
    assert client.run_now(job).state == "queued"
    assert client.cancel(job, "enough").state == "cancelled"
    assert client.cancel(job).state == "cancelled"
    assert client.events(job)[-1].data["reason"] == "enough"
    assert client.retry(job).state == "queued"
    with pytest.raises(InvalidTransition) as caught:
        client.retry(job)
    assert caught.value.document["state"] == "queued"
    by_hand.run(job.id)
    again = client.rerun(job, {"value": 2})
    assert (again.rerun_of, again.args) == (job.id, {"value": 2})
    client.delete(job)
    with pytest.raises(NotFound):
        client.get(job)
    with pytest.raises(NotFound):
        client.delete(job)


def test_a_job_is_waited_for(client: Client, by_hand: Handwork, background: Background) -> None:
    job = client.submit(echo)
    with pytest.raises(StillRunning, match="queued"):
        client.wait(job, timeout=0.2)
    background(lambda: by_hand.run(job.id, {"n": 1}))
    done = client.wait(job)
    assert (done.state, done.result) == ("succeeded", {"n": 1})
    assert done.check() is done


def test_a_submission_can_wait_for_its_job(
    client: Client, by_hand: Handwork, background: Background
) -> None:
    value = str(uuid4())
    background(lambda: by_hand.when_there(client, f"waiting={value}", by_hand.break_))
    job = client.submit(echo, labels={"waiting": value}, wait=20)
    assert job.state == "failed"
    with pytest.raises(JobFailed, match="RuntimeError: no luck"):
        job.check()
    assert client.submit(echo, wait=0.1).state == "queued"


def test_kinds_queues_workers_and_health_are_told(client: Client) -> None:
    kinds = {kind.name: kind for kind in client.kinds()}
    assert "value" in kinds["test.echo"].args_schema["properties"]
    assert {"default", "io"} <= {queue.name for queue in client.queues()}
    assert client.workers() == []
    assert client.health().status == "ready"


def test_schedules_are_listed_page_after_page(
    client: Client, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lading.client.asking.PAGE", 2)
    for name in ("a", "b", "c"):
        body = {"name": name, "kind": "test.echo", "cron": "0 7 * * 1-5"}
        assert api.http.post("/v1/schedules", json=body).status_code == 201
    listed = [*client.schedules()]
    assert [schedule.name for schedule in listed] == ["c", "b", "a"]
    assert listed[0].sentence == "At 07:00 on Monday through Friday"
    assert len(listed[0].next_times) == 5


def test_refusals_say_what_is_wrong(client: Client, api: Api) -> None:
    with pytest.raises(ValidationFailed) as caught:
        client.submit("test.secret", {"user": 1})
    assert {flaw.pointer for flaw in caught.value.errors} == {"#/args/user", "#/args/password"}
    with pytest.raises(NotFound) as missing:
        client.get("../../etc")
    assert missing.value.status == 404
    with Client(api.url, "wrong") as stranger, pytest.raises(Unauthorized) as closed:
        stranger.get(uuid4())
    assert closed.value.code == "unauthenticated"
    assert closed.value.request_id
    with pytest.raises(ValueError, match="offset"):
        client.submit(echo, run_at=datetime(2030, 1, 1))  # noqa: DTZ001
    with pytest.raises(ValueError, match="JSON"):
        client.submit(echo, {"value": float("nan")})


def test_what_is_not_lading_is_not_believed(api: Api) -> None:
    page = Canned(200, {"Content-Type": "text/html"}, b"<h1>Log in</h1>")
    with gateway(api.url) as between, Client(between.url, api.key) as client:
        between.next.append(page)
        with pytest.raises(UnexpectedAnswer, match="text/html"):
            client.get(uuid4())
        between.next.append(Canned(418, {}, b"teapot"))
        with pytest.raises(UnexpectedAnswer, match="418"):
            client.queues()


def test_a_server_that_is_not_there_is_unreachable_after_the_patience() -> None:
    with Client("http://127.0.0.1:1", "key", patience=0.5) as client:
        with pytest.raises(Unreachable) as caught:
            client.submit("test.echo", idempotency_key="mine")
        assert caught.value.status is None
        assert "'mine'" in caught.value.__notes__[0]
        with pytest.raises(Unreachable):
            [*client.follow(uuid4(), patience=0.5)]


def test_an_event_is_published_once_by_its_id(client: Client, api: Api) -> None:
    body = {"type": "user.created", "kind": "test.echo", "args": {"value": "data.name"}}
    api.http.post("/v1/triggers", json=body)
    first = client.publish("user.created", {"name": "Ada"}, id="17", subject="ada")
    again = client.publish("user.created", {"name": "Ada"}, id="17", subject="ada")
    assert first == again
    assert first.event["subject"] == "ada"
    (job_id,) = first.jobs
    assert client.get(job_id).args == {"value": "Ada"}
    assert client.publish("user.created", {"name": "Ada"}).id != first.id
    with pytest.raises(ValidationFailed):
        client.publish("")
