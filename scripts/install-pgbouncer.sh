#!/usr/bin/env bash
# PgBouncer, which the benches measure against: found, or installed with the system's package manager.
set -euo pipefail

if command -v pgbouncer > /dev/null || [[ -x /usr/sbin/pgbouncer ]]; then exit 0; fi
if [[ $(id -u) == 0 ]] && command -v apt-get > /dev/null; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq pgbouncer > /dev/null
    # The package starts a pooler of its own, which nobody here asked for.
    service pgbouncer stop > /dev/null 2>&1 || true
    exit 0
fi
echo "There is no PgBouncer; install the package pgbouncer, and run this again." >&2
exit 1
