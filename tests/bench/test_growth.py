"""What the benches of growth and of several processes are made of, in small amounts."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from sqlalchemy import Connection, text

from bench import growth, report, scale
from bench.figures import spread
from bench.generator import Order, submit_to_each
from bench.growth import Deleting, Growth
from bench.growth_filling import fill
from bench.growth_reading import read_all
from bench.http import Address
from bench.scale import ONE, SEVERAL, Round, Scale
from jobs.audit import audit
from jobs.settings import Settings
from tests.api.serving import Api, serve

JOBS = 2000  # one of each rare sort at least
CPU = {"api": 0.5, "postgres": 0.25, "all": 0.75}


@pytest.fixture(scope="module")
def api(settings: Settings) -> Iterator[Api]:
    assert settings.database_url
    fill(settings.database_url.get_secret_value(), JOBS)
    with serve(settings) as served:
        yield served


def _address(api: Api) -> Address:
    port = urlsplit(api.url).port
    assert port
    return Address(port, {"Authorization": f"Bearer {api.key}"})


def test_what_is_filled_in_is_what_the_platform_leaves(api: Api, connection: Connection) -> None:
    seen = audit(connection)
    assert seen.findings == []
    assert seen.jobs >= JOBS
    assert seen.events > 2 * JOBS


def test_every_page_is_read_and_finds_what_it_is_there_for(api: Api) -> None:
    url = api.settings.database_url.get_secret_value()
    found = {each.what: each for each in read_all(_address(api), url, 1)}
    assert found["`/v1/jobs?limit=200`"].items == 200
    assert found["`/v1/jobs?queue=bench-rare`"].items == 2
    assert found["`/v1/jobs?kind=bench.kind-9&state=failed`"].items == 0
    assert found["`/v1/jobs?created_after=…&created_before=…`"].items
    assert found["`/v1/jobs/ID/events`"].milliseconds.p95 > 0


def test_several_apis_are_loaded_at_once(api: Api) -> None:
    order = Order(_address(api), "/v1/jobs", b'{"kind":"test.echo","args":{}}')
    made = submit_to_each([order, order], 6, 2)
    assert len({job_id for some in made for job_id in some.ids}) == 12


def test_figures_become_pages(tmp_path: Path) -> None:
    times = spread([0.001, 0.06])
    grown = Growth(1000, 1.0, 2000.0, CPU, CPU, [], Deleting(times, times, 60, 10, 1.0), 0)
    assert "| all | 0.750 | 0.750 | +0 % |" in growth.text(grown)
    assert growth.missed(grown) == []
    assert growth.missed(grown._replace(full={**CPU, "all": 1.5})) == ["a job costs +100 %"]
    rounds = [Round(100, 500.0, 4000.0, CPU)]
    scaled = Scale({ONE: rounds, SEVERAL: rounds}, {"lading api": 1}, 0, 0, 0)
    assert "| 1 × API, 1 × worker, 1 × dispatcher | 0.75 | 0.50 | 0.25 |" in scale.text(scaled)
    assert "| 1,000 | 0.8 | 0.4 | 4.0 |" in scale.example(scaled)
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- x -->\nold\n<!-- y -->\nb\n")
    report.write("new", "<!-- x -->", "<!-- y -->", page=page)
    assert page.read_text() == "a\n<!-- x -->\nnew\n<!-- y -->\nb\n"


def test_the_markers_stand_in_the_pages() -> None:
    pages = [
        (report.REPORT, (growth.BEGIN, growth.END, scale.BEGIN, scale.END)),
        (scale.SCALING, scale.EXAMPLE),
    ]
    for page, markers in pages:
        assert all(page.read_text().count(marker) == 1 for marker in markers), page


def test_half_of_what_is_filled_in_is_old_enough_to_go(api: Api, connection: Connection) -> None:
    """Retention must find something to delete in half of the time."""
    old = "SELECT count(*) FROM job WHERE finished_at < now() - interval '3 days'"
    assert connection.execute(text(old)).scalar_one() in range(JOBS // 2 - 20, JOBS // 2 + 20)
