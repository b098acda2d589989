"""What a key's limits let through, and which limits are wider than others."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.keys.limits import KeyLimits, allows
from jobs.keys.scopes import ROLES, Scope, opened_by

SOON, LATER = datetime(2030, 1, 1, tzinfo=UTC), datetime(2031, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("patterns", "kind", "is_allowed"),
    [
        (None, "email.send", True),
        ([], "email.send", False),
        (["email.send"], "email.send", True),
        (["email.send"], "email.sender", False),
        (["email.*"], "email.send", True),
        (["email.*"], "email", False),
        (["*"], "a.b.c", True),
        (["*.send"], "a.b.send", True),
        (["email.s.nd"], "email.send", False),
        (["data.*", "email.*"], "email.send", True),
    ],
)
def test_a_pattern_lets_through_what_it_matches(
    patterns: list[str] | None, kind: str, is_allowed: bool
) -> None:
    assert allows(patterns, kind) == is_allowed


PATTERNS = st.lists(st.text("ab.*", min_size=1, max_size=4), max_size=2)


@given(held=PATTERNS, given=PATTERNS, kind=st.text("ab.", min_size=1, max_size=5))
def test_what_is_not_beyond_lets_nothing_more_through(
    held: list[str], given: list[str], kind: str
) -> None:
    if KeyLimits(given).beyond(KeyLimits(held)) is None and allows(given, kind):
        assert allows(held, kind)


@pytest.mark.parametrize(
    ("mine", "held", "wider"),
    [
        (KeyLimits(), KeyLimits(), None),
        (KeyLimits(["a.*"], SOON, 1, 1), KeyLimits(), None),
        (KeyLimits(["a.b"]), KeyLimits(["a.*"]), None),
        (KeyLimits(["a.*"]), KeyLimits(["a.b"]), "kinds"),
        (KeyLimits(), KeyLimits(["a.b"]), "kinds"),
        (KeyLimits(None, SOON), KeyLimits(None, LATER), None),
        (KeyLimits(None, LATER), KeyLimits(None, SOON), "expires_at"),
        (KeyLimits(), KeyLimits(None, SOON), "expires_at"),
        (KeyLimits(rate=2, burst=1), KeyLimits(rate=1, burst=1), "rate"),
        (KeyLimits(rate=1, burst=2), KeyLimits(rate=1, burst=1), "rate"),
        (KeyLimits(), KeyLimits(rate=1, burst=1), "rate"),
    ],
    ids=range(11),
)
def test_wider_limits_are_named(mine: KeyLimits, held: KeyLimits, wider: str | None) -> None:
    assert mine.beyond(held) == wider
    assert KeyLimits().within(held).beyond(held) is None


def test_admin_opens_everything_and_no_other_role_opens_keys() -> None:
    assert opened_by(["admin"]) == frozenset(Scope)
    assert opened_by(["jobs:read"]) == {"jobs:read"}
    for role in ("reader", "submitter", "operator"):
        assert not ROLES[role] & {Scope.ADMIN, Scope.KEYS_MANAGE}
