//! `guardian adopt`: takes over an application that runs already, in stages, each with a way back.

mod observations;
mod status;
mod step;

use clap::Subcommand;
use guardian_client::Client;
use guardian_model::adoption::{AdoptionStep, SetObserving};

use crate::output::Output;

/// Take over an application that runs already, in stages, without an outage
#[derive(Debug, Subcommand)]
pub(crate) enum Adopt {
    Status(status::Status),
    Prepare(step::Prepare),
    Observe(Observe),
    Observations(observations::Observations),
    Enforce(step::Enforce),
    Release(step::Release),
    Finish(step::Finish),
}

/// Serve the application through the SQL gateway as the role that it uses today
#[derive(Debug, clap::Args)]
#[command(after_help = "Policies apply to those tables only that are enforced already.

Examples:
  guardian adopt observe --on
  guardian adopt observe --off")]
pub(crate) struct Observe {
    /// Begin
    #[arg(long, required_unless_present = "off")]
    on: bool,
    /// End: the gateway serves by Guardian's own role, which policies apply to
    #[arg(long, conflicts_with = "on")]
    off: bool,
}

impl Adopt {
    pub(crate) async fn run(self, client: &Client, output: Output) -> anyhow::Result<()> {
        match self {
            Self::Status(command) => command.run(client, output).await,
            Self::Prepare(command) => command.step.run(AdoptionStep::Prepare, Vec::new(), client, output).await,
            Self::Observe(command) => command.run(client, output).await,
            Self::Observations(command) => command.run(client, output).await,
            Self::Enforce(command) => command.step.run(AdoptionStep::Enforce, command.which.tables, client, output).await,
            Self::Release(command) => command.step.run(AdoptionStep::Release, command.which.tables, client, output).await,
            Self::Finish(command) => command.step.run(AdoptionStep::Finish, Vec::new(), client, output).await,
        }
    }
}

impl Observe {
    async fn run(self, client: &Client, output: Output) -> anyhow::Result<()> {
        let status = client.set_observing(SetObserving { observing: self.on }).await?;
        output.result(&status, |status| output.done(format!("the stage is `{}`", status.stage)))
    }
}
