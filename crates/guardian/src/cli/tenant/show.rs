//! `guardian tenant show` and `credentials`.

use guardian_model::{Tenant, api::Connection};

use super::state_cell;
use crate::output::{Output, Table, time};

pub(super) fn tenant(tenant: &Tenant, output: Output) -> anyhow::Result<()> {
    output.table(Table::of_one(vec![
        ("slug", (&tenant.slug).into()),
        ("id", tenant.id.into()),
        ("state", state_cell(tenant.state)),
        ("tier", (&tenant.tier).into()),
        ("key", (&tenant.key).into()),
        ("isolation", tenant.placement.isolation.into()),
        ("place", (&tenant.placement.place).into()),
        ("role", (&tenant.placement.role).into()),
        ("own limits", own_limits(tenant)?.into()),
        ("created (UTC)", time(tenant.created_at).into()),
        ("changed (UTC)", time(tenant.changed_at).into()),
    ]))
}

/// As `set-limits` takes them.
fn own_limits(tenant: &Tenant) -> anyhow::Result<String> {
    let serde_json::Value::Object(limits) = serde_json::to_value(tenant.limits)? else { return Ok(String::new()) };
    let words = limits.iter().map(|(name, value)| format!("{name}={value}"));
    Ok(words.collect::<Vec<_>>().join(" "))
}

pub(super) fn credentials(connection: &Connection, output: Output) -> anyhow::Result<()> {
    let mut rows = vec![
        ("host", (&connection.host).into()),
        ("port", connection.port.into()),
        ("database", (&connection.database).into()),
        ("schema", (&connection.schema).into()),
        ("user", (&connection.user).into()),
        ("password", (&connection.password).into()),
    ];
    if let Some(capability) = &connection.capability {
        rows.push(("capability", capability.into()));
    }
    output.table(Table::of_one(rows))
}
