//! Lines of `pg_hba.conf`. No rule itself.

use crate::{
    facts::HbaRule,
    finding::{Object, ObjectKind},
};

/// Whether a line is for this machine alone.
pub(super) fn is_near(rule: &HbaRule) -> bool {
    let near = |address: &str| ["::1", "localhost", "samehost"].contains(&address) || address.starts_with("127.");
    rule.kind == "local" || rule.address.as_deref().is_some_and(near)
}

/// Whether a line is for every address.
pub(super) fn is_everywhere(rule: &HbaRule) -> bool {
    let zero = |address: Option<&str>| matches!(address, Some("0.0.0.0" | "::"));
    rule.address.as_deref() == Some("all") || zero(rule.address.as_deref()) && zero(rule.netmask.as_deref())
}

/// A line as an object. Its number is not in the name: it moves when others are added.
pub(super) fn object(rule: &HbaRule) -> Object {
    let HbaRule { kind, databases, users, address, netmask, method, .. } = rule;
    let address = match (address, netmask) {
        (Some(address), Some(netmask)) => format!(" {address} {netmask}"),
        (Some(address), None) => format!(" {address}"),
        _ => String::new(),
    };
    let identity = format!("pg_hba.conf: {kind} {} {}{address} {method}", databases.join(","), users.join(","));
    Object { kind: ObjectKind::Setting, schema: None, name: "pg_hba.conf".to_owned(), identity }
}
