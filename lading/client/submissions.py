"""Jobs to be submitted, and what is said about jobs to come, as a program writes them down."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any, Literal, Required, TypedDict
from uuid import UUID

from pydantic import BaseModel

from lading.args import as_json
from lading.authoring import find_kind
from lading.client.asking import aware
from lading.durations import as_timedelta

Handler = Callable[..., Any]
Args = BaseModel | Mapping[str, Any]


class Unique(TypedDict, total=False):
    """What only one job may have at a time."""

    key: Required[str]
    scope: Literal["active", "queued"]  #: until that has ended (the default), or has started
    on_conflict: Literal["reject", "return", "replace"]  #: Conflict (the default), or that job, or
    #: a new one in its place, unless that one runs


class Concurrency(TypedDict, total=False):
    """What jobs of one key share: turns with other keys', and how many of them run at a time."""

    key: Required[str]
    limit: int | None  #: the newest counts; left out, the key's stays as it is


class Webhook(TypedDict, total=False):
    """Who is told how a job has ended."""

    url: Required[str]
    secret: str | None  #: `whsec_…`, to sign it with


class RuleOptions(TypedDict, total=False):
    """How each job that a rule makes is run; None and what is left out, its kind decides."""

    queue: str | None  #: instead of the kind's own
    priority: int | None  #: 0–9, 9 goes first
    max_attempts: int | None  #: so many failures end the job
    timeout: float | timedelta | None  #: that one attempt may take, in seconds
    expires_in: float | timedelta | None  #: not started by then, it is cancelled
    labels: Mapping[str, str] | None  #: to find it by
    unique: Unique | None  #: no other such job at the same time
    concurrency: Concurrency | None  #: take turns, and heed the key's limit
    webhook: Webhook | None  #: told how it has ended


class JobOptions(RuleOptions, total=False):
    """How a job is run; what is left out, the kind or the server decides."""

    run_at: datetime | None  #: not earlier; aware
    delay: float | timedelta | None  #: not before so long from now, in seconds; not with `run_at`
    after: (
        Sequence[UUID | str] | None
    )  #: jobs that have to succeed first; `#0`: the first of its batch


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
    concurrency: Concurrency | None = None
    unique: Unique | None = None
    after: Sequence[UUID | str] | None = None
    webhook: Webhook | None = None

    def document(self) -> dict[str, Any]:
        """The JSON object that the server takes.

        ValueError when a time has no offset, or a duration is negative; TypeError when `kind` is a
        function that was not made with `@job`.
        """
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        document = document_of({name: each for name, each in given.items() if each is not None})
        document.setdefault("args", {})
        return document


def document_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """What was said about a job, or about jobs to come, as the server takes it; see NewJob."""
    return {name: _value(name, each) for name, each in given.items()}


def _value(name: str, value: Any) -> Any:
    if value is None:
        return None
    match name:
        case "kind":
            return name_of(value)
        case "args" if not isinstance(value, str):
            return as_json(value)
        case "after":
            return [str(each) for each in value]
        case "delay" | "timeout" | "expires_in" | "every":
            return as_timedelta(value).total_seconds()
    return aware(name, value) if isinstance(value, datetime) else value


def name_of(kind: str | Handler) -> str:
    """A kind's name. TypeError when it is a function that was not made with `@job`."""
    if isinstance(kind, str):
        return kind
    found = find_kind(kind)
    if found is None:
        raise TypeError(f"{kind!r} is no kind's name, and was not made with @job")
    return found.name
