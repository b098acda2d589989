"""Triggers that stand in code: kept as rows by the workers that have their kinds."""

import json
from collections.abc import Iterable
from typing import NamedTuple

import sqlalchemy as sa
import structlog
from sqlalchemy import Connection

from jobs.bus.making import check_trigger
from jobs.bus.triggers import TriggerSpec
from jobs.errors import InvalidSubmission
from jobs.ids import uuid7
from jobs.registry import Registry
from lading.triggers import DeclaredTrigger, triggers_of

_log = structlog.get_logger(__name__)


class _Row(NamedTuple):
    project_id: str
    code_key: str
    spec: TriggerSpec


def register_triggers(connection: Connection, registry: Registry) -> None:
    """The triggers of these kinds are those of the code, and switched as somebody has left them.

    One statement. One that cannot be, so that it would never make a job, is left out, and logged.
    Where workers of two versions run, the newest start counts, as for the kinds themselves.
    """
    rows = [*_rows(registry)]
    connection.execute(
        _REGISTER,
        {
            "kinds": list(registry),
            "ids": [uuid7() for _ in rows],
            "projects": [row.project_id for row in rows],
            "keys": [row.code_key for row in rows],
            "names": [row.spec.name for row in rows],
            "patterns": [row.spec.pattern for row in rows],
            "of_kinds": [row.spec.kind for row in rows],
            "filters": [json.dumps(row.spec.filter) for row in rows],
            "args": [None if row.spec.args is None else json.dumps(row.spec.args) for row in rows],
            "options": [json.dumps(row.spec.options) for row in rows],
        },
    )


def _rows(registry: Registry) -> Iterable[_Row]:
    for kind in registry.values():
        for declared in triggers_of(kind.handler):
            spec = _spec(kind.name, declared)
            try:
                check_trigger(registry, spec)
            except InvalidSubmission as error:
                _log.error("a trigger in code cannot be", kind=kind.name, reason=str(error))
            else:
                key = " ".join(filter(None, (kind.name, declared.pattern, declared.name)))
                yield _Row(declared.project, key, spec)


def _spec(kind: str, declared: DeclaredTrigger) -> TriggerSpec:
    return TriggerSpec(
        pattern=declared.pattern,
        kind=kind,
        filter=declared.filter,
        args=declared.args,
        options=declared.options,
        name=declared.name,
    )


_REGISTER = sa.text("""
WITH declared AS (
    SELECT id, project_id, code_key, name, pattern, kind, filter::jsonb, args::jsonb, options::jsonb
    FROM unnest(CAST(:ids AS uuid[]), CAST(:projects AS text[]), CAST(:keys AS text[]),
                CAST(:names AS text[]), CAST(:patterns AS text[]), CAST(:of_kinds AS text[]),
                CAST(:filters AS text[]), CAST(:args AS text[]), CAST(:options AS text[]))
         AS row (id, project_id, code_key, name, pattern, kind, filter, args, options)
),
gone AS (
    DELETE FROM trigger WHERE code_key IS NOT NULL AND kind = ANY (CAST(:kinds AS text[]))
    AND NOT EXISTS (SELECT FROM declared WHERE declared.project_id = trigger.project_id
                    AND declared.code_key = trigger.code_key)
)
INSERT INTO trigger (id, project_id, code_key, name, pattern, kind, filter, args, options)
SELECT * FROM declared ORDER BY project_id, code_key
ON CONFLICT (project_id, code_key) DO UPDATE
SET filter = excluded.filter, args = excluded.args, options = excluded.options,
    updated_at = clock_timestamp()
WHERE (trigger.filter, trigger.args, trigger.options)
      IS DISTINCT FROM (excluded.filter, excluded.args, excluded.options)
""")
