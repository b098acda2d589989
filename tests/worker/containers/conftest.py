"""The same nodes as containers of our image, on the host's network: real, and slower to start."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from jobs.broker import Broker
from jobs.settings import Settings
from tests.worker.nodes import ROOT, WorkerNode, environment

IMAGE = os.environ.get("LADING_TEST_IMAGE", "lading")


class ContainerNode(WorkerNode):
    """A worker in a container. The tests' kinds and folders are mounted where they are."""

    def __init__(self, settings: Settings, pool: str, folders: list[Path]) -> None:
        self.container_name = f"lading-test-{pool}-{uuid4().hex[:8]}"
        self.settings, self.folders = settings, folders
        super().__init__(settings, pool)

    def start(self) -> None:
        celery = self.command[self.command.index("celery") :]
        run = ["docker", "run", "--rm", "--init", "--network", "host"]
        run += ["--name", self.container_name, "--user", f"{os.getuid()}:{os.getgid()}"]
        run += ["--volume", f"{ROOT / 'tests'}:/srv/lading/tests:ro"]
        for folder in self.folders:
            run += ["--volume", f"{folder}:{folder}"]
        for name, value in environment(self.settings).items():
            run += ["--env", f"{name}={value}"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen([*run, IMAGE, *celery], stdout=log, stderr=log)

    def kill(self, signal: str | int = "SIGKILL") -> None:
        kill = ["docker", "kill", "--signal", str(signal), self.container_name]
        subprocess.run(kill, check=False, capture_output=True)
        self.process.wait(30)


@pytest.fixture(scope="module")
def image() -> None:
    """Our image and an engine; else these tests are skipped, or fail where that is asked."""
    docker = shutil.which("docker")
    asked = [docker or "false", "image", "inspect", IMAGE]
    if docker and not subprocess.run(asked, capture_output=True, check=False).returncode:
        return
    reason = f"no Docker engine, or no image {IMAGE}: docker build -t {IMAGE} ."
    if os.environ.get("REQUIRE_DOCKER") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def worker_nodes(
    image: None,
    settings: Settings,
    broker: Broker,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[list[WorkerNode]]:
    folders = [tmp_path_factory.getbasetemp()]
    started = [ContainerNode(settings, pool, folders) for pool in ("prefork", "threads")]
    yield [*started]
    for node in started:
        node.teardown()
