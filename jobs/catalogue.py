"""What the database knows of the kinds: enough for `lading_enqueue` to accept their jobs.

Workers write it when they start, so a kind is known here once a worker has registered it.
"""

import json
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from pydantic import TypeAdapter
from pydantic.fields import FieldInfo
from sqlalchemy import Connection

from jobs.registry import Registry
from lading.authoring import Kind

ALL = "*"  # every arg may hold a secret


def register_kinds(connection: Connection, registry: Registry) -> None:
    """The kinds' defaults stand in the database; rows of kinds that have not changed are untouched.

    One statement. Where workers of two versions run, the newest start counts.
    """
    connection.execute(
        _REGISTER,
        {
            "names": list(registry),
            "queues": [kind.queue for kind in registry.values()],
            "attempts": [kind.max_attempts for kind in registry.values()],
            "timeouts": [
                None if kind.timeout is None else kind.timeout.total_seconds()
                for kind in registry.values()
            ],
            "concurrencies": [kind.concurrency for kind in registry.values()],
            "secrets": [json.dumps(sorted(secret_args(kind))) for kind in registry.values()],
        },
    )


def secret_args(kind: Kind) -> set[str]:
    """The args of a kind that are, or may hold, a SecretStr, by all names that they go by."""
    return {
        name
        for field_name, field in kind.args_model.model_fields.items()
        if _is_secret(field)
        for name in (arg_names(field_name, field) if field_name != "root" else [ALL])
    }


def _is_secret(field: FieldInfo) -> bool:
    """Pydantic marks SecretStr and SecretBytes in a schema as writeOnly."""
    annotation: Any = field.annotation
    return '"writeOnly": true' in json.dumps(TypeAdapter(annotation).json_schema())


def arg_names(name: str, field: FieldInfo) -> Iterator[str]:
    """All names by which a field of a kind's args may be given."""
    yield name
    if field.alias is not None:
        yield field.alias
    alias = field.validation_alias
    for choice in getattr(alias, "choices", [alias]):
        first = getattr(choice, "path", [choice])[0]
        if isinstance(first, str):
            yield first


_REGISTER = sa.text("""
INSERT INTO kind (name, queue, max_attempts, timeout_seconds, concurrency, secret_args)
SELECT name, queue, max_attempts, timeout_seconds, concurrency,
       ARRAY(SELECT jsonb_array_elements_text(CAST(secret_args AS jsonb)))
FROM unnest(CAST(:names AS text[]), CAST(:queues AS text[]), CAST(:attempts AS integer[]),
            CAST(:timeouts AS double precision[]), CAST(:concurrencies AS integer[]),
            CAST(:secrets AS text[]))
     AS row (name, queue, max_attempts, timeout_seconds, concurrency, secret_args)
ORDER BY name
ON CONFLICT (name) DO UPDATE
SET queue = excluded.queue, max_attempts = excluded.max_attempts,
    timeout_seconds = excluded.timeout_seconds, concurrency = excluded.concurrency,
    secret_args = excluded.secret_args
WHERE (kind.queue, kind.max_attempts, kind.timeout_seconds, kind.concurrency, kind.secret_args)
      IS DISTINCT FROM (excluded.queue, excluded.max_attempts, excluded.timeout_seconds,
                        excluded.concurrency, excluded.secret_args)
""")
