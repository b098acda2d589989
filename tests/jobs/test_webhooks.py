"""Endpoints, secrets and deliveries, without a request being made."""

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection
from standardwebhooks import Webhook

import kinds
from jobs.bus.triggers import TriggerSpec, create_trigger
from jobs.errors import DeliveryMissing, DeliveryPending, JobNotFound, WebhookMissing, WebhookOff
from jobs.ids import FIRST, uuid7
from jobs.models import Job
from jobs.registry import load_registry
from jobs.schedules import store
from jobs.schedules.asking import Asked
from jobs.states import JobState
from jobs.vault import Vault
from jobs.webhooks import deliveries, endpoints, sending, signing
from jobs.webhooks.deliveries import DeliveryState
from jobs.webhooks.fanning import AT_A_TIME, DELIVER, BusEvent, fan_out
from jobs.webhooks.models import JobWebhook
from jobs.webhooks.resealing import PLACES, reseal
from jobs.webhooks.sending import Outcome, Parcel
from tests.jobs.making import PROJECT, make_job, read_job

REGISTRY = load_registry(kinds.MODULES)
VAULT = Vault(["k" * 40])
PROCESS = uuid4()
DAY = timedelta(days=1)


def make_endpoint(connection: Connection, *types: str, **options: Any) -> tuple[UUID, str]:
    project = options.pop("project", PROJECT)
    options = {"url": "https://example.org/hook", "event_types": types or ("*",), **options}
    view, secret = endpoints.create_endpoint(connection, VAULT, project, **options)
    return view.id, secret


def event(type_: str = "user.created", job_id: UUID | None = None, **fields: Any) -> BusEvent:
    document = {"specversion": "1.0", "id": str(uuid4()), "source": "tests", "data": {"n": 1}}
    return BusEvent({**document, "type": type_, **fields}, job_id)


def fan(connection: Connection, *events: BusEvent, project: str = PROJECT) -> list[Any]:
    made = fan_out(connection, REGISTRY, project, events, process_id=PROCESS)
    return [job for jobs in made for job in jobs]


def listed(connection: Connection, webhook_id: UUID, *states: DeliveryState) -> list[Any]:
    page = deliveries.page_deliveries(connection, PROJECT, webhook_id, states, limit=50)
    return page.deliveries


def attempt(connection: Connection, delivery: Any) -> Parcel:
    parcel = sending.begin(connection, VAULT, delivery.id, delivery.job_id)
    assert isinstance(parcel, Parcel), parcel
    return parcel


def record(
    connection: Connection, parcel: Parcel, outcome: Outcome, next_in: timedelta | None = None
) -> str | None:
    return sending.record(connection, parcel, outcome, next_in=next_in, disable_after=5 * DAY)


@pytest.mark.parametrize(
    ("pattern", "matches", "others"),
    [
        ("*", ["user.created", "x"], []),
        ("user.*", ["user.created", "user.profile.changed"], ["user", "users.created"]),
        ("user.created", ["user.created"], ["user.createdx", "User.created"]),
    ],
)
def test_a_pattern_takes_types(
    connection: Connection, pattern: str, matches: list[str], others: list[str]
) -> None:
    webhook_id, _ = make_endpoint(connection, pattern)
    fan(connection, *map(event, matches + others))
    assert sorted(each.event_type for each in listed(connection, webhook_id)) == sorted(matches)


def test_an_event_makes_a_delivery_and_a_job_for_each_receiver_once(
    connection: Connection,
) -> None:
    one, _ = make_endpoint(connection, "user.*")
    two, _ = make_endpoint(connection, "nothing", "user.created", "*")
    make_endpoint(connection, "*", project="other")
    make_endpoint(connection, "*", enabled=False)
    make_endpoint(connection, "job.*")
    told = event()
    jobs = fan(connection, told)
    assert [job.kind for job in jobs] == [DELIVER, DELIVER]
    assert {job.queue for job in jobs} == {"io"}
    (first,), (second,) = listed(connection, one), listed(connection, two)
    assert {first.job_id, second.job_id} == {job.id for job in jobs}
    assert (first.state, first.attempts, first.event_id) == ("pending", 0, told.document["id"])
    assert first.next_at is not None
    assert fan(connection, told) == []
    assert len(listed(connection, one)) == 1


def test_a_receiver_gets_so_many_requests_at_a_time(connection: Connection) -> None:
    webhook_id, _ = make_endpoint(connection)
    (job,) = fan(connection, event())
    row = read_job(connection, job.id)
    assert (row.concurrency_key, row.concurrency_limit) == (f"webhook:{webhook_id}", AT_A_TIME)


def test_jobs_that_deliver_are_told_to_nobody(connection: Connection) -> None:
    make_endpoint(connection, "*")
    source = "/lading/jobs/1"
    own = event("job.succeeded", source=source, data={"kind": DELIVER})
    assert fan(connection, own) == []
    assert len(fan(connection, event("job.succeeded", source=source, data={"kind": "x"}))) == 1


def test_the_end_of_a_job_goes_to_its_own_webhook(connection: Connection) -> None:
    job_id = make_job(connection, JobState.SUCCEEDED)
    sealed = VAULT.seal(signing.make_secret(), job_id)
    row = {
        "job_id": job_id,
        "project_id": PROJECT,
        "url": "https://example.org/own",
        "sealed": sealed,
        "sealed_for": job_id,
    }
    connection.execute(sa.insert(JobWebhook).values(row))
    ended = event("job.succeeded", job_id=job_id)
    (job,) = fan(connection, ended, event("job.succeeded", job_id=make_job(connection)))
    (delivery,) = deliveries.list_of_job(connection, PROJECT, job_id)
    assert delivery.job_id == job.id
    assert fan(connection, ended) == []
    parcel = attempt(connection, delivery)
    assert (parcel.url, len(parcel.secrets)) == ("https://example.org/own", 1)
    assert record(connection, parcel, Outcome(status=410, error="gone")) is None
    with pytest.raises(JobNotFound):
        deliveries.list_of_job(connection, "other", job_id)


def test_the_body_is_a_standard_webhook_and_a_cloud_event(connection: Connection) -> None:
    webhook_id, _ = make_endpoint(connection)
    at = "2026-01-02T03:04:05Z"
    told = event(subject="users/1", data={"name": "Änn"}, time=at, timestamp="theirs", region="eu")
    fan(connection, told)
    (delivery,) = listed(connection, webhook_id)
    body = json.loads(attempt(connection, delivery).body)
    assert body == {**told.document, "timestamp": at}
    assert list(body)[:3] == ["type", "timestamp", "data"]


def test_facts_about_jobs_are_thin(connection: Connection) -> None:
    webhook_id, _ = make_endpoint(connection)
    data = {"job_id": "1", "kind": "x", "result": {"secret": 1}}
    fan(connection, event("job.succeeded", source="/lading/jobs/1", data=data))
    (delivery,) = listed(connection, webhook_id)
    body = json.loads(attempt(connection, delivery).body)
    assert body["data"] == {"job_id": "1", "kind": "x"}


def test_bytes_stay_in_their_own_member(connection: Connection) -> None:
    webhook_id, _ = make_endpoint(connection)
    document = {
        "specversion": "1.0",
        "id": "1",
        "source": "tests",
        "type": "x",
        "data_base64": "AA==",
    }
    fan(connection, BusEvent(document))
    (delivery,) = listed(connection, webhook_id)
    body = json.loads(attempt(connection, delivery).body)
    assert (body["data_base64"], "data" in body, "timestamp" in body) == ("AA==", False, True)


def test_the_reference_library_verifies_what_is_signed(connection: Connection) -> None:
    webhook_id, secret = make_endpoint(connection)
    fan(connection, event(data={"name": "Änn"}))
    (delivery,) = listed(connection, webhook_id)
    parcel = attempt(connection, delivery)
    now = int(datetime.now(UTC).timestamp())
    headers = signing.signed(parcel.secrets, parcel.delivery_id, now, parcel.body)
    assert Webhook(secret).verify(parcel.body, headers)["data"] == {"name": "Änn"}


def test_while_a_secret_is_rotated_both_verify_and_then_the_new_one(
    connection: Connection,
) -> None:
    webhook_id, old = make_endpoint(connection)
    hour = timedelta(hours=1)
    view, new = endpoints.rotate_secret(connection, VAULT, PROJECT, webhook_id, hour)
    assert [each["expires_at"] is None for each in view.secrets] == [True, False]
    fan(connection, event())
    (delivery,) = listed(connection, webhook_id)
    parcel = attempt(connection, delivery)
    now = int(datetime.now(UTC).timestamp())
    headers = signing.signed(parcel.secrets, parcel.delivery_id, now, parcel.body)
    for secret in (old, new):
        Webhook(secret).verify(parcel.body, headers)
    _, newest = endpoints.rotate_secret(connection, VAULT, PROJECT, webhook_id, timedelta())
    assert attempt(connection, delivery).secrets == [newest]
    for _ in range(7):
        view, _ = endpoints.rotate_secret(connection, VAULT, PROJECT, webhook_id, hour)
    assert len(view.secrets) == endpoints.MOST_SECRETS
    with pytest.raises(WebhookMissing):
        endpoints.rotate_secret(connection, VAULT, "other", webhook_id, hour)


def test_secrets_are_not_readable_in_the_database(connection: Connection) -> None:
    _, secret = make_endpoint(connection)
    raw = base64.b64decode(secret.removeprefix("whsec_"))
    for (sealed,) in connection.execute(sa.text("SELECT sealed FROM webhook_secret")):
        assert raw not in bytes(sealed)
        assert secret.encode() not in bytes(sealed)


def test_a_delivery_goes_on_until_it_is_taken(connection: Connection) -> None:
    webhook_id, _ = make_endpoint(connection)
    fan(connection, event())
    (delivery,) = listed(connection, webhook_id)
    refused = Outcome(status=500, seconds=0.2, error="answered 500", response="oops")
    record(connection, attempt(connection, delivery), refused, timedelta(seconds=5))
    (delivery,) = listed(connection, webhook_id)
    assert (delivery.state, delivery.attempts, delivery.last_status) == ("pending", 1, 500)
    failing_since = endpoints.get_endpoint(connection, PROJECT, webhook_id).failing_since
    assert failing_since is not None
    record(connection, attempt(connection, delivery), Outcome(status=204, seconds=0.1))
    story = deliveries.get_story(connection, PROJECT, webhook_id, delivery.id)
    assert (story.delivery.state, story.delivery.next_at) == ("delivered", None)
    assert [(each.number, each.status) for each in story.attempts] == [(1, 500), (2, 204)]
    assert story.attempts[0].response == "oops"
    assert endpoints.get_endpoint(connection, PROJECT, webhook_id).failing_since is None
    again = sending.begin(connection, VAULT, delivery.id, delivery.job_id)
    assert isinstance(again, str)


def test_nobody_elses_job_makes_a_delivery(connection: Connection) -> None:
    webhook_id, _ = make_endpoint(connection)
    fan(connection, event())
    (delivery,) = listed(connection, webhook_id)
    assert isinstance(sending.begin(connection, VAULT, delivery.id, uuid4()), str)
    assert listed(connection, webhook_id)[0].attempts == 0


def test_410_switches_the_endpoint_off(connection: Connection) -> None:
    webhook_id, _ = make_endpoint(connection)
    fan(connection, event(), event())
    other, delivery = listed(connection, webhook_id)
    outcome = Outcome(status=410, error="answered 410 Gone")
    assert record(connection, attempt(connection, delivery), outcome) == "gone"
    view = endpoints.get_endpoint(connection, PROJECT, webhook_id)
    assert (view.enabled, view.disabled_reason) == (False, "gone")
    assert sending.begin(connection, VAULT, other.id, other.job_id) == "the webhook is off"
    assert {each.state for each in listed(connection, webhook_id)} == {"failed"}
    assert fan(connection, event()) == []
    view = endpoints.change_endpoint(connection, PROJECT, webhook_id, {"enabled": True})
    assert (view.enabled, view.disabled_reason, view.failing_since) == (True, None, None)


def test_an_endpoint_that_fails_for_days_is_switched_off(connection: Connection) -> None:
    webhook_id, _ = make_endpoint(connection)
    fan(connection, event())
    (delivery,) = listed(connection, webhook_id)
    refused = Outcome(status=500, error="answered 500")
    assert record(connection, attempt(connection, delivery), refused, DAY) is None
    assert record(connection, attempt(connection, delivery), refused, DAY) is None
    connection.execute(sa.text("UPDATE webhook_endpoint SET failing_since = now() - interval '6d'"))
    assert record(connection, attempt(connection, delivery), refused, DAY) == "failing"
    assert not endpoints.get_endpoint(connection, PROJECT, webhook_id).enabled


def test_who_was_switched_off_is_told_of_once(connection: Connection) -> None:
    webhook_id, _ = make_endpoint(connection, "user.*")
    make_endpoint(connection, enabled=False)
    fan(connection, event())
    (delivery,) = listed(connection, webhook_id)
    assert endpoints.take_switched_off(connection, 9) == []
    record(connection, attempt(connection, delivery), Outcome(status=410, error="answered 410"))
    (told,) = endpoints.take_switched_off(connection, 9)
    assert (told.id, told.reason) == (webhook_id, "gone")
    assert endpoints.take_switched_off(connection, 9) == []


def test_secrets_are_encrypted_anew(connection: Connection) -> None:
    webhook_id, secret = make_endpoint(connection)
    job_id = make_job(connection)
    row = {"job_id": job_id, "project_id": PROJECT, "url": "https://example.org/own"}
    own = VAULT.seal(secret, job_id)
    connection.execute(sa.insert(JobWebhook).values(**row, sealed=own, sealed_for=job_id))
    rule_id = uuid7()
    sealed = VAULT.seal(secret, rule_id)
    rule = TriggerSpec(pattern="a.b", kind="demo.sleep", sealed=sealed, sealed_for=rule_id)
    create_trigger(connection, PROJECT, rule, rule_id)
    tick = Asked(name="sealed", kind="demo.sleep", args={"seconds": 0}, cron="0 7 * * *")
    store.create(connection, REGISTRY, PROJECT, replace(tick, sealed=sealed), rule_id)
    fan(connection, event("job.failed", job_id=job_id))
    newer = Vault(["n" * 40, "k" * 40])
    for place in PLACES:
        assert reseal(connection, newer, place, 100).resealed >= 1
        assert reseal(connection, newer, place, 100).resealed == 0
    newest = Vault(["n" * 40])
    (delivery,) = listed(connection, webhook_id) or deliveries.list_of_job(
        connection, PROJECT, job_id
    )
    parcel = sending.begin(connection, newest, delivery.id, delivery.job_id)
    assert isinstance(parcel, Parcel)
    assert parcel.secrets == [secret]


def test_a_delivery_is_replayed_with_its_id_when_it_has_ended(connection: Connection) -> None:
    webhook_id, _ = make_endpoint(connection)
    fan(connection, event())
    (delivery,) = listed(connection, webhook_id)

    def replay(delivery_id: UUID, project: str = PROJECT) -> list[Any]:
        return deliveries.replay(
            connection, REGISTRY, project, webhook_id, delivery_id, process_id=PROCESS
        )

    with pytest.raises(DeliveryPending):
        replay(delivery.id)
    with pytest.raises(DeliveryMissing):
        replay(uuid4())
    with pytest.raises(WebhookMissing):
        replay(delivery.id, "other")
    record(connection, attempt(connection, delivery), Outcome(status=200))
    (job,) = replay(delivery.id)
    (again,) = listed(connection, webhook_id)
    assert (again.id, again.state, again.job_id) == (delivery.id, "pending", job.id)
    assert attempt(connection, again).number == 2
    endpoints.change_endpoint(connection, PROJECT, webhook_id, {"enabled": False})
    with pytest.raises(WebhookOff):
        replay(delivery.id)


def test_all_that_failed_since_a_time_is_replayed_in_pages(connection: Connection) -> None:
    webhook_id, _ = make_endpoint(connection)
    fan(connection, *(event() for _ in range(4)))
    *failed, old, delivered = listed(connection, webhook_id)
    for each in (*failed, old):
        record(connection, attempt(connection, each), Outcome(error="no answer"))
    record(connection, attempt(connection, delivered), Outcome(status=200))
    connection.execute(
        sa.text("UPDATE webhook_delivery SET created_at = now() - interval '2h' WHERE id = :id"),
        {"id": old.id},
    )

    def replayed(limit: int) -> int:
        since = datetime.now(UTC) - timedelta(hours=1)
        return len(
            deliveries.replay_failed(
                connection, REGISTRY, PROJECT, webhook_id, since, limit=limit, process_id=PROCESS
            )
        )

    assert [replayed(1), replayed(5), replayed(5)] == [1, 1, 0]
    pending = listed(connection, webhook_id, DeliveryState.PENDING)
    assert {each.id for each in pending} == {each.id for each in failed}


def test_a_delivery_whose_job_has_ended_without_it_has_failed(connection: Connection) -> None:
    webhook_id, _ = make_endpoint(connection)
    fan(connection, event(), event(), event())
    live, cancelled, deleted = listed(connection, webhook_id)
    connection.execute(
        sa.text("UPDATE job SET state = 'cancelled', finished_at = now() WHERE id = :id"),
        {"id": cancelled.job_id},
    )
    connection.execute(sa.delete(Job).where(sa.column("id") == deleted.job_id))
    reach = deliveries.settle(connection, FIRST, 2)
    assert reach is not None
    assert deliveries.settle(connection, reach, 2) is None
    states = {each.id: each.state for each in listed(connection, webhook_id)}
    assert states == {live.id: "pending", cancelled.id: "failed", deleted.id: "failed"}


def test_old_deliveries_are_forgotten_when_they_have_ended(connection: Connection) -> None:
    webhook_id, _ = make_endpoint(connection)
    fan(connection, event(), event())
    pending, ended = listed(connection, webhook_id)
    record(connection, attempt(connection, ended), Outcome(status=200))
    assert deliveries.forget(connection, DAY, 10) == 0
    assert deliveries.forget(connection, timedelta(), 10) == 1
    assert [each.id for each in listed(connection, webhook_id)] == [pending.id]


def test_a_deleted_endpoint_takes_all_with_it(connection: Connection) -> None:
    webhook_id, _ = make_endpoint(connection)
    fan(connection, event())
    (delivery,) = listed(connection, webhook_id)
    with pytest.raises(WebhookMissing):
        endpoints.delete_endpoint(connection, "other", webhook_id)
    endpoints.delete_endpoint(connection, PROJECT, webhook_id)
    assert isinstance(sending.begin(connection, VAULT, delivery.id, delivery.job_id), str)
    with pytest.raises(WebhookMissing):
        listed(connection, webhook_id)


def test_a_lost_key_is_said_and_not_raised(connection: Connection) -> None:
    webhook_id, _ = make_endpoint(connection)
    fan(connection, event())
    (delivery,) = listed(connection, webhook_id)
    for vault in (Vault([]), Vault(["z" * 40])):
        parcel = sending.begin(connection, vault, delivery.id, delivery.job_id)
        assert isinstance(parcel, Parcel)
        assert parcel.flaw


@pytest.mark.parametrize(
    "text", ["", "secret", "whsec_", "whsec_%%%", "whsec_" + "A" * 24, "whsec_" + "A" * 120]
)
def test_what_is_no_secret_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a secret is whsec_"):
        signing.secret_bytes(text)


def test_ids_never_hold_a_full_stop() -> None:
    assert "." not in signing.message_id(uuid7())
