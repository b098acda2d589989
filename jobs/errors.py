"""What this package refuses to do. Knows no transport: api/errors.py maps these to HTTP."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from jobs.states import JobState


class JobsError(Exception):
    """The request is understood and cannot be granted."""


class JobNotFound(JobsError):
    def __init__(self, job_id: UUID) -> None:
        super().__init__(f"no job {job_id}")
        self.job_id = job_id


class FileMissing(JobsError):
    def __init__(self, file_id: UUID) -> None:
        super().__init__(f"no file {file_id}")
        self.file_id = file_id


class KeyMissing(JobsError):
    def __init__(self, key_id: str) -> None:
        super().__init__(f"no key {key_id}")
        self.key_id = key_id


class WebhookMissing(JobsError):
    def __init__(self, webhook_id: UUID) -> None:
        super().__init__(f"no webhook {webhook_id}")
        self.webhook_id = webhook_id


class DeliveryMissing(JobsError):
    def __init__(self, delivery_id: UUID) -> None:
        super().__init__(f"no delivery {delivery_id}")
        self.delivery_id = delivery_id


class WebhookOff(JobsError):
    def __init__(self, webhook_id: UUID) -> None:
        super().__init__(f"webhook {webhook_id} is switched off")
        self.webhook_id = webhook_id


class DeliveryPending(JobsError):
    def __init__(self, delivery_id: UUID) -> None:
        super().__init__(f"delivery {delivery_id} has not ended yet")
        self.delivery_id = delivery_id


class SecretKeyMissing(JobsError):
    """LADING_SECRET_KEY is not set, so that no secret can be kept."""

    def __init__(self) -> None:
        super().__init__("the server has no LADING_SECRET_KEY to keep secrets with")


class EventMissing(JobsError):
    def __init__(self, event_id: UUID) -> None:
        super().__init__(f"no event {event_id}")
        self.event_id = event_id


class ConsumerMissing(JobsError):
    def __init__(self, name: str) -> None:
        super().__init__(f"no consumer {name}")
        self.name = name


class ConsumerTaken(JobsError):
    """Somebody else follows under the name now."""

    def __init__(self, name: str) -> None:
        super().__init__(f"another member follows events as {name} now")
        self.name = name


class ConsumerDeleted(JobsError):
    """Nobody follows under the name any more, and its position is forgotten."""

    def __init__(self, name: str) -> None:
        super().__init__(f"the consumer {name} was deleted")
        self.name = name


class PositionUnknown(JobsError):
    """This database has not come to that position: it is of another one, or of none."""

    def __init__(self) -> None:
        super().__init__("no position that this database has come to")


class TriggerMissing(JobsError):
    def __init__(self, trigger_id: UUID) -> None:
        super().__init__(f"no trigger {trigger_id}")
        self.trigger_id = trigger_id


class TriggerInCode(JobsError):
    """The trigger stands in code, beside its handler: it is switched on and off, no more."""

    def __init__(self, trigger_id: UUID) -> None:
        super().__init__(f"trigger {trigger_id} stands in code: only `enabled` can be changed")
        self.trigger_id = trigger_id


class CountDiffers(JobsError):
    """What was previewed is not what there is now: nothing was done."""

    def __init__(self, confirmed: int, count: int) -> None:
        super().__init__(f"{confirmed} were confirmed, and there are {count} now")
        self.confirmed, self.count = confirmed, count


class BulkMissing(JobsError):
    def __init__(self, operation_id: UUID) -> None:
        super().__init__(f"no bulk operation {operation_id}")
        self.operation_id = operation_id


class BulkEnded(JobsError):
    def __init__(self, operation_id: UUID) -> None:
        super().__init__(f"the bulk operation {operation_id} is done")
        self.operation_id = operation_id


class BulkTooLarge(JobsError):
    """More jobs fit than one operation may mean, or than can be counted in time."""

    def __init__(self, most: int) -> None:
        super().__init__(f"more than {most} jobs, or too many to count in time: narrow the filter")
        self.most = most


class KeyGone(JobsError):
    """The key that asks has been deleted, or has expired, since it was last looked at."""

    def __init__(self, key_id: str) -> None:
        super().__init__("the API key is not valid")
        self.key_id = key_id


class ProjectMissing(JobsError):
    def __init__(self, project_id: str) -> None:
        super().__init__(f"no project {project_id}")
        self.project_id = project_id


class ProjectExists(JobsError):
    def __init__(self, project_id: str) -> None:
        super().__init__(f"there is a project {project_id} already")
        self.project_id = project_id


class LimitMissing(JobsError):
    def __init__(self, name: str) -> None:
        super().__init__(f"no limit {name}")
        self.name = name


class ScheduleMissing(JobsError):
    def __init__(self, schedule_id: UUID) -> None:
        super().__init__(f"no schedule {schedule_id}")
        self.schedule_id = schedule_id


class ScheduleExists(JobsError):
    """The project has another schedule of this name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is a schedule {name!r} already")
        self.name = name


class ScheduleFromCode(JobsError):
    """What a schedule from code does is changed there; here it is paused, resumed and run."""

    def __init__(self, name: str) -> None:
        super().__init__(f"the schedule {name!r} stands in the code of its kind")
        self.name = name


class InvalidTransition(JobsError):
    def __init__(self, job_id: UUID, current: JobState, requested: str) -> None:
        super().__init__(f"job {job_id} is {current}; {requested} is not possible from there")
        self.job_id, self.current, self.requested = job_id, current, requested


class LeaseLost(JobsError):
    """The attempt does not hold the job: its doorbell is stale, or the job went on without it."""

    def __init__(self, job_id: UUID, attempt: int) -> None:
        super().__init__(f"attempt {attempt} does not hold job {job_id}")
        self.job_id, self.attempt = job_id, attempt


@dataclass(frozen=True, slots=True)
class Flaw:
    """One thing that is wrong with a document: `pointer` is a JSON pointer into it (RFC 6901)."""

    pointer: str
    detail: str


class InvalidSubmission(JobsError):
    """The kind is unknown, the args do not fit it, or a limit is passed. Nothing was stored."""

    def __init__(self, *flaws: Flaw) -> None:
        super().__init__("; ".join(f"{flaw.pointer}: {flaw.detail}" for flaw in flaws))
        self.flaws = flaws


class KeyReused(JobsError):
    """The idempotency key came with another body before."""

    def __init__(self, key: str, first_seen_at: datetime) -> None:
        super().__init__(f"idempotency key {key!r} was used for another request before")
        self.key, self.first_seen_at = key, first_seen_at


class KeyInFlight(JobsError):
    """A request with the same idempotency key has not ended yet."""

    def __init__(self, key: str) -> None:
        super().__init__(f"a request with the idempotency key {key!r} is still in flight")
        self.key = key


class JobDeleted(JobsError):
    """The idempotency key's job has been deleted since."""

    def __init__(self, key: str) -> None:
        super().__init__(f"the job that idempotency key {key!r} made has been deleted")
        self.key = key


class UniqueConflict(JobsError):
    """Another job has the unique key, and it stays."""

    def __init__(self, key: str, job_id: UUID | None) -> None:
        holder = "a job that is being submitted just now" if job_id is None else f"job {job_id}"
        super().__init__(f"the unique key {key!r} is held by {holder}")
        self.key, self.job_id = key, job_id


class BatchNotFound(JobsError):
    def __init__(self, batch_id: UUID) -> None:
        super().__init__(f"no batch {batch_id}")
        self.batch_id = batch_id


class BatchClosed(JobsError):
    """The batch has ended, or its last jobs have been submitted."""

    def __init__(self, batch_id: UUID, requested: str) -> None:
        super().__init__(f"batch {batch_id} has ended or is closed; {requested} is not possible")
        self.batch_id, self.requested = batch_id, requested


class DatabaseUnavailable(JobsError):
    """PostgreSQL does not answer. What was asked may or may not have been done."""

    def __init__(self) -> None:
        super().__init__("the database does not answer")


class BrokerUnavailable(JobsError):
    """The broker does not answer. What was sent may or may not have arrived."""

    def __init__(self) -> None:
        super().__init__("the broker does not answer")
