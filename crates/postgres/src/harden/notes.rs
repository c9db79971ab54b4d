//! What no statement can mend, told each time: it is the operator's to weigh.

use super::{
    POLICY_DOOR, POLICY_DOOR_WRITE, POLICY_OPEN, POLICY_TENANT,
    classes::Class,
    planner::{Planner, label},
};
use crate::quote::ident;

impl Planner<'_> {
    /// Indexes out of use, policies without effect, roles and publications beside the policies.
    pub(super) fn note_what_remains(&mut self) {
        self.note_leaky_indexes();
        self.note_policies();
        self.note_roles();
        let facts = self.facts;
        for publication in &facts.publications {
            self.note(
                format!("publication {publication}"),
                "it carries every tenant's rows to its subscribers, past all policies",
                vec!["make sure that each subscriber may see every tenant, or give it a row filter (15+)".to_owned()],
            );
        }
        if facts.server.max_prepared_transactions > 0 {
            self.note(
                "max_prepared_transactions",
                "a session can leave a prepared transaction behind: it keeps its locks, and any session of the role can end it",
                vec!["max_prepared_transactions = 0, unless a transaction manager needs it".to_owned()],
            );
        }
        let global = self.declaration.global.keys().map(|name| ("global", Class::Global, name));
        let closed = self.declaration.closed.keys().map(|name| ("closed", Class::Closed, name));
        for (section, class, name) in global.chain(closed) {
            let is_used = facts
                .relations
                .iter()
                .any(|relation| relation.name == *name && self.classes.get(&relation.oid) == Some(&class));
            let is_tenant = facts.relations.iter().any(|relation| relation.name == *name && relation.tenant.is_some());
            if !is_used && !is_tenant {
                self.note(
                    format!("application.{section}.{name}"),
                    "the application's schema has no table of this name",
                    vec!["correct the name in guardian.toml, or take the line out".to_owned()],
                );
            }
        }
    }

    fn note_leaky_indexes(&mut self) {
        for index in &self.facts.leaky_indexes {
            let Some(table) = self.relation(index.table).filter(|table| self.is_tenant_owned(table.oid)) else { continue };
            self.note(
                format!("index {} on {}", index.name, label(table)),
                format!(
                    "row-level security keeps the planner from using it for {}: the operators are not leakproof, so the rows of \
                     the tenant are found first, and then looked through one by one",
                    index.columns.join(", ")
                ),
                vec![
                    "LIST partitions by tenant for the largest ones: then only theirs are looked through".to_owned(),
                    "schema or database isolation for tenants that need the index: no policies there".to_owned(),
                ],
            );
        }
    }

    fn note_policies(&mut self) {
        for policy in &self.facts.policies {
            if [POLICY_OPEN, POLICY_TENANT, POLICY_DOOR, POLICY_DOOR_WRITE].contains(&policy.name.as_str()) {
                continue;
            }
            let Some(table) = self.relation(policy.table).filter(|table| self.is_tenant_owned(table.oid)) else { continue };
            let text = if policy.permissive {
                format!(
                    "a permissive policy beside `{POLICY_OPEN}`: it lets no more through and no less, but is still evaluated"
                )
            } else {
                format!("a restrictive policy of yours: it stays, and holds together with `{POLICY_TENANT}`")
            };
            self.note(
                format!("policy {} on {}", policy.name, label(table)),
                text,
                vec![format!("DROP POLICY {} ON {}", ident(&policy.name), super::planner::sql_name(table))],
            );
        }
    }

    fn note_roles(&mut self) {
        let ours = self.declaration.roles.all();
        for role in &self.facts.roles {
            if ours.contains(&role.name.as_str()) || role.name == self.facts.server.admin {
                continue;
            }
            let name = &role.name;
            if role.superuser && role.logs_in {
                self.note(
                    format!("role {name}"),
                    "a superuser that can log in passes every policy",
                    vec!["let applications connect as the application's role only".to_owned()],
                );
            } else if role.bypasses_rls {
                self.note(
                    format!("role {name}"),
                    "BYPASSRLS: it passes every policy",
                    vec![format!("ALTER ROLE {} NOBYPASSRLS", ident(name))],
                );
            } else if role.replicates && role.logs_in {
                self.note(
                    format!("role {name}"),
                    "REPLICATION: it can read every tenant's rows from the log",
                    vec![format!("ALTER ROLE {} NOREPLICATION", ident(name))],
                );
            } else if role.owns_tables && role.logs_in {
                self.note(
                    format!("role {name}"),
                    "it owns tables and can log in: policies apply to it, but it can take them away",
                    vec!["keep it for migrations; the application connects as its own role".to_owned()],
                );
            }
        }
    }
}
