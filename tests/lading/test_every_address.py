"""Every address of the API has a verb of the client, or a reason why it has none."""

import inspect
import re
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import httpx2
from pydantic import SecretStr

from api.app import create_app
from jobs.settings import Settings
from lading import Client, LadingError, NewJob
from lading.client import File
from lading.client.verb import series
from lading.client.verbs import Verbs
from tests.lading.test_import import VERBS

WITHOUT = {
    "GET /livez": "whether a process answers: for what runs containers; health() says more",
    "GET /metrics": "text for Prometheus",
}
FILE = File(
    id="00000000-0000-0000-0000-000000000001",
    name="a",
    size=1,
    sha256="",
    media_type="a/b",
    created_at=datetime.now(UTC),
)
ARGUMENTS: dict[str, Any] = {
    "jobs": [NewJob("a.b")],
    "event_types": ["*"],
    "since": datetime.now(UTC),
    "source": b"",
    "filter": {},
    "event": {},
    "expected_count": 1,
    "confirm": 1,
}
SCOPES = [{"name": f"{scope}:x"} for scope in ("queue", "kind", "key")]
#: Verbs that go to several addresses, or only with such arguments.
MORE: dict[str, list[dict[str, Any]]] = {
    "pause": SCOPES,
    "resume": SCOPES,
    "create_key": [{}, {"project": "p"}],
    "download": [{"file": FILE}],
}


def test_every_address_has_a_verb() -> None:
    secret = SecretStr("postgresql://nobody@nowhere/none")
    app = create_app(Settings(database_url=secret, broker_url=SecretStr("redis://nowhere")))
    promised = {
        f"{method.upper()} {path}"
        for path, operations in app.openapi()["paths"].items()
        for method in operations
    }
    asked = asked_by_verbs()
    answered = {each for each in promised if any(re.fullmatch(_regex(each), it) for it in asked)}
    assert promised - answered == WITHOUT.keys()
    nowhere = [it for it in asked if not any(re.fullmatch(_regex(e), it) for e in promised)]
    assert nowhere == []


def asked_by_verbs() -> set[str]:
    """The first request of each verb, to a server that has nothing."""
    asked: set[str] = set()

    def answer(request: httpx2.Request) -> httpx2.Response:
        path = request.url.raw_path.decode().partition("?")[0]
        asked.add(f"{request.method} {path}")
        headers = {"content-type": "application/problem+json"}
        return httpx2.Response(404, headers=headers, json={"code": "none", "status": 404})

    transport = httpx2.MockTransport(answer)
    with Client("http://nowhere", "key", patience=0, transport=transport) as client:
        for name in VERBS:
            written = getattr(Verbs, name)
            required = [
                each.name
                for each in inspect.signature(written.steps).parameters.values()
                if each.default is each.empty and each.kind is each.POSITIONAL_OR_KEYWORD
            ]
            for more in MORE.get(name, [{}]):
                given = {each: ARGUMENTS.get(each, "x") for each in required[1:]} | more
                found = getattr(client, name)
                with suppress(LadingError):
                    _ = next(found(**given)) if isinstance(written, series) else found(**given)
    return asked


def _regex(operation: str) -> str:
    return re.sub(r"\{[a-z_]+\}", "[^/]+", operation)
