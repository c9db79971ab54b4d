//! `guardian psql`: a psql that is bound to one tenant, or one that comes through the door across tenants.
//!
//! The API opens a door for one session: a login role that lives a minute and, for `row` tenants, a ticket that `guardian.redeem`
//! takes once. Password and ticket go to psql in its environment, never in its arguments, which every user of the machine
//! can read. psql replaces this process, so that signals, terminal and exit code are its own.

mod arguments;
mod bind;
mod start;

pub(super) use start::CONNECTION_VARIABLES;

use std::ffi::OsString;

use guardian_client::Client;
use guardian_model::door::{DOOR_MINUTES_DEFAULT, DOOR_MINUTES_MAX, OpenDoor};

use super::tenant::TenantRef;
use crate::output::{Output, time};

/// Open a psql that sees nothing but one tenant, or one that reads all of them
#[derive(Debug, clap::Args)]
#[command(after_help = "What follows -- goes to psql, which must be version 13 or newer.

With --all-tenants the session reaches the rows of every tenant in the shared tables. It reads only, unless --write is given; \
writing, name the tenant in each INSERT. It is ended when its time is over. The audit log holds who opened it, why, and when \
it was over; `guardian status` shows it meanwhile.

Examples:
  guardian psql acme
  guardian psql acme -- -c 'SELECT count(*) FROM ticket'
  guardian psql acme -- --csv -f report.sql > report.csv
  guardian psql --all-tenants --reason 'monthly report' -- --csv -f usage.sql > usage.csv
  guardian psql --all-tenants --write --minutes 10 --reason 'mend the dates'")]
pub(crate) struct Psql {
    /// Slug or id
    #[arg(required_unless_present = "all_tenants", conflicts_with = "all_tenants")]
    tenant: Option<TenantRef>,
    /// The rows of every tenant in the shared tables
    #[arg(long, requires = "reason")]
    all_tenants: bool,
    /// What for, in words; it stands in the audit log
    #[arg(long, requires = "all_tenants", value_name = "WORDS")]
    reason: Option<String>,
    /// Write, too
    #[arg(long, requires = "all_tenants")]
    write: bool,
    /// How long the session may last
    #[arg(long, requires = "all_tenants", default_value_t = DOOR_MINUTES_DEFAULT,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(DOOR_MINUTES_MAX)))]
    minutes: u32,
    /// psql's own arguments
    #[arg(last = true, value_name = "ARGUMENT")]
    arguments: Vec<OsString>,
}

impl Psql {
    pub(crate) async fn run(self, client: &Client, output: Output) -> anyhow::Result<()> {
        let arguments = arguments::Arguments::read(self.arguments)?;
        let program = start::Program::find()?;
        let way = if let Some(tenant) = self.tenant {
            start::Way::from(client.issue_ticket(tenant.as_str()).await?)
        } else {
            let reason = self.reason.unwrap_or_default();
            let asked = OpenDoor { reason, write: self.write, minutes: Some(self.minutes) };
            let grant = client.open_door(&asked).await?;
            let what = if grant.write { "reads and writes" } else { "reads" };
            let until = time(grant.ends_at);
            output.remark(format!("this session {what} the rows of every tenant, until {until} UTC; the audit log says so"));
            start::Way::from(grant)
        };
        Err(start::replace_process(&program, arguments, &way))
    }
}
