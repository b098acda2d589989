"""Triggers: which events make which jobs, checked when they are made, and kept.

One that stands in code (`@on`) belongs to its code: over REST it is only switched on and off.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlmodel import col

from jobs.bus.models import Trigger
from jobs.errors import TriggerInCode, TriggerMissing
from jobs.ids import uuid7


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerSpec:
    """What a trigger is to do."""

    pattern: str  #: of event types, see lading.patterns
    kind: str
    filter: Mapping[str, Any] = field(default_factory=dict)  #: see jobs.bus.matching
    args: Any = None  #: see jobs.bus.mapping
    options: Mapping[str, Any] = field(default_factory=dict)  #: see jobs.bus.making
    sealed: bytes | None = None  #: its webhook's secret, …
    sealed_for: UUID | None = None  #: … bound to the trigger
    name: str | None = None
    enabled: bool = True


class TriggerView(NamedTuple):
    """A trigger as readers see it."""

    id: UUID
    project_id: str
    name: str | None
    pattern: str
    kind: str
    filter: dict[str, Any]
    args: Any
    options: dict[str, Any]
    sealed: bytes | None
    enabled: bool
    code_key: str | None
    created_at: datetime
    updated_at: datetime

    @property
    def spec(self) -> TriggerSpec:
        """What it does."""
        return TriggerSpec(
            pattern=self.pattern,
            kind=self.kind,
            filter=self.filter,
            args=self.args,
            options=self.options,
            sealed=self.sealed,
            sealed_for=self.id,
            name=self.name,
            enabled=self.enabled,
        )


_SHOWN = [col(getattr(Trigger, name)) for name in TriggerView._fields]
_BY_PATTERN = (
    sa.select(*_SHOWN)
    .where(
        col(Trigger.project_id) == sa.bindparam("project"),
        col(Trigger.enabled),
        col(Trigger.pattern) == sa.any_(sa.bindparam("patterns", type_=sa.ARRAY(sa.Text))),
    )
    .order_by(col(Trigger.id))
)


def create_trigger(
    connection: Connection, project_id: str, spec: TriggerSpec, trigger_id: UUID | None = None
) -> TriggerView:
    """Events that come from now on meet it. It was checked by jobs.bus.making.check_trigger.

    `trigger_id` is what its secret is sealed for, where it has one.
    """
    row = {"id": trigger_id or uuid7(), "project_id": project_id, **_columns(spec)}
    made = connection.execute(sa.insert(Trigger).values(row).returning(*_SHOWN)).one()
    return TriggerView._make(made)


def get_trigger(
    connection: Connection, project_id: str, trigger_id: UUID, *, lock: bool = False
) -> TriggerView:
    """The project's trigger, its row locked until the transaction's end. TriggerMissing."""
    statement = sa.select(*_SHOWN).where(
        col(Trigger.id) == trigger_id, col(Trigger.project_id) == project_id
    )
    row = connection.execute(statement.with_for_update() if lock else statement).one_or_none()
    if row is None:
        raise TriggerMissing(trigger_id)
    return TriggerView._make(row)


def change_trigger(connection: Connection, trigger: TriggerView, spec: TriggerSpec) -> TriggerView:
    """The trigger, which the transaction has locked, does that from now on. TriggerInCode."""
    switched = trigger.spec
    if trigger.code_key is not None and _columns(spec) != {
        **_columns(switched),
        "enabled": spec.enabled,
    }:
        raise TriggerInCode(trigger.id)
    statement = (
        sa.update(Trigger)
        .where(col(Trigger.id) == trigger.id)
        .values(**_columns(spec), updated_at=sa.func.clock_timestamp())
        .returning(*_SHOWN)
    )
    return TriggerView._make(connection.execute(statement).one())


def delete_trigger(connection: Connection, project_id: str, trigger_id: UUID) -> None:
    """Nothing meets it any more; what it has made stays. TriggerMissing, TriggerInCode."""
    if get_trigger(connection, project_id, trigger_id, lock=True).code_key is not None:
        raise TriggerInCode(trigger_id)
    connection.execute(sa.delete(Trigger).where(col(Trigger.id) == trigger_id))


def page_triggers(
    connection: Connection, project_id: str, *, limit: int, before: UUID | None = None
) -> tuple[list[TriggerView], UUID | None]:
    """The next `limit` triggers older than `before`, newest first, and where it goes on."""
    statement = (
        sa.select(*_SHOWN)
        .where(col(Trigger.project_id) == project_id)
        .order_by(col(Trigger.id).desc())
        .limit(limit + 1)
    )
    if before is not None:
        statement = statement.where(col(Trigger.id) < before)
    found = [TriggerView._make(row) for row in connection.execute(statement)]
    return found[:limit], found[limit - 1].id if len(found) > limit else None


def find_waiting(
    connection: Connection, project_id: str, patterns: Sequence[str]
) -> dict[str, list[TriggerView]]:
    """The triggers that are switched on and wait for one of these patterns, by pattern.

    One indexed query, in the transaction of the events: so no new trigger is missed.
    """
    found: dict[str, list[TriggerView]] = {}
    for row in connection.execute(_BY_PATTERN, {"project": project_id, "patterns": patterns}):
        trigger = TriggerView._make(row)
        found.setdefault(trigger.pattern, []).append(trigger)
    return found


def _columns(spec: TriggerSpec) -> dict[str, Any]:
    return {
        "name": spec.name,
        "pattern": spec.pattern,
        "kind": spec.kind,
        "filter": dict(spec.filter),
        "args": spec.args,
        "options": dict(spec.options),
        "sealed": spec.sealed,
        "enabled": spec.enabled,
    }
