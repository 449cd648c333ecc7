"""tombstones: files whose rows are gone and which are still to be taken off the disk

Revision ID: 0003
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = '0003'
down_revision = '0002'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        'tombstones',
        sa.Column('id', sa.String(length=36), nullable=False),
        sa.Column('place', sa.String(length=8), nullable=False),
        sa.Column('path', sa.String(length=512), nullable=False),
        sa.Column('created_at', sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("place IN ('data', 'uploads')", name=op.f('ck_tombstones_place')),
        sa.PrimaryKeyConstraint('id', name=op.f('pk_tombstones')),
    )
