"""Durations as people write them: seconds, or a timedelta."""

from datetime import timedelta

_EXPECTED = "a duration is a number of seconds or a timedelta"


def as_timedelta(duration: float | timedelta) -> timedelta:
    """The same duration as a timedelta; ValueError when it is negative or not finite."""
    try:
        result = duration if isinstance(duration, timedelta) else timedelta(seconds=duration)
    except (TypeError, OverflowError) as error:
        raise ValueError(_EXPECTED) from error
    if result < timedelta():
        raise ValueError("a duration is not negative")
    return result
