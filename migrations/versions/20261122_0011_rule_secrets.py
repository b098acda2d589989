"""Secrets of the webhooks that rules name, sealed as all others are

Revision: 0011, after 0010
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

# A rule's secret is bound to the rule, and its jobs carry it as it is: so who fires needs no key.
RULES = ("trigger", "schedule")
CARRIERS = {"job_webhook": "job_id", "webhook_delivery": "about_job_id"}


def upgrade() -> None:
    for table in RULES:
        op.add_column(table, sa.Column("sealed", sa.LargeBinary(), nullable=True))
    for table, job in CARRIERS.items():
        op.add_column(table, sa.Column("sealed_for", sa.Uuid(), nullable=True))
        op.execute(f"UPDATE {table} SET sealed_for = {job} WHERE sealed IS NOT NULL")
        same = "(sealed IS NULL) = (sealed_for IS NULL)"
        op.create_check_constraint("sealed_for_a_row", table, same)


def downgrade() -> None:
    for table in CARRIERS:
        op.drop_constraint("sealed_for_a_row", table)
        op.execute(f"UPDATE {table} SET sealed = NULL WHERE sealed IS NOT NULL")
        op.drop_column(table, "sealed_for")
    for table in RULES:
        op.drop_column(table, "sealed")
