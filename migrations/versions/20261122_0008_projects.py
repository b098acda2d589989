"""Projects, roles, audit and bulk operations

Revision: 0008, after 0007
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


#: A key that could do all there was can do all there is.
_EVERYTHING = "ARRAY['jobs:read', 'jobs:write', 'keys:manage', 'metrics:read']"


def upgrade() -> None:
    op.execute(
        sa.text(f"UPDATE api_key SET scopes = ARRAY['admin'] WHERE scopes @> {_EVERYTHING}")
    )


def downgrade() -> None:
    op.execute(
        sa.text(f"UPDATE api_key SET scopes = {_EVERYTHING} WHERE 'admin' = ANY (scopes)")
    )
