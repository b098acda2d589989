"""The audit trail: what was done is told with who did it, in the same transaction."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, text

from api import operating
from jobs.states import JobState
from jobs.trail.reading import TrailFilter, page_trail, prune_trail
from jobs.trail.record import Actor, Deed, record
from tests.api.belongings import Belongings, example
from tests.api.serving import Api, problem
from tests.conftest import ROOT
from tests.jobs.making import make_job


def entries(api: Api, **query: str) -> list[dict[str, Any]]:
    response = api.http.get("/v1/audit", params=query)
    assert response.status_code == 200, response.text
    operating.AuditPage.model_validate_json(response.content)
    items: list[dict[str, Any]] = response.json()["items"]
    return items


def test_what_is_asked_of_a_job_is_told_with_who_asked(api: Api, engine: Engine) -> None:
    with engine.begin() as connection:
        job_id = str(make_job(connection, JobState.SCHEDULED))
    said = {"X-Request-ID": "request-17"}
    assert api.http.post(f"/v1/jobs/{job_id}/run-now").status_code == 202
    cancelled = api.http.post(
        f"/v1/jobs/{job_id}/cancel", json={"reason": "not needed"}, headers=said
    )
    assert cancelled.status_code == 202
    assert api.http.post(f"/v1/jobs/{job_id}/cancel").status_code == 200  # nothing has changed
    assert api.http.post(f"/v1/jobs/{job_id}/retry").status_code == 202
    assert api.http.post(f"/v1/jobs/{job_id}/cancel").status_code == 202
    assert api.http.delete(f"/v1/jobs/{job_id}").status_code == 204
    found = entries(api, target=job_id)
    actions = ["job.delete", "job.cancel", "job.retry", "job.cancel", "job.run-now"]
    assert [entry["action"] for entry in found] == actions
    first = found[3]
    assert first["request_id"] == "request-17"
    assert first["details"] == {"reason": "not needed"}
    assert first["address"] == "127.0.0.1"
    assert first["actor"] == {"key_id": api.key[7:17], "name": "tests"}
    assert len({entry["id"] for entry in found}) == 5


def test_a_keys_submissions_of_a_minute_share_entries(api: Api) -> None:
    before = sum(each["times"] for each in entries(api, action="job.submit"))
    first, *_ = [api.submit() for _ in range(20)]
    api.submit(unique={"key": "audit-1"})
    jobs = [{"kind": "test.echo", "args": {}}] * 3
    said = {"Idempotency-Key": "audit"}
    for _ in range(2):  # the second one makes nothing
        body = {"jobs": jobs}
        assert api.http.post("/v1/jobs/batch", json=body, headers=said).status_code == 202
    assert api.http.post(f"/v1/jobs/{first['id']}/rerun").status_code == 202
    problem(api.http.post("/v1/jobs", json={"kind": "none", "args": {}}), 422, "validation-failed")
    found = entries(api, action="job.submit")
    assert sum(each["times"] for each in found) == before + 25
    # The quick lane's, the thread's, and what the thread did for the lane; a minute may have ended.
    assert len(found) <= 6
    assert found[0]["actor"]["key_id"] == api.key[7:17]


def test_events_are_told_of(api: Api) -> None:
    for _ in range(2):
        api.http.post("/v1/events", json={"type": "audit.test", "id": "1"})
    assert sum(each["times"] for each in entries(api, action="event.publish")) == 1


#: Operations that change nothing, whatever their method says.
ONLY_ASK = {("POST", "/v1/bulk/preview"), ("POST", "/v1/triggers/{trigger_id}/test")}
#: The others, with the word that the trail has for each, or its end.
TOLD = {
    ("POST", "/v1/jobs"): "job.submit",
    ("POST", "/v1/jobs/batch"): "job.submit",
    ("POST", "/v1/jobs/{job_id}/rerun"): "job.submit",
    ("POST", "/v1/batches/{batch_id}/jobs"): "job.submit",
    ("POST", "/v1/batches/{batch_id}/cancel"): "batch.cancel",
    ("DELETE", "/v1/jobs/{job_id}"): "job.delete",
    ("POST", "/v1/jobs/{job_id}/cancel"): "job.cancel",
    ("POST", "/v1/jobs/{job_id}/retry"): "job.retry",
    ("POST", "/v1/jobs/{job_id}/run-now"): "job.run-now",
    ("POST", "/v1/ws-tickets"): "ticket.create",
    ("POST", "/v1/files"): "file.upload",
    ("DELETE", "/v1/files/{file_id}"): "file.delete",
    ("POST", "/v1/keys"): "key.create",
    ("DELETE", "/v1/keys/{key_id}"): "key.delete",
    ("POST", "/v1/projects"): "project.create",
    ("POST", "/v1/projects/{project_id}/keys"): "key.create",
    ("POST", "/v1/bulk"): "bulk.start",
    ("POST", "/v1/bulk/{bulk_id}/stop"): "bulk.stop",
    ("POST", "/v1/events"): "event.publish",
    ("POST", "/v1/triggers"): "trigger.create",
    ("PATCH", "/v1/triggers/{trigger_id}"): "trigger.change",
    ("DELETE", "/v1/triggers/{trigger_id}"): "trigger.delete",
    ("POST", "/v1/triggers/{trigger_id}/replay"): "trigger.replay",
    ("PUT", "/v1/limits/{limit}"): "limit.set",
    ("DELETE", "/v1/limits/{limit}"): "limit.delete",
    ("POST", "/v1/limits/{limit}/pause"): ".pause",
    ("POST", "/v1/limits/{limit}/resume"): ".resume",
    ("POST", "/v1/queues/{queue}/pause"): ".pause",
    ("POST", "/v1/queues/{queue}/resume"): ".resume",
    ("POST", "/v1/kinds/{kind}/pause"): ".pause",
    ("POST", "/v1/kinds/{kind}/resume"): ".resume",
    ("POST", "/v1/schedules"): "schedule.create",
    ("PATCH", "/v1/schedules/{schedule_id}"): "schedule.change",
    ("DELETE", "/v1/schedules/{schedule_id}"): "schedule.delete",
    ("POST", "/v1/schedules/{schedule_id}/pause"): "schedule.pause",
    ("POST", "/v1/schedules/{schedule_id}/resume"): "schedule.resume",
    ("POST", "/v1/schedules/{schedule_id}/run-now"): "schedule.run-now",
    ("POST", "/v1/webhooks"): "webhook.create",
    ("PATCH", "/v1/webhooks/{webhook_id}"): "webhook.change",
    ("DELETE", "/v1/webhooks/{webhook_id}"): "webhook.delete",
    ("POST", "/v1/webhooks/{webhook_id}/rotate"): "webhook.rotate",
    ("POST", "/v1/webhooks/{webhook_id}/test"): "webhook.test",
    ("POST", "/v1/webhooks/{webhook_id}/replay"): "webhook.replay",
    ("POST", "/v1/webhooks/{webhook_id}/deliveries/{delivery_id}/replay"): "webhook.replay",
    ("DELETE", "/v1/consumers/{name}"): "consumer.delete",
}
#: What readers do all the time: it keeps their place, and nothing else.
KEEPS_PLACE = {("POST", "/v1/consumers/{name}/ack")}


def test_whatever_changes_something_has_its_word_in_the_trail(api: Api) -> None:
    changing = {
        (method.upper(), path)
        for path, operations in api.app.openapi()["paths"].items()
        for method in operations
        if method != "get"
    }
    assert changing - ONLY_ASK - KEEPS_PLACE <= TOLD.keys()
    source = "".join(path.read_text() for path in (ROOT / "api").rglob("*.py"))
    assert [word for word in {*TOLD.values()} if f'{word}"' not in source] == []


#: States of jobs to which the operation may be done; of the others SCHEDULED will do.
OF_STATE = {
    ("POST", "/v1/jobs/{job_id}/retry"): JobState.FAILED,
    ("DELETE", "/v1/jobs/{job_id}"): JobState.SUCCEEDED,
}
#: Bodies that change something, where the OpenAPI document's examples need not.
CHANGES: dict[tuple[str, str], Any] = {
    ("POST", "/v1/bulk"): {"op": "retry", "filter": {"kind": "no.such"}, "expected_count": 0},
    ("PATCH", "/v1/webhooks/{webhook_id}"): {"enabled": False},
    ("POST", "/v1/triggers/{trigger_id}/replay"): {
        "received_before": "2020-01-01T00:00:00Z",
        "confirm": 0,
    },
    ("POST", "/v1/projects"): {"id": "audited", "name": "It"},
    ("POST", "/v1/jobs/{job_id}/rerun"): {"args": {"value": 1}},
}


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_each_change_leaves_exactly_one_entry(api: Api, engine: Engine, method: str) -> None:
    """Or one more in the entry of a minute."""
    for operation, action in TOLD.items():
        if operation[0] != method:
            continue
        template = operation[1]
        belongings = Belongings(api, engine, OF_STATE.get(operation, JobState.SCHEDULED))
        path = belongings.path(template)
        if template.endswith("/resume"):
            assert api.http.post(path.replace("/resume", "/pause"), json={}).is_success
        before = told(engine)
        body = CHANGES.get(operation, example(api, *operation))
        files = {"file": ("a.txt", b"abc")} if template == "/v1/files" else None
        more = {"files": files} if files else {} if body is None else {"json": body}
        response = api.http.request(method, path, **more)
        assert response.is_success, (operation, response.text)
        new = {each: times for each, times in told(engine).items() if before.get(each, 0) != times}
        assert new, operation
        ((_, said), times), *others = new.items()
        assert (others, times - before.get(next(iter(new)), 0)) == ([], 1), (operation, new)
        assert said.endswith(action), (operation, said)


def told(engine: Engine) -> dict[tuple[str, str], int]:
    """How often each entry's action was done."""
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT id, action, times FROM audit"))
        return {(str(row.id), row.action): row.times for row in rows}


def test_what_was_refused_is_not_told(api: Api) -> None:
    nothing = "00000000-0000-7000-8000-000000000000"
    problem(api.http.post(f"/v1/jobs/{nothing}/retry"), 404, "job-not-found")
    assert entries(api, target=nothing) == []


def test_keys_and_files_leave_their_entries(api: Api) -> None:
    made = api.http.post("/v1/keys", json={"name": "short", "scopes": ["jobs:read"]}).json()
    api.http.delete(f"/v1/keys/{made['id']}")
    assert made["key"] not in api.http.get("/v1/audit", params={"target": made["id"]}).text
    deleted, created = entries(api, target=made["id"])
    assert deleted["action"] == "key.delete"
    assert created["details"] == {"name": "short", "scopes": ["jobs:read"]}
    file = api.http.post("/v1/files", files={"file": ("a.txt", b"abc")}).json()
    api.http.delete(f"/v1/files/{file['id']}")
    assert [e["action"] for e in entries(api, target=file["id"])] == ["file.delete", "file.upload"]


def test_the_trail_is_narrowed_and_paged(api: Api) -> None:
    for _ in range(3):
        made = api.http.post("/v1/keys", json={"name": "many"}).json()
    wanted = {"action": "key.create", "actor": api.key[7:17], "limit": "2"}
    page = api.http.get("/v1/audit", params=wanted).json()
    assert len(page["items"]) == 2
    assert page["items"][0]["target"] == made["id"]
    rest = entries(api, **{**wanted, "limit": "200"}, cursor=page["next_cursor"])
    assert rest
    assert not {e["id"] for e in rest} & {e["id"] for e in page["items"]}
    at = page["items"][0]["at"]
    assert page["items"][0]["id"] not in {e["id"] for e in entries(api, until=at)}
    assert entries(api, since=at) == []
    assert entries(api, actor="nobody") == []
    problem(api.http.get("/v1/audit", params={"who": "me"}), 422, "validation-failed")


def test_an_entry_goes_with_what_it_tells_of(api: Api, engine: Engine) -> None:
    with engine.begin() as connection:
        job_id = make_job(connection, JobState.SCHEDULED)
        connection.execute(text("ALTER TABLE audit ADD CONSTRAINT never CHECK (false) NOT VALID"))
    try:
        with api.client_of() as other:  # the server closes the connection after such an answer
            assert other.post(f"/v1/jobs/{job_id}/cancel").status_code == 500
        assert api.job(str(job_id))["state"] == "scheduled"
    finally:
        with engine.begin() as connection:
            connection.execute(text("ALTER TABLE audit DROP CONSTRAINT never"))


def test_the_trail_is_a_projects_own(api: Api) -> None:
    made = api.http.post("/v1/keys", json={"name": "ours"}).json()
    with api.client_of(project="another") as theirs:
        found = theirs.get("/v1/audit", params={"target": made["id"]})
        assert found.json()["items"] == []
    with api.client_of(scopes=["keys:manage"]) as theirs:
        problem(theirs.get("/v1/audit"), 403, "insufficient-scope")


@pytest.mark.parametrize("age", [364, 366])
def test_an_entry_is_kept_for_its_time(connection: Connection, age: int) -> None:
    record(connection, Actor("old", None, "tests"), Deed("job.cancel", "x"))
    connection.execute(
        text(
            "UPDATE audit SET at = at - :age * interval '1 day',"
            " id = '00000000-0000-7000-8000-000000000001' WHERE project_id = 'old'"
        ),
        {"age": age},
    )
    prune_trail(connection, timedelta(days=365), 10)
    left = page_trail(connection, "old", TrailFilter(), limit=1).entries
    assert bool(left) == (age == 364)
