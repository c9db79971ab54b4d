//! What PostgreSQL itself makes of a policy's predicate on rows that do not exist.

use serde::{Deserialize, Serialize};

use super::Oid;

/// Which predicate of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PredicateKind {
    /// A policy's USING.
    Using,
    /// A policy's WITH CHECK.
    Check,
}

/// The verdict on one predicate. With `undecided`, the other fields say nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "they are independent observations")]
pub struct Truth {
    /// The policy.
    pub policy: Oid,
    /// Which predicate of it.
    pub predicate: PredicateKind,
    /// True on every row tried, in every context tried.
    pub always_true: bool,
    /// True on some row although no tenant was set.
    pub true_without_context: bool,
    /// True on a row of a tenant other than the one that was set.
    pub true_for_other_tenant: bool,
    /// True on a row whose columns are all null.
    pub true_on_null: bool,
    /// Settings that make it true for another tenant when set to an ordinary flag value.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub opened_by: Vec<String>,
    /// Why there is no verdict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undecided: Option<String>,
}
