"""Which jobs a list shows, as the query string that asks for them."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TypedDict
from uuid import UUID

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


def id_of(job: JobRef) -> str:
    """A job's id, as it stands in addresses."""
    return str(job.id if isinstance(job, Job) else job)


def query_of(filters: JobFilters) -> dict[str, str]:
    """The filters by their names on the wire; TypeError for one that does not exist.

    ValueError when a time has no offset.
    """
    given = dict(filters)
    unknown = given.keys() - JobFilters.__annotations__.keys()
    if unknown:
        raise TypeError(f"jobs are not listed by {', '.join(sorted(unknown))}")
    query: dict[str, str] = {
        f"label.{name}": value for name, value in filters.get("labels", {}).items()
    }
    if "ids" in filters:
        query["ids"] = ",".join(map(id_of, filters["ids"]))
    if "state" in filters:
        state = filters["state"]
        query["state"] = state if isinstance(state, str) else ",".join(state)
    for name in ("kind", "queue"):
        if name in given:
            query[name] = str(given[name])
    for name in ("created_after", "created_before"):
        if isinstance(moment := given.get(name), datetime):
            if moment.tzinfo is None:
                raise ValueError(f"{name} needs an offset: datetime(…, tzinfo=UTC)")
            query[name] = moment.isoformat()
    return query
