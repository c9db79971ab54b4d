"""state of a ticket, filled where there are some"""

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0002", "0001"


def upgrade():
    print("upgrade to", revision)
    state = sa.Enum("open", "closed", name="ticket_state")
    state.create(op.get_bind())
    op.add_column("ticket", sa.Column("state", state, server_default="open", nullable=False))
    op.execute("UPDATE ticket SET state = 'closed' WHERE title LIKE 'done:%'")
    op.create_index("ticket_state_index", "ticket", ["tenant_id", "state"])


def downgrade():
    op.drop_index("ticket_state_index")
    op.drop_column("ticket", "state")
    sa.Enum(name="ticket_state").drop(op.get_bind())
