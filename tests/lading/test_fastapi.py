"""The drop-in for BackgroundTasks, in an application on a real server, over a real API."""

import importlib
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import httpx2
import pytest
import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Response
from fastapi.middleware.cors import CORSMiddleware
from fastapi.middleware.gzip import GZipMiddleware
from pydantic import ValidationError

from dev.ports import free_port
from jobs.settings import Settings
from lading import JobContext, job
from lading.authoring import find_kind
from lading.client import AsyncClient
from lading.fastapi import DurableBackgroundTasks
from tests.api.serving import Api, serve
from tests.conftest import ROOT
from tests.eventually import eventually
from tests.kinds_for_tests import Echo, Secret, echo, secret

Tasks = Annotated[DurableBackgroundTasks, Depends()]
PAGE = (ROOT / "docs/how-to/from-background-tasks.md").read_text()


@pytest.fixture(scope="module")
def api(settings: Settings) -> Iterator[Api]:
    with serve(settings) as api:
        yield api


@pytest.fixture
def app(api: Api, monkeypatch: pytest.MonkeyPatch) -> FastAPI:
    """An application beside Lading, which knows it by the environment."""
    monkeypatch.setenv("LADING_URL", api.url)
    monkeypatch.setenv("LADING_API_KEY", api.key)
    return FastAPI()


@contextmanager
def running(app: FastAPI, **options: Any) -> Iterator[httpx2.Client]:
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, **options))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        eventually(lambda: server.started)
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        with httpx2.Client(base_url=url, timeout=30) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join(30)


@pytest.mark.parametrize("http", ["h11", "httptools"])
def test_what_was_added_is_accepted_before_the_answer(http: str, api: Api, app: FastAPI) -> None:
    app.add_middleware(GZipMiddleware, minimum_size=1)
    app.add_middleware(CORSMiddleware, allow_origins=["*"], expose_headers=["X-Job-Id"])

    @app.post("/")
    def endpoint(tasks: Tasks) -> str:
        tasks.add_task(echo, 1)
        tasks.add_task(echo, value=[2])
        tasks.add_task(secret, Secret(user="ann", password="hunter2"))
        return "x" * 2000

    with running(app, http=http) as client:
        answer = client.post("/", headers={"Origin": "https://example.org"})
    assert answer.status_code == 200
    jobs = [api.job(job_id) for job_id in answer.headers["x-job-id"].split(", ")]
    assert [job["kind"] for job in jobs] == ["test.echo", "test.echo", "test.secret"]
    assert [job["args"] for job in jobs[:2]] == [{"value": 1}, {"value": [2]}]


def test_the_rest_of_the_answer_is_as_it_was(app: FastAPI) -> None:
    @app.post("/none")
    async def none(tasks: Tasks) -> str:
        return "nothing added"

    with running(app) as client:
        answer = client.post("/none")
    assert answer.json() == "nothing added"
    assert "x-job-id" not in answer.headers


def test_an_endpoint_that_fails_submits_nothing(api: Api, app: FastAPI) -> None:
    @app.post("/")
    def endpoint(tasks: Tasks) -> None:
        tasks.add_task(echo, "never")
        raise HTTPException(409, "no")

    before = len(api.http.get("/v1/jobs").json()["items"])
    with running(app) as client:
        answer = client.post("/")
    assert (answer.status_code, answer.json()) == (409, {"detail": "no"})
    assert len(api.http.get("/v1/jobs").json()["items"]) == before


def test_an_endpoint_may_name_its_jobs(api: Api, app: FastAPI) -> None:
    @app.post("/")
    async def endpoint(tasks: Tasks) -> Response:
        tasks.add_task(echo, 1)
        (accepted,) = await tasks.submit()
        return Response(str(accepted.id))

    with running(app) as client:
        assert api.job(client.post("/").text)["kind"] == "test.echo"


def test_no_answer_is_given_without_lading(app: FastAPI) -> None:
    app.state.lading = AsyncClient(f"http://127.0.0.1:{free_port()}", "key", patience=0.2)

    @app.post("/")
    def endpoint(tasks: Tasks) -> str:
        tasks.add_task(echo, 1)
        return "lost?"

    with running(app) as client:
        answer = client.post("/")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert "x-job-id" not in answer.headers


def plain(value: int) -> None:
    """Not made with @job."""


class Here:
    @job("test.method")
    def method(self, args: Echo) -> None:
        """Bound to an object."""


def test_what_no_worker_finds_is_refused() -> None:
    @job("test.closure")
    def closure(context: JobContext, args: Echo) -> None:
        """Made in here."""

    tasks = DurableBackgroundTasks(None)  # type: ignore[arg-type]
    for function, words in (
        (lambda: None, "lambda"),
        (closure, "top level"),
        (plain, "@job"),
    ):
        with pytest.raises(TypeError, match=words):
            tasks.add_task(function, 1)
    for args, kwargs in (((1, 2), {}), ((1,), {"value": 2}), ((), {"colour": 1})):
        with pytest.raises(TypeError):
            tasks.add_task(echo, *args, **kwargs)
    with pytest.raises(ValidationError):
        tasks.add_task(secret, "ann")


def test_the_how_to_does_what_it_says(
    api: Api, app: FastAPI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after = re.findall(
        r"^```python (?:before|after)\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE
    )
    changed = [
        line for line in after.splitlines() if line.strip() and line not in before.splitlines()
    ]
    assert before.count("tasks.add_task(send_welcome, to, name=name)") == 1
    assert after.count("tasks.add_task(send_welcome, to, name=name)") == 1
    assert changed
    (tmp_path / "shop.py").write_text(after)
    monkeypatch.syspath_prepend(tmp_path)
    shop = importlib.import_module("shop")
    kind = find_kind(shop.send_welcome)
    assert kind is not None
    with serve(api.settings.model_copy(update={"kinds": (*api.settings.kinds, "shop")})) as own:
        shop.app.state.lading = AsyncClient(own.url, own.key)
        with running(shop.app) as client:
            answer = client.post("/users", params={"to": "ann@example.org", "name": "Ann"})
        assert answer.json() == {"user": "Ann"}
        accepted = own.job(answer.headers["x-job-id"])
    assert (accepted["kind"], accepted["args"]) == (
        "welcome.send",
        {"to": "ann@example.org", "name": "Ann"},
    )
