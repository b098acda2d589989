"""What clients send of triggers."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StrictBool

from api.bodies import Integer, Moment, Seconds, Text
from api.submission_bodies import RuleOptions
from jobs.bus.triggers import TriggerSpec
from lading.authoring import NAME_LENGTH
from lading.patterns import LENGTH

_MOST = 2**31 - 1  # events; PostgreSQL's integer
_OPTIONS = ("delay", *RuleOptions.model_fields)
_SECRET: dict[str, Any] = {"webhook": {"secret"}}  # see api.sealing
_WELCOME: dict[str, Any] = {
    "name": "welcome",
    "type": "user.created",
    "kind": "email.send",
    "filter": {"data.email": {"exists": True}},
    "args": {
        "to": ["data.email"],
        "template": "'welcome'",
        "variables": {"name": "data.name"},
    },
}


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Options(RuleOptions):
    """Of the jobs that it makes, as of POST /v1/jobs.

    In the keys of `unique` and `concurrency`, JMESPath expressions over the event stand in braces:
    `tenant-{data.tenant}`.
    """

    delay: Annotated[Seconds, Field(ge=0)] | None = Field(
        default=None, description="Not before so many seconds after the event"
    )


class NewTrigger(_Options):
    """Which events make which jobs."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [_WELCOME]})

    type: Text = Field(
        min_length=1,
        max_length=LENGTH,
        description="Of events: `user.created`, or `user.*` for all that begin so, or `*`. Lading's"
        " own, `job.…`, are meant only by what begins with `job.`",
        examples=["user.created"],
    )
    kind: str = Field(
        min_length=1, max_length=NAME_LENGTH, description="Of the jobs", examples=["email.send"]
    )
    name: Annotated[Text, Field(min_length=1, max_length=100)] | None = Field(
        default=None, description="What people know it by"
    )
    filter: dict[str, Any] = Field(
        default_factory=dict,
        description="Conditions on dotted paths, all of which hold: a value, or an object of"
        " `equals`, `prefix`, `in` and `exists`",
        examples=[{"data.plan": "pro"}, {"data.country": {"in": ["DE", "FR"]}}],
    )
    args: dict[str, Any] | str | None = Field(
        default=None,
        description="The job's args: each text is a JMESPath expression over the event, anything"
        " else stands for itself; a text that is meant is written `'welcome'`. Not given: the"
        " event's `data`",
        examples=[_WELCOME["args"]],
    )
    enabled: StrictBool = Field(default=True, description="Events meet it")

    def spec(self) -> TriggerSpec:
        """The same as the domain takes it."""
        given = self.model_dump(
            mode="json", include={*_OPTIONS}, exclude=_SECRET, exclude_none=True
        )
        return TriggerSpec(
            pattern=self.type,
            kind=self.kind,
            filter=self.filter,
            args=self.args,
            options=given,
            name=self.name,
            enabled=self.enabled,
        )


class TriggerChange(_Options):
    """What changes; what is not given stays, and null takes back what was given."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"enabled": False}]})

    type: Text = Field(default="", min_length=1, max_length=LENGTH)
    kind: str = Field(default="", min_length=1, max_length=NAME_LENGTH)
    name: Annotated[Text, Field(min_length=1, max_length=100)] | None = None
    filter: dict[str, Any] | None = None
    args: dict[str, Any] | str | None = None
    enabled: StrictBool = True

    def changed(self, spec: TriggerSpec) -> TriggerSpec:
        """The trigger with the change."""
        given = self.model_dump(mode="json", exclude=_SECRET, exclude_unset=True)
        options = {**spec.options, **{name: given[name] for name in _OPTIONS if name in given}}
        return TriggerSpec(
            pattern=given.get("type", spec.pattern),
            kind=given.get("kind", spec.kind),
            filter=(given["filter"] or {}) if "filter" in given else spec.filter,
            args=given.get("args", spec.args),
            options={name: value for name, value in options.items() if value is not None},
            sealed=spec.sealed if options.get("webhook") else None,
            name=given.get("name", spec.name),
            enabled=given.get("enabled", spec.enabled),
        )


class SampleEvent(_Body):
    """An event to try a trigger with."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"event": {"type": "user.created", "data": {"email": "ada@example.com"}}}]
        },
    )

    event: dict[str, Any] = Field(description="As POST /v1/events takes it, plain or whole")


class Replay(_Body):
    """Which events meet a trigger that they have not met yet."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"received_after": "2026-11-01T00:00:00Z"}]},
    )

    received_after: Moment | None = Field(default=None, description="Younger than this")
    received_before: Moment | None = Field(default=None, description="Older than this")
    confirm: Annotated[Integer, Field(ge=0, le=_MOST)] | None = Field(
        default=None,
        description="The `count` of the preview: it is done if there are still so many; without it"
        " nothing is done",
    )
