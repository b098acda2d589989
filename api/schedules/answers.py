"""What is answered about schedules: the shapes that the OpenAPI document promises."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from api.schemas import RuleWebhook
from api.submission_bodies import Sharing, UniqueKey
from jobs.schedules.forms import timing_of
from jobs.schedules.models import Misfire, Outcome, Overlap, Reason, Source
from jobs.schedules.store import ScheduleView, form_of
from jobs.submissions import shown_ties


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ScheduleState(StrEnum):
    """What is to be expected of a schedule."""

    ACTIVE = "active"
    PAUSED = "paused"
    ENDED = "ended"
    GONE = "gone"


class ScheduleLinks(_Answer):
    """Where to go on."""

    self: str
    ticks: str
    jobs: str
    pause: str
    resume: str
    run_now: str


class Schedule(_Answer):
    """What runs when; null takes the kind's default at the time of the tick."""

    id: UUID
    name: str
    source: Source = Field(description="code: it stands there, named `@` and its kind")
    state: ScheduleState = Field(
        description="ended: no tick is to come; gone: it has left the code, and makes no jobs"
    )
    kind: str
    args: dict[str, JsonValue] = Field(description="With secrets redacted")
    cron: str | None
    every: float | None = Field(description="Seconds")
    at: datetime | None
    timezone: str
    anchor: datetime | None
    sentence: str = Field(description="When, in English")
    misfire: Misfire
    misfire_max: int
    overlap: Overlap
    queue: str | None
    priority: int
    labels: dict[str, str]
    timeout: float | None
    max_attempts: int | None
    expires_in: float | None
    unique: UniqueKey | None
    concurrency: Sharing | None
    webhook: RuleWebhook | None
    next_at: datetime | None = Field(description="The first tick that is to come")
    next_times: list[datetime] = Field(description="Five, as if it were not paused")
    last_tick_at: datetime | None
    last_job_id: UUID | None
    gone_at: datetime | None
    version: int = Field(description="Grows with each change")
    created_at: datetime
    updated_at: datetime
    links: ScheduleLinks


class SchedulePage(_Answer):
    """Some schedules, newest first."""

    items: list[Schedule]
    next_cursor: str | None = Field(description="For the next page; null is the only end")


class Tick(_Answer):
    """What became of a tick."""

    tick_at: datetime = Field(description="The time that was planned")
    decided_at: datetime
    outcome: Outcome
    reason: Reason | None = Field(
        description="run_now: it was asked for, beside the plan; unique: another job has the key"
    )
    job_id: UUID | None
    ticks: int = Field(description="So many the line stands for: this one, and those before it")


class TickPage(_Answer):
    """Some ticks, newest first."""

    items: list[Tick]
    next_cursor: str | None = Field(description="For the next page; null is the only end")


def schedule_document(schedule: ScheduleView) -> dict[str, Any]:
    """The Schedule as it goes out."""
    document = schedule._asdict()
    ties = document.pop("ties")
    document |= shown_ties(ties, is_signed=document.pop("is_signed"))
    for name, stored in _RENAMED.items():
        document[name] = document.pop(stored)
    document["state"] = _state(schedule)
    document["sentence"] = timing_of(form_of(schedule)).sentence()
    document["next_times"] = [time.astimezone(UTC) for time in schedule.times()]
    document["links"] = _links(schedule.id)
    del document["paused"]
    return document


_RENAMED = {
    "every": "every_seconds",
    "anchor": "anchor_at",
    "timeout": "timeout_seconds",
    "expires_in": "expires_seconds",
}


def _state(schedule: ScheduleView) -> ScheduleState:
    if schedule.gone_at is not None:
        return ScheduleState.GONE
    if schedule.next_at is None:
        return ScheduleState.ENDED
    return ScheduleState.PAUSED if schedule.paused else ScheduleState.ACTIVE


def _links(schedule_id: UUID) -> dict[str, str]:
    path = f"/v1/schedules/{schedule_id}"
    return {
        "self": path,
        "ticks": f"{path}/ticks",
        "jobs": f"/v1/jobs?schedule={schedule_id}",
        "pause": f"{path}/pause",
        "resume": f"{path}/resume",
        "run_now": f"{path}/run-now",
    }
