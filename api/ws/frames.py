"""The frames of the subprotocol lading.v1, from which /asyncapi.json is made.

What clients send is read through these models; what the server sends is written without them
(events pass by the thousand), and tests hold the two together.
"""

from datetime import datetime
from typing import Annotated, Any, Literal, get_args
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from api import schemas
from api.bodies import Label, LabelKey, Text
from api.bus import answers
from api.bus.following import MOST_TYPES, OLDEST, ConsumerName
from api.streams import Event, Seq
from jobs.feed import MOST_OF_POSITION
from jobs.states import JobState
from jobs.submissions import MAX_LABELS
from lading.authoring import NAME_LENGTH
from lading.patterns import LENGTH

SUBPROTOCOL = "lading.v1"
MOST_BYTES = 65536  # of a frame that comes in
LONGEST_ID = 64  # characters
JOB = "job:"  # how the names of jobs' streams begin

Id = Annotated[
    str,
    Field(
        min_length=1, max_length=LONGEST_ID, description="Chosen by the client; answers repeat it"
    ),
]
Name = Annotated[Text, Field(max_length=NAME_LENGTH)]
Position = Annotated[
    str, Field(max_length=MOST_OF_POSITION, description="Opaque: give it back as it came")
]


class _Said(BaseModel):
    """By a client; fields that are not known are ignored."""

    model_config = ConfigDict(extra="ignore")


class AfterSeq(_Said):
    seq: Seq = Field(description="The newest event that the client has; 0: none")


class AfterPosition(_Said):
    position: Position


class Filter(_Said):
    """Which jobs' events; what is absent does not narrow it."""

    model_config = ConfigDict(extra="forbid")

    kind: Name | None = None
    queue: Name | None = None
    state: JobState | list[JobState] | None = Field(
        default=None, description="In which the event leaves the job"
    )
    label: Annotated[dict[LabelKey, Label], Field(max_length=MAX_LABELS)] | None = Field(
        default=None, description="All of these"
    )


class SubscribeJob(_Said):
    """Follow a job: all its events, or those after `after.seq`, and then what happens."""

    type: Literal["subscribe"]
    id: Id
    stream: str = Field(
        pattern=f"^{JOB}[0-9A-Fa-f]{{8}}(-[0-9A-Fa-f]{{4}}){{3}}-[0-9A-Fa-f]{{12}}$",
        description="`job:` and the job's id",
    )
    after: AfterSeq | None = None


class SubscribeJobs(_Said):
    """Follow all jobs that fit the filter: from now on, or from a position."""

    type: Literal["subscribe"]
    id: Id
    stream: Literal["jobs"]
    filter: Filter | None = None
    after: AfterPosition | None = None


Pattern = Annotated[Text, Field(min_length=1, max_length=LENGTH)]


class EventFilter(_Said):
    """Which events; what is absent does not narrow it."""

    model_config = ConfigDict(extra="forbid")

    type: Pattern | Annotated[list[Pattern], Field(min_length=1, max_length=MOST_TYPES)] | None = (
        Field(default=None, description="Patterns of types: `user.created`, `user.*`, `*`")
    )


class SubscribeEvents(_Said):
    """Follow the events of the bus: from now on, or from a position.

    With `consumer` it goes on where that was acknowledged; `after` is where a new one begins. Who
    followed under the name before gets an `error` (`consumer-taken`), and no more events.
    """

    type: Literal["subscribe"]
    id: Id
    stream: Literal["events"]
    filter: EventFilter | None = None
    consumer: ConsumerName | None = None
    after: AfterPosition | None = Field(
        default=None, description=f"The position may be `{OLDEST}`: all that is kept"
    )

    @property
    def types(self) -> list[str]:
        """The patterns that were asked for."""
        asked = self.filter and self.filter.type
        return [asked] if isinstance(asked, str) else asked or []


class Acknowledge(_Said):
    """All events of that subscription, which has a `consumer`, are done with up to there."""

    type: Literal["ack"]
    id: Id
    position: Position


class Unsubscribe(_Said):
    """No more of that subscription; it is not answered."""

    type: Literal["unsubscribe"]
    id: Id


class Command(_Said):
    """Ask for something; the answer is that of REST, as `result` or `error`."""

    type: Literal["command"]
    id: Id
    op: Literal["job.submit", "job.cancel", "job.retry", "event.publish"]
    idempotency_key: str | None = Field(
        default=None,
        pattern=r"^[ -~]{1,255}$",
        description="With job.submit, the same key and the same body do it once; of an event"
        " without an id it is that. With the others it says nothing",
    )
    body: dict[str, Any] = Field(
        description="job.submit: as POST /v1/jobs; job.cancel: `job_id` and `reason`?;"
        " job.retry: `job_id`; event.publish: as POST /v1/events takes one event"
    )


class Ping(_Said):
    """Ask for a sign of life."""

    type: Literal["ping"]
    t: JsonValue = Field(default=None, description="Comes back with `pong`")


class _Sent(BaseModel):
    """By the server."""

    model_config = ConfigDict(extra="forbid")


class Limits(_Sent):
    frame_bytes: int = Field(description="Of a frame from the client")
    connections: int = Field(description="Sockets of one key at one process")
    subscriptions: int = Field(description="Of one socket")
    commands_per_second: int = Field(description="Of one key, in the long run")
    commands_at_once: int = Field(description="Of one key, after a silence")


class Welcome(_Sent):
    """The first frame: the socket is open, and its client is known."""

    type: Literal["welcome"]
    session: UUID
    server_time: datetime
    heartbeat_seconds: int = Field(
        description="Send a `ping` so often; when nothing came for twice as long, come back"
    )
    limits: Limits


class Subscribed(_Sent):
    """To `subscribe`: events follow. `seq` for a job's stream, `position` for the others.

    The position is that of `after`, of what the consumer acknowledged, or now: safe to keep.
    """

    type: Literal["subscribed"]
    id: Id
    seq: int | None = Field(default=None, description="Of the snapshot")
    position: Position | None = None
    snapshot: schemas.Job | schemas.JobPage | None = Field(
        description="The job as it is; for `jobs` without `after`, the newest that fit the filter;"
        " null for `events`"
    )


class EventFrame(_Sent):
    """One event, at least once; a job's in the order of `seq`."""

    type: Literal["event"]
    id: Id
    position: Position | None = Field(
        default=None, description="Of `jobs` and `events`: resume from the newest one that came"
    )
    event: Event | answers.StreamedEvent


class Acknowledged(_Sent):
    """To `ack`: who follows under the consumer's name next begins there.

    That is further on than was said, if so much had been acknowledged before.
    """

    type: Literal["acked"]
    id: Id
    position: Position


class Reset(_Sent):
    """The stream does not go on from where it was: it ends, or goes on from now.

    Nothing is lost with `slow`. With `position-unknown` it is the second frame, after `subscribed`,
    whose position counts; the snapshot, of `jobs` alone, stands for what was missed.
    """

    type: Literal["reset"]
    id: Id
    reason: Literal["slow", "position-unknown"] = Field(
        description="slow: the socket is closed with 4508, resume from what you keep;"
        " position-unknown: of another life of the database; events go on from now"
    )
    snapshot: schemas.Job | schemas.JobPage | None


class Result(_Sent):
    """To `command`: what REST would have answered."""

    type: Literal["result"]
    id: Id
    status: int
    body: schemas.Job | answers.PublishedEvent


class ErrorFrame(_Sent):
    """To a frame that was refused, or instead of more events.

    A subscription has ended if it comes before `subscribed` (and is not `subscription-exists`), or
    is `job-not-found`, `consumer-taken` or `consumer-deleted`. Else it was about an `ack`.
    """

    type: Literal["error"]
    id: str | None = Field(description="null: the frame had none that could be read")
    problem: schemas.Problem


class Pong(_Sent):
    """To `ping`."""

    type: Literal["pong"]
    t: JsonValue


class Bye(_Sent):
    """The socket is closed with this code next; come back after so long."""

    type: Literal["bye"]
    code: int
    retry_after_ms: int


def type_of(model: type[BaseModel]) -> str:
    """The `type` of the frames that the model describes."""
    (name,) = get_args(model.model_fields["type"].annotation)
    return str(name)


CLIENT: tuple[type[BaseModel], ...] = (
    *(SubscribeJob, SubscribeJobs, SubscribeEvents, Acknowledge),
    *(Unsubscribe, Command, Ping),
)
SERVER: tuple[type[BaseModel], ...] = (
    *(Welcome, Subscribed, EventFrame, Reset),
    *(Acknowledged, Result, ErrorFrame, Pong, Bye),
)
