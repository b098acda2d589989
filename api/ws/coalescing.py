"""What may be left out for a reader that is too slow: progress that newer progress makes stale."""

from collections.abc import Sequence

from api.recorded import Recorded

_JOB_ID = slice(len('{"job_id":"'), len('{"job_id":"') + 36)  # as api/recorded.py writes it
_PROGRESS = "progress"


def coalesced(events: Sequence[Recorded]) -> list[Recorded]:
    """The events without such progress as is followed at once by more of the same job."""
    kept: list[Recorded] = []
    next_types: dict[str, str] = {}
    for event in reversed(events):
        job_id = event.json[_JOB_ID]
        if event.type == next_types.get(job_id) == _PROGRESS:
            continue
        next_types[job_id] = event.type
        kept.append(event)
    return kept[::-1]
