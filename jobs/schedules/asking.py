"""What somebody asks of a schedule, checked as any submission is."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from jobs.errors import Flaw, InvalidSubmission
from jobs.registry import Registry
from jobs.schedules.forms import Form, timing_of
from jobs.schedules.making import TICK_LABEL
from jobs.schedules.models import Misfire, Overlap
from jobs.submissions import (
    DEFAULT_PRIORITY,
    MAX_LABELS,
    TIES,
    Submission,
    check,
    read_ties,
)
from jobs.timing import NoTiming, Once, check_zone

FROM_CODE = "@"  #: begins the names of schedules from code, and no others
MOST_MISSED = 1000  # jobs at once; whoever wants more has another tool
USUALLY_MISSED = 100
FORMS = ("cron", "every", "at")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a schedule is to do; None takes the kind's default at the time of the tick."""

    name: str
    kind: str
    args: Mapping[str, Any]  #: JSON
    cron: str | None = None
    every: timedelta | None = None
    at: datetime | None = None
    timezone: str = "UTC"
    anchor: datetime | None = None  #: of `every`; None: now, in whole seconds
    misfire: Misfire = Misfire.LAST
    misfire_max: int = USUALLY_MISSED
    overlap: Overlap = Overlap.ALLOW
    queue: str | None = None
    priority: int = DEFAULT_PRIORITY
    labels: Mapping[str, str] = field(default_factory=dict)
    timeout: timedelta | None = None
    max_attempts: int | None = None
    expires_in: timedelta | None = None
    unique: Mapping[str, Any] | None = None  #: in the words of a request, as the next ones
    concurrency: Mapping[str, Any] | None = None
    webhook: Mapping[str, Any] | None = None
    sealed: bytes | None = None  #: the webhook's secret, bound to the schedule

    @property
    def ties(self) -> dict[str, Any]:
        """Those of the last three that are given."""
        given = {name: getattr(self, name) for name in TIES}
        return {name: dict(each) for name, each in given.items() if each is not None}


def columns_of(
    registry: Registry, asked: Asked, now: datetime, *, is_code: bool = False
) -> dict[str, Any]:
    """The checked request as columns. InvalidSubmission with pointers into it."""
    if asked.name.startswith(FROM_CODE) and not is_code:
        raise InvalidSubmission(Flaw("#/name", f"begins with {FROM_CODE}, as those from code do"))
    form = _form(asked, now)
    labels = _labels(asked.labels)
    job = check(
        registry,
        Submission(
            kind=asked.kind,
            args=asked.args,
            queue=asked.queue,
            priority=asked.priority,
            max_attempts=asked.max_attempts,
            timeout=asked.timeout,
            expires_in=asked.expires_in,
            labels=labels,
            **read_ties(asked.ties),
        ),
    )
    return {
        **form._asdict(),
        "name": asked.name,
        "kind": job.kind,
        "args": dict(asked.args),
        "redacted_args": None if job.redacted_args is None else json.loads(job.redacted_args),
        "queue": asked.queue,
        "priority": job.priority,
        "labels": labels,
        "timeout_seconds": None if asked.timeout is None else job.timeout_seconds,
        "max_attempts": asked.max_attempts,
        "expires_seconds": job.expires_seconds,
        "ties": asked.ties,
        "sealed": asked.sealed,
        "misfire": asked.misfire,
        "misfire_max": asked.misfire_max,
        "overlap": asked.overlap,
    }


def _form(asked: Asked, now: datetime) -> Form:
    given = [name for name in FORMS if getattr(asked, name) is not None]
    if len(given) != 1:
        raise InvalidSubmission(Flaw("#", "one of cron, every and at is needed, and one only"))
    if asked.anchor is not None and asked.every is None:
        raise InvalidSubmission(Flaw("#/anchor", "is of `every` only"))
    anchor = None if asked.every is None else asked.anchor or now.replace(microsecond=0)
    every = None if asked.every is None else asked.every.total_seconds()
    form = Form(asked.cron, asked.timezone, every, anchor, asked.at)
    try:
        timing_of(form).check()
        check_zone(asked.timezone)
    except NoTiming as flaw:
        raise InvalidSubmission(Flaw(f"#/{flaw.field}", str(flaw))) from None
    return form


def _labels(labels: Mapping[str, str]) -> dict[str, str]:
    if TICK_LABEL in labels:
        raise InvalidSubmission(Flaw(f"#/labels/{TICK_LABEL}", "is set by each tick"))
    if len(labels) >= MAX_LABELS:  # the tick's own is one of a job's
        raise InvalidSubmission(Flaw("#/labels", f"more than {MAX_LABELS - 1} labels"))
    return dict(labels)


def first_tick(columns: Mapping[str, Any], now: datetime) -> datetime | None:
    """The first tick behind `now`; of a one-off its time, though it may be past."""
    timing = timing_of(Form(*(columns[name] for name in Form._fields)))
    return timing.at if isinstance(timing, Once) else timing.after(now)
