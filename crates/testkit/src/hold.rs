//! Who uses a throwaway server, by locks that the kernel lets go of however a process ends; and the watchdog that removes
//! the server once nobody does.
//!
//! Beside the folder `F` of a server lie `F.start` (held to start or remove it), `F.users` (held, shared, by each process
//! that uses it) and `F.watchdog` (held by the watchdog).

use std::{
    fs::{self, File},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::Context as _;
use rustix::fs::{FlockOperation, flock};

/// A watchdog is a process of its own group, so that it outlives the group of a test that is killed. Perl, because every
/// Debian, Ubuntu and macOS has it, and the `flock` command is not on the last.
const WATCHDOG: &str = r#"
use strict;
my ($idle_max, $folder, @folders) = @ARGV;
open(my $mine, '>>', "$folder.watchdog") or exit; flock($mine, 6) or exit;
my $idle = 0;
while (1) {
    sleep 1;
    open(my $users, '+<', "$folder.users") or last;
    if (!flock($users, 6)) { $idle = 0; next }
    close $users;
    next if ++$idle < $idle_max;
    open(my $start, '+<', "$folder.start") or last; flock($start, 2);
    open($users, '+<', "$folder.users") or last;
    if (!flock($users, 6)) { $idle = 0; next }
    if (open(my $file, '<', "$folders[0]/data/postmaster.pid")) {
        my $pid = int(<$file>);
        if ($pid > 1) {
            kill 'QUIT', $pid;
            for (1 .. 100) { last unless kill 0, $pid; select(undef, undef, undef, 0.1) }
            kill 'KILL', $pid;
        }
    }
    system('rm', '-rf', '--', $folder, @folders);
    # Nobody waits for the locks of a server that was one test's own.
    unlink map { "$folder.$_" } qw(start users watchdog) if $folder =~ /guardian-own/;
    last;
}
"#;

/// The lock files of one server.
#[derive(Debug)]
pub(crate) struct Locks {
    folder: PathBuf,
}

/// While this lives, the server stays.
#[derive(Debug)]
pub(crate) struct Hold(#[expect(dead_code, reason = "the lock is held by the open file")] File);

impl Locks {
    pub(crate) fn of(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// Waits until nobody else starts or removes the server; until the file is dropped nobody will.
    pub(crate) fn start(&self) -> anyhow::Result<File> {
        let file = self.open("start")?;
        flock(&file, FlockOperation::LockExclusive).context("cannot lock")?;
        Ok(file)
    }

    /// Counts as a user of the server. Call with [`Locks::start`] held.
    pub(crate) fn hold(&self) -> anyhow::Result<Hold> {
        let file = self.open("users")?;
        flock(&file, FlockOperation::LockShared).context("cannot lock")?;
        Ok(Hold(file))
    }

    /// Sees to it that a watchdog runs. `folders` go with the server; the first is the cluster's home.
    pub(crate) fn watch(&self, idle: Duration, folders: &[&Path]) -> anyhow::Result<()> {
        let file = self.open("watchdog")?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Ok(());
        }
        drop(file);
        Command::new("perl")
            .args(["-e", WATCHDOG, &idle.as_secs().to_string()])
            .arg(&self.folder)
            .args(folders)
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start the watchdog: is perl installed?")?;
        Ok(())
    }

    fn open(&self, kind: &str) -> anyhow::Result<File> {
        let path = self.folder.with_extension(kind);
        let open = fs::OpenOptions::new().append(true).create(true).open(&path);
        open.with_context(|| format!("cannot open `{}`", path.display()))
    }
}
