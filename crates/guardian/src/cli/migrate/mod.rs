//! `guardian migrate`: the application's SQL files to every place, by a ledger in each, ring after ring; or a tool of the user's
//! own, run here once a place.

mod exec;
mod tool;

use std::{ffi::OsString, path::PathBuf};

use guardian_client::Client;
use guardian_model::{
    api::{MigrationPlan, PlaceDrift, StartMigration},
    query::DriftQuery,
};

use super::{confirm, follow, tenant::TenantRef};
use crate::output::{Cell, Failure, Mark, Output, Table, counted};

/// Places of one page of drift.
const PAGE: u32 = 200;

/// Bring the application's tables to the newest migration, in every place
#[derive(Debug, clap::Args)]
#[command(
    after_help = "With --exec, the command after -- is run on this machine once a place, instead of the SQL files: any tool \
that connects by DATABASE_URL, or by PGHOST, PGPORT, PGUSER, PGPASSWORD and PGDATABASE. GUARDIAN_PLACE, GUARDIAN_RING, GUARDIAN_SCHEMA \
and, in a tenant's own place, GUARDIAN_TENANT say where it is. Its login owns the tables of that place only, and is over when the \
tool ends, or soon after this command was killed. The tool's own ledger says what a place lacks, so that a run that stopped is \
simply started again.

Examples:
  guardian migrate --plan
  guardian migrate --parallel 8
  guardian migrate --ring canary
  guardian migrate --confirm-rings
  guardian migrate --drift
  guardian migrate --exec -- alembic upgrade head
  guardian migrate --exec --ring canary --output-dir logs -- npx prisma migrate deploy
  guardian migrate --exec --tenant acme -- bundle exec rails db:migrate"
)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
pub(crate) struct Migrate {
    /// Only show what each ring and place lacks, and what the missing files would lock
    #[arg(long, visible_alias = "dry-run", conflicts_with_all = ["ring", "parallel", "halt_percent", "confirm_rings", "drift"])]
    plan: bool,
    /// Only show where places differ from the files and from each other
    #[arg(long, conflicts_with_all = ["ring", "parallel", "halt_percent", "confirm_rings"])]
    drift: bool,
    /// The tenant whose tables the others are held against; left out: the oldest one with a place of its own
    #[arg(long, value_name = "TENANT", requires = "drift")]
    reference: Option<String>,
    /// Places at once
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    parallel: Option<u16>,
    /// This ring only
    #[arg(long, value_name = "RING")]
    ring: Option<String>,
    /// Stop when more than this share of a ring's places failed, in percent
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    halt_percent: Option<u8>,
    /// Ask before each ring but the first
    #[arg(long, conflicts_with = "ring")]
    confirm_rings: bool,
    /// Run a tool of your own once a place, instead of the SQL files
    #[arg(long, requires = "command", conflicts_with_all = ["plan", "drift"])]
    exec: bool,
    /// Run it for this tenant only, which has a place of its own; may be given more than once
    #[arg(long, value_name = "TENANT", requires = "exec", conflicts_with_all = ["ring", "confirm_rings"])]
    tenant: Vec<TenantRef>,
    /// Keep what the tool prints in this folder, a file a place
    #[arg(long, value_name = "FOLDER", requires = "exec")]
    output_dir: Option<PathBuf>,
    /// The tool with its arguments
    #[arg(last = true, value_name = "COMMAND", requires = "exec")]
    command: Vec<OsString>,
}

impl Migrate {
    pub(crate) async fn run(self, client: &Client, output: Output) -> anyhow::Result<()> {
        if self.plan {
            let plan = client.advise_migrations().await?;
            return output.result(&plan, |plan| show(plan, output));
        }
        if self.exec {
            return exec::run(self, client, output).await;
        }
        if self.drift {
            return self.show_drift(client, output).await;
        }
        if !self.confirm_rings {
            self.start(client, output, self.ring.clone()).await?;
            return output.done("every place is up to date");
        }
        let rings = client.plan_migrations().await?.rings.into_iter().filter(|ring| ring.places > 0);
        for (index, ring) in rings.enumerate() {
            if index > 0 {
                confirm::yes(&format!("Go on with ring {} ({})?", ring.name, counted(ring.places, "place")), "--ring")?;
            }
            self.start(client, output, Some(ring.name.clone())).await?;
            output.done(format!("ring {} is up to date", ring.name))?;
        }
        Ok(())
    }

    async fn start(&self, client: &Client, output: Output, ring: Option<String>) -> anyhow::Result<()> {
        let body = StartMigration { parallel: self.parallel, ring, halt_percent: self.halt_percent };
        let run = client.start_migrations(&body).await?;
        follow::run(client, output, run).await
    }

    async fn show_drift(&self, client: &Client, output: Output) -> anyhow::Result<()> {
        let mut query = DriftQuery { reference: self.reference.clone(), limit: Some(PAGE), ..DriftQuery::default() };
        let mut whole = client.drift(&query).await?;
        while let Some(cursor) = whole.next_cursor.take() {
            query.cursor = Some(cursor);
            let page = client.drift(&query).await?;
            whole.places.extend(page.places);
            whole.next_cursor = page.next_cursor;
        }
        output.result(&whole, |whole| {
            let mut table = Table::new(["place", "ring", "differs in"]);
            let differing: Vec<_> = whole.places.iter().filter(|place| place.differs()).collect();
            for place in &differing {
                let mark = if place.error.is_some() { Mark::Bad } else { Mark::Caution };
                table.row([(&place.place).into(), (&place.ring).into(), Cell::marked(Some(mark), differences(place))]);
            }
            if !differing.is_empty() {
                output.table(table)?;
            }
            if let Some(reference) = &whole.reference {
                output.remark(format!("tables are held against those of {reference}"));
            }
            let (places, differ) = (counted(whole.places.len(), "place"), differing.len());
            output.line(format!("{places}, {differ} not like the others"))
        })
    }
}

fn differences(place: &PlaceDrift) -> String {
    let mut words = Vec::new();
    for (label, files) in [("lacks", &place.missing), ("changed since", &place.changed), ("not in the folder", &place.gone)]
    {
        if !files.is_empty() {
            words.push(format!("{label}: {}", files.join(", ")));
        }
    }
    words.extend(place.tables.iter().map(|table| format!("table {}: {}", table.table, table.kind.as_str())));
    words.extend(place.error.clone());
    words.join("; ")
}

fn show(plan: &MigrationPlan, output: Output) -> anyhow::Result<()> {
    let mut rings = Table::new(["ring", "places", "not up to date"]);
    for ring in plan.rings.iter().filter(|ring| ring.places > 0) {
        rings.row([(&ring.name).into(), Cell::number(ring.places), Cell::number(ring.behind)]);
    }
    output.table(rings)?;
    let mut table = Table::new(["place", "ring", "lacks"]);
    let mut behind = 0;
    for place in &plan.places {
        let lacks = match &place.error {
            Some(error) => Cell::marked(Some(Mark::Bad), error),
            None if place.pending.is_empty() => continue,
            None => place.pending.join(", ").into(),
        };
        table.row([(&place.place).into(), (&place.ring).into(), lacks]);
        behind += 1;
    }
    if behind > 0 {
        output.table(table)?;
    }
    for advice in &plan.advice {
        let (rewrites, lock) = (if advice.rewrites { ", rewrites it" } else { "" }, &advice.lock);
        let found = format!("{}:{}: {lock} on {}{rewrites}: {}", advice.file, advice.line, advice.relation, advice.advice);
        output.marked(Mark::Caution, found)?;
    }
    if let Some(lacks) = &plan.advice_lacks {
        output.remark(format!("what the files lock is not fully known: {lacks}"));
    }
    let (files, places) = (counted(plan.files.len(), "file"), counted(plan.places.len(), "place"));
    output.line(format!("{files}, {places}, {behind} not up to date"))?;
    match plan.places.iter().filter(|place| place.error.is_some()).count() {
        0 => Ok(()),
        count => Err(Failure::new(format!("{} cannot be migrated", counted(count, "place"))).into()),
    }
}
