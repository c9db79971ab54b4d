//! The PostgreSQL server programs on this machine, for the local cluster. Installs nothing; says how to.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Command,
};

/// The oldest major version that Guardian runs itself: the first with `GRANT SET ON PARAMETER`.
pub const MAJOR_MIN: u32 = 15;

/// One installation of the server programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binaries {
    folder: PathBuf,
    /// The major version, 15 for 15.18.
    pub major: u32,
    /// The version as the server prints it, `15.18 (Debian …)`.
    pub version: String,
}

/// No usable PostgreSQL.
#[derive(Debug, thiserror::Error)]
pub enum BinariesError {
    /// Nothing new enough anywhere.
    #[error(
        "no PostgreSQL {MAJOR_MIN} or newer on this machine{}; install it: {}",
        too_old(.found), install_command()
    )]
    Missing {
        /// Installations that are too old.
        found: Vec<Binaries>,
    },
    /// The installation that the existing cluster needs is gone.
    #[error("the local cluster was made by PostgreSQL {wanted}, and only {} is on this machine; install PostgreSQL {wanted}, or move the cluster aside and start afresh", majors(.found))]
    OtherMajor {
        /// The major version of the cluster.
        wanted: u32,
        /// What is there.
        found: Vec<Binaries>,
    },
    /// A folder without working programs.
    #[error("`{folder}` holds no working `initdb`, `pg_ctl` and `postgres`: {problem}", folder = .folder.display())]
    Unusable {
        /// The folder.
        folder: PathBuf,
        /// What failed.
        problem: String,
    },
}

fn too_old(found: &[Binaries]) -> String {
    if found.is_empty() { String::new() } else { format!(" (found: {})", majors(found)) }
}

fn majors(found: &[Binaries]) -> String {
    found.iter().map(|binaries| binaries.major.to_string()).collect::<Vec<_>>().join(", ")
}

fn install_command() -> &'static str {
    if cfg!(target_os = "macos") {
        "`brew install postgresql@18`"
    } else if Path::new("/usr/bin/apt-get").exists() {
        "`apt-get install postgresql` (as root)"
    } else if Path::new("/usr/bin/dnf").exists() {
        "`dnf install postgresql-server postgresql-contrib` (as root)"
    } else {
        "see https://www.postgresql.org/download/"
    }
}

impl Binaries {
    /// The newest installation of [`MAJOR_MIN`] or later.
    pub fn newest() -> Result<Self, BinariesError> {
        let found = Self::all();
        match found.first() {
            Some(newest) if newest.major >= MAJOR_MIN => Ok(newest.clone()),
            Some(_) | None => Err(BinariesError::Missing { found }),
        }
    }

    /// The installation that can run a cluster made by this major version.
    pub fn of_major(wanted: u32) -> Result<Self, BinariesError> {
        let mut found = Self::all();
        match found.iter().position(|binaries| binaries.major == wanted) {
            Some(index) => Ok(found.swap_remove(index)),
            None if found.is_empty() => Err(BinariesError::Missing { found }),
            None => Err(BinariesError::OtherMajor { wanted, found }),
        }
    }

    /// The installation in a folder, of whatever version.
    pub fn at(folder: &Path) -> Result<Self, BinariesError> {
        let unusable = |problem: String| BinariesError::Unusable { folder: folder.to_owned(), problem };
        for program in ["initdb", "pg_ctl"] {
            if !folder.join(program).is_file() {
                return Err(unusable(format!("there is no `{program}`")));
            }
        }
        let output = Command::new(folder.join("postgres")).arg("--version").output();
        let output = output.map_err(|source| unusable(source.to_string()))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let version = text.trim().strip_prefix("postgres (PostgreSQL) ").unwrap_or_default().to_owned();
        let digits = version.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
        let major = digits.parse().map_err(|_| unusable(String::from_utf8_lossy(&output.stderr).trim().to_owned()))?;
        Ok(Self { folder: folder.to_owned(), major, version })
    }

    /// Every installation, newest first.
    fn all() -> Vec<Self> {
        let mut found: Vec<Self> = folders().iter().filter_map(|folder| Self::at(folder).ok()).collect();
        // Stable: of two with the same version, the one that PATH names first.
        found.sort_by_key(|binaries| std::cmp::Reverse(binaries.major));
        found
    }

    /// The full path of one program.
    pub fn program(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The folder of the programs.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

/// Debian and Homebrew keep the server programs out of PATH.
fn folders() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    folders.extend(children("/usr/lib/postgresql", "").into_iter().map(|version| version.join("bin")));
    folders.extend(children("/usr", "pgsql-").into_iter().map(|version| version.join("bin")));
    for prefix in ["/opt/homebrew/opt", "/usr/local/opt", "/home/linuxbrew/.linuxbrew/opt"] {
        folders.extend(children(prefix, "postgresql").into_iter().map(|version| version.join("bin")));
    }
    folders.retain(|folder| folder.join("postgres").is_file());
    folders
}

fn children(folder: &str, prefix: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths.filter(|path| path.file_name().and_then(OsStr::to_str).is_some_and(|name| name.starts_with(prefix))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_without_programs_is_refused_by_name() {
        let error = Binaries::at(Path::new("/nonexistent")).unwrap_err().to_string();
        assert_eq!(error, "`/nonexistent` holds no working `initdb`, `pg_ctl` and `postgres`: there is no `initdb`");
    }

    #[test]
    fn a_missing_postgresql_is_told_with_the_way_to_get_it() {
        let old = Binaries { folder: "/usr/lib/postgresql/13/bin".into(), major: 13, version: "13.1".to_owned() };
        let error = BinariesError::Missing { found: vec![old] }.to_string();
        assert!(error.starts_with("no PostgreSQL 15 or newer on this machine (found: 13); install it: "), "{error}");
    }

    #[test]
    fn a_cluster_of_another_major_version_is_not_touched() {
        let found = vec![Binaries { folder: "/x".into(), major: 18, version: "18.4".to_owned() }];
        let error = BinariesError::OtherMajor { wanted: 15, found }.to_string();
        assert!(error.contains("made by PostgreSQL 15, and only 18"), "{error}");
    }
}
