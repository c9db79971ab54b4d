//! TLS on both sides of the SQL gateway: whom it takes for a server, and how it shows itself to clients.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
};

use guardian_pgwire::startup;
use guardian_testkit::Server;
use guardian_tests::{
    Gateway, Tenant, Wire, patiently,
    wire::{execute, message, parse, sync},
};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use serde_json::json;
use sqlx::{AssertSqlSafe, Executor as _};
use tempfile::TempDir;

const READ: &str = "SELECT string_agg(name, ',') FROM tag";

/// Two authorities, `ca` and `other`. The certificates `good` and `elsewhere` are by the first one, the second for another
/// name; `stranger` has the name of the good one, by the other authority.
fn certificates(folder: &Path) {
    let script = "
        set -e
        new='-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2'
        for authority in ca other; do
            openssl req -x509 $new -keyout $authority.key -out $authority.pem -subj /CN=$authority
        done
        leaf() {
            openssl req $new -keyout $1.key -out $1.csr -subj /CN=$1 -addext subjectAltName=$3
            openssl x509 -req -in $1.csr -CA $2.pem -CAkey $2.key -CAcreateserial -copy_extensions copy -days 2 -out $1.pem
        }
        leaf good ca DNS:localhost,IP:127.0.0.1
        leaf elsewhere ca DNS:elsewhere.test,IP:127.0.0.2
        leaf stranger other DNS:localhost,IP:127.0.0.1";
    let output = Command::new("sh").args(["-c", script]).current_dir(folder).output().expect("run openssl");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn with_a_row(gateway: &Gateway, slug: &str) -> Tenant {
    let tenant = gateway.tenant(slug, "pro");
    let inserted = gateway.connect(&tenant).query(&format!("INSERT INTO tag (name) VALUES ('of {slug}')"));
    assert_eq!(inserted.failures, []);
    tenant
}

/// Gives a server a certificate; it writes the files itself, because they must be its own. `None`: it goes without TLS.
async fn shows(server: &Server, folder: &Path, name: Option<&str>) {
    let mut admin = server.connect("postgres").await;
    if let Some(name) = name {
        for (ending, file) in [("pem", "server.crt"), ("key", "server.key")] {
            let text = fs::read_to_string(folder.join(name).with_extension(ending)).expect("read a certificate");
            let lines = text.trim_end();
            let sql = format!(
                "COPY (SELECT unnest(string_to_array($pem${lines}$pem$, chr(10)))) TO PROGRAM 'umask 077; cat > {file}'"
            );
            admin.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await.expect("write a certificate");
        }
    }
    let is_on = if name.is_some() { "on" } else { "off" };
    let sql = format!("ALTER SYSTEM SET ssl = {is_on}; ");
    for sql in [sql.as_str(), "SELECT pg_reload_conf()"] {
        admin.execute(sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))).await.expect("take over the certificate");
    }
    // New sessions meet it soon; the gateway's old ones are ended.
    let port = server.port();
    let shown = || {
        let mut command = Command::new("openssl");
        command.args(["s_client", "-starttls", "postgres", "-connect", &format!("127.0.0.1:{port}")]);
        let output = command.stdin(Stdio::null()).output().expect("run openssl");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    patiently(|| {
        let shown = shown();
        let is_there = match name {
            Some(name) => shown.contains(&format!("CN = {name}")) || shown.contains(&format!("CN={name}")),
            None => !shown.contains("BEGIN CERTIFICATE"),
        };
        if is_there { Ok(()) } else { Err(shown) }
    })
    .expect("the server shows it");
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
               WHERE usename LIKE '%\\_app' AND pid <> pg_backend_pid()";
    admin.execute(end).await.expect("end the gateway's sessions");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_believed_by_its_name_and_authority_alone() {
    let folder = TempDir::new().expect("make a folder");
    certificates(folder.path());
    let server = Server::own();
    shows(&server, folder.path(), Some("good")).await;
    let root = folder.path().join("ca.pem");
    let gateway = Gateway::configured(&server, |text| {
        let url = server.url("postgres");
        let cluster = format!("[clusters.main]\nurl = \"{url}");
        assert!(text.contains(&cluster), "{text}");
        text.replace(&cluster, &format!("{cluster}?sslmode=verify-full&sslrootcert={}", root.display()))
    })
    .await;
    let tenant = with_a_row(&gateway, "acme");
    let mut admin = server.connect("postgres").await;
    let mut sessions = async || -> Vec<bool> {
        let sql = "SELECT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename LIKE '%\\_app'";
        sqlx::query_scalar(sql).fetch_all(&mut admin).await.expect("look at the sessions")
    };
    let under_tls = sessions().await;
    assert!(!under_tls.is_empty() && under_tls.iter().all(|is_tls| *is_tls), "{under_tls:?}");

    // Who is believed again is served again, by clients that were there all the time.
    let mut wire = gateway.connect(&tenant);
    for (name, why) in [
        (Some("elsewhere"), "not valid for name"),
        (Some("stranger"), "UnknownIssuer"),
        (None, "the server does not offer TLS"),
    ] {
        shows(&server, folder.path(), name).await;
        let told = patiently(|| {
            let answer = wire.query(READ);
            if answer.status.is_none() {
                wire = gateway.connect(&tenant);
            }
            match answer.failures.first() {
                Some(failure) if failure.message.contains("main") => Ok(failure.clone()),
                _ => Err(answer),
            }
        });
        let told = told.unwrap_or_else(|answer| panic!("{name:?} is believed: {answer:?}"));
        assert!(told.code == "08006" && told.message.contains(why), "{name:?}: {told:?}");
        assert_eq!(sessions().await, Vec::<bool>::new(), "{name:?}");
        shows(&server, folder.path(), Some("good")).await;
        let read = patiently(|| {
            let answer = wire.query(READ);
            answer.first().map(str::to_owned).ok_or(answer)
        });
        assert_eq!(read.as_deref(), Ok("of acme"));
    }
}

/// A client that believes one authority and offers these protocols; `direct`: without asking in clear first.
struct Client<'a> {
    address: &'a str,
    tenant: &'a Tenant,
    authority: &'a Path,
}

impl Client<'_> {
    fn shake_hands(&self, protocols: &[&[u8]], direct: bool) -> std::io::Result<Wire> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(self.authority).expect("read the authority") {
            roots.add(certificate.expect("a certificate")).expect("an authority");
        }
        let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions of TLS")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        let mut socket = TcpStream::connect(self.address)?;
        if !direct {
            let (mut out, mut answer) = (Vec::new(), [0]);
            startup::write_ssl_request(&mut out);
            socket.write_all(&out)?;
            socket.read_exact(&mut answer)?;
            assert_eq!(answer, *b"S");
        }
        let name = "localhost".try_into().expect("a name");
        let mut connection = ClientConnection::new(Arc::new(config), name).map_err(std::io::Error::other)?;
        while connection.is_handshaking() {
            connection.complete_io(&mut socket)?;
        }
        Ok(Wire::under_tls(StreamOwned::new(connection, socket)))
    }

    /// A session, or why it does not get so far.
    fn enter(&self, protocols: &[&[u8]], direct: bool) -> Result<Wire, String> {
        let mut wire = self.shake_hands(protocols, direct).map_err(|error| format!("the handshake: {error}"))?;
        let mut out = Vec::new();
        startup::write_startup(&mut out, &[("user", &self.tenant.slug)]);
        wire.send(&out);
        wire.prove(&self.tenant.password).map_err(|failure| format!("the login: {failure:?}"))?;
        Ok(wire)
    }

    /// The rows it reads.
    fn reads(&self, protocols: &[&[u8]], direct: bool) -> Result<String, String> {
        let answer = self.enter(protocols, direct)?.query(READ);
        answer.first().map(str::to_owned).ok_or_else(|| format!("{answer:?}"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_turn_to_tls_at_once_and_see_the_newest_certificate() {
    let folder = TempDir::new().expect("make a folder");
    certificates(folder.path());
    let at = |name: &str| folder.path().join(name);
    let copy = |from: &str| {
        for ending in ["key", "pem"] {
            fs::copy(at(from).with_extension(ending), at("own").with_extension(ending)).expect("copy a certificate");
        }
    };
    copy("good");
    let gateway = Gateway::configured(&Server::shared(), |text| {
        let tls = format!(
            "[gateway]\nworkers = 2\ntls = {{ certificate_file = \"{}\", key_file = \"{}\", required = false }}\n",
            at("own.pem").display(),
            at("own.key").display()
        );
        text.replacen("[gateway]\n", &tls, 1)
    })
    .await;
    let tenant = with_a_row(&gateway, "acme");
    let (ca, other) = (at("ca.pem"), at("other.pem"));
    let believing = |authority| Client { address: &gateway.address, tenant: &tenant, authority };
    let client = believing(&ca);
    let own = Ok("of acme".to_owned());

    // Direct TLS, as PostgreSQL 17 has it: with this protocol and no other, nor without.
    assert_eq!(client.reads(&[b"postgresql"], true), own);
    assert_eq!(client.reads(&[b"http/1.1", b"postgresql"], true), own);
    for protocols in [&[&b"http/1.1"[..]][..], &[b"postgres"], &[b"postgresql2"]] {
        for direct in [true, false] {
            let refused = client.reads(protocols, direct).expect_err("another protocol");
            assert!(refused.starts_with("the handshake: "), "{refused}");
        }
    }
    let refused = client.reads(&[], true).expect_err("direct TLS without a protocol");
    assert!(refused.starts_with("the login: ") && refused.contains("Closed"), "{refused}");
    // Whoever asks first need not name it.
    assert_eq!(client.reads(&[], false), own);
    assert_eq!(client.reads(&[b"postgresql"], false), own);

    // Another certificate takes the place of the one in use: at once when asked for, and by itself.
    let password = gateway.login("ops", &json!({ "kind": "admin" }));
    let console = [("user", "ops"), ("database", "guardian")];
    let mut ops = patiently(|| Wire::login(&gateway.address, &console, &password)).expect("the console");
    let mut there_before = client.enter(&[b"postgresql"], true).expect("a session");
    let stranger = believing(&other);
    let unknown = |outcome: Result<String, String>| outcome.is_err_and(|error| error.contains("UnknownIssuer"));
    assert!(unknown(stranger.reads(&[b"postgresql"], true)));
    copy("stranger");
    assert_eq!(ops.query("RELOAD").tags, ["RELOAD"]);
    assert_eq!(stranger.reads(&[b"postgresql"], true), own);
    assert!(unknown(client.reads(&[b"postgresql"], true)));
    // Files that do not fit together, or are none, leave everything as it is.
    fs::copy(at("good.key"), at("own.key")).expect("copy a key");
    assert_eq!(ops.query("RELOAD").code(), "F0000");
    assert_eq!(stranger.reads(&[b"postgresql"], true), own);
    fs::write(at("own.pem"), "nothing").expect("spoil a certificate");
    assert_eq!(ops.query("RELOAD").code(), "F0000");
    assert_eq!(stranger.reads(&[b"postgresql"], false), own);
    assert!(gateway.installation.log().contains("cannot take over the TLS files"));
    copy("good");
    assert_eq!(patiently(|| client.reads(&[b"postgresql"], true)), own);
    assert!(unknown(stranger.reads(&[b"postgresql"], false)));
    // A session of before all that goes on.
    assert_eq!(there_before.query(READ).first(), Some("of acme"));
}

/// A Bind of one parameter, everything in text.
fn bind_of(parameter: &[u8]) -> Vec<u8> {
    let len = u32::try_from(parameter.len()).expect("a length").to_be_bytes();
    message(b'B', &[&b"\0\0\0\0\0\x01"[..], &len, parameter, b"\0\0"].concat())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_long_passes_under_tls() {
    let folder = TempDir::new().expect("make a folder");
    certificates(folder.path());
    let at = |name: &str| folder.path().join(name).display().to_string();
    // The server's side is under TLS as well.
    let server = Server::own();
    shows(&server, folder.path(), Some("good")).await;
    let gateway = Gateway::configured(&server, |text| {
        let cluster = format!("[clusters.main]\nurl = \"{}", server.url("postgres"));
        assert!(text.contains(&cluster), "{text}");
        let tls = format!(
            "[gateway]\ntls = {{ certificate_file = \"{}\", key_file = \"{}\", required = false }}\n",
            at("good.pem"),
            at("good.key")
        );
        let text = text.replacen("[gateway]\n", &tls, 1);
        text.replace(&cluster, &format!("{cluster}?sslmode=verify-full&sslrootcert={}", at("ca.pem")))
    })
    .await;
    let tenant = with_a_row(&gateway, "acme");
    let authority = folder.path().join("ca.pem");
    let client = Client { address: &gateway.address, tenant: &tenant, authority: &authority };
    let mut wire = client.enter(&[b"postgresql"], true).expect("a session");
    for len in [100, 60_000, 16 * 1024, 16 * 1024 - 5, 2_000_000, 65_536, 3] {
        // Nothing that a piece in the wrong place would leave as it is.
        let parameter: String =
            (0..len).map(|at| char::from(b'a' + u8::try_from((at / 7 + at / 1000) % 26).expect("a letter"))).collect();
        for round in 0..2 {
            let sql = "SELECT $1::text || '!'";
            wire.send(&[parse("", sql), bind_of(parameter.as_bytes()), execute(""), sync()].concat());
            let answer = wire.until_ready();
            assert!(answer.failures.is_empty() && answer.status == Some('I'), "{len}, {round}: {:?}", answer.failures);
            let row = answer.first().unwrap_or_default();
            assert!(row.strip_suffix('!') == Some(parameter.as_str()), "{len}, {round}: {} bytes came back", row.len());
        }
        // Many rows of that size together, and a client that goes on at once.
        let several = (4_000_000 / len).clamp(2, 300);
        let rows = wire.query(&format!("SELECT repeat(chr(64 + n % 26), {len}) FROM generate_series(1, {several}) n"));
        let lens: Vec<usize> = rows.rows.iter().map(|row| row[0].as_deref().unwrap_or_default().len()).collect();
        assert_eq!((lens, rows.status), (vec![len; several], Some('I')));
    }
    // Dropped in the middle, with a lot on its way both ways.
    wire.send(&[parse("", "SELECT $1::text"), bind_of(&vec![b'x'; 1_000_000]), execute(""), sync()].concat());
    wire.vanish();
    let mut wire = client.enter(&[], false).expect("a session");
    assert_eq!(wire.query(READ).first(), Some("of acme"));
}
