//! Runs PostgreSQL's programs as somebody else when Guardian is root, because PostgreSQL refuses root.

use std::{
    io,
    os::unix::{fs::chown, process::CommandExt as _},
    path::Path,
    process::{Command, Stdio},
};

/// The user that the server's processes and files belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RunAs {
    uid: u32,
    gid: u32,
    /// Whether that is another user than ours.
    other: bool,
}

impl RunAs {
    /// Ourselves, or for root `postgres` or `nobody`; `None` when the machine has neither.
    pub(crate) fn unprivileged() -> Option<Self> {
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        if !uid.is_root() {
            return Some(Self { uid: uid.as_raw(), gid: gid.as_raw(), other: false });
        }
        ["postgres", "_postgres", "nobody"].into_iter().find_map(|name| {
            let (uid, gid) = (id("-u", name)?, id("-g", name)?);
            Some(Self { uid, gid, other: true })
        })
    }

    /// For root: the owner of a cluster that somebody else has made.
    pub(crate) const fn or_owner(self, uid: u32, gid: u32) -> Self {
        if self.other && uid != 0 { Self { uid, gid, other: true } } else { self }
    }

    pub(crate) const fn uid(&self) -> u32 {
        self.uid
    }

    /// A command that runs as this user, in a folder that everybody may be in.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir("/").stdin(Stdio::null()).env("LC_ALL", "C");
        // A user's own PGDATA, PGPORT … must not reach another cluster from here.
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"PG") {
                command.env_remove(name);
            }
        }
        if self.other {
            command.uid(self.uid).gid(self.gid);
        }
        command
    }

    /// Makes the user the owner of a file or folder.
    pub(crate) fn give(&self, path: &Path) -> io::Result<()> {
        if self.other { chown(path, Some(self.uid), Some(self.gid)) } else { Ok(()) }
    }

    /// Whether the user can work in a folder, all the way down to it. Asked of the kernel, which knows of more than modes.
    pub(crate) fn reaches(&self, folder: &Path) -> bool {
        let mut command = self.command(Path::new("/bin/sh"));
        command.args(["-c", r#"cd "$1" 2>/dev/null && test -w ."#, "sh"]).arg(folder);
        command.status().is_ok_and(|status| status.success())
    }
}

fn id(what: &str, user: &str) -> Option<u32> {
    let output = Command::new("id").args([what, user]).stderr(Stdio::null()).output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}
