"""Which jobs a list shows, as the query string that asks for them."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, TypedDict
from uuid import UUID

from lading.client.asking import aware
from lading.client.models import Job

JobRef = Job | UUID | str


class JobFilters(TypedDict, total=False):
    """What is left out does not narrow the list."""

    state: str | Iterable[str]  #: one state, or any of several
    kind: str
    queue: str
    labels: Mapping[str, str]  #: all of these
    created_after: datetime  #: aware, like the next
    created_before: datetime
    ids: Iterable[JobRef]  #: of these jobs, 200 at most
    batch: UUID | str  #: of this batch
    schedule: UUID | str  #: made by the ticks of this schedule


def id_of(job: JobRef) -> str:
    """A job's id, as it stands in addresses."""
    return str(job.id if isinstance(job, Job) else job)


def filter_of(filters: JobFilters) -> dict[str, Any]:
    """The filters as a JSON object; TypeError for one that does not exist.

    ValueError when a time has no offset.
    """
    unknown = filters.keys() - JobFilters.__annotations__.keys()
    if unknown:
        raise TypeError(f"jobs are not listed by {', '.join(sorted(unknown))}")
    found: dict[str, Any] = {}
    for name, value in filters.items():
        match name, value:
            case "state", _:
                found[name] = [value] if isinstance(value, str) else [*value]  # type: ignore[misc]
            case "labels", Mapping():
                found["label"] = dict(value)
            case "ids", Iterable():
                found[name] = [*map(id_of, value)]
            case _, datetime():
                found[name] = aware(name, value).isoformat()
            case _:
                found[name] = str(value)
    return found


def query_of(filters: JobFilters) -> dict[str, str]:
    """The same as the query string of a list."""
    found = filter_of(filters)
    labels = found.pop("label", {})
    query = {f"label.{name}": str(value) for name, value in labels.items()}
    return query | {
        name: ",".join(each) if isinstance(each, list) else each for name, each in found.items()
    }
