"""Events followed under a name, and published by handlers and from within other transactions

Revision: 0010, after 0009
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
NOW = sa.text("clock_timestamp()")

# As lading_enqueue: owned by who migrates, so that an application's role needs EXECUTE alone.
# It writes what jobs/bus/envelope.py lets through; tests compare the two.
FUNCTION = r"""
CREATE FUNCTION lading_publish(type text, data jsonb DEFAULT NULL, options jsonb DEFAULT '{}')
RETURNS uuid LANGUAGE plpgsql SECURITY DEFINER AS $function$
#variable_conflict use_column
DECLARE
    given constant jsonb := coalesce(jsonb_strip_nulls(lading_publish.options), '{}');
    project constant text := coalesce(given->>'project', 'default');
    event_source constant text := coalesce(given->>'source', '/projects/' || project);
    at_once constant timestamptz := clock_timestamp();
    new_id uuid;
    name text;
    document jsonb;
    refused text;
BEGIN
    refused := (
        SELECT string_agg(key, ', ' ORDER BY key) FROM jsonb_object_keys(given) AS key
        WHERE key <> ALL (ARRAY['project', 'id', 'source', 'subject']));
    IF refused IS NOT NULL THEN
        RAISE invalid_parameter_value USING MESSAGE = 'no such option: ' || refused;
    END IF;
    -- A UUIDv7 (RFC 9562, 5.7): milliseconds, and chance.
    new_id := encode(set_bit(set_bit(overlay(
        uuid_send(gen_random_uuid())
        PLACING substring(int8send((extract(epoch FROM at_once) * 1000)::bigint) FROM 3)
        FROM 1 FOR 6), 52, 1), 53, 1), 'hex')::uuid;
    name := coalesce(given->>'id', new_id::text);
    document := jsonb_build_object(
        'specversion', '1.0', 'id', name, 'source', event_source, 'type', lading_publish.type,
        'time', to_char(at_once AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'));
    IF given ? 'subject' THEN
        document := document || jsonb_build_object('subject', given->>'subject');
    END IF;
    IF lading_publish.data IS NOT NULL THEN
        document := document || jsonb_build_object(
            'datacontenttype', 'application/json', 'data', lading_publish.data);
    END IF;
    refused := (
        SELECT min(complaint) FROM (VALUES
            (EXISTS (SELECT FROM jsonb_each(given) WHERE jsonb_typeof(value) <> 'string'),
             'options are texts'),
            (lading_publish.type IS NULL OR length(lading_publish.type) NOT BETWEEN 1 AND 255
                OR lading_publish.type ~ '[\x01-\x1f\x7f-\x9f]', 'type has 1 … 255 characters'),
            (octet_length(name) NOT BETWEEN 1 AND 512 OR name ~ '[\x01-\x1f\x7f-\x9f]',
             'id has 1 … 512 bytes'),
            (length(event_source) > 1024 OR event_source ~ '#.*#' OR event_source !~
                '^([A-Za-z0-9._~:/?#\[\]@!$&''()*+,;=-]|%[0-9A-Fa-f]{2})+$',
             'source is a URI reference of up to 1024 characters'),
            (starts_with(event_source, '/lading/'), 'sources that begin with /lading/ are Lading''s'),
            (length(given->>'subject') NOT BETWEEN 1 AND 1024
                OR given->>'subject' ~ '[\x01-\x1f\x7f-\x9f]', 'subject has 1 … 1024 characters'),
            (octet_length(document::text) > 262144, 'the event is longer than 262144 bytes of JSON')
        ) AS rule (is_broken, complaint) WHERE is_broken);
    IF refused IS NOT NULL THEN
        RAISE invalid_parameter_value USING MESSAGE = refused;
    END IF;
    IF NOT EXISTS (SELECT FROM project AS known WHERE known.id = project) THEN
        RAISE invalid_parameter_value USING MESSAGE = format('there is no project %L', project);
    END IF;
    IF current_setting('synchronous_commit') = 'off' THEN
        PERFORM set_config('synchronous_commit', 'on', true);  -- what is accepted is durable
    END IF;
    -- A twin that has not committed yet is waited for, as long as the caller's lock_timeout.
    INSERT INTO cloud_event (id, project_id, source, event_id, type, envelope, is_pending)
    VALUES (new_id, project, event_source, name, lading_publish.type, document, true)
    ON CONFLICT (project_id, source, event_id) DO NOTHING;
    IF NOT FOUND THEN
        SELECT known.id INTO new_id FROM cloud_event AS known
        WHERE known.project_id = project AND known.source = event_source AND known.event_id = name;
    END IF;
    RETURN new_id;
END
$function$
"""


def upgrade() -> None:
    op.create_table(
        "event_consumer",
        sa.Column("id", sa.Uuid(), primary_key=True),
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("patterns", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("position", sa.String(), nullable=False),
        sa.Column("member_id", sa.Uuid(), nullable=False),
        sa.Column("joined_at", TIME, server_default=NOW, nullable=False),
        sa.Column("acknowledged_at", TIME, nullable=True),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False),
        sa.UniqueConstraint("project_id", "name", name="event_consumer_name"),
    )
    op.add_column("cloud_event", sa.Column("job_id", sa.Uuid(), nullable=True))
    op.add_column(
        "cloud_event",
        sa.Column("is_pending", sa.Boolean(), server_default=sa.text("false"), nullable=False),
    )
    op.create_index(
        "cloud_event_pending", "cloud_event", ["id"], postgresql_where=sa.text("is_pending")
    )
    schema = op.get_bind().scalar(sa.text("SELECT quote_ident(current_schema())"))
    name = "lading_publish(text, jsonb, jsonb)"
    op.execute(FUNCTION.replace(":", "\\:"))
    op.execute(f"ALTER FUNCTION {name} SET search_path = {schema}, pg_temp")
    op.execute(f"REVOKE ALL ON FUNCTION {name} FROM PUBLIC")


def downgrade() -> None:
    op.execute("DROP FUNCTION lading_publish(text, jsonb, jsonb)")
    op.drop_index("cloud_event_pending", "cloud_event")
    op.drop_column("cloud_event", "is_pending")
    op.drop_column("cloud_event", "job_id")
    op.drop_table("event_consumer")
