//! What is neither table nor function: views, materialised views, foreign tables, sequences.

use super::{
    Stage, Statement,
    classes::Class,
    planner::{Planner, Reasons, grants, label, sql_name, statement},
    policies::{column_grants, still_held},
};
use crate::{
    facts::{RelationFacts, RelationKind},
    quote::ident,
};

const READ: &[&str] = &["SELECT"];
/// Bits of `pg_relation_is_updatable`.
const VIEW_RIGHTS: [(i32, &str); 3] = [(1 << 3, "INSERT"), (1 << 2, "UPDATE"), (1 << 4, "DELETE")];

impl Planner<'_> {
    /// Views run with the caller's rights; what cannot be filtered by tenant is closed.
    pub(super) fn harden_relations(&mut self) {
        for relation in &self.facts.relations {
            if relation.extension || relation.schema == "guardian" {
                continue;
            }
            let statements = match relation.kind {
                RelationKind::View => self.view(relation),
                RelationKind::MaterializedView => {
                    self.note(
                        label(relation),
                        "a materialised view knows no policies: it is closed to the application",
                        vec![
                            "a plain view, which runs with the caller's rights".to_owned(),
                            format!(
                                "a SECURITY BARRIER view over it that names the tenant, owned by `{}`",
                                self.declaration.roles.definer()
                            ),
                        ],
                    );
                    Self::closed(relation, "it holds every tenant's rows, and policies do not apply to it")
                }
                RelationKind::ForeignTable => {
                    self.note(
                        label(relation),
                        "a foreign table knows no policies: it is closed to the application",
                        vec!["a view over it that names the tenant, owned by a role that may read it".to_owned()],
                    );
                    Self::closed(relation, "it reaches another server under one identity, and policies do not apply to it")
                }
                RelationKind::Sequence => self.sequence(relation),
                RelationKind::Table | RelationKind::Partitioned => Vec::new(),
            };
            self.transaction(statements);
        }
    }

    fn view(&self, view: &RelationFacts) -> Vec<Statement> {
        let roles = &self.declaration.roles;
        let (object, name) = (label(view), sql_name(view));
        let mut statements = Vec::new();
        let has_invoker = self.facts.server.version >= 150_000;
        // Whoever was let in by the owner's rights needs rights of its own from here on; with nobody there, nobody notices.
        let unnoticed = has_invoker && view.others.is_empty() && view.grants.iter().all(|grant| grant.grantee.is_some());
        // Nobody would know afterwards whether the view had it before, and another owner can be taken back.
        let can_return = self.declaration.adoption.is_some() && !unnoticed && !view.security_invoker;
        if (!has_invoker || can_return) && view.owner != roles.definer() {
            let sql = format!("ALTER VIEW {name} OWNER TO {}", ident(roles.definer()));
            let reason = format!("it read with the rights of `{}`, whom no policy keeps to a tenant", view.owner);
            statements.push(statement(&object, sql, reason));
            statements = self.lend_create_in(&view.schema, statements, &[roles.definer()]);
        }
        if has_invoker && !view.security_invoker {
            let sql = format!("ALTER VIEW {name} SET (security_invoker = true)");
            let reason = format!("it read with the rights of `{}`; policies shall apply to the caller", view.owner);
            let set = statement(&object, sql, reason);
            statements.push(if can_return { set.last() } else { set });
        }
        let mut rights = vec!["SELECT"];
        rights.extend(VIEW_RIGHTS.iter().filter(|(bit, _)| view.updatable & bit != 0).map(|(_, right)| *right));
        let mut wanted: Vec<(&str, &[&str])> = vec![(roles.app(), &rights)];
        if has_invoker {
            wanted.extend([(roles.door(), READ), (roles.door_write(), &rights[..])]);
            // An owner needs no grant.
            if !can_return && view.owner != roles.definer() {
                wanted.push((roles.definer(), &rights));
            }
        }
        let reasons = Reasons {
            grant: "it runs with the caller's rights, under the policies of its tables",
            revoke: "only the application's roles read it",
        };
        statements.extend(column_grants(view, &object, &name));
        statements.extend(grants(&object, &format!("TABLE {name}"), &still_held(view), &wanted, reasons));
        let stage = |statement: Statement| match (statement.stage, unnoticed) {
            (Stage::Prepare | Stage::Enforce, true) => statement.inert(),
            (_, _) => statement.no_sooner(Stage::Enforce),
        };
        statements.into_iter().map(stage).collect()
    }

    fn closed(relation: &RelationFacts, reason: &str) -> Vec<Statement> {
        let (object, name) = (label(relation), sql_name(relation));
        let mut statements = column_grants(relation, &object, &name);
        let reasons = Reasons { grant: "", revoke: reason };
        statements.extend(grants(&object, &format!("TABLE {name}"), &still_held(relation), &[], reasons));
        statements
    }

    fn sequence(&self, sequence: &RelationFacts) -> Vec<Statement> {
        let roles = &self.declaration.roles;
        let (object, name) = (label(sequence), sql_name(sequence));
        let of_global = sequence.owned_by.is_some_and(|table| self.classes.get(&table) != Some(&Class::Tenant));
        let users = [roles.app(), roles.definer(), roles.door_write()].map(|role| (role, &["USAGE"][..]));
        let wanted: &[(&str, &[&str])] = if sequence.identity || of_global { &[] } else { &users };
        let reasons = Reasons {
            grant: "the column's default draws from it",
            revoke: "SELECT shows, and UPDATE sets, how far all tenants together have counted",
        };
        grants(&object, &format!("SEQUENCE {name}"), &sequence.grants, wanted, reasons)
    }
}
