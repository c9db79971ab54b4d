//! Runs `pgbench` against a target and reads what it cost.

use std::{
    ffi::OsStr,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};

use crate::{Target, alternate::Taken, cpu};

/// Runs pgbench with these arguments on one thread, and says what the proxy's CPU was. It must end well and not one transaction
/// may have failed.
pub fn run<A: AsRef<OsStr>>(target: &Target, arguments: impl IntoIterator<Item = A>) -> Result<Taken> {
    run_as(target, &[&target.user], arguments)
}

/// Runs one pgbench for each of these users, at the same time.
pub fn run_as<A: AsRef<OsStr>>(target: &Target, users: &[&str], arguments: impl IntoIterator<Item = A>) -> Result<Taken> {
    let arguments: Vec<_> = arguments.into_iter().collect();
    let (host, port) = target.host_and_port();
    let before = target.proxy.map(cpu::process_ns).transpose()?;
    let mut running = Vec::new();
    for user in users {
        let child = Command::new("pgbench")
            .args(["--no-vacuum", "--jobs=1", "--host", &host, "--port", &port, "--username", user])
            .args(&arguments)
            .arg(&target.database)
            .env("PGPASSWORD", &target.password)
            .env("PGSSLMODE", if target.tls { "require" } else { "disable" })
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        running.push(child.context("pgbench, which comes with PostgreSQL, must be in PATH")?);
    }
    let (mut transactions, mut rate) = (0.0, 0.0);
    for child in running {
        let output = child.wait_with_output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let name = target.name;
        ensure!(output.status.success(), "pgbench through {name}: {text}{}", String::from_utf8_lossy(&output.stderr));
        let failed = field(&text, "number of failed transactions: ")?;
        ensure!(failed == 0.0, "{failed} transactions failed through {name}");
        transactions += field(&text, "number of transactions actually processed: ")?;
        rate += field(&text, "tps = ")?;
    }
    let after = target.proxy.map(cpu::process_ns).transpose()?;
    #[expect(clippy::cast_precision_loss, reason = "nanoseconds of a run")]
    let us = before.zip(after).map_or(0.0, |(before, after)| (after - before) as f64 / 1e3 / transactions);
    Ok(Taken { us, rate })
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
