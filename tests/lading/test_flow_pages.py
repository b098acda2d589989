"""What the pages about who runs when tell people to do, done."""

import re

import pytest

from tests.api.serving import Api
from tests.conftest import ROOT

PAGES = (
    *("limit-concurrency", "limit-rate", "pause", "priorities", "why-is-it-not-running"),
    "schedules",
)


@pytest.mark.parametrize("page", PAGES)
def test_the_pages_program_runs(
    page: str, api: Api, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LADING_URL", api.url)
    monkeypatch.setenv("LADING_API_KEY", api.key)
    text = (ROOT / "docs/how-to" / f"{page}.md").read_text()
    programs = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    asking = [each for each in programs if "Client()" in each]
    assert asking
    for program in asking:
        exec(compile(program, page, "exec"), {})
        assert capsys.readouterr().out
