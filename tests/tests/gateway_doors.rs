//! The ways in: TLS, server names, client certificates, signed identities, the admin console, and what they refuse.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Output},
    sync::Mutex,
    time::{SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use guardian_testkit::{Installation, Server};
use guardian_tests::{Gateway, Wire, patiently};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::json;
use tempfile::TempDir;

const ISSUER: &str = "https://issuer.test";
const AUDIENCE: &str = "helpdesk";

/// Certificates made on the spot: the gateway's own, an authority of clients, and a client of it.
fn certificates(folder: &Path) {
    let script = "
        set -e
        new='-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2'
        openssl req -x509 $new -keyout key.pem -out cert.pem -subj /CN=localhost \
            -addext 'subjectAltName=DNS:localhost,DNS:*.db.example.com'
        openssl req -x509 $new -keyout ca.key -out ca.pem -subj /CN=clients
        openssl req $new -keyout robot.key -out robot.csr -subj /CN=robot -addext extendedKeyUsage=clientAuth
        openssl x509 -req -in robot.csr -CA ca.pem -CAkey ca.key -CAcreateserial -copy_extensions copy -days 2 -out robot.pem
        openssl req -x509 $new -keyout forged.key -out forged.pem -subj /CN=robot";
    let output = Command::new("sh").args(["-c", script]).current_dir(folder).output().expect("run openssl");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for key in ["robot.key", "forged.key"] {
        fs::set_permissions(folder.join(key), fs::Permissions::from_mode(0o600)).expect("protect a key");
    }
}

/// An issuer of identities.
struct Issuer(EncodingKey, String);

impl Issuer {
    fn new() -> Self {
        let document = Ed25519KeyPair::generate_pkcs8(&aws_lc_rs::rand::SystemRandom::new()).expect("make a key");
        let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).expect("read it back");
        let x = BASE64_URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
        let set =
            json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "x": x, "kid": "one", "use": "sig", "alg": "EdDSA" }] });
        Self(EncodingKey::from_ed_der(document.as_ref()), set.to_string())
    }

    /// A token for a tenant that is valid for so many seconds, with some claims in place of the right ones.
    fn token(&self, tenant: &str, valid_s: i64, audience: &str) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs();
        let expires = i64::try_from(now).expect("a time of this age") + valid_s;
        let claims = json!({ "iss": ISSUER, "aud": audience, "tenant": tenant, "sub": "somebody", "exp": expires });
        let header = Header { kid: Some("one".to_owned()), ..Header::new(Algorithm::EdDSA) };
        encode(&header, &claims, &self.0).expect("sign a token")
    }
}

/// A gateway with all of its doors open.
async fn gateway(folder: &Path, issuer: &Issuer) -> Gateway {
    certificates(folder);
    fs::write(folder.join("jwks.json"), &issuer.1).expect("write the key set");
    let installation = Installation::helpdesk(&Server::shared()).await;
    let text = fs::read_to_string(installation.config()).expect("read the configuration");
    let at = |name: &str| folder.join(name).display().to_string();
    let tls = format!(
        "server_name_suffix = \"db.example.com\"\ntls = {{ certificate_file = \"{}\", key_file = \"{}\", \
         client_authorities_file = \"{}\", required = true }}\n",
        at("cert.pem"),
        at("key.pem"),
        at("ca.pem")
    );
    let issuers =
        format!("\n[issuers.test]\nissuer = \"{ISSUER}\"\naudience = \"{AUDIENCE}\"\njwks_file = \"{}\"\n", at("jwks.json"));
    let text = text.replacen("[gateway]\n", &format!("[gateway]\n{tls}"), 1) + &issuers;
    fs::write(installation.config(), text).expect("write the configuration");
    let up = installation.up_and_hardened();
    let address = fs::read_to_string(installation.path(".guardian").join("sql.addr")).expect("the gateway's address");
    Gateway { installation, address: address.trim().to_owned(), up: Mutex::new(Some(up)) }
}

/// psql under TLS, with the gateway's certificate checked.
struct Psql<'a> {
    gateway: &'a Gateway,
    folder: &'a Path,
}

impl Psql<'_> {
    fn run(&self, connection: &str, password: &str, sql: &[&str]) -> Output {
        let (_, port) = self.gateway.address.rsplit_once(':').expect("a port");
        let root = self.folder.join("cert.pem");
        let connection = format!(
            "hostaddr=127.0.0.1 port={port} sslmode=verify-full sslrootcert={} dbname={} {connection}",
            root.display(),
            self.gateway.installation.application
        );
        let mut command = Command::new("psql");
        command.args(["-X", "-A", "-t", "-w", "-v", "ON_ERROR_STOP=1"]).arg(connection).env("PGPASSWORD", password);
        for statement in sql {
            command.args(["-c", statement]);
        }
        command.output().expect("run psql")
    }

    /// What it prints; it has to go through.
    fn says(&self, connection: &str, password: &str, sql: &[&str]) -> String {
        let output = patiently(|| {
            let output = self.run(connection, password, sql);
            if output.status.success() { Ok(output) } else { Err(output) }
        });
        let output = output.unwrap_or_else(|output| panic!("{connection}: {}", String::from_utf8_lossy(&output.stderr)));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Why it was refused.
    fn refused(&self, connection: &str, password: &str) -> String {
        let output = self.run(connection, password, &["SHOW guardian.tenant"]);
        assert!(!output.status.success(), "{connection} got in");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_names_certificates_and_identities() {
    let folder = TempDir::new().expect("make a folder");
    let issuer = Issuer::new();
    let gateway = gateway(folder.path(), &issuer).await;
    let psql = Psql { gateway: &gateway, folder: folder.path() };
    let (alpha, bravo) = (gateway.tenant("alpha", "pro"), gateway.tenant("bravo", "pro"));
    let app = gateway.login("app", &json!({ "kind": "any_tenant", "switch": "identity" }));
    let show = ["SHOW guardian.tenant"];

    // SCRAM with channel binding, bound to this very TLS connection.
    let bound = "host=localhost user=alpha channel_binding=require";
    assert_eq!(psql.says(bound, &alpha.password, &show), "alpha");
    let server = "host=localhost user=alpha";
    assert!(psql.refused(server, &bravo.password).contains("password authentication failed"));
    // In clear it is refused before anything is asked.
    let Err(in_clear) = Wire::login(&gateway.address, &[("user", "alpha")], &alpha.password) else {
        panic!("a client without TLS got in")
    };
    assert_eq!(in_clear.code, "28000", "{in_clear:?}");

    // The name that TLS asks for names the tenant.
    assert_eq!(psql.says("host=alpha.db.example.com user=app", &app, &show), "alpha");
    let disagreement = psql.refused("host=alpha.db.example.com user=app.bravo", &app);
    assert!(disagreement.contains("name different tenants"), "{disagreement}");

    // A certificate in place of a password, and nobody else's.
    gateway.api(
        "POST",
        "/v1/logins",
        &json!({ "name": "robot", "scope": { "kind": "tenant", "tenant": "alpha" }, "proof": "certificate" }),
    );
    let with = |name: &str| {
        let at = |ending: &str| folder.path().join(format!("{name}.{ending}")).display().to_string();
        format!("host=localhost user=robot sslcert={} sslkey={}", at("pem"), at("key"))
    };
    assert_eq!(psql.says(&with("robot"), "", &show), "alpha");
    psql.refused(&with("forged"), "anything");
    psql.refused("host=localhost user=robot", "anything");

    // A signed identity names the tenant; nothing else may.
    let identify = |token: &str| format!("SET guardian.identity = '{token}'");
    let good = issuer.token("bravo", 600, AUDIENCE);
    assert_eq!(psql.says("host=localhost user=app", &app, &[&identify(&good), "SHOW guardian.tenant"]), "SET\nbravo");
    let expired = issuer.token("bravo", -600, AUDIENCE);
    let elsewhere = issuer.token("bravo", 600, "another");
    let stranger = Issuer::new().token("bravo", 600, AUDIENCE);
    for (token, why) in [(&expired, "expired"), (&elsewhere, "another audience"), (&stranger, "signature is wrong")] {
        let output = psql.run("host=localhost user=app", &app, &[&identify(token)]);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && error.contains(why), "{why}: {error}");
        assert!(!error.contains(token.as_str()), "the token is in the error");
    }
    let by_hand = psql.run("host=localhost user=app", &app, &["SET guardian.tenant = 'bravo'"]);
    assert!(String::from_utf8_lossy(&by_hand.stderr).contains("may not change its tenant"), "trusted without a token");
    // Whoever is refused goes on in no tenant, rather than in the one it was to leave.
    let failed = format!("{};", identify(&expired));
    let script = format!("SET guardian.identity = '{good}'; ");
    let mut both = Command::new("psql");
    let (_, port) = gateway.address.rsplit_once(':').expect("a port");
    both.args(["-X", "-A", "-t", "-w"])
        .arg(format!(
            "host=localhost hostaddr=127.0.0.1 port={port} user=app sslmode=require dbname={}",
            gateway.installation.application
        ))
        .env("PGPASSWORD", &app)
        .args(["-c", script.trim(), "-c", &failed, "-c", "SELECT 'reached'"]);
    let output = both.output().expect("run psql");
    let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(!out.contains("reached") && error.contains("bound to no tenant"), "{out} {error}");

    // The log knows neither tokens nor passwords.
    let log = gateway.installation.log();
    for secret in [&good, &expired, &app, &alpha.password] {
        assert!(!log.contains(secret.as_str()), "a secret is in the log");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_console_shows_and_steers() {
    let gateway = Gateway::start(&Server::shared(), "").await;
    let alpha = gateway.tenant("alpha", "pro");
    let password = gateway.login("ops", &json!({ "kind": "admin" }));
    let console = || {
        patiently(|| Wire::login(&gateway.address, &[("user", "ops"), ("database", "guardian")], &password))
            .expect("the console lets its login in")
    };
    let mut ops = console();
    let mut client = gateway.connect(&alpha);
    assert_eq!(client.scalar("SELECT 1"), "1");
    for table in ["POOLS", "CLIENTS", "SERVERS", "STATS", "TENANTS", "VERSION", "HELP"] {
        let answer = ops.query(&format!("SHOW {table}"));
        assert!(answer.failures.is_empty() && !answer.rows.is_empty(), "{table}: {answer:?}");
    }
    let names = |answer: guardian_tests::Answer| {
        answer.rows.into_iter().map(|row| row[0].clone().unwrap_or_default()).collect::<Vec<_>>()
    };
    assert_eq!(names(ops.query("SHOW TENANTS")), ["alpha"]);

    // A paused tenant waits, and goes on where it was.
    assert_eq!(ops.query("PAUSE alpha").tags, ["PAUSE"]);
    client.send(&guardian_tests::wire::query("SELECT 2"));
    assert!(client.until(std::time::Duration::from_millis(300)).is_none(), "it ran while paused");
    assert_eq!(ops.query("RESUME alpha").tags, ["RESUME"]);
    assert_eq!(client.until_ready().first(), Some("2"));

    assert_eq!(ops.query("KILL alpha").tags, ["KILL"]);
    assert_eq!(client.until_ready().code(), "57P01");
    assert_eq!(ops.query("KILL nobody").code(), "42704");
    assert_eq!(ops.query("DROP TABLE x").code(), "42601");
    assert_eq!(ops.query("RELOAD").tags, ["RELOAD"]);

    // Tenants' logins do not get here, and its own goes nowhere else.
    let database = [("user", "alpha"), ("database", "guardian")];
    assert_eq!(
        Wire::login(&gateway.address, &database, &alpha.password).err().map(|failure| failure.code).as_deref(),
        Some("28P01")
    );
    let elsewhere = [("user", "ops"), ("database", "alpha")];
    assert_eq!(
        Wire::login(&gateway.address, &elsewhere, &password).err().map(|failure| failure.code).as_deref(),
        Some("28P01")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_a_session_altered_is_put_right() {
    let gateway = Gateway::start(&Server::shared(), "server_connections = 2").await;
    let (alpha, bravo) = (gateway.tenant("alpha", "pro"), gateway.tenant("bravo", "pro"));
    let mut client = gateway.connect(&alpha);
    let role = client.scalar("SELECT current_user");
    assert_eq!(client.query(&format!("ALTER ROLE \"{role}\" PASSWORD 'mine'")).tags, ["ALTER ROLE"]);
    assert_eq!(client.query(&format!("ALTER ROLE \"{role}\" SET work_mem = '64kB'")).tags, ["ALTER ROLE"]);
    assert_eq!(client.query(&format!("ALTER ROLE \"{role}\" SET standard_conforming_strings = off")).tags, ["ALTER ROLE"]);
    // Every connection of the pool is opened anew.
    let mut direct = gateway.direct().await;
    sqlx::query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1")
        .bind(&role)
        .execute(&mut direct)
        .await
        .expect("end its sessions");
    let mut other = gateway.connect(&bravo);
    let usual = patiently(|| {
        let answer = other.query("SELECT current_setting('work_mem') || current_setting('standard_conforming_strings')");
        if answer.status.is_none() {
            other = gateway.connect(&bravo);
        }
        answer.first().map(str::to_owned).ok_or(answer)
    });
    assert_eq!(usual.expect("it serves again"), "4MBon");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_name_of_an_application_stays_with_its_client() {
    let gateway = Gateway::start(&Server::shared(), "server_connections = 2").await;
    let (alpha, bravo) = (gateway.tenant("alpha", "pro"), gateway.tenant("bravo", "pro"));
    let named = [("user", "alpha"), ("application_name", "a word of alpha's")];
    let first = patiently(|| Wire::login(&gateway.address, &named, &alpha.password));
    assert_eq!(first.expect("alpha gets in").scalar("SHOW application_name"), "a word of alpha's");
    assert_eq!(gateway.connect(&bravo).scalar("SHOW application_name"), "");
}
