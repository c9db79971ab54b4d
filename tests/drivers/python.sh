#!/usr/bin/env bash
# The short scripts: psycopg 3, asyncpg and SQLAlchemy. See README.md.
# shellcheck source-path=SCRIPTDIR source=suite.sh
source "$(dirname "${BASH_SOURCE[0]}")/suite.sh"
want python
failed=0
for driver in psycopg asyncpg sqlalchemy; do
    timeout 120 "$suites/python/venv/bin/python" "$here/python/drive_$driver.py" || failed=1
done
exit "$failed"
