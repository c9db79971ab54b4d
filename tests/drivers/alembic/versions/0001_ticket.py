"""ticket"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision, down_revision = "0001", None


def upgrade():
    print("upgrade to", revision)
    op.create_table(
        "ticket",
        sa.Column("tenant_id", postgresql.UUID, nullable=False),
        sa.Column("id", sa.BigInteger, sa.Identity(), nullable=False),
        sa.Column("title", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "id"),
    )


def downgrade():
    op.drop_table("ticket")
