#!/usr/bin/env bash
# Guardian's main job from start to end on a PostgreSQL of its own: audit and attack the helpdesk, harden it, audit and attack it again,
# make four tenants in three isolation models, load each one's data through the SQL gateway, and then try, as one tenant, to reach
# another's. Exits with 1 when any attempt succeeds.
#
#   make demo            or, with a binary at hand:  GUARDIAN_BIN=target/debug/guardian examples/helpdesk/demo.sh
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
binary=${GUARDIAN_BIN:-guardian}
state=$root/.guardian
config=$state/demo.toml
log=$state/up.log
up=
began=$SECONDS

if [[ -t 1 && -z ${NO_COLOR:-} ]]; then
    bold=$'\e[1m' dim=$'\e[2m' red=$'\e[31m' green=$'\e[32m' plain=$'\e[0m'
else
    bold='' dim='' red='' green='' plain=''
fi

heading() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
note() { printf '%s%s%s\n' "$dim" "$*" "$plain"; }
die() {
    printf '%sThe demo failed:%s %s\n' "$red" "$plain" "$*" >&2
    if [[ -s $log ]]; then printf 'The end of %s:\n' "$log" >&2; tail -n 20 "$log" >&2; fi
    exit 1
}
command=("$binary" --config "$config" --state-dir "$state")
guardian() { "${command[@]}" "$@"; }

stop() {
    if [[ -n $up ]] && kill -0 "$up" 2> /dev/null; then
        kill -TERM "$up"
        wait "$up" || true
    fi
}
trap stop EXIT
trap 'exit 130' INT TERM

# A state folder of an earlier demo goes, with a PostgreSQL that it may have left running when it was killed.
clean() {
    local pid cluster
    pid=$(cat "$state/lock" 2> /dev/null || true)
    if [[ -n $pid ]] && kill -0 "$pid" 2> /dev/null; then die "another demo is running (process $pid)"; fi
    cluster=$(readlink -f "$state/cluster" 2> /dev/null || true)
    if [[ -n $cluster && -f $cluster/data/postmaster.pid ]]; then
        pid=$(head -n 1 "$cluster/data/postmaster.pid")
        if kill -INT "$pid" 2> /dev/null; then
            while kill -0 "$pid" 2> /dev/null; do sleep 0.1; done
        fi
    fi
    if [[ -n $cluster ]]; then rm -rf "$cluster"; fi
    rm -rf "$state"
    mkdir -p -m 0711 "$state"
}

heading "1. Start: guardian up, with a PostgreSQL of its own under ${state#"$PWD"/}"
command -v "$binary" > /dev/null || die "there is no $binary; run \`make demo\`"
clean
sed -e "s|^\\[control\\]|[control]\nlisten = \"127.0.0.1:0\"|" -e "s|^migrations = .*|migrations = \"$here/migrations\"|" \
    "$here/guardian.toml" > "$config"
# One server connection for everybody: whatever a tenant left on it, the next one would meet.
cat >> "$config" <<- 'END'

	[gateway]
	listen = "127.0.0.1:0"
	server_connections = 1
	server_connections_reserved = 0
END
"${command[@]}" up > "$log" 2>&1 &
up=$!
for ((tenths = 0; ; tenths++)); do
    kill -0 "$up" 2> /dev/null || die "guardian up ended"
    if [[ -s $state/api.addr ]] && guardian status > /dev/null 2>&1; then break; fi
    ((tenths < 600)) || die "guardian up does not get ready"
    sleep 0.1
done
gateway=$(cat "$state/sql.addr")
note "ready after $((SECONDS - began)) s at http://$(cat "$state/api.addr"), for PostgreSQL clients at $gateway"

heading "2. The application's tables, with the rights that a team would give: what the auditor finds"
guardian migrate || die "the migrations did not go through"
command -v psql > /dev/null || PATH=$PATH:$(ls -d /usr/lib/postgresql/*/bin | tail -n 1)
socket=$(sed -n 5p "$state/cluster/data/postmaster.pid")
port=$(sed -n 4p "$state/cluster/data/postmaster.pid")
# What is the administrator's: reading the catalog, and making the role that `apply` will find.
admin() { PGPASSWORD=$(cat "$state/superuser.password") "$@"; }
admin psql -X -q -h "$socket" -p "$port" -U guardian_admin -d helpdesk -v ON_ERROR_STOP=1 > /dev/null << 'END' || die "no role"
CREATE ROLE helpdesk_app LOGIN;
GRANT USAGE ON SCHEMA public TO helpdesk_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO helpdesk_app;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO helpdesk_app;
END
audit() {
    admin "$binary" audit --url "postgres://guardian_admin@localhost/helpdesk?host=$socket&port=$port" \
        --app-role helpdesk_app --exceptions "$here/guardian-audit.toml" --attack --fail-on never > "$1" 2>&1
}
if audit "$state/audit-before.txt"; then die "the auditor finds nothing wrong with tables that are open"; fi
grep -E '^leaks ' "$state/audit-before.txt" | head -n 4 || die "no attack got through; see $state/audit-before.txt"
tail -n 5 "$state/audit-before.txt" | grep -E '^(attacks:|[0-9]+ critical)'
note "each with the statements that show it, and the SQL that mends it: ${state#"$PWD"/}/audit-before.txt"

heading "3. What keeps tenants apart in them, and what the auditor finds now"
guardian apply --yes > "$state/apply.log" || die "the hardening did not go through; see $state/apply.log"
head -n 1 "$state/apply.log"
note "$(grep -c '^✓' "$state/apply.log") statements with their reasons, and what remains open: ${state#"$PWD"/}/apply.log"
audit "$state/audit-after.txt" || die "the auditor is not content with the hardened tables; see $state/audit-after.txt"
if grep -q -E '^(leaks|not shown) ' "$state/audit-after.txt"; then die "not everything is proven; see $state/audit-after.txt"; fi
grep -E '^proven isolated ' "$state/audit-after.txt" | head -n 4
tail -n 5 "$state/audit-after.txt" | grep -E '^(attacks:|[0-9]+ critical)'
grep -E '^(critical|high) ' "$state/audit-after.txt" || true
note "what SQL cannot mend, such as flaws of the server's own release, is told all the same: ${state#"$PWD"/}/audit-after.txt"

heading "4. Four tenants, three isolation models"
for tenant in acme:pro globex:pro initech:business umbrella:enterprise; do
    printf '%s\n' "$bold${tenant%:*}$plain on tier ${tenant#*:}"
    guardian tenant create "${tenant%:*}" --tier "${tenant#*:}" || die "${tenant%:*} could not be made"
done

heading "5. Each one's data, loaded through the SQL gateway by a connection that is bound to it"
# The application's one login. Its URL has the word TENANT where the tenant's name goes.
login=$(guardian --quiet login create helpdesk --any-tenant) || die "no login could be made"
password=${login#*TENANT:}
password=${password%%@*}
# psql as a tenant, through the gateway.
as() {
    local tenant=$1
    shift
    PGPASSWORD=$password psql -X -q -A -t -h "${gateway%:*}" -p "${gateway#*:}" -U "helpdesk.$tenant" -d helpdesk "$@"
}
# The same past the gateway: a session of its own, over a single-use ticket.
by_ticket() {
    local tenant=$1
    shift
    guardian psql "$tenant" -- -X -q -A -t "$@"
}
sizes=(acme:300 globex:200 initech:100 umbrella:100)
seed=0.1
for entry in "${sizes[@]}"; do
    tenant=${entry%:*}
    as "$tenant" -v ON_ERROR_STOP=1 -v "size=${entry#*:}" -v "seed=$seed" -f "$here/generate.sql" > /dev/null \
        || die "the data of $tenant could not be loaded"
    # A row that only its owner may ever see.
    as "$tenant" -v ON_ERROR_STOP=1 -c "INSERT INTO organization (name) VALUES ('canary of $tenant')" \
        || die "$tenant cannot write its own data"
    note "loaded $tenant"
done

heading "6. Read back: everybody sees what is theirs, and all of it"
everything="SELECT count(*) || ' tickets of ' || count(DISTINCT tenant_id) || ' tenant' FROM ticket"
canaries="SELECT string_agg(name, ', ' ORDER BY name) FROM organization WHERE name LIKE 'canary of %'"
for entry in "${sizes[@]}"; do
    tenant=${entry%:*}
    seen=$(as "$tenant" -c "$everything") || die "$tenant cannot read its data"
    canary=$(as "$tenant" -c "$canaries") || die "$tenant cannot read its data"
    printf '  %-10s %s; %s\n' "$tenant" "$seen" "$canary"
    [[ $seen == "${entry#*:} tickets of 1 tenant" ]] || die "$tenant should see ${entry#*:} tickets of 1 tenant"
    [[ $canary == "canary of $tenant" ]] || die "$tenant should see its own canary and no other"
done
[[ $(by_ticket acme -c "$canaries") == "canary of acme" ]] || die "a session by ticket should see acme's canary and no other"
note "a session of \`guardian psql acme\`, past the gateway, sees the same"

heading "7. acme, free to send any SQL, tries to reach globex, initech and umbrella"
attempts=0
breaches=0
fingerprint="SELECT md5(string_agg(t::text, '|' ORDER BY t::text)) FROM (SELECT id, name FROM organization) AS t"
before=()
for entry in "${sizes[@]}"; do before+=("$(as "${entry%:*}" -c "$fingerprint")"); done
shared_database=$(as acme -c "SELECT current_database()")
initech_schema=$(as initech -c "SELECT current_schema()")
umbrella_database=$(as umbrella -c "SELECT current_database()")
victim=$(as globex -c "SELECT DISTINCT tenant_id FROM tag")
victim_ticket=$(as globex -c "SELECT min(id) FROM ticket")
victim_register=${victim//-/}

# attempt AS WHAT SQL: it succeeds, and the demo fails, when the answer has anything of another tenant, or when no error came
# for what must be refused. AS is `tenant` or `tenant!`, the latter for what must be refused.
attempt() {
    local tenant=${1%!} what=$2 sql=$3 answer verdict others
    attempts=$((attempts + 1))
    # Terse: a full error quotes the statement, and with it what it looks for.
    answer=$(as "$tenant" -v VERBOSITY=terse -f - <<< "$sql" 2>&1) || true
    others=$(grep -o 'canary of [a-z]*' <<< "$answer" | grep -v "canary of $tenant" || true)
    if [[ -n $others ]] || grep -q "REACHED" <<< "$answer"; then
        verdict="${red}REACHED$plain"
        breaches=$((breaches + 1))
    elif grep -q -m 1 -E 'ERROR:|FATAL:' <<< "$answer"; then
        verdict="${green}refused$plain  $dim$(grep -m 1 -o -E '(ERROR|FATAL):.*' <<< "$answer" | cut -c 1-110)$plain"
    elif [[ $1 == *! ]]; then
        verdict="${red}NOT REFUSED$plain  $(head -c 200 <<< "$answer")"
        breaches=$((breaches + 1))
    else
        verdict="${green}nothing$plain  ${dim}no row of anybody else$plain"
    fi
    printf '  %-52s %s\n' "$what" "$verdict"
}

look="SELECT name FROM organization WHERE name LIKE 'canary of %'"
count="SELECT 'REACHED' FROM ticket WHERE tenant_id = '$victim'"

note "the positive control: globex finds its canary by the same statement"
[[ $(as globex -c "$look") == "canary of globex" ]] || die "the attempts would prove nothing"

note "forged context"
attempt acme  "read everything" "$look; $count"
attempt acme! "SET the register" "SET backtrace_functions = '$victim_register'; $look"
attempt acme! "SET LOCAL the register" "BEGIN; SET LOCAL backtrace_functions = '$victim_register'; $look"
attempt acme! "set_config() inside a SELECT" \
    "SELECT name FROM (SELECT set_config('backtrace_functions', '$victim_register', false) AS s) AS x, LATERAL (SELECT x.s, name FROM organization) AS y"
attempt acme! "UPDATE pg_settings" \
    "UPDATE pg_settings SET setting = '$victim_register' WHERE name = 'backtrace_functions'; $look"
attempt acme! "ALTER ROLE on oneself" "ALTER ROLE CURRENT_USER SET backtrace_functions = '$victim_register'"
attempt acme! "a function with a SET clause" \
    "CREATE FUNCTION pg_temp.forged() RETURNS SETOF text LANGUAGE sql SET backtrace_functions = '$victim_register' AS 'SELECT name FROM organization'"
attempt acme! "a DO block" \
    "DO \$\$ BEGIN PERFORM set_config('backtrace_functions', '$victim_register', false); END \$\$; $look"
attempt acme  "RESET ALL, then read" "RESET ALL; $look"
attempt acme  "DISCARD ALL, then read" "DISCARD ALL; $look"
attempt acme  "ROLLBACK, then read" "BEGIN; ROLLBACK; COMMIT; $look"

note "another's identity"
attempt acme! "SET ROLE to the superuser" "SET ROLE guardian_admin; $look"
attempt acme! "SET SESSION AUTHORIZATION" "SET SESSION AUTHORIZATION guardian_admin; $look"
attempt acme! "SET ROLE to initech's role" "SET ROLE \"$initech_schema\"; $look"
attempt acme! "a guessed capability of globex" "SELECT guardian.enter(decode(repeat('00', 32), 'hex')); $look"
attempt acme! "the table of capabilities" "SELECT 'REACHED', * FROM guardian.capability"
attempt acme! "a guessed ticket" "SELECT guardian.redeem(decode(repeat('00', 32), 'hex')); $look"
attempt acme! "the table of tickets" "SELECT 'REACHED', * FROM guardian.ticket"

note "around the policies"
attempt acme! "TRUNCATE" "TRUNCATE organization CASCADE"
attempt acme  "a view" "SELECT 'REACHED' FROM open_ticket WHERE tenant_id = '$victim'"
attempt acme! "a materialised view of all tenants" "SELECT 'REACHED' FROM ticket_daily WHERE tenant_id = '$victim'"
attempt acme! "a partition, directly" "SELECT 'REACHED' FROM ticket_event_2025 WHERE tenant_id = '$victim'"
attempt acme! "switch row-level security off" "ALTER TABLE organization DISABLE ROW LEVEL SECURITY; $look"
attempt acme  "SET row_security = off" "SET row_security = off; $look"
attempt acme! "a policy of one's own" "CREATE POLICY mine ON organization USING (true); $look"
attempt acme! "a trigger on everybody's table" \
    "CREATE TRIGGER spy BEFORE INSERT ON organization FOR EACH ROW EXECUTE FUNCTION touch_updated_at()"
attempt acme! "a temporary table" "CREATE TEMP TABLE organization (name text)"
attempt acme! "a table in everybody's schema" "CREATE TABLE loot (name text)"

note "writing where somebody else reads"
attempt acme! "INSERT for globex" "INSERT INTO organization (tenant_id, name) VALUES ('$victim', 'forged')"
attempt acme! "UPDATE of one's own row to globex" \
    "UPDATE organization SET tenant_id = '$victim' WHERE name = 'canary of acme'"
attempt acme  "UPDATE of globex's rows" \
    "WITH changed AS (UPDATE organization SET name = 'taken' WHERE tenant_id = '$victim' RETURNING 1) SELECT 'REACHED' FROM changed"
attempt acme  "DELETE of globex's rows" \
    "WITH gone AS (DELETE FROM message WHERE tenant_id = '$victim' RETURNING 1) SELECT 'REACHED' FROM gone"
attempt acme! "a message on globex's ticket (foreign key)" \
    "INSERT INTO message (ticket_id, body) VALUES ($victim_ticket, 'is it there?')"
attempt acme! "write to the global table" "UPDATE country SET name = 'taken'"
attempt acme! "COPY into everybody's table" "COPY organization (name) FROM stdin;
forged
\\."
attempt acme! "a file of the server" "COPY (SELECT 1) TO PROGRAM 'id'"

note "across schemas and databases"
attempt acme! "the schema of initech" "SELECT 'REACHED' FROM \"$initech_schema\".organization"
attempt acme  "search_path to initech" "SET search_path = \"$initech_schema\"; $look"
may_connect() { printf "SELECT 'REACHED' WHERE has_database_privilege('%s', 'CONNECT')" "$1"; }
attempt acme  "the right to connect to umbrella's database" "$(may_connect "$umbrella_database")"
attempt initech! "from initech's schema: the shared tables" "SELECT 'REACHED' FROM public.organization"
attempt initech! "from initech's schema: a table of its own making" "CREATE TABLE loot (name text)"
attempt umbrella "from umbrella's database: the right to the shared one" "$(may_connect "$shared_database")"

for index in "${!sizes[@]}"; do
    tenant=${sizes[index]%:*}
    [[ $(as "$tenant" -c "$fingerprint") == "${before[index]}" ]] && continue
    printf '  %sthe data of %s has changed%s\n' "$red" "$tenant" "$plain"
    breaches=$((breaches + 1))
done

heading "8. What a pooler would leak: acme leaves its session behind on the one server connection that globex gets next"
# Each is left by acme, and looked for by globex with a statement that says LEAKED when it is there.
leave="SET work_mem = '77MB';
SET helpdesk.user_name = 'root of acme';
SET TimeZone = 'Antarctica/Troll';
PREPARE leaked AS SELECT name FROM organization WHERE name LIKE 'canary of %';
SELECT pg_advisory_lock(4711);
LISTEN leaked;
DECLARE leaked CURSOR WITH HOLD FOR SELECT name FROM organization WHERE name LIKE 'canary of %';"
probes=(
    "a setting|SELECT 'LEAKED' WHERE current_setting('work_mem') = '77MB'"
    "a setting of its own name|SELECT 'LEAKED' WHERE current_setting('helpdesk.user_name', true) <> ''"
    "a setting that clients are told of|SELECT 'LEAKED' WHERE current_setting('TimeZone') = 'Antarctica/Troll'"
    "a prepared statement|SELECT 'LEAKED' FROM pg_prepared_statements WHERE name = 'leaked'"
    "an advisory lock|SELECT 'LEAKED' FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711 AND pid = pg_backend_pid()"
    "LISTEN|SELECT 'LEAKED' FROM pg_listening_channels() AS c WHERE c = 'leaked'"
    "a cursor WITH HOLD, with its rows|FETCH ALL FROM leaked"
)
backend="SELECT 'backend ' || pg_backend_pid()"
field() { grep -m 1 "^$1 " | tr -s ' ' | cut -d ' ' -f 2; }

note "the positive control: one direct connection, entered for acme and then for globex without a reset, leaks every one"
credentials=$(guardian tenant credentials acme)
capability_acme=$(field capability <<< "$credentials")
capability_globex=$(guardian tenant credentials globex | field capability)
{
    printf "SELECT 'in' FROM guardian.enter(decode('%s', 'hex'));\n%s\n" "$capability_acme" "$leave"
    printf "SELECT 'in' FROM guardian.enter(decode('%s', 'hex'));\n" "$capability_globex"
    for probe in "${probes[@]}"; do printf '\\echo + %s\n%s;\n' "${probe%%|*}" "${probe#*|}"; done
} > "$state/direct.sql"
direct=$(PGPASSWORD=$(field password <<< "$credentials") psql -X -q -A -t -h "$(field host <<< "$credentials")" \
    -p "$(field port <<< "$credentials")" -U "$(field user <<< "$credentials")" -d "$shared_database" -f "$state/direct.sql" 2>&1) || true
rm -f "$state/direct.sql"
for probe in "${probes[@]}"; do
    grep -A 1 -F -x "+ ${probe%%|*}" <<< "$direct" | grep -q -E 'LEAKED|canary of acme' \
        || die "${probe%%|*} does not leak without the gateway, so that its absence would prove nothing"
    printf '  %-52s leaks\n' "${probe%%|*}"
done

note "through the gateway"
first=$(as acme -f - <<< "$leave $backend" | grep '^backend') || die "acme could not leave its state"
for probe in "${probes[@]}"; do
    attempts=$((attempts + 1))
    as acme -f - <<< "$leave" > /dev/null || die "acme could not leave its state"
    answer=$(as globex -v VERBOSITY=terse -f - <<< "$backend; ${probe#*|};" 2>&1) || true
    grep -q -F -x "$first" <<< "$answer" || die "globex has not the connection that acme had: ${answer%%$'\n'*}, not $first"
    if grep -q -E 'LEAKED|canary of acme' <<< "$answer"; then
        verdict="${red}LEAKED$plain"
        breaches=$((breaches + 1))
    else
        verdict="${green}gone$plain  ${dim}on the same $first$plain"
    fi
    printf '  %-52s %s\n' "${probe%%|*}" "$verdict"
done

note "switching the tenant, by a login that may not, and by one that may"
switching=$(guardian --quiet login create switching --any-tenant --switch tenant) || die "no login could be made"
switching=${switching#*:*:}
switching=${switching%%@*}
switch() { PGPASSWORD=$switching psql -X -q -A -t -h "${gateway%:*}" -p "${gateway#*:}" -U switching.acme -d helpdesk "$@"; }
[[ $(switch -c "SET guardian.tenant = 'globex'" -c "$look") == "canary of globex" ]] || die "a login that may switch cannot"
attempt acme! "SET guardian.tenant" "SET guardian.tenant = 'globex'; $look"
# From here on by the login that may: only a message of its own is a switch.
as() { shift; switch "$@"; }
attempt acme! "SET guardian.tenant in a transaction" "BEGIN; SELECT 1;
SET guardian.tenant = 'globex';
ROLLBACK; $look"
attempt acme! "SET guardian.tenant behind a comment" "/* of mine */ SET guardian.tenant = 'globex'; $look"
batch() { switch -c "$1"; }
as() { batch "SELECT 1; SET guardian.tenant = 'globex'; $look"; }
attempt acme "a switch hidden in a batch" ""
as() { batch "DO \$\$ BEGIN PERFORM set_config('guardian.tenant', 'globex', false); END \$\$; $look"; }
attempt acme "a switch hidden in a DO block" ""

note "forging the start-up"
forged() { PGPASSWORD=$password psql -X -q -A -t -h "${gateway%:*}" -p "${gateway#*:}" "$@"; }
as() { forged -U helpdesk.acme -d globex -c "$look"; }
attempt acme! "the user is of acme, the database is globex" ""
as() { PGOPTIONS="-c guardian.tenant=globex" forged -U helpdesk.acme -d helpdesk -c "$look"; }
attempt acme! "options that name globex" ""
as() { PGOPTIONS="-c role=guardian_admin" forged -U helpdesk.acme -d helpdesk -c "$look"; }
attempt acme! "options that set the role" ""
as() { PGOPTIONS="-c backtrace_functions=$victim_register" forged -U helpdesk.acme -d helpdesk -c "$look"; }
attempt acme! "options that set the register" ""

heading "8. What the control plane has noted"
guardian status
guardian audit-log verify

heading "9. Deleting leaves nothing behind"
for entry in "${sizes[@]}"; do
    guardian tenant delete "${entry%:*}" --now --confirm "${entry%:*}" || die "${entry%:*} could not be deleted"
done

heading "Summary"
printf '  tenants made, used and deleted   %s\n' "${#sizes[@]}"
printf '  attempts to reach another tenant %s\n' "$attempts"
printf '  of them successful               %s\n' "$breaches"
printf '  time                             %s s\n' "$((SECONDS - began))"
if ((breaches > 0)); then
    printf '%sIsolation is broken.%s\n' "$red" "$plain"
    exit 1
fi
printf '%sNobody reached anybody else.%s\n' "$green" "$plain"
