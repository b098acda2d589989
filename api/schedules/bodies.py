"""What clients send about schedules."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from api.bodies import Integer, Label, LabelKey, Moment, Seconds, Text
from api.submission_bodies import Priority, RuleOptions
from jobs.schedules.asking import MOST_MISSED, USUALLY_MISSED, Asked
from jobs.schedules.models import Misfire, Overlap
from jobs.submissions import DEFAULT_PRIORITY, MAX_LABELS
from jobs.timing import LONGEST_EXPRESSION, SHORTEST
from lading.authoring import NAME_LENGTH

_EXAMPLE: dict[str, Any] = {
    "name": "nightly report",
    "kind": "demo.sleep",
    "args": {"seconds": 1},
    "cron": "0 7 * * 1-5",
    "timezone": "Europe/Berlin",
}
_DURATIONS = ("every", "timeout", "expires_in")

Name = Annotated[Text, Field(min_length=1, max_length=NAME_LENGTH)]
Kind = Annotated[str, Field(min_length=1, max_length=NAME_LENGTH)]
Expression = Annotated[Text, Field(min_length=1, max_length=LONGEST_EXPRESSION)]
Every = Annotated[Seconds, Field(ge=SHORTEST.total_seconds())]
Zone = Annotated[Text, Field(min_length=1, max_length=100)]
Most = Annotated[Integer, Field(ge=1, le=MOST_MISSED)]
ScheduleLabels = Annotated[dict[LabelKey, Label], Field(max_length=MAX_LABELS - 1)]

_CRON = "minute hour day month weekday, with seconds in front if there are six"
_EVERY = "Seconds from one tick to the next, counted from `anchor`"
_AT = "Once, at this time; one that is past is due at once"
_ZONE = "IANA zone of `cron`, and of the time that jobs are told"
_ANCHOR = "Of `every`: a tick, from which all others are counted; the time of making, if not given"
_MISFIRE = (
    "What becomes of ticks that were missed: `skip` them, make up for the `last`, or for `all`,"
    " the newest `misfire_max`"
)
_OVERLAP = (
    "While an earlier job of the schedule has not ended: `allow` the next, `skip` it, or"
    " `cancel_old`, which hands a `unique` key on: the new job waits for the end of one that runs"
)


class NewSchedule(RuleOptions):
    """What is to run when: one of `cron`, `every` and `at`."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    name: Name = Field(description="Unique in the project; does not begin with `@`")
    kind: Kind = Field(description="What to run", examples=["demo.sleep"])
    args: dict[str, Any] = Field(
        default_factory=dict,
        description="Of each job; checked now, as those of any job",
        examples=[{"seconds": 1}],
    )
    cron: Expression | None = Field(default=None, description=_CRON, examples=["0 7 * * 1-5"])
    every: Every | None = Field(default=None, description=_EVERY)
    at: Moment | None = Field(default=None, description=_AT)
    timezone: Zone = Field(default="UTC", description=_ZONE)
    anchor: Moment | None = Field(default=None, description=_ANCHOR)
    misfire: Misfire = Field(default=Misfire.LAST, description=_MISFIRE)
    misfire_max: Most = Field(default=USUALLY_MISSED, description="Jobs made at once, with `all`")
    overlap: Overlap = Field(default=Overlap.ALLOW, description=_OVERLAP)
    priority: Priority = Field(default=DEFAULT_PRIORITY, description="9 goes first")
    labels: ScheduleLabels = Field(
        default_factory=dict, description="Of each job, beside `lading.tick`"
    )

    def asked(self) -> Asked:
        """The same as the domain takes it."""
        return Asked(**_as_asked(self, type(self).model_fields))


class ScheduleChange(RuleOptions):
    """What shall be otherwise; what is left out stays, null takes the default."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"cron": "30 6 * * *"}]})

    name: Name = Field(default="", description="Unique in the project")
    kind: Kind = Field(default="", description="What to run")
    args: dict[str, Any] = Field(default_factory=dict, description="Of each job")
    cron: Expression = Field(default="", description=_CRON)
    every: Every = Field(default=0, description=_EVERY)
    at: Moment = Field(default=None, description=_AT)  # type: ignore[assignment] # unset
    timezone: Zone = Field(default="UTC", description=_ZONE)
    anchor: Moment | None = Field(default=None, description=_ANCHOR)
    misfire: Misfire = Field(default=Misfire.LAST, description=_MISFIRE)
    misfire_max: Most = Field(default=USUALLY_MISSED, description="Jobs made at once, with `all`")
    overlap: Overlap = Field(default=Overlap.ALLOW, description=_OVERLAP)
    priority: Priority = Field(default=DEFAULT_PRIORITY, description="9 goes first")
    labels: ScheduleLabels = Field(default_factory=dict, description="Of each job")

    def changes(self) -> dict[str, Any]:
        """What was said, as the domain takes it."""
        return _as_asked(self, self.model_fields_set)


def _as_asked(body: RuleOptions, names: Iterable[str]) -> dict[str, Any]:
    said = {name: getattr(body, name) for name in names}
    for name, value in said.items():
        if name in _DURATIONS and value is not None:
            said[name] = timedelta(seconds=value)
        elif isinstance(value, BaseModel):
            said[name] = value.model_dump(mode="json", exclude={"secret"})  # see api.sealing
    return said
