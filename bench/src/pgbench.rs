//! Runs `pgbench` against a target and reads what it cost.

use std::{ffi::OsStr, process::Command};

use anyhow::{Context, Result, ensure};

use crate::{Target, cpu};

/// One run of pgbench.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    /// Transactions, all clients together.
    pub transactions: f64,
    /// Transactions a second, without the time to connect.
    pub rate: f64,
    /// CPU seconds of the proxy; 0 without one.
    pub proxy_seconds: f64,
}

impl Run {
    /// Milliseconds of the proxy's CPU for 1,000 transactions, which is microseconds for one.
    pub fn proxy_us(&self) -> f64 {
        self.proxy_seconds * 1e6 / self.transactions
    }
}

/// Runs pgbench with these arguments on one thread. It must end well and not one transaction may have failed.
pub fn run<A: AsRef<OsStr>>(target: &Target, arguments: impl IntoIterator<Item = A>) -> Result<Run> {
    let (host, port) = target.host_and_port();
    let before = target.proxy.map(cpu::process_ns).transpose()?;
    let output = Command::new("pgbench")
        .args(["--no-vacuum", "--jobs=1", "--host", &host, "--port", &port, "--username", &target.user])
        .args(arguments)
        .arg(&target.database)
        .env("PGPASSWORD", &target.password)
        .env("PGSSLMODE", if target.tls { "require" } else { "disable" })
        .output()
        .context("pgbench, which comes with PostgreSQL, must be in PATH")?;
    let after = target.proxy.map(cpu::process_ns).transpose()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let name = target.name;
    ensure!(output.status.success(), "pgbench through {name}: {text}{}", String::from_utf8_lossy(&output.stderr));
    let failed = field(&text, "number of failed transactions: ")?;
    ensure!(failed == 0.0, "{failed} transactions failed through {name}");
    #[expect(clippy::cast_precision_loss, reason = "nanoseconds of a run")]
    let proxy_seconds = before.zip(after).map_or(0.0, |(before, after)| (after - before) as f64 / 1e9);
    Ok(Run {
        transactions: field(&text, "number of transactions actually processed: ")?,
        rate: field(&text, "tps = ")?,
        proxy_seconds,
    })
}

/// Makes pgbench's tables, owned by the target's user, and vacuums them.
pub fn initialise(target: &Target, scale: u32) -> Result<()> {
    let (host, port) = target.host_and_port();
    let output = Command::new("pgbench")
        .args(["--initialize", "--quiet", &format!("--scale={scale}"), "--host", &host, "--port", &port])
        .args(["--username", &target.user, &target.database])
        .env("PGPASSWORD", &target.password)
        .output()
        .context("pgbench, which comes with PostgreSQL, must be in PATH")?;
    ensure!(output.status.success(), "pgbench --initialize: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// The number after a label.
fn field(text: &str, label: &str) -> Result<f64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(label)).with_context(|| format!("no `{label}` in: {text}"))?;
    let number = rest.split([' ', '/']).next().unwrap_or_default();
    number.parse().with_context(|| format!("`{label}` says `{rest}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_behind_their_labels() {
        let text = "number of transactions actually processed: 12/20\ntps = 3.5 (without initial connection time)\n";
        assert_eq!(field(text, "number of transactions actually processed: ").unwrap().to_bits(), 12.0_f64.to_bits());
        assert_eq!(field(text, "tps = ").unwrap().to_bits(), 3.5_f64.to_bits());
        assert!(field(text, "latency = ").is_err());
    }
}
