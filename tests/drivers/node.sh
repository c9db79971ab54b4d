#!/usr/bin/env bash
# The short scripts: node-postgres and postgres.js. See README.md.
# shellcheck source-path=SCRIPTDIR source=suite.sh
source "$(dirname "${BASH_SOURCE[0]}")/suite.sh"
want node
export NODE_FOLDER=$suites/node
failed=0
for driver in pg postgres-js; do
    timeout 120 node "$here/node/drive-$driver.mjs" || failed=1
done
exit "$failed"
