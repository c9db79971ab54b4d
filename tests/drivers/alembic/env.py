"""As Alembic's own template has it, with the address from the environment."""

import os

from alembic import context
from sqlalchemy import create_engine, pool

# psycopg 3 is what is installed here; SQLAlchemy alone would take psycopg2.
url = os.environ["DATABASE_URL"].replace("postgresql://", "postgresql+psycopg://", 1)

with create_engine(url, poolclass=pool.NullPool).connect() as connection:
    context.configure(connection=connection, transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()
print("at", os.environ["GUARDIAN_PLACE"], "by", url)
