//! The user's migration files: `NNNN_name.sql` in one folder, in the order of their numbers.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use aws_lc_rs::digest;

use super::split::{Statement, split};

/// A comment in the first lines of a file that may not run in a transaction (`CREATE INDEX CONCURRENTLY`).
const NO_TRANSACTION: &str = "-- guardian: no-transaction";

/// The application's migrations. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Migrations(Arc<[Migration]>);

/// One file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migration {
    /// The file's name.
    pub name: String,
    /// SHA-256 of its text with unix line ends: what git does to those on the way is no change.
    pub checksum: [u8; 32],
    pub(super) sql: String,
    pub(super) in_transaction: bool,
}

/// The folder cannot be used as it is.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// No such folder, or no right to read it.
    #[error("cannot read {}: {source}", .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The order would be a guess.
    #[error("{file}: a migration is named by a number, an underscore and a name: `0001_tickets.sql`")]
    Name {
        /// The file.
        file: String,
    },
    /// Two files with one number.
    #[error("{first} and {second} have the same number; give one of them the next free one")]
    SameNumber {
        /// One of them.
        first: String,
        /// The other.
        second: String,
    },
    /// Something that Guardian does itself, or cannot do.
    #[error("{file}:{line}: {problem}")]
    Statement {
        /// The file.
        file: String,
        /// Where in it, counted from 1.
        line: usize,
        /// What is wrong, and what to do.
        problem: String,
    },
}

impl Migrations {
    /// Reads a folder. Files that do not end in `.sql` are none of ours.
    pub fn read(folder: &Path) -> Result<Self, ReadError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| ReadError::Io { path, source }
        };
        let mut files = Vec::new();
        for entry in fs::read_dir(folder).map_err(io(folder))? {
            let path = entry.map_err(io(folder))?.path();
            if path.extension().is_some_and(|extension| extension == "sql") {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let sql = fs::read_to_string(&path).map_err(io(&path))?;
                files.push((name, sql));
            }
        }
        Self::parse(files)
    }

    /// The same from names and texts.
    pub fn parse(files: impl IntoIterator<Item = (String, String)>) -> Result<Self, ReadError> {
        let mut numbered =
            files.into_iter().map(|(name, sql)| migration(name, &sql)).collect::<Result<Vec<_>, ReadError>>()?;
        numbered.sort_by(|(left, a), (right, b)| (left, &a.name).cmp(&(right, &b.name)));
        if let Some([(_, first), (_, second)]) = numbered.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(ReadError::SameNumber { first: first.name.clone(), second: second.name.clone() });
        }
        Ok(Self(numbered.into_iter().map(|(_, migration)| migration).collect()))
    }

    /// Every file, in order.
    pub fn files(&self) -> &[Migration] {
        &self.0
    }
}

impl Migration {
    pub(super) fn statements(&self) -> Vec<Statement<'_>> {
        split(&self.sql)
    }
}

fn migration(name: String, sql: &str) -> Result<(u64, Migration), ReadError> {
    let sql = sql.replace("\r\n", "\n");
    let number = name
        .split_once('_')
        .filter(|(digits, rest)| rest.len() > ".sql".len() && digits.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|(digits, _)| digits.parse().ok())
        .ok_or_else(|| ReadError::Name { file: name.clone() })?;
    for statement in split(&sql) {
        if let Some(problem) = problem(statement.text) {
            return Err(ReadError::Statement { file: name, line: statement.line, problem });
        }
    }
    let hash = digest::digest(&digest::SHA256, sql.as_bytes());
    let mut checksum = [0; 32];
    checksum.copy_from_slice(hash.as_ref());
    let header = sql.lines().take_while(|line| line.starts_with("--") || line.trim().is_empty());
    let in_transaction = !header.into_iter().any(|line| line.trim_end() == NO_TRANSACTION);
    Ok((number, Migration { name, checksum, sql, in_transaction }))
}

/// What must not stand in a migration. The transaction is ours: a COMMIT inside would keep half a file.
fn problem(statement: &str) -> Option<String> {
    if statement.starts_with('\\') {
        return Some("a line that begins with a backslash is psql's; write SQL".to_owned());
    }
    let words: Vec<String> = statement.split_whitespace().take(8).map(str::to_ascii_lowercase).collect();
    let word = |index: usize| words.get(index).map_or("", String::as_str);
    let ends_transaction = match word(0) {
        "begin" | "start" | "commit" | "end" | "abort" => true,
        "rollback" => !words.iter().any(|word| word == "to"),
        "prepare" => word(1) == "transaction",
        _ => false,
    };
    if ends_transaction {
        let word = word(0).to_ascii_uppercase();
        return Some(format!("a migration runs in a transaction of Guardian's; take `{word}` out"));
    }
    let is_copy_in = word(0) == "copy" && words.windows(2).any(|pair| pair[0] == "from" && pair[1] == "stdin");
    is_copy_in.then(|| "COPY FROM STDIN needs psql; write INSERT … VALUES".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(files: &[(&str, &str)]) -> Result<Migrations, ReadError> {
        Migrations::parse(files.iter().map(|(name, sql)| ((*name).to_owned(), (*sql).to_owned())))
    }

    fn refusal(name: &str, sql: &str) -> String {
        parse(&[(name, sql)]).unwrap_err().to_string()
    }

    #[test]
    fn files_run_in_the_order_of_their_numbers() {
        let migrations = parse(&[("10_c.sql", ""), ("9_b.sql", ""), ("0001_a.sql", "")]).unwrap();
        let names: Vec<_> = migrations.files().iter().map(|file| file.name.as_str()).collect();
        assert_eq!(names, ["0001_a.sql", "9_b.sql", "10_c.sql"]);
    }

    #[test]
    fn refusals_name_the_file_and_the_way_out() {
        assert!(refusal("tickets.sql", "").contains("`0001_tickets.sql`"));
        let message = parse(&[("1_a.sql", ""), ("01_b.sql", "")]).unwrap_err().to_string();
        assert!(message.contains("01_b.sql and 1_a.sql have the same number"), "{message}");
        let message = refusal("1_a.sql", "SELECT 1;\n\ncommit;");
        assert_eq!(message, "1_a.sql:3: a migration runs in a transaction of Guardian's; take `COMMIT` out");
        assert!(refusal("1_a.sql", "COPY a (b) FROM STDIN;\n1\n\\.\n").contains("INSERT"));
        assert!(refusal("1_a.sql", "\\i other.sql\n").contains("psql"));
    }

    #[test]
    fn savepoints_and_plpgsql_blocks_are_allowed() {
        parse(&[("1_a.sql", "SAVEPOINT a; ROLLBACK TO a; DO $$ BEGIN END $$;")]).unwrap();
    }

    #[test]
    fn line_ends_are_no_change() {
        let checksum = |sql| parse(&[("1_a.sql", sql)]).unwrap().files()[0].checksum;
        assert_eq!(checksum("a\r\nb"), checksum("a\nb"));
        assert_ne!(checksum("a\nb"), checksum("a\nc"));
    }

    #[test]
    fn the_header_takes_a_file_out_of_its_transaction() {
        let in_transaction = |sql| parse(&[("1_a.sql", sql)]).unwrap().files()[0].in_transaction;
        assert!(in_transaction("SELECT 1; -- guardian: no-transaction"));
        assert!(!in_transaction("-- Why.\n-- guardian: no-transaction\nSELECT 1"));
    }
}
