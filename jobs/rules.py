"""Who may make a move, and what it changes besides the state: the law that lifecycle executes."""

from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import col

from jobs.attempts import Outcome
from jobs.gating import Gate
from jobs.models import MAX_CRASHES, Job, KnownKind
from jobs.states import Move


class Rule(NamedTuple):
    """Who may make the move, and what it changes besides the state."""

    guard: sa.ColumnElement[bool]
    changes: dict[str, Any]


def bind(name: str, type_: Any) -> sa.BindParameter[Any]:
    """A parameter; never named like a column of `job`, which an UPDATE would then set."""
    return sa.bindparam(name, type_=type_)


def outcome_of(move: Move) -> sa.ColumnElement[Any]:
    """How the attempt ended; one that fails after a cancel request was cancelled."""
    said = bind("outcome", sa.Text)
    if move is not Move.CANCEL_RUNNING:
        return said
    failed = said.in_(
        [sa.literal_column(f"'{each}'") for each in (Outcome.RETRIED, Outcome.FAILED)]
    )
    return sa.case((failed, sa.literal_column(f"'{Outcome.CANCELLED}'")), else_=said)


NOW = sa.func.clock_timestamp()  # times are written and compared by this clock alone
DUE = sa.func.statement_timestamp()  # the same, standing still: an index can be searched by it
FENCE = bind("fence", sa.Integer)
JSON = JSONB(none_as_null=True)
FACTS = bind("facts", JSONB)
ERROR = bind("failure", JSON)
_LEASE = NOW + bind("lease", sa.Interval)
_HOLDER = col(Job.attempt) == FENCE
WANTED = sa.not_(col(Job.cancel_requested))
_PROJECT = col(Job.project_id) == bind("project", sa.Text)
LEFT = col(Job.crashes) < MAX_CRASHES - 1
_UNSTARTED = sa.or_(col(Job.attempt) > 0, col(Job.expires_at).is_(None), col(Job.expires_at) > NOW)


def _gate(
    condition: sa.ColumnExpressionArgument[bool], *scopes: tuple[str, Any]
) -> sa.ColumnElement[bool]:
    """Whether one of the job's gates is as said. Scopes in the text, so that indexes are seen."""
    named = [
        sa.and_(col(Gate.scope) == sa.literal_column(f"'{scope}'"), col(Gate.name) == name)
        for scope, name in scopes
    ]
    ours = col(Gate.project_id) == col(Job.project_id)
    return sa.exists().where(ours, condition, sa.or_(*named))


_QUEUE_AND_KIND = ("queue", col(Job.queue)), ("kind", col(Job.kind))
_OPEN = sa.not_(_gate(col(Gate.paused), *_QUEUE_AND_KIND, ("key", col(Job.concurrency_key))))
# A mark is a slot: where anything is limited, the dispatcher has counted it, and nobody starts
# without one. A bell whose mark was taken back is rung anew.
_COUNTED = sa.or_(
    col(Job.rung_at).is_not(None),
    sa.and_(
        col(Job.concurrency_key).is_(None),
        sa.not_(
            sa.exists().where(
                col(KnownKind.name) == col(Job.kind), col(KnownKind.concurrency).is_not(None)
            )
        ),
        sa.not_(
            _gate(
                sa.and_(
                    col(Gate.scope) != sa.literal_column("'key'"),
                    sa.or_(col(Gate.concurrency).is_not(None), col(Gate.rate_limit).is_not(None)),
                ),
                *_QUEUE_AND_KIND,
            )
        ),
    ),
)
OTHER = sa.inspect(Job).local_table.alias("other")


def has_key_of(other: sa.FromClause) -> sa.ColumnElement[bool]:
    """Whether the other job is in the way of this one, by its unique key."""
    unstarted = sa.and_(
        sa.cast(other.c.state, sa.Text).in_(["waiting", "scheduled", "queued"]),
        other.c.attempt == 0,
    )
    return sa.and_(
        other.c.project_id == col(Job.project_id),
        other.c.unique_key == col(Job.unique_key),
        other.c.id != col(Job.id),
        other.c.finished_at.is_(None),
        sa.or_(col(Job.unique_scope) == "active", unstarted),
    )


_KEY_IS_FREE = sa.or_(
    col(Job.unique_key).is_(None),
    col(Job.finished_at).is_(None),
    sa.not_(
        sa.exists(
            sa.select(sa.literal(1)).select_from(OTHER).where(has_key_of(OTHER)).correlate(Job)
        )
    ),
)
_FREE: dict[str, Any] = {"lease_until": None}
_TO_QUEUE: dict[str, Any] = {"queued_at": NOW, "rung_at": None}
_BACK: dict[str, Any] = {"rung_at": None}  # to the place in the queue that it had
_ENDED: dict[str, Any] = {"finished_at": NOW, "rung_at": None}
_FAILED: dict[str, Any] = {"failures": col(Job.failures) + 1, "error": ERROR, **_FREE}
_CRASHED: dict[str, Any] = {"crashes": col(Job.crashes) + 1, "error": ERROR, **_FREE}
_AFRESH: dict[str, Any] = {
    "failures": 0,
    "crashes": 0,
    "error": None,
    "cancel_requested": False,
    "cancel_reason": None,
    "expires_at": None,
    "finished_at": None,
    "parents_left": 0,
}
RULES: dict[Move, Rule] = {
    Move.RELEASE: Rule(sa.true(), _TO_QUEUE),
    Move.RUN_NOW: Rule(_PROJECT, _TO_QUEUE),
    Move.START: Rule(
        sa.and_(col(Job.attempt) == FENCE - 1, _UNSTARTED, _OPEN, _COUNTED),
        {
            "attempt": FENCE,
            "started_at": NOW,
            "rung_at": None,
            "progress": None,
            "worker": bind("holder", sa.Uuid),
            "lease_until": _LEASE,
        },
    ),
    Move.PROGRESS: Rule(_HOLDER, {"progress": FACTS}),
    Move.LOG: Rule(_HOLDER, {}),
    Move.STEP: Rule(_HOLDER, {}),
    Move.REQUEST_CANCEL: Rule(
        sa.and_(_PROJECT, WANTED),
        {"cancel_requested": True, "cancel_reason": bind("reason", sa.Text)},
    ),
    Move.SUCCEED: Rule(
        _HOLDER, {"result": bind("returned", JSON), "error": None, **_ENDED, **_FREE}
    ),
    Move.RETRY_LATER: Rule(
        sa.and_(_HOLDER, WANTED), {"run_at": NOW + bind("delay", sa.Interval), **_FAILED}
    ),
    Move.FAIL: Rule(sa.and_(_HOLDER, WANTED), {**_FAILED, **_ENDED}),
    Move.CRASH: Rule(sa.and_(_HOLDER, WANTED, LEFT), {**_CRASHED, **_BACK}),
    Move.CRASH_OUT: Rule(sa.and_(_HOLDER, WANTED, sa.not_(LEFT)), {**_CRASHED, **_ENDED}),
    Move.INTERRUPT: Rule(sa.and_(_HOLDER, WANTED), {**_FREE, **_BACK}),
    Move.CANCEL_RUNNING: Rule(_HOLDER, {**_FREE, **_ENDED}),
    Move.CANCEL: Rule(_PROJECT, _ENDED),
    Move.EXPIRE: Rule(sa.true(), _ENDED),
    Move.RETRY: Rule(sa.and_(_PROJECT, _KEY_IS_FREE), {**_AFRESH, **_TO_QUEUE}),
}
