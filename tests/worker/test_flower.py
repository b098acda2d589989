"""Flower, as it runs beside real workers: what it shows, and to whom."""

import base64
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from dev.ports import free_port
from jobs.broker import Bell
from jobs.settings import Settings
from tests.eventually import eventually
from tests.worker.nodes import ROOT, ProcessNode, environment
from tests.worker.platform import Platform

AUTH = "somebody:good-enough"
FINAL = ("SUCCESS", "FAILURE")


class Flower(ProcessNode):
    """The process, and its web API."""

    def __init__(self, settings: Settings) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        port = self.url.rpartition(":")[2]
        command = [sys.executable, "-m", "celery", "-A", "worker.celery_app", "flower"]
        command += ["--conf=worker/flowerconfig.py", "--address=127.0.0.1", f"--port={port}"]
        super().__init__("flower", command, {**environment(settings), "FLOWER_BASIC_AUTH": AUTH})

    def ready(self) -> bool:
        return eventually(lambda: self.status_of("/healthcheck") == 200, within=60)

    def get(self, path: str, auth: str | None = AUTH, data: bytes | None = None) -> bytes:
        request = urllib.request.Request(self.url + path, data=data)
        if auth is not None:
            request.add_header("Authorization", f"Basic {base64.b64encode(auth.encode()).decode()}")
        with urllib.request.urlopen(request, timeout=30) as response:
            return bytes(response.read())

    def status_of(self, path: str, auth: str | None = AUTH, data: bytes | None = None) -> int:
        try:
            self.get(path, auth, data)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0
        return 200

    def task(self, task_id: str) -> dict[str, Any]:
        tasks: dict[str, dict[str, Any]] = json.loads(self.get("/api/tasks"))
        return tasks.get(task_id, {})


@pytest.fixture(scope="module")
def flower(settings: Settings) -> Iterator[Flower]:
    node = Flower(settings)
    node.ready()
    yield node
    node.teardown()


@pytest.fixture(scope="module")
def attempts(
    flower: Flower, platform: Platform, worker_nodes: list[ProcessNode]
) -> dict[str, dict[str, Any]]:
    """Attempts of four kinds, once Flower has seen how they ended."""
    for node in worker_nodes:
        node.ready()

    made: dict[str, list[str]] = {"test.echo": [], "test.echo_io": []}  # one of each worker's

    def listens() -> bool:
        for kind, tasks in made.items():
            job = platform.submit(kind)
            platform.finish(job)
            tasks.append(f"{job.id}:1")
        return all(any(flower.task(task) for task in tasks) for tasks in made.values())

    eventually(listens, within=60)
    shown = {}
    for kind in ("test.echo", "test.echo_io", "test.gives_up", "test.dies"):
        args = {"path": "/dev/null", "times": 1} if kind == "test.dies" else {"value": "s3cret"}
        job = platform.submit(kind, args)
        platform.ring(job)
        platform.ended(job)
        shown[kind] = _final(flower, f"{job.id}:1")
    return shown


@pytest.mark.parametrize(
    ("kind", "state"),
    [
        ("test.echo", "SUCCESS"),
        ("test.echo_io", "SUCCESS"),
        ("test.gives_up", "FAILURE"),
        ("test.dies", "FAILURE"),
    ],
)
def test_an_attempt_is_shown_under_its_kind(
    attempts: dict[str, dict[str, Any]], kind: str, state: str
) -> None:
    assert (attempts[kind]["name"], attempts[kind]["state"]) == (kind, state)


def test_flower_learns_the_outcome_and_nothing_more(attempts: dict[str, dict[str, Any]]) -> None:
    assert attempts["test.echo"]["result"] == "'succeeded'"
    assert attempts["test.gives_up"]["exception"] == "AttemptFailed('failed: fail')"
    assert "s3cret" not in json.dumps(attempts)
    assert "for good" not in json.dumps(attempts)


@pytest.mark.parametrize("first", ["test.echo", "test.gives_up"])
@pytest.mark.usefixtures("attempts")
def test_the_attempts_of_a_list_are_shown_one_by_one(
    flower: Flower, platform: Platform, first: str
) -> None:
    kinds = (first, "test.echo", "test.gives_up", "test.echo")
    jobs = [platform.submit(kind, {"value": "s3cret"}) for kind in kinds]
    bell = Bell("default", first, tuple((job.id, 1) for job in jobs), 5)
    platform.broker.ring([bell])
    shown = [_final(flower, f"{job.id}:1") for job in jobs]
    fine = ["FAILURE" if kind == "test.gives_up" else "SUCCESS" for kind in kinds]
    assert [task["state"] for task in shown] == fine
    assert shown[1]["result"] == "'succeeded'"
    assert {task["exception"] for task in shown if task["exception"]} == {
        "AttemptFailed('failed: fail')"
    }
    assert all(task["received"] <= task["started"] for task in shown)


@pytest.mark.usefixtures("attempts")
def test_what_a_list_names_in_vain_is_not_shown_as_another(
    flower: Flower, platform: Platform
) -> None:
    """As of a job that somebody has cancelled while its bell hung."""
    gone, job = uuid4(), platform.submit("test.echo")
    platform.broker.ring([Bell("default", "test.echo", ((gone, 1), (job.id, 1)), 5)])
    assert _final(flower, f"{job.id}:1")["state"] == "SUCCESS"
    assert flower.task(f"{gone}:1").get("state") not in FINAL


@pytest.mark.parametrize("path", ["/", "/tasks", "/api/tasks", "/api/workers", "/metrics"])
def test_nobody_sees_anything_without_the_password(flower: Flower, path: str) -> None:
    assert flower.status_of(path, auth=None) == 401
    assert flower.status_of(path, auth="somebody:guess") == 401
    assert flower.status_of(path) == 200


def test_nothing_can_be_done_from_flower(flower: Flower) -> None:
    body = json.dumps({"args": [[]]}).encode()
    assert flower.status_of("/api/task/async-apply/test.echo", data=body) == 403
    assert flower.status_of("/api/worker/shutdown/prefork@host", data=b"") == 403


def test_flower_does_not_start_without_a_password(settings: Settings) -> None:
    command = [sys.executable, "-m", "celery", "-A", "worker.celery_app", "flower"]
    command += ["--conf=worker/flowerconfig.py", f"--port={free_port()}"]
    env = {**os.environ, **environment(settings)}
    env.pop("FLOWER_BASIC_AUTH", None)
    ended = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, timeout=60, check=False)
    assert ended.returncode != 0
    assert b"FLOWER_BASIC_AUTH" in ended.stderr


def _final(flower: Flower, task_id: str) -> dict[str, Any]:
    eventually(lambda: flower.task(task_id).get("state") in FINAL, within=60)
    return flower.task(task_id)
