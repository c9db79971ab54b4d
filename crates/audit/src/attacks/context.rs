//! How a session of the application gets a tenant's context.

use guardian_model::{Capability, TenantKey};
use guardian_postgres::{quote::literal, registry};
use serde::Serialize;
use sqlx::PgConnection;

use super::{
    canary::{Marks, Tenant},
    claims,
};
use crate::facts::{Facts, Privilege};
use crate::reach::Reach;

/// Who can set the context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// The application's own session.
    Application,
    /// Only a superuser: the session gets its context before it becomes the application's role.
    Administrator,
}

/// Where the context is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The person who asked said it.
    Given,
    /// Read off the policies, and tried: it opens the tenant's own rows.
    Proposed,
    /// Guardian's own, with a capability for each of the two tenants.
    Guardian,
    /// There is none: the application's sessions look the same for every tenant.
    None,
}

/// A tenant's context.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) template: Option<String>,
    pub(crate) by: By,
    pub(crate) origin: Origin,
    capabilities: Option<[Capability; 2]>,
}

impl Context {
    pub(crate) const fn none() -> Self {
        Self { template: None, by: By::Application, origin: Origin::None, capabilities: None }
    }

    pub(crate) fn given(template: &str, by: By) -> Self {
        Self { template: Some(template.to_owned()), by, origin: Origin::Given, capabilities: None }
    }

    pub(crate) fn is_none(&self) -> bool {
        self.template.is_none() && self.capabilities.is_none()
    }

    /// Whether Guardian's registry keeps it.
    pub(crate) const fn is_guardian(&self) -> bool {
        self.capabilities.is_some()
    }

    /// What puts a session into the tenant's context.
    pub(crate) fn sql(&self, tenant: Tenant, marks: &Marks) -> Option<String> {
        if let Some(capabilities) = &self.capabilities {
            let capability = &capabilities[usize::from(tenant == Tenant::B)];
            return Some(format!("SELECT guardian.enter({})", bytes(capability.expose())));
        }
        let key = marks.key(tenant);
        let hex: String = key.chars().filter(|c| *c != '-').collect();
        self.template.as_ref().map(|template| template.replace("{tenant_hex}", &hex).replace("{tenant}", &key))
    }

    /// For a report: how, without secrets.
    pub(crate) fn describe(&self) -> Option<String> {
        match self.origin {
            Origin::None => None,
            Origin::Guardian => Some("SELECT guardian.enter(<the tenant's capability>)".to_owned()),
            Origin::Given | Origin::Proposed => self.template.clone(),
        }
    }

    /// Guardian's own, when its functions are there: a capability for each tenant is registered.
    pub(crate) async fn guardian(
        connection: &mut PgConnection,
        facts: &Facts,
        marks: &Marks,
        secrets: [[u8; 32]; 2],
    ) -> Result<Option<Self>, registry::RegistryError> {
        let installed = facts.functions.iter().any(|f| f.schema == "guardian" && f.name == "enter" && f.definer);
        if !installed {
            return Ok(None);
        }
        let capabilities = secrets.map(Capability::from_bytes);
        for (tenant, capability) in [Tenant::A, Tenant::B].into_iter().zip(&capabilities) {
            if let Ok(key) = TenantKey::parse(marks.form.key_type(), &marks.key(tenant)) {
                registry::admit(connection, &key, capability).await?;
            }
        }
        Ok(Some(Self { template: None, by: By::Application, origin: Origin::Guardian, capabilities: Some(capabilities) }))
    }
}

/// A bytea literal that means the same whatever `standard_conforming_strings` says.
pub(crate) fn bytes(value: &[u8]) -> String {
    let hex = value.iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
    format!("pg_catalog.decode('{hex}', 'hex')")
}

/// Settings that policies, views and functions name in `current_setting('…')`, those of policies first. A hint for what to
/// try; that it opens a tenant's own rows has to be seen.
pub(crate) fn settings_named(facts: &Facts) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for text in texts_of(facts) {
        for name in named_in(text) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    names
}

/// What policies, functions and views say, those of policies first.
pub(super) fn texts_of(facts: &Facts) -> impl Iterator<Item = &String> {
    let policies = facts.policies.iter().flat_map(|policy| policy.using.iter().chain(&policy.check));
    let functions = facts.functions.iter().filter(|f| f.extension.is_none()).filter_map(|f| f.body.as_ref());
    policies.chain(functions).chain(facts.relations.iter().filter_map(|relation| relation.definition.as_ref()))
}

pub(super) fn named_in(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    for part in text.split("current_setting").skip(1) {
        let Some(rest) = part.trim_start_matches(['"', ' ', '\n']).strip_prefix('(') else { continue };
        let Some(rest) = rest.trim_start_matches(['(', ' ', '\n']).strip_prefix('\'') else { continue };
        if let Some((name, _)) = rest.split_once('\'') {
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '$');
            if !name.is_empty() && name.chars().all(plain) {
                names.push(name.to_lowercase());
            }
        }
    }
    names
}

/// Whether the application may set the parameter in its session, as far as the catalog says.
pub(crate) fn is_settable(facts: &Facts, reach: &Reach<'_>, name: &str) -> bool {
    let Some(setting) = facts.setting(name) else { return true };
    let granted = |grant: &crate::facts::Grant| {
        grant.privileges.contains(&Privilege::Set) && (grant.to == crate::facts::PUBLIC || reach.role(grant.to).is_some())
    };
    setting.context == "user"
        || facts.parameter_grants.iter().any(|p| p.parameter.eq_ignore_ascii_case(name) && p.acl.iter().any(granted))
}

/// Contexts to try, likeliest first.
pub(crate) fn proposals(facts: &Facts, reach: &Reach<'_>) -> Vec<Context> {
    let settings = settings_named(facts);
    let set = |name: &String, value: &str| {
        let quoted: Vec<_> = name.split('.').map(guardian_postgres::quote::ident).collect();
        format!("SET {} = '{value}'", quoted.join("."))
    };
    let context = |template: String, names: &[&String]| Context {
        template: Some(template),
        by: if names.iter().all(|name| is_settable(facts, reach, name)) { By::Application } else { By::Administrator },
        origin: Origin::Proposed,
        capabilities: None,
    };
    let mut proposals = Vec::new();
    for value in ["{tenant}", "{tenant_hex}"] {
        proposals.extend(settings.iter().map(|name| context(set(name, value), &[name])));
    }
    if settings.len() > 1 {
        let all: Vec<_> = settings.iter().collect();
        let template: Vec<_> = settings.iter().map(|name| set(name, "{tenant}")).collect();
        proposals.push(context(template.join("; "), &all));
    }
    let of_claims = claims::settings(facts);
    for document in claims::documents(facts, "{tenant}") {
        let document = document.replace('\'', "''");
        proposals.extend(of_claims.iter().map(|name| context(set(name, &document), &[name])));
    }
    proposals
}

/// Statements with which the application's SQL might give itself tenant B's context, or open the policies' bypasses.
pub(crate) fn forgeries(facts: &Facts, context: &Context, marks: &Marks) -> Vec<String> {
    let key = marks.key(Tenant::B);
    let hex: String = key.chars().filter(|c| *c != '-').collect();
    let mut forgeries = Vec::new();
    if !context.is_guardian() {
        forgeries.extend(context.sql(Tenant::B, marks));
    }
    let (documents, of_claims) = (claims::documents(facts, &key), claims::settings(facts));
    for name in settings_named(facts) {
        let documents = if of_claims.contains(&name) { documents.as_slice() } else { &[] };
        let name = literal(&name);
        let plain = [key.as_str(), hex.as_str(), "on", "1", "admin", ""];
        for value in plain.into_iter().chain(documents.iter().map(String::as_str)) {
            forgeries.push(format!("SELECT pg_catalog.set_config({name}, {}, false)", literal(value)));
        }
    }
    if context.is_guardian() {
        if let Ok(key) = TenantKey::parse(marks.form.key_type(), &key) {
            let register = literal(&key.to_register());
            forgeries.push(format!(
                "SELECT pg_catalog.set_config('{}', {register}, false)",
                guardian_postgres::register::REGISTER
            ));
        }
        forgeries.push(format!("SELECT guardian.enter({})", bytes(&[0; 32])));
        forgeries.push(format!("SELECT guardian.enter({})", bytes(marks.key(Tenant::B).as_bytes())));
        forgeries.push("SELECT guardian.enter(NULL)".to_owned());
        forgeries.push(format!("SELECT guardian.redeem({})", bytes(&[0; 32])));
    }
    forgeries.dedup();
    forgeries
}

#[cfg(test)]
mod tests {
    use super::named_in;

    #[test]
    fn settings_are_found_in_what_the_server_writes() {
        let written =
            "((tenant_id = (current_setting('app.tenant_id'::text, true))::uuid) OR (current_setting('App.Admin') = 'on'))";
        assert_eq!(named_in(written), ["app.tenant_id", "app.admin"]);
        assert!(named_in("current_setting(name) current_setting('a; DROP') 'current_setting'").is_empty());
    }
}
