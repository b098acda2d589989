"""When it pays to wait a moment for more."""

from jobs.pace import PACE_OF, Pace

LIMIT = 300.0  # a second


def test_only_while_many_come() -> None:
    pace, many = Pace(LIMIT, 0.0), int(LIMIT * PACE_OF) + 1
    pace.count(many)
    assert not pace.is_busy_at(PACE_OF / 2)
    assert pace.is_busy_at(PACE_OF)
    pace.count(many)
    assert pace.is_busy_at(2 * PACE_OF)
    pace.count(many)
    assert not pace.is_busy_at(10.0), "as many in eight seconds are few"
