from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from jobs.errors import InvalidSubmission
from jobs.registry import Registry, load_registry
from jobs.submissions import LONGEST, MAX_ARGS_BYTES, Submission, check, fingerprint
from lading.args import as_json
from tests.kinds_for_tests import Secret


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(["tests.kinds_for_tests"])


def flaws(registry: Registry, **asked: Any) -> dict[str, str]:
    with pytest.raises(InvalidSubmission) as caught:
        check(registry, Submission(**asked), "#/jobs/3")
    return {flaw.pointer: flaw.detail for flaw in caught.value.flaws}


def test_a_submission_takes_its_kinds_defaults(registry: Registry) -> None:
    new = check(registry, Submission(kind="test.too_long", args={"path": "x"}))
    assert (new.queue, new.max_attempts, new.timeout_seconds) == ("default", 1, 1.0)


def test_what_is_said_beats_the_default(registry: Registry) -> None:
    asked = Submission(
        kind="test.too_long", args={"path": "x"}, queue="mine", timeout=timedelta(seconds=9)
    )
    new = check(registry, asked)
    assert (new.queue, new.timeout_seconds) == ("mine", 9.0)


def test_an_unknown_kind_is_named(registry: Registry) -> None:
    assert "no.such" in flaws(registry, kind="no.such", args={})["#/jobs/3/kind"]


def test_each_flaw_of_the_args_has_a_pointer(registry: Registry) -> None:
    found = flaws(registry, kind="test.secret", args={"user": 1})
    assert set(found) == {"#/jobs/3/args/user", "#/jobs/3/args/password"}


@pytest.mark.parametrize(
    "value", ["\0", "\ud800", float("nan"), float("inf"), ["a", {"b": "c\0"}], {"\0": 1}]
)
def test_what_postgresql_cannot_keep_is_refused(registry: Registry, value: Any) -> None:
    assert "#/jobs/3/args" in flaws(registry, kind="test.echo", args={"value": value})


def test_too_long_args_are_refused_with_the_limit(registry: Registry) -> None:
    found = flaws(registry, kind="test.echo", args={"value": "x" * MAX_ARGS_BYTES})
    assert str(MAX_ARGS_BYTES) in found["#/jobs/3/args"]


@pytest.mark.parametrize(
    "labels", [{"k": "x" * 256}, {"x" * 256: "v"}, {"": "v"}, {f"k{n}": "v" for n in range(65)}]
)
def test_too_many_or_long_labels_are_refused(registry: Registry, labels: Mapping[str, str]) -> None:
    (pointer,) = flaws(registry, kind="test.echo", args={}, labels=labels)
    assert pointer.startswith("#/jobs/3/labels")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("queue", ""),
        ("queue", "Not A Queue"),
        ("queue", "x" * 101),
        ("priority", -1),
        ("priority", 10),
        ("priority", True),
        ("priority", 5.0),
        ("max_attempts", 0),
        ("max_attempts", 1001),
        ("timeout", timedelta()),
        ("timeout", LONGEST + timedelta(seconds=1)),
        ("expires_in", timedelta(seconds=-1)),
        ("delay", timedelta(seconds=-1)),
        ("delay", LONGEST * 2),
        ("run_at", datetime(2030, 1, 1)),  # noqa: DTZ001 - that is the flaw
        ("run_at", datetime(1969, 12, 31, tzinfo=UTC)),
        ("run_at", datetime(9000, 1, 1, tzinfo=UTC)),
        ("labels", {"n": 1}),
        ("labels", ["n"]),
    ],
)
def test_what_no_kind_may_be_asked_is_refused(registry: Registry, field: str, value: Any) -> None:
    assert [*flaws(registry, kind="test.echo", args={}, **{field: value})] == [f"#/jobs/3/{field}"]


def test_the_bounds_themselves_are_within(registry: Registry) -> None:
    asked = Submission(
        kind="test.echo",
        args={},
        queue="x" * 100,
        priority=9,
        max_attempts=1000,
        timeout=LONGEST,
        expires_in=LONGEST,
        run_at=datetime.now(UTC) + LONGEST - timedelta(hours=1),
    )
    assert check(registry, asked).max_attempts == 1000
    assert check(registry, Submission(kind="test.echo", args={}, delay=timedelta())).priority == 5


def test_two_times_exclude_each_other(registry: Registry) -> None:
    asked = {"run_at": datetime.now(UTC), "delay": timedelta(seconds=1)}
    assert [*flaws(registry, kind="test.echo", args={}, **asked)] == ["#/jobs/3"]


def test_the_fingerprint_ignores_the_order_of_keys() -> None:
    one = Submission(kind="a", args={"x": 1, "y": {"p": 1, "q": 2}})
    same = Submission(kind="a", args={"y": {"q": 2, "p": 1}, "x": 1})
    other = Submission(kind="a", args={"x": 1, "y": {"p": 1, "q": 3}})
    assert fingerprint([one], batch=False) == fingerprint([same], batch=False)
    assert fingerprint([one], batch=False) != fingerprint([other], batch=False)
    assert fingerprint([one], batch=False) != fingerprint([one], batch=True)


def test_a_models_secrets_are_revealed_for_the_handler() -> None:
    args = Secret(user="ann", password=SecretStr("hush"))
    assert as_json(args) == {"user": "ann", "password": "hush"}
