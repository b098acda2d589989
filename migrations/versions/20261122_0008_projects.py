"""Projects, roles, audit and bulk operations

Revision: 0008, after 0007
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


_NOW = {"server_default": sa.text("clock_timestamp()")}
#: A key that could do all there was can do all there is.
_EVERYTHING = "ARRAY['jobs:read', 'jobs:write', 'keys:manage', 'metrics:read']"


def upgrade() -> None:
    project = op.create_table(
        "project",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), **_NOW, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.bulk_insert(project, [{"id": "default", "name": "default"}])
    op.execute(
        "INSERT INTO project (id, name) SELECT DISTINCT project_id, project_id FROM api_key"
        " ON CONFLICT DO NOTHING"
    )
    op.create_foreign_key(None, "api_key", "project", ["project_id"], ["id"])
    op.add_column("api_key", sa.Column("kinds", sa.ARRAY(sa.Text())))
    op.add_column("api_key", sa.Column("expires_at", sa.DateTime(timezone=True)))
    op.add_column("api_key", sa.Column("rate", sa.Float()))
    op.add_column("api_key", sa.Column("burst", sa.Integer()))
    op.create_check_constraint("limited_or_not", "api_key", "(rate IS NULL) = (burst IS NULL)")
    op.execute(f"UPDATE api_key SET scopes = ARRAY['admin'] WHERE scopes @> {_EVERYTHING}")
    _create_audit()
    _create_bulk()


def _create_audit() -> None:
    op.create_table(
        "audit",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), **_NOW, nullable=False),
        sa.Column("key_id", sa.String()),
        sa.Column("key_name", sa.String(), nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("target", sa.String(), nullable=False),
        sa.Column("times", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("request_id", sa.String()),
        sa.Column("address", sa.String()),
        sa.Column("details", JSONB(), server_default=sa.text("'{}'"), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        postgresql_with={"fillfactor": 90},
    )
    for name, columns in {
        "audit_by_project": ["project_id", "id"],
        "audit_by_actor": ["project_id", "key_id", "id"],
        "audit_by_action": ["project_id", "action", "id"],
        "audit_by_target": ["project_id", "target", "id"],
    }.items():
        op.create_index(name, "audit", columns)


def _create_bulk() -> None:
    zero = {"server_default": sa.text("0")}
    op.create_table(
        "bulk_operation",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("key_id", sa.String()),
        sa.Column("key_name", sa.String(), nullable=False),
        sa.Column("op", sa.String(), nullable=False),
        sa.Column("filter", JSONB(), nullable=False),
        sa.Column("priority", sa.SmallInteger()),
        sa.Column("reason", sa.String()),
        sa.Column("rate", sa.Float(), nullable=False),
        sa.Column("state", sa.String(), server_default="running", nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), **zero, nullable=False),
        sa.Column("done", sa.Integer(), **zero, nullable=False),
        sa.Column("skipped", sa.Integer(), **zero, nullable=False),
        sa.Column("failed", sa.Integer(), **zero, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), **_NOW, nullable=False),
        sa.Column("next_at", sa.DateTime(timezone=True), **_NOW, nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True)),
        sa.CheckConstraint("state IN ('running', 'stopped', 'done')", name="known_state"),
        sa.CheckConstraint(
            "(state = 'running') = (finished_at IS NULL)", name="finished_or_running"
        ),
        sa.CheckConstraint("position = done + skipped + failed", name="each_job_counted_once"),
        sa.CheckConstraint(
            "position <= total AND (state <> 'done' OR position = total)", name="all_done"
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("bulk_by_project", "bulk_operation", ["project_id", "id"])
    op.create_index(
        "bulk_to_go_on",
        "bulk_operation",
        ["next_at"],
        postgresql_where=sa.text("state = 'running'"),
    )
    op.create_table(
        "bulk_part",
        sa.Column("operation_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("ids", sa.ARRAY(sa.Uuid()), nullable=False),
        sa.ForeignKeyConstraint(["operation_id"], ["bulk_operation.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("operation_id", "number"),
    )


def downgrade() -> None:
    op.drop_table("bulk_part")
    op.drop_table("bulk_operation")
    op.drop_table("audit")
    op.execute(f"UPDATE api_key SET scopes = {_EVERYTHING} WHERE 'admin' = ANY (scopes)")
    op.drop_constraint("limited_or_not", "api_key")
    for column in ("burst", "rate", "expires_at", "kinds"):
        op.drop_column("api_key", column)
    op.drop_constraint("api_key_project_id_fkey", "api_key")
    op.drop_table("project")
