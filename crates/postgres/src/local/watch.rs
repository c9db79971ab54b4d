//! Somebody who outlives us: a shell that clears up after a process that is killed before it can.
//!
//! It holds one end of a pipe whose other end closes with our process, however that ends, and waits for that.

use std::{
    io::{self, Write as _},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
};

/// Reads folders, one a line, and at the end of the pipe stops the server in each and removes it. What starts or is made
/// in the meantime (`initdb`, `pg_ctl` live on) is met by the next round.
const SCRIPT: &str = r#"
trap '' INT TERM HUP
while IFS= read -r folder; do set -- "$@" "$folder"; done
for round in 1 2 3 4 5; do
    left=
    for folder; do
        for data in "$folder/data" "$folder/cluster/data"; do
            [ -f "$data/postmaster.pid" ] || continue
            read -r pid <"$data/postmaster.pid"
            case $pid in ''|*[!0-9]*) continue;; esac
            kill -s QUIT "$pid"
            for tick in 1 2 3 4 5 6 7 8 9 10; do kill -s 0 "$pid" || break; sleep 0.2; done
        done
        [ -d "$folder" ] || continue
        left=yes
        rm -rf "$folder"
    done
    [ -n "$left" ] || exit 0
    sleep 0.5
done
"#;

/// The watcher. Dropping the value makes it clear up at once, and waits for that.
#[derive(Debug)]
pub(super) struct Watch {
    child: Child,
    pipe: Option<ChildStdin>,
}

impl Watch {
    pub(super) fn start() -> io::Result<Self> {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", SCRIPT, "guardian-watch"]).current_dir("/").env_clear().env("PATH", "/usr/bin:/bin");
        // A group of its own: what a terminal or a supervisor sends to ours does not reach it.
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn()?;
        let pipe = child.stdin.take();
        Ok(Self { child, pipe })
    }

    /// One more folder to remove, after the server whose data are in it.
    pub(super) fn over(&mut self, folder: &Path) -> io::Result<()> {
        use std::os::unix::ffi::OsStrExt as _;
        let Some(pipe) = &mut self.pipe else { return Ok(()) };
        pipe.write_all(&[folder.as_os_str().as_bytes(), b"\n"].concat())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        drop(self.pipe.take());
        let _ = self.child.wait();
    }
}
