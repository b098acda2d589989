"""/v1/webhooks over HTTP; requests to receivers are made by tests/kinds and tests/worker."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, text

from api.webhooks import answers
from jobs.settings import Settings
from jobs.vault import Vault
from tests.api.serving import Api, problem, serve

URL = "https://example.org/hooks"


def make(api: Api, *types: str, **fields: Any) -> dict[str, Any]:
    body = {"url": URL, "event_types": types or ("user.*",), **fields}
    response = api.http.post("/v1/webhooks", json=body)
    assert response.status_code == 201, response.text
    made: dict[str, Any] = response.json()
    return made


@pytest.fixture(scope="module")
def without_key(settings: Settings) -> Iterator[Api]:
    with serve(settings, secret_key=None) as served:
        yield served


def test_a_webhook_is_made_and_its_secret_shown_once(api: Api) -> None:
    body = {"url": URL, "event_types": ["user.*", "job.failed"], "description": "CRM"}
    response = api.http.post("/v1/webhooks", json=body)
    assert response.status_code == 201
    made = answers.MadeWebhook.model_validate_json(response.content)
    assert response.headers["location"] == f"/v1/webhooks/{made.id}"
    assert response.headers["cache-control"] == "no-store"
    assert made.secret.startswith("whsec_")
    read = api.http.get(response.headers["location"])
    assert answers.Webhook.model_validate_json(read.content).event_types == body["event_types"]
    listed = api.http.get("/v1/webhooks")
    answers.WebhookPage.model_validate_json(listed.content)
    for answered in (read, listed):
        assert made.secret not in answered.text
    entry = api.http.get(f"/v1/audit?target={made.id}").json()["items"][0]
    assert (entry["action"], made.secret in str(entry)) == ("webhook.create", False)


def test_webhooks_come_in_pages(api: Api) -> None:
    ids = [make(api)["id"] for _ in range(3)]
    first = api.http.get("/v1/webhooks?limit=2").json()
    assert [each["id"] for each in first["items"]] == [ids[2], ids[1]]
    second = api.http.get(f"/v1/webhooks?limit=2&cursor={first['next_cursor']}")
    assert second.json()["items"][0]["id"] == ids[0]
    assert 'rel="first"' in second.headers["link"]


def test_a_webhook_is_changed_switched_and_deleted(api: Api) -> None:
    path = f"/v1/webhooks/{make(api)['id']}"
    changed = api.http.patch(path, json={"description": "new", "event_types": ["*"]}).json()
    assert (changed["description"], changed["event_types"], changed["url"]) == ("new", ["*"], URL)
    off = api.http.patch(path, json={"enabled": False}).json()
    assert (off["enabled"], off["disabled_reason"], off["description"]) == (
        False,
        "operator",
        "new",
    )
    problem(api.http.post(f"{path}/test"), 409, "webhook-off")
    on = api.http.patch(path, json={"enabled": True}).json()
    assert (on["enabled"], on["disabled_at"]) == (True, None)
    assert api.http.delete(path).status_code == 204
    for answered in (
        api.http.get(path),
        api.http.patch(path, json={}),
        api.http.delete(path),
        api.http.post(f"{path}/rotate"),
        api.http.post(f"{path}/test"),
        api.http.get(f"{path}/deliveries"),
        api.http.post(f"{path}/replay", json={"since": "2026-01-01T00:00:00Z"}),
    ):
        problem(answered, 404, "webhook-not-found")
    problem(api.http.get("/v1/webhooks/none"), 404, "webhook-not-found")


def test_a_rotation_shows_the_new_secret_and_when_the_old_one_ends(api: Api) -> None:
    made = make(api)
    response = api.http.post(f"/v1/webhooks/{made['id']}/rotate", json={"overlap": 60})
    rotated = answers.MadeWebhook.model_validate_json(response.content)
    assert rotated.secret != made["secret"]
    new, old = rotated.secrets
    assert new.expires_at is None
    assert old.expires_at is not None
    assert 50 < (old.expires_at - new.created_at).total_seconds() < 70
    assert all(each["created_at"].endswith("Z") for each in response.json()["secrets"])
    assert response.headers["cache-control"] == "no-store"
    problem(
        api.http.post(f"/v1/webhooks/{made['id']}/rotate", json={"overlap": 10**7}),
        422,
        "validation-failed",
    )


@pytest.mark.parametrize(
    ("pointer", "fields"),
    [
        ("#/url", {"url": "ftp://example.org/"}),
        ("#/url", {"url": "http://example.org/"}),
        ("#/url", {"url": "https://ann:secret@example.org/"}),
        ("#/url", {"url": "https://example.org/#here"}),
        ("#/event_types", {"event_types": []}),
        ("#/event_types/0", {"event_types": ["with blanks"]}),
        ("#/event_types/0", {"event_types": [""]}),
        ("#/event_types/0", {"event_types": ["*.created"]}),
        ("#/secret", {"secret": "whsec_mine"}),
        ("#/enabled", {"enabled": None}),
        ("#/enabled", {"enabled": 0}),
    ],
)
def test_what_does_not_fit_is_refused(api: Api, pointer: str, fields: dict[str, Any]) -> None:
    body = {"url": URL, "event_types": ["*"], **fields}
    found = problem(api.http.post("/v1/webhooks", json=body), 422, "validation-failed")
    assert found["errors"][0]["pointer"] == pointer


def test_http_is_taken_where_a_network_is_listed(api: Api, settings: Settings) -> None:
    with serve(settings, http_allow_networks=("10.0.0.0/8",)) as lenient:
        make(lenient, url="http://10.0.0.1/hook")


def test_a_test_event_is_a_delivery_of_its_own(api: Api) -> None:
    made = make(api, "nothing.else")
    path = f"/v1/webhooks/{made['id']}"
    response = api.http.post(f"{path}/test")
    assert response.status_code == 202
    delivery = answers.Delivery.model_validate_json(response.content)
    assert (delivery.event_type, delivery.state) == ("webhook.test", "pending")
    assert api.job(str(delivery.job_id))["kind"] == "webhook.deliver"
    listed = api.http.get(f"{path}/deliveries?state=pending")
    (item,) = answers.DeliveryPage.model_validate_json(listed.content).items
    assert item == delivery
    assert api.http.get(f"{path}/deliveries?state=delivered,failed").json()["items"] == []
    read = api.http.get(f"{path}/deliveries/{delivery.id}")
    story = answers.DeliveryStory.model_validate_json(read.content)
    assert isinstance(story.payload, dict)
    assert story.payload["type"] == "webhook.test"
    assert story.history == []
    replay = api.http.post(f"{path}/deliveries/{delivery.id}/replay")
    problem(replay, 409, "delivery-pending")
    problem(api.http.get(f"{path}/deliveries/{uuid4()}"), 404, "delivery-not-found")


def test_an_event_that_is_published_is_delivered_with_it(api: Api) -> None:
    made = make(api, "order.*")
    event = {"type": "order.paid", "id": str(uuid4()), "data": {"n": 1}}
    for _ in range(2):  # twice the same is one
        assert api.http.post("/v1/events", json=event).status_code in {200, 202}
    (item,) = api.http.get(f"/v1/webhooks/{made['id']}/deliveries").json()["items"]
    assert (item["event_id"], item["event_type"]) == (event["id"], "order.paid")
    assert api.job(item["job_id"])["state"] == "queued"


def test_what_has_failed_is_replayed_one_or_all(api: Api, engine: Engine) -> None:
    made = make(api)
    path = f"/v1/webhooks/{made['id']}"
    ids = [api.http.post(f"{path}/test").json()["id"] for _ in range(3)]
    failed = "UPDATE webhook_delivery SET state = 'failed', finished_at = now() WHERE id = ANY(:i)"
    with engine.begin() as connection:
        connection.execute(text(failed), {"i": ids})
    response = api.http.post(f"{path}/deliveries/{ids[0]}/replay")
    assert response.status_code == 202
    assert answers.Delivery.model_validate_json(response.content).state == "pending"
    since = {"since": made["created_at"]}
    response = api.http.post(f"{path}/replay", json=since)
    assert response.json() == {"replayed": 2, "has_more": False}
    assert api.http.post(f"{path}/replay", json=since).json()["replayed"] == 0


def test_webhooks_are_of_one_project_and_need_their_scope(api: Api) -> None:
    made = make(api)
    path = f"/v1/webhooks/{made['id']}"
    with api.client_of(project="other") as theirs:
        problem(theirs.get(path), 404, "webhook-not-found")
        problem(theirs.get(f"{path}/deliveries"), 404, "webhook-not-found")
        assert theirs.get("/v1/webhooks").json()["items"] == []
    with api.client_of(scopes=["jobs:read", "jobs:write"]) as reader:
        assert reader.get(path).status_code == 200
        problem(reader.delete(path), 403, "insufficient-scope")


def test_without_a_key_for_secrets_the_rest_works(without_key: Api) -> None:
    body = {"url": URL, "event_types": ["*"]}
    found = problem(without_key.http.post("/v1/webhooks", json=body), 503, "secret-key-missing")
    assert "LADING_SECRET_KEY" in found["detail"]
    assert without_key.http.get("/v1/webhooks").status_code == 200
    assert without_key.submit()["state"] == "queued"


def test_the_deliveries_of_a_jobs_own_webhook_are_listed_with_the_job(api: Api) -> None:
    job = api.submit()
    assert api.http.get(f"/v1/jobs/{job['id']}/deliveries").json() == {"items": []}
    problem(api.http.get(f"/v1/jobs/{uuid4()}/deliveries"), 404, "job-not-found")


def test_a_submission_names_its_own_webhook(api: Api, engine: Engine) -> None:
    secret = "whsec_" + "QUJD" * 8
    asked = {"url": URL, "secret": secret}
    body = {"kind": "test.echo", "args": {}, "webhook": asked}
    key = {"Idempotency-Key": str(uuid4())}
    job = api.http.post("/v1/jobs", json=body, headers=key).json()
    again = api.http.post("/v1/jobs", json=body, headers=key)
    assert (again.json()["id"], again.headers["idempotency-replayed"]) == (job["id"], "true")
    other = {**body, "webhook": {"url": URL}}
    problem(api.http.post("/v1/jobs", json=other, headers=key), 422, "idempotency-key-reused")
    with engine.connect() as connection:
        row = connection.execute(
            text("SELECT project_id, url, sealed FROM job_webhook WHERE job_id = :i"),
            {"i": job["id"]},
        ).one()
    assert (row.project_id, row.url) == ("default", URL)
    assert secret.encode() not in row.sealed
    batch = {"jobs": [body, {"kind": "test.echo", "args": {}}, other]}
    assert api.http.post("/v1/jobs/batch", json=batch).status_code == 202


@pytest.fixture(params=["trigger", "schedule"])
def rule(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Where a rule is made, and of what; it has never made a job."""
    if request.param == "trigger":
        return "/v1/triggers", {"type": f"signed.{uuid4()}", "kind": "test.echo", "args": {}}
    return "/v1/schedules", {"name": str(uuid4()), "kind": "test.echo", "cron": "0 7 * * *"}


def carried(api: Api, engine: Engine, vault: Vault, made: dict[str, Any]) -> str | None:
    """The secret that the next job of the rule carries, as who delivers reads it."""
    if "type" in made:
        event = api.http.post("/v1/events", json={"type": made["type"]}).json()
        (job_id,) = event["jobs"]
    else:
        job_id = api.http.post(f"{made['links']['self']}/run-now").json()["id"]
    statement = text("SELECT sealed, sealed_for FROM job_webhook WHERE job_id = :job")
    with engine.connect() as connection:
        row = connection.execute(statement, {"job": job_id}).one()
    assert row.sealed_for in {None, UUID(made["id"])}
    return None if row.sealed is None else vault.open(row.sealed, row.sealed_for)


def test_a_rules_webhook_has_a_secret_that_nobody_reads(
    api: Api, engine: Engine, settings: Settings, rule: tuple[str, dict[str, Any]]
) -> None:
    vault, (path, body) = Vault.of(settings), rule
    first, second = (f"whsec_{letters * 8}" for letters in ("QUJD", "REVG"))
    response = api.http.post(path, json={**body, "webhook": {"url": URL, "secret": first}})
    assert response.status_code == 201, response.text
    made, shown = response.json(), {"url": URL, "signed": True}
    assert made["webhook"] == shown
    assert carried(api, engine, vault, made) == first
    answers = [response]
    for webhook, secret in (
        ({"url": URL}, first),
        ({"url": URL, "secret": second}, second),
        ({"url": URL, "secret": None}, None),
        ({"url": URL, "secret": first}, first),
    ):
        answers.append(api.http.patch(made["links"]["self"], json={"webhook": webhook}))
        assert answers[-1].json()["webhook"] == {**shown, "signed": secret is not None}
        assert carried(api, engine, vault, made) == secret
    answers.append(api.http.patch(made["links"]["self"], json={"webhook": None}))
    answers.append(api.http.patch(made["links"]["self"], json={"webhook": {"url": URL}}))
    assert answers[-1].json()["webhook"] == {**shown, "signed": False}
    wrong = {**body, "name": str(uuid4()), "webhook": {"url": URL, "secret": first + "?"}}
    answers.append(api.http.post(path, json=wrong))
    problem(answers[-1], 422, "validation-failed")
    answers += [api.http.get(path), api.http.get("/v1/audit")]
    assert not any(first in each.text or second in each.text for each in answers)


def test_a_rules_secret_needs_a_key(without_key: Api, rule: tuple[str, dict[str, Any]]) -> None:
    path, body = rule
    webhook = {"url": URL, "secret": "whsec_" + "QUJD" * 8}
    refused = without_key.http.post(path, json={**body, "webhook": webhook})
    problem(refused, 503, "secret-key-missing")


@pytest.mark.parametrize(
    ("pointer", "webhook"),
    [
        ("#/webhook/url", {"url": "http://example.org/"}),
        ("#/webhook/url", {"url": "nowhere"}),
        ("#/webhook/url", {}),
        ("#/webhook/secret", {"url": URL, "secret": "hunter2"}),
    ],
)
def test_a_submissions_webhook_must_fit(api: Api, pointer: str, webhook: dict[str, Any]) -> None:
    body = {"kind": "test.echo", "args": {}, "webhook": webhook}
    response = api.http.post("/v1/jobs", json=body)
    assert problem(response, 422, "validation-failed")["errors"][0]["pointer"] == pointer
    assert "hunter2" not in response.text


def test_a_submissions_secret_needs_a_key_and_an_address_alone_does_not(without_key: Api) -> None:
    asked = {"url": URL, "secret": "whsec_" + "QUJD" * 8}
    body = {"kind": "test.echo", "args": {}, "webhook": asked}
    problem(without_key.http.post("/v1/jobs", json=body), 503, "secret-key-missing")
    assert without_key.submit(webhook={"url": URL})["state"] == "queued"
