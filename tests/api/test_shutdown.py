"""A server that is told to end lets everybody go at once, in good order."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest
from sqlalchemy import Engine

from api.draining import FAREWELL, Draining
from dev.ports import free_port
from jobs.settings import Settings
from tests.api.listening import event_stream, frames, sent, web_socket
from tests.api.serving import Api, new_key, problem, serve
from tests.api.speaking import speaking
from tests.api.stories import Story
from tests.conftest import ROOT
from tests.eventually import eventually

ENDS_WITHIN = 2.0  # seconds
GRACE = 8.0  # seconds more for a machine that has other things to do
STREAMS, SOCKETS, POLLS = 20, 20, 5


@dataclass
class Server:
    process: subprocess.Popen[bytes]
    url: str
    key: str
    log: Path

    def get(self, path: str, **headers: str) -> httpx2.Response:
        headers["Authorization"] = f"Bearer {self.key}"
        return httpx2.get(f"{self.url}{path}", headers=headers, timeout=40)

    def connections(self) -> int:
        """How many clients hold a connection."""
        found = psutil.Process(self.process.pid).net_connections("tcp")
        port = int(self.url.rpartition(":")[2])
        return sum(each.laddr.port == port and each.status == "ESTABLISHED" for each in found)


@contextmanager
def serving(settings: Settings, folder: Path, *options: str) -> Iterator[Server]:
    """`uvicorn api.main:app` as a process of its own."""
    url, port = settings.database_url.get_secret_value(), free_port()
    broker_url = settings.broker_url.get_secret_value()
    env = {**os.environ, "LADING_DATABASE_URL": url, "LADING_BROKER_URL": broker_url}
    env["LADING_FILES_DIR"] = str(folder)
    command = [sys.executable, "-m", "uvicorn", "api.main:app", "--port", str(port), *options]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=log, stderr=log)
    server = Server(process, f"http://127.0.0.1:{port}", new_key(settings), folder / "log")
    try:
        eventually(lambda: answers(server), within=60)
        yield server
    finally:
        process.kill()
        process.wait()


def answers(server: Server) -> bool:
    assert server.process.poll() is None, server.log.read_text()
    try:
        return server.get("/livez").status_code == 200
    except httpx2.TransportError:
        return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_open_streams_sockets_and_polls_end_at_once(
    settings: Settings, engine: Engine, tmp_path: Path, number: signal.Signals
) -> None:
    job_id = str(Story(engine).begin())
    with (
        serving(settings, tmp_path) as server,
        api_of(server, settings) as api,
        ThreadPoolExecutor(STREAMS + SOCKETS + 2 * POLLS) as pool,
    ):
        began_reading = threading.Semaphore(0)
        streams = [pool.submit(read_stream, api, job_id, began_reading) for _ in range(STREAMS)]
        sockets = [pool.submit(read_socket, api, job_id, began_reading) for _ in range(SOCKETS)]
        path = f"/v1/jobs/{job_id}?wait=30"
        polls = [pool.submit(server.get, path) for _ in range(POLLS)]
        headers = {"If-None-Match": '"1"'}
        conditional = [pool.submit(server.get, path, **headers) for _ in range(POLLS)]
        eventually(lambda: server.connections() == STREAMS + SOCKETS + 2 * POLLS, within=30)
        assert all(began_reading.acquire(timeout=20) for _ in range(STREAMS + SOCKETS))
        server.process.send_signal(number)
        began = time.monotonic()
        assert results(streams) == [["created", "bye"]] * STREAMS
        assert results(sockets) == [(1, 1012)] * SOCKETS
        assert [poll.status_code for poll in results(polls)] == [200] * POLLS
        assert [poll.status_code for poll in results(conditional)] == [304] * POLLS
        took = time.monotonic() - began
        server.process.wait(30)  # most of it is the interpreter's, which takes itself apart
    log = server.log.read_text()
    assert took < ENDS_WITHIN + GRACE, log
    assert "Traceback" not in log
    assert "ERROR" not in log


def test_sockets_with_many_streams_hear_a_bye_before_they_are_closed(
    settings: Settings, engine: Engine, tmp_path: Path
) -> None:
    """The signal itself would have uvicorn cut them off within a tenth of a second."""
    job_id = str(Story(engine).begin())
    with (
        serving(settings, tmp_path) as server,
        api_of(server, settings) as api,
        ThreadPoolExecutor(SOCKETS) as pool,
    ):
        ready = threading.Semaphore(0)
        sockets = [pool.submit(read_many, api, job_id, ready) for _ in range(SOCKETS)]
        assert all(ready.acquire(timeout=20) for _ in range(SOCKETS))
        server.process.send_signal(signal.SIGTERM)
        assert results(sockets) == [(["bye"], 1012)] * SOCKETS
        server.process.wait(30)
    log = server.log.read_text()
    assert "Traceback" not in log
    assert "ERROR" not in log


def read_many(api: Api, job_id: str, ready: threading.Semaphore) -> tuple[list[str], int | None]:
    """What came after all that there was, and the code that closed it."""
    with speaking(api) as client:
        client.follow(job_id, after=1)
        client.follow_all(id_="all")
        ready.release()
        found, code = client.rest()
        return [frame["type"] for frame in found], code


def read_stream(api: Api, job_id: str, began: threading.Semaphore) -> list[str]:
    """The names of its events up to a clean end, else an httpx2.RemoteProtocolError."""
    names = []
    with event_stream(api, job_id, 0) as response:
        for event in sent(response):
            names.append(event.event)
            began.release()
    return names


def read_socket(api: Api, job_id: str, began: threading.Semaphore) -> tuple[int, int | None]:
    """How many frames came, and the code that closed it."""
    with web_socket(api, job_id) as socket:
        socket.recv(timeout=20)
        began.release()
        events, code = frames(socket)
        return 1 + len(events), code


def results(futures: list[Future[Any]]) -> list[Any]:
    return [future.result(20) for future in futures]


@contextmanager
def api_of(server: Server, settings: Settings) -> Iterator[Api]:
    """The clients that other tests use, for a server whose inside cannot be seen."""
    headers, limits = {"Authorization": f"Bearer {server.key}"}, httpx2.Limits(max_connections=100)
    with httpx2.Client(base_url=server.url, headers=headers, limits=limits, timeout=40) as client:
        yield Api(settings, server.url, server.key, client, app=None)  # type: ignore[arg-type]


def test_a_client_that_takes_nothing_delays_the_end_no_longer_than_allowed(
    settings: Settings, engine: Engine, tmp_path: Path
) -> None:
    story = Story(engine)
    job_id = str(story.begin())
    for _ in range(4):  # more than the system keeps on the way
        story.log(next(iter(story.told)), "x" * 5_000_000)
    with (
        serving(settings, tmp_path, "--timeout-graceful-shutdown", "1") as server,
        api_of(server, settings) as api,
        event_stream(api, job_id),
        web_socket(api, job_id, max_queue=1),
    ):
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(1 + ENDS_WITHIN + GRACE)


def test_nothing_new_begins_while_it_drains(settings: Settings, engine: Engine) -> None:
    job_id = str(Story(engine).begin())
    with serve(settings) as api:
        api.parts.draining.begin()
        with event_stream(api, job_id) as response:
            response.read()
            problem(response, 503, "draining")
            assert response.headers["retry-after"] == "1"
        with web_socket(api, job_id, origin="https://console.example") as socket:
            assert frames(socket) == ([], 1013)
        began = time.monotonic()
        assert api.http.get(f"/v1/jobs/{job_id}", params={"wait": 30}).status_code == 200
        assert time.monotonic() - began < ENDS_WITHIN + GRACE
        assert api.http.get("/readyz").json()["draining"] is True


def test_signals_do_what_they_did_before() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    try:
        asyncio.run(hear_a_signal())
        assert heard == [signal.SIGTERM]
        signal.raise_signal(signal.SIGTERM)
        assert heard == [signal.SIGTERM] * 2, "the handler from before stands again"
    finally:
        signal.signal(signal.SIGTERM, before)


async def hear_a_signal() -> None:
    draining, called = Draining(), asyncio.Event()
    draining.call(called.set)
    with draining.on_signals():
        assert not draining.is_set
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(called.wait(), 30)
    assert draining.is_set
    late = asyncio.Event()
    draining.call(late.set)
    assert late.is_set()


@pytest.mark.parametrize("leaves", [True, False])
def test_a_signal_waits_for_last_words_but_not_for_long(leaves: bool) -> None:
    heard: list[float] = []
    before = signal.signal(signal.SIGTERM, lambda *_: heard.append(time.monotonic()))
    try:
        began = asyncio.run(hear_while_held(leaves=leaves, heard=heard))
        assert len(heard) == 1
        assert leaves or heard[0] - began >= FAREWELL * 0.9
    finally:
        signal.signal(signal.SIGTERM, before)


async def hear_while_held(*, leaves: bool, heard: list[float]) -> float:
    draining, called = Draining(), asyncio.Event()
    draining.call(called.set)
    with draining.on_signals(), draining.held():
        began = time.monotonic()
        with draining.held():
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.wait_for(called.wait(), 30)
            assert not heard
        if not leaves:
            await asyncio.to_thread(eventually, lambda: heard)
    return began


def test_the_default_action_is_kept_too() -> None:
    code = (
        "import asyncio, os, signal\n"
        "from api.draining import FAREWELL, Draining\n"
        "async def main():\n"
        "    with Draining().on_signals():\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "        await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, timeout=30)
    assert done.returncode == -signal.SIGTERM


def test_off_the_main_thread_no_signal_is_touched() -> None:
    before = signal.getsignal(signal.SIGTERM)
    seen: list[Any] = []

    async def look() -> None:
        with Draining().on_signals():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=lambda: asyncio.run(look()))
    thread.start()
    thread.join()
    assert seen == [before]
