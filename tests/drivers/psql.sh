#!/usr/bin/env bash
# The short script: psql. See README.md.
# shellcheck source-path=SCRIPTDIR source=suite.sh
source "$(dirname "${BASH_SOURCE[0]}")/suite.sh"
passed=0 failed=0

# says <what it must print> <command…>
says() {
    local wanted=$1 found
    shift
    found=$("$@" 2>&1) || true
    if [[ $found == *"$wanted"* ]]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        printf 'FAILED: %s\n%s\n' "$*" "$found"
    fi
}

as_the_guide_says() {
    psql "$URL" -c "SELECT count(*) FROM tag"
}

says "(1 row)" as_the_guide_says
says "| tag" psql -XAt -F ' | ' "$URL" -c '\dt tag'
says $'1\n2' psql -XAt "$URL" -c "SELECT 1; SELECT 2"
says "does not exist" psql -X "$URL" -c "SELECT * FROM nowhere"
says "COPY 20000" psql -X "$URL" -c "\\copy (SELECT n FROM generate_series(1, 20000) n) TO /dev/null"
if [[ ${OTHER_TENANT:-} ]]; then
    says "$OTHER_TENANT" psql -XAt "$URL" -c "SET guardian.tenant = '$OTHER_TENANT'" -c "SHOW guardian.tenant"
    says "transaction" psql -X "$URL" -c "BEGIN" -c "SET guardian.tenant = '$OTHER_TENANT'"
fi
says "password" env PGCONNECT_TIMEOUT=10 PGPASSWORD=wrong psql -X -h "$PGHOST" -p "$PGPORT" -U "$PGUSER" -d "$PGDATABASE" -c "SELECT 1"

echo "psql: $passed steps passed, $failed failed"
exit $((failed > 0))
