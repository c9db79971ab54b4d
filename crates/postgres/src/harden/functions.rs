//! The application's functions: those that run with their owner's rights run as a role that policies apply to.

use super::{
    Stage, Statement,
    planner::{Planner, Reasons, grants, statement},
};
use crate::{
    facts::FunctionFacts,
    quote::{ident, qualified},
};

const EXECUTE: &[&str] = &["EXECUTE"];

impl Planner<'_> {
    /// Owners, search paths, LEAKPROOF and EXECUTE.
    pub(super) fn harden_functions(&mut self) {
        let schema = &self.declaration.schema;
        for function in &self.facts.functions {
            if function.schema == *schema {
                let statements = self.function(function);
                let statements = self.lend_create_in(schema, statements, &[self.declaration.roles.definer()]);
                self.transaction(statements);
            } else if function.schema != "guardian" && function.definer {
                self.note(
                    label(function),
                    format!("the application may call it, and it runs with the rights of `{}`", function.owner),
                    vec![format!("REVOKE EXECUTE ON {} FROM PUBLIC", sql_name(function))],
                );
            }
            if function.schema == *schema && function.volatility == 'i' && function.reads_settings {
                self.note(
                    label(function),
                    "it is IMMUTABLE, yet reads a setting: a plan may keep one tenant's value for the next",
                    vec![format!("ALTER {} STABLE", sql_name(function))],
                );
            }
        }
    }

    /// The functions that filled tenant columns, and how far the filling came: once no trigger is left to call them.
    pub(super) fn forget_filling(&mut self) {
        let mut statements = Vec::new();
        let filling = |function: &&FunctionFacts| function.schema == "guardian" && function.name.starts_with("fill_");
        for function in self.facts.functions.iter().filter(filling) {
            let sql = format!("DROP {}", sql_name(function));
            statements.push(statement(&label(function), sql, "no column needs filling any more").last());
        }
        if self.facts.relations.iter().any(|found| found.schema == "guardian" && found.name == "backfill") {
            let sql = "DROP TABLE guardian.backfill";
            statements.push(statement("guardian.backfill", sql, "no column needs filling any more").last());
        }
        self.transaction(statements);
    }

    fn function(&self, function: &FunctionFacts) -> Vec<Statement> {
        let roles = &self.declaration.roles;
        let (object, name) = (label(function), sql_name(function));
        let mut statements = Vec::new();
        if function.leakproof {
            let sql = format!("ALTER {name} NOT LEAKPROOF");
            statements.push(
                statement(&object, sql, "a leakproof function is handed rows before the policy has looked at them").last(),
            );
        }
        if function.definer {
            if let Some(path) = pinned_search_path(function, &self.declaration.schema) {
                let sql = format!("ALTER {name} SET search_path = {path}");
                let reason = "it runs with its owner's rights, so the caller shall not choose what its names mean";
                statements.push(statement(&object, sql, reason));
            }
            if function.owner != roles.definer() {
                let sql = format!("ALTER {name} OWNER TO {}", ident(roles.definer()));
                let reason = format!("it ran with the rights of `{}`; now policies apply inside it", function.owner);
                statements.push(statement(&object, sql, reason));
            }
        }
        let mut wanted = vec![(roles.app(), EXECUTE)];
        // The owner's own rights are no grant, and would show up as one that is missing.
        if !function.definer {
            wanted.push((roles.definer(), EXECUTE));
            // Such a function does as its caller may; one that runs as its owner would ask for a tenant.
            wanted.extend([(roles.door(), EXECUTE), (roles.door_write(), EXECUTE)]);
        }
        let reasons =
            Reasons { grant: "the application calls it", revoke: "only the application's roles call its functions" };
        // A new owner takes the old one's place in the access list.
        let held: Vec<_> = function
            .grants
            .iter()
            .filter(|grant| !(function.definer && grant.grantee.as_deref() == Some(roles.definer())))
            .cloned()
            .collect();
        let granted = grants(&object, &name, &held, &wanted, reasons);
        // One that runs with its owner's rights is opened once those are the right ones.
        let late = |statement: Statement| if function.definer { statement.no_sooner(Stage::Enforce) } else { statement };
        statements.extend(granted.into_iter().map(late));
        statements
    }
}

/// A function as reports name it.
pub(super) fn label(function: &FunctionFacts) -> String {
    format!("{}.{}({})", function.schema, function.name, function.arguments)
}

/// A function as SQL names it, with its kind: it also stands after `ALTER` and `ON`.
pub(super) fn sql_name(function: &FunctionFacts) -> String {
    // Aggregates are granted as functions, and never run with their owner's rights.
    let kind = if function.kind == 'p' { "PROCEDURE" } else { "FUNCTION" };
    format!("{kind} {}({})", qualified(&function.schema, &function.name), function.arguments)
}

/// The search path a SECURITY DEFINER function should have; `None` when it has a sound one.
fn pinned_search_path(function: &FunctionFacts, schema: &str) -> Option<String> {
    let path = function.settings.iter().find_map(|setting| setting.strip_prefix("search_path="));
    match path {
        None => Some(format!("pg_catalog, {}, pg_temp", ident(schema))),
        Some("" | "\"\"") => Some("pg_catalog, pg_temp".to_owned()),
        Some(path) if path.split(',').next_back().is_some_and(|last| last.trim() == "pg_temp") => None,
        // The catalog keeps the list quoted as SQL wants it.
        Some(path) => Some(format!("{path}, pg_temp")),
    }
}
