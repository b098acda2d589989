"""What clients send to have jobs made: now, at each tick of a schedule, or of each event.

What jobs can be asked to be like is said once, in RuleOptions; a submission says more of it.
"""

from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator

from api.bodies import (
    Integer,
    Label,
    LabelKey,
    Moment,
    QueueName,
    Seconds,
    Text,
    WebhookUrl,
    _Body,
    _duration,
    _example,
    _is_near,
    _is_secret,
)
from jobs.enqueue import FailurePolicy
from jobs.submissions import (
    DEFAULT_PRIORITY,
    HIGHEST_PRIORITY,
    MAX_KEY_LENGTH,
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
from lading.authoring import NAME_LENGTH

MOST_IN_BATCH = 1000

Priority = Annotated[Integer, Field(ge=0, le=HIGHEST_PRIORITY)]
Labels = Annotated[dict[LabelKey, Label], Field(max_length=MAX_LABELS)]


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


class JobWebhook(_Body):
    """Who is told how a job has ended."""

    url: WebhookUrl = Field(
        description="Where `job.succeeded`, `job.failed` or `job.cancelled` is POSTed",
        examples=["https://example.org/hooks"],
    )
    secret: Annotated[SecretStr, AfterValidator(_is_secret)] | None = Field(
        default=None,
        description="`whsec_…`, to sign it with; without, it is not signed. Shown nowhere; where a"
        " rule is changed, one that is left out stays, and null takes it away",
    )

    def hook(self) -> Hook:
        """The same as the domain takes it."""
        return Hook(str(self.url), self.secret.get_secret_value() if self.secret else None)


class RuleOptions(_Body):
    """How jobs are run, whoever asks for them: a submission, a schedule, a trigger.

    Null and what is left out, the kind decides.
    """

    queue: QueueName | None = Field(
        default=None, description="Instead of the kind's own", examples=["default"]
    )
    priority: Priority | None = Field(default=None, description="9 goes first; 5, if not given")
    max_attempts: Annotated[Integer, Field(ge=1, le=MOST_ATTEMPTS)] | None = Field(
        default=None, description="So many failures end the job; instead of the kind's own"
    )
    timeout: Annotated[Seconds, Field(gt=0)] | None = Field(
        default=None, description="Seconds that one attempt may take; instead of the kind's own"
    )
    expires_in: Annotated[Seconds, Field(gt=0)] | None = Field(
        default=None, description="Cancelled if not started within so many seconds of its time"
    )
    labels: Labels | None = Field(
        default=None,
        description="To find it by: `GET /v1/jobs?label.customer=17`",
        examples=[{"customer": "17"}],
    )
    unique: UniqueKey | None = Field(default=None, description="At most one such job at a time")
    concurrency: Sharing | None = Field(
        default=None, description="Take turns with other keys' jobs, and heed the key's limit"
    )
    webhook: JobWebhook | None = Field(default=None, description="Told how each job has ended")


class NewJob(RuleOptions):
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
    priority: Priority = Field(default=DEFAULT_PRIORITY, description="9 goes first")
    run_at: Annotated[Moment, AfterValidator(_is_near)] | None = Field(
        default=None, description="Not before this time; not together with `delay`"
    )
    delay: Annotated[Seconds, Field(ge=0)] | None = Field(
        default=None, description="Not before so many seconds from now"
    )
    labels: Labels = Field(
        default_factory=dict,
        description="To find it by: `GET /v1/jobs?label.customer=17`",
        examples=[{"customer": "17"}],
    )
    after: Annotated[list[Text], Field(max_length=MOST_PARENTS)] = Field(
        default_factory=list,
        description="Ids of jobs that have to succeed first; until then it is `waiting`, and if one"
        " does not, `cancelled`, reason `dependency`. In a batch `#0` is its first job",
        examples=[[]],
    )
    webhook: JobWebhook | None = Field(default=None, description="Told how this job has ended")

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
