"""first schema

Revision ID: 0001
Revises: 
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = '0001'
down_revision = None
branch_labels = None
depends_on = None

_DOCUMENT = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), 'postgresql')


def upgrade() -> None:
    op.create_table('datasets',
    sa.Column('id', sa.String(length=36), nullable=False),
    sa.Column('name', sa.String(length=200), nullable=False),
    sa.Column('description', sa.Text(), nullable=True),
    sa.Column('dataset_type', sa.String(length=16), nullable=False),
    sa.Column('row_count', sa.BigInteger(), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('file_name', sa.String(length=255), nullable=False),
    sa.Column('stored_name', sa.String(length=255), nullable=False),
    sa.Column('file_format', sa.String(length=8), nullable=False),
    sa.Column('encoding', sa.String(length=32), nullable=True),
    sa.Column('size_bytes', sa.BigInteger(), nullable=False),
    sa.Column('sha256', sa.String(length=64), nullable=False),
    sa.Column('columns', _DOCUMENT, nullable=True),
    sa.Column('kind', sa.String(length=32), nullable=True),
    sa.Column('kind_reason', sa.Text(), nullable=False),
    sa.Column('mapping', _DOCUMENT, nullable=True),
    sa.Column('faults', _DOCUMENT, nullable=True),
    sa.Column('statistics', _DOCUMENT, nullable=True),
    sa.CheckConstraint("dataset_type IN ('training', 'evaluation')", name=op.f('ck_datasets_dataset_type')),
    sa.CheckConstraint('row_count >= 1', name=op.f('ck_datasets_row_count')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_datasets')),
    sa.UniqueConstraint('stored_name', name=op.f('uq_datasets_stored_name'))
    )
    with op.batch_alter_table('datasets', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_datasets_created_at_id'), ['created_at', 'id'], unique=False)
        batch_op.create_index(batch_op.f('ix_datasets_dataset_type_created_at_id'), ['dataset_type', 'created_at', 'id'], unique=False)

    op.create_table('models',
    sa.Column('id', sa.String(length=36), nullable=False),
    sa.Column('name', sa.String(length=200), nullable=False),
    sa.Column('model_type', sa.String(length=16), nullable=False),
    sa.Column('version', sa.String(length=32), nullable=False),
    sa.Column('architecture', sa.String(length=64), nullable=False),
    sa.Column('parameters_count', sa.BigInteger(), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('is_latest_version', sa.Boolean(), nullable=False),
    sa.Column('base_model_id', sa.String(length=36), nullable=True),
    sa.Column('description', sa.Text(), nullable=True),
    sa.Column('metadata', _DOCUMENT, nullable=True),
    sa.Column('tags', _DOCUMENT, nullable=True),
    sa.Column('source', _DOCUMENT, nullable=True),
    sa.Column('weights_folder', sa.String(length=255), nullable=True),
    sa.Column('weights_format', sa.String(length=16), nullable=True),
    sa.Column('simulated', sa.Boolean(), nullable=False),
    sa.Column('experiment_id', sa.String(length=36), nullable=True),
    sa.Column('seed_key', sa.String(length=64), nullable=True),
    sa.CheckConstraint("model_type IN ('base', 'fine_tuned')", name=op.f('ck_models_model_type')),
    sa.CheckConstraint('parameters_count >= 0', name=op.f('ck_models_parameters_count')),
    sa.ForeignKeyConstraint(['base_model_id'], ['models.id'], name=op.f('fk_models_base_model_id_models'), ondelete='RESTRICT'),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_models'))
    )
    with op.batch_alter_table('models', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_models_base_model_id'), ['base_model_id'], unique=False)
        batch_op.create_index(batch_op.f('ix_models_created_at_id'), ['created_at', 'id'], unique=False)
        batch_op.create_index(batch_op.f('ix_models_experiment_id'), ['experiment_id'], unique=False)
        batch_op.create_index(batch_op.f('ix_models_model_type_created_at_id'), ['model_type', 'created_at', 'id'], unique=False)
        batch_op.create_index('uq_models_seed_key', ['seed_key'], unique=True, sqlite_where=sa.text('seed_key IS NOT NULL'), postgresql_where=sa.text('seed_key IS NOT NULL'))

    op.create_table('experiments',
    sa.Column('id', sa.String(length=36), nullable=False),
    sa.Column('name', sa.String(length=200), nullable=False),
    sa.Column('description', sa.Text(), nullable=True),
    sa.Column('goal', sa.Text(), nullable=True),
    sa.Column('status', sa.String(length=16), nullable=False),
    sa.Column('base_model_id', sa.String(length=36), nullable=False),
    sa.Column('training_dataset_id', sa.String(length=36), nullable=False),
    sa.Column('eval_dataset_id', sa.String(length=36), nullable=True),
    sa.Column('training_config', _DOCUMENT, nullable=False),
    sa.Column('requested_config', _DOCUMENT, nullable=False),
    sa.Column('executor', sa.String(length=16), nullable=False),
    sa.Column('executor_reason', sa.Text(), nullable=False),
    sa.Column('simulated', sa.Boolean(), nullable=False),
    sa.Column('method', sa.String(length=16), nullable=False),
    sa.Column('adapter', sa.String(length=16), nullable=False),
    sa.Column('seed', sa.BigInteger(), nullable=False),
    sa.Column('warnings', _DOCUMENT, nullable=True),
    sa.Column('error', _DOCUMENT, nullable=True),
    sa.Column('resulting_model_id', sa.String(length=36), nullable=True),
    sa.Column('run_id', sa.String(length=36), nullable=True),
    sa.Column('event_count', sa.BigInteger(), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('started_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('finished_at', sa.DateTime(timezone=True), nullable=True),
    sa.CheckConstraint("status IN ('created', 'running', 'completed', 'failed', 'cancelled')", name=op.f('ck_experiments_status')),
    sa.ForeignKeyConstraint(['base_model_id'], ['models.id'], name=op.f('fk_experiments_base_model_id_models'), ondelete='RESTRICT'),
    sa.ForeignKeyConstraint(['eval_dataset_id'], ['datasets.id'], name=op.f('fk_experiments_eval_dataset_id_datasets'), ondelete='RESTRICT'),
    sa.ForeignKeyConstraint(['resulting_model_id'], ['models.id'], name=op.f('fk_experiments_resulting_model_id_models'), ondelete='RESTRICT'),
    sa.ForeignKeyConstraint(['training_dataset_id'], ['datasets.id'], name=op.f('fk_experiments_training_dataset_id_datasets'), ondelete='RESTRICT'),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_experiments'))
    )
    with op.batch_alter_table('experiments', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_experiments_base_model_id'), ['base_model_id'], unique=False)
        batch_op.create_index(batch_op.f('ix_experiments_created_at_id'), ['created_at', 'id'], unique=False)
        batch_op.create_index(batch_op.f('ix_experiments_eval_dataset_id'), ['eval_dataset_id'], unique=False)
        batch_op.create_index(batch_op.f('ix_experiments_resulting_model_id'), ['resulting_model_id'], unique=False)
        batch_op.create_index(batch_op.f('ix_experiments_status_created_at_id'), ['status', 'created_at', 'id'], unique=False)
        batch_op.create_index(batch_op.f('ix_experiments_training_dataset_id'), ['training_dataset_id'], unique=False)

    op.create_table('evaluations',
    sa.Column('id', sa.String(length=36), nullable=False),
    sa.Column('experiment_id', sa.String(length=36), nullable=True),
    sa.Column('model_id', sa.String(length=36), nullable=False),
    sa.Column('dataset_id', sa.String(length=36), nullable=True),
    sa.Column('simulated', sa.Boolean(), nullable=False),
    sa.Column('metrics', _DOCUMENT, nullable=False),
    sa.Column('loss_curve', _DOCUMENT, nullable=False),
    sa.Column('training_statistics', _DOCUMENT, nullable=False),
    sa.Column('details', _DOCUMENT, nullable=True),
    sa.Column('created_at', sa.DateTime(timezone=True), nullable=False),
    sa.ForeignKeyConstraint(['dataset_id'], ['datasets.id'], name=op.f('fk_evaluations_dataset_id_datasets'), ondelete='RESTRICT'),
    sa.ForeignKeyConstraint(['experiment_id'], ['experiments.id'], name=op.f('fk_evaluations_experiment_id_experiments'), ondelete='CASCADE'),
    sa.ForeignKeyConstraint(['model_id'], ['models.id'], name=op.f('fk_evaluations_model_id_models'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_evaluations'))
    )
    with op.batch_alter_table('evaluations', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_evaluations_created_at_id'), ['created_at', 'id'], unique=False)
        batch_op.create_index(batch_op.f('ix_evaluations_dataset_id'), ['dataset_id'], unique=False)
        batch_op.create_index(batch_op.f('ix_evaluations_experiment_id_created_at_id'), ['experiment_id', 'created_at', 'id'], unique=False)
        batch_op.create_index(batch_op.f('ix_evaluations_model_id'), ['model_id'], unique=False)

    op.create_table('runs',
    sa.Column('id', sa.String(length=36), nullable=False),
    sa.Column('task', sa.String(length=16), nullable=False),
    sa.Column('experiment_id', sa.String(length=36), nullable=True),
    sa.Column('model_id', sa.String(length=36), nullable=True),
    sa.Column('attempt', sa.Integer(), nullable=False),
    sa.Column('state', sa.String(length=16), nullable=False),
    sa.Column('executor', sa.String(length=16), nullable=False),
    sa.Column('directory', sa.String(length=64), nullable=False),
    sa.Column('spec', _DOCUMENT, nullable=False),
    sa.Column('handle', _DOCUMENT, nullable=True),
    sa.Column('owner', sa.String(length=128), nullable=True),
    sa.Column('lease_until', sa.DateTime(timezone=True), nullable=False),
    sa.Column('fence', sa.Integer(), nullable=False),
    sa.Column('cancel_requested_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('cancel_save', sa.Boolean(), nullable=False),
    sa.Column('progress', _DOCUMENT, nullable=True),
    sa.Column('error', _DOCUMENT, nullable=True),
    sa.Column('result', _DOCUMENT, nullable=True),
    sa.Column('resumed_from_step', sa.Integer(), nullable=True),
    sa.Column('checkpoint_step', sa.Integer(), nullable=True),
    sa.Column('last_seq', sa.BigInteger(), nullable=False),
    sa.Column('log_offset', sa.BigInteger(), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('started_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('finished_at', sa.DateTime(timezone=True), nullable=True),
    sa.CheckConstraint("state IN ('queued', 'starting', 'running', 'completed', 'failed', 'cancelled', 'interrupted')", name=op.f('ck_runs_state')),
    sa.CheckConstraint("task IN ('train', 'simulate', 'pull')", name=op.f('ck_runs_task')),
    sa.CheckConstraint('attempt >= 1', name=op.f('ck_runs_attempt')),
    sa.ForeignKeyConstraint(['experiment_id'], ['experiments.id'], name=op.f('fk_runs_experiment_id_experiments'), ondelete='CASCADE'),
    sa.ForeignKeyConstraint(['model_id'], ['models.id'], name=op.f('fk_runs_model_id_models'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_runs')),
    sa.UniqueConstraint('experiment_id', 'attempt', name=op.f('uq_runs_experiment_id_attempt'))
    )
    with op.batch_alter_table('runs', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_runs_model_id_task_id'), ['model_id', 'task', 'id'], unique=False)
        batch_op.create_index(batch_op.f('ix_runs_state_lease_until_id'), ['state', 'lease_until', 'id'], unique=False)

    op.create_table('artifacts',
    sa.Column('id', sa.String(length=36), nullable=False),
    sa.Column('run_id', sa.String(length=36), nullable=True),
    sa.Column('model_id', sa.String(length=36), nullable=True),
    sa.Column('kind', sa.String(length=32), nullable=False),
    sa.Column('path', sa.String(length=512), nullable=False),
    sa.Column('size_bytes', sa.BigInteger(), nullable=False),
    sa.Column('sha256', sa.String(length=64), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), nullable=False),
    sa.ForeignKeyConstraint(['model_id'], ['models.id'], name=op.f('fk_artifacts_model_id_models'), ondelete='RESTRICT'),
    sa.ForeignKeyConstraint(['run_id'], ['runs.id'], name=op.f('fk_artifacts_run_id_runs'), ondelete='SET NULL'),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_artifacts')),
    sa.UniqueConstraint('path', name=op.f('uq_artifacts_path'))
    )
    with op.batch_alter_table('artifacts', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_artifacts_model_id'), ['model_id'], unique=False)

    op.create_table('events',
    sa.Column('id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), autoincrement=True, nullable=False),
    sa.Column('run_id', sa.String(length=36), nullable=False),
    sa.Column('experiment_id', sa.String(length=36), nullable=True),
    sa.Column('number', sa.BigInteger(), nullable=False),
    sa.Column('seq', sa.BigInteger(), nullable=False),
    sa.Column('attempt', sa.Integer(), nullable=False),
    sa.Column('type', sa.String(length=32), nullable=False),
    sa.Column('step', sa.BigInteger(), nullable=True),
    sa.Column('time', sa.DateTime(timezone=True), nullable=False),
    sa.Column('payload', _DOCUMENT, nullable=False),
    sa.ForeignKeyConstraint(['experiment_id'], ['experiments.id'], name=op.f('fk_events_experiment_id_experiments'), ondelete='CASCADE'),
    sa.ForeignKeyConstraint(['run_id'], ['runs.id'], name=op.f('fk_events_run_id_runs'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_events')),
    sa.UniqueConstraint('experiment_id', 'number', name=op.f('uq_events_experiment_id_number')),
    sa.UniqueConstraint('run_id', 'seq', name=op.f('uq_events_run_id_seq'))
    )
    with op.batch_alter_table('events', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_events_experiment_id_type_number'), ['experiment_id', 'type', 'number'], unique=False)



def downgrade() -> None:
    with op.batch_alter_table('events', schema=None) as batch_op:
        batch_op.drop_index(batch_op.f('ix_events_experiment_id_type_number'))

    op.drop_table('events')
    with op.batch_alter_table('artifacts', schema=None) as batch_op:
        batch_op.drop_index(batch_op.f('ix_artifacts_model_id'))

    op.drop_table('artifacts')
    with op.batch_alter_table('runs', schema=None) as batch_op:
        batch_op.drop_index(batch_op.f('ix_runs_state_lease_until_id'))
        batch_op.drop_index(batch_op.f('ix_runs_model_id_task_id'))

    op.drop_table('runs')
    with op.batch_alter_table('evaluations', schema=None) as batch_op:
        batch_op.drop_index(batch_op.f('ix_evaluations_model_id'))
        batch_op.drop_index(batch_op.f('ix_evaluations_experiment_id_created_at_id'))
        batch_op.drop_index(batch_op.f('ix_evaluations_dataset_id'))
        batch_op.drop_index(batch_op.f('ix_evaluations_created_at_id'))

    op.drop_table('evaluations')
    with op.batch_alter_table('experiments', schema=None) as batch_op:
        batch_op.drop_index(batch_op.f('ix_experiments_training_dataset_id'))
        batch_op.drop_index(batch_op.f('ix_experiments_status_created_at_id'))
        batch_op.drop_index(batch_op.f('ix_experiments_resulting_model_id'))
        batch_op.drop_index(batch_op.f('ix_experiments_eval_dataset_id'))
        batch_op.drop_index(batch_op.f('ix_experiments_created_at_id'))
        batch_op.drop_index(batch_op.f('ix_experiments_base_model_id'))

    op.drop_table('experiments')
    with op.batch_alter_table('models', schema=None) as batch_op:
        batch_op.drop_index('uq_models_seed_key', sqlite_where=sa.text('seed_key IS NOT NULL'), postgresql_where=sa.text('seed_key IS NOT NULL'))
        batch_op.drop_index(batch_op.f('ix_models_model_type_created_at_id'))
        batch_op.drop_index(batch_op.f('ix_models_experiment_id'))
        batch_op.drop_index(batch_op.f('ix_models_created_at_id'))
        batch_op.drop_index(batch_op.f('ix_models_base_model_id'))

    op.drop_table('models')
    with op.batch_alter_table('datasets', schema=None) as batch_op:
        batch_op.drop_index(batch_op.f('ix_datasets_dataset_type_created_at_id'))
        batch_op.drop_index(batch_op.f('ix_datasets_created_at_id'))

    op.drop_table('datasets')
