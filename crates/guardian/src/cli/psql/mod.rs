//! `guardian psql`: a psql that is bound to one tenant.
//!
//! The API opens a door for one session: a login role that lives a minute and, for `row` tenants, a ticket that `guardian.redeem`
//! takes once. Password and ticket go to psql in its environment, never in its arguments, which every user of the machine
//! can read. psql replaces this process, so that signals, terminal and exit code are its own.

mod arguments;
mod bind;
mod start;

use std::ffi::OsString;

use guardian_client::Client;

use super::tenant::TenantRef;

/// Open a psql that sees nothing but one tenant
#[derive(Debug, clap::Args)]
#[command(after_help = "What follows -- goes to psql, which must be version 13 or newer.

Examples:
  guardian psql acme
  guardian psql acme -- -c 'SELECT count(*) FROM ticket'
  guardian psql acme -- --csv -f report.sql > report.csv")]
pub(crate) struct Psql {
    /// Slug or id
    tenant: TenantRef,
    /// psql's own arguments
    #[arg(last = true, value_name = "ARGUMENT")]
    arguments: Vec<OsString>,
}

impl Psql {
    pub(crate) async fn run(self, client: &Client) -> anyhow::Result<()> {
        let arguments = arguments::Arguments::read(self.arguments)?;
        let program = start::Program::find()?;
        let grant = client.issue_ticket(self.tenant.as_str()).await?;
        Err(start::replace_process(&program, arguments, &grant))
    }
}
