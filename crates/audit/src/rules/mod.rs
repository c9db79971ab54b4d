//! The rules: one list, one file each.
//!
//! Ids: 0xx row-level security and policies, 1xx the tenant context, 2xx roles and privileges, 3xx views, functions and code,
//! 4xx keys, indexes and sequences, 5xx server, settings and versions, 6xx operation and performance, 9xx the audit itself.

mod bypass_reachable;
mod owner_not_forced;
mod owner_view;
mod policy_always_true;
mod rls_off;

use crate::rule::Rule;

/// Every rule, by id.
pub const ALL: &[Rule] =
    &[rls_off::RULE, owner_not_forced::RULE, policy_always_true::RULE, bypass_reachable::RULE, owner_view::RULE];

/// The rule of an id.
pub fn by_id(id: &str) -> Option<&'static Rule> {
    ALL.iter().find(|rule| rule.id.eq_ignore_ascii_case(id))
}
