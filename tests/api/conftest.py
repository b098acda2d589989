"""One server per module, with the module's own database."""

from collections.abc import Iterator

import pytest

from jobs.settings import Settings
from tests.api.serving import Api, serve


@pytest.fixture(scope="module")
def api(settings: Settings) -> Iterator[Api]:
    with serve(settings.model_copy(update={"flower_url": "http://flower.example"})) as served:
        yield served
