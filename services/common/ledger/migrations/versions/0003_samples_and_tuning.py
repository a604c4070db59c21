"""A sample of each generation's chunks, and what was tuned for a knowledge base."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "samples",
        sa.Column("generation_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("slot", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("hash", sa.BigInteger(), nullable=False),
        sa.Column("document_id", sa.String(length=32), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("vector", sa.LargeBinary(), nullable=False),
        sa.Column("opening", sa.LargeBinary(), nullable=True),
        sa.Column("rest", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(
            ["document_id"], ["documents.id"], name=op.f("fk_samples_document_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["generation_id"], ["generations.id"], name=op.f("fk_samples_generation_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("generation_id", "slot", name=op.f("pk_samples")),
    )
    op.create_index(op.f("ix_samples_document_id"), "samples", ["document_id"])
    op.add_column("knowledge_bases", sa.Column("dense_weight", sa.Double(), nullable=True))
    op.add_column("knowledge_bases", sa.Column("min_confidence", sa.Double(), nullable=True))


def downgrade() -> None:
    op.drop_column("knowledge_bases", "min_confidence")
    op.drop_column("knowledge_bases", "dense_weight")
    op.drop_index(op.f("ix_samples_document_id"), table_name="samples")
    op.drop_table("samples")
