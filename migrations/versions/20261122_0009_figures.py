"""Figures: how jobs of each kind have ended, and how long they took

Revision: 0009, after 0008
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "job_figure",
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("measure", sa.String(), nullable=False),
        sa.Column("label", sa.String(), nullable=False),
        sa.Column("times", sa.BigInteger(), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.CheckConstraint("measure IN ('finished', 'run', 'wait')", "measure_is_known"),
        sa.PrimaryKeyConstraint("kind", "measure", "label"),
        postgresql_with={"fillfactor": 50},
    )


def downgrade() -> None:
    op.drop_table("job_figure")
