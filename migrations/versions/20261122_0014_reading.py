"""Indexes for readers: the jobs of a queue, and those of a kind that did not succeed

Revision: 0014, after 0013
"""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "job_by_queue",
        "job",
        ["project_id", "queue", "id"],
        postgresql_where=sa.text("queue <> 'default'"),
    )
    op.create_index(
        "job_unsuccessful_by_kind",
        "job",
        ["project_id", "kind", "state", "id"],
        postgresql_where=sa.text("state IN ('failed', 'cancelled')"),
    )


def downgrade() -> None:
    op.drop_index("job_unsuccessful_by_kind", "job")
    op.drop_index("job_by_queue", "job")
