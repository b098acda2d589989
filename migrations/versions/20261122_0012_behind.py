"""Jobs that wait for another's end, however it ends

Revision: 0012, after 0011
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    no = sa.text("false")
    op.add_column(
        "job_dependency", sa.Column("any_end", sa.Boolean(), server_default=no, nullable=False)
    )


def downgrade() -> None:
    op.drop_column("job_dependency", "any_end")
