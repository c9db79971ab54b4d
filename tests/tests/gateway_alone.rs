//! The data plane alone: it outlives the control plane, restarts without it, is taken over without a refused connection, and
//! drains.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use guardian_testkit::Server;
use guardian_tests::{Gateway, Tenant, Wire, patiently};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

/// How long a start or an end may take before the test gives up.
const PATIENCE: Duration = Duration::from_secs(30);

/// A `guardian gateway`.
struct Alone {
    child: Child,
    address: String,
}

impl Alone {
    /// Starts one on a state folder; with `takes_over`, there is one on it already.
    fn start(of: &Gateway, control: &str, state: &Path, takes_over: bool) -> Self {
        let address_file = state.join("gateway.addr");
        if !takes_over {
            let _ = fs::remove_file(&address_file);
        }
        let log = fs::File::options().create(true).append(true).open(state.with_extension("log")).expect("open a log");
        let mut command = of.installation.command(["gateway", "--control-url", control, "--listen", "127.0.0.1:0"]);
        let token = of.installation.path("gateway.token");
        command.arg("--token-file").arg(token).arg("--state-dir").arg(state);
        let before = fs::metadata(&address_file).and_then(|meta| meta.modified()).ok();
        let mut child = command.stdout(Stdio::null()).stderr(log).spawn().expect("start guardian gateway");
        let begun = Instant::now();
        let address = loop {
            assert!(child.try_wait().expect("ask after it").is_none(), "it ended: {}", log_of(state));
            let is_new = fs::metadata(&address_file).and_then(|meta| meta.modified()).ok() != before;
            if let Some(address) = fs::read_to_string(&address_file).ok().filter(|text| is_new && !text.trim().is_empty()) {
                break address.trim().to_owned();
            }
            assert!(begun.elapsed() < PATIENCE, "it does not get ready: {}", log_of(state));
            std::thread::sleep(Duration::from_millis(20));
        };
        Self { child, address }
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process");
        kill_process(pid, signal).expect("signal the gateway");
    }

    fn wait(&mut self) -> bool {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait().expect("ask after it") {
                return status.success();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("it does not end")
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn log_of(state: &Path) -> String {
    fs::read_to_string(state.with_extension("log")).unwrap_or_default()
}

/// An installation with a tenant and a token for a gateway; the state folder of that.
async fn house() -> (Gateway, Tenant, PathBuf, String) {
    let gateway = Gateway::start(&Server::shared(), "drain_seconds = 5").await;
    let alpha = gateway.tenant("alpha", "pro");
    let made = gateway.api("POST", "/v1/tokens", &json!({ "name": "edge", "role": "gateway" }));
    let secret = made["secret"].as_str().expect("a secret");
    fs::write(gateway.installation.path("gateway.token"), secret).expect("keep the token");
    let state = gateway.installation.path("edge");
    let (address, _) = gateway.installation.access();
    (gateway, alpha, state, format!("http://{address}"))
}

/// What is served at `/metrics` there.
fn metrics(address: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if answer.starts_with("HTTP/1.1 200") { Ok(answer) } else { Err(std::io::Error::other(answer)) }
}

fn login(address: &str, tenant: &Tenant) -> Result<Wire, guardian_tests::Failure> {
    Wire::login(address, &[("user", &tenant.slug)], &tenant.password)
}

#[tokio::test(flavor = "multi_thread")]
async fn it_serves_and_restarts_without_the_control_plane() {
    let (gateway, alpha, state, control) = house().await;
    let mut edge = Alone::start(&gateway, &control, &state, false);
    let mut client = patiently(|| login(&edge.address, &alpha)).expect("it serves");
    assert_eq!(client.scalar("SHOW guardian.tenant"), "alpha");
    // A change reaches it while it runs.
    let bravo = gateway.tenant("bravo", "pro");
    patiently(|| login(&edge.address, &bravo)).expect("it learns of a tenant");
    // Kept, and of no use to who finds it.
    let kept = state.join("gateway.sealed");
    let is_kept = || fs::read(&kept).ok().filter(|sealed| sealed.len() > 500).ok_or(());
    patiently(|| {
        let sealed = is_kept()?;
        // The tenant made last is in it, so it was written again since.
        if sealed.len() > 500 && fs::metadata(&kept).is_ok() { Ok(sealed) } else { Err(()) }
    })
    .expect("a kept snapshot");
    std::thread::sleep(Duration::from_secs(3));
    let sealed = is_kept().expect("a kept snapshot");
    for secret in [alpha.slug.as_bytes(), alpha.key.as_bytes(), b"SCRAM-SHA-256"] {
        assert!(!sealed.windows(secret.len()).any(|window| window == secret), "the kept snapshot is readable");
    }

    let up = gateway.up.lock().expect("nobody panicked").take();
    up.expect("it runs").kill();
    assert_eq!(client.scalar("SELECT 1"), "1");
    edge.signal(Signal::KILL);
    edge.wait();
    let again = Alone::start(&gateway, &control, &state, false);
    for tenant in [&alpha, &bravo] {
        let mut client = login(&again.address, tenant).expect("it serves from what it kept");
        assert_eq!(client.scalar("SHOW guardian.tenant"), tenant.slug);
    }
    // Another token opens nothing of it.
    fs::write(gateway.installation.path("gateway.token"), format!("grd_gateway_{}", "0".repeat(64))).expect("another token");
    drop(again);
    let mut command = gateway.installation.command(["gateway", "--control-url", &control, "--listen", "127.0.0.1:0"]);
    command.arg("--token-file").arg(gateway.installation.path("gateway.token")).arg("--state-dir").arg(&state);
    let output = command.output().expect("run it");
    assert!(!output.status.success(), "it started with another's snapshot");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_takes_over_without_a_refused_connection() {
    let (gateway, alpha, state, control) = house().await;
    let metrics_at = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").to_string();
    let config = gateway.installation.config();
    let text = fs::read_to_string(&config).expect("read the configuration");
    let text = text.replacen("[gateway]\n", &format!("[gateway]\nmetrics_listen = \"{metrics_at}\"\n"), 1);
    fs::write(&config, text).expect("write the configuration");
    let mut first = Alone::start(&gateway, &control, &state, false);
    patiently(|| login(&first.address, &alpha)).expect("it serves");
    metrics(&metrics_at).expect("metrics of the first one");
    let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (stop, served, address, alpha) =
                (Arc::clone(&stop), Arc::clone(&served), first.address.clone(), alpha.clone());
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let mut client = login(&address, &alpha).unwrap_or_else(|failure| panic!("refused: {failure:?}"));
                    let answer = client.query("SELECT 1");
                    // The one that drains lets go of clients between two transactions, and says so.
                    assert!(answer.first() == Some("1") || answer.code() == "57P01", "{answer:?}");
                    served.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let second = Alone::start(&gateway, &control, &state, true);
    assert_eq!(second.address, first.address);
    assert!(first.wait(), "the first one did not end well: {}", log_of(&state));
    let so_far = served.load(Ordering::Relaxed);
    patiently(|| if served.load(Ordering::Relaxed) > so_far + 50 { Ok(()) } else { Err(()) })
        .expect("the second one serves");
    patiently(|| metrics(&metrics_at)).expect("metrics of the second one");
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().expect("no client was refused");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn draining_lets_a_transaction_end() {
    let (gateway, alpha, state, control) = house().await;
    let mut edge = Alone::start(&gateway, &control, &state, false);
    let mut busy = patiently(|| login(&edge.address, &alpha)).expect("it serves");
    let mut idle = login(&edge.address, &alpha).expect("it serves");
    busy.query("BEGIN");
    assert_eq!(busy.query("INSERT INTO organization (name) VALUES ('kept')").tags, ["INSERT 0 1"]);
    edge.signal(Signal::TERM);
    // The idle one is told at once; the port takes nobody else.
    assert_eq!(idle.until_ready().code(), "57P01");
    patiently(|| match TcpStream::connect(&edge.address) {
        Ok(_) => Err(()),
        Err(_) => Ok(()),
    })
    .expect("it stops listening");
    assert_eq!(busy.query("COMMIT").tags, ["COMMIT"]);
    assert!(edge.wait(), "{}", log_of(&state));
    let mut other = gateway.connect(&alpha);
    assert_eq!(other.scalar("SELECT count(*) FROM organization WHERE name = 'kept'"), "1");
}

#[test]
fn it_does_not_send_secrets_in_clear() {
    let binary = std::env::current_exe().expect("this test");
    let binary = binary.ancestors().nth(2).expect("the target folder").join("guardian");
    let binary = std::env::var_os("GUARDIAN_BIN").map_or(binary, PathBuf::from);
    let folder = tempfile::TempDir::new().expect("make a folder");
    let output = Command::new(binary)
        .args(["gateway", "--control-url", "http://192.0.2.1:7117"])
        .env("GUARDIAN_TOKEN", format!("grd_gateway_{}", "0".repeat(64)))
        .current_dir(folder.path())
        .output()
        .expect("run it");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && error.contains("in clear"), "{error}");
}
