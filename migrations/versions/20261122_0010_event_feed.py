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


def downgrade() -> None:
    op.drop_index("cloud_event_pending", "cloud_event")
    op.drop_column("cloud_event", "is_pending")
    op.drop_column("cloud_event", "job_id")
    op.drop_table("event_consumer")
