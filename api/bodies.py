"""What clients send, with the bounds that keep everything within what PostgreSQL stores."""

import math
import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    HttpUrl,
    SecretStr,
    model_validator,
)

from jobs.enqueue import FailurePolicy
from jobs.keys.limits import MOST_PATTERNS, PATTERN, KeyLimits
from jobs.keys.scopes import ROLES, Scope
from jobs.submissions import (
    DEFAULT_PRIORITY,
    EARLIEST,
    HIGHEST_PRIORITY,
    LONGEST,
    MAX_KEY_LENGTH,
    MAX_LABEL_LENGTH,
    MAX_LABELS,
    MOST_AT_A_TIME,
    MOST_ATTEMPTS,
    MOST_PARENTS,
    Concurrency,
    Hook,
    OnConflict,
    Submission,
    Unique,
)
from jobs.submissions import Scope as UniqueScope
from jobs.webhooks.signing import secret_bytes
from lading.authoring import NAME_LENGTH, QUEUE

MOST_IN_BATCH = 1000
_LATEST = datetime(9000, 1, 1, tzinfo=UTC)  # far enough from the last day that Python can name
_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")
_STORABLE = r"^[^\x00]*$"  # PostgreSQL keeps any character but this one


def _is_number(value: Any) -> Any:
    if isinstance(value, bool | str):
        raise ValueError("Input should be a number")  # noqa: TRY004 - Pydantic reports ValueError
    return value


def _is_rfc_3339(value: Any) -> Any:
    if not (isinstance(value, str) and _RFC_3339.fullmatch(value)):
        raise ValueError("Input should be a time with date and offset, as RFC 3339 writes it")
    return value


def _is_storable(value: datetime) -> datetime:
    if not EARLIEST <= value <= _LATEST:
        raise ValueError(f"Input should lie between {EARLIEST.year} and {_LATEST.year}")
    return value


def _is_near(value: datetime) -> datetime:
    if value - datetime.now(UTC) > LONGEST:
        raise ValueError("Input should lie within the next ten years")
    return value


def _without_secrets(url: HttpUrl) -> HttpUrl:
    if url.username or url.password:
        raise ValueError("credentials do not belong into the address; deliveries are signed")
    if url.fragment is not None:
        raise ValueError("a fragment is not sent")
    return url


def _is_secret(value: SecretStr) -> SecretStr:
    secret_bytes(value.get_secret_value())
    return value


Integer = Annotated[int, BeforeValidator(_is_number)]
Seconds = Annotated[
    float, BeforeValidator(_is_number), Field(le=LONGEST.total_seconds(), allow_inf_nan=False)
]
Moment = Annotated[AwareDatetime, BeforeValidator(_is_rfc_3339), AfterValidator(_is_storable)]
Text = Annotated[str, Field(pattern=_STORABLE)]
WebhookUrl = Annotated[HttpUrl, AfterValidator(_without_secrets), Field(max_length=2000)]
QueueName = Annotated[str, Field(pattern=f"^(?:{QUEUE.pattern})$", max_length=NAME_LENGTH)]
KindPattern = Annotated[str, Field(pattern=f"^(?:{PATTERN.pattern})$", max_length=NAME_LENGTH)]
Label = Annotated[str, Field(pattern=_STORABLE, max_length=MAX_LABEL_LENGTH)]
LabelKey = Annotated[str, Field(pattern=_STORABLE, min_length=1, max_length=MAX_LABEL_LENGTH)]


def _example(body: dict[str, Any]) -> ConfigDict:
    """What the documentation offers to be tried out."""
    return ConfigDict(json_schema_extra={"examples": [body]})


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class UniqueKey(_Body):
    """There is one job of the project with the key at a time."""

    key: Annotated[Text, Field(min_length=1, max_length=MAX_KEY_LENGTH)] = Field(
        description="What only one job may have", examples=["invoice-17"]
    )
    scope: UniqueScope = Field(
        default="active",
        description="`active`: until that job has ended; `queued`: until it has started",
    )
    on_conflict: OnConflict = Field(
        default="reject",
        description="`reject`: 409 with the `job_id` that has the key; `return`: 200 with that job;"
        " `replace`: it is cancelled, unless it runs",
    )


class JobWebhook(_Body):
    """Who is told how the job has ended."""

    url: WebhookUrl = Field(
        description="Where `job.succeeded`, `job.failed` or `job.cancelled` is POSTed",
        examples=["https://example.org/hooks"],
    )
    secret: Annotated[SecretStr, AfterValidator(_is_secret)] | None = Field(
        default=None, description="`whsec_…`, to sign it with; without, it is not signed"
    )

    def hook(self) -> Hook:
        """The same as the domain takes it."""
        return Hook(str(self.url), self.secret.get_secret_value() if self.secret else None)


class Sharing(_Body):
    """What jobs of one key share: turns with other keys', and how many of them run at a time."""

    key: Annotated[Text, Field(min_length=1, max_length=MAX_KEY_LENGTH)] = Field(
        description="Of this project", examples=["tenant-7"]
    )
    limit: Annotated[Integer, Field(ge=1, le=MOST_AT_A_TIME)] | None = Field(
        default=None,
        description="At most so many of the key's jobs run at a time; the newest submission's"
        " counts for all, and null leaves the limit as it is",
    )

    def domain(self) -> Concurrency:
        """The same as the domain takes it."""
        return Concurrency(self.key, self.limit)


class NewJob(_Body):
    """A request to run a kind."""

    model_config = _example({"kind": "demo.sleep", "args": {"seconds": 1}})

    kind: str = Field(
        min_length=1,
        max_length=NAME_LENGTH,
        description="What to run; `GET /v1/kinds` lists them",
        examples=["demo.sleep"],
    )
    args: dict[str, Any] = Field(
        description="What the kind's own schema asks for; 256 KiB at most",
        examples=[{"seconds": 1}],
    )
    queue: QueueName | None = Field(
        default=None, description="Instead of the kind's own", examples=["default"]
    )
    priority: Annotated[Integer, Field(ge=0, le=HIGHEST_PRIORITY)] = Field(
        default=DEFAULT_PRIORITY, description="9 goes first"
    )
    run_at: Annotated[Moment, AfterValidator(_is_near)] | None = Field(
        default=None, description="Not before this time; not together with `delay`"
    )
    delay: Annotated[Seconds, Field(ge=0)] | None = Field(
        default=None, description="Not before so many seconds from now"
    )
    max_attempts: Annotated[Integer, Field(ge=1, le=MOST_ATTEMPTS)] | None = Field(
        default=None, description="So many failures end the job; instead of the kind's own"
    )
    timeout: Annotated[Seconds, Field(gt=0)] | None = Field(
        default=None, description="Seconds that one attempt may take; instead of the kind's own"
    )
    expires_in: Annotated[Seconds, Field(gt=0)] | None = Field(
        default=None,
        description="Cancelled if not started within so many seconds from `run_at`, or from now",
    )
    labels: Annotated[dict[LabelKey, Label], Field(max_length=MAX_LABELS)] = Field(
        default_factory=dict,
        description="To find it by: `GET /v1/jobs?label.customer=17`",
        examples=[{"customer": "17"}],
    )
    unique: UniqueKey | None = Field(default=None, description="At most one such job at a time")
    after: Annotated[list[Text], Field(max_length=MOST_PARENTS)] = Field(
        default_factory=list,
        description="Ids of jobs that have to succeed first; until then it is `waiting`, and if one"
        " does not, `cancelled`, reason `dependency`. In a batch `#0` is its first job",
        examples=[[]],
    )
    webhook: JobWebhook | None = Field(default=None, description="Told how this job has ended")

    concurrency: Sharing | None = Field(
        default=None, description="Take turns with other keys' jobs, and heed the key's limit"
    )

    @model_validator(mode="after")
    def _starts_at_one_time(self) -> Self:
        if self.run_at is not None and self.delay is not None:
            raise ValueError("run_at and delay exclude each other")
        return self

    def submission(self) -> Submission:
        """The same as the domain takes it."""
        return Submission(
            kind=self.kind,
            args=self.args,
            queue=self.queue,
            priority=self.priority,
            run_at=self.run_at,
            delay=_duration(self.delay),
            max_attempts=self.max_attempts,
            timeout=_duration(self.timeout),
            expires_in=_duration(self.expires_in),
            labels=self.labels,
            unique=Unique(**dict(self.unique)) if self.unique else None,
            after=self.after,
            webhook=self.webhook.hook() if self.webhook else None,
            concurrency=None if self.concurrency is None else self.concurrency.domain(),
        )


class NewJobs(_Body):
    """Several requests, all of which are accepted, or none."""

    model_config = _example({"jobs": [{"kind": "demo.sleep", "args": {"seconds": 1}}]})

    jobs: Annotated[list[NewJob], Field(min_length=1, max_length=MOST_IN_BATCH)]
    on_complete: NewJob | None = Field(
        default=None, description="Runs once all have ended, however they did"
    )
    on_success: NewJob | None = Field(
        default=None,
        description="Runs once all have succeeded; else it is cancelled, reason `dependency`",
    )
    failure_policy: FailurePolicy | None = Field(
        default=None,
        description="`continue` (the default): the others run on; `fail_fast`: the first that has"
        " failed ends them",
    )
    open: bool | None = Field(
        default=None,
        description="More jobs follow, by `POST /v1/batches/{id}/jobs`: it does not end before",
    )

    @property
    def is_batch(self) -> bool:
        """Whether anything is asked for that needs a batch to be kept."""
        asked = (self.on_complete, self.on_success, self.failure_policy, self.open)
        return any(each is not None for each in asked)


class MoreJobs(_Body):
    """More jobs of an open batch."""

    model_config = _example({"jobs": [{"kind": "demo.sleep", "args": {"seconds": 1}}]})

    jobs: Annotated[list[NewJob], Field(min_length=1, max_length=MOST_IN_BATCH)]
    open: bool = Field(default=False, description="Still more follow")


class Cancellation(_Body):
    """Why a job should end."""

    model_config = _example({"reason": "not needed any more"})

    reason: Annotated[Text, Field(max_length=1000)] | None = Field(
        default=None, description="Stands in the `cancelled` event"
    )


class Rerun(_Body):
    """What the repetition does otherwise."""

    model_config = _example({"args": {"seconds": 2}})

    args: dict[str, Any] | None = Field(default=None, description="Instead of the first job's")


class KeyRate(_Body):
    """How often a key may ask; each API process counts for itself."""

    per_second: Annotated[float, BeforeValidator(_is_number), Field(gt=0, le=100_000)] = Field(
        description="Requests a second", examples=[10]
    )
    burst: Annotated[Integer, Field(ge=1, le=1_000_000)] | None = Field(
        default=None,
        description="Requests at once, after a while of silence; those of a second, if not given",
    )


class NewKey(_Body):
    """A request for an API key. What is not given is as wide as the key's that asks."""

    model_config = _example({"name": "deploy", "role": "submitter", "kinds": ["email.*"]})

    name: Annotated[Text, Field(min_length=1, max_length=100)] = Field(
        description="What people know it by", examples=["deploy"]
    )
    scopes: Annotated[list[Scope], Field(min_length=1)] | None = Field(
        default=None, description="What it opens; everything, if neither they nor a role are given"
    )
    role: Literal["reader", "submitter", "operator", "admin"] | None = Field(
        default=None, description="A usual set of scopes, instead of them"
    )
    kinds: Annotated[list[KindPattern], Field(min_length=1, max_length=MOST_PATTERNS)] | None = (
        Field(default=None, description="Patterns of the kinds that it may run", examples=[["*"]])
    )
    expires_at: Annotated[Moment, AfterValidator(_is_near)] | None = Field(
        default=None, description="From then on it opens nothing"
    )
    rate: KeyRate | None = Field(default=None, description="How often it may ask")

    @model_validator(mode="after")
    def _says_once_what_it_opens(self) -> Self:
        if self.scopes is not None and self.role is not None:
            raise ValueError("scopes and role exclude each other")
        return self

    def opens(self) -> frozenset[Scope]:
        """The scopes, whichever way they were named."""
        if self.role is not None:
            return ROLES[self.role]
        return frozenset(self.scopes or [Scope.ADMIN])

    def limits(self) -> KeyLimits:
        """What was asked for; None where nothing was."""
        if self.rate is None:
            return KeyLimits(self.kinds, self.expires_at)
        burst = self.rate.burst or max(1, math.ceil(self.rate.per_second))
        return KeyLimits(self.kinds, self.expires_at, self.rate.per_second, burst)


class NewProject(_Body):
    """A request for a project."""

    model_config = _example({"id": "shop", "name": "The web shop"})

    id: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,62}$")] = Field(
        description="As in addresses", examples=["shop"]
    )
    name: Annotated[Text, Field(min_length=1, max_length=100)] | None = Field(
        default=None, description="What people call it; its id, if not given"
    )


class NewTicket(_Body):
    """A request for a ticket."""

    model_config = _example({"scopes": ["jobs:read"]})

    scopes: Annotated[
        list[
            Literal[
                Scope.JOBS_READ,
                Scope.JOBS_WRITE,
                Scope.EVENTS_READ,
                Scope.EVENTS_WRITE,
            ]
        ],
        Field(min_length=1),
    ] = Field(description="What its socket may do; if not given, what the key may")


def _duration(seconds: float | None) -> timedelta | None:
    return None if seconds is None else timedelta(seconds=seconds)
