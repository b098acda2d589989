"""One API per module, with the module's own database, and a client for it."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from sqlalchemy import Engine

from jobs.settings import Settings
from lading import Client
from lading.cli.app import run
from tests.api.serving import Api, serve
from tests.lading.handwork import Background, Handwork
from tests.lading.shell import Done, Run


@pytest.fixture(scope="module")
def api(settings: Settings) -> Iterator[Api]:
    with serve(settings) as served:
        yield served


@pytest.fixture(scope="module")
def client(api: Api) -> Iterator[Client]:
    with Client(api.url, api.key) as made:
        yield made


@pytest.fixture(scope="module")
def by_hand(api: Api, engine: Engine) -> Handwork:
    return Handwork(engine, api.parts.hints)


@pytest.fixture
def background() -> Iterator[Background]:
    """Runs a function beside the test, which fails if that did."""
    with ThreadPoolExecutor(4) as pool:
        futures: list[Future[None]] = []
        yield lambda function: futures.append(pool.submit(function))
        for future in futures:
            future.result(30)


@pytest.fixture
def lading(api: Api, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs one command line of `lading`, which finds the API in its environment."""
    monkeypatch.setenv("LADING_URL", api.url)
    monkeypatch.setenv("LADING_API_KEY", api.key)

    def run_it(*arguments: object) -> Done:
        capsys.readouterr()
        code = run([str(each) for each in arguments])
        return Done(code, *capsys.readouterr())

    return run_it
