"""experiments.requested_executor: what was asked for, which `auto` resolves to something else

Revision ID: 0004
Revises: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = '0004'
down_revision = '0003'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column('experiments', sa.Column('requested_executor', sa.String(length=16), nullable=True))
    # Until now only the reason's words told a simulation that was asked for from one for want of weights.
    op.execute(
        "UPDATE experiments SET requested_executor = 'simulation' "
        "WHERE executor = 'simulation' AND executor_reason LIKE 'Simulation was asked for%'"
    )
