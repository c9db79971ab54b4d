#!/usr/bin/env bash
# SQLAlchemy's tests of its PostgreSQL dialect, on psycopg 3. See suite.sh for what it takes. ALL=1 adds the suite that every
# dialect has to pass, which takes minutes.
# shellcheck source-path=SCRIPTDIR source=suite.sh
source "$(dirname "${BASH_SOURCE[0]}")/suite.sh"
want python sqlalchemy
allow_creation
as_administrator "CREATE SCHEMA IF NOT EXISTS test_schema AUTHORIZATION $(role); CREATE SCHEMA IF NOT EXISTS test_schema_2 AUTHORIZATION $(role)"
as_administrator "CREATE EXTENSION IF NOT EXISTS hstore; CREATE EXTENSION IF NOT EXISTS citext"

# Its tests of text search want it. `initdb` writes it into postgresql.conf, of which Guardian's own PostgreSQL keeps nothing.
export PGOPTIONS="-c default_text_search_config=pg_catalog.english"

cd "$suites/sqlalchemy"
tests=(test/dialect/postgresql/test_dialect.py test/dialect/postgresql/test_query.py test/dialect/postgresql/test_async_pg.py
    test/dialect/postgresql/test_on_conflict.py test/engine/test_transaction.py)
if [[ ${ALL:-} ]]; then tests=(test/dialect/test_suite.py test/dialect/postgresql test/engine/test_transaction.py); fi
pytest_options=(--dburi "postgresql+psycopg://$PGUSER:$PGPASSWORD@$PGHOST:$PGPORT/$PGDATABASE")
run_pytest sqlalchemy "${tests[@]}"
