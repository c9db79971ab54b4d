//! The rules: one list, one file each.
//!
//! Ids: 0xx row-level security and policies, 1xx the tenant context, 2xx roles and privileges, 3xx views, functions and code,
//! 4xx keys, indexes and sequences, 5xx server, settings and versions, 6xx operation and performance, 9xx the audit itself.

mod bypass_reachable;
mod foreign_table;
mod materialized_view;
mod outside_functions;
mod owner_not_forced;
mod owner_view;
mod policy_always_true;
mod revoke;
mod rewrite_rule;
mod rights;
mod rls_off;
mod user_mapping;
mod view_leaky_filter;
mod view_not_invoker;
mod view_unchecked;

use crate::rule::Rule;

/// Every rule, by id.
pub const ALL: &[Rule] = &[
    rls_off::RULE,
    owner_not_forced::RULE,
    policy_always_true::RULE,
    bypass_reachable::RULE,
    owner_view::RULE,
    view_not_invoker::RULE,
    materialized_view::RULE,
    foreign_table::RULE,
    user_mapping::RULE,
    outside_functions::RULE,
    view_leaky_filter::RULE,
    view_unchecked::RULE,
    rewrite_rule::RULE,
];

/// The rule of an id.
pub fn by_id(id: &str) -> Option<&'static Rule> {
    ALL.iter().find(|rule| rule.id.eq_ignore_ascii_case(id))
}
