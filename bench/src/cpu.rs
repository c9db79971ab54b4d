//! CPU time and memory of other processes, read from `/proc`.

use std::{
    fs,
    process::{Child, Command},
};

use anyhow::{Context, Result, ensure};
use rustix::{
    process::{Pid, Resource, Rlimit, getrlimit, setrlimit},
    thread::{CpuSet, sched_setaffinity},
};

/// Nanoseconds that the process's main thread has run.
pub fn thread_ns(pid: i32) -> Result<u64> {
    let text =
        fs::read_to_string(format!("/proc/{pid}/schedstat")).with_context(|| format!("reading the CPU time of {pid}"))?;
    Ok(text.split_whitespace().next().context("an empty schedstat")?.parse()?)
}

/// Nanoseconds that all threads of a process have run. What a thread had run goes with it when it ends.
pub fn process_ns(pid: i32) -> Result<u64> {
    let folder = format!("/proc/{pid}/task");
    let mut sum = 0;
    for task in fs::read_dir(&folder).with_context(|| format!("reading the threads of {pid}"))? {
        let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
        sum += text.split_whitespace().next().context("an empty schedstat")?.parse::<u64>()?;
    }
    Ok(sum)
}

/// CPU time that a process's children have used, those that have ended included (these in ticks of 10 ms).
pub fn children_ns(pid: i32) -> Result<u64> {
    const NS_A_TICK: u64 = 10_000_000;
    let mut sum = 0;
    for process in fs::read_dir("/proc").context("reading /proc")? {
        let name = process?.file_name();
        let Some(child) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        // One that ends meanwhile is among the ended ones below.
        if stat(child).is_ok_and(|fields| fields[PARENT] == u64::from(pid.unsigned_abs())) {
            sum += process_ns(child).unwrap_or(0);
        }
    }
    let ended = stat(pid)?;
    Ok(sum + (ended[CHILDREN_USER] + ended[CHILDREN_SYSTEM]) * NS_A_TICK)
}

/// The process that started another.
pub fn parent(pid: i32) -> Result<i32> {
    Ok(i32::try_from(stat(pid)?[PARENT])?)
}

/// Places in `/proc/PID/stat`, counted from the one behind the name, which may have spaces in it.
const PARENT: usize = 1;
const CHILDREN_USER: usize = 13;
const CHILDREN_SYSTEM: usize = 14;

/// What is no number, or a negative one, is 0.
fn stat(pid: i32) -> Result<Vec<u64>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("reading about process {pid}"))?;
    let (_, fields) = text.rsplit_once(')').context("a stat without a name")?;
    let fields: Vec<u64> = fields.split_whitespace().map(|field| field.parse().unwrap_or(0)).collect();
    ensure!(fields.len() > CHILDREN_SYSTEM, "a short stat: {text}");
    Ok(fields)
}

/// Kilobytes of a process that are in memory.
pub fn resident_kb(pid: u32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).with_context(|| format!("reading the memory of {pid}"))?;
    let line = text.lines().find(|line| line.starts_with("VmRSS:")).context("no VmRSS line")?;
    Ok(line.split_whitespace().nth(1).context("an empty VmRSS line")?.parse()?)
}

/// Kilobytes of a process that are in memory, each shared page divided among those that share it.
pub fn proportional_kb(pid: i32) -> Result<u64> {
    let text =
        fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).with_context(|| format!("reading the memory of {pid}"))?;
    let line = text.lines().find(|line| line.starts_with("Pss:")).context("no Pss line")?;
    Ok(line.split_whitespace().nth(1).context("an empty Pss line")?.parse()?)
}

/// Lets this process, and those that it starts, open as many files as the machine allows.
pub fn allow_many_files() -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
        .context("raising the limit of files")
}

/// Keeps a process (`None`: this one) on one core, so that two compared processes share it, and neither shares the client's.
/// On a machine of one core everything stays where it is.
pub fn pin(pid: Option<i32>, core: usize) -> Result<()> {
    if std::thread::available_parallelism()?.get() <= core {
        return Ok(());
    }
    let mut cores = CpuSet::new();
    cores.set(core);
    let pid = pid.map(|pid| Pid::from_raw(pid).context("no such process")).transpose()?;
    sched_setaffinity(pid, &cores).with_context(|| format!("pinning a process to core {core}"))
}

/// Keeps every core awake while it lives, at the lowest priority: on a virtual machine a core that sleeps between two
/// statements charges its waking up to whoever is woken.
#[derive(Debug)]
pub struct Awake(Vec<Child>);

impl Awake {
    /// Starts one idle loop a core.
    pub fn keep() -> Result<Self> {
        let cores = std::thread::available_parallelism()?.get();
        let mut awake = Self(Vec::new());
        for core in 0..cores {
            let child = Command::new("nice")
                .args(["-n", "19", "sh", "-c", "while :; do :; done"])
                .spawn()
                .context("starting an idle loop")?;
            let pid = i32::try_from(child.id())?;
            awake.0.push(child);
            pin(Some(pid), core)?;
        }
        Ok(awake)
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_children_counts_before_and_after_their_end() {
        let this = i32::try_from(std::process::id()).unwrap();
        let mut child = Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        assert_eq!(parent(pid).unwrap(), this);
        let before = children_ns(this).unwrap();
        while process_ns(pid).unwrap() < 100_000_000 {
            std::thread::yield_now();
        }
        let running = children_ns(this).unwrap();
        assert!(running >= before + 90_000_000);
        child.kill().unwrap();
        child.wait().unwrap();
        // Ticks are coarse.
        assert!(children_ns(this).unwrap() + 30_000_000 >= running);
    }
}
