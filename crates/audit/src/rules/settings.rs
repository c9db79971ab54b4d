//! Which settings policies read, and which of them the application's session may set.

use std::collections::BTreeSet;

use crate::{
    facts::{Catalog, Facts, Function, Policy, PredicateKind, Privilege},
    rule::Audit,
};

/// Why a session of the application may give a setting any value; `None`: it may not, as far as the facts say.
pub(super) fn who_may_set(audit: &Audit<'_>, name: &str) -> Option<String> {
    let Audit { facts, reach, .. } = audit;
    let lower = name.to_ascii_lowercase();
    let Some(setting) = facts.settings.iter().find(|setting| setting.name.eq_ignore_ascii_case(name)) else {
        // Settings that no library defines belong to whoever sets them.
        return lower.contains('.').then(|| "any session may SET it".to_owned());
    };
    if setting.context == "user" {
        return Some("any session may SET it".to_owned());
    }
    let grants = facts.parameter_grants.iter().filter(|grant| grant.parameter.eq_ignore_ascii_case(name));
    let holder = grants
        .flat_map(|grant| &grant.acl)
        .find(|grant| grant.privileges.contains(&Privilege::Set) && reach.role(grant.to).is_some())?;
    Some(format!("SET on it is granted to {}", crate::finding::readable(&facts.role_name(holder.to))))
}

/// The settings that a policy reads: in its predicates, and in the text of functions that it calls and that run with their caller's
/// rights. One that runs with its owner's may check what it is given in ways that the caller cannot forge, so it is left out.
pub(super) fn read_by(facts: &Facts, policy: &Policy) -> BTreeSet<String> {
    let truths = [PredicateKind::Using, PredicateKind::Check].into_iter().filter_map(|kind| facts.truth(policy.oid, kind));
    let mut found: BTreeSet<String> = truths.flat_map(|truth| truth.settings.iter().cloned()).collect();
    for function in called_by(facts, policy).filter(|function| !function.definer) {
        found.extend(function.body.as_deref().map(read_in).unwrap_or_default());
    }
    found
}

/// The functions of users that a policy calls.
pub(super) fn called_by<'f>(facts: &'f Facts, policy: &Policy) -> impl Iterator<Item = &'f Function> + use<'f> {
    let references = facts.references_of(Catalog::Policy, policy.oid).iter();
    references.filter(|one| one.to == Catalog::Function).filter_map(|one| facts.function(one.referenced))
}

/// The settings that a function's text reads by a name that is written out.
fn read_in(body: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for rest in body.split("current_setting").skip(1) {
        let name = rest.trim_start().strip_prefix('(').and_then(|rest| rest.trim_start().strip_prefix('\''));
        if let Some((name, _)) = name.and_then(|rest| rest.split_once('\'')) {
            found.insert(name.to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::read_in;

    #[test]
    fn names_of_settings_are_found_in_the_text_of_functions() {
        let body =
            "SELECT current_setting('app.tenant', true), pg_catalog.current_setting ( 'App.Two' ), current_setting(name)";
        assert_eq!(read_in(body).into_iter().collect::<Vec<_>>(), ["App.Two", "app.tenant"]);
        assert!(read_in("SELECT 'current_setting'").is_empty());
    }
}
