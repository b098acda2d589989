"""Lading's own facts on the bus: `job.succeeded`, `job.failed`, …, where somebody waits for them.

The log of all jobs is read by its snapshot positions (jobs.feed), so that nothing in it is passed
over. The position and the facts are one transaction, and a fact's (source, id) is its job and its
`seq`: each is published once, however many read, and whatever is killed between.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa
import structlog
from sqlalchemy import Connection
from sqlalchemy.dialects.postgresql import JSONB

from jobs.bus.envelope import OWN_SOURCE, NewEvent, stored
from jobs.bus.publishing import Published, publish
from jobs.errors import InvalidSubmission
from jobs.events import ENDINGS
from jobs.feed import FeedEvent, Position, has_gone_on, read_feed, read_position
from jobs.registry import Registry
from jobs.webhooks.fanning import DELIVER

PREFIX = "job."
#: Events of a job that are facts, by their types without the prefix.
FACTS = ENDINGS | {"created", "started", "retrying", "crashed", "interrupted"}
MOST_RESULT_BYTES = 16 * 1024  # of a result in a fact; a larger one is to be asked for
MOST_ANCESTORS = 64  # jobs; among them the one that an event made is found
_NAME = "facts"

_log = structlog.get_logger(__name__)


class Turn(NamedTuple):
    """What a look at the log has brought."""

    published: dict[str, list[Published]]  #: by project
    is_awaited: bool  #: somebody waits for facts
    is_last: bool  #: there was nothing more


class _Awaited(NamedTuple):
    """Which facts somebody waits for."""

    types: dict[str, set[str]]  #: without the prefix, by project
    of_single_jobs: set[str]  #: projects in which jobs have webhooks of their own


def publish_facts(connection: Connection, registry: Registry, limit: int) -> Turn | None:
    """The next facts that somebody waits for are published. None: another process is at it.

    Locks the position until the commit.
    """
    row = connection.execute(_LOCK, {"name": _NAME}).one_or_none()
    now = read_position(connection)
    if row is None:
        # The first of all begins now; else the row is there, and somebody has it.
        binds = {"name": _NAME, "position": now.text()}
        is_first = connection.execute(_BEGIN, binds).rowcount == 1
        return Turn({}, is_awaited=False, is_last=True) if is_first else None
    # After the position: whoever waits for facts since then is seen now, or at the next look.
    awaited = _read_awaited(connection)
    if not (awaited.types or awaited.of_single_jobs):
        _save(connection, row.position, now)
        return Turn({}, is_awaited=False, is_last=True)
    begun = Position.parse(row.position)
    if begun is None or begun.epoch != now.epoch:
        _log.warning("facts begin anew: the database is another one", position=row.position)
        begun = now
    projects = awaited.types.keys() | awaited.of_single_jobs
    types = {type_ for each in awaited.types.values() for type_ in each}
    types |= ENDINGS if awaited.of_single_jobs else set()
    page = read_feed(connection, begun.place, projects, limit, types)
    told = _told(connection, page.events, awaited)
    published = {
        project_id: publish(connection, registry, project_id, facts)
        for project_id, facts in _facts(connection, told).items()
    }
    _save(connection, row.position, Position(now.epoch, page.place))
    return Turn(published, is_awaited=True, is_last=page.is_last)


def find_depths(connection: Connection, job_ids: Iterable[UUID]) -> Mapping[UUID, int]:
    """How many jobs in a row, the job itself among them, lead to what it says."""
    wanted = [*job_ids]
    found = connection.execute(_DEPTHS, {"ids": wanted, "most": MOST_ANCESTORS})
    return dict.fromkeys(wanted, 1) | {row.id: row.depth + 1 for row in found}


def _read_awaited(connection: Connection) -> _Awaited:
    types: dict[str, set[str]] = {}
    of_single_jobs: set[str] = set()
    binds = {"facts": [f"{PREFIX}{name}" for name in sorted(FACTS)]}
    for row in connection.execute(_AWAITED, binds):
        if row.type is None:
            of_single_jobs.add(row.project_id)
        else:
            types.setdefault(row.project_id, set()).add(row.type.removeprefix(PREFIX))
    return _Awaited(types, of_single_jobs)


def _told(
    connection: Connection, events: Sequence[FeedEvent], awaited: _Awaited
) -> list[FeedEvent]:
    """The events that become facts. What delivers facts makes none: that would never end."""
    single: set[UUID] = set()
    if awaited.of_single_jobs:
        ids = [each.event.job_id for each in events]
        single = {*connection.execute(_WITH_WEBHOOK, {"ids": ids}).scalars()}
    return [
        each
        for each in events
        if each.kind != DELIVER
        and (
            each.event.type in awaited.types.get(each.project_id, ())
            or (each.event.type in ENDINGS and each.event.job_id in single)
        )
    ]


def _facts(connection: Connection, events: Sequence[FeedEvent]) -> dict[str, list[NewEvent]]:
    if not events:
        return {}
    depths = find_depths(connection, {each.event.job_id for each in events})
    ids = [each.event.job_id for each in events if each.event.type == "succeeded"]
    rows = connection.execute(_RESULTS, {"ids": ids, "most": MOST_RESULT_BYTES})
    results = {row.id: row.result for row in rows}
    facts: dict[str, list[NewEvent]] = {}
    for each in events:
        event = each.event
        document: dict[str, Any] = {
            "specversion": "1.0",
            "id": str(event.seq),
            "source": f"{OWN_SOURCE}jobs/{event.job_id}",
            "type": f"{PREFIX}{event.type}",
            "subject": str(event.job_id),
            "time": event.at.isoformat().replace("+00:00", "Z"),
            "datacontenttype": "application/json",
            "data": _data(each, results),
        }
        fact = _stored(document, depths[event.job_id])
        if event.type in ENDINGS:
            fact = fact._replace(job_id=event.job_id)
        facts.setdefault(each.project_id, []).append(fact)
    return facts


def _stored(document: dict[str, Any], depth: int) -> NewEvent:
    try:
        return stored(document, depth=depth)
    except InvalidSubmission:  # what the job has said is too long: then who it is suffices
        data = {name: document["data"][name] for name in ("job_id", "kind", "queue", "state")}
        return stored({**document, "data": data}, depth=depth)


def _data(fed: FeedEvent, results: Mapping[UUID, Any]) -> dict[str, Any]:
    event = fed.event
    data = {
        **event.data,
        "job_id": str(event.job_id),
        "kind": fed.kind,
        "queue": fed.queue,
        "state": fed.state,
        "attempt": event.attempt,
        "labels": fed.labels,
    }
    if isinstance(error := data.get("error"), dict):
        data["error"] = {name: value for name, value in error.items() if name != "traceback"}
    if event.type == "succeeded" and event.job_id in results:
        data["result"] = results[event.job_id]
    return data


def _save(connection: Connection, before: str, position: Position) -> None:
    if position.text() != before:
        connection.execute(_SAVE, {"name": _NAME, "position": position.text()})


_LOCK = sa.text("SELECT position FROM bus_position WHERE name = :name FOR UPDATE SKIP LOCKED")
# Where the row is, another process has it, and an insert would wait for that.
_BEGIN = sa.text("""
INSERT INTO bus_position (name, position) SELECT CAST(:name AS text), :position
WHERE NOT EXISTS (SELECT FROM bus_position WHERE name = CAST(:name AS text))
ON CONFLICT DO NOTHING
""")
_SAVE = sa.text("UPDATE bus_position SET position = :position WHERE name = :name")
# Triggers by the patterns that jobs.bus.publishing looks for, and so consumers; webhooks by theirs.
# Of jobs with webhooks, which stay as long as the jobs, there may be a million: their index is
# jumped along from project to project (https://wiki.postgresql.org/wiki/Loose_indexscan).
_AWAITED = sa.text(r"""
WITH RECURSIVE single AS (
    (SELECT project_id FROM job_webhook ORDER BY project_id LIMIT 1)
    UNION ALL
    SELECT (SELECT next.project_id FROM job_webhook AS next
            WHERE next.project_id > single.project_id ORDER BY next.project_id LIMIT 1)
    FROM single WHERE single.project_id IS NOT NULL
)
SELECT DISTINCT trigger.project_id, fact.type
FROM trigger, unnest(CAST(:facts AS text[])) AS fact (type)
WHERE enabled AND pattern IN ('job.*', fact.type)
UNION
SELECT DISTINCT project_id, fact.type
FROM webhook_endpoint, unnest(event_types) AS pattern, unnest(CAST(:facts AS text[])) AS fact (type)
WHERE enabled
      AND fact.type LIKE replace(regexp_replace(pattern, '([\\%_])', '\\\1', 'g'), '*', '%')
UNION
SELECT DISTINCT project_id, fact.type
FROM event_consumer, unnest(CAST(:facts AS text[])) AS fact (type)
WHERE patterns && ARRAY['job.*', fact.type]
UNION
SELECT project_id, NULL FROM single WHERE project_id IS NOT NULL
""")
#: Whether somebody may wait for facts, or the log has gone on since the position.
IS_ANY = f"""(
    EXISTS (SELECT FROM trigger WHERE enabled AND pattern LIKE 'job.%')
    OR EXISTS (SELECT FROM webhook_endpoint WHERE enabled)
    OR EXISTS (SELECT FROM event_consumer)
    OR EXISTS (SELECT FROM job_webhook)
    OR {has_gone_on(_NAME)}
)"""  # noqa: S608
_WITH_WEBHOOK = sa.text("SELECT job_id FROM job_webhook WHERE job_id = ANY(CAST(:ids AS uuid[]))")
_RESULTS = sa.text("""
SELECT id, result FROM job
WHERE id = ANY(CAST(:ids AS uuid[])) AND (result IS NULL OR octet_length(result::text) <= :most)
""").columns(result=JSONB)
_DEPTHS = sa.text("""
WITH RECURSIVE chain AS (
    SELECT id, id AS ancestor, parent_id, 1 AS length FROM job
    WHERE id = ANY(CAST(:ids AS uuid[]))
    UNION ALL
    SELECT chain.id, job.id, job.parent_id, length + 1
    FROM chain JOIN job ON job.id = chain.parent_id WHERE length < :most
)
SELECT chain.id, max(event.depth) AS depth
FROM chain JOIN trigger_firing AS firing ON firing.job_id = chain.ancestor
JOIN cloud_event AS event ON event.id = firing.event_id
GROUP BY chain.id
""")
