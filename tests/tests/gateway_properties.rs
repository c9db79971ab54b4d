//! Many clients of many tenants over few server connections, in an order that a seed gives: each row read is its owner's, and
//! each row written lands with its writer.
//!
//! The seed is printed; `GUARDIAN_SEED` runs one again.

use std::{
    collections::BTreeMap,
    env,
    hash::{BuildHasher as _, RandomState},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use guardian_testkit::Server;
use guardian_tests::{
    Answer, Gateway, Tenant, Wire,
    wire::{bind, execute, flush, group, parse, query, sync, target, unsynced},
};
use serde_json::json;
use sqlx::AssertSqlSafe;

const CLIENTS: u64 = 24;
const LENGTH: Duration = Duration::from_secs(10);

/// `SplitMix64`: nothing here needs more.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).expect("a small number")
    }
}

/// What all clients share.
struct World {
    gateway: Gateway,
    tenants: Vec<Tenant>,
    switching: String,
    /// Names of rows whose insertion was answered, by tenant.
    written: Mutex<BTreeMap<String, Vec<String>>>,
    rows: AtomicU64,
    statements: AtomicU64,
    switches: AtomicU64,
}

/// One client: which tenant it serves now, and what it has prepared there.
struct Client<'w> {
    world: &'w World,
    random: Random,
    number: u64,
    wire: Wire,
    at: usize,
    prepared: Vec<String>,
    made: u64,
}

impl<'w> Client<'w> {
    fn connect(world: &'w World, number: u64, mut random: Random) -> Self {
        let at = random.below(world.tenants.len());
        let wire = Self::wire(world, at);
        Self { world, random, number, wire, at, prepared: Vec::new(), made: 0 }
    }

    fn wire(world: &World, at: usize) -> Wire {
        world.gateway.connect_as(&format!("app.{}", world.tenants[at].slug), &world.switching)
    }

    fn reconnect(&mut self) {
        self.at = self.random.below(self.world.tenants.len());
        self.prepared.clear();
        let old = std::mem::replace(&mut self.wire, Self::wire(self.world, self.at));
        old.vanish();
    }

    fn slug(&self) -> &'w str {
        &self.world.tenants[self.at].slug
    }

    /// Whatever rows came are of the tenant that this client serves.
    fn check(&self, what: &str, answer: &Answer) {
        self.world.statements.fetch_add(1, Ordering::Relaxed);
        assert!(answer.status.is_some(), "client {}: {what} lost the connection: {answer:?}", self.number);
        for row in &answer.rows {
            let name = row[0].as_deref().unwrap_or_default();
            let owner = name.split(' ').next().unwrap_or_default();
            assert_eq!(owner, self.slug(), "client {}: {what} answered a row of another: {answer:?}", self.number);
            self.world.rows.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn row(&mut self) -> String {
        self.made += 1;
        format!("{} {} {}", self.slug(), self.number, self.made)
    }

    fn note(&self, name: String) {
        self.world.written.lock().expect("unpoisoned").entry(self.slug().to_owned()).or_default().push(name);
    }

    fn step(&mut self) {
        let read = "SELECT name FROM tag ORDER BY random() LIMIT 20";
        match self.random.below(14) {
            0 | 1 => {
                let answer = self.wire.query(read);
                assert!(!answer.rows.is_empty(), "{answer:?}");
                self.check("a query", &answer);
            }
            2 => {
                let answer = self.wire.extended("", read);
                assert!(!answer.rows.is_empty(), "{answer:?}");
                self.check("a group", &answer);
            }
            3 | 4 => self.write(),
            5 => self.named(),
            6 => {
                // A pipeline of groups, one of which fails.
                let fails = self.random.below(6);
                let mut bytes = Vec::new();
                for n in 0..6 {
                    bytes.extend(group(
                        "",
                        if n == fails { "SELECT name || (1 / (length(name) * 0)) FROM tag" } else { read },
                    ));
                }
                self.wire.send(&bytes);
                for n in 0..6 {
                    let answer = self.wire.until_ready();
                    assert_eq!(answer.failures.is_empty(), n != fails, "{answer:?}");
                    self.check("a pipeline", &answer);
                }
            }
            7 => self.transaction(),
            8 => {
                // State for the next one on this connection to find.
                let sql = [
                    "SET timezone = 'Asia/Tokyo'",
                    "DECLARE kept CURSOR WITH HOLD FOR SELECT name FROM tag",
                    "PREPARE kept AS SELECT name FROM tag",
                    "SELECT name FROM tag WHERE pg_try_advisory_lock(hashtext(name)) LIMIT 1",
                    "RESET ALL",
                    "DISCARD ALL",
                    "DEALLOCATE ALL",
                    "DO $$ BEGIN EXECUTE 'RESET ALL'; END $$",
                    "LISTEN kept",
                ];
                let sql = sql[self.random.below(sql.len())];
                let answer = self.wire.query(sql);
                self.check(sql, &answer);
                if matches!(sql, "DISCARD ALL" | "DEALLOCATE ALL") {
                    self.prepared.clear();
                }
                // A context taken away in a block shows as an error, once.
                for _ in 0..2 {
                    let answer = self.wire.query(read);
                    self.check("after state", &answer);
                    if answer.failures.is_empty() {
                        return;
                    }
                }
                let answer = self.wire.query(read);
                assert!(answer.failures.is_empty(), "after {sql}: {answer:?}");
            }
            9 => {
                let answer = self.wire.query("SELECT 1 / 0");
                assert_eq!(answer.code(), "22012", "{answer:?}");
                self.check("an error", &answer);
            }
            10 | 11 => self.switch(),
            12 => {
                // Leaves in the middle of something.
                let middle = [
                    query("SELECT pg_sleep(0.01), name FROM tag"),
                    [query("BEGIN"), query(read)].concat(),
                    [unsynced("", read), flush()].concat(),
                    parse("gone", read),
                    query(read)[..9].to_vec(),
                    [query("BEGIN"), query("INSERT INTO tag (name) VALUES ('nobody unfinished')")].concat(),
                    [unsynced("", "INSERT INTO tag (name) VALUES ('nobody unsynced')"), flush()].concat(),
                ];
                let bytes = &middle[self.random.below(middle.len())];
                self.wire.send(bytes);
                if self.random.below(2) == 0 {
                    std::thread::sleep(Duration::from_millis(2));
                }
                self.reconnect();
            }
            _ => {
                // Two queries at once.
                self.wire.send(&[query(read), query(read)].concat());
                for _ in 0..2 {
                    let answer = self.wire.until_ready();
                    self.check("two at once", &answer);
                }
            }
        }
    }

    fn write(&mut self) {
        let name = self.row();
        let sql = format!("INSERT INTO tag (name) VALUES ('{name}') RETURNING name");
        let answer = if self.random.below(2) == 0 { self.wire.query(&sql) } else { self.wire.extended("", &sql) };
        self.check("a write", &answer);
        if answer.failures.is_empty() {
            self.note(name);
        }
    }

    fn named(&mut self) {
        let name = format!("s{}", self.random.below(4));
        if !self.prepared.contains(&name) {
            let sql = format!("SELECT name FROM tag ORDER BY random() LIMIT {}", 1 + self.random.below(3));
            self.wire.send(&[parse(&name, &sql), target(b'D', 'S', &name), sync()].concat());
            let answer = self.wire.until_ready();
            if !answer.failures.is_empty() {
                return;
            }
            self.prepared.push(name.clone());
        }
        self.wire.send(&[bind("", &name), execute(""), sync()].concat());
        let answer = self.wire.until_ready();
        assert!(answer.failures.is_empty() && !answer.rows.is_empty(), "{name}: {answer:?}");
        self.check("a named statement", &answer);
    }

    fn transaction(&mut self) {
        let mut answer = self.wire.query("BEGIN");
        self.check("BEGIN", &answer);
        let name = self.row();
        answer = self.wire.query(&format!("INSERT INTO tag (name) VALUES ('{name}') RETURNING name"));
        self.check("a write in a transaction", &answer);
        let refused = self.wire.query("SET guardian.tenant = 'tenant-0'");
        assert_eq!(refused.code(), "25001", "{refused:?}");
        let ends = ["COMMIT", "ROLLBACK", "COMMIT"];
        let end = ends[self.random.below(3)];
        answer = self.wire.query(end);
        self.check(end, &answer);
        assert_eq!(answer.status, Some('I'));
        // The refused switch failed the transaction, as any error does.
        assert_eq!(answer.tags, ["ROLLBACK"]);
    }

    fn switch(&mut self) {
        let to = self.random.below(self.world.tenants.len());
        let sql = format!("SET guardian.tenant = '{}'", self.world.tenants[to].slug);
        // The next statement may be on its way already.
        let follows = self.random.below(2) == 0;
        let mut bytes = if self.random.below(2) == 0 { query(&sql) } else { group("", &sql) };
        if follows {
            bytes.extend(query("SELECT name FROM tag LIMIT 5"));
        }
        self.wire.send(&bytes);
        let answer = self.wire.until_ready();
        assert_eq!(answer.tags, ["SET"], "{answer:?}");
        self.at = to;
        self.prepared.clear();
        self.world.switches.fetch_add(1, Ordering::Relaxed);
        if follows {
            let answer = self.wire.until_ready();
            assert!(!answer.rows.is_empty(), "{answer:?}");
            self.check("behind a switch", &answer);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::print_stdout, reason = "the seed is what one needs to run it again")]
async fn each_row_is_its_owner_s_in_any_order() {
    let seed = env::var("GUARDIAN_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| RandomState::new().hash_one(0));
    println!("GUARDIAN_SEED={seed}");
    let settings = "server_connections = 3\nserver_connections_reserved = 1\nworkers = 2";
    let gateway = Gateway::start(&Server::shared(), settings).await;
    let tiers = ["free", "free", "free", "row-session", "pro", "business", "free", "enterprise", "schema-session", "free"];
    let tenants = tiers.iter().enumerate().map(|(n, tier)| gateway.tenant(&format!("tenant-{n}"), tier)).collect::<Vec<_>>();
    for tenant in &tenants {
        let inserted = gateway.connect(tenant).query(&format!("INSERT INTO tag (name) VALUES ('{} first')", tenant.slug));
        assert_eq!(inserted.failures, []);
    }
    let switching = gateway.login("app", &json!({ "kind": "any_tenant", "switch": "tenant" }));
    let world = World {
        gateway,
        tenants,
        switching,
        written: Mutex::default(),
        rows: AtomicU64::new(0),
        statements: AtomicU64::new(0),
        switches: AtomicU64::new(0),
    };
    drop(world.gateway.connect_as("app.tenant-0", &world.switching));
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for number in 0..CLIENTS {
            let world = &world;
            scope.spawn(move || {
                let mut client = Client::connect(world, number, Random(seed ^ number.wrapping_mul(0x5851_f42d_4c95_7f2d)));
                while begun.elapsed() < LENGTH {
                    client.step();
                }
            });
        }
    });
    let (rows, switches) = (world.rows.into_inner(), world.switches.into_inner());
    println!("{} statements, {rows} rows, {switches} switches", world.statements.into_inner());
    assert!(rows > 1000 && switches > 50, "{rows} rows and {switches} switches are too few to tell anything");
    // Each write that was answered is there, with its owner, and with nobody else.
    let written = world.written.into_inner().expect("unpoisoned");
    let mut direct = world.gateway.direct().await;
    for tenant in &world.tenants {
        let mut wire = world.gateway.connect(tenant);
        let all = wire.query("SELECT name FROM tag");
        let mut found: Vec<&str> = all.rows.iter().filter_map(|row| row[0].as_deref()).collect();
        found.retain(|name| !name.ends_with(" first"));
        found.sort_unstable();
        let mut expected = written.get(&tenant.slug).cloned().unwrap_or_default();
        expected.sort_unstable();
        assert_eq!(found, expected, "{} (seed {seed})", tenant.slug);
    }
    let strangers = "SELECT count(*) FROM public.tag WHERE name LIKE 'nobody%'";
    let strangers: i64 = sqlx::query_scalar(AssertSqlSafe(strangers)).fetch_one(&mut direct).await.expect("count");
    assert_eq!(strangers, 0, "what was never committed is there (seed {seed})");
}
