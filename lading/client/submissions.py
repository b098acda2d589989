"""Jobs to be submitted, as a program writes them down."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any, Literal, Required, TypedDict
from uuid import UUID

from pydantic import BaseModel

from lading.args import as_json
from lading.authoring import find_kind
from lading.durations import as_timedelta

Handler = Callable[..., Any]
Args = BaseModel | Mapping[str, Any]


class Unique(TypedDict, total=False):
    """What only one job may have at a time."""

    key: Required[str]
    scope: Literal["active", "queued"]  #: until that has ended (the default), or has started
    on_conflict: Literal["reject", "return", "replace"]  #: Conflict (the default), or that job, or
    #: a new one in its place, unless that one runs


class JobOptions(TypedDict, total=False):
    """How a job is run; what is left out, the kind or the server decides."""

    queue: str  #: instead of the kind's own
    priority: int  #: 0–9, 9 goes first
    run_at: datetime  #: not earlier; aware
    delay: float | timedelta  #: not before so long from now, in seconds; not with `run_at`
    max_attempts: int  #: so many failures end the job
    timeout: float | timedelta  #: that one attempt may take, in seconds
    expires_in: float | timedelta  #: not started by then, it is cancelled
    labels: Mapping[str, str]  #: to find it by
    unique: Unique  #: no other such job at the same time
    after: Sequence[UUID | str]  #: jobs that have to succeed first; `#0`: the first of its batch


@dataclass(frozen=True, slots=True)
class NewJob:
    """One job of a batch; the fields are those of `Client.submit`."""

    kind: str | Handler
    args: Args | None = None
    queue: str | None = None
    priority: int | None = None
    run_at: datetime | None = None
    delay: float | timedelta | None = None
    max_attempts: int | None = None
    timeout: float | timedelta | None = None
    expires_in: float | timedelta | None = None
    labels: Mapping[str, str] | None = None
    concurrency: Mapping[str, Any] | None = None
    unique: Unique | None = None
    after: Sequence[UUID | str] | None = None

    def document(self) -> dict[str, Any]:
        """The JSON object that the server takes.

        ValueError when a time has no offset, or a duration is negative; TypeError when `kind` is a
        function that was not made with `@job`.
        """
        if self.run_at is not None and self.run_at.tzinfo is None:
            raise ValueError("run_at needs an offset: datetime(…, tzinfo=UTC)")
        document = {
            field.name: value
            for field in fields(self)
            if (value := getattr(self, field.name)) is not None
        }
        document["kind"] = _name(self.kind)
        document["args"] = as_json(self.args or {})
        if "after" in document:
            document["after"] = [str(each) for each in document["after"]]
        for name in ("delay", "timeout", "expires_in"):
            if name in document:
                document[name] = as_timedelta(document[name]).total_seconds()
        return document


def _name(kind: str | Handler) -> str:
    if isinstance(kind, str):
        return kind
    found = find_kind(kind)
    if found is None:
        raise TypeError(f"{kind!r} is no kind's name, and was not made with @job")
    return found.name
