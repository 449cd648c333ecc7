"""evaluations, predictions and exports as runs of their own; where a split dataset came from; planned figures

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = '0002'
down_revision = '0001'
branch_labels = None
depends_on = None

_DOCUMENT = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), 'postgresql')


def upgrade() -> None:
    with op.batch_alter_table('datasets', schema=None) as batch_op:
        batch_op.add_column(sa.Column('origin', _DOCUMENT, nullable=True))

    with op.batch_alter_table('experiments', schema=None) as batch_op:
        batch_op.add_column(sa.Column('plan', _DOCUMENT, nullable=True))
        batch_op.add_column(sa.Column('reproduces_id', sa.String(length=36), nullable=True))
        batch_op.create_index(batch_op.f('ix_experiments_reproduces_id'), ['reproduces_id'], unique=False)

    with op.batch_alter_table('runs', schema=None) as batch_op:
        batch_op.drop_constraint(op.f('ck_runs_task'), type_='check')
        batch_op.create_check_constraint(
            op.f('ck_runs_task'), "task IN ('train', 'simulate', 'pull', 'evaluate', 'predict', 'export')"
        )

    with op.batch_alter_table('evaluations', schema=None) as batch_op:
        batch_op.add_column(sa.Column('run_id', sa.String(length=36), nullable=True))
        batch_op.create_foreign_key(
            op.f('fk_evaluations_run_id_runs'), 'runs', ['run_id'], ['id'], ondelete='SET NULL'
        )
        batch_op.create_index(batch_op.f('ix_evaluations_run_id'), ['run_id'], unique=False)

    with op.batch_alter_table('artifacts', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_artifacts_run_id'), ['run_id'], unique=False)
