#!/usr/bin/env bash
# pgjdbc through the gateway: it connects, pipelines and switches. See README.md.
# shellcheck source-path=SCRIPTDIR source=suite.sh
source "$(dirname "${BASH_SOURCE[0]}")/suite.sh"
want jdbc
timeout 120 java -cp "$suites/jdbc/postgresql.jar" "$here/jdbc/Drive.java"
