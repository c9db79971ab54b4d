#!/usr/bin/env bash
# asyncpg's own test suite, as it stands in its source package. See suite.sh for what it takes.
# shellcheck source-path=SCRIPTDIR source=suite.sh
source "$(dirname "${BASH_SOURCE[0]}")/suite.sh"
want python asyncpg
allow_creation

# Its tests of garbage collection fail under TLS, for TLS in asyncio is a cycle of references.
export PGSSLMODE=disable
cd "$suites/asyncpg"
export PYTHONPATH=$here/python
pytest_options=(-p asyncpg_target)
run_pytest asyncpg tests
