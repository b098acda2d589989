"""Limits, rates and pauses

Revision: 0004, after 0003
"""

import sqlalchemy as sa
from alembic import context, op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TO_RING = sa.text("state = 'queued' AND rung_at IS NULL")
PLAIN = sa.text("state = 'queued' AND rung_at IS NULL AND concurrency_key IS NULL")
KEYED = sa.text("state = 'queued' AND rung_at IS NULL AND concurrency_key IS NOT NULL")
HOLDING = sa.text("concurrency_key IS NOT NULL AND (state = 'running' OR rung_at IS NOT NULL)")
LIMITED = sa.text("scope <> 'key' AND (concurrency IS NOT NULL OR rate_limit IS NOT NULL)")


# What lading_enqueue has besides: behind these words of revision 0003 come those.
ADDED = (
    ("                                'after'", ", 'concurrency'"),
    (
        "    secrets text[];\n",
        """    shared_key constant text := given #>> '{concurrency,key}';
    shared_limit integer;
""",
    ),
    (
        "             'idempotency_key has 1 … 255 characters'),\n",
        """            (given ? 'concurrency' AND (jsonb_typeof(given->'concurrency') <> 'object'
                OR jsonb_typeof(given #> '{concurrency,key}') IS DISTINCT FROM 'string'
                OR length(shared_key) NOT BETWEEN 1 AND 255
                OR given #>> '{concurrency,limit}' !~ '^[1-9][0-9]{0,5}$'
                OR (given->'concurrency') - 'key' - 'limit' <> '{}'),
             'concurrency is {"key": 1 … 255 characters, "limit": 1 … 999999}'),
""",
    ),
    (
        "    FOR try IN 1 .. 3 LOOP\n",
        "        shared_limit := (given #>> '{concurrency,limit}')::integer;\n",
    ),
    ("unique_scope, after, parents_left", ", concurrency_key, concurrency_limit"),
    ("parents, coalesce(cardinality(unmet), 0)", ", shared_key, shared_limit"),
    (
        "    END LOOP;\n",
        """    IF shared_limit IS NOT NULL THEN
        -- One that stands already is not touched, so that nobody waits for this transaction.
        INSERT INTO gate AS known (project_id, scope, name, concurrency)
        SELECT project, 'key', shared_key, shared_limit
        WHERE NOT EXISTS (SELECT FROM gate WHERE project_id = project AND scope = 'key'
                          AND name = shared_key AND concurrency = shared_limit)
        ON CONFLICT (project_id, scope, name)
        DO UPDATE SET concurrency = excluded.concurrency, changed_at = clock_timestamp();
    END IF;
""",
    ),
)


def upgrade() -> None:
    _make_gate()
    op.execute(
        "INSERT INTO gate (project_id, scope, name, paused)"
        " SELECT project_id, 'queue', name, true FROM queue WHERE paused"
    )
    op.drop_table("queue")
    op.add_column("kind", sa.Column("concurrency", sa.Integer(), nullable=True))
    op.add_column("job", sa.Column("concurrency_key", sa.String(), nullable=True))
    op.add_column("job", sa.Column("concurrency_limit", sa.Integer(), nullable=True))
    op.create_check_constraint(
        "limited_by_key",
        "job",
        "concurrency_limit IS NULL OR concurrency_limit >= 1 AND concurrency_key IS NOT NULL",
    )
    op.drop_index("job_to_ring", table_name="job", postgresql_where=TO_RING)
    order = ["queue", "project_id", "kind", "priority"]
    op.create_index("job_to_ring", "job", [*order, "queued_at", "id"], postgresql_where=PLAIN)
    keyed = [*order, "concurrency_key", "queued_at", "id"]
    op.create_index("job_keyed_to_ring", "job", keyed, postgresql_where=KEYED)
    holding = ["project_id", "concurrency_key"]
    op.create_index("job_holding_key", "job", holding, postgresql_where=HOLDING)
    function = _function_before()
    for words, more in ADDED:
        if function.count(words) != 1:
            raise ValueError(f"lading_enqueue has {words!r} {function.count(words)} times")
        function = function.replace(words, words + more)
    _define(function)


def downgrade() -> None:
    _define(_function_before())
    op.drop_index("job_holding_key", table_name="job", postgresql_where=HOLDING)
    op.drop_index("job_keyed_to_ring", table_name="job", postgresql_where=KEYED)
    op.drop_index("job_to_ring", table_name="job", postgresql_where=PLAIN)
    op.create_index(
        "job_to_ring",
        "job",
        ["queue", "project_id", "kind", sa.literal_column("priority DESC"), "queued_at", "id"],
        postgresql_where=TO_RING,
    )
    op.drop_constraint("limited_by_key", "job")
    op.drop_column("kind", "concurrency")
    op.drop_column("job", "concurrency_limit")
    op.drop_column("job", "concurrency_key")
    op.create_table(
        "queue",
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("paused", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.PrimaryKeyConstraint("project_id", "name"),
    )
    op.execute(
        "INSERT INTO queue (project_id, name, paused)"
        " SELECT project_id, name, true FROM gate WHERE scope = 'queue' AND paused"
    )
    op.drop_table("gate")


def _make_gate() -> None:
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "gate",
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("scope", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("paused", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("pause_reason", sa.String(), nullable=True),
        sa.Column("paused_by", sa.String(), nullable=True),
        sa.Column("paused_at", moment, nullable=True),
        sa.Column("concurrency", sa.Integer(), nullable=True),
        sa.Column("rate_limit", sa.Integer(), nullable=True),
        sa.Column("rate_seconds", sa.Float(), nullable=True),
        sa.Column("rate_burst", sa.Integer(), nullable=True),
        sa.Column("rate_spent_until", moment, nullable=True),
        sa.Column(
            "changed_at", moment, server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.CheckConstraint("scope IN ('key', 'kind', 'queue')", name="scope_is_known"),
        sa.CheckConstraint("concurrency >= 1", name="concurrency_lets_one_run"),
        sa.CheckConstraint(
            "(rate_limit IS NULL) = (rate_seconds IS NULL)"
            " AND (rate_limit IS NULL) = (rate_burst IS NULL)",
            name="rate_is_whole",
        ),
        sa.CheckConstraint(
            "rate_limit >= 1 AND rate_seconds > 0 AND rate_burst >= 1", name="rate_is_positive"
        ),
        sa.PrimaryKeyConstraint("project_id", "scope", "name"),
        postgresql_with={"fillfactor": 50},
    )
    named = ["project_id", "scope", "name"]
    op.create_index("gate_paused", "gate", named, postgresql_where=sa.text("paused"))
    op.create_index("gate_limited", "gate", named, postgresql_where=LIMITED)


def _function_before() -> str:
    text: str = context.script.get_revision("0003").module.FUNCTION
    return text


def _define(function: str) -> None:
    """Its tables are found whatever the caller's search_path says."""
    op.execute(function)
    schema = op.get_bind().scalar(sa.text("SELECT quote_ident(current_schema())"))
    name = "lading_enqueue(text, jsonb, jsonb)"
    op.execute(f"ALTER FUNCTION {name} SET search_path = {schema}, pg_temp")
