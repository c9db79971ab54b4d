//! The folders and files of the local cluster: where they are, whose they are, and that they are whole.

use std::{
    fmt::Write as _,
    fs,
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, symlink},
    path::{Path, PathBuf},
};

use aws_lc_rs::{digest, rand};

use super::{LocalError, SUPERUSER, error::file_error, text_of};
use crate::{
    binaries::{Binaries, BinariesError},
    run_as::RunAs,
};

/// The folder of the cluster in the state folder.
pub(super) const HOME: &str = "cluster";
/// A unix socket's path has 107 bytes at most on Linux, 103 on macOS.
const SOCKET_PATH_MAX: usize = 103;

/// For a state folder that PostgreSQL's user cannot reach, such as one below /root.
fn elsewhere(state: &Path) -> PathBuf {
    Path::new("/var/lib/guardian").join(short_hash(state))
}

fn short_hash(path: &Path) -> String {
    hex(&digest::digest(&digest::SHA256, path.as_os_str().as_encoded_bytes()).as_ref()[..6])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The folder of the cluster, and the user to run it as: whoever it belongs to already. Where that user cannot reach the
/// state folder, a link in it leads to the cluster.
pub(super) fn prepare_home(state: &Path) -> Result<(PathBuf, RunAs), LocalError> {
    let run_as = RunAs::unprivileged().ok_or(LocalError::NoUser)?;
    let home = state.join(HOME);
    if home.join("data").exists() {
        let home = home.canonicalize().map_err(file_error("find", &home))?;
        let metadata = fs::metadata(&home).map_err(file_error("look at", &home))?;
        return Ok((home, run_as.or_owner(metadata.uid(), metadata.gid())));
    }
    if !home.is_symlink() {
        make_own_folder(&home, &run_as)?;
        if run_as.reaches(&home) {
            return Ok((home, run_as));
        }
        fs::remove_dir(&home).map_err(file_error("remove", &home))?;
        symlink(elsewhere(state), &home).map_err(file_error("link", &home))?;
    }
    let home = fs::read_link(&home).map_err(file_error("read", &home))?;
    let parent = home.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(parent).map_err(file_error("create", parent))?;
    make_own_folder(&home, &run_as)?;
    tracing::info!(
        cluster.folder = %home.display(),
        "the user that runs PostgreSQL cannot reach the state folder; the local cluster is elsewhere"
    );
    Ok((home, run_as))
}

fn make_own_folder(path: &Path, run_as: &RunAs) -> Result<(), LocalError> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => run_as.give(path).map_err(file_error("hand over", path)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(file_error("create", path)(error)),
    }
}

/// The superuser's password, made at first start; readable by Guardian's own user only.
pub(super) fn password(state: &Path, is_needed: bool) -> Result<String, LocalError> {
    let path = state.join("superuser.password");
    match fs::read_to_string(&path) {
        Ok(password) if !password.trim().is_empty() => return Ok(password.trim().to_owned()),
        Err(error) if error.kind() != io::ErrorKind::NotFound || is_needed => return Err(file_error("read", &path)(error)),
        Ok(_) if is_needed => {
            return Err(file_error("use", &path)(io::Error::new(io::ErrorKind::InvalidData, "it is empty")));
        }
        Ok(_) | Err(_) => {}
    }
    let mut bytes = [0; 24];
    rand::fill(&mut bytes).map_err(|_| file_error("read", Path::new("the random source"))(io::ErrorKind::Other.into()))?;
    let password = hex(&bytes);
    write_private(&path, &password)?;
    Ok(password)
}

fn write_private(path: &Path, text: &str) -> Result<(), LocalError> {
    let open = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    let mut file = open.map_err(file_error("create", path))?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(file_error("write", path))
}

pub(super) fn check(data: &Path, binaries: &Binaries) -> Result<(), LocalError> {
    let corrupt = |problem: &str| LocalError::Corrupt { path: data.to_owned(), problem: problem.to_owned() };
    let version = fs::read_to_string(data.join("PG_VERSION")).map_err(|_| corrupt("there is no PG_VERSION in it"))?;
    let major: u32 = version.trim().parse().map_err(|_| corrupt("its PG_VERSION is unreadable"))?;
    if !data.join("global/pg_control").is_file() {
        return Err(corrupt("there is no global/pg_control in it"));
    }
    if major != binaries.major {
        return Err(BinariesError::OtherMajor { wanted: major, found: vec![binaries.clone()] }.into());
    }
    Ok(())
}

/// Makes the data folder under another name first, so that a killed start leaves nothing that looks whole.
pub(super) fn initialise(binaries: &Binaries, run_as: &RunAs, home: &Path, password: &str) -> Result<(), LocalError> {
    let making = home.join("data.new");
    if making.exists() {
        fs::remove_dir_all(&making).map_err(file_error("remove", &making))?;
    }
    let password_file = home.join("password.new");
    write_private(&password_file, password)?;
    run_as.give(&password_file).map_err(file_error("hand over", &password_file))?;
    let program = binaries.program("initdb");
    let mut command = run_as.command(&program);
    command.args(["--username", SUPERUSER, "--auth=scram-sha-256", "--encoding=UTF8"]);
    command.arg(if cfg!(target_os = "linux") { "--locale=C.UTF-8" } else { "--locale=C" });
    command.arg("--pwfile").arg(&password_file).arg("--pgdata").arg(&making);
    let output = command.output().map_err(file_error("run", &program));
    fs::remove_file(&password_file).map_err(file_error("remove", &password_file))?;
    let output = output?;
    if !output.status.success() {
        let _ = fs::remove_dir_all(&making);
        return Err(LocalError::Program { program: "initdb", output: text_of(&output) });
    }
    let data = home.join("data");
    fs::rename(&making, &data).map_err(file_error("rename", &making))
}

pub(super) fn socket_folder(home: &Path, run_as: &RunAs) -> Result<PathBuf, LocalError> {
    let inside = home.join("socket");
    let longest = inside.join(".s.PGSQL.65535");
    let folder = if longest.as_os_str().len() <= SOCKET_PATH_MAX {
        inside
    } else {
        Path::new("/tmp").join(format!("guardian-{}", short_hash(home)))
    };
    make_own_folder(&folder, run_as)?;
    // Below /tmp somebody else may have been first.
    let metadata = fs::symlink_metadata(&folder).map_err(file_error("look at", &folder))?;
    if !metadata.is_dir() || metadata.uid() != run_as.uid() || metadata.permissions().mode() & 0o077 != 0 {
        let source = io::Error::new(io::ErrorKind::PermissionDenied, "it belongs to somebody else, or is open to others");
        return Err(file_error("use", &folder)(source));
    }
    Ok(folder)
}
