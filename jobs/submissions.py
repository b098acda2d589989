"""A request to run a kind, checked against the kind and the limits; pure but for the new id."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Literal, NamedTuple
from uuid import UUID

from pydantic import BaseModel, ValidationError
from pydantic_core import to_jsonable_python

from jobs import documents
from jobs.errors import Flaw, InvalidSubmission
from jobs.ids import uuid7
from jobs.registry import Registry
from lading.authoring import is_queue_name

MAX_ARGS_BYTES = 256 * 1024  # larger belongs into a file; a page of a hundred jobs stays readable
MAX_LABELS = 64
MAX_LABEL_LENGTH = 255  # characters, of a key and of a value
DEFAULT_PRIORITY = 5
HIGHEST_PRIORITY = 9
MAX_KEY_LENGTH = 255  # characters, of a concurrency key
MOST_AT_A_TIME = 1_000_000  # attempts that a limit lets run; more is no limit
MOST_ATTEMPTS = 1000  # a budget that is never spent is a mistake
MOST_FLAWS = 100  # then the rest of a batch is not looked at
LONGEST = timedelta(days=3653)  # ten years: a longer wait is a mistake in a unit
MAX_KEY_LENGTH = 255  # characters of a unique key: it stands in an index
MOST_PARENTS = 100  # that a job waits for; more of them are a batch
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
_SIBLING = re.compile("#[0-9]{1,4}")
_HTTP = re.compile(r"https?://[^\s/]")


Scope = Literal["active", "queued"]
OnConflict = Literal["reject", "return", "replace"]
SCOPES: tuple[Scope, ...] = ("active", "queued")
POLICIES: tuple[OnConflict, ...] = ("reject", "return", "replace")


class Unique(NamedTuple):
    """There is one job of the project with the key at a time."""

    key: str
    scope: Scope = "active"  #: while it has not ended; queued: while it has not started
    on_conflict: OnConflict = "reject"  #: the new one; or return the other, or replace that


class Hook(NamedTuple):
    """Who is told how one job has ended."""

    url: str
    secret: str | None = None  #: `whsec_…`, for signatures; None: it is told without
    sealed: bytes | None = None  #: the secret as it may be stored
    sealed_for: UUID | None = None  #: what it is bound to: the job, or the rule that makes it


@dataclass(frozen=True, slots=True)
class Concurrency:
    """Jobs of one key take turns with other keys', and at most `limit` of them run at a time."""

    key: str
    limit: int | None = None  #: the newest counts; None leaves it as it is


#: What of a submission ties a job to others, or to who is told of it; by the words of requests.
TIES: Mapping[str, type[Unique | Concurrency | Hook]] = {
    "unique": Unique,
    "concurrency": Concurrency,
    "webhook": Hook,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """What somebody asks for; None takes the kind's default."""

    kind: str
    args: Mapping[str, Any]  #: JSON
    queue: str | None = None
    priority: int = DEFAULT_PRIORITY  #: 0 … 9, 9 first
    run_at: datetime | None = None  #: aware
    delay: timedelta | None = None  #: from now, by the database's clock
    max_attempts: int | None = None
    timeout: timedelta | None = None
    expires_in: timedelta | None = None  #: from run_at, or from now
    labels: Mapping[str, str] = field(default_factory=dict)
    concurrency: Concurrency | None = None
    parent_id: UUID | None = None
    rerun_of: UUID | None = None
    unique: Unique | None = None
    after: Sequence[UUID | str] = ()  #: jobs to wait for; `#2`: the third of the same batch
    webhook: Hook | None = None


class NewJob(NamedTuple):
    """A checked submission, in the columns that `enqueue` inserts."""

    id: UUID
    kind: str
    queue: str
    priority: int
    args: str
    redacted_args: str | None
    labels: str
    max_attempts: int
    timeout_seconds: float | None
    run_at: datetime | None
    delay_seconds: float | None
    expires_seconds: float | None
    parent_id: UUID | None
    rerun_of: UUID | None
    schedule_id: UUID | None = None
    concurrency_key: str | None = None
    concurrency_limit: int | None = None
    unique: Unique | None = None
    after: Sequence[UUID] = ()  #: each once
    pointer: str = "#"  #: where it stands in what was sent
    webhook: Hook | None = None
    behind: Sequence[UUID] = ()  #: jobs whose end it waits for, however they end

    @property
    def is_plain(self) -> bool:
        """Whether it is a row that depends on no other, so that it can share a statement."""
        return not (self.unique or self.after or self.webhook or self.behind)


def read_ties(
    document: Mapping[str, Any], sealed: bytes | None = None, rule_id: UUID | None = None
) -> dict[str, Any]:
    """What a rule says of its jobs' ties, as a Submission's fields. InvalidSubmission.

    Its webhook's secret does not stand among them: it is `sealed`, bound to `rule_id`.
    """
    found: dict[str, Any] = {}
    for name, made_of in TIES.items():
        given = document.get(name)
        if given is None:
            continue
        try:
            found[name] = made_of(**given)
        except TypeError:
            known = ", ".join(made_of.__annotations__)
            raise InvalidSubmission(Flaw(f"#/{name}", f"not a mapping of {known}")) from None
    hook = found.get("webhook")
    if hook is not None:
        if any(hook[1:]):
            raise InvalidSubmission(Flaw("#/webhook/secret", "only the API takes secrets"))
        found["webhook"] = hook if sealed is None else Hook(hook.url, None, sealed, rule_id)
    return found


def shown_ties(document: Mapping[str, Any], *, is_signed: bool) -> dict[str, Any]:
    """All ties of what `read_ties` takes, as documents; None for those that there are not."""
    ties = read_ties(document)
    unique, shared, hook = (ties.get(name) for name in TIES)
    return {
        "unique": unique and unique._asdict(),
        "concurrency": shared and {"key": shared.key, "limit": shared.limit},
        "webhook": hook and {"url": hook.url, "signed": is_signed},
    }


def check_all(registry: Registry, submissions: Sequence[Submission]) -> list[NewJob]:
    """The jobs of one request, in its order. InvalidSubmission names the flaws of many together."""
    jobs: list[NewJob] = []
    flaws: list[Flaw] = []
    ids = [uuid7() for _ in submissions]
    for number, submission in enumerate(submissions):
        pointer, earlier = f"#/jobs/{number}", ids[:number]
        try:
            jobs.append(check(registry, submission, pointer, ids[number], earlier=earlier))
        except InvalidSubmission as error:
            flaws.extend(error.flaws)
        if len(flaws) >= MOST_FLAWS:
            break
    flaws.extend(_twice(jobs))
    if flaws:
        raise InvalidSubmission(*flaws)
    return jobs


def check(
    registry: Registry,
    submission: Submission,
    pointer: str = "#",
    job_id: UUID | None = None,
    *,
    earlier: Sequence[UUID] = (),
) -> NewJob:
    """The submission as a new job. InvalidSubmission names the flaws below `pointer`.

    `earlier` are the jobs of the same batch that it may name by their numbers in `after`.
    The args are kept as they were given, so that a handler's model reads them again; for a kind
    with SecretStr fields a redacted copy goes beside them.
    """
    kind = registry.get(submission.kind)
    if kind is None:
        raise InvalidSubmission(Flaw(f"{pointer}/kind", f"there is no kind {submission.kind!r}"))
    if found := [*_out_of_bounds(submission, pointer), *_wrong_ties(submission, pointer)]:
        raise InvalidSubmission(*found)
    args = _json(submission.args, f"{pointer}/args")
    try:
        model = kind.args_model.model_validate_json(args)
    except ValidationError as error:
        raise InvalidSubmission(*flaws(error, f"{pointer}/args")) from None
    timeout = submission.timeout if submission.timeout is not None else kind.timeout
    shared = submission.concurrency
    return NewJob(
        id=job_id or uuid7(),
        kind=kind.name,
        queue=submission.queue or kind.queue,
        priority=submission.priority,
        args=args,
        redacted_args=_redacted(model) if _has_secrets(kind.args_model) else None,
        labels=_labels(submission.labels, f"{pointer}/labels"),
        max_attempts=submission.max_attempts or kind.max_attempts,
        timeout_seconds=_seconds(timeout),
        run_at=submission.run_at,
        delay_seconds=_seconds(submission.delay),
        expires_seconds=_seconds(submission.expires_in),
        parent_id=submission.parent_id,
        rerun_of=submission.rerun_of,
        concurrency_key=None if shared is None else shared.key,
        concurrency_limit=None if shared is None else shared.limit,
        unique=submission.unique,
        after=_parents(submission.after, earlier, f"{pointer}/after") if submission.after else (),
        pointer=pointer,
        webhook=submission.webhook,
    )


def flaws(error: ValidationError, pointer: str) -> Sequence[Flaw]:
    """Pydantic's complaints with JSON pointers (RFC 6901) below `pointer`."""
    return [
        Flaw(
            "/".join([pointer, *map(_escaped, each["loc"])]),
            each["msg"].removeprefix("Value error, "),
        )
        for each in error.errors(include_url=False, include_context=False, include_input=False)
    ]


def fingerprint(submissions: Sequence[Submission], *, batch: bool) -> bytes:
    """SHA-256 of what was asked for, the same however its JSON was written."""
    asked = [
        {
            name: to_jsonable_python(getattr(submission, name))
            for name in Submission.__dataclass_fields__
        }
        for submission in submissions
    ]
    return hashlib.sha256(documents.canonical({"batch": batch, "jobs": asked})).digest()


def _json(document: Any, pointer: str) -> str:
    try:
        text = documents.encode(document)
    except documents.NotStorable as error:
        raise InvalidSubmission(Flaw(pointer, str(error))) from None
    if len(text.encode()) > MAX_ARGS_BYTES:
        raise InvalidSubmission(Flaw(pointer, f"longer than {MAX_ARGS_BYTES} bytes of JSON"))
    return text


def _out_of_bounds(asked: Submission, pointer: str) -> Iterator[Flaw]:
    """What may not be asked of any kind. The API's own bounds lie within these."""
    if asked.queue is not None and not is_queue_name(asked.queue):
        yield Flaw(f"{pointer}/queue", f"no name of a queue: {asked.queue!r:.200}")
    if not _is_within(asked.priority, 0, HIGHEST_PRIORITY):
        yield Flaw(f"{pointer}/priority", f"not a whole number of 0 … {HIGHEST_PRIORITY}")
    if asked.max_attempts is not None and not _is_within(asked.max_attempts, 1, MOST_ATTEMPTS):
        yield Flaw(f"{pointer}/max_attempts", f"not a whole number of 1 … {MOST_ATTEMPTS}")
    for name in ("timeout", "expires_in"):
        duration = getattr(asked, name)
        if duration is not None and not timedelta() < duration <= LONGEST:
            yield Flaw(f"{pointer}/{name}", f"not longer than 0 s, or beyond {LONGEST.days} days")
    if asked.delay is not None and not timedelta() <= asked.delay <= LONGEST:
        yield Flaw(f"{pointer}/delay", f"negative, or beyond {LONGEST.days} days")
    yield from _wrong_sharing(asked.concurrency, f"{pointer}/concurrency")
    if asked.run_at is not None:
        yield from _wrong_time(asked.run_at, f"{pointer}/run_at")
        if asked.delay is not None:
            yield Flaw(pointer, "run_at and delay exclude each other")


def _wrong_ties(asked: Submission, pointer: str) -> Iterator[Flaw]:
    if asked.unique is not None:
        yield from _wrong_key(asked.unique, f"{pointer}/unique")
    if asked.webhook is not None and not _HTTP.match(asked.webhook.url):
        yield Flaw(f"{pointer}/webhook/url", "no address that begins with https:// or http://")


def _wrong_sharing(asked: Concurrency | None, pointer: str) -> Iterator[Flaw]:
    if asked is None:
        return
    key = asked.key
    is_text = isinstance(key, str) and documents.storable_text(key) == key
    if not is_text or not 0 < len(key) <= MAX_KEY_LENGTH:
        yield Flaw(f"{pointer}/key", f"not a text of 1 … {MAX_KEY_LENGTH} characters")
    if asked.limit is not None and not _is_within(asked.limit, 1, MOST_AT_A_TIME):
        yield Flaw(f"{pointer}/limit", f"not a whole number of 1 … {MOST_AT_A_TIME}")


def _wrong_time(run_at: object, pointer: str) -> Iterator[Flaw]:
    if not isinstance(run_at, datetime) or run_at.utcoffset() is None:
        yield Flaw(pointer, "not a time with a zone")
    elif not EARLIEST <= run_at <= datetime.now(UTC) + LONGEST:
        yield Flaw(pointer, f"before {EARLIEST.year}, or beyond {LONGEST.days} days")


def _wrong_key(unique: Unique, pointer: str) -> Iterator[Flaw]:
    key = unique.key
    if not isinstance(key, str) or not 0 < len(key) <= MAX_KEY_LENGTH or "\0" in key:
        yield Flaw(f"{pointer}/key", f"not a text of 1 … {MAX_KEY_LENGTH} characters")
    if unique.scope not in SCOPES:
        yield Flaw(f"{pointer}/scope", f"none of {', '.join(SCOPES)}")
    if unique.on_conflict not in POLICIES:
        yield Flaw(f"{pointer}/on_conflict", f"none of {', '.join(POLICIES)}")


def _parents(after: Sequence[UUID | str], earlier: Sequence[UUID], pointer: str) -> Sequence[UUID]:
    """The ids, each once; a batch's own jobs by `#` and their number, which is a lower one."""
    if isinstance(after, str) or len(after) > MOST_PARENTS:
        raise InvalidSubmission(Flaw(pointer, f"not a list of at most {MOST_PARENTS} ids"))
    parents: dict[UUID, None] = {}
    for number, parent in enumerate(after):
        text = str(parent)
        try:
            found = earlier[int(text[1:])] if _SIBLING.fullmatch(text) else UUID(text)
        except (IndexError, ValueError):
            said = "no id of a job, nor the number of an earlier one of the batch"
            raise InvalidSubmission(Flaw(f"{pointer}/{number}", said)) from None
        parents[found] = None
    return [*parents]


def _twice(jobs: Sequence[NewJob]) -> Iterator[Flaw]:
    """Unique keys that one request brings more than once."""
    seen: dict[str, str] = {}
    for job in jobs:
        if job.unique is not None:
            first = seen.setdefault(job.unique.key, job.pointer)
            if first != job.pointer:
                yield Flaw(f"{job.pointer}/unique/key", f"stands at {first} as well")


def _is_within(value: object, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _labels(labels: Mapping[str, str], pointer: str) -> str:
    if not isinstance(labels, Mapping):
        raise InvalidSubmission(Flaw(pointer, "not a mapping of texts to texts"))
    if len(labels) > MAX_LABELS:
        raise InvalidSubmission(Flaw(pointer, f"more than {MAX_LABELS} labels"))
    for key, value in labels.items():
        if not (isinstance(key, str) and isinstance(value, str)):
            raise InvalidSubmission(Flaw(pointer, f"not a text: {key!r:.100}: {value!r:.100}"))
        if not 0 < len(key) <= MAX_LABEL_LENGTH or len(value) > MAX_LABEL_LENGTH:
            where = f"{pointer}/{_escaped(key)}"
            raise InvalidSubmission(Flaw(where, f"longer than {MAX_LABEL_LENGTH} characters"))
    return _json(dict(labels), pointer)


@cache
def _has_secrets(model: type[BaseModel]) -> bool:
    """Pydantic marks SecretStr and SecretBytes in a schema as writeOnly."""
    return '"writeOnly": true' in json.dumps(model.model_json_schema())


def _redacted(model: BaseModel) -> str:
    return documents.encode(model.model_dump(mode="json", by_alias=True))


def _escaped(part: str | int) -> str:
    return str(part).replace("~", "~0").replace("/", "~1")


def _seconds(duration: timedelta | None) -> float | None:
    return None if duration is None else duration.total_seconds()
