"""What can be asked of Lading about what makes jobs by itself, and what keeps them waiting."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Literal, Unpack
from uuid import UUID, uuid4

from lading.client.asking import Asking, aware, place, said
from lading.client.exchange import Call, Series
from lading.client.models import Job
from lading.client.rule_models import (
    Limit,
    PublishedEvent,
    Replay,
    ReplayPreview,
    Schedule,
    Tick,
    Trial,
    Trigger,
)
from lading.client.submissions import Args, Handler, RuleOptions, document_of
from lading.client.verb import series, verb
from lading.durations import as_timedelta

ScheduleRef = Schedule | UUID | str
TriggerRef = Trigger | UUID | str


class ScheduleOptions(RuleOptions, total=False):
    """When a schedule's ticks are, one of `cron`, `every` and `at`; and what its jobs are like."""

    cron: str | None
    every: float | timedelta | None  #: seconds, from one tick to the next
    at: datetime | None  #: once; aware
    timezone: str  #: IANA, of `cron`; UTC if not given
    anchor: datetime | None  #: of `every`: a tick, from which all others are counted
    misfire: Literal["skip", "last", "all"]
    misfire_max: int
    overlap: Literal["allow", "skip", "cancel_old"]


class ScheduleChanges(ScheduleOptions, total=False):
    """What of a schedule shall be otherwise; None takes the default."""

    name: str
    kind: str | Handler
    args: Args


class TriggerOptions(RuleOptions, total=False):
    """What a trigger's jobs are like."""

    delay: float | timedelta | None  #: not before so long after the event, in seconds


class TriggerChanges(TriggerOptions, total=False):
    """What of a trigger shall be otherwise; None takes back what was given."""

    type: str
    kind: str | Handler
    name: str | None
    filter: Mapping[str, Any] | None
    args: Mapping[str, Any] | str | None
    enabled: bool


class RuleVerbs(Asking):
    """Schedules, events and their triggers, limits and pauses."""

    @series
    def schedules(self, *, kind: str | None = None, limit: int | None = None) -> Series[Schedule]:
        """The schedules, newest first."""
        return self._pages(Schedule, "/v1/schedules", limit, {"kind": kind})

    @verb
    def schedule(self, schedule: ScheduleRef) -> Call[Schedule]:
        """The schedule, with its next five times."""
        return self._ask(Schedule, place("schedules", schedule))

    @verb
    def create_schedule(
        self,
        name: str,
        kind: str | Handler,
        args: Args | None = None,
        **options: Unpack[ScheduleOptions],
    ) -> Call[Schedule]:
        """A schedule, each of whose ticks makes one job. Conflict: the name is taken."""
        document = document_of({"name": name, "kind": kind, **said(args=args, **options)})
        return self._make(Schedule, "/v1/schedules", document)

    @verb
    def update_schedule(
        self, schedule: ScheduleRef, **changes: Unpack[ScheduleChanges]
    ) -> Call[Schedule]:
        """What is named is so from the next tick on; a new time replaces the one before."""
        return self._tell(Schedule, place("schedules", schedule), document_of(changes), "PATCH")

    @verb
    def pause_schedule(self, schedule: ScheduleRef) -> Call[Schedule]:
        """No tick of it makes a job until it is resumed."""
        return self._tell(Schedule, place("schedules", schedule, "pause"))

    @verb
    def resume_schedule(self, schedule: ScheduleRef) -> Call[Schedule]:
        """It goes on; its `misfire` decides on the ticks of the meantime."""
        return self._tell(Schedule, place("schedules", schedule, "resume"))

    @verb
    def run_schedule(self, schedule: ScheduleRef) -> Call[Job]:
        """One more job of it, now, beside the plan: also while it is paused."""
        return self._make(Job, place("schedules", schedule, "run-now"))

    @verb
    def delete_schedule(self, schedule: ScheduleRef) -> Call[None]:
        """It is gone, with its history; its jobs stay."""
        return self._remove(place("schedules", schedule))

    @series
    def ticks(self, schedule: ScheduleRef, *, limit: int | None = None) -> Series[Tick]:
        """What became of its ticks, newest first."""
        return self._pages(Tick, place("schedules", schedule, "ticks"), limit, {})

    @verb
    def publish(
        self,
        type: str,  # noqa: A002 - an event's
        data: Any = None,
        *,
        id: str | None = None,  # noqa: A002
        source: str | None = None,
        subject: str | None = None,
    ) -> Call[PublishedEvent]:
        """The event is accepted: committed, with the jobs that its triggers have made of it.

        The same `source` and `id` again is the same event, and makes nothing twice; without an
        `id` it gets one, so that sending it again is safe.
        """
        named = said(id=id, source=source, subject=subject)
        document = {"id": str(uuid4()), **named, "type": type, "data": data}
        return self._tell(PublishedEvent, "/v1/events", document)

    @series
    def published(
        self,
        *,
        type: str | None = None,  # noqa: A002 - an event's, or a pattern
        source: str | None = None,
        event_id: str | None = None,
        received_after: datetime | None = None,
        received_before: datetime | None = None,
        limit: int | None = None,
    ) -> Series[PublishedEvent]:
        """The events that were accepted, newest first, with what came of them."""
        query = {"type": type, "source": source, "event_id": event_id}
        query |= _between(received_after, received_before)
        return self._pages(PublishedEvent, "/v1/events", limit, query)

    @verb
    def published_event(self, event: PublishedEvent | UUID | str) -> Call[PublishedEvent]:
        """An event by its id at the server, with what came of it."""
        return self._ask(PublishedEvent, place("events", event))

    @series
    def triggers(self, *, limit: int | None = None) -> Series[Trigger]:
        """The triggers, newest first."""
        return self._pages(Trigger, "/v1/triggers", limit, {})

    @verb
    def trigger(self, trigger: TriggerRef) -> Call[Trigger]:
        """The trigger."""
        return self._ask(Trigger, place("triggers", trigger))

    @verb
    def create_trigger(
        self,
        type: str,  # noqa: A002 - of events: a pattern
        kind: str | Handler,
        args: Mapping[str, Any] | str | None = None,
        *,
        filter: Mapping[str, Any] | None = None,  # noqa: A002 - what it is called everywhere
        name: str | None = None,
        enabled: bool = True,
        **options: Unpack[TriggerOptions],
    ) -> Call[Trigger]:
        """Events of that type make jobs of the kind from now on.

        `args` are JMESPath expressions over the event; without them its data is the args.
        """
        given = said(args=args, filter=filter, name=name, enabled=enabled, **options)
        document = document_of({"type": type, "kind": kind, **given})
        return self._make(Trigger, "/v1/triggers", document)

    @verb
    def update_trigger(
        self, trigger: TriggerRef, **changes: Unpack[TriggerChanges]
    ) -> Call[Trigger]:
        """What is named is so; `enabled` switches it on and off."""
        return self._tell(Trigger, place("triggers", trigger), document_of(changes), "PATCH")

    @verb
    def delete_trigger(self, trigger: TriggerRef) -> Call[None]:
        """It is gone; its jobs stay."""
        return self._remove(place("triggers", trigger))

    @verb
    def test_trigger(self, trigger: TriggerRef, event: Mapping[str, Any]) -> Call[Trial]:
        """What it would make of that event, plain or whole; nothing is done."""
        return self._tell(Trial, place("triggers", trigger, "test"), {"event": event})

    @verb
    def preview_replay(
        self,
        trigger: TriggerRef,
        *,
        received_after: datetime | None = None,
        received_before: datetime | None = None,
    ) -> Call[ReplayPreview]:
        """The events of that time that it has made no job of; nothing is done."""
        document = _between(received_after, received_before)
        return self._tell(ReplayPreview, place("triggers", trigger, "replay"), document)

    @verb
    def replay(
        self,
        trigger: TriggerRef,
        confirm: int,
        *,
        received_after: datetime | None = None,
        received_before: datetime | None = None,
    ) -> Call[Replay]:
        """It meets these events. Conflict: they are not `confirm`, the preview's count, now."""
        document = {**_between(received_after, received_before), "confirm": confirm}
        return self._make(Replay, place("triggers", trigger, "replay"), document)

    @series
    def limits(self, *, limit: int | None = None) -> Series[Limit]:
        """What is limited or paused, by name."""
        return self._pages(Limit, "/v1/limits", limit, {})

    @verb
    def limit(self, name: str) -> Call[Limit]:
        """What limits `queue:…`, `kind:…` or `key:…`, and what counts against it now."""
        return self._ask(Limit, place("limits", name))

    @verb
    def set_limit(
        self,
        name: str,
        *,
        concurrency: int | None = None,
        rate: tuple[int, float | timedelta] | None = None,
        burst: int | None = None,
    ) -> Call[Limit]:
        """So many of `queue:…`, `kind:…` or `key:…` run at a time, or start in a time.

        `rate` is how many start in how many seconds, `burst` how many of them at once after a
        quiet time. What was set before is replaced; what runs beyond it goes on.
        """
        document = said(concurrency=concurrency)
        if rate is not None:
            starts, period = rate[0], as_timedelta(rate[1]).total_seconds()
            document["rate"] = {"limit": starts, "period": period, **said(burst=burst)}
        return self._tell(Limit, place("limits", name), document, "PUT")

    @verb
    def delete_limit(self, name: str) -> Call[None]:
        """Its limits are taken away; a pause stands."""
        return self._remove(place("limits", name))

    @verb
    def pause(self, name: str, reason: str | None = None) -> Call[Limit]:
        """Nothing more of `queue:…`, `kind:…` or `key:…` starts. What runs goes on."""
        return self._tell(Limit, f"{_gate(name)}/pause", said(reason=reason))

    @verb
    def resume(self, name: str) -> Call[Limit]:
        """It goes on."""
        return self._tell(Limit, f"{_gate(name)}/resume")


def _gate(name: str) -> str:
    """Where what is called so is paused. ValueError."""
    scope, colon, rest = name.partition(":")
    if not colon or scope not in {"queue", "kind", "key"}:
        raise ValueError(f"{name!r} is none of queue:…, kind:… and key:…")
    return place("limits", name) if scope == "key" else place(f"{scope}s", rest)


def _between(after: datetime | None, before: datetime | None) -> dict[str, Any]:
    given = said(received_after=after, received_before=before)
    return {name: aware(name, moment).isoformat() for name, moment in given.items()}
