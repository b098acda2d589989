"""Schedules and their ticks

Revision: 0007, after 0006
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


_NOW = {"server_default": sa.text("clock_timestamp()"), "nullable": False}
_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    _create_schedule()
    _create_tick()
    op.add_column("job", sa.Column("schedule_id", sa.Uuid()))
    op.create_index(
        "job_by_schedule",
        "job",
        ["schedule_id", "id"],
        postgresql_where=sa.text("schedule_id IS NOT NULL"),
    )
    op.create_index(
        "job_live_of_schedule",
        "job",
        ["schedule_id"],
        postgresql_where=sa.text("schedule_id IS NOT NULL AND finished_at IS NULL"),
    )


def _create_schedule() -> None:
    op.create_table(
        "schedule",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("args", JSONB(), nullable=False),
        sa.Column("redacted_args", JSONB()),
        sa.Column("queue", sa.String()),
        sa.Column("priority", sa.SmallInteger(), nullable=False),
        sa.Column("labels", JSONB(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("ties", JSONB(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("timeout_seconds", sa.Float()),
        sa.Column("max_attempts", sa.Integer()),
        sa.Column("expires_seconds", sa.Float()),
        sa.Column("cron", sa.String()),
        sa.Column("timezone", sa.String(), nullable=False),
        sa.Column("every_seconds", sa.Float()),
        sa.Column("anchor_at", _TIME),
        sa.Column("at", _TIME),
        sa.Column("misfire", sa.String(), nullable=False),
        sa.Column("misfire_max", sa.Integer(), nullable=False),
        sa.Column("overlap", sa.String(), nullable=False),
        sa.Column("paused", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("next_at", _TIME),
        sa.Column("gone_at", _TIME),
        sa.Column("known_at", _TIME),
        sa.Column("version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("last_tick_at", _TIME),
        sa.Column("last_job_id", sa.Uuid()),
        sa.Column("created_at", _TIME, **_NOW),
        sa.Column("updated_at", _TIME, **_NOW),
        sa.CheckConstraint("num_nonnulls(cron, every_seconds, at) = 1", name="one_form"),
        sa.CheckConstraint(
            "(every_seconds IS NULL) = (anchor_at IS NULL)", name="anchored_interval"
        ),
        sa.CheckConstraint("priority BETWEEN 0 AND 9", name="priority_has_one_digit"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("project_id", "name", name="schedule_name"),
        postgresql_with={"fillfactor": 80},
    )
    op.create_index("schedule_by_project", "schedule", ["project_id", "id"])
    op.create_index(
        "schedule_due",
        "schedule",
        ["next_at"],
        postgresql_where=sa.text("next_at IS NOT NULL AND NOT paused AND gone_at IS NULL"),
    )


def _create_tick() -> None:
    op.create_table(
        "schedule_tick",
        sa.Column("schedule_id", sa.Uuid(), nullable=False),
        sa.Column("tick_at", _TIME, nullable=False),
        sa.Column("decided_at", _TIME, **_NOW),
        sa.Column("outcome", sa.String(), nullable=False),
        sa.Column("reason", sa.String()),
        sa.Column("job_id", sa.Uuid()),
        sa.Column("ticks", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.ForeignKeyConstraint(["schedule_id"], ["schedule.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("schedule_id", "tick_at"),
    )
    op.create_index("schedule_tick_by_age", "schedule_tick", ["decided_at"])


def downgrade() -> None:
    op.drop_index("job_live_of_schedule", "job")
    op.drop_index("job_by_schedule", "job")
    op.drop_column("job", "schedule_id")
    op.drop_table("schedule_tick")
    op.drop_table("schedule")
