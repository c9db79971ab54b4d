//! `guardian adopt`: bring an application that runs already under Guardian, in stages.

mod observations;

use guardian_client::Client;

use crate::output::Output;

/// Bring an application that runs already under Guardian, in stages
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Adopt {
    Observations(observations::Observations),
}

impl Adopt {
    pub(crate) async fn run(self, client: &Client, output: Output) -> anyhow::Result<()> {
        match self {
            Self::Observations(command) => command.run(client, output).await,
        }
    }
}
