"""lading_enqueue(kind, args, options): a job from within anybody's own transaction

Revision: 0002, after 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# Owned by who migrates, and run with his rights: an application's role needs EXECUTE on it alone.
# It writes what jobs/enqueue.py writes; tests compare the two.
FUNCTION = """
CREATE FUNCTION lading_enqueue(kind text, args jsonb, options jsonb DEFAULT '{}') RETURNS uuid
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
BEGIN
    refused := (
        SELECT string_agg(key, ', ' ORDER BY key) FROM jsonb_object_keys(given) AS key
        WHERE key <> ALL (ARRAY['queue', 'priority', 'run_at', 'delay', 'max_attempts', 'timeout',
                                'expires_in', 'labels', 'idempotency_key', 'project']));
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
    INSERT INTO job (id, project_id, kind, queue, priority, args, redacted_args, labels,
                     max_attempts, timeout_seconds, state, seq, created_at, run_at, queued_at,
                     expires_at)
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
            (CASE WHEN due > at_once THEN 'scheduled' ELSE 'queued' END)::job_state, 1, at_once,
            due, CASE WHEN due > at_once THEN NULL ELSE at_once END,
            coalesce(due, at_once) + (given->>'expires_in')::double precision * interval '1 s');
    INSERT INTO job_event (job_id, seq, type, at, attempt, data)
    VALUES (new_id, 1, 'created', at_once, 0, jsonb_build_object(
        'state', CASE WHEN due > at_once THEN 'scheduled' ELSE 'queued' END));
    -- Each of PostgreSQL's processes has a row of its own, so that no transaction waits for another.
    INSERT INTO intake_total AS total (bucket, process_id, accepted)
    VALUES (left(new_id::text, 8), lpad(to_hex(pg_backend_pid()), 32, '0')::uuid, 1)
    ON CONFLICT (bucket, process_id) DO UPDATE SET accepted = total.accepted + 1;
    RETURN new_id;
END
$function$
"""

REPLAY = """
CREATE FUNCTION lading_replay(project text, key text, request jsonb) RETURNS uuid
LANGUAGE plpgsql AS $function$
#variable_conflict use_column
DECLARE
    first record;
BEGIN
    SELECT seen.fingerprint, seen.job_ids INTO first FROM idempotency_key AS seen
    WHERE seen.project_id = project AND seen.key = lading_replay.key;
    IF first.fingerprint <> sha256(convert_to(request::text, 'UTF8')) THEN
        RAISE unique_violation USING
            MESSAGE = format('the idempotency key %L was used for another request', key);
    END IF;
    IF NOT EXISTS (SELECT FROM job WHERE id = first.job_ids[1]) THEN
        RAISE no_data_found USING
            MESSAGE = format('the job of the idempotency key %L was deleted', key);
    END IF;
    RETURN first.job_ids[1];
END
$function$
"""


def upgrade() -> None:
    op.create_table(
        "kind",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("queue", sa.String(), nullable=False),
        sa.Column("max_attempts", sa.Integer(), nullable=False),
        sa.Column("timeout_seconds", sa.Float(), nullable=True),
        sa.Column("secret_args", sa.ARRAY(sa.Text()), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    schema = op.get_bind().scalar(sa.text("SELECT quote_ident(current_schema())"))
    for text, name in (
        (REPLAY, "lading_replay(text, text, jsonb)"),
        (FUNCTION, "lading_enqueue(text, jsonb, jsonb)"),
    ):
        op.execute(text)
        # Its tables are found whatever the caller's search_path says, and nobody can shadow them.
        op.execute(f"ALTER FUNCTION {name} SET search_path = {schema}, pg_temp")
        op.execute(f"REVOKE ALL ON FUNCTION {name} FROM PUBLIC")


def downgrade() -> None:
    op.execute("DROP FUNCTION lading_enqueue(text, jsonb, jsonb)")
    op.execute("DROP FUNCTION lading_replay(text, text, jsonb)")
    op.drop_table("kind")
