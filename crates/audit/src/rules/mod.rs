//! The rules: one list, one file each.
//!
//! Ids: 0xx row-level security and policies, 1xx the tenant context, 2xx roles and privileges, 3xx views, functions and code,
//! 4xx keys, indexes and sequences, 5xx server, settings and versions, 6xx operation and performance, 9xx the audit itself.

mod activity_shown;
mod backup_filtered;
mod bypass_reachable;
mod child_without_tenant;
mod closed_statistics;
mod connections_unlimited;
mod context_by_definer;
mod context_by_role;
mod context_default;
mod context_empty;
mod context_flag;
mod context_forgeable;
mod context_function_immutable;
mod context_raises_empty;
mod context_user_metadata;
mod creates_databases;
mod creates_roles;
mod database_writable;
mod default_privileges;
mod definer_dynamic_sql;
mod definer_function;
mod definer_path_writable;
mod definer_search_path;
mod definer_trigger;
mod definers;
mod end_of_life;
pub(crate) mod exception_expired;
pub(crate) mod exception_refused;
pub(crate) mod exception_unused;
mod exposure;
mod false_leakproof;
mod fk_sets_tenant;
mod fk_without_tenant;
mod foreign_table;
mod grants;
mod hba;
mod hba_trust;
mod hba_weak;
mod immutable_reads;
mod index_unused;
mod known_vulnerabilities;
mod language_opened;
mod large_objects;
mod lock_table_small;
mod logical_slot;
mod maintain_granted;
mod materialized_view;
mod native_code;
mod open_without_context;
mod outside_functions;
mod owner_not_forced;
mod owner_reachable;
mod owner_view;
mod parameter_granted;
mod parameters_logged;
mod partition_granted;
mod password_md5;
mod policies_without_rls;
mod policy_alternatives;
mod policy_always_true;
mod policy_check_looser;
mod policy_function_volatile;
mod policy_shows_others;
mod policy_trusts_writable;
mod policy_undecided;
mod policy_without_tenant;
mod prepared_transactions;
mod provider_role_reachable;
mod public_connect;
mod public_grants;
mod publication;
mod references_granted;
mod replaceable_code;
mod replaceable_domain;
mod replication_reachable;
mod revoke;
mod rewrite_rule;
mod rights;
mod rls_off;
mod rls_without_policy;
pub(crate) mod rule_not_run;
mod schema_writable;
mod secret_catalog_readable;
mod sequence_readable;
mod sequence_settable;
mod server_functions_granted;
mod session_defaults;
mod sessions_terminable;
mod settings;
mod shared_counter;
mod shared_role;
mod shared_statistics;
mod size;
mod statements_shown;
mod statistics_views_open;
mod system_role_reachable;
mod table_too_big;
mod temporary_objects;
mod tenant_default_constant;
mod tenant_index_missing;
mod tenant_keys;
mod tenant_nullable;
mod tenant_type_differs;
mod tls_off;
mod trigger_granted;
mod truncate_granted;
mod unique_without_tenant;
mod unsafe_defaults;
mod user_mapping;
mod view_leaky_filter;
mod view_not_invoker;
mod view_unchecked;
mod vulnerabilities;

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
    closed_statistics::RULE,
    policy_trusts_writable::RULE,
    policy_without_tenant::RULE,
    tenant_nullable::RULE,
    tenant_type_differs::RULE,
    tenant_default_constant::RULE,
    policy_undecided::RULE,
    context_forgeable::RULE,
    context_flag::RULE,
    open_without_context::RULE,
    context_user_metadata::RULE,
    context_by_role::RULE,
    context_empty::RULE,
    context_raises_empty::RULE,
    context_function_immutable::RULE,
    context_by_definer::RULE,
    bypass_reachable::RULE,
    creates_roles::RULE,
    system_role_reachable::RULE,
    provider_role_reachable::RULE,
    replication_reachable::RULE,
    creates_databases::RULE,
    owner_reachable::RULE,
    truncate_granted::RULE,
    trigger_granted::RULE,
    references_granted::RULE,
    maintain_granted::RULE,
    schema_writable::RULE,
    database_writable::RULE,
    temporary_objects::RULE,
    public_grants::RULE,
    public_connect::RULE,
    default_privileges::RULE,
    language_opened::RULE,
    secret_catalog_readable::RULE,
    server_functions_granted::RULE,
    statements_shown::RULE,
    activity_shown::RULE,
    sessions_terminable::RULE,
    large_objects::RULE,
    parameter_granted::RULE,
    connections_unlimited::RULE,
    shared_role::RULE,
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
    replaceable_domain::RULE,
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
    known_vulnerabilities::RULE,
    end_of_life::RULE,
    statistics_views_open::RULE,
    unsafe_defaults::RULE,
    password_md5::RULE,
    tls_off::RULE,
    hba_trust::RULE,
    hba_weak::RULE,
    parameters_logged::RULE,
    lock_table_small::RULE,
    context_default::RULE,
    prepared_transactions::RULE,
    publication::RULE,
    logical_slot::RULE,
    policy_alternatives::RULE,
    table_too_big::RULE,
    shared_statistics::RULE,
    backup_filtered::RULE,
    policy_function_volatile::RULE,
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
