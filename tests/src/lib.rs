//! What the black-box tests share: reading what the binary says as JSON, and stopping it between two steps.

mod barrier;
mod gateway;
mod remains;
pub mod wire;

use guardian_testkit::Installation;
use serde_json::Value;

pub use barrier::Barrier;
pub use gateway::{Gateway, Tenant, patiently};
pub use remains::Remains;
pub use wire::{Answer, Failure, Wire};

/// Runs the binary with `--json`; it must succeed.
pub fn json(installation: &Installation, arguments: &[&str]) -> Value {
    let text = installation.run([&["--json"], arguments].concat());
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
}

/// What a session bound to the tenant answers, or the error.
pub fn psql(installation: &Installation, tenant: &str, sql: &str) -> Result<String, String> {
    let output = installation.guardian(["psql", tenant, "--", "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-c", sql]);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// What the binary says when it fails, as it must: progress and error.
pub fn refusal(installation: &Installation, arguments: &[&str]) -> String {
    let output = installation.guardian(arguments);
    assert!(!output.status.success(), "{arguments:?} should have failed: {}", String::from_utf8_lossy(&output.stdout));
    [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat()
}
