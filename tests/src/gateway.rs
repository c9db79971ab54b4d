//! An installation with its SQL gateway: tenants, logins, limits, and clients of theirs.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    sync::Mutex,
    time::{Duration, Instant},
};

use guardian_testkit::{Installation, Server, Up};
use serde_json::{Value, json};

use crate::{Failure, Wire, json as guardian_json};

/// How long something may take before the test gives up.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the tests add to the tiers of the helpdesk: the same placements with a server connection a session.
const TIERS: &str = "
[tiers.row-session]
isolation = \"row\"
pooling = \"session\"

[tiers.schema-session]
isolation = \"schema\"
pooling = \"session\"

[tiers.database-session]
isolation = \"database\"
pooling = \"session\"
";

/// A tenant with a login of its own.
#[derive(Debug, Clone)]
pub struct Tenant {
    /// Its slug; also the login's name.
    pub slug: String,
    /// Its id, `ten_…`.
    pub id: String,
    /// Its key, a UUID.
    pub key: String,
    /// Of the login that is bound to it.
    pub password: String,
}

/// A `guardian up` with a gateway.
#[derive(Debug)]
pub struct Gateway {
    /// The installation.
    pub installation: Installation,
    /// Where the gateway listens.
    pub address: String,
    /// The process.
    pub up: Mutex<Option<Up>>,
}

impl Gateway {
    /// Starts one with more in its section `[gateway]`, such as `server_connections = 2`.
    pub async fn start(server: &Server, settings: &str) -> Self {
        Self::configured(server, |text| text.replacen("[gateway]\n", &format!("[gateway]\n{settings}\n"), 1) + TIERS).await
    }

    /// Starts one whose `guardian.toml` is what `configure` makes of the usual one.
    pub async fn configured(server: &Server, configure: impl FnOnce(String) -> String) -> Self {
        let installation = Installation::helpdesk(server).await;
        let text = fs::read_to_string(installation.config()).expect("read the configuration");
        fs::write(installation.config(), configure(text)).expect("write the configuration");
        let up = installation.up_and_hardened();
        let address = fs::read_to_string(installation.path(".guardian").join("sql.addr")).expect("the gateway's address");
        Self { installation, address: address.trim().to_owned(), up: Mutex::new(Some(up)) }
    }

    /// A tenant, and a login that is bound to it.
    pub fn tenant(&self, slug: &str, tier: &str) -> Tenant {
        let made = guardian_json(&self.installation, &["tenant", "create", slug, "--tier", tier]);
        let field = |name: &str| made["tenant"][name].as_str().unwrap_or_else(|| panic!("{name} in {made}")).to_owned();
        let (id, key) = (field("id"), field("key"));
        let password = self.login(slug, &json!({ "kind": "tenant", "tenant": slug }));
        Tenant { slug: slug.to_owned(), id, key, password }
    }

    /// Makes a login; its password.
    pub fn login(&self, name: &str, scope: &Value) -> String {
        let made = self.api("POST", "/v1/logins", &json!({ "name": name, "scope": scope }));
        made["password"].as_str().unwrap_or_else(|| panic!("a password in {made}")).to_owned()
    }

    /// What a tenant has otherwise than its tier. Takes effect at the gateway soon after.
    pub fn limits(&self, tenant: &Tenant, limits: &Value) {
        self.api("PUT", &format!("/v1/tenants/{}/limits", tenant.slug), limits);
    }

    /// Asks the control plane.
    pub fn api(&self, method: &str, path: &str, body: &Value) -> Value {
        let (address, token) = self.installation.access();
        let mut stream = TcpStream::connect(&address).expect("connect to the API");
        let body = body.to_string();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).expect("ask the API");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("hear the API");
        let (head, body) = answer.split_once("\r\n\r\n").expect("an answer of HTTP");
        assert!(head.starts_with("HTTP/1.1 2"), "{method} {path}: {answer}");
        serde_json::from_str(body).unwrap_or(Value::Null)
    }

    /// A client of the tenant's own login. The gateway may not know the login yet.
    pub fn connect(&self, tenant: &Tenant) -> Wire {
        self.connect_as(&tenant.slug, &tenant.password)
    }

    /// A client of any login.
    pub fn connect_as(&self, user: &str, password: &str) -> Wire {
        patiently(|| self.try_connect(user, password)).unwrap_or_else(|failure| panic!("{user}: {failure:?}"))
    }

    /// The same, once.
    pub fn try_connect(&self, user: &str, password: &str) -> Result<Wire, Failure> {
        Wire::login(&self.address, &[("user", user)], password)
    }

    /// A superuser's session in the application's database, past the gateway.
    pub async fn direct(&self) -> sqlx::PgConnection {
        self.installation.server().connect(&self.installation.application).await
    }
}

/// Tries until it works or the patience ends: for what becomes true soon.
pub fn patiently<T, E>(mut attempt: impl FnMut() -> Result<T, E>) -> Result<T, E> {
    let begun = Instant::now();
    loop {
        match attempt() {
            Err(_) if begun.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(20)),
            outcome => return outcome,
        }
    }
}
