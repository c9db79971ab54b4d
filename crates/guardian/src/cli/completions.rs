//! `guardian completions`: for the shell, made from the same definition as the command line itself.

use clap::CommandFactory;

use super::Cli;
use crate::output;

/// Print completions for a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  guardian completions bash > ~/.local/share/bash-completion/completions/guardian
  guardian completions fish > ~/.config/fish/completions/guardian.fish")]
pub(crate) struct Completions {
    /// The shell
    shell: clap_complete::Shell,
}

impl Completions {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "guardian", &mut script);
        output::script(&String::from_utf8(script)?)
    }
}
