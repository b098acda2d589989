"""Events from outside, and triggers

Revision: 0005, after 0004
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
NOW = sa.text("clock_timestamp()")
EMPTY = sa.text("'{}'")


def upgrade() -> None:
    op.create_table(
        "cloud_event",
        sa.Column("id", sa.Uuid(), primary_key=True),
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("event_id", sa.String(), nullable=False),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("envelope", JSONB(), nullable=False),
        sa.Column("depth", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("error", sa.String(), nullable=True),
        sa.Column("received_at", TIME, server_default=NOW, nullable=False),
        sa.Column(
            "xact_id",
            sa.BigInteger(),
            server_default=sa.text("CAST(CAST(pg_current_xact_id() AS text) AS bigint)"),
            nullable=False,
        ),
        sa.UniqueConstraint("project_id", "source", "event_id", name="cloud_event_once"),
    )
    op.create_index("cloud_event_by_project", "cloud_event", ["project_id", "id"])
    op.create_index("cloud_event_by_type", "cloud_event", ["project_id", "type", "id"])
    op.create_index("cloud_event_by_xact", "cloud_event", ["xact_id"])
    op.create_table(
        "trigger",
        sa.Column("id", sa.Uuid(), primary_key=True),
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=True),
        sa.Column("pattern", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("filter", JSONB(), server_default=EMPTY, nullable=False),
        sa.Column("args", JSONB(), nullable=True),
        sa.Column("options", JSONB(), server_default=EMPTY, nullable=False),
        sa.Column("enabled", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("code_key", sa.String(), nullable=True),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False),
        sa.Column("updated_at", TIME, server_default=NOW, nullable=False),
        sa.UniqueConstraint("project_id", "code_key", name="trigger_in_code_once"),
    )
    op.create_index("trigger_by_project", "trigger", ["project_id", "id"])
    op.create_index(
        "trigger_by_pattern",
        "trigger",
        ["project_id", "pattern"],
        postgresql_where=sa.text("enabled"),
    )
    op.create_table(
        "trigger_firing",
        sa.Column("event_id", sa.Uuid(), primary_key=True),
        sa.Column("trigger_id", sa.Uuid(), primary_key=True),
        sa.Column("job_id", sa.Uuid(), nullable=True),
        sa.Column("error", JSONB(), nullable=True),
        sa.Column("at", TIME, server_default=NOW, nullable=False),
        sa.ForeignKeyConstraint(["event_id"], ["cloud_event.id"], ondelete="CASCADE"),
    )
    op.create_index(
        "trigger_firing_by_job",
        "trigger_firing",
        ["job_id"],
        postgresql_where=sa.text("job_id IS NOT NULL"),
    )
    op.create_table(
        "bus_position",
        sa.Column("name", sa.String(), primary_key=True),
        sa.Column("position", sa.String(), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("bus_position")
    op.drop_table("trigger_firing")
    op.drop_table("trigger")
    op.drop_table("cloud_event")
