//! Arbitrary bytes as tenant A, through the SQL gateway, to reach tenant B.
//!
//! After each attempt: nothing of B has been received, B's rows are what they were, and A's next ordinary statement works, or
//! the connection is closed. So that this can fail, B's own login finds its rows by the same statements, and the forged context
//! reaches them where it can be made.

use std::time::Duration;

use guardian_testkit::Server;
use guardian_tests::{
    Gateway, Tenant, Wire, patiently,
    wire::{bind, execute, flush, group, message, parse, query, sync, target, unsynced},
};
use serde_json::json;
use sqlx::{AssertSqlSafe, Executor as _, PgConnection};

/// What B has and nobody else may see.
const CANARY: &str = "kanarienvogel";
/// A line is quiet after this.
const QUIET: Duration = Duration::from_millis(40);

/// Both sides, and what an attempt may know of B: everything that is no secret.
struct Sides {
    a: Tenant,
    b: Tenant,
    shared_database: String,
}

impl Sides {
    fn fill(&self, text: &str) -> String {
        text.replace("{slug}", &self.b.slug)
            .replace("{id}", &self.b.id)
            .replace("{uuid}", &self.b.key)
            .replace("{key}", &self.b.key.replace('-', ""))
            .replace("{database}", &self.shared_database)
            .replace("{app}", &format!("{}_app", self.shared_database))
    }
}

/// What has to come of it, beyond nothing of B.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Must {
    /// An error, or the end of the connection.
    Fail,
    /// Nothing: it may work, in A's own context.
    Nothing,
    /// Nothing; and the very same shows B its own canary.
    ShowBItsOwn,
}
use Must::{Fail, Nothing, ShowBItsOwn};

/// SQL, sent as a simple query; and as one group of the extended protocol, where it is one statement.
const SQL: &[(&str, Must, &str)] = &[
    ("no filter", ShowBItsOwn, "SELECT * FROM tag"),
    ("B's key in the filter", ShowBItsOwn, "SELECT * FROM tag WHERE tenant_id = '{uuid}'"),
    ("a filter that is always true", ShowBItsOwn, "SELECT * FROM tag WHERE tenant_id = '{uuid}' OR 1 = 1"),
    ("the table with its schema", ShowBItsOwn, "SELECT * FROM public.tag"),
    ("the table alone, with what inherits", ShowBItsOwn, "SELECT * FROM ONLY public.tag"),
    ("the row as a whole", ShowBItsOwn, "SELECT tag FROM tag"),
    ("as JSON", ShowBItsOwn, "SELECT json_agg(t) FROM tag t"),
    ("as XML", ShowBItsOwn, "SELECT query_to_xml('SELECT * FROM tag', true, true, '')"),
    ("the table as XML", ShowBItsOwn, "SELECT table_to_xml('public.tag', true, true, '')"),
    ("the schema as XML", ShowBItsOwn, "SELECT query_to_xml('TABLE public.tag', false, false, '')"),
    ("a join with itself", ShowBItsOwn, "SELECT b.* FROM tag a RIGHT JOIN tag b ON a.tenant_id <> '{uuid}' OR true"),
    ("a lateral join", ShowBItsOwn, "SELECT t.* FROM (SELECT 1) x, LATERAL (SELECT * FROM tag) t"),
    ("a union", ShowBItsOwn, "SELECT name FROM tag UNION ALL SELECT name FROM organization"),
    (
        "a recursive query",
        ShowBItsOwn,
        "WITH RECURSIVE r AS (SELECT name, 1 n FROM tag UNION ALL SELECT name, n + 1 FROM r WHERE n < 2) SELECT * FROM r",
    ),
    ("a sub-select in the list", ShowBItsOwn, "SELECT (SELECT string_agg(name, ',') FROM tag)"),
    ("a window", ShowBItsOwn, "SELECT first_value(name) OVER (ORDER BY tenant_id) FROM tag"),
    ("COPY out of a query", ShowBItsOwn, "COPY (SELECT * FROM tag) TO STDOUT"),
    ("COPY out of a table", Nothing, "COPY tag TO STDOUT"),
    ("a locking read", ShowBItsOwn, "SELECT * FROM tag FOR UPDATE"),
    ("a sample", ShowBItsOwn, "SELECT * FROM tag TABLESAMPLE SYSTEM (100)"),
    (
        "by physical address",
        ShowBItsOwn,
        "SELECT * FROM tag WHERE ctid = ANY (ARRAY(SELECT ('(0,' || n || ')')::tid FROM generate_series(1, 200) n))",
    ),
    ("an update that returns", ShowBItsOwn, "UPDATE tag SET name = name RETURNING name"),
    (
        "a delete that returns",
        Nothing,
        "WITH gone AS (DELETE FROM tag WHERE tenant_id = '{uuid}' RETURNING name) SELECT * FROM gone",
    ),
    ("an update of B's rows", Nothing, "UPDATE tag SET name = 'taken' WHERE tenant_id = '{uuid}'"),
    ("a delete of B's rows", Nothing, "DELETE FROM organization WHERE tenant_id = '{uuid}'"),
    ("an insert for B", Fail, "INSERT INTO tag (tenant_id, name) VALUES ('{uuid}', 'planted')"),
    (
        "an upsert into B",
        Fail,
        "INSERT INTO tag (tenant_id, name) VALUES ('{uuid}', 'of bravo {canary}') ON CONFLICT DO NOTHING",
    ),
    ("giving rows to B", Fail, "UPDATE tag SET tenant_id = '{uuid}'"),
    (
        "a merge",
        Nothing,
        "MERGE INTO tag t USING (SELECT '{uuid}'::uuid id) s ON t.tenant_id = s.id WHEN MATCHED THEN DELETE",
    ),
    ("an error that quotes the row", Nothing, "SELECT (name || 'x')::int FROM tag WHERE tenant_id = '{uuid}'"),
    ("a function in the filter that tells", Nothing, "SELECT 1 FROM tag WHERE tenant_id = '{uuid}' AND (name::int = 1)"),
    (
        "a cast in the filter that tells",
        Nothing,
        "SELECT 1 FROM tag WHERE CAST('x' || name AS numeric) > 0 AND tenant_id = '{uuid}'",
    ),
    ("division by a row", Nothing, "SELECT 1 / (length(name) - length(name)) FROM tag WHERE tenant_id = '{uuid}'"),
    (
        "the plan with what it met",
        Nothing,
        "EXPLAIN (ANALYZE, VERBOSE, BUFFERS) SELECT * FROM tag WHERE tenant_id = '{uuid}'",
    ),
    (
        "the statistics",
        Nothing,
        "SELECT most_common_vals, histogram_bounds FROM pg_stats WHERE tablename IN ('tag', 'organization')",
    ),
    ("the statistics' table", Fail, "SELECT stavalues1 FROM pg_statistic"),
    (
        "a plan of a prepared statement",
        Nothing,
        "PREPARE p AS SELECT * FROM tag WHERE tenant_id = '{uuid}'; EXECUTE p; DEALLOCATE p",
    ),
    ("a view of the application", Nothing, "SELECT * FROM open_ticket"),
    ("a materialised view", Fail, "SELECT * FROM ticket_daily"),
    ("a partition", Fail, "SELECT * FROM public.ticket_event_default"),
    ("a function of the application", Nothing, "SELECT * FROM search_tickets('kanarienvogel')"),
    ("a definer's function", Nothing, "SELECT next_ticket_number()"),
    ("SET of the register", Fail, "SET backtrace_functions = '{key}'; SELECT * FROM tag"),
    ("SET LOCAL of the register", Fail, "BEGIN; SET LOCAL backtrace_functions = '{key}'; SELECT * FROM tag; COMMIT"),
    ("SET SESSION of the register", Fail, "SET SESSION backtrace_functions TO '{key}'; SELECT * FROM tag"),
    ("set_config of the register", Fail, "SELECT set_config('backtrace_functions', '{key}', false); SELECT * FROM tag"),
    (
        "set_config within the query",
        Fail,
        "SELECT t.* FROM set_config('backtrace_functions', '{key}', true) s, LATERAL (SELECT * FROM tag WHERE s <> '') t",
    ),
    (
        "set_config in a CTE",
        Fail,
        "WITH s AS MATERIALIZED (SELECT set_config('backtrace_functions', '{key}', false) v) SELECT tag.* FROM s, tag",
    ),
    (
        "the settings view",
        Fail,
        "UPDATE pg_settings SET setting = '{key}' WHERE name = 'backtrace_functions'; SELECT * FROM tag",
    ),
    ("a block", Fail, "DO $$ BEGIN PERFORM set_config('backtrace_functions', '{key}', false); END $$; SELECT * FROM tag"),
    ("dynamic SQL in a block", Fail, "DO $$ BEGIN EXECUTE 'SET backtrace_functions = ''{key}'''; END $$; SELECT * FROM tag"),
    (
        "a block that swallows the error",
        Nothing,
        "DO $$ BEGIN PERFORM set_config('backtrace_functions', '{key}', false); EXCEPTION WHEN OTHERS THEN NULL; END $$; SELECT * FROM tag",
    ),
    ("RESET of the register", Fail, "RESET backtrace_functions; SELECT * FROM tag"),
    ("SET DEFAULT of the register", Fail, "SET backtrace_functions TO DEFAULT; SELECT * FROM tag"),
    ("RESET ALL in front", Fail, "RESET ALL; SELECT * FROM tag"),
    ("DISCARD ALL", Nothing, "DISCARD ALL"),
    ("DISCARD ALL in a batch", Fail, "DISCARD ALL; SELECT * FROM tag"),
    ("RESET ALL in a block", Nothing, "DO $$ BEGIN EXECUTE 'RESET ALL'; END $$"),
    ("RESET ALL in a block, then a read", Fail, "DO $$ BEGIN EXECUTE 'RESET ALL'; END $$; SELECT * FROM tag"),
    ("RESET SESSION AUTHORIZATION", Nothing, "RESET SESSION AUTHORIZATION; SELECT * FROM tag"),
    ("ROLLBACK in front", Nothing, "ROLLBACK; SELECT * FROM tag"),
    ("COMMIT in front", Nothing, "COMMIT; SELECT * FROM tag"),
    ("a savepoint", Nothing, "BEGIN; SAVEPOINT s; ROLLBACK TO s; SELECT * FROM tag; COMMIT"),
    ("an error and a ROLLBACK", Nothing, "ROLLBACK AND CHAIN; SELECT * FROM tag"),
    ("row security off", Fail, "SET row_security = off; SELECT * FROM tag"),
    ("row security off, by set_config", Fail, "SELECT set_config('row_security', 'off', false); SELECT * FROM tag"),
    ("another role", Fail, "SET ROLE guardian_admin; SELECT * FROM tag"),
    ("the owner of the register", Fail, "SET ROLE guardian_enter; SELECT * FROM tag"),
    ("B's role", Fail, "SET ROLE {id}"),
    ("the superuser for the session", Fail, "SET SESSION AUTHORIZATION guardian_admin; SELECT * FROM tag"),
    ("a reader of everything", Fail, "SET ROLE pg_read_all_data; SELECT * FROM tag"),
    ("a guessed capability", Fail, "SELECT guardian.enter('\\x00'::bytea); SELECT * FROM tag"),
    ("B's key for a capability", Fail, "SELECT guardian.enter('\\x{key}'::bytea); SELECT * FROM tag"),
    ("no capability", Fail, "SELECT guardian.enter(NULL); SELECT * FROM tag"),
    ("the capabilities", Fail, "SELECT * FROM guardian.capability"),
    ("a capability of one's own", Fail, "INSERT INTO guardian.capability SELECT sha256('\\x00'), '{key}'"),
    (
        "another body for enter",
        Fail,
        "CREATE OR REPLACE FUNCTION guardian.enter(bytea) RETURNS text LANGUAGE sql AS 'SELECT 1::text'",
    ),
    ("a temporary table in the way", Fail, "CREATE TEMP TABLE tag (name text)"),
    (
        "a temporary function in the way",
        Fail,
        "CREATE FUNCTION pg_temp.current_setting(text) RETURNS text LANGUAGE sql AS $$ SELECT '{key}' $$",
    ),
    (
        "a temporary operator in the way",
        Fail,
        "CREATE OPERATOR pg_temp.= (FUNCTION = uuid_ne, LEFTARG = uuid, RIGHTARG = uuid)",
    ),
    ("another search path", Nothing, "SET search_path = {id}, pg_temp, public; SELECT * FROM tag"),
    ("B's schema", Fail, "SELECT * FROM {id}.tag"),
    ("a policy of one's own", Fail, "CREATE POLICY mine ON public.tag USING (true)"),
    ("no policy", Fail, "ALTER TABLE public.tag DISABLE ROW LEVEL SECURITY; SELECT * FROM tag"),
    ("TRUNCATE", Fail, "TRUNCATE public.tag"),
    ("a trigger", Fail, "CREATE TRIGGER t AFTER INSERT ON public.tag EXECUTE FUNCTION record_ticket_event()"),
    ("a rule", Fail, "CREATE RULE r AS ON SELECT TO public.tag DO INSTEAD SELECT 1"),
    ("a child table", Fail, "CREATE TABLE public.child () INHERITS (public.tag)"),
    ("a view", Fail, "CREATE VIEW public.mine AS SELECT * FROM tag"),
    (
        "a function with the definer's rights",
        Fail,
        "CREATE FUNCTION public.f() RETURNS SETOF tag LANGUAGE sql SECURITY DEFINER AS 'SELECT * FROM tag'",
    ),
    ("replication of rows", Fail, "SELECT * FROM pg_create_logical_replication_slot('s', 'test_decoding')"),
    ("triggers off", Fail, "SET session_replication_role = replica"),
    ("others' statements", Nothing, "SELECT query FROM pg_stat_activity"),
    ("the end of others' sessions", Fail, "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE pid <> pg_backend_pid()"),
    ("a cancel of others' statements", Fail, "SELECT pg_cancel_backend(pid) FROM pg_locks WHERE pid <> pg_backend_pid()"),
    ("a file of the server", Fail, "SELECT pg_read_file('postgresql.auto.conf')"),
    ("a program", Fail, "COPY (SELECT 1) TO PROGRAM 'true'"),
    ("a large object", Fail, "SELECT lo_import('/etc/passwd')"),
    ("a database link", Fail, "SELECT dblink_connect('dbname={database}')"),
    ("cursors of others", Nothing, "SELECT * FROM pg_cursors"),
    ("prepared statements of others", Nothing, "SELECT * FROM pg_prepared_statements"),
    ("the switch", Fail, "SET guardian.tenant = '{slug}'"),
    ("the switch in lower case", Fail, "set guardian.tenant to {slug};"),
    ("the switch for the session", Fail, "SET SESSION guardian.tenant = '{slug}'"),
    ("the switch, quoted", Fail, "SET \"guardian\".\"tenant\" = '{slug}'"),
    ("the switch by id", Fail, "SET guardian.tenant = '{id}'"),
    ("the switch for a transaction", Fail, "SET LOCAL guardian.tenant = '{slug}'"),
    ("the switch back to nothing", Fail, "RESET guardian.tenant"),
    ("the switch to an identity made up", Fail, "SET guardian.identity = 'eyJhbGciOiJub25lIn0.eyJ0ZW5hbnQiOiJicmF2byJ9.'"),
    ("the switch at the head of a batch", Fail, "SET guardian.tenant = '{slug}'; SELECT * FROM tag"),
    ("the switch at the end of a batch", Nothing, "SELECT 1; SET guardian.tenant = '{slug}'"),
    ("the switch behind a comment", Fail, "/* all is well */ SET guardian.tenant = '{slug}'"),
    ("the switch within a comment", Nothing, "SELECT 1 /* ; */; /* SET guardian.tenant = '{slug}' */"),
    ("the switch behind a line's comment", Nothing, "SELECT 1 --\n; SET guardian.tenant = '{slug}'"),
    ("the switch by set_config", Nothing, "SELECT set_config('guardian.tenant', '{slug}', false)"),
    ("the switch in a block", Nothing, "DO $$ BEGIN EXECUTE 'SET guardian.tenant = ''{slug}'''; END $$"),
    ("the switch in a transaction", Nothing, "BEGIN; SET guardian.tenant = '{slug}'; SELECT * FROM tag; COMMIT"),
    ("the switch as a prepared statement", Fail, "PREPARE s AS SET guardian.tenant = '{slug}'"),
    ("a poisoned default of the role", Nothing, "ALTER ROLE CURRENT_USER SET backtrace_functions = '{key}'"),
    ("a default search path", Nothing, "ALTER ROLE CURRENT_USER SET search_path = pg_temp"),
    ("a default that turns policies off", Nothing, "ALTER ROLE CURRENT_USER SET row_security = off"),
    ("membership", Fail, "GRANT pg_read_all_data TO CURRENT_USER"),
    ("BYPASSRLS", Fail, "ALTER ROLE CURRENT_USER BYPASSRLS"),
    ("LISTEN to everything", Nothing, "LISTEN \"{slug}\""),
];

/// A start-up packet: its name, what must become of it, and its parameters.
type StartUp = (&'static str, Must, &'static [(&'static str, &'static str)]);

/// Start-up packets with A's password.
const STARTUP: &[StartUp] = &[
    ("B behind A's login", Fail, &[("user", "acme.{slug}")]),
    ("B's id behind A's login", Fail, &[("user", "acme.{id}")]),
    ("B's login", Fail, &[("user", "{slug}")]),
    ("B's login and A's tenant", Fail, &[("user", "{slug}.acme")]),
    ("B's database", Fail, &[("user", "acme"), ("database", "{slug}")]),
    ("B in the options", Fail, &[("user", "acme"), ("options", "-c guardian.tenant={slug}")]),
    ("B in the options, in the long form", Fail, &[("user", "acme"), ("options", "--guardian.tenant={slug}")]),
    ("A and B in the options", Fail, &[("user", "acme"), ("options", "-c guardian.tenant=acme -c guardian.tenant={slug}")]),
    ("B as a parameter", Fail, &[("user", "acme"), ("guardian.tenant", "{slug}")]),
    ("the register as a parameter", Fail, &[("user", "acme"), ("backtrace_functions", "{key}")]),
    ("the register in the options", Fail, &[("user", "acme"), ("options", "-c backtrace_functions={key}")]),
    ("the register in the options, escaped", Fail, &[("user", "acme"), ("options", "-cbacktrace\\_functions={key}")]),
    ("a role as a parameter", Fail, &[("user", "acme"), ("role", "guardian_admin")]),
    ("a role in the options", Fail, &[("user", "acme"), ("options", "-c role=guardian_admin")]),
    ("a role in capitals", Fail, &[("user", "acme"), ("ROLE", "guardian_admin")]),
    ("another session user", Fail, &[("user", "acme"), ("session_authorization", "guardian_admin")]),
    ("policies off", Nothing, &[("user", "acme"), ("row_security", "off")]),
    ("B's schema in the path", Nothing, &[("user", "acme"), ("search_path", "{id}")]),
    ("replication", Fail, &[("user", "acme"), ("replication", "true")]),
    ("replication of the database", Fail, &[("user", "acme"), ("replication", "database")]),
    ("two users", Fail, &[("user", "acme"), ("user", "{slug}")]),
    ("two users, B first", Fail, &[("user", "{slug}"), ("user", "acme")]),
    ("two databases", Fail, &[("user", "acme"), ("database", "acme"), ("database", "{slug}")]),
    ("the admin console", Fail, &[("user", "acme"), ("database", "guardian")]),
    ("the gateway's own role", Fail, &[("user", "{app}")]),
    ("the superuser", Fail, &[("user", "guardian_admin")]),
    ("a name that ends early", Fail, &[("user", "acme."), ("database", "{slug}")]),
    (
        "a name with a statement in it",
        Nothing,
        &[("user", "acme"), ("application_name", "x'; SET guardian.tenant = '{slug}'; --")],
    ),
    (
        "a setting with a statement in it",
        Nothing,
        &[("user", "acme"), ("TimeZone", "UTC'; SELECT set_config('backtrace_functions', '{key}', false); --")],
    ),
    ("a setting's name with a statement in it", Fail, &[("user", "acme"), ("x', 'y', false); SELECT ('", "1")]),
    ("an unknown session setting", Fail, &[("user", "acme"), ("session_preload_libraries", "auto_explain")]),
    ("a library", Nothing, &[("user", "acme"), ("local_preload_libraries", "x")]),
];

/// How bytes are sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    /// The connection goes on.
    GoOn,
    /// A message is left unfinished: no statement can follow.
    Vanish,
}
use Then::{GoOn, Vanish};

/// Bytes of a client that is in.
#[expect(clippy::too_many_lines, reason = "a table")]
fn bytes(sides: &Sides) -> Vec<(&'static str, Then, Vec<u8>)> {
    let switch = sides.fill("SET guardian.tenant = '{slug}'");
    let forge = sides.fill("SET backtrace_functions = '{key}'");
    let read = "SELECT * FROM tag";
    let copy_data = |text: &str| message(b'd', text.as_bytes());
    let mut oversized = vec![b'Q'];
    oversized.extend_from_slice(&0x7fff_ffff_u32.to_be_bytes());
    oversized.extend_from_slice(b"SELECT 1\0");
    let with_len = |tag: u8, len: i32, rest: &[u8]| [&[tag][..], &len.to_be_bytes(), rest].concat();
    let call = |function: u32, argument: &[u8]| {
        let mut body = function.to_be_bytes().to_vec();
        body.extend_from_slice(&[0, 1, 0, 1, 0, 1]);
        body.extend_from_slice(&u32::try_from(argument.len()).expect("a short argument").to_be_bytes());
        body.extend_from_slice(argument);
        body.extend_from_slice(&[0, 1]);
        message(b'F', &body)
    };
    let many: Vec<u8> = (0..10_000).flat_map(|_| unsynced("", "SELECT 1")).chain(sync()).collect();
    let many_queries: Vec<u8> = (0..10_000).flat_map(|_| query("SELECT 1")).collect();
    let late: Vec<u8> = (0..500).flat_map(|_| query("SELECT 1")).chain(query(&switch)).chain(query(read)).collect();
    vec![
        ("the switch in a group", GoOn, group("", &switch)),
        ("the switch in a named group", GoOn, group("s", &switch)),
        ("the switch prepared, run later", GoOn, [parse("s", &switch), sync(), bind("", "s"), execute(""), sync()].concat()),
        (
            "the switch before a Sync",
            GoOn,
            [unsynced("", "SELECT 1"), unsynced("", &switch), unsynced("", read), sync()].concat(),
        ),
        ("the switch first before a Sync", GoOn, [unsynced("", &switch), unsynced("", read), sync()].concat()),
        (
            "the switch in a Query before a Sync",
            GoOn,
            [unsynced("", "SELECT 1"), query(&switch), unsynced("", read), sync()].concat(),
        ),
        (
            "the switch behind a Flush",
            GoOn,
            [unsynced("", "SELECT 1"), flush(), query(&switch), query(read), sync()].concat(),
        ),
        ("the switch in a group and a read at once", GoOn, [group("", &switch), query(read)].concat()),
        ("the switch and a read at once", GoOn, [query(&switch), query(read)].concat()),
        ("the switch behind 500 queries", GoOn, late),
        ("the switch behind BEGIN", GoOn, [query("BEGIN"), query(&switch), query(read), query("COMMIT")].concat()),
        (
            "the switch behind BEGIN in a group",
            GoOn,
            [unsynced("", "BEGIN"), flush(), query(&switch), query(read), query("ROLLBACK")].concat(),
        ),
        ("the switch executed twice", GoOn, [parse("", &switch), bind("", ""), execute(""), execute(""), sync()].concat()),
        ("the switch in a group with a Query", GoOn, [parse("", &switch), query(read), sync()].concat()),
        ("the switch with text behind its end", GoOn, message(b'Q', format!("{switch}\0SELECT * FROM tag\0").as_bytes())),
        ("a Query of two strings", GoOn, message(b'Q', format!("SELECT 1\0{switch}\0").as_bytes())),
        ("the switch without an end", GoOn, message(b'Q', switch.as_bytes())),
        ("an empty Query", GoOn, message(b'Q', b"")),
        (
            "a Parse with a second text",
            GoOn,
            [message(b'P', format!("\0SELECT 1\0{switch}\0\0\0").as_bytes()), sync()].concat(),
        ),
        ("a Parse that counts too many parameters", GoOn, [message(b'P', b"\0SELECT 1\0\x7f\xff"), sync()].concat()),
        (
            "a Bind that counts too many parameters",
            GoOn,
            [parse("", "SELECT 1"), message(b'B', b"\0\0\0\0\x7f\xff"), sync()].concat(),
        ),
        (
            "a Bind with a negative length",
            GoOn,
            [parse("", "SELECT $1::text"), message(b'B', b"\0\0\0\0\0\x01\xff\xff\xff\x00\0\0"), sync()].concat(),
        ),
        ("a Parse without an end", GoOn, [message(b'P', b"SELECT 1"), sync()].concat()),
        ("a Bind without an end", GoOn, [message(b'B', b"x"), sync()].concat()),
        ("an empty Describe", GoOn, [message(b'D', b""), sync()].concat()),
        ("a Describe of nothing known", GoOn, [message(b'D', b"Xx\0"), sync()].concat()),
        ("a portal of another", GoOn, [execute("p1"), sync()].concat()),
        ("a description of another's portal", GoOn, [target(b'D', 'P', "p1"), sync()].concat()),
        ("a statement of the gateway", GoOn, [bind("", "_g1"), execute(""), sync()].concat()),
        ("a statement without a number", GoOn, [bind("", "_g"), execute(""), sync()].concat()),
        ("a description of the gateway's statement", GoOn, [target(b'D', 'S', "_g1"), sync()].concat()),
        ("another's unnamed statement", GoOn, [bind("", ""), execute(""), sync()].concat()),
        ("a Close of the gateway's statement", GoOn, [target(b'C', 'S', "_g1"), sync()].concat()),
        ("EXECUTE of the gateway's statements", GoOn, (1..40).flat_map(|n| query(&format!("EXECUTE _g{n}"))).collect()),
        (
            "DEALLOCATE of the gateway's statements",
            GoOn,
            (1..40).flat_map(|n| query(&format!("DEALLOCATE _g{n}"))).collect(),
        ),
        ("a statement under the gateway's name", GoOn, [group("_g1", read), group("_g", read)].concat()),
        (
            "PREPARE under the gateway's names",
            GoOn,
            (1..40).flat_map(|n| query(&format!("PREPARE _g{n} AS SELECT 666"))).collect(),
        ),
        ("forging in a group", GoOn, [unsynced("", &forge), unsynced("", read), sync()].concat()),
        ("forging, and a read in a group of its own", GoOn, [group("", &forge), group("", read)].concat()),
        ("RESET ALL and a read in one group", GoOn, [unsynced("", "RESET ALL"), unsynced("", read), sync()].concat()),
        ("DISCARD ALL and a read at once", GoOn, [query("DISCARD ALL"), query(read)].concat()),
        ("RESET ALL and a read at once", GoOn, [query("RESET ALL"), query(read), query(read)].concat()),
        ("an error and a read at once", GoOn, [query("SELECT 1 / 0"), query(read)].concat()),
        (
            "ROLLBACK behind an error in a group",
            GoOn,
            [unsynced("", "SELECT 1 / 0"), query("ROLLBACK"), sync(), query(read)].concat(),
        ),
        ("a call of a function by a guessed number", GoOn, call(16_500, &[0; 32])),
        ("a call of set_config", GoOn, call(2078, b"backtrace_functions")),
        ("a call of pg_read_file", GoOn, call(2624, b"postgresql.auto.conf")),
        ("a call of current_setting", GoOn, call(2077, b"backtrace_functions")),
        ("a call without a body", GoOn, message(b'F', b"")),
        ("a call that counts too many arguments", GoOn, message(b'F', &[0, 0, 8, 0x1d, 0, 0, 0x7f, 0xff])),
        ("COPY data outside a COPY", GoOn, [copy_data("1\tx\n"), message(b'c', b""), query(read)].concat()),
        ("the end of a COPY outside one", GoOn, message(b'f', b"no\0")),
        (
            "COPY into a table of all",
            GoOn,
            [query("COPY tag (name) FROM STDIN"), copy_data("x\n"), message(b'c', b"")].concat(),
        ),
        (
            "COPY into B",
            GoOn,
            [
                query("COPY tag (tenant_id, name) FROM STDIN"),
                copy_data(&sides.fill("{uuid}\tplanted\n")),
                message(b'c', b""),
            ]
            .concat(),
        ),
        ("a Query within a COPY", GoOn, [query("COPY tag (name) FROM STDIN"), query(&switch), query(read)].concat()),
        ("a Sync within a COPY", GoOn, [query("COPY tag (name) FROM STDIN"), sync(), sync(), query(read)].concat()),
        ("a Parse within a COPY", GoOn, [query("COPY tag (name) FROM STDIN"), group("", read)].concat()),
        (
            "COPY by a group, Syncs behind",
            GoOn,
            [unsynced("", "COPY tag (name) FROM STDIN"), sync(), sync(), query(read)].concat(),
        ),
        ("COPY out, and a read at once", GoOn, [query("COPY (SELECT 1) TO STDOUT"), query(read)].concat()),
        ("replication by SQL", GoOn, query("START_REPLICATION SLOT s LOGICAL 0/0")),
        ("an unknown message", GoOn, message(b'!', b"x")),
        ("a message of the server's", GoOn, message(b'Z', b"I")),
        ("a password again", GoOn, message(b'p', b"md5x\0")),
        ("a start-up packet in the middle", GoOn, [&8_u32.to_be_bytes()[..], &80_877_103_u32.to_be_bytes()].concat()),
        ("a message of a negative length", GoOn, with_len(b'Q', -1, b"SELECT 1\0")),
        ("a message of no length", GoOn, with_len(b'Q', 0, b"SELECT 1\0")),
        ("a message shorter than its length", GoOn, with_len(b'Q', 3, b"SELECT 1\0")),
        ("a Sync with a body", GoOn, with_len(b'S', 8, b"abcd")),
        ("a Terminate with a body", GoOn, with_len(b'X', 8, b"abcd")),
        ("a message of 2 GB", Vanish, oversized),
        ("a Parse of 2 GB", Vanish, with_len(b'P', 0x7fff_ffff, b"name\0SELECT 1")),
        ("a name of 64 KB", GoOn, [parse(&"n".repeat(65_536), "SELECT 1"), sync()].concat()),
        ("a Describe of 64 KB", GoOn, [target(b'D', 'S', &"n".repeat(65_536)), sync()].concat()),
        ("a switch of 64 KB", GoOn, query(&format!("{}{switch}", " ".repeat(65_536)))),
        ("a switch of 1 MB in a group", GoOn, group("", &format!("{}{switch}", " ".repeat(1_000_000)))),
        ("half a Query", Vanish, query(read)[..10].to_vec()),
        ("half a switch", Vanish, query(&switch)[..20].to_vec()),
        ("half a header", Vanish, vec![b'Q', 0, 0]),
        ("half a Bind", Vanish, [parse("", read), bind("", "")[..7].to_vec()].concat()),
        (
            "half a large parameter",
            Vanish,
            [parse("", "SELECT $1::text"), with_len(b'B', 1_000_000, b"\0\0\0\0\0\x01\x00\x0f\x00\x00xx")].concat(),
        ),
        ("a read in a transaction left open", Vanish, [query("BEGIN"), query(read)].concat()),
        ("a group left open", Vanish, [unsynced("", "INSERT INTO tag (name) VALUES ('unfinished')"), flush()].concat()),
        ("Terminate within a group", GoOn, [unsynced("", read), message(b'X', b""), sync()].concat()),
        ("Terminate within a transaction", GoOn, [query("BEGIN"), query(read), message(b'X', b""), query(read)].concat()),
        ("10,000 statements before one Sync", GoOn, many),
        ("10,000 queries at once", GoOn, many_queries),
        ("10,000 Syncs", GoOn, (0..10_000).flat_map(|_| sync()).collect()),
        ("10,000 Flushes", GoOn, (0..10_000).flat_map(|_| flush()).collect()),
    ]
}

/// Bytes of a client that has not said anything yet.
fn first_bytes(sides: &Sides) -> Vec<(&'static str, Vec<u8>)> {
    let startup = |version: u32, rest: &[u8]| {
        let len = u32::try_from(rest.len() + 8).expect("a short packet");
        [&len.to_be_bytes()[..], &version.to_be_bytes(), rest].concat()
    };
    let user = sides.fill("user\0{slug}\0\0");
    let ssl = startup(80_877_103, b"");
    let cancel = |process: u32, secret: &[u8]| startup(80_877_102, &[&process.to_be_bytes()[..], secret].concat());
    vec![
        ("protocol 2.0", startup(0x0002_0000, &[b'x'; 288])),
        ("protocol 4.0", startup(0x0004_0000, user.as_bytes())),
        ("protocol 0", startup(0, user.as_bytes())),
        ("no parameters", startup(0x0003_0000, b"\0")),
        ("no end of the parameters", startup(0x0003_0000, b"user\0acme")),
        ("a name without a value", startup(0x0003_0000, b"user\0\0")),
        ("bytes behind the parameters", startup(0x0003_0000, b"user\0acme\0\0extra\0")),
        ("a query without a start-up", query("SELECT * FROM tag")),
        ("a query behind the start-up", [startup(0x0003_0000, user.as_bytes()), query("SELECT * FROM tag")].concat()),
        ("a password before it is asked for", [startup(0x0003_0000, user.as_bytes()), message(b'p', b"x\0")].concat()),
        ("an unknown mechanism", [startup(0x0003_0000, user.as_bytes()), message(b'p', b"PLAIN\0\0\0\0\x01x")].concat()),
        (
            "channel binding without TLS",
            [startup(0x0003_0000, user.as_bytes()), message(b'p', b"SCRAM-SHA-256-PLUS\0\0\0\0\x0bn,,n=,r=abc")].concat(),
        ),
        (
            "a proof of nothing",
            [startup(0x0003_0000, user.as_bytes()), message(b'p', b"SCRAM-SHA-256\0\xff\xff\xff\xff")].concat(),
        ),
        ("TLS with bytes behind", [ssl.clone(), startup(0x0003_0000, user.as_bytes())].concat()),
        ("TLS twice", [ssl.clone(), ssl].concat()),
        ("GSS with bytes behind", [startup(80_877_104, b""), startup(0x0003_0000, user.as_bytes())].concat()),
        ("a guessed cancel key", cancel(1, &[0; 4])),
        ("a cancel key of 300 bytes", cancel(1, &[0; 300])),
        ("a cancel key of no bytes", cancel(1, b"")),
        ("a packet of no length", vec![0; 8]),
        ("a packet of 2 GB", vec![0x7f, 0xff, 0xff, 0xff, 0, 3, 0, 0]),
        ("a packet of a negative length", vec![0xff, 0xff, 0xff, 0xff, 0, 3, 0, 0]),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        ("nothing but zeroes", vec![0; 4096]),
    ]
}

struct Suite {
    gateway: Gateway,
    sides: Sides,
    direct: PgConnection,
    fingerprint: String,
    tried: usize,
    problems: Vec<String>,
}

impl Suite {
    fn a(&self) -> Wire {
        self.gateway.connect(&self.sides.a)
    }

    async fn fingerprint_of_b(&mut self) -> String {
        let key = &self.sides.b.key;
        let sql = format!(
            "SELECT md5(concat((SELECT string_agg(t::text, '|' ORDER BY t::text) FROM public.tag t WHERE tenant_id = '{key}'), '/', \
             (SELECT string_agg(o::text, '|' ORDER BY o::text) FROM public.organization o WHERE tenant_id = '{key}')))"
        );
        sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut self.direct).await.expect("B's rows")
    }

    /// Judges one attempt by what its connection received.
    async fn judge(&mut self, name: &str, mut wire: Wire, then: Then) {
        self.tried += 1;
        if then == Then::GoOn
            && let Some(problem) = goes_on(&mut wire)
        {
            self.problems.push(format!("{name}: {problem}"));
        }
        if String::from_utf8_lossy(&wire.seen).contains(CANARY) {
            self.problems.push(format!("{name}: B WAS READ"));
        }
        wire.vanish();
        let now = self.fingerprint_of_b().await;
        if now != self.fingerprint {
            self.problems.push(format!("{name}: B WAS CHANGED"));
            self.fingerprint = now;
        }
    }
}

/// Whether the connection is closed, or an ordinary statement finds A's own rows; a context that was taken away must be back
/// after one error at most.
fn goes_on(wire: &mut Wire) -> Option<String> {
    for attempt in 0..3 {
        wire.send(
            &[sync(), query("ROLLBACK"), query("SELECT 'still ' || count(*) FROM tag WHERE name LIKE 'of acme%'")].concat(),
        );
        loop {
            match wire.until(Duration::from_secs(5)) {
                None => return Some("the connection hangs".to_owned()),
                Some(answer) if answer.status.is_none() => return None,
                Some(answer) if answer.first() == Some("still 2") => return None,
                Some(answer) if attempt < 2 && matches!(answer.code(), "22P02" | "22023") => break,
                Some(answer) if answer.first().is_some_and(|first| first.starts_with("still ")) || attempt == 2 => {
                    return Some(format!("A's own rows are not found: {answer:?}"));
                }
                Some(_) => {}
            }
        }
    }
    Some("A's own rows are not found".to_owned())
}

async fn suite(settings: &str) -> Suite {
    let gateway = Gateway::start(&Server::shared(), settings).await;
    let sides = Sides {
        a: gateway.tenant("acme", "free"),
        b: gateway.tenant("bravo", "free"),
        shared_database: gateway.installation.application.clone(),
    };
    for (tenant, mark) in [(&sides.a, ""), (&sides.b, CANARY)] {
        let mut wire = gateway.connect(tenant);
        let slug = &tenant.slug;
        for sql in [
            format!("INSERT INTO tag (name) VALUES ('of {slug} {mark}'), ('of {slug} 2 {mark}')"),
            format!("INSERT INTO organization (name) VALUES ('{slug} {mark}')"),
        ] {
            assert_eq!(wire.query(&sql).failures, [], "{sql}");
        }
    }
    let direct = gateway.direct().await;
    let mut suite = Suite { gateway, sides, direct, fingerprint: String::new(), tried: 0, problems: Vec::new() };
    suite.fingerprint = suite.fingerprint_of_b().await;
    suite
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::print_stdout, reason = "the count belongs to what the test shows")]
async fn arbitrary_bytes_as_one_tenant_reach_no_other() {
    let mut suite = suite("server_connections = 2\nserver_connections_reserved = 1\nworkers = 1").await;
    forging_by_a_superuser_finds_the_canary(&mut suite).await;
    for (name, must, sql) in SQL {
        let sql = suite.sides.fill(sql).replace("{canary}", CANARY);
        if *must == ShowBItsOwn {
            let mut own = suite.gateway.connect(&suite.sides.b);
            own.query(&sql);
            assert!(String::from_utf8_lossy(&own.seen).contains(CANARY), "{name}: finds nothing for B either: {sql}");
            own.query(&format!("UPDATE tag SET name = name WHERE name NOT LIKE '%{CANARY}%'"));
        }
        for is_simple in [true, false] {
            // The extended protocol knows single statements only.
            if !is_simple && sql.contains("; ") {
                continue;
            }
            let mut wire = suite.a();
            let answer = if is_simple { wire.query(&sql) } else { wire.extended("", &sql) };
            if *must == Fail && answer.failures.is_empty() && answer.status.is_some() {
                suite.problems.push(format!("{name}: was allowed: {answer:?}"));
            }
            suite.judge(name, wire, GoOn).await;
        }
    }
    let by_sql = suite.tried;
    for (name, must, parameters) in STARTUP {
        let filled: Vec<(&str, String)> = parameters.iter().map(|(name, value)| (*name, suite.sides.fill(value))).collect();
        let parameters: Vec<(&str, &str)> = filled.iter().map(|(name, value)| (*name, value.as_str())).collect();
        match Wire::login(&suite.gateway.address, &parameters, &suite.sides.a.password) {
            Ok(mut wire) => {
                let answer = wire.query("SELECT * FROM tag");
                if *must == Fail && answer.failures.is_empty() {
                    suite.problems.push(format!("{name}: was let in"));
                }
                // A session setting of A's own may spoil A's own session.
                suite.judge(name, wire, if *must == Fail { GoOn } else { Vanish }).await;
            }
            Err(failure) => {
                suite.tried += 1;
                if failure.message.contains("Late") {
                    suite.problems.push(format!("{name}: {failure:?}"));
                }
            }
        }
    }
    for (name, then, bytes) in bytes(&suite.sides) {
        for is_split in [false, true] {
            if is_split && bytes.len() > 400 {
                continue;
            }
            let mut wire = suite.a();
            if is_split {
                wire.trickle(&bytes);
            } else {
                // The answers to a flood must be read while it is sent.
                let mut sender = wire.sender();
                let flood = bytes.clone();
                let sending = std::thread::spawn(move || sender.send(&flood));
                wire.drain(QUIET);
                if !sending.is_finished() {
                    wire.drain(Duration::from_secs(2));
                }
                let _ = sending.join();
            }
            if then == Vanish {
                wire.drain(QUIET);
            }
            suite.judge(name, wire, then).await;
        }
    }
    for (name, bytes) in first_bytes(&suite.sides) {
        let mut wire = Wire::open(&suite.gateway.address);
        wire.send(&bytes);
        wire.drain_raw(QUIET);
        suite.judge(name, wire, Vanish).await;
    }
    others_cancel_keys(&mut suite);
    // Nobody was harmed by any of it.
    let of_b = suite.gateway.connect(&suite.sides.b).scalar("SELECT count(*) FROM tag");
    assert_eq!(of_b, "2");
    println!("{} attempts, {by_sql} of them by SQL", suite.tried);
    assert!(suite.tried > 350, "{}", suite.tried);
    assert!(suite.problems.is_empty(), "{} problems:\n{}", suite.problems.len(), suite.problems.join("\n"));
}

/// The forged context does reach B, where it can be made: what the refused attempts aim at is there.
async fn forging_by_a_superuser_finds_the_canary(suite: &mut Suite) {
    let sql = suite.sides.fill("SET backtrace_functions = '{key}'; SET ROLE {app}");
    suite.direct.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await.expect("forge");
    let names: Vec<String> =
        sqlx::query_scalar("SELECT name FROM public.tag").fetch_all(&mut suite.direct).await.expect("read");
    assert!(names.len() == 2 && names.iter().all(|name| name.contains(CANARY)), "{names:?}");
    suite.direct.execute("RESET ROLE; RESET backtrace_functions").await.expect("go back");
}

/// Requests with the number of B's connection and a secret that is not its own do not end its statement; its own does.
fn others_cancel_keys(suite: &mut Suite) {
    let mut of_b = suite.gateway.connect(&suite.sides.b);
    let a = suite.a();
    let cancel = |process: u32, secret: &[u8]| {
        let mut out = Vec::new();
        guardian_pgwire::startup::write_cancel(&mut out, process, secret);
        let mut wire = Wire::open(&suite.gateway.address);
        wire.send(&out);
        wire.drain_raw(QUIET);
    };
    of_b.send(&query("SELECT pg_sleep(1)"));
    std::thread::sleep(QUIET);
    cancel(of_b.key.0, &a.key.1);
    cancel(of_b.key.0, &[0; 4]);
    cancel(a.key.0, &of_b.key.1);
    for guess in 0..20 {
        cancel(guess, &of_b.key.1);
    }
    let answer = of_b.until_ready();
    assert_eq!(answer.failures, [], "another's key ended B's statement");
    of_b.send(&query("SELECT pg_sleep(20)"));
    std::thread::sleep(QUIET);
    cancel(of_b.key.0, &of_b.key.1);
    assert_eq!(of_b.until_ready().code(), "57014", "one's own key does nothing: nothing was tried above");
    suite.tried += 23;
}

/// Logins that may switch: their switch counts as a message of its own only, and a text that is injected never is one.
#[tokio::test(flavor = "multi_thread")]
async fn an_injected_switch_is_none() {
    let suite = suite("workers = 1").await;
    let password = suite.gateway.login("app", &json!({ "kind": "any_tenant", "switch": "tenant" }));
    let never = suite.gateway.login("fixed", &json!({ "kind": "any_tenant" }));
    let connect = |user: &str, password: &str| suite.gateway.connect_as(user, password);
    let mut wire = connect("app.acme", &password);
    assert_eq!(wire.scalar("SHOW guardian.tenant"), "acme");
    for sql in [
        "SET guardian.tenant = 'bravo'; SELECT name FROM tag",
        "SELECT name FROM tag; SET guardian.tenant = 'bravo'",
        "/**/ SET guardian.tenant = 'bravo'",
        "-- x\nSET guardian.tenant = 'bravo'",
        "BEGIN; SET guardian.tenant = 'bravo'",
        "SET LOCAL guardian.tenant = 'bravo'",
        "SET \"guardian.tenant\" = 'bravo'",
        "SET guardian.tenant = E'bravo'",
        "SET guardian.tenant = $$bravo$$",
        "SET guardian.tenant = 'bra' 'vo'",
        "SELECT set_config('guardian.tenant', 'bravo', false)",
        "DO $$ BEGIN EXECUTE 'SET guardian.tenant = ''bravo'''; END $$",
        "PREPARE s AS SELECT 1; SET guardian.tenant = 'bravo'",
    ] {
        for is_simple in [true, false] {
            if is_simple {
                wire.query(sql)
            } else {
                wire.extended("", sql)
            };
            wire.query("ROLLBACK");
            assert_eq!(wire.scalar("SHOW guardian.tenant"), "acme", "{sql}");
            assert_eq!(wire.scalar("SELECT count(*) FROM tag WHERE name LIKE 'of acme%'"), "2", "{sql}");
        }
    }
    assert_eq!(wire.query("BEGIN").status, Some('T'));
    assert_eq!(wire.query("SET guardian.tenant = 'bravo'").code(), "25001");
    wire.query("ROLLBACK");
    assert!(!String::from_utf8_lossy(&wire.seen).contains(CANARY));
    // Each of the two forms that are switches.
    assert_eq!(wire.query("SET guardian.tenant = 'bravo'").tags, ["SET"]);
    assert!(wire.scalar("SELECT name FROM tag").contains(CANARY), "the switch does nothing: nothing was tried above");
    assert_eq!(wire.extended("", "SET guardian.tenant = 'acme'").tags, ["SET"]);
    assert_eq!(wire.scalar("SELECT count(*) FROM tag WHERE name LIKE 'of acme%'"), "2");
    // After a switch that failed there is no tenant rather than the old one.
    assert_eq!(wire.query("SET guardian.tenant = 'nobody'").code(), "3D000");
    assert_eq!(wire.query("SELECT count(*) FROM tag").code(), "28000");
    let mut fixed = connect("fixed.acme", &never);
    assert_eq!(fixed.query("SET guardian.tenant = 'bravo'").code(), "42501");
    assert_eq!(fixed.scalar("SHOW guardian.tenant"), "acme");
    let refused = patiently(|| match suite.gateway.try_connect("app", "wrong") {
        Err(failure) if failure.code == "28P01" => Ok(()),
        other => Err(other.err()),
    });
    refused.expect("a wrong password is refused");
}
