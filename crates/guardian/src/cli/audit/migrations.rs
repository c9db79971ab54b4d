//! `--migrations`: the user's SQL files on a server that is thrown away afterwards.
//!
//! The files run as a superuser, statement by statement, in the order of their names, in which numbers count as numbers
//! (`V2__` before `V10__`). A role of `--app-role` that no file makes is made first, because files grant to it.

use std::{
    cmp::Ordering,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use guardian_audit::Facts;
use guardian_postgres::{local::Throwaway, quote};
use guardian_provision::migrations::split;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection, postgres::PgConnectOptions};

use crate::output::{Failure, Output, counted};

/// The database's name; always the same, because exceptions and baselines name it.
const DATABASE: &str = "app";

/// Applies the files and reads the facts of what they made.
pub(super) async fn facts(folder: &Path, app_roles: &[String], output: Output) -> anyhow::Result<Facts> {
    let files = read(folder)?;
    output.remark(format!("starting a throwaway PostgreSQL for {}", counted(files.len(), "file")));
    let server = tokio::task::spawn_blocking(Throwaway::start).await??;
    // Dropped, the server stops; without this a signal would leave it running.
    let facts = tokio::select! {
        facts = work(&server, &files, app_roles) => facts,
        _ = interrupted() => Err(Failure::new("interrupted").into()),
    };
    tokio::task::spawn_blocking(move || drop(server)).await?;
    facts
}

pub(super) async fn interrupted() -> Option<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt()).ok()?, signal(SignalKind::terminate()).ok()?);
    tokio::select! {
        _ = interrupt.recv() => Some(()),
        _ = terminate.recv() => Some(()),
    }
}

async fn work(server: &Throwaway, files: &[File], app_roles: &[String]) -> anyhow::Result<Facts> {
    let options = server.options().disable_statement_logging();
    let mut connection = options.connect().await.context("cannot connect to the throwaway PostgreSQL")?;
    execute(&mut connection, &format!("CREATE DATABASE {DATABASE} TEMPLATE template0")).await?;
    connection.close().await?;
    let options = options.database(DATABASE);
    apply(&options, files, app_roles).await?;
    let mut facts = super::source::of_database(&options, app_roles).await?;
    facts.throwaway = true;
    Ok(facts)
}

async fn apply(options: &PgConnectOptions, files: &[File], app_roles: &[String]) -> anyhow::Result<()> {
    let mut connection = options.connect().await?;
    for role in app_roles.iter().filter(|role| !files.iter().any(|file| makes_role(&file.sql, role))) {
        execute(&mut connection, &create_role(role)).await?;
    }
    connection.close().await?;
    for file in files {
        // Settings of a session end with its file.
        let mut connection = options.connect().await?;
        for statement in split(&file.sql) {
            run(&mut connection, file, statement.text, statement.line).await?;
        }
        connection.close().await.with_context(|| format!("{}: the connection broke at the file's end", file.name))?;
    }
    Ok(())
}

/// As unremarkable as a login can be: what is to be said of the real one, its own server's audit says.
fn create_role(role: &str) -> String {
    format!("CREATE ROLE {} LOGIN CONNECTION LIMIT 20 PASSWORD 'throwaway'", quote::ident(role))
}

/// Whether a file seems to make the role itself. Only a guess about the order: guessed wrong, `CREATE ROLE` or the first
/// `GRANT` fails and says so.
fn makes_role(sql: &str, role: &str) -> bool {
    let words: Vec<&str> = sql.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|word| !word.is_empty()).collect();
    words.windows(3).any(|words| {
        words[0].eq_ignore_ascii_case("create")
            && ["role", "user"].iter().any(|kind| words[1].eq_ignore_ascii_case(kind))
            && words[2].eq_ignore_ascii_case(role)
    })
}

async fn execute(connection: &mut PgConnection, sql: &str) -> anyhow::Result<()> {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await?;
    Ok(())
}

async fn run(connection: &mut PgConnection, file: &File, sql: &str, line: usize) -> anyhow::Result<()> {
    if sql.starts_with('\\') {
        let advice = "write SQL; `\\i` and the like work in psql only";
        return Err(Failure::new(format!("{}:{line}: a line that begins with a backslash is psql's", file.name))
            .advise(advice)
            .into());
    }
    let Err(error) = sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await else { return Ok(()) };
    let line = line + lines_before(&error, sql);
    let problem = match error.as_database_error() {
        Some(refused) => refused.message().to_owned(),
        None => error.to_string(),
    };
    let failure = Failure::new(format!("{}:{line}: {problem}", file.name));
    let unknown_role =
        error.as_database_error().and_then(sqlx::error::DatabaseError::code).is_some_and(|code| code == "42704");
    let of_role = unknown_role && problem.starts_with("role ");
    let advice = "name the application's own role with --app-role; make any other in a file that sorts first";
    Err(if of_role { failure.advise(advice) } else { failure }.into())
}

/// How many lines of the statement stand before the place that the server names.
fn lines_before(error: &sqlx::Error, sql: &str) -> usize {
    use sqlx::postgres::{PgDatabaseError, PgErrorPosition};
    let refused = error.as_database_error().and_then(|error| error.try_downcast_ref::<PgDatabaseError>());
    match refused.and_then(PgDatabaseError::position) {
        // The position counts characters, from 1.
        Some(PgErrorPosition::Original(at)) => sql.chars().take(at.saturating_sub(1)).filter(|c| *c == '\n').count(),
        _ => 0,
    }
}

#[derive(Debug)]
struct File {
    /// As the user finds it.
    name: String,
    sql: String,
}

fn read(folder: &Path) -> anyhow::Result<Vec<File>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read the folder `{}`", folder.display()))?;
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    paths.retain(|path| is_up(path));
    paths.sort_by(|a, b| natural(&a.to_string_lossy(), &b.to_string_lossy()));
    let files = paths.into_iter().map(|path| {
        let sql = fs::read_to_string(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
        refuse_ways_down(&path, &sql)?;
        Ok(File { name: path.display().to_string(), sql })
    });
    let files: Vec<File> = files.collect::<anyhow::Result<_>>()?;
    if files.is_empty() {
        return Err(Failure::new(format!("there is no `.sql` file in `{}`", folder.display())).into());
    }
    Ok(files)
}

/// `0001_orders.down.sql` takes back what `0001_orders.up.sql` did.
fn is_up(path: &Path) -> bool {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let is_sql = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("sql"));
    let is_down = [".down", "_down"].iter().any(|ending| stem.ends_with(ending));
    path.is_file() && is_sql && !is_down
}

/// Files with both ways in one would be undone as soon as they are done.
fn refuse_ways_down(path: &Path, sql: &str) -> anyhow::Result<()> {
    let is_mark = |line: &str| {
        let words: Vec<String> = line.split_whitespace().map(str::to_ascii_lowercase).collect();
        let line = words.join(" ");
        ["-- +goose down", "-- +migrate down", "-- migrate:down", "--migrate:down"].iter().any(|mark| line.starts_with(mark))
    };
    let Some(at) = sql.lines().position(is_mark) else { return Ok(()) };
    let advice =
        "let your migration tool write the schema (`dbmate dump`, `pg_dump --schema-only`), and audit that file's folder";
    Err(Failure::new(format!("{}:{}: the file has the way down in it too", path.display(), at + 1)).advise(advice).into())
}

/// Compares names as people sort them: runs of digits by their number.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (a, b);
    loop {
        let digits = |text: &str| text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        match (digits(left), digits(right)) {
            (0, _) | (_, 0) => {}
            (l, r) => {
                let (one, other) = (left[..l].trim_start_matches('0'), right[..r].trim_start_matches('0'));
                let order = one.len().cmp(&other.len()).then_with(|| one.cmp(other));
                if order != Ordering::Equal {
                    return order;
                }
                (left, right) = (&left[l..], &right[r..]);
                continue;
            }
        }
        match (left.chars().next(), right.chars().next()) {
            (Some(one), Some(other)) if one == other => {
                (left, right) = (&left[one.len_utf8()..], &right[other.len_utf8()..]);
            }
            (None, None) => return a.cmp(b),
            (one, other) => return one.cmp(&other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_as_people_do() {
        let mut names = ["V10__c.sql", "V2__b.sql", "V1__a.sql", "V2__a.sql", "0003_x.sql", "20240101_y.sql", "4_z.sql"];
        names.sort_by(|a, b| natural(a, b));
        assert_eq!(names, ["0003_x.sql", "4_z.sql", "20240101_y.sql", "V1__a.sql", "V2__a.sql", "V2__b.sql", "V10__c.sql"]);
    }

    #[test]
    fn a_file_that_makes_the_role_is_seen() {
        assert!(makes_role("create role \"my_app\" login;", "my_app"));
        assert!(makes_role("DO $$ BEGIN IF NOT FOUND THEN CREATE USER my_app; END IF; END $$", "my_app"));
        assert!(!makes_role("CREATE ROLE my_app_owner; GRANT SELECT ON t TO my_app", "my_app"));
    }

    #[test]
    fn a_file_with_both_ways_is_refused_with_its_line() {
        let refused =
            refuse_ways_down(Path::new("m/1.sql"), "-- migrate:up\nCREATE TABLE t ();\n\n--  migrate:down\nDROP TABLE t;");
        assert_eq!(refused.unwrap_err().to_string(), "m/1.sql:4: the file has the way down in it too");
        refuse_ways_down(Path::new("m/1.sql"), "-- migrate: this migrates down\n").unwrap();
    }
}
