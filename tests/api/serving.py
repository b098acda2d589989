"""The real application behind a real server, on a port of its own."""

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx2
import uvicorn
from fastapi import FastAPI

from api.app import create_app
from api.parts import Parts
from dev.table import API_GRACE
from jobs import database
from jobs.keys.store import create_key
from jobs.settings import Settings
from tests.eventually import eventually


@dataclass(frozen=True)
class Api:
    """A server that runs, and a client with a key for it."""

    settings: Settings
    url: str
    key: str
    http: httpx2.Client
    app: FastAPI

    @property
    def parts(self) -> Parts:
        """What the server's process is made of."""
        parts = self.app.state.parts
        assert isinstance(parts, Parts)
        return parts

    def client_of(self, **options: Any) -> httpx2.Client:
        """A client with another key: of a `project`, or with these `scopes`."""
        headers = {"Authorization": f"Bearer {new_key(self.settings, **options)}"}
        return httpx2.Client(base_url=self.url, headers=headers, timeout=40)

    def submit(self, kind: str = "test.echo", **fields: Any) -> dict[str, Any]:
        """An accepted job."""
        response = self.http.post("/v1/jobs", json={"kind": kind, "args": {}, **fields})
        assert response.status_code == 202, response.text
        job: dict[str, Any] = response.json()
        return job

    def job(self, job_id: str) -> dict[str, Any]:
        response = self.http.get(f"/v1/jobs/{job_id}")
        assert response.status_code == 200, response.text
        job: dict[str, Any] = response.json()
        return job


@contextmanager
def serve(settings: Settings, **changes: Any) -> Iterator[Api]:
    """A server of these settings with `changes`, as long as the block lasts.

    The key is made with the settings as they were, so that servers may be away.
    """
    key = new_key(settings)
    settings = settings.model_copy(update=changes)
    app = create_app(settings)
    app.add_api_route("/v1/test-failure", _fail, include_in_schema=False)
    config = uvicorn.Config(
        app, log_config=None, lifespan="on", timeout_graceful_shutdown=API_GRACE
    )
    with served(config) as port:
        url = f"http://127.0.0.1:{port}"
        headers = {"Authorization": f"Bearer {key}"}
        limits = httpx2.Limits(max_connections=200, max_keepalive_connections=200)
        with httpx2.Client(base_url=url, headers=headers, timeout=40, limits=limits) as client:
            yield Api(settings, url, key, client, app)


@contextmanager
def served(config: uvicorn.Config) -> Iterator[int]:
    """The port of a server in a thread of its own, as long as the block lasts."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        eventually(lambda: server.started or not thread.is_alive())
        assert server.started
        yield listening.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(90)  # seconds; after the conformance tests, 20 on a busy machine
        assert not thread.is_alive()


async def _fail() -> None:
    raise RuntimeError("secret detail")


def new_key(settings: Settings, **options: Any) -> str:
    """A key that opens everything, or the `scopes` given."""
    engine = database.make_engine(settings, name="tests", size=1)
    try:
        with engine.begin() as connection:
            return create_key(connection, options.pop("project", "default"), "tests", **options)[1]
    finally:
        engine.dispose()


def problem(response: httpx2.Response, status: int, code: str) -> dict[str, Any]:
    """The response's problem document, which is as RFC 9457 and the contract say."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = response.json()
    assert document["status"] == status
    assert document["code"] == code, document
    assert document["request_id"] == response.headers["x-request-id"]
    assert {"type", "title", "detail"} <= document.keys()
    return document


def at_once(ask: Callable[[], httpx2.Response], count: int) -> list[httpx2.Response]:
    """The answers to so many requests that leave together."""
    start = threading.Barrier(count)

    def one() -> httpx2.Response:
        start.wait()
        return ask()

    with ThreadPoolExecutor(count) as pool:
        return [each.result() for each in [pool.submit(one) for _ in range(count)]]
