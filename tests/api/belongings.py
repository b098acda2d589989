"""What a project has of everything that has an id, and bodies that fit each address."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from sqlalchemy import Engine, text

from jobs.states import JobState
from tests.api.serving import Api
from tests.jobs.making import make_job

_FAIL = text("""
UPDATE webhook_delivery SET state = 'failed', finished_at = clock_timestamp(), next_at = NULL
WHERE id = :id
""")


@dataclass
class Belongings:
    """Made by the key of `api`, each when it is asked for; `ids` by their names in addresses."""

    api: Api
    engine: Engine
    state: JobState = JobState.SCHEDULED  #: of jobs
    ids: dict[str, str] = field(default_factory=dict)

    def of(self, name: str) -> str:
        """The id, of something that exists from now on."""
        if name not in self.ids:
            make: Callable[[], str] = getattr(self, f"_make_{name}")
            self.ids[name] = make()
        return self.ids[name]

    def path(self, template: str) -> str:
        """The address with ids in it."""
        return re.sub(r"{(\w+)}", lambda found: self.of(found[1]), template)

    def _post(self, path: str, body: Any) -> Any:
        response = self.api.http.post(path, json=body)
        assert response.is_success, (path, response.text)
        return response.json()

    def _make_job_id(self) -> str:
        with self.engine.begin() as connection:
            return str(make_job(connection, self.state))

    def _make_batch_id(self) -> str:
        jobs = [{"kind": "test.echo", "args": {}}]
        made = self._post("/v1/jobs/batch", {"jobs": jobs, "open": True})
        return str(made["batch"]["id"])

    def _make_file_id(self) -> str:
        made = self.api.http.post("/v1/files", files={"file": ("a.txt", b"abc")}).json()
        return str(made["id"])

    def _make_key_id(self) -> str:
        return str(self._post("/v1/keys", {"name": "theirs"})["id"])

    def _make_project_id(self) -> str:
        return "default"

    def _make_webhook_id(self) -> str:
        body = {"url": "https://example.org/hooks", "event_types": ["job.failed"]}
        return str(self._post("/v1/webhooks", body)["id"])

    def _make_delivery_id(self) -> str:
        """One that has failed."""
        made = self._post(f"/v1/webhooks/{self.of('webhook_id')}/test", {})
        with self.engine.begin() as connection:
            connection.execute(_FAIL, {"id": made["id"]})
        return str(made["id"])

    def _make_schedule_id(self) -> str:
        body = {"name": f"theirs {uuid4()}", "kind": "test.echo", "args": {}, "every": 3600}
        return str(self._post("/v1/schedules", body)["id"])

    def _make_event_id(self) -> str:
        return str(self._post("/v1/events", {"type": "belongs.to", "data": {}})["id"])

    def _make_name(self) -> str:
        """A consumer's."""
        name = f"theirs-{uuid4()}"
        query = {"consumer": name, "types": "belongs.to"}
        assert self.api.http.get("/v1/events/stream", params=query).is_success
        return name

    def _make_trigger_id(self) -> str:
        body = {"name": f"theirs {uuid4()}", "type": "user.created", "kind": "test.echo"}
        return str(self._post("/v1/triggers", body)["id"])

    def _make_bulk_id(self) -> str:
        """One that nobody carries out."""
        with self.engine.begin() as connection:
            job_id = str(make_job(connection, JobState.SCHEDULED))
        body = {"op": "cancel", "filter": {"ids": [job_id]}, "expected_count": 1}
        return str(self._post("/v1/bulk", body)["id"])

    def _make_kind(self) -> str:
        return "test.echo"

    def _make_queue(self) -> str:
        return "default"

    def _make_limit(self) -> str:
        self.api.http.put("/v1/limits/key:theirs", json={"concurrency": 3})
        return "key:theirs"


def example(api: Api, method: str, path: str) -> Any:
    """A body that fits, as the OpenAPI document shows it; None: there is none."""
    document = api.app.openapi()
    content = document["paths"][path][method.lower()].get("requestBody", {}).get("content", {})
    media = content.get("application/json")
    if media is None:
        return None
    schema = media["schema"]
    shown = [media.get("example"), *_examples(document, schema)]
    return next((each for each in shown if each is not None), {})


def _examples(document: dict[str, Any], schema: dict[str, Any]) -> list[Any]:
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    found: list[Any] = schema.get("examples", [])
    return found + [each for one in schema.get("anyOf", []) for each in _examples(document, one)]
