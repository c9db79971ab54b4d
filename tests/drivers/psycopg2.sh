#!/usr/bin/env bash
# psycopg2's own test suite, as it stands in its source package: psycopg of the last generation, over the same libpq. See suite.sh for
# what it takes, and README.md for why it is not psycopg 3's.
# shellcheck source-path=SCRIPTDIR source=suite.sh
source "$(dirname "${BASH_SOURCE[0]}")/suite.sh"
want python psycopg2
allow_creation
as_administrator "CREATE EXTENSION IF NOT EXISTS hstore"

cd "$suites/psycopg2"
# Its tests of two-phase commits ask for the database's own name.
export PSYCOPG2_TESTDB PSYCOPG2_TEST_FAST=1
PSYCOPG2_TESTDB=$(database)
pytest_options=()
run_pytest psycopg2 tests
