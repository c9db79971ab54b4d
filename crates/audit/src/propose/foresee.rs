//! The database as it will be once the migration has run, for the hardening.

use std::collections::BTreeSet;

use guardian_model::KeyType;
use guardian_postgres::facts::{Facts, TenantColumn};

use super::{Class, Proposal};
use crate::facts::Oid;

impl Proposal {
    /// Gives the hardening's facts, collected from the same database, what the migration will make: the columns, and the
    /// foreign keys that move over to them.
    pub fn foresee(&self, facts: &mut Facts) {
        let mut owned: BTreeSet<Oid> =
            self.tables.iter().filter(|table| table.class.is_owned()).map(|table| table.oid).collect();
        // Partitions and children, level by level.
        loop {
            let is_child = |parents: &[Oid]| parents.iter().any(|parent| owned.contains(parent));
            let more: Vec<Oid> = facts.relations.iter().filter(|one| is_child(&one.parents)).map(|one| one.oid).collect();
            let before = owned.len();
            owned.extend(more);
            if owned.len() == before {
                break;
            }
        }
        let root = self.tables.iter().find(|table| table.class == Class::Root).map(|table| table.oid);
        for relation in facts.relations.iter_mut().filter(|one| one.tenant.is_none() && owned.contains(&one.oid)) {
            let is_root = root == Some(relation.oid);
            relation.tenant = Some(TenantColumn {
                written_type: self.column_type.clone(),
                base_type: match self.tenant_key {
                    KeyType::Uuid => "uuid",
                    KeyType::Bigint => "bigint",
                    KeyType::Text => "text",
                }
                .to_owned(),
                not_null: is_root,
                generated: is_root,
                default: None,
                nulls: 0,
                unfit: 0,
                largest_share: None,
            });
        }
        let (Some(root), Some(root_key)) = (root, &self.root_key) else { return };
        let column = &self.tenant.column;
        for foreign_key in &mut facts.foreign_keys {
            let moves = foreign_key.referenced == root
                && owned.contains(&foreign_key.table)
                && foreign_key.columns == std::slice::from_ref(column)
                && foreign_key.referenced_columns == std::slice::from_ref(root_key);
            if moves {
                foreign_key.referenced_columns.clone_from(&foreign_key.columns);
                // An index that is not there yet.
                foreign_key.referenced_index = 0;
            }
        }
    }
}
