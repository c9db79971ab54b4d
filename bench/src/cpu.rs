//! CPU time and memory of other processes, read from `/proc`.

use std::fs;

use anyhow::{Context, Result};

/// Nanoseconds that the process's main thread has run.
pub fn thread_ns(pid: i32) -> Result<u64> {
    let text =
        fs::read_to_string(format!("/proc/{pid}/schedstat")).with_context(|| format!("reading the CPU time of {pid}"))?;
    Ok(text.split_whitespace().next().context("an empty schedstat")?.parse()?)
}

/// Kilobytes of a process that are in memory.
pub fn resident_kb(pid: u32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).with_context(|| format!("reading the memory of {pid}"))?;
    let line = text.lines().find(|line| line.starts_with("VmRSS:")).context("no VmRSS line")?;
    Ok(line.split_whitespace().nth(1).context("an empty VmRSS line")?.parse()?)
}
