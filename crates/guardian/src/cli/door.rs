//! `guardian door`: the sessions across tenants that are open, and their end. `guardian psql --all-tenants` opens one; ending it
//! is somebody else's business often enough to be a command of its own.

use guardian_client::Client;
use guardian_model::door;

use crate::output::{Cell, Mark, Output, Table, time};

/// See and end the sessions that reach the rows of every tenant
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Door {
    /// List the doors that are open: who, what for, and until when
    #[command(after_help = "Examples:\n  guardian door list\n  guardian door list --json")]
    List,
    /// End one before its time, in the middle of whatever its session does
    #[command(after_help = "Examples:\n  guardian door end door_01k8z3v0c5f8pbz6r0h2m4n6qs")]
    End {
        /// Its id, as `list` and `guardian status` show it
        door: guardian_model::DoorId,
    },
}

impl Door {
    pub(crate) async fn run(self, client: &Client, output: Output) -> anyhow::Result<()> {
        match self {
            Self::List => output.result(&client.doors().await?, |open| output.table(table("door", open))),
            Self::End { door } => {
                client.end_door(door).await?;
                output.done(format!("{door} is shut"))
            }
        }
    }
}

/// The doors that are open; `title` stands over their ids.
pub(super) fn table(title: &'static str, open: &[door::Door]) -> Table {
    let mut table = Table::new([title, "opened by", "what for", "may", "until (UTC)"]);
    for door in open {
        let may = if door.write { Cell::marked(Some(Mark::Caution), "read and write") } else { "read".into() };
        table.row([(&door.id).into(), (&door.opened_by).into(), (&door.reason).into(), may, time(door.ends_at).into()]);
    }
    table
}
