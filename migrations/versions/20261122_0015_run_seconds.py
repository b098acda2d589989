"""How long an attempt's handler ran, by its own process

Revision: 0015, after 0014
"""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("job_attempt", sa.Column("run_seconds", sa.Float(), nullable=True))


def downgrade() -> None:
    op.drop_column("job_attempt", "run_seconds")
