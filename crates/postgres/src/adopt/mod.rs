//! The adoption of an application that runs already, as pure functions from facts to ordered statements: the same statements
//! that hardening makes, by stage, and the way back (docs/adr/0012-adoption-in-stages.md).
//!
//! What it lacks: the filling of a new tenant column, row by row, is [`backfill`]'s.

pub mod backfill;
mod parents;
mod references;
mod release;
mod role;

use std::collections::BTreeSet;

pub use parents::{Way, parent};
pub use references::{Strays, strays};

use crate::{
    facts::{Facts, Oid, PolicyFacts, RelationFacts, SchemaFacts},
    harden::{self, Declaration, Hardening, Refusal, Stage, planner::label},
};

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step<'a> {
    /// Everything that nobody notices. `serve`: the role that serves the application meanwhile, too.
    Prepare {
        /// Whether that role may act as the one that the application uses today.
        serve: bool,
    },
    /// Policies apply to these tables; to all of them, with functions and views, when there are none.
    Enforce(&'a [String]),
    /// They apply no longer.
    Release(&'a [String]),
    /// The role that served the application acts for itself no longer.
    Retire,
    /// What there is no quick way back from.
    Finish,
}

/// Decides everything about one step.
pub fn plan(facts: &Facts, declaration: &Declaration, step: Step<'_>) -> Hardening {
    let facts = &with_columns(facts, declaration);
    let mut whole = harden::plan(facts, declaration);
    whole.refusals.extend(role::refusals(facts, declaration));
    // Finishing takes away foreign keys that led to parents, and every column is filled by then.
    if step != Step::Finish {
        whole.refusals.extend(parents::refusals(facts, declaration));
    }
    match step {
        Step::Prepare { serve } => {
            let mut plan = whole.only(|statement| statement.stage == Stage::Prepare);
            plan.batches.extend(role::batches(facts, declaration, serve));
            plan
        }
        Step::Enforce(tables) => {
            let named = named(facts, declaration, tables);
            refuse_unknown(&mut whole, facts, declaration, tables);
            whole.only(|statement| {
                statement.stage == Stage::Enforce && (tables.is_empty() || named.contains(&statement.object))
            })
        }
        Step::Release(tables) => {
            refuse_unknown(&mut whole, facts, declaration, tables);
            release::plan(whole, facts, declaration, tables)
        }
        Step::Retire => Hardening { batches: role::batches(facts, declaration, false).into_iter().collect(), ..whole },
        Step::Finish => whole,
    }
}

/// Whether anything of the preparation is missing.
pub fn is_prepared(facts: &Facts, declaration: &Declaration) -> bool {
    let is_filled = facts.relations.iter().all(|relation| !lacks_column(facts, declaration, relation));
    let plan = harden::plan(facts, declaration);
    is_filled && plan.refusals.is_empty() && plan.only(|statement| statement.stage == Stage::Prepare).batches.is_empty()
}

/// Whether policies apply to everybody who comes to the table.
pub fn is_enforced(facts: &Facts, relation: &RelationFacts) -> bool {
    let owner = facts.role(&relation.owner);
    let is_exempt = owner.is_some_and(|owner| owner.superuser || owner.bypasses_rls);
    let holds = |policy: &PolicyFacts| is_exempt || policy.roles.contains(&relation.owner);
    relation.rls
        && relation.rls_forced
        && facts.policy(relation.oid, harden::POLICY_TENANT).is_some_and(holds)
        && facts.policy(relation.oid, harden::POLICY_OPEN).is_some_and(|policy| !policy.to_public)
}

fn lacks_column(facts: &Facts, declaration: &Declaration, relation: &RelationFacts) -> bool {
    relation.tenant.is_none() && matches!(parent(facts, declaration, relation), Ok(Some(_)))
}

/// Guardian's schema in the application's database.
const SCHEMA: &str = "guardian";

/// Whether the filling, which is first to need Guardian's schema, has to make it.
fn lacks_schema(facts: &Facts) -> bool {
    facts.schemas.iter().all(|schema| schema.name != SCHEMA)
}

/// The facts as they will be when the missing columns are there and filled.
fn with_columns(facts: &Facts, declaration: &Declaration) -> Facts {
    let mut facts = facts.clone();
    let tables = backfill::order(&facts, declaration);
    if !tables.is_empty() && lacks_schema(&facts) {
        let owner = facts.server.admin.clone();
        facts.schemas.push(SchemaFacts { name: SCHEMA.to_owned(), owner, grants: Vec::new() });
    }
    for table in tables {
        let column = facts
            .relations
            .iter()
            .find(|relation| relation.oid == table)
            .and_then(|relation| parent(&facts, declaration, relation).ok().flatten().and_then(|way| way.tenant));
        let family = family(&facts, table);
        for relation in facts.relations.iter_mut().filter(|relation| family.contains(&relation.oid)) {
            if relation.tenant.is_none() {
                relation.tenant.clone_from(&column);
            } else if let Some(tenant) = &mut relation.tenant {
                tenant.nulls = 0;
            }
        }
    }
    facts
}

/// A table with its partitions and children.
pub(crate) fn family(facts: &Facts, table: Oid) -> BTreeSet<Oid> {
    let mut family = BTreeSet::from([table]);
    loop {
        let more: Vec<Oid> = facts
            .relations
            .iter()
            .filter(|relation| !family.contains(&relation.oid) && relation.parents.iter().any(|oid| family.contains(oid)))
            .map(|relation| relation.oid)
            .collect();
        if more.is_empty() {
            return family;
        }
        family.extend(more);
    }
}

/// The tables that a person named, with their partitions and children, as reports name them.
fn named(facts: &Facts, declaration: &Declaration, tables: &[String]) -> BTreeSet<String> {
    let tables = tables.iter().filter_map(|name| find(facts, declaration, name));
    let oids: BTreeSet<Oid> = tables.flat_map(|table| family(facts, table.oid)).collect();
    facts.relations.iter().filter(|relation| oids.contains(&relation.oid)).map(label).collect()
}

/// A table of tenants by its name, with or without the schema.
fn find<'a>(facts: &'a Facts, declaration: &Declaration, name: &str) -> Option<&'a RelationFacts> {
    facts.relations.iter().find(|relation| {
        relation.tenant.is_some()
            && (label(relation) == name || relation.schema == declaration.schema && relation.name == name)
    })
}

fn refuse_unknown(plan: &mut Hardening, facts: &Facts, declaration: &Declaration, tables: &[String]) {
    for name in tables.iter().filter(|name| find(facts, declaration, name).is_none()) {
        plan.refusals.push(Refusal {
            object: name.clone(),
            problem: "there is no such table of tenants".to_owned(),
            ways_out: vec!["`guardian adopt status` lists them".to_owned()],
        });
    }
}
