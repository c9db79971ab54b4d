//! An installation of Guardian with as many gateways as a bench wants, and the tables that its statements read.

use std::{
    env,
    fs::{self, File},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use guardian_client::Client;
use guardian_model::{
    Role, Slug, Switch, Tenant,
    api::{AskedScope, CreateLogin, CreateTenant, CreateToken},
};
use guardian_testkit::{Installation, Server, Up};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, Row as _};
use tempfile::TempDir;

use crate::{
    Target, cpu,
    proxy::{self, PgBouncer, Proxy},
};

/// Rows of `pgbench_accounts`, as pgbench makes them at scale 10.
pub const ACCOUNTS: u32 = 1_000_000;
/// Rows of `bench_row`; each is 116 bytes on the wire.
pub const ROWS: u32 = 2000;

/// The login for any tenant; its users are `app.<slug>`.
const LOGIN: &str = "app";
/// The role by which PgBouncer, the relay and direct clients come: the same rights, the same tables, no tenant.
const PEER: &str = "bench_peer";

/// The tables belong to no tenant: what is compared are the ways to the server, so every way sends the same statement to the
/// same table.
const GLOBAL: &str =
    "[application.global]\npgbench_accounts = \"bench\"\npgbench_branches = \"bench\"\nbench_row = \"bench\"\n";

const TABLES: &str = "
    CREATE TABLE pgbench_branches (bid int PRIMARY KEY, bbalance int, filler char(88));
    INSERT INTO pgbench_branches SELECT n, 0, '' FROM generate_series(1, 10) n;
    CREATE TABLE pgbench_accounts (aid int PRIMARY KEY, bid int, abalance int, filler char(84));
    INSERT INTO pgbench_accounts SELECT n, 1 + (n - 1) / 100000, 0, '' FROM generate_series(1, 1000000) n;
    CREATE TABLE bench_row (id int PRIMARY KEY, words text NOT NULL);
    INSERT INTO bench_row SELECT 1000 + n, rpad('row ' || n, 97, '.') FROM generate_series(1, 2000) n;";

/// A tier whose limits no bench reaches.
const TIER: &str = "
[tiers.bench]
isolation = \"row\"
limits = { client_connections_max = 20000, server_connections_max = 100, queue_len_max = 20000, queue_wait_ms_max = 60000 }
";

/// The helpdesk with tenants, on a server of its own.
#[derive(Debug)]
pub struct House {
    /// The tenants, all of one tier.
    pub tenants: Vec<Tenant>,
    /// The postmaster: the parent of every server process.
    pub postmaster: i32,
    _up: Up,
    installation: Installation,
    server: Server,
    client: Client,
    token: String,
    database: String,
    password: String,
    peer_verifier: String,
    folder: TempDir,
}

impl House {
    /// Starts the control plane and makes the tenants.
    pub async fn open(tenants: u32) -> Result<Self> {
        let server = Server::own_with(&[("autovacuum", "off")]);
        let installation = Installation::helpdesk(&server).await;
        let text = fs::read_to_string(installation.config())?;
        // Every gateway is a process of its own; the control plane runs beside them.
        let text =
            text.replacen("[gateway]\n", "[gateway]\nenabled = false\n", 1).replacen("[application.global]\n", GLOBAL, 1);
        ensure!(text.contains("enabled = false") && text.contains("bench_row"), "the installation's configuration changed");
        fs::write(installation.config(), text + TIER)?;
        let up = installation.up();
        installation.run(["migrate"]);
        let mut admin = server.connect(&installation.application).await;
        admin.execute(sqlx::raw_sql(TABLES)).await.context("making the tables")?;
        installation.run(["apply", "--yes"]);
        let peer = format!(
            "CREATE ROLE {PEER} LOGIN PASSWORD '{PEER}'; GRANT CONNECT ON DATABASE \"{}\" TO {PEER}; \
             GRANT USAGE ON SCHEMA public TO {PEER}; \
             GRANT SELECT ON pgbench_accounts, pgbench_branches, bench_row TO {PEER}",
            installation.application
        );
        admin.execute(sqlx::raw_sql(AssertSqlSafe(peer))).await.context("making the peers' role")?;
        admin.execute("VACUUM ANALYZE").await?;
        let row = sqlx::query("SELECT rolpassword, pg_backend_pid() FROM pg_authid WHERE rolname = $1").bind(PEER);
        let row = row.fetch_one(&mut admin).await?;
        let (peer_verifier, backend): (String, i32) = (row.get(0), row.get(1));
        let postmaster = cpu::parent(backend)?;
        admin.close().await?;

        let (address, token) = installation.access();
        let client = Client::new(&format!("http://{address}"), &token)?;
        let scope = AskedScope::AnyTenant { switch: Switch::default() };
        let login = CreateLogin { name: LOGIN.parse()?, scope, proof: guardian_model::LoginProof::Password };
        let login = client.create_login(&login).await?;
        let token = CreateToken { name: "bench".to_owned(), role: Role::Gateway, tenant: None };
        let token = client.create_token(&token).await?.secret;
        let folder = tempfile::tempdir()?;
        // PgBouncer runs as another user.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
        let mut house = Self {
            tenants: Vec::new(),
            postmaster,
            _up: up,
            database: login.database,
            password: login.password.context("a login has a password")?,
            installation,
            server,
            client,
            token,
            peer_verifier,
            folder,
        };
        for number in 0..tenants {
            let slug: Slug = format!("tenant-{number}").parse()?;
            let ask = CreateTenant { slug, tier: "bench".parse()?, key: None };
            house.tenants.push(house.client.create_tenant(&ask, None).await?.tenant);
        }
        Ok(house)
    }

    /// The user of a tenant at a gateway.
    pub fn user(&self, tenant: usize) -> String {
        format!("{LOGIN}.{}", self.tenants[tenant].slug)
    }

    /// Straight to the server, by the peers' role.
    pub fn direct(&self) -> Result<Target> {
        Ok(Target {
            name: "direct",
            address: format!("127.0.0.1:{}", self.server.port()).parse()?,
            database: self.installation.application.clone(),
            user: PEER.to_owned(),
            password: PEER.to_owned(),
            tls: false,
            proxy: None,
        })
    }

    /// A path for a file of the bench, which everybody may read.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A PgBouncer before the server, with more settings if wanted.
    pub fn pgbouncer(&self, pool_size: u32, settings: &str) -> Result<Proxy> {
        let users = format!("\"{PEER}\" \"{}\"\n", self.peer_verifier);
        let setup = PgBouncer { pool_size, settings, database: "", users: &users };
        let mut proxy = proxy::pgbouncer(self.folder.path(), &self.direct()?, &proxy::free_address()?, &setup)?;
        proxy.target.tls = settings.contains("client_tls_sslmode");
        Ok(proxy)
    }

    /// The bare relay before the server.
    pub fn relay(&self) -> Result<Proxy> {
        proxy::relay("--mio", "relay", &self.direct()?, &proxy::free_address()?)
    }

    /// A gateway of one process with these lines in its section `[gateway]`. Clients come as the first tenant.
    pub fn gateway(&self, name: &'static str, settings: &str) -> Result<Proxy> {
        let address = proxy::free_address()?;
        // Another state folder each time: one started on the same would take over.
        let folder = TempDir::new_in(self.folder.path())?.keep();
        let config = folder.join("guardian.toml");
        fs::write(&config, format!("[gateway]\nlisten = \"{address}\"\n{settings}\n"))?;
        let token = folder.join("token");
        fs::write(&token, &self.token)?;
        fs::set_permissions(&token, fs::Permissions::from_mode(0o600))?;
        let log = File::create(folder.join("log"))?;
        let mut command = Command::new(binary()?);
        command.arg("--config").arg(&config).arg("--token-file").arg(&token).arg("gateway");
        command.args(["--control-url", &format!("http://{}", self.installation.access().0)]);
        command.stdout(log.try_clone()?).stderr(log).current_dir(&folder);
        let target = Target {
            name,
            address,
            database: self.database.clone(),
            user: self.user(0),
            password: self.password.clone(),
            tls: settings.contains("[gateway.tls]"),
            proxy: None,
        };
        proxy::start(&mut command, target).with_context(|| {
            let log = fs::read_to_string(folder.join("log")).unwrap_or_default();
            format!("a gateway with `{settings}`: {log}")
        })
    }

    /// A certificate for 127.0.0.1, signed by itself, and its key.
    pub fn certificate(&self) -> Result<(PathBuf, PathBuf)> {
        let (certificate, key) = (self.path("server.crt"), self.path("server.key"));
        let output = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
            .args(["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"])
            .arg("-keyout")
            .arg(&key)
            .arg("-out")
            .arg(&certificate)
            .output()
            .context("openssl must be in PATH")?;
        ensure!(output.status.success(), "openssl: {}", String::from_utf8_lossy(&output.stderr));
        // For this run only, and PgBouncer runs as another user.
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644))?;
        Ok((certificate, key))
    }
}

/// `GUARDIAN_BIN`, or the binary beside this one.
fn binary() -> Result<PathBuf> {
    let path = env::var_os("GUARDIAN_BIN")
        .map_or_else(|| env::current_exe().map(|path| path.with_file_name("guardian")), |path| Ok(path.into()))?;
    ensure!(Path::new(&path).is_file(), "build it first: cargo build --release -p guardian");
    Ok(path)
}
