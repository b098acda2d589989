"""Many successes and starts in one statement: those of a worker's threads, or of a handful.

Each has its own guard, and changes what it would alone. Nobody waits for a row that another
transaction holds: its job is passed over, as in the sweeps, and is for its own statement.
"""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlmodel import col

from jobs.direct import Direct
from jobs.lifecycle.pairs import MOVED, Next, Success, claim_of, moved_by, part_of, shown
from jobs.lifecycle.statements import CLAIMED, Claim, Moved
from jobs.models import Job
from jobs.rules import JSON, bind
from jobs.states import Move


def settle(connection: Connection, asked: Sequence[Success | Next]) -> list[Moved | Claim | None]:
    """What `succeed` or `start` would answer to each, in their order, done together or not at all.

    None: it did not come about, for its job's row is locked, or for a reason of the single one's.
    Each has a job of its own, and all starts are of one worker. Locks: the jobs' rows, for one
    commit. On an autocommit connection.
    """
    successes = [each for each in asked if isinstance(each, Success)]
    starts = [each for each in asked if isinstance(each, Next)]
    binds = _success_binds(successes) | _start_binds(starts)
    rows = _STATEMENTS[bool(successes), bool(starts)].all(connection, binds)
    found = {row[0]: row[1:] for row in rows}
    return [_answer(each, found.get(each.job_id)) for each in asked]


def _answer(asked: Success | Next, row: tuple[Any, ...] | None) -> Moved | Claim | None:
    if row is None:
        return None
    if isinstance(asked, Next):
        return claim_of(asked, row)
    return moved_by(asked, row[: len(MOVED)])


def _success_binds(successes: Sequence[Success]) -> dict[str, list[Any]]:
    return {
        "ended_jobs": [each.job_id for each in successes],
        "ended_fence": [each.attempt for each in successes],
        "ended_returned": [each.result for each in successes],
        "ended_max_rss_bytes": [each.usage.max_rss_bytes for each in successes],
        "ended_cpu_seconds": [each.usage.cpu_seconds for each in successes],
        "ended_run_seconds": [each.usage.run_seconds for each in successes],
    }


def _start_binds(starts: Sequence[Next]) -> dict[str, Any]:
    if not starts:
        return {}
    _, _, worker, lease = starts[0]
    return {
        "begun_jobs": [each.job_id for each in starts],
        "begun_fence": [each.attempt for each in starts],
        "begun_holder": worker,
        "begun_lease": lease,
        "begun_facts": {"worker": str(worker)},
    }


_JOBS: sa.BindParameter[Sequence[UUID]] = bind("jobs", sa.ARRAY(sa.Uuid()))
_HELD = (
    sa.select(col(Job.id))
    .where(col(Job.id) == sa.any_(_JOBS))
    .with_for_update(skip_locked=True, key_share=True)
)
# By key, whatever the size of the table when this is planned; locked before the first is changed.
_UNLOCKED = col(Job.id) == sa.any_(sa.func.array(_HELD.scalar_subquery()))
_PLURAL = {"job": "jobs"}  # one parameter, which is read twice
_COLUMNS: dict[Move, dict[str, sa.types.TypeEngine[Any]]] = {
    Move.SUCCEED: {
        "job": sa.Uuid(),
        "fence": sa.Integer(),
        "returned": JSON,
        "max_rss_bytes": sa.BigInteger(),
        "cpu_seconds": sa.Float(),
        "run_seconds": sa.Float(),
    },
    Move.START: {"job": sa.Uuid(), "fence": sa.Integer()},
}


def _part(move: Move, name: str) -> tuple[sa.CTE, sa.Subquery]:
    """What is asked of each, and the move."""
    columns = _COLUMNS[move]
    arrays = [bind(f"{name}_{_PLURAL.get(key, key)}", sa.ARRAY(columns[key])) for key in columns]
    given = sa.func.unnest(*arrays).table_valued(*columns, name=f"{name}_given").render_derived()
    asked = sa.table(f"{name}_asked", *(sa.column(key, type_) for key, type_ in columns.items()))
    which = sa.and_(col(Job.id) == asked.c.job, _UNLOCKED)
    part = part_of(move, name, f"{name}_", which, asked)
    return sa.select(*given.c).cte(asked.name), part


def _statement(*, ends: bool, begins: bool) -> Direct:
    asked, selects = [], []
    if begins:
        given, part = _part(Move.START, "begun")
        asked.append(given)
        selects.append(sa.select(part.c.id, *shown(part, (*MOVED, *CLAIMED))))
    if ends:
        given, part = _part(Move.SUCCEED, "ended")
        asked.append(given)
        unknown = [sa.null() for _ in CLAIMED] if begins else []
        selects.append(sa.select(part.c.id, *shown(part, MOVED), *unknown))
    whole: Any = sa.union_all(*selects) if len(selects) > 1 else selects[0]
    for each in asked:
        whole = whole.add_cte(each)
    return Direct(f"lading_settle_{ends:d}{begins:d}", whole)


_STATEMENTS = {
    (ends, begins): _statement(ends=ends, begins=begins)
    for ends, begins in ((True, True), (True, False), (False, True))
}
