"""`@job`: what it takes and what it refuses."""

from typing import Any

import pytest
from pydantic import BaseModel

from lading import JobContext, job
from lading.authoring import find_kind


class Nothing(BaseModel):
    pass


def nothing(context: JobContext, args: Nothing) -> None: ...


@pytest.mark.parametrize(
    ("given", "size"),
    [(None, None), (1, 1), ("512MiB", 512 * 1024**2), ("1.5 GB", 1_500_000_000), ("100", 100)],
)
def test_a_memory_limit_is_bytes_or_text_with_a_unit(given: Any, size: int | None) -> None:
    kind = find_kind(job("test.large", memory_limit=given)(nothing))
    assert kind is not None
    assert kind.memory_limit == size


@pytest.mark.parametrize("given", ["", "512 apples", "MiB", -1, 0, "0MiB", []])
def test_what_is_no_size_is_refused(given: Any) -> None:
    with pytest.raises(ValueError, match=r"memory_limit of test\.large"):
        job("test.large", memory_limit=given)
