"""`@job`: what it takes and what it refuses."""

from typing import Any

import pytest
from pydantic import BaseModel

from lading import JobContext, Schedule, job
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


class Named(BaseModel):
    name: str


def test_a_schedule_stands_beside_its_kind() -> None:
    made = job("test.daily", schedule="0 7 * * *", timezone="Europe/Berlin")(nothing)
    kind = find_kind(made)
    assert kind is not None
    assert kind.schedule == Schedule(cron="0 7 * * *", timezone="Europe/Berlin")


def test_a_scheduled_kind_needs_no_args() -> None:
    def greet(context: JobContext, args: Named) -> None: ...

    with pytest.raises(TypeError, match=r"test\.greet has a schedule, so Named must accept {}"):
        job("test.greet", schedule="0 7 * * *")(greet)


def test_a_schedule_says_more_in_words_of_its_own() -> None:
    def greet(context: JobContext, args: Named) -> None: ...

    plan = Schedule(cron="0 7 * * *", args={"name": "Ann"}, overlap="skip")
    kind = find_kind(job("test.greet", schedule=plan)(greet))
    assert kind is not None
    assert kind.schedule is plan
    with pytest.raises(ValueError, match="a Schedule, where it belongs"):
        job("test.greet", schedule=plan, timezone="Europe/Berlin")


@pytest.mark.parametrize(
    "words",
    [
        {"overlap": "never"},
        {"misfire": "none"},
        {"misfire_max": 0},
        {"expires_in": -1},
        {"webhook": {"url": "https://example.org", "secret": "whsec_MfKQ9r8GKYqrTwjU"}},
    ],
    ids=["overlap", "misfire", "misfire_max", "expires_in", "secret"],
)
def test_what_no_schedule_has_is_refused(words: Any) -> None:
    with pytest.raises(ValueError, match=r"none of|1 … 1000|not negative|no secret"):
        Schedule(cron="0 7 * * *", **words)


def test_a_timezone_is_of_a_schedule() -> None:
    with pytest.raises(ValueError, match=r"test\.zoned has a timezone"):
        job("test.zoned", timezone="Europe/Berlin")


def test_base_model_itself_is_no_model_of_args() -> None:
    def anything(context: JobContext, args: BaseModel) -> None: ...

    with pytest.raises(TypeError, match=r"args of test\.anything"):
        job("test.anything")(anything)
