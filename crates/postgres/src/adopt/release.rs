//! The way back from enforcement: what enforcing did, undone table by table, each in one short transaction.

use guardian_model::KeyType;

use super::{backfill, family, find, parent, role};
use crate::{
    facts::{Facts, Oid, RelationFacts, RelationKind},
    harden::{
        Batch, Declaration, Hardening, POLICY_OPEN, POLICY_TENANT, Statement,
        columns::{IS_OWN, NOT_EMPTY, NOT_NULL},
        keys::swap_name,
        planner::{label, sql_name, statement},
        policies::{is_for_roles, our_roles},
    },
    quote::{ident, qualified},
    register::normal_form,
};

/// The statements that release these tables; all of them, with functions and views, when there are none.
pub(super) fn plan(whole: Hardening, facts: &Facts, declaration: &Declaration, tables: &[String]) -> Hardening {
    let oids: Vec<Oid> = if tables.is_empty() {
        facts.relations.iter().filter(|relation| relation.tenant.is_some()).map(|relation| relation.oid).collect()
    } else {
        let found = tables.iter().filter_map(|name| find(facts, declaration, name));
        found.flat_map(|table| family(facts, table.oid)).collect()
    };
    let mut batches = Vec::new();
    if tables.is_empty() {
        // First of all, so that nobody is left without rights.
        batches.extend(role::batches(facts, declaration, true));
    }
    for relation in facts.relations.iter().filter(|relation| oids.contains(&relation.oid)) {
        let statements = table(facts, declaration, &whole, relation);
        if !statements.is_empty() {
            batches.push(Batch::Transaction(statements));
        }
    }
    if tables.is_empty() {
        let given_back = owners(facts, declaration);
        if !given_back.is_empty() {
            batches.push(Batch::Transaction(given_back));
        }
    }
    Hardening { batches, refusals: whole.refusals.into_iter().filter(|one| is_about(one, declaration)).collect(), ..whole }
}

/// What is undecided about the hardening must not keep anybody from going back.
fn is_about(refusal: &crate::harden::Refusal, declaration: &Declaration) -> bool {
    refusal.problem == "there is no such table of tenants"
        || declaration.adoption.is_none() && refusal.object == "adoption.existing_role"
}

fn table(facts: &Facts, declaration: &Declaration, whole: &Hardening, table: &RelationFacts) -> Vec<Statement> {
    let (object, name) = (label(table), sql_name(table));
    let mut statements = Vec::new();
    let mut add = |sql: String, reason: &str| statements.push(statement(&object, sql, reason));
    if table.rls_forced {
        add(
            format!("ALTER TABLE {name} NO FORCE ROW LEVEL SECURITY"),
            "the owner, and who stands in for it, sees every row again",
        );
    }
    if facts.policy(table.oid, POLICY_OPEN).is_some_and(|policy| !policy.to_public) {
        add(format!("ALTER POLICY {POLICY_OPEN} ON {name} TO PUBLIC"), "others than the application read the table again");
    }
    if facts.policy(table.oid, POLICY_TENANT).is_some_and(|policy| !is_for_roles(policy, &declaration.roles)) {
        let ours = our_roles(&declaration.roles);
        add(format!("ALTER POLICY {POLICY_TENANT} ON {name} TO {ours}"), "it holds for Guardian's own roles alone");
    }
    if let Some(tenant) = &table.tenant {
        let value = whole.mechanism.value(declaration.tenant_key);
        let is_ours = tenant.default.as_deref().is_some_and(|default| normal_form(default) == normal_form(&value));
        if is_ours && !table.partition {
            let column = ident(&declaration.tenant_column);
            add(
                format!("ALTER TABLE {name} ALTER COLUMN {column} DROP DEFAULT"),
                "an insert without a context fails with it",
            );
        }
    }
    let checks =
        if declaration.tenant_key == KeyType::Text { &[NOT_NULL, IS_OWN, NOT_EMPTY][..] } else { &[NOT_NULL, IS_OWN][..] };
    for check in table.checks.iter().filter(|check| checks.contains(&check.name.as_str())) {
        let is_inherited = table.parents.iter().any(|oid| {
            facts.relations.iter().any(|one| one.oid == *oid && one.checks.iter().any(|other| other.name == check.name))
        });
        if !is_inherited {
            add(
                format!("ALTER TABLE {name} DROP CONSTRAINT {}", ident(&check.name)),
                "the application may do again what it could",
            );
        }
    }
    for old in facts.foreign_keys.iter().filter(|old| old.table == table.oid) {
        let new = swap_name(&old.name);
        if facts.foreign_keys.iter().any(|one| one.table == table.oid && one.name == new) {
            add(format!("ALTER TABLE {name} DROP CONSTRAINT {}", ident(&new)), "the foreign key from before is still there");
        }
    }
    if let Ok(Some(way)) = parent(facts, declaration, table)
        && table.tenant.is_some()
        && !facts.fill_triggers.contains(&table.oid)
    {
        statements.extend(backfill::trigger(facts, declaration, table, &way));
    }
    statements
}

/// Views and functions go back to the role that the application uses.
fn owners(facts: &Facts, declaration: &Declaration) -> Vec<Statement> {
    let Some(adoption) = &declaration.adoption else { return Vec::new() };
    let (definer, owner) = (declaration.roles.definer(), ident(&adoption.existing_role));
    let reason = "it runs with the rights of the application's role again";
    let views =
        facts.relations.iter().filter(|one| one.kind == RelationKind::View && one.owner == definer && !one.extension);
    let views = views.map(|view| statement(&label(view), format!("ALTER VIEW {} OWNER TO {owner}", sql_name(view)), reason));
    let functions = facts.functions.iter().filter(|one| one.schema == declaration.schema && one.owner == definer);
    let functions = functions.map(|function| {
        let kind = if function.kind == 'p' { "PROCEDURE" } else { "FUNCTION" };
        let name = format!("{}({})", qualified(&function.schema, &function.name), function.arguments);
        statement(&name, format!("ALTER {kind} {name} OWNER TO {owner}"), reason)
    });
    views.chain(functions).collect()
}
