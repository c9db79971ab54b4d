#!/usr/bin/env bash
# node-postgres's own integration tests (pg, pg-pool, pg-cursor, pg-query-stream), out of its sources as Debian packages them. See
# suite.sh for what it takes. A test's name is `package/file: title`, or `package/file` where a file is one test.
# shellcheck source-path=SCRIPTDIR source=suite.sh
source "$(dirname "${BASH_SOURCE[0]}")/suite.sh"
want node_postgres
allow_creation

packages=$suites/node_postgres/packages
mocha=("$suites/node_postgres/node_modules/.bin/mocha")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
excluded node-postgres > "$folder/excluded"
export NODE_OPTIONS="--require $here/node/exclude.cjs" EXCLUDED_TESTS=$folder/excluded PACKAGES=$packages
passed=0 failed=0

# Runs one file, or one package's mocha; its output is shown when it fails.
run() {
    local name=$1 folder_of_package=$2 count
    shift 2
    echo "$name"
    if (cd "$folder_of_package" && timeout 120 "$@") > "$folder/output" 2>&1; then
        if [[ $EXCLUDED == only ]]; then grep -E '✔' "$folder/output" || true; fi
    else
        failed=$((failed + 1))
        echo "FAILED: $name"
        tail -n 60 "$folder/output"
    fi
    count=$(grep -c '✔' "$folder/output" || true)
    # A file that has no named tests is one.
    if ((count == 0)) && [[ $1 == node ]]; then count=1; fi
    passed=$((passed + count))
}

run "the tables" "$packages/pg" node script/create-test-tables.js
passed=0
while read -r file; do
    name=pg/${file#test/integration/}
    is_excluded=0
    if grep -qxF "$name" "$folder/excluded"; then is_excluded=1; fi
    if [[ $EXCLUDED == only ]]; then
        grep -qF "$name" "$folder/excluded" || continue
    elif ((is_excluded)); then
        continue
    fi
    run "$name" "$packages/pg" node "$file" postgres://
done < <(cd "$packages/pg" && find test/integration -name '*-tests.js' | sort)

# A busy machine needs more than the 2 s that mocha gives a test.
mocha+=(--timeout 20000)
run pg-pool "$packages/pg-pool" "${mocha[@]}" --require "$here/node/exclude.cjs"
run pg-cursor "$packages/pg-cursor" "${mocha[@]}" --require "$here/node/exclude.cjs"
# Iterators' ends get lost when async iteration is translated to an older JavaScript.
export TS_NODE_TRANSPILE_ONLY=true TS_NODE_COMPILER_OPTIONS='{"target":"es2020"}'
run pg-query-stream "$packages/pg-query-stream" "${mocha[@]}" --require "$here/node/exclude.cjs" --require ts-node/register 'test/**/*.ts'

echo "node-postgres, $POOL_MODE mode: $passed passed, $(wc -l < "$folder/excluded") excluded"
exit $((failed > 0))
