# What the runners of the drivers' own test suites share. To be sourced.
#
# Where: PGHOST, PGPORT, PGUSER, PGPASSWORD, PGDATABASE. POOL_MODE is session (the default) or transaction; TARGET=postgres says that
# there is no pooler in between. ADMINISTRATOR_URL, when set, is an administrator's way past the pooler to the same database: a
# tenant's role may create nothing, and the suites make tables, so that it is given the right to.
#
# Which tests are left out stands in NAME.exclude, one a line: `from | test | reason`, from being
#   always       it fails on PostgreSQL itself here
#   session      it fails behind the gateway, however long a client keeps its server connection
#   transaction  it fails where a client keeps its server connection for a transaction only
# EXCLUDED=only runs what is left out instead, and says what passes: that needs no line.

set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
suites=${GUARDIAN_CACHE:-$HOME/.cache/guardian}/drivers
export URL=postgres://$PGUSER:$PGPASSWORD@$PGHOST:$PGPORT/$PGDATABASE
export PYTHONDONTWRITEBYTECODE=1 POOL_MODE=${POOL_MODE:-session} TARGET=${TARGET:-gateway} EXCLUDED=${EXCLUDED:-}

# The runner's exit code when its suite is not there.
not_here=77

want() {
    local part
    for part in "$@"; do
        if [[ ! -e $suites/$part/version ]]; then
            echo "SKIPPED: $part is not in $suites; fetch it with \`make drivers\`." >&2
            exit "$not_here"
        fi
    done
}

excluded() {
    awk -F ' +[|] +' -v target="$TARGET" -v mode="$POOL_MODE" '
        /^#/ || NF == 0 { next }
        NF != 3 || $1 !~ /^(always|session|transaction)$/ { print FILENAME ":" NR ": not `from | test | reason`" > "/dev/stderr"; exit 1 }
        $1 == "always" || target != "postgres" && ($1 == "session" || mode == "transaction") { print $2 }
    ' "$here/$1.exclude"
}

as_administrator() {
    if [[ ${ADMINISTRATOR_URL:-} ]]; then psql -Xq -v ON_ERROR_STOP=1 "$ADMINISTRATOR_URL" -c "$1"; fi
}

# The role that statements run as is not the login's name behind a gateway.
role() { psql -XAtqc 'SELECT pg_catalog.quote_ident(current_user)'; }
database() { psql -XAtqc 'SELECT pg_catalog.quote_ident(pg_catalog.current_database())'; }

allow_creation() {
    local role database
    role=$(role)
    database=$(database)
    as_administrator "GRANT CREATE, TEMPORARY ON DATABASE $database TO $role; GRANT CREATE, USAGE ON SCHEMA public TO $role"
}

# Runs pytest without the excluded tests, or with them alone, and prints the counts. The rest are its arguments.
run_pytest() {
    local name=$1 id output failed=0 arguments=()
    shift
    local ids=()
    mapfile -t ids < <(excluded "$name")
    if [[ $EXCLUDED == only ]]; then
        arguments=("${ids[@]}" -rp)
    else
        for id in "${ids[@]}"; do arguments+=(--deselect "$id"); done
        arguments+=("$@")
    fi
    output=$(mktemp)
    "$suites/python/venv/bin/python" -m pytest -q -p no:cacheprovider --tb=short "${pytest_options[@]}" "${arguments[@]}" \
        > "$output" 2>&1 || failed=1
    if ((failed)) || [[ $EXCLUDED ]]; then grep -v ^SKIPPED "$output" | tail -n 400; fi
    # At least one has to have passed.
    grep -qE '^.*[0-9]+ passed' "$output" || failed=1
    echo "$name, $POOL_MODE mode: $(grep -oE '[0-9]+ passed' "$output" | tail -n 1), ${#ids[@]} excluded"
    rm "$output"
    return "$failed"
}
