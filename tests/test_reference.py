"""What is made from the code says what the code says."""

from collections.abc import Callable
from pathlib import Path

import pytest

from dev.reference import PAGES, ROOT


@pytest.mark.parametrize(("path", "make"), PAGES.items(), ids=map(str, PAGES))
def test_a_made_page_is_up_to_date(path: Path, make: Callable[[], str]) -> None:
    assert (ROOT / path).read_text() == make(), "run `python -m dev.reference`"
