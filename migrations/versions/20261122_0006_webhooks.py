"""Endpoints and deliveries

Revision: 0006, after 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('webhook_endpoint',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('project_id', sa.String(), nullable=False),
    sa.Column('url', sa.String(), nullable=False),
    sa.Column('description', sa.String(), nullable=False),
    sa.Column('event_types', sa.ARRAY(sa.Text()), nullable=False),
    sa.Column('enabled', sa.Boolean(), nullable=False),
    sa.Column('disabled_reason', sa.String(), nullable=True),
    sa.Column('disabled_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('failing_since', sa.DateTime(timezone=True), nullable=True),
    sa.Column('is_told', sa.Boolean(), server_default=sa.text('true'), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('clock_timestamp()'), nullable=False),
    sa.Column('updated_at', sa.DateTime(timezone=True), server_default=sa.text('clock_timestamp()'), nullable=False),
    sa.CheckConstraint('enabled = (disabled_reason IS NULL)', name='says_why_it_is_off'),
    sa.PrimaryKeyConstraint('id')
    )
    op.create_index('webhook_endpoint_by_project', 'webhook_endpoint', ['project_id', 'id'], unique=False)
    op.create_index('webhook_endpoint_to_tell', 'webhook_endpoint', ['id'], unique=False, postgresql_where=sa.text('NOT is_told'))
    op.create_table('job_webhook',
    sa.Column('job_id', sa.Uuid(), nullable=False),
    sa.Column('project_id', sa.String(), nullable=False),
    sa.Column('url', sa.String(), nullable=False),
    sa.Column('sealed', sa.LargeBinary(), nullable=True),
    sa.ForeignKeyConstraint(['job_id'], ['job.id'], ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('job_id')
    )
    op.create_index('job_webhook_by_project', 'job_webhook', ['project_id'], unique=False)
    op.create_table('webhook_delivery',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('project_id', sa.String(), nullable=False),
    sa.Column('endpoint_id', sa.Uuid(), nullable=True),
    sa.Column('about_job_id', sa.Uuid(), nullable=True),
    sa.Column('url', sa.String(), nullable=True),
    sa.Column('sealed', sa.LargeBinary(), nullable=True),
    sa.Column('event_source', sa.String(), nullable=False),
    sa.Column('event_id', sa.String(), nullable=False),
    sa.Column('event_type', sa.String(), nullable=False),
    sa.Column('body', sa.Text(), nullable=False),
    sa.Column('state', sa.String(), nullable=False),
    sa.Column('attempts', sa.Integer(), server_default=sa.text('0'), nullable=False),
    sa.Column('last_status', sa.SmallInteger(), nullable=True),
    sa.Column('last_error', sa.String(), nullable=True),
    sa.Column('next_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('job_id', sa.Uuid(), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('clock_timestamp()'), nullable=False),
    sa.Column('finished_at', sa.DateTime(timezone=True), nullable=True),
    sa.CheckConstraint("(state = 'pending') = (finished_at IS NULL)", name='finished_unless_pending'),
    sa.CheckConstraint("state IN ('pending', 'delivered', 'failed')", name='known_state'),
    sa.CheckConstraint('(about_job_id IS NULL) = (url IS NULL)', name='url_of_a_job'),
    sa.CheckConstraint('(endpoint_id IS NULL) <> (about_job_id IS NULL)', name='one_receiver'),
    sa.ForeignKeyConstraint(['endpoint_id'], ['webhook_endpoint.id'], ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('id')
    )
    op.create_index('webhook_delivery_by_endpoint', 'webhook_delivery', ['endpoint_id', 'id'], unique=False)
    op.create_index('webhook_delivery_by_state', 'webhook_delivery', ['endpoint_id', 'state', 'id'], unique=False)
    op.create_index('webhook_delivery_ended', 'webhook_delivery', ['finished_at'], unique=False, postgresql_where=sa.text("state <> 'pending'"))
    op.create_index('webhook_delivery_once', 'webhook_delivery', ['endpoint_id', 'event_source', 'event_id'], unique=True, postgresql_where=sa.text('endpoint_id IS NOT NULL'))
    op.create_index('webhook_delivery_once_of_job', 'webhook_delivery', ['about_job_id', 'event_source', 'event_id'], unique=True, postgresql_where=sa.text('about_job_id IS NOT NULL'))
    op.create_index('webhook_delivery_pending', 'webhook_delivery', ['id'], unique=False, postgresql_where=sa.text("state = 'pending'"))
    op.create_table('webhook_secret',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('endpoint_id', sa.Uuid(), nullable=False),
    sa.Column('sealed', sa.LargeBinary(), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('clock_timestamp()'), nullable=False),
    sa.Column('expires_at', sa.DateTime(timezone=True), nullable=True),
    sa.ForeignKeyConstraint(['endpoint_id'], ['webhook_endpoint.id'], ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('id')
    )
    op.create_index('webhook_secret_by_endpoint', 'webhook_secret', ['endpoint_id'], unique=False)
    op.create_table('webhook_attempt',
    sa.Column('delivery_id', sa.Uuid(), nullable=False),
    sa.Column('number', sa.Integer(), nullable=False),
    sa.Column('job_id', sa.Uuid(), nullable=False),
    sa.Column('at', sa.DateTime(timezone=True), server_default=sa.text('clock_timestamp()'), nullable=False),
    sa.Column('seconds', sa.Float(), nullable=True),
    sa.Column('status', sa.SmallInteger(), nullable=True),
    sa.Column('error', sa.String(), nullable=True),
    sa.Column('response', sa.String(), nullable=True),
    sa.ForeignKeyConstraint(['delivery_id'], ['webhook_delivery.id'], ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('delivery_id', 'number')
    )


def downgrade() -> None:
    op.drop_table('webhook_attempt')
    op.drop_index('webhook_secret_by_endpoint', table_name='webhook_secret')
    op.drop_table('webhook_secret')
    op.drop_index('webhook_delivery_pending', table_name='webhook_delivery', postgresql_where=sa.text("state = 'pending'"))
    op.drop_index('webhook_delivery_once_of_job', table_name='webhook_delivery', postgresql_where=sa.text('about_job_id IS NOT NULL'))
    op.drop_index('webhook_delivery_once', table_name='webhook_delivery', postgresql_where=sa.text('endpoint_id IS NOT NULL'))
    op.drop_index('webhook_delivery_by_state', table_name='webhook_delivery')
    op.drop_index('webhook_delivery_by_endpoint', table_name='webhook_delivery')
    op.drop_table('webhook_delivery')
    op.drop_table('job_webhook')
    op.drop_index('webhook_endpoint_by_project', table_name='webhook_endpoint')
    op.drop_table('webhook_endpoint')
