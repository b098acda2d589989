from collections.abc import Callable, Iterator

import pytest

from jobs.settings import Settings, load_settings
from tests.kinds.mail_server import Mailbag, mail_server

Configure = Callable[..., Settings]


@pytest.fixture
def configure(monkeypatch: pytest.MonkeyPatch) -> Iterator[Configure]:
    """Sets LADING_… variables for this test: `configure(smtp_port=25)`."""

    def set_and_load(**values: object) -> Settings:
        for name, value in values.items():
            monkeypatch.setenv(f"LADING_{name.upper()}", str(value))
        load_settings.cache_clear()
        return load_settings()

    monkeypatch.setenv("LADING_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    monkeypatch.setenv("LADING_BROKER_URL", "redis://127.0.0.1:1/0")
    load_settings.cache_clear()
    yield set_and_load
    load_settings.cache_clear()


@pytest.fixture
def server(configure: Configure) -> Iterator[Mailbag]:
    with mail_server() as bag:
        configure(smtp_host="127.0.0.1", smtp_port=bag.port, mail_from="Lading <box@lading.test>")
        yield bag
