//! `guardian init`: reads an existing schema and proposes how its tenants are kept apart, as files to read and to change.
//!
//! Changes nothing in the database. The proposal is `guardian_audit::propose`'s; here are the arguments, the connection and
//! the files. Three are written: `guardian.toml`, a migration that adds the tenant to every table, and `hardening.sql`, which
//! shows the keys, policies and privileges that `guardian apply` will make after it.

use std::{
    fs::{self, File, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use guardian_audit::propose::{Class, Confidence, Options, Proposal, ProposeError, Surroundings, propose};
use guardian_model::{
    Config,
    api::{HardeningRefusal, HardeningReport},
};
use guardian_postgres::{Declaration, collect, plan};
use serde::Serialize;
use sqlx::{ConnectOptions as _, Connection as _, postgres::PgConnectOptions};

use super::audit::source;
use crate::output::{Cell, Failure, Mark, Output, Table, counted};

/// The end of the migration's name; its number is the next one that is free.
const MIGRATION: &str = "_tenant_columns.sql";

/// Propose the tenancy of an existing schema: guardian.toml and a first migration
#[derive(Debug, clap::Args)]
#[command(after_help = "\
It reads the catalogs, counts rows without a tenant, and changes nothing in the database. What it is not sure of it calls
undecided, and says what is missing.

Examples:
  guardian init --url postgres://admin@db.example.com/shop
  guardian init --url postgres:///shop --tenant-root accounts --output proposal
  guardian init --url postgres:///shop --tenant-column org_id --json")]
pub(crate) struct Init {
    /// The database to read: postgres://user@host:port/database. The password may also be in PGPASSWORD or ~/.pgpass, where
    /// other users of the machine do not see it
    #[arg(long, value_name = "URL")]
    url: String,
    /// The table of the tenants, `name` or `schema.name`. Left out: found by names, foreign keys and policies
    #[arg(long, value_name = "TABLE")]
    tenant_root: Option<String>,
    /// The column that says whose a row is. Left out: found likewise
    #[arg(long, value_name = "COLUMN")]
    tenant_column: Option<String>,
    /// The application's name, which its roles are named after. Left out: made of the database's
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// The folder to write to; made if it is not there
    #[arg(long = "output", value_name = "FOLDER", default_value = ".")]
    folder: PathBuf,
    /// Overwrite files that are there already
    #[arg(long)]
    force: bool,
}

/// What was proposed and written, for programs.
#[derive(Serialize)]
struct Written<'a> {
    #[serde(flatten)]
    proposal: &'a Proposal,
    /// What the hardening will refuse until somebody decides.
    to_decide: &'a [HardeningRefusal],
    files: Vec<String>,
}

impl Init {
    pub(crate) async fn run(self, output: Output) -> anyhow::Result<()> {
        let files = Files::of(&self.folder)?;
        if !self.force {
            files.refuse_existing()?;
        }
        let options = source::options(&self.url, "--url")?;
        let facts = source::of_database(&options, &[]).await?;
        let wanted = Options {
            tenant_root: self.tenant_root.clone(),
            tenant_column: self.tenant_column.clone(),
            application: self.name.clone(),
        };
        let proposal = propose(&facts, &wanted).map_err(|error| advised(&error))?;
        let url = without_password(&self.url);
        let surroundings = Surroundings { cluster_url: Some(&url), folder_is_shared: files.folder_is_shared };
        let config_text = proposal.config(surroundings);
        let config = Config::parse("guardian.toml", &config_text)
            .map_err(|error| Failure::usage(error.to_string()).advise("give the application another --name"))?;
        let hardening = foresee(&options, &proposal, &Declaration::from(&config)).await?;
        write(&files.config, &config_text, self.force)?;
        write(&files.migration, &proposal.migration(&facts), self.force)?;
        write(&files.hardening, &script(&hardening), self.force)?;
        let names = files.all().map(|path| path.display().to_string());
        let written = Written { proposal: &proposal, to_decide: &hardening.refusals, files: names.to_vec() };
        output.result(&written, |written| show(written, output))
    }
}

/// What hardening would do once the migration has run.
async fn foresee(
    options: &PgConnectOptions,
    proposal: &Proposal,
    declaration: &Declaration,
) -> anyhow::Result<HardeningReport> {
    let mut connection = options.connect().await.context("cannot connect a second time")?;
    let mut facts = collect(&mut connection, declaration).await?;
    let _ = connection.close().await;
    proposal.foresee(&mut facts);
    Ok(plan(&facts, declaration).report())
}

/// The script, which refuses to run while something is undecided.
fn script(report: &HardeningReport) -> String {
    let mut text =
        "-- What `guardian apply` will do once the migration has run: composite keys, policies, privileges, each with its\n\
                    -- reason. Here to be read; `guardian apply` makes it anew from what the database is like then.\n"
            .to_owned();
    if !report.refusals.is_empty() {
        text.push_str("--\n-- To be decided first:\n");
        for HardeningRefusal { object, problem, .. } in &report.refusals {
            for (position, line) in format!("{object}: {problem}").lines().enumerate() {
                let line: String = line.chars().filter(|c| !c.is_control()).collect();
                text.push_str(if position == 0 { "-- - " } else { "--   " });
                text.push_str(&line);
                text.push('\n');
            }
        }
        text.push_str("\\set ON_ERROR_STOP on\nDO $$ BEGIN RAISE EXCEPTION 'something is to be decided first'; END $$;\n");
    }
    text + &report.script
}

fn show(written: &Written<'_>, output: Output) -> anyhow::Result<()> {
    let Written { proposal, to_decide, files } = written;
    let tenants = proposal.tenant.table.as_deref().unwrap_or("no table of theirs");
    output.heading(format!(
        "Tenants: {tenants}, by the column {} ({}); confidence: {}",
        proposal.tenant.column,
        proposal.column_type,
        proposal.confidence.as_str()
    ))?;
    for evidence in &proposal.tenant.evidence {
        output.line(format!("  {evidence}"))?;
    }
    for other in &proposal.alternatives {
        let table = other.table.as_deref().map_or_else(String::new, |table| format!("--tenant-root {table}, "));
        output.line(format!("  or: {table}column {} ({} tables lead to it)", other.column, other.tables))?;
    }
    let mut table = Table::new(["TABLE", "ROWS ARE", "CONFIDENCE", "BECAUSE"]);
    for one in &proposal.tables {
        let mark = match (&one.class, one.confidence) {
            (Class::Undecided, _) => Some(Mark::Bad),
            (_, Confidence::Low) => Some(Mark::Caution),
            _ => None,
        };
        let name = if one.schema == proposal.schema { one.name.clone() } else { format!("{}.{}", one.schema, one.name) };
        table.row([
            name.into(),
            Cell::marked(mark, one.class.as_str()),
            one.confidence.as_str().into(),
            one.evidence.join("; ").into(),
        ]);
    }
    output.table(table)?;
    for note in &proposal.notes {
        output.marked(Mark::Caution, format!("{}: {}", note.object, note.text))?;
    }
    if !to_decide.is_empty() {
        output.heading("To be decided before `guardian apply`:")?;
    }
    for refusal in *to_decide {
        output.marked(Mark::Bad, format!("{}: {}", refusal.object, refusal.problem))?;
    }
    output.done(format!("wrote {}", files.join(", ")))?;
    let here = proposal.tables.iter().filter(|table| table.schema == proposal.schema);
    let undecided = here.filter(|table| table.class == Class::Undecided).count();
    output.remark(match undecided {
        0 => "read them; then `guardian up`, `guardian migrate`, `guardian plan`, `guardian apply`".to_owned(),
        count => format!("{} undecided: see [application.global] in the configuration", counted(count, "table")),
    });
    Ok(())
}

/// The three files, and the folder's state.
struct Files {
    config: PathBuf,
    migration: PathBuf,
    hardening: PathBuf,
    /// There are migrations of somebody else's.
    folder_is_shared: bool,
}

impl Files {
    fn of(folder: &Path) -> anyhow::Result<Self> {
        let migrations = folder.join("migrations");
        let names: Vec<String> = match fs::read_dir(&migrations) {
            Ok(entries) => entries
                .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()))
                .collect::<Result<_, _>>()
                .with_context(|| format!("cannot read `{}`", migrations.display()))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error).with_context(|| format!("cannot read `{}`", migrations.display())),
        };
        let (name, folder_is_shared) = migration_name(names);
        Ok(Self {
            config: folder.join("guardian.toml"),
            migration: migrations.join(name),
            hardening: folder.join("hardening.sql"),
            folder_is_shared,
        })
    }

    const fn all(&self) -> [&PathBuf; 3] {
        [&self.config, &self.migration, &self.hardening]
    }

    /// Before the database is asked.
    fn refuse_existing(&self) -> anyhow::Result<()> {
        let there: Vec<String> =
            self.all().iter().filter(|path| path.exists()).map(|path| format!("`{}`", path.display())).collect();
        if there.is_empty() {
            return Ok(());
        }
        let verb = if there.len() == 1 { "is" } else { "are" };
        Err(Failure::new(format!("{} {verb} there already", there.join(", ")))
            .advise("write elsewhere with --output FOLDER, or over it with --force")
            .into())
    }
}

/// Without `force` never over a file, not even over one that came between.
fn write(path: &Path, text: &str, force: bool) -> anyhow::Result<()> {
    let failed = || format!("cannot write `{}`", path.display());
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(failed)?;
    }
    let mut file = if force { File::create(path) } else { OpenOptions::new().write(true).create_new(true).open(path) }
        .with_context(failed)?;
    file.write_all(text.as_bytes()).with_context(failed)
}

/// The migration's name among those that are there, and whether others than its own are.
fn migration_name(names: Vec<String>) -> (String, bool) {
    let mut sql: Vec<String> =
        names.into_iter().filter(|name| Path::new(name).extension().is_some_and(|end| end == "sql")).collect();
    sql.sort();
    let own = sql.iter().rfind(|name| name.ends_with(MIGRATION)).cloned();
    let others = sql.iter().filter(|name| !name.ends_with(MIGRATION)).count();
    let number = |name: &String| name.split(|c: char| !c.is_ascii_digit()).next().and_then(|digits| digits.parse().ok());
    let next: u64 = sql.iter().filter_map(number).max().map_or(1, |last: u64| last.saturating_add(1));
    (own.unwrap_or_else(|| format!("{next:04}{MIGRATION}")), others > 0)
}

fn advised(error: &ProposeError) -> Failure {
    let failure = Failure::new(error.to_string());
    match error {
        ProposeError::NoTenant { .. } => {
            failure.advise("name the tenants' table with --tenant-root, or the column with --tenant-column")
        }
        ProposeError::NoTable { .. } | ProposeError::AmbiguousTable { .. } => {
            failure.advise("name it with its schema: --tenant-root schema.table")
        }
        ProposeError::NoKey { .. } => failure.advise("name another table with --tenant-root"),
        ProposeError::KeyType { .. } => {
            failure.advise("give the tenants a second key of type uuid or bigint, and name it with --tenant-column")
        }
        ProposeError::NoTables => failure.advise("name the database in --url: postgres://host/DATABASE"),
        ProposeError::Missing { .. } => failure,
    }
}

/// A configuration is kept in a repository: the password must not be in it, neither before the host nor after the `?`.
fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return String::new() };
    let (rest, query) = rest.split_once('?').map_or((rest, None), |(rest, query)| (rest, Some(query)));
    let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let authority = match authority.rsplit_once('@') {
        Some((user, host)) => format!("{}@{host}", user.split(':').next().unwrap_or_default()),
        None => authority.to_owned(),
    };
    let kept: Vec<&str> = query.into_iter().flat_map(|query| query.split('&')).filter(|one| !is_secret(one)).collect();
    let query = if kept.is_empty() { String::new() } else { format!("?{}", kept.join("&")) };
    format!("{scheme}://{authority}{path}{query}")
}

/// Whatever is not known to be harmless.
fn is_secret(parameter: &str) -> bool {
    const HARMLESS: [&str; 8] = ["host", "hostaddr", "port", "dbname", "user", "sslmode", "sslrootcert", "sslcert"];
    !HARMLESS.contains(&parameter.split('=').next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_is_written_down() {
        let cases = [
            ("postgres://admin:s3cret@db:5432/shop?sslmode=require", "postgres://admin@db:5432/shop?sslmode=require"),
            ("postgres://admin:a:b@db/shop", "postgres://admin@db/shop"),
            ("postgresql:///shop?host=/run/pg&password=s3cret", "postgresql:///shop?host=/run/pg"),
            ("postgres://db?passw%6Frd=s3cret", "postgres://db"),
            ("postgres://admin@db/shop", "postgres://admin@db/shop"),
        ];
        for (url, wanted) in cases {
            assert_eq!(without_password(url), wanted);
        }
    }

    #[test]
    fn the_migration_gets_the_next_number_and_keeps_it() {
        let name = |names: &[&str]| migration_name(names.iter().map(|name| (*name).to_owned()).collect());
        assert_eq!(name(&[]), ("0001_tenant_columns.sql".to_owned(), false));
        assert_eq!(name(&["0007_a.sql", "0002_b.sql", "notes.md"]), ("0008_tenant_columns.sql".to_owned(), true));
        assert_eq!(name(&["0001_tenant_columns.sql"]), ("0001_tenant_columns.sql".to_owned(), false));
    }
}
