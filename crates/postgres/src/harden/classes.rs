//! Whose rows a table holds, and the refusal of tables of which that is not known.

use std::collections::BTreeMap;

use super::{
    Declaration,
    planner::{Planner, label},
};
use crate::facts::{Oid, RelationFacts, RelationKind, TenantColumn};

/// Whose rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Each row is one tenant's.
    Tenant,
    /// Nobody's, by declaration.
    Global,
    /// Nobody's, and not for tenants to read, by declaration.
    Closed,
    /// Not known: refused.
    Undecided,
}

impl Class {
    /// `None` for what is no table of the application: views, sequences, extensions' tables, Guardian's own.
    pub(super) fn of(
        relation: &RelationFacts,
        relations: &BTreeMap<Oid, &RelationFacts>,
        declaration: &Declaration,
    ) -> Option<Self> {
        let is_table = matches!(relation.kind, RelationKind::Table | RelationKind::Partitioned);
        if !is_table || relation.extension || relation.schema == "guardian" {
            return None;
        }
        if relation.partition
            && let Some(parent) = relation.parents.first().and_then(|oid| relations.get(oid))
        {
            return Self::of(parent, relations, declaration);
        }
        if relation.tenant.is_some() {
            Some(Self::Tenant)
        } else if declaration.global.contains_key(&relation.name) {
            Some(Self::Global)
        } else if declaration.closed.contains_key(&relation.name) {
            Some(Self::Closed)
        } else {
            Some(Self::Undecided)
        }
    }
}

impl Planner<'_> {
    /// Refuses tables without a decision and tenant columns that cannot carry the context.
    pub(super) fn refuse_what_is_undecided(&mut self) {
        for relation in self.facts.relations.iter().filter(|relation| !relation.partition) {
            match self.classes.get(&relation.oid) {
                Some(Class::Undecided) => self.refuse_undecided(relation),
                Some(Class::Tenant) => {
                    if let Some(tenant) = &relation.tenant {
                        self.refuse_unfit(relation, tenant);
                    }
                }
                Some(Class::Global | Class::Closed) | None => {}
            }
        }
        self.refuse_another_application();
        for rule in &self.facts.rules {
            if let Some(relation) = self.relation(rule.table)
                && !relation.extension
            {
                self.refuse(
                    format!("rule {} on {}", rule.name, label(relation)),
                    format!("its action runs with the rights of `{}`, whoever sends the statement", relation.owner),
                    vec![
                        "replace it by a trigger, whose function runs with the caller's rights".to_owned(),
                        format!("DROP RULE {} ON {}", crate::quote::ident(&rule.name), super::planner::sql_name(relation)),
                    ],
                );
            }
        }
    }

    /// Two applications in one database would share a registry, and one's capability could open the other's tenant.
    fn refuse_another_application(&mut self) {
        let own = self.declaration.roles.registry();
        let registry =
            self.facts.relations.iter().find(|relation| relation.schema == "guardian" && relation.name == "capability");
        if let Some(other) = registry.map(|registry| registry.owner.as_str())
            && let Some(application) = other.strip_suffix("_registry")
            && other != own
        {
            self.refuse(
                format!("database {}", self.facts.database.name),
                format!("it belongs to the application `{application}` already"),
                vec![
                    "give each application a database of its own: `application.database`".to_owned(),
                    format!("the application has a new name: rename the roles `{application}_…` to match it"),
                ],
            );
        }
    }

    fn refuse_undecided(&mut self, relation: &RelationFacts) {
        let declaration = self.declaration;
        let column = &declaration.tenant_column;
        self.refuse(
            label(relation),
            format!("it has neither the column `{column}` nor a declaration that it is global"),
            vec![
                format!(
                    "its rows belong to tenants: ALTER TABLE {} ADD COLUMN {} {} (fill it, then run again)",
                    super::planner::sql_name(relation),
                    crate::quote::ident(column),
                    declaration.tenant_key.sql_type()
                ),
                format!(
                    "it holds the same for every tenant, read-only for the application; in guardian.toml:\n\
                     [application.global]\n{} = \"why\"",
                    toml_key(&relation.name)
                ),
                format!(
                    "no tenant reads it, and the application only by another role; in guardian.toml:\n\
                     [application.closed]\n{} = \"why\"",
                    toml_key(&relation.name)
                ),
            ],
        );
    }

    fn refuse_unfit(&mut self, relation: &RelationFacts, tenant: &TenantColumn) {
        let declaration = self.declaration;
        let column = &declaration.tenant_column;
        let table = super::planner::sql_name(relation);
        let object = format!("{}.{column}", label(relation));
        let declared = [
            ("global", &declaration.global, "every tenant would read every row"),
            ("closed", &declaration.closed, "its tenants could not read their rows"),
        ];
        if let Some((section, _, problem)) = declared.into_iter().find(|(_, tables, _)| tables.contains_key(&relation.name))
        {
            self.refuse(
                label(relation),
                format!("it is declared {section}, but it has the column `{column}`: {problem}"),
                vec![
                    format!("take it out of [application.{section}]; its rows are then kept apart"),
                    format!("ALTER TABLE {table} DROP COLUMN {}", crate::quote::ident(column)),
                ],
            );
            return;
        }
        if !declaration.column_types().contains(&tenant.base_type.as_str()) {
            self.refuse(
                object,
                format!("its type is {}; `application.tenant_key` says {}", tenant.written_type, declaration.tenant_key),
                vec![
                    format!(
                        "ALTER TABLE {table} ALTER COLUMN {0} TYPE {1} USING {0}::{1}",
                        crate::quote::ident(column),
                        declaration.tenant_key.sql_type()
                    ),
                    "correct `application.tenant_key` in guardian.toml".to_owned(),
                ],
            );
            return;
        }
        if tenant.nulls > 0 {
            self.refuse(
                object.clone(),
                format!("{} {} no tenant (NULL)", tenant.nulls, rows_have(tenant.nulls)),
                vec![
                    format!("say whose they are: UPDATE {table} SET {0} = … WHERE {0} IS NULL", crate::quote::ident(column)),
                    format!("they are nobody's: DELETE FROM {table} WHERE {} IS NULL", crate::quote::ident(column)),
                ],
            );
        }
        if tenant.unfit > 0 {
            self.refuse(
                object,
                format!(
                    "{} {} a key that the register cannot carry: {}",
                    tenant.unfit,
                    rows_have(tenant.unfit),
                    if declaration.tenant_key == guardian_model::KeyType::Bigint {
                        "it is negative"
                    } else {
                        "a text key has 1 to 200 letters, digits, _, - and ."
                    }
                ),
                vec![
                    "give those tenants other keys, in every table".to_owned(),
                    "add a second key column of type uuid, and name it in `application.tenant_column`".to_owned(),
                ],
            );
        }
    }
}

fn rows_have(count: i64) -> &'static str {
    if count == 1 { "row has" } else { "rows have" }
}

/// A name as a TOML key.
pub(super) fn toml_key(name: &str) -> String {
    let bare = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    if bare { name.to_owned() } else { format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\"")) }
}
