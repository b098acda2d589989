"""Gates: what keeps a queue, a kind or a concurrency key from starting, as operators set it.

A gate is paused, or lets only so many attempts run at a time, or start in a time. It holds nothing
that could leak: attempts are counted from their jobs' rows (`jobs.admission`). Whoever closes a
gate further takes back the marks of the bells that hang, in the same transaction, so that nothing
starts that has not been counted under the new rule; the dispatcher is kept out meanwhile.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import Connection

from jobs.admission import GATES
from jobs.errors import LimitMissing


class Scope(StrEnum):
    """What a gate stands before."""

    KEY = "key"
    KIND = "kind"
    QUEUE = "queue"


class Gate(NamedTuple):
    """Its name in a project."""

    scope: Scope
    name: str

    def __str__(self) -> str:
        return f"{self.scope}:{self.name}"


class Rate(NamedTuple):
    """At most `limit` starts in `period`, evenly, and `burst` of them at once."""

    limit: int
    period: timedelta
    burst: int


class GateView(NamedTuple):
    """A gate as it stands; what nobody has set is None."""

    scope: Scope
    name: str
    paused: bool
    pause_reason: str | None
    paused_by: str | None
    paused_at: datetime | None
    concurrency: int | None  #: of a kind: its own, where no operator has set another
    rate_limit: int | None
    rate_seconds: float | None
    rate_burst: int | None
    running: int  #: attempts that count against the limits; 0 where there are none
    rung: int  #: bells that do
    free: int | None  #: so many more may be rung just now; None: any number
    tokens: float | None  #: so many more may start now as the rate allows it; None: any number
    next_start_at: datetime | None  #: as the rate allows it; None: there is no rate
    changed_at: datetime | None

    def __str__(self) -> str:
        return f"{self.scope}:{self.name}"


class Pause(NamedTuple):
    """That something starts nothing, since when, by whom and why."""

    reason: str | None
    by: str | None
    at: datetime | None


def pause(
    connection: Connection, project_id: str, gate: Gate, *, reason: str | None, by: str
) -> GateView:
    """Nothing behind the gate starts any more; what runs goes on. Who paused it first stands.

    Locks, until the caller commits: the gate, and the jobs whose bells hang.
    """
    connection.execute(_PAUSE, {**_named(project_id, gate), "reason": reason, "by": by})
    _take_back_marks(connection, project_id, gate)
    return get_gate(connection, project_id, gate)


def resume(connection: Connection, project_id: str, gate: Gate) -> GateView:
    """The gate is not paused; its limits stand."""
    connection.execute(_RESUME, _named(project_id, gate))
    return get_gate(connection, project_id, gate)


def set_limit(
    connection: Connection,
    project_id: str,
    gate: Gate,
    *,
    concurrency: int | None,
    rate: Rate | None,
) -> GateView:
    """The gate has these limits and no others; None: as many as there are.

    What runs beyond a lower limit goes on. As many starts stay spent as were, and come back as the
    new rate lets them. Waits for dispatchers that are counting just now.
    Locks, until the caller commits: the dispatchers' counting, the gate, and the jobs whose bells
    hang behind it.
    """
    connection.execute(LOCK_COUNTING)
    binds: dict[str, Any] = {"limit": None, "seconds": None, "burst": None}
    if rate is not None:
        seconds = rate.period.total_seconds()
        binds = {"limit": rate.limit, "seconds": seconds, "burst": rate.burst}
    named = _named(project_id, gate)
    connection.execute(_SET_LIMIT, {**named, "concurrency": concurrency, **binds})
    _take_back_marks(connection, project_id, gate)
    return get_gate(connection, project_id, gate)


def get_gate(connection: Connection, project_id: str, gate: Gate) -> GateView:
    """As it stands; one that nobody has set is open."""
    [view] = stand(connection, project_id, [gate])
    return view


def find_limit(connection: Connection, project_id: str, gate: Gate) -> GateView:
    """A gate that keeps something. LimitMissing where it has no limit and is not paused."""
    view = get_gate(connection, project_id, gate)
    if not view.paused and view.concurrency is None and view.rate_limit is None:
        raise LimitMissing(str(gate))
    return view


def stand(connection: Connection, project_id: str, gates: Sequence[Gate]) -> list[GateView]:
    """How these gates stand, by scope and name."""
    scopes, names = [str(gate.scope) for gate in gates], [gate.name for gate in gates]
    rows = connection.execute(_STAND, {"project": project_id, "scopes": scopes, "names": names})
    return [GateView._make(row) for row in rows]


def delete_limit(connection: Connection, project_id: str, gate: Gate) -> None:
    """The gate has no limits; a pause stands. LimitMissing where it had neither."""
    if connection.execute(_DELETE_LIMIT, _named(project_id, gate)).rowcount == 0:
        raise LimitMissing(str(gate))
    connection.execute(_DELETE_OPEN, _named(project_id, gate))


def page_gates(
    connection: Connection, project_id: str, *, limit: int, after: Gate | None
) -> list[GateView]:
    """The next `limit` gates that operators or submissions have set, by scope and name."""
    binds = {**_named(project_id, after or Gate(Scope.KEY, "")), "limit": limit}
    found = [Gate(Scope(row.scope), row.name) for row in connection.execute(_PAGE, binds)]
    return stand(connection, project_id, found)


def pauses(connection: Connection, project_id: str, scope: Scope) -> dict[str, Pause]:
    """What is paused of a scope, by name."""
    rows = connection.execute(_PAUSES, {"project": project_id, "scope": str(scope)})
    return {row.name: Pause(row.pause_reason, row.paused_by, row.paused_at) for row in rows}


def _take_back_marks(connection: Connection, project_id: str, gate: Gate) -> None:
    connection.execute(_TAKE_BACK[gate.scope], {"project": project_id, "name": gate.name})


def _named(project_id: str, gate: Gate) -> dict[str, Any]:
    return {"project": project_id, "scope": str(gate.scope), "name": gate.name}


def _scoped(scope: Scope) -> str:
    return {"key": "concurrency_key", "kind": "kind", "queue": "queue"}[scope]


#: Counts under it are exact; a dispatcher that counts nothing holds it shared (jobs/dispatch.py).
COUNTING = "hashtextextended('lading.counting', 0)"
LOCK_COUNTING = sa.text(f"SELECT pg_advisory_xact_lock({COUNTING})")
_SHOWN = ", ".join(GateView._fields)
_PAUSE = sa.text("""
INSERT INTO gate (project_id, scope, name, paused, pause_reason, paused_by, paused_at)
VALUES (:project, :scope, :name, true, :reason, :by, clock_timestamp())
ON CONFLICT (project_id, scope, name) DO UPDATE
SET paused = true, changed_at = clock_timestamp(),
    pause_reason = CASE WHEN gate.paused THEN gate.pause_reason ELSE excluded.pause_reason END,
    paused_by = CASE WHEN gate.paused THEN gate.paused_by ELSE excluded.paused_by END,
    paused_at = CASE WHEN gate.paused THEN gate.paused_at ELSE excluded.paused_at END
""")
_RESUME = sa.text("""
INSERT INTO gate (project_id, scope, name) VALUES (:project, :scope, :name)
ON CONFLICT (project_id, scope, name) DO UPDATE
SET paused = false, pause_reason = NULL, paused_by = NULL, paused_at = NULL,
    changed_at = clock_timestamp()
""")
_SET_LIMIT = sa.text("""
INSERT INTO gate (project_id, scope, name, concurrency, rate_limit, rate_seconds, rate_burst)
VALUES (:project, :scope, :name, :concurrency, CAST(:limit AS integer),
        CAST(:seconds AS double precision), CAST(:burst AS integer))
ON CONFLICT (project_id, scope, name) DO UPDATE
SET concurrency = excluded.concurrency, rate_limit = excluded.rate_limit,
    rate_seconds = excluded.rate_seconds, rate_burst = excluded.rate_burst,
    rate_spent_until = CASE WHEN gate.rate_spent_until > clock_timestamp() THEN
        clock_timestamp() + excluded.rate_seconds / excluded.rate_limit * interval '1 s'
        * least(extract(epoch FROM gate.rate_spent_until - clock_timestamp())
                * gate.rate_limit / gate.rate_seconds, excluded.rate_burst)
    END,
    changed_at = clock_timestamp()
""")
_OURS = "project_id = :project AND scope = :scope AND name = :name"
_STAND = sa.text(f"""
WITH wanted AS (
    SELECT CAST(:project AS text) AS project_id, scope, name
    FROM unnest(CAST(:scopes AS text[]), CAST(:names AS text[])) AS row (scope, name)
),
{GATES}
SELECT {_SHOWN} FROM gates ORDER BY scope, name
""")  # noqa: S608 - names of columns only, here and below
_DELETE_LIMIT = sa.text(f"""
UPDATE gate SET concurrency = NULL, rate_limit = NULL, rate_seconds = NULL, rate_burst = NULL,
                rate_spent_until = NULL, changed_at = clock_timestamp()
WHERE {_OURS}
""")  # noqa: S608
_DELETE_OPEN = sa.text(f"DELETE FROM gate WHERE {_OURS} AND NOT paused")  # noqa: S608
_PAGE = sa.text("""
SELECT scope, name FROM gate
WHERE project_id = :project AND (scope, name) > (:scope, :name)
  AND (paused OR concurrency IS NOT NULL OR rate_limit IS NOT NULL)
ORDER BY scope, name LIMIT :limit
""")
_PAUSES = sa.text("""
SELECT name, pause_reason, paused_by, paused_at FROM gate
WHERE project_id = :project AND scope = :scope AND paused
""")
_TAKE_BACK = {
    scope: sa.text(f"""
    UPDATE job SET rung_at = NULL
    WHERE state = 'queued' AND rung_at IS NOT NULL AND project_id = :project
      AND {_scoped(scope)} = :name
    """)  # noqa: S608
    for scope in Scope
}
