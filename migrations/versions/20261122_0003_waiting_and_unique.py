"""Unique keys, jobs that wait for others, batches

Revision: 0003, after 0002
"""

import sqlalchemy as sa
from alembic import context, op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

FUNCTION = """
CREATE OR REPLACE FUNCTION lading_enqueue(kind text, args jsonb, options jsonb DEFAULT '{}') RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER AS $function$
#variable_conflict use_column
DECLARE
    given constant jsonb := coalesce(jsonb_strip_nulls(lading_enqueue.options), '{}');
    project constant text := coalesce(given->>'project', 'default');
    idempotency constant text := given->>'idempotency_key';
    at_once constant timestamptz := clock_timestamp();
    new_id uuid;
    due timestamptz;
    default_queue text;
    default_attempts integer;
    default_timeout double precision;
    secrets text[];
    refused text;
    unique_key constant text := given #>> '{unique,key}';
    unique_scope constant text := CASE WHEN given ? 'unique'
        THEN coalesce(given #>> '{unique,scope}', 'active') END;
    on_conflict constant text := coalesce(given #>> '{unique,on_conflict}', 'reject');
    parents uuid[];
    unmet uuid[];
    born text;
    holder uuid;
BEGIN
    refused := (
        SELECT string_agg(key, ', ' ORDER BY key) FROM jsonb_object_keys(given) AS key
        WHERE key <> ALL (ARRAY['queue', 'priority', 'run_at', 'delay', 'max_attempts', 'timeout',
                                'expires_in', 'labels', 'idempotency_key', 'project', 'unique',
                                'after']));
    IF refused IS NOT NULL THEN
        RAISE invalid_parameter_value USING MESSAGE = 'no such option: ' || refused;
    END IF;
    refused := (
        SELECT min(complaint) FROM (VALUES
            (jsonb_typeof(lading_enqueue.args) IS DISTINCT FROM 'object', 'args is an object'),
            (octet_length(lading_enqueue.args::text) > 262144,
             'args is longer than 262144 bytes of JSON'),
            (given ? 'run_at' AND given ? 'delay', 'run_at or delay, not both'),
            (given ? 'run_at' AND given->>'run_at' !~* '[0-9](z|[+-][0-9]{2}(:?[0-9]{2})?)$',
             'run_at has an offset, as in RFC 3339'),
            (given ? 'queue' AND (length(given->>'queue') > 100
                OR given->>'queue' !~ '^[a-z][a-z0-9_-]*(\\.[a-z0-9_-]+)*$'),
             'queue is a name such as io.mail'),
            (given ? 'priority' AND given->>'priority' !~ '^[0-9]$', 'priority is 0 … 9'),
            (given ? 'max_attempts' AND given->>'max_attempts' !~ '^([1-9][0-9]{0,2}|1000)$',
             'max_attempts is 1 … 1000'),
            (given ? 'idempotency_key' AND (jsonb_typeof(given->'idempotency_key') <> 'string'
                OR length(idempotency) NOT BETWEEN 1 AND 255),
             'idempotency_key has 1 … 255 characters'),
            (given ? 'unique' AND (jsonb_typeof(given->'unique') <> 'object'
                OR jsonb_typeof(given #> '{unique,key}') IS DISTINCT FROM 'string'
                OR length(unique_key) NOT BETWEEN 1 AND 255),
             'unique is an object with a key of 1 … 255 characters'),
            (given ? 'unique' AND unique_scope NOT IN ('active', 'queued'),
             'unique.scope is active or queued'),
            (given ? 'unique' AND on_conflict NOT IN ('reject', 'return', 'replace'),
             'unique.on_conflict is reject, return or replace'),
            (given ? 'after' AND (jsonb_typeof(given->'after') <> 'array'
                OR jsonb_path_exists(given->'after', '$[*] ? (!(@ like_regex
                    "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$" flag "i"))')
                OR jsonb_array_length(given->'after') > 100),
             'after is an array of up to 100 ids of jobs'),
            (jsonb_typeof(given->'labels') <> 'object', 'labels is an object of texts')
        ) AS rule (is_broken, complaint) WHERE is_broken);
    IF refused IS NULL THEN
        refused := (
            SELECT min(format('%s is a number of seconds, up to ten years', key)) FROM jsonb_each(given)
            WHERE key IN ('delay', 'timeout', 'expires_in')
                  AND (jsonb_typeof(value) <> 'number'
                       OR NOT value::text::double precision BETWEEN 0 AND 315619200 -- 3653 days
                       OR (key <> 'delay' AND value::text::double precision = 0)));
    END IF;
    IF refused IS NULL AND given ? 'labels' THEN
        refused := (
            SELECT 'labels are at most 64 texts of 255 characters' FROM jsonb_each(given->'labels')
            HAVING count(*) > 64 OR NOT bool_and(jsonb_typeof(value) = 'string'
                AND length(key) BETWEEN 1 AND 255 AND length(value #>> '{}') <= 255));
    END IF;
    IF refused IS NULL AND given ? 'unique' THEN
        refused := (
            SELECT 'no such part of unique: ' || string_agg(key, ', ' ORDER BY key)
            FROM jsonb_object_keys(given->'unique') AS key
            WHERE key NOT IN ('key', 'scope', 'on_conflict'));
    END IF;
    IF refused IS NOT NULL THEN
        RAISE invalid_parameter_value USING MESSAGE = refused;
    END IF;

    SELECT known.queue, known.max_attempts, known.timeout_seconds, known.secret_args
    INTO default_queue, default_attempts, default_timeout, secrets
    FROM kind AS known WHERE known.name = lading_enqueue.kind;
    IF NOT FOUND THEN
        RAISE invalid_parameter_value USING
            MESSAGE = format('there is no kind %L', lading_enqueue.kind),
            HINT = 'A kind is known here once a worker that has it was started.';
    END IF;

    IF given ? 'after' THEN
        parents := ARRAY (SELECT id::uuid FROM jsonb_array_elements_text(given->'after')
                          WITH ORDINALITY AS named (id, place) GROUP BY id ORDER BY min(place));
        refused := (
            SELECT string_agg(parent::text, ', ') FROM unnest(parents) AS parent
            WHERE NOT EXISTS (SELECT FROM job WHERE id = parent AND project_id = project));
        IF refused IS NOT NULL THEN
            RAISE invalid_parameter_value USING MESSAGE = 'after names no job: ' || refused;
        END IF;
        unmet := ARRAY (
            SELECT id FROM job WHERE id = ANY (parents) AND state::text <> 'succeeded');
    END IF;

    -- A UUIDv7 (RFC 9562, 5.7): milliseconds, and chance.
    new_id := encode(set_bit(set_bit(overlay(
        uuid_send(gen_random_uuid())
        PLACING substring(int8send((extract(epoch FROM at_once) * 1000)::bigint) FROM 3)
        FROM 1 FOR 6), 52, 1), 53, 1), 'hex')::uuid;

    IF idempotency IS NOT NULL THEN
        -- A twin that has not committed yet is waited for, as long as the caller's lock_timeout.
        INSERT INTO idempotency_key (project_id, key, fingerprint, job_ids)
        VALUES (project, idempotency, sha256(convert_to(jsonb_build_array(
                    lading_enqueue.kind, lading_enqueue.args, given - 'idempotency_key'
                )::text, 'UTF8')), ARRAY[new_id])
        ON CONFLICT DO NOTHING;
        IF NOT FOUND THEN
            RETURN lading_replay(project, idempotency, jsonb_build_array(
                lading_enqueue.kind, lading_enqueue.args, given - 'idempotency_key'));
        END IF;
    END IF;
    IF current_setting('synchronous_commit') = 'off' THEN
        PERFORM set_config('synchronous_commit', 'on', true);  -- what is accepted is durable
    END IF;

    due := coalesce((given->>'run_at')::timestamptz,
                    at_once + (given->>'delay')::double precision * interval '1 s');
    IF due NOT BETWEEN '1970-01-01Z'::timestamptz AND at_once + interval '3654 days' THEN
        RAISE invalid_parameter_value USING MESSAGE = 'run_at is before 1970, or beyond ten years';
    END IF;
    born := CASE WHEN cardinality(unmet) > 0 THEN 'waiting'
                 WHEN due > at_once THEN 'scheduled' ELSE 'queued' END;
    FOR try IN 1 .. 3 LOOP
        holder := lading_make_way(project, unique_key, unique_scope, on_conflict);
        IF holder IS NOT NULL THEN
            UPDATE idempotency_key SET job_ids = ARRAY[holder]
            WHERE project_id = project AND idempotency_key.key = idempotency;
            RETURN holder;
        END IF;
        INSERT INTO job (id, project_id, kind, queue, priority, args, redacted_args, labels,
                         max_attempts, timeout_seconds, state, seq, created_at, run_at, queued_at,
                         expires_at, unique_key, unique_scope, after, parents_left)
        VALUES (new_id, project, lading_enqueue.kind, coalesce(given->>'queue', default_queue),
                coalesce((given->>'priority')::smallint, 5), lading_enqueue.args,
                CASE WHEN cardinality(secrets) > 0 THEN (
                    SELECT coalesce(jsonb_object_agg(key, CASE
                        WHEN key = ANY (secrets) OR '*' = ANY (secrets) THEN '"**********"'
                        ELSE value END), '{}') FROM jsonb_each(lading_enqueue.args))
                END,
                coalesce(given->'labels', '{}'),
                coalesce((given->>'max_attempts')::integer, default_attempts),
                coalesce((given->>'timeout')::double precision, default_timeout),
                born::job_state, 1, at_once,
                due, CASE WHEN born = 'queued' THEN at_once END,
                coalesce(due, at_once) + (given->>'expires_in')::double precision * interval '1 s',
                unique_key, unique_scope, parents, coalesce(cardinality(unmet), 0))
        ON CONFLICT DO NOTHING;
        EXIT WHEN FOUND;
        IF try = 3 THEN
            RAISE unique_violation USING
                MESSAGE = format('the unique key %L goes from job to job', unique_key);
        END IF;
    END LOOP;
    IF cardinality(unmet) > 0 THEN
        INSERT INTO job_dependency (parent_id, job_id)
        SELECT parent, new_id FROM unnest(unmet) AS parent;
    END IF;
    INSERT INTO job_event (job_id, seq, type, at, attempt, data)
    VALUES (new_id, 1, 'created', at_once, 0, jsonb_build_object('state', born));
    -- Each of PostgreSQL's processes has a row of its own, so that no transaction waits for another.
    INSERT INTO intake_total AS total (bucket, process_id, accepted)
    VALUES (left(new_id::text, 8), lpad(to_hex(pg_backend_pid()), 32, '0')::uuid, 1)
    ON CONFLICT (bucket, process_id) DO UPDATE SET accepted = total.accepted + 1;
    RETURN new_id;
END
$function$
"""

# The id of the job that is returned instead of a new one; whoever has the key may have to go.
MAKE_WAY = """
CREATE FUNCTION lading_make_way(project text, key text, scope text, on_conflict text) RETURNS uuid
LANGUAGE plpgsql AS $function$
#variable_conflict use_column
DECLARE
    held record;
BEGIN
    IF key IS NULL THEN
        RETURN NULL;
    END IF;
    SELECT id, state::text AS state, seq, attempt INTO held FROM job
    WHERE project_id = project AND unique_key = lading_make_way.key AND finished_at IS NULL
          AND (scope = 'active' OR (state::text IN ('waiting', 'scheduled', 'queued') AND attempt = 0))
    ORDER BY id LIMIT 1 FOR NO KEY UPDATE;
    IF NOT FOUND OR on_conflict = 'return' THEN
        RETURN held.id;
    END IF;
    IF on_conflict = 'replace' AND held.state <> 'running' THEN
        UPDATE job SET state = 'cancelled', seq = seq + 1, finished_at = clock_timestamp(),
                       rung_at = NULL
        WHERE id = held.id;
        INSERT INTO job_event (job_id, seq, type, at, attempt, data)
        VALUES (held.id, held.seq + 1, 'cancelled', clock_timestamp(), held.attempt,
                '{"reason": "replaced"}');
        RETURN NULL;
    END IF;
    RAISE unique_violation USING
        MESSAGE = format('the unique key %L is held by job %s', key, held.id),
        DETAIL = held.id::text;
END
$function$
"""

ENQUEUE = "lading_enqueue(text, jsonb, jsonb)"


def upgrade() -> None:
    add_columns()
    make_tables()
    # They come back as they were: with nobody's rights, and a search_path of their own.
    schema = op.get_bind().scalar(sa.text("SELECT quote_ident(current_schema())"))
    for text, name in ((MAKE_WAY, "lading_make_way(text, text, text, text)"), (FUNCTION, ENQUEUE)):
        op.execute(text)
        op.execute(f"ALTER FUNCTION {name} SET search_path = {schema}, pg_temp")
        op.execute(f"REVOKE ALL ON FUNCTION {name} FROM PUBLIC")


def downgrade() -> None:
    op.execute("DROP FUNCTION lading_make_way(text, text, text, text)")
    before = context.script.get_revision("0002").module.FUNCTION
    op.execute(before.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION"))
    op.drop_table("batch")
    op.drop_table("job_dependency")
    for name in (
        *("job_let_go", "job_to_settle", "job_of_batch"),
        *("unique_until_started", "unique_while_active", "job_by_unique_key"),
    ):
        op.drop_index(name, "job")
    op.drop_constraint("unique_within_a_scope", "job")
    for name in (
        *("batch_id", "is_awaited", "parents_left", "after", "unique_scope", "unique_key"),
    ):
        op.drop_column("job", name)


def add_columns() -> None:
    for column in (
        sa.Column("unique_key", sa.String(), nullable=True),
        sa.Column("unique_scope", sa.String(), nullable=True),
        sa.Column("after", sa.ARRAY(sa.Uuid()), nullable=True),
        sa.Column("parents_left", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("is_awaited", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("batch_id", sa.Uuid(), nullable=True),
    ):
        op.add_column("job", column)
    op.create_check_constraint(
        "unique_within_a_scope", "job", "(unique_key IS NULL) = (unique_scope IS NULL)"
    )
    unique = ["project_id", "unique_key"]
    for name, columns, condition in (
        ("job_by_unique_key", unique, "unique_key IS NOT NULL AND finished_at IS NULL"),
        ("unique_while_active", unique, "unique_scope = 'active' AND finished_at IS NULL"),
        (
            "unique_until_started",
            unique,
            "unique_key IS NOT NULL AND state IN ('waiting', 'scheduled', 'queued')"
            " AND attempt = 0",
        ),
        ("job_of_batch", ["batch_id", "state", "id"], "batch_id IS NOT NULL"),
        ("job_to_settle", ["finished_at"], "is_awaited AND finished_at IS NOT NULL"),
        ("job_let_go", ["parents_left", "run_at"], "state = 'waiting' AND parents_left <= 0"),
    ):
        is_unique = name.startswith("unique")
        where = sa.text(condition)
        op.create_index(name, "job", columns, unique=is_unique, postgresql_where=where)


def make_tables() -> None:
    op.create_table(
        "job_dependency",
        sa.Column("parent_id", sa.Uuid(), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("is_told", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.PrimaryKeyConstraint("parent_id", "job_id"),
    )
    op.create_index(
        "job_dependency_to_tell",
        "job_dependency",
        ["parent_id"],
        postgresql_where=sa.text("NOT is_told"),
    )
    op.create_index("job_dependency_of", "job_dependency", ["job_id"])
    now = sa.text("clock_timestamp()")
    op.create_table(
        "batch",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("project_id", sa.String(), server_default="default", nullable=False),
        sa.Column("failure_policy", sa.String(), nullable=False),
        sa.Column("is_open", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("jobs", sa.Integer(), nullable=False),
        sa.Column("on_complete", sa.Uuid(), nullable=True),
        sa.Column("on_success", sa.Uuid(), nullable=True),
        sa.Column("cancel_reason", sa.String(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=now, nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "failure_policy IN ('continue', 'fail_fast')", "failure_policy_is_known"
        ),
        sa.CheckConstraint("finished_at IS NULL OR NOT is_open", "closed_when_finished"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("batch_by_project", "batch", ["project_id", "id"])
    op.create_index(
        "batch_unfinished", "batch", ["id"], postgresql_where=sa.text("finished_at IS NULL")
    )
