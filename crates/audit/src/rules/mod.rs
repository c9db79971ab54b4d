//! The rules: one list, one file each.
//!
//! Ids: 0xx row-level security and policies, 1xx the tenant context, 2xx roles and privileges, 3xx views, functions and code,
//! 4xx keys, indexes and sequences, 5xx server, settings and versions, 6xx operation and performance, 9xx the audit itself.

mod backup_filtered;
mod bypass_reachable;
mod child_without_tenant;
mod context_flag;
mod definer_dynamic_sql;
mod definer_function;
mod definer_path_writable;
mod definer_search_path;
mod definer_trigger;
mod definers;
pub(crate) mod exception_expired;
pub(crate) mod exception_refused;
pub(crate) mod exception_unused;
mod exposure;
mod false_leakproof;
mod fk_sets_tenant;
mod fk_without_tenant;
mod foreign_table;
mod immutable_reads;
mod index_unused;
mod materialized_view;
mod native_code;
mod open_without_context;
mod outside_functions;
mod owner_not_forced;
mod owner_view;
mod partition_granted;
mod policies_without_rls;
mod policy_alternatives;
mod policy_always_true;
mod policy_check_looser;
mod policy_shows_others;
mod replaceable_code;
mod revoke;
mod rewrite_rule;
mod rights;
mod rls_off;
mod rls_without_policy;
pub(crate) mod rule_not_run;
mod sequence_readable;
mod sequence_settable;
mod settings;
mod shared_counter;
mod shared_statistics;
mod size;
mod table_too_big;
mod tenant_index_missing;
mod tenant_keys;
mod unique_without_tenant;
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
    policies_without_rls::RULE,
    rls_without_policy::RULE,
    policy_shows_others::RULE,
    policy_check_looser::RULE,
    context_flag::RULE,
    open_without_context::RULE,
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
    definer_function::RULE,
    definer_search_path::RULE,
    definer_path_writable::RULE,
    definer_dynamic_sql::RULE,
    definer_trigger::RULE,
    false_leakproof::RULE,
    immutable_reads::RULE,
    replaceable_code::RULE,
    native_code::RULE,
    partition_granted::RULE,
    unique_without_tenant::RULE,
    fk_without_tenant::RULE,
    child_without_tenant::RULE,
    fk_sets_tenant::RULE,
    sequence_settable::RULE,
    sequence_readable::RULE,
    shared_counter::RULE,
    tenant_index_missing::RULE,
    index_unused::RULE,
    policy_alternatives::RULE,
    table_too_big::RULE,
    shared_statistics::RULE,
    backup_filtered::RULE,
    exception_expired::RULE,
    exception_unused::RULE,
    rule_not_run::RULE,
    exception_refused::RULE,
];

/// The check of the audit's own rules: they judge findings, exceptions and missing facts, which are there only afterwards, in
/// [`crate::audit()`] and [`crate::exceptions::apply`].
fn judged_afterwards(_: &crate::rule::Audit<'_>) -> Vec<crate::finding::Hit> {
    Vec::new()
}

/// The rule of an id.
pub fn by_id(id: &str) -> Option<&'static Rule> {
    ALL.iter().find(|rule| rule.id.eq_ignore_ascii_case(id))
}
