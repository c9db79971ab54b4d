//! The command line: one enum, one file a subcommand.
//!
//! Everything about tenants goes through the API, by [`guardian_client`]; only `up`, `gateway`, `audit`, `init`, `psql`,
//! `completions` and `generate` do something on this machine. No subcommand opens Guardian's own database.

mod access;
mod adopt;
mod api_key;
mod apply;
mod audit;
mod audit_log;
mod completions;
mod confirm;
mod connect;
mod domain;
mod door;
mod eject;
mod export_config;
mod follow;
mod gateway;
mod generate;
mod incident;
mod init;
mod key;
mod login;
mod migrate;
mod operation;
mod plan;
mod psql;
mod route;
mod status;
mod tenant;
mod tier;
mod token;
mod up;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::output::{self, Output};

/// A word of one of the model's closed sets as an argument.
macro_rules! word_of {
    ($set:ty) => {{
        use clap::builder::TypedValueParser as _;
        clap::builder::PossibleValuesParser::new(<$set>::ALL.map(<$set>::as_str))
            .try_map(|word| <$set>::from_word(&word).ok_or("no such word"))
    }};
}
use word_of;

/// Makes a SaaS application multi-tenant on PostgreSQL, keeps its tenants apart, and proves it.
#[derive(Debug, Parser)]
#[command(name = "guardian", version, max_term_width = 100, after_help = EXAMPLES, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "Examples:
  guardian up                               start the control plane that guardian.toml describes
  guardian migrate && guardian apply        make the tables, then keep tenants apart in them
  guardian tenant create acme --tier pro    a tenant in one call
  guardian psql acme                        a psql that sees nothing but acme";

/// Flags of every subcommand.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// The control plane's address; left out: the one that `guardian up` wrote into the state folder
    #[arg(long, global = true, value_name = "URL", env = "GUARDIAN_URL", hide_env_values = true)]
    pub(crate) server: Option<String>,
    /// A file with the bearer token; left out: the token in `GUARDIAN_TOKEN`, or the state folder's admin.token
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// The configuration
    #[arg(long, global = true, value_name = "FILE", default_value = "guardian.toml")]
    pub(crate) config: PathBuf,
    /// The state folder; left out: .guardian beside the configuration
    #[arg(long, global = true, value_name = "FOLDER")]
    pub(crate) state_dir: Option<PathBuf>,
    /// Print JSON, exactly as the API sends it
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Print no progress and no remarks
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
    /// When to use colours
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: Color,
}

/// When to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless `NO_COLOR` is set.
    #[value(help = None)]
    Auto,
    /// Also into a pipe.
    #[value(help = None)]
    Always,
    /// Not at all.
    #[value(help = None)]
    Never,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Up(up::Up),
    Gateway(gateway::Gateway),
    Plan(plan::Plan),
    Apply(apply::Apply),
    #[command(subcommand)]
    Adopt(adopt::Adopt),
    Migrate(migrate::Migrate),
    #[command(subcommand)]
    Tenant(tenant::Tenant),
    #[command(subcommand)]
    Tier(tier::Tier),
    #[command(subcommand)]
    Login(login::Login),
    #[command(subcommand)]
    ApiKey(api_key::ApiKey),
    #[command(subcommand)]
    Access(access::Access),
    #[command(subcommand)]
    Domain(domain::Domain),
    #[command(subcommand)]
    Route(route::Route),
    #[command(subcommand)]
    Operation(operation::Operation),
    Psql(psql::Psql),
    #[command(subcommand)]
    Door(door::Door),
    Audit(Box<audit::Audit>),
    Init(init::Init),
    Status(status::Status),
    #[command(subcommand)]
    Token(token::Token),
    #[command(subcommand)]
    Key(key::Key),
    ExportConfig(export_config::ExportConfig),
    Eject(eject::Eject),
    #[command(subcommand)]
    Incident(incident::Incident),
    #[command(subcommand)]
    AuditLog(audit_log::AuditLog),
    Completions(completions::Completions),
    #[command(hide = true)]
    Generate(generate::Generate),
}

/// Runs one command line to its end: 0 went through, 1 failed, 2 makes no sense.
pub(crate) async fn run(cli: Cli) -> ExitCode {
    match cli.color_and_dispatch().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => output::report(&error),
    }
}

impl Cli {
    async fn color_and_dispatch(self) -> anyhow::Result<()> {
        let Self { global, command } = self;
        match global.color {
            Color::Auto => anstream::ColorChoice::Auto,
            Color::Always => anstream::ColorChoice::Always,
            Color::Never => anstream::ColorChoice::Never,
        }
        .write_global();
        let output = Output { json: global.json, quiet: global.quiet };
        match command {
            Command::Up(command) => command.run(&global, output).await,
            Command::Gateway(command) => command.run(&global, output).await,
            Command::Plan(command) => command.run(&global.client()?, output).await,
            Command::Apply(command) => command.run(&global.client()?, output).await,
            Command::Adopt(command) => command.run(&global.client()?, output).await,
            Command::Migrate(command) => command.run(&global.client()?, output).await,
            Command::Tenant(command) => command.run(&global.client()?, output).await,
            Command::Tier(command) => command.run(&global.client()?, output).await,
            Command::Login(command) => command.run(&global.client()?, output).await,
            Command::ApiKey(command) => command.run(&global.client()?, output).await,
            Command::Access(command) => command.run(&global.client()?, output).await,
            Command::Domain(command) => command.run(&global.client()?, output).await,
            Command::Route(command) => command.run(&global.client()?, output).await,
            Command::Operation(command) => command.run(&global.client()?, output).await,
            Command::Psql(command) => command.run(&global.client()?, output).await,
            Command::Door(command) => command.run(&global.client()?, output).await,
            Command::Audit(command) => command.run(&global, output).await,
            Command::Init(command) => command.run(output).await,
            Command::Status(command) => command.run(&global.client()?, output).await,
            Command::Token(command) => command.run(&global.client()?, output).await,
            Command::Key(command) => command.run(&global.client()?, output).await,
            Command::ExportConfig(command) => command.run(&global.client()?, output).await,
            Command::Eject(command) => command.run(&global, output).await,
            Command::Incident(command) => command.run(&global.client()?, output).await,
            Command::AuditLog(command) => command.run(&global.client()?, output).await,
            Command::Completions(command) => command.run(),
            Command::Generate(command) => command.run(output),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn every_command<'a>(command: &'a clap::Command, found: &mut Vec<&'a clap::Command>) {
        found.push(command);
        for child in command.get_subcommands() {
            every_command(child, found);
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_says_what_it_does_and_shows_an_example() {
        let root = Cli::command();
        let mut commands = Vec::new();
        every_command(&root, &mut commands);
        for command in commands {
            let name = command.get_name();
            assert!(command.get_about().is_some(), "{name} has no description");
            let runs_something = !command.has_subcommands() || name == "guardian";
            let example = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(!runs_something || example.contains("guardian "), "{name} shows no example");
            for argument in command.get_arguments().filter(|argument| argument.get_id() != "help") {
                assert!(argument.get_help().is_some(), "{name}: {} has no description", argument.get_id());
            }
        }
    }

    /// As a shell splits a line whose only quotes are single ones.
    fn words(line: &str) -> Vec<String> {
        let mut words = Vec::new();
        for (index, part) in line.split('\'').enumerate() {
            let is_quoted = index % 2 == 1;
            if is_quoted {
                words.push(part.to_owned());
            } else {
                words.extend(part.split_whitespace().map(str::to_owned));
            }
        }
        words
    }

    #[test]
    fn examples_parse() {
        let root = Cli::command();
        let mut commands = Vec::new();
        every_command(&root, &mut commands);
        for command in commands {
            let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let lines = text.lines().filter_map(|line| line.trim().strip_prefix("guardian "));
            for line in lines.flat_map(|line| line.split("    ").take(1)) {
                let line = line.split(" > ").next().unwrap_or(line).split(" | ").next().unwrap_or(line);
                for part in line.split(" && ") {
                    let words = words(part.trim_start_matches("guardian "));
                    let parsed = Cli::try_parse_from(std::iter::once("guardian".to_owned()).chain(words));
                    if let Err(error) = parsed {
                        panic!("`guardian {line}` in the help of {}: {error}", command.get_name());
                    }
                }
            }
        }
    }
}
