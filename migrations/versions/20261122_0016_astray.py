"""An index of the jobs whose ids are of another time than their rows

So that a window of time can be read without a day's jobs before and behind it.

Revision: 0016, after 0015
"""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

ASTRAY = (
    "abs(date_part('epoch', created_at - to_timestamp(0)) * 1000"
    " - CAST(CAST('x' || translate(left(CAST(id AS text), 13), '-', '') AS bit(48)) AS bigint))"
    " > 9000"
)


def upgrade() -> None:
    op.create_index(
        "job_astray", "job", ["project_id", "id"], postgresql_where=sa.text(ASTRAY)
    )


def downgrade() -> None:
    op.drop_index("job_astray", "job")
