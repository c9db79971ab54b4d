#!/usr/bin/env bash
# Runs a command against a throwaway PostgreSQL, or a PgBouncer or a Guardian before it. What fails on the first, and mostly what
# fails on the second, is no fault of the gateway's.
#
#   beside.sh postgres|pgbouncer-session|pgbouncer-transaction|gateway-session|gateway-transaction COMMAND…
#
# Guardian is GUARDIAN_BIN; tenant acme has a database of its own there, and the login may switch to tenant bravo.
set -euo pipefail

target=${1:?usage: beside.sh postgres|pgbouncer-session|pgbouncer-transaction|gateway-session|gateway-transaction COMMAND…}
shift

bin=$(find /usr/lib/postgresql/*/bin -maxdepth 0 2> /dev/null | sort -V | tail -n 1)
bin=${bin:-$(dirname "$(command -v postgres)")}
folder=$(mktemp -d)
chmod 711 "$folder"
server="" pooler=""
finish() {
    cd /
    if [[ $pooler ]]; then kill -TERM "$pooler" 2> /dev/null || true; fi
    if [[ $server ]]; then kill -INT "$server" 2> /dev/null || true; fi
    wait
    rm -rf "$folder"
}
trap finish EXIT

# PostgreSQL and PgBouncer both refuse root.
other=()
if (($(id -u) == 0)); then other=(setpriv --reuid nobody --regid nogroup --clear-groups); fi
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
until_it_answers() {
    for _ in $(seq 200); do
        if "$bin/psql" -XAtqc "SELECT 1" "$1" > /dev/null 2>&1; then return; fi
        sleep 0.1
    done
    cat "$folder"/log* >&2
    return 1
}

mkdir "$folder/own"
if ((${#other[@]})); then chown nobody:nogroup "$folder/own"; fi
echo administrator > "$folder/password"
chmod 644 "$folder/password"
(cd / && "${other[@]}" "$bin/initdb" --pgdata "$folder/own/data" --username administrator --pwfile "$folder/password" \
    --auth scram-sha-256 --encoding UTF8 --locale C.UTF-8 --no-sync > /dev/null)
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=localhost -days 2 \
    -keyout "$folder/own/key" -out "$folder/own/certificate" 2> /dev/null
if ((${#other[@]})); then chown nobody:nogroup "$folder/own/key"; fi
port=$(free_port)
"${other[@]}" "$bin/postgres" -D "$folder/own/data" -p "$port" -c listen_addresses=127.0.0.1 -c fsync=off \
    -c unix_socket_directories="$folder/own" -c max_connections=200 -c max_prepared_transactions=20 -c ssl=on \
    -c ssl_cert_file="$folder/own/certificate" -c ssl_key_file="$folder/own/key" >  "$folder/log.postgres" 2>&1 &
server=$!
administrator="postgres://administrator:administrator@127.0.0.1:$port/postgres"
until_it_answers "$administrator"

export PGUSER=app.acme PGPASSWORD=secret PGDATABASE=acme PGHOST=127.0.0.1 PGPORT=$port POOL_MODE=session TARGET=${target%%-*}
"$bin/psql" -Xq -v ON_ERROR_STOP=1 "$administrator" <<SQL
CREATE ROLE "$PGUSER" LOGIN PASSWORD '$PGPASSWORD';
CREATE DATABASE acme TEMPLATE template0;
REVOKE ALL ON DATABASE acme FROM PUBLIC;
GRANT CONNECT ON DATABASE acme TO "$PGUSER";
SQL
export ADMINISTRATOR_URL=${administrator%/postgres}/acme
# The table of examples/helpdesk that the short scripts use.
"$bin/psql" -Xq -v ON_ERROR_STOP=1 "$ADMINISTRATOR_URL" <<SQL
CREATE TABLE tag (name text PRIMARY KEY);
GRANT ALL ON tag TO "$PGUSER";
SQL

case $target in
    postgres) ;;
    pgbouncer-*)
        POOL_MODE=${target#pgbouncer-}
        PGPORT=$(free_port)
        cat > "$folder/pgbouncer.ini" <<INI
[databases]
* = host=127.0.0.1 port=$port
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = $PGPORT
unix_socket_dir =
auth_type = scram-sha-256
auth_file = $folder/users
client_tls_sslmode = allow
client_tls_cert_file = $folder/own/certificate
client_tls_key_file = $folder/own/key
pool_mode = $POOL_MODE
default_pool_size = 20
ignore_startup_parameters = extra_float_digits, options, statement_timeout, lock_timeout, idle_in_transaction_session_timeout, search_path
INI
        echo "\"$PGUSER\" \"$PGPASSWORD\"" > "$folder/users"
        chmod 644 "$folder/users" "$folder/pgbouncer.ini"
        "${other[@]}" "$(command -v pgbouncer || echo /usr/sbin/pgbouncer)" "$folder/pgbouncer.ini" > "$folder/log.pgbouncer" 2>&1 &
        pooler=$!
        until_it_answers "postgres://$PGUSER:$PGPASSWORD@127.0.0.1:$PGPORT/$PGDATABASE"
        ;;
    gateway-*)
        POOL_MODE=${target#gateway-}
        example=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../examples/helpdesk" && pwd)
        "$bin/psql" -Xq "$administrator" -c "DROP DATABASE acme" -c "CREATE DATABASE control"
        {
            echo "[control]"
            echo "listen = \"127.0.0.1:0\""
            echo "database_url = \"${administrator%/postgres}/control\""
            echo "master_key_file = \"master.key\""
            echo "[clusters.main]"
            echo "url = \"$administrator\""
            echo "[gateway]"
            echo "listen = \"127.0.0.1:0\""
            echo "server_connections = 80"
            echo "[gateway.tls]"
            echo "certificate_file = \"own/certificate\""
            echo "key_file = \"own/key\""
            echo "required = false"
            echo "[tiers.own]"
            echo "isolation = \"database\""
            echo "pooling = \"$POOL_MODE\""
            echo "limits = { server_connections_max = 70 }"
            sed -e '/^\[control\]/,/^delete_grace/d' -e "s|\"migrations\"|\"$example/migrations\"|" "$example/guardian.toml"
        } > "$folder/guardian.toml"
        (umask 077 && printf '0123456789abcdef%.0s' 1 2 3 4 > "$folder/master.key")
        cd "$folder"
        guardian=${GUARDIAN_BIN:?the binary to test}
        "$guardian" up > "$folder/log.guardian" 2>&1 &
        pooler=$!
        for _ in $(seq 200); do
            if "$guardian" tier list > /dev/null 2>&1; then break; fi
            sleep 0.1
        done
        "$guardian" migrate --quiet > "$folder/log.migrate"
        "$guardian" apply --yes --quiet > "$folder/log.apply"
        "$guardian" tenant create acme --tier own --quiet > /dev/null
        "$guardian" tenant create bravo --tier own --quiet > /dev/null
        PGPASSWORD=$("$guardian" login create app --any-tenant --switch tenant --json --quiet |
            python3 -c 'import json, sys; print(json.load(sys.stdin)["password"])')
        PGPORT=$(sed 's/.*://' "$folder/.guardian/sql.addr")
        export OTHER_TENANT=bravo
        cd - > /dev/null
        until_it_answers "postgres://$PGUSER:$PGPASSWORD@127.0.0.1:$PGPORT/$PGDATABASE"
        ADMINISTRATOR_URL=${administrator%/postgres}/$("$bin/psql" -XAtqc "SELECT pg_catalog.current_database()")
        ;;
    *) echo "There is no stand-in \`$target\`." >&2; exit 2 ;;
esac

"$@"
