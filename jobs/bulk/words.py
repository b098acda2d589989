"""What can be said to many jobs, to which of them, and how a filter is kept."""

from dataclasses import replace
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from jobs.queries import JobFilter
from jobs.states import FINAL, JobState, Move

S = JobState


class Op(StrEnum):
    """A word, as in the API."""

    CANCEL = "cancel"
    RETRY = "retry"
    DELETE = "delete"
    REPRIORITISE = "reprioritise"


#: The states of the jobs that it can be said to.
STATES: dict[Op, frozenset[JobState]] = {
    Op.CANCEL: frozenset(S) - FINAL,
    Op.RETRY: frozenset(Move.RETRY.sources),
    Op.DELETE: FINAL,
    Op.REPRIORITISE: frozenset(S) - FINAL,
}


def meant(op: Op, wanted: JobFilter) -> JobFilter | None:
    """The filter for those that it can be said to; None: it can be said to none of them."""
    states = [state for state in JobState if state in STATES[op]]
    if wanted.states:
        states = [state for state in states if state in wanted.states]
    return replace(wanted, states=states) if states else None


def filter_document(wanted: JobFilter) -> dict[str, Any]:
    """The filter as JSON, without what does not narrow it."""
    document: dict[str, Any] = {
        "state": [str(state) for state in wanted.states],
        "kind": wanted.kind,
        "queue": wanted.queue,
        "label": dict(wanted.labels),
        "created_after": wanted.created_after and wanted.created_after.isoformat(),
        "created_before": wanted.created_before and wanted.created_before.isoformat(),
        "ids": [str(job_id) for job_id in wanted.ids],
        "batch": wanted.batch_id and str(wanted.batch_id),
        "schedule": wanted.schedule_id and str(wanted.schedule_id),
    }
    return {name: value for name, value in document.items() if value}


def read_filter(document: dict[str, Any]) -> JobFilter:
    """The filter out of its JSON."""
    after, before = document.get("created_after"), document.get("created_before")
    batch, schedule = document.get("batch"), document.get("schedule")
    return JobFilter(
        states=[JobState(state) for state in document.get("state", ())],
        kind=document.get("kind"),
        queue=document.get("queue"),
        labels=document.get("label", {}),
        created_after=after and datetime.fromisoformat(after),
        created_before=before and datetime.fromisoformat(before),
        ids=[UUID(job_id) for job_id in document.get("ids", ())],
        batch_id=batch and UUID(batch),
        schedule_id=schedule and UUID(schedule),
    )
