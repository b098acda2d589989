"""The whole platform as a newcomer starts it, in a folder and on ports of a test's own."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx2
import psutil

from dev.ports import free_port
from dev.postgres import remove_data
from tests.conftest import ROOT
from tests.dev.pids import lives
from tests.eventually import eventually

START_WITHIN = 150.0  # seconds; a loaded machine takes its time to import eight Pythons
STOP_WITHIN = 30.0  # seconds; tests/dev holds it to the contract's ten


@dataclass
class Platform:
    """`python -m dev` as a child. `dev` is what dev.json says now."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[str] | None = None

    @property
    def record(self) -> Path:
        return self.folder / "data/dev.json"

    @property
    def dev(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.record.read_text())
        return found

    @property
    def output(self) -> str:
        return (self.folder / "output").read_text()

    def start(self) -> Self:
        environment = {
            **os.environ,
            "LADING_DATA_DIR": str(self.folder / "data"),
            "LADING_KINDS": "tests.kinds_for_tests",
            "LADING_PORT": str(free_port()),
            "LADING_FLOWER_PORT": str(free_port()),
            "LADING_MAIL_PORT": str(free_port()),
            "LADING_HTTP_ALLOW_NETWORKS": "127.0.0.0/8",
            **self.environment,
        }
        with (self.folder / "output").open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "dev"],
                cwd=ROOT,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                text=True,
            )
        eventually(self._is_ready, within=START_WITHIN)
        return self

    def _is_ready(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise RuntimeError(f"`python -m dev` has ended:\n{self.output}")
        return self.record.exists() and "Lading is ready" in self.output

    def stop(self, number: signal.Signals = signal.SIGINT) -> list[psutil.Process]:
        """It has ended; returned is what it left running."""
        assert self.process is not None
        children = psutil.Process(self.process.pid).children(recursive=True)
        self.process.send_signal(number)
        self.process.wait(STOP_WITHIN)
        return [each for each in psutil.wait_procs(children, timeout=30)[1] if lives(each.pid)]

    def remove(self) -> None:
        """Its data is gone, wherever it lies."""
        remove_data(self.folder / "data/postgres")

    def kill(self, name: str) -> None:
        """kill -9 of one program; it is there again, with another pid, when this returns."""
        pid = self.dev["pids"][name]
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: self.dev["pids"][name] != pid, within=30)
        if name == "api":
            eventually(self._answers, within=START_WITHIN)

    def _answers(self) -> bool:
        try:
            return httpx2.get(f"{self.dev['api']}/livez", timeout=40).status_code == 200
        except httpx2.TransportError:
            return False

    def client(self) -> httpx2.Client:
        dev = self.dev
        headers = {"Authorization": f"Bearer {dev['key']}"}
        return httpx2.Client(base_url=dev["api"], headers=headers, timeout=40)

    def submit(self, kind: str, args: dict[str, Any], **options: Any) -> dict[str, Any]:
        """The accepted job."""
        with self.client() as client:
            answer = client.post("/v1/jobs", json={"kind": kind, "args": args, **options})
        assert answer.status_code == 202, answer.text
        job: dict[str, Any] = answer.json()
        return job

    def finished(self, job_id: str, within: float = 30.0) -> dict[str, Any]:
        """The job once it is final."""

        def final() -> dict[str, Any] | None:
            job: dict[str, Any] = client.get(f"/v1/jobs/{job_id}").json()
            return job if job["state"] in {"succeeded", "failed", "cancelled"} else None

        with self.client() as client:
            found = eventually(final, within=within, every=0.1)
        assert found is not None
        return found

    def run(self, kind: str, args: dict[str, Any], **options: Any) -> dict[str, Any]:
        """The job, submitted and finished."""
        return self.finished(self.submit(kind, args, **options)["id"])

    def upload(self, path: Path) -> str:
        with self.client() as client, path.open("rb") as file:
            answer = client.post("/v1/files", files={"file": (path.name, file)})
        assert answer.status_code == 201, answer.text
        file_id: str = answer.json()["id"]
        return file_id
