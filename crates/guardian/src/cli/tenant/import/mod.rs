//! `guardian tenant import`: the tenants of an application that was there before Guardian.
//!
//! The API takes no SQL, so the query runs here, with the rights of whoever asks, and the API is sent keys and slugs. What was
//! sent may be sent again: a control plane that restarts meanwhile loses nothing and makes nothing twice.

mod source;
mod tally;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use guardian_client::{Client, ClientError};
use guardian_model::{
    TierName,
    import::{IMPORT_TENANTS_MAX, ImportReport, ImportTenants},
};

use self::{
    source::{Row, Source},
    tally::Tally,
};
use crate::output::{Failure, Output, Progress};

/// As long as it takes a control plane to restart.
const SILENCE_MAX: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(500);
/// Of those that ended with some tenants left out.
const EXIT_CONFLICTS: u8 = 3;

pub(super) const HELP: &str = "The columns are `key`, `slug`, `name` and `tier`; only `key` has to be there. A tenant \
without a slug gets one from its name, or else from its key: lower case, a hyphen between the words, and the second of the \
same name a suffix that its key decides. A tenant that is there already, with the same key and slug, is left as it is, so \
that an import can be repeated. One that stands against another tenant is reported and left out; the exit code is then 3.

The query runs on this machine, in a transaction that only reads. Without --url it goes where the environment says \
(PGHOST, PGDATABASE, PGUSER …), as with psql.

Examples:
  guardian tenant import --csv accounts.csv --tier free --dry-run
  guardian tenant import --csv accounts.csv --tier free --conflicts left-out.csv
  guardian tenant import --query 'SELECT id AS key, subdomain AS slug FROM account' --tier pro";

#[derive(Debug, clap::Args)]
pub(crate) struct Import {
    #[command(flatten)]
    from: From,
    /// The database of the query: postgres://user@host:port/database. The password may also be in PGPASSWORD or ~/.pgpass,
    /// where other users of the machine do not see it
    #[arg(long, value_name = "URL", requires = "query")]
    url: Option<String>,
    /// The tier of those that name none; its isolation is row
    #[arg(long)]
    tier: TierName,
    /// Change nothing and say what would come of it
    #[arg(long)]
    dry_run: bool,
    /// Write every tenant that was left out into a CSV file, with the reason; it is overwritten
    #[arg(long, value_name = "FILE")]
    conflicts: Option<PathBuf>,
}

/// Where the tenants come from.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct From {
    /// A CSV file with a line of column names; - reads standard input
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// A query on the application's own tables
    #[arg(long, value_name = "SQL")]
    query: Option<String>,
}

impl Import {
    pub(super) async fn run(self, client: &Client, output: Output) -> anyhow::Result<()> {
        let mut source = match (&self.from.csv, &self.from.query) {
            (Some(path), _) => Source::csv(path)?,
            (None, query) => Source::query(query.as_deref().unwrap_or_default(), self.url.as_deref()).await?,
        };
        let mut tally = Tally::new(self.dry_run, self.conflicts.as_deref())?;
        let progress = Progress::start(output, None);
        loop {
            let rows = source.batch(IMPORT_TENANTS_MAX).await?;
            if rows.is_empty() {
                break;
            }
            let rows = tally.without_repeated(rows)?;
            if !rows.is_empty() {
                let report = self.send(client, &rows).await?;
                tally.add(&rows, report)?;
            }
            progress.now(0, &tally.so_far());
        }
        drop(progress);
        source.end().await?;
        tally.finish()?;
        output.result(&tally, |tally| tally.tell(output))?;
        match tally.conflicts() {
            0 => Ok(()),
            _ => Err(tally.failure().exit(EXIT_CONFLICTS).into()),
        }
    }

    /// Tries again while the control plane is away.
    async fn send(&self, client: &Client, rows: &[Row]) -> anyhow::Result<ImportReport> {
        let tenants = rows.iter().map(|row| row.tenant.clone()).collect();
        let body = ImportTenants { tier: self.tier.clone(), tenants, dry_run: self.dry_run };
        let begun = Instant::now();
        loop {
            match client.import_tenants(&body).await {
                Ok(report) => return Ok(report),
                Err(error) if is_away(&error) && begun.elapsed() < SILENCE_MAX => tokio::time::sleep(PAUSE).await,
                Err(error) => {
                    let line = rows.first().map_or(0, |row| row.line);
                    let advice = "mend the cause, then import all of it again: what is there is left as it is";
                    let failure = Failure::of(&anyhow::Error::new(error));
                    return Err(failure.before(format!("the import ended before line {line}")).advise(advice).into());
                }
            }
        }
    }
}

fn is_away(error: &ClientError) -> bool {
    matches!(error, ClientError::Unreachable { .. } | ClientError::Timeout { .. } | ClientError::Answer { .. })
        || matches!(error.status(), Some(429 | 503))
}
