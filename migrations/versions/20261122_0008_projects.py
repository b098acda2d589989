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


def downgrade() -> None:
    op.drop_table("audit")
    op.execute(f"UPDATE api_key SET scopes = {_EVERYTHING} WHERE 'admin' = ANY (scopes)")
    op.drop_constraint("limited_or_not", "api_key")
    for column in ("burst", "rate", "expires_at", "kinds"):
        op.drop_column("api_key", column)
    op.drop_constraint("api_key_project_id_fkey", "api_key")
    op.drop_table("project")
