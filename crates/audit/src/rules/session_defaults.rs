//! Which value of a setting the application's sessions begin with, and where it stands. No rule itself.

use guardian_postgres::quote;

use crate::{
    facts::{Facts, Role, RoleSetting},
    finding::readable,
    rule::Audit,
};

/// Where a default stands.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place<'f> {
    /// `ALTER ROLE … SET`
    Role(&'f Role),
    /// `ALTER ROLE … IN DATABASE … SET`
    RoleInDatabase(&'f Role),
    /// `ALTER DATABASE … SET`
    Database,
    /// `ALTER ROLE ALL SET`
    AllRoles,
    /// `postgresql.conf`, the command line, or what PostgreSQL was built with.
    Server,
}

/// A value that sessions begin with.
#[derive(Debug, Clone, Copy)]
pub(super) struct SessionDefault<'f> {
    /// The value.
    pub(super) value: &'f str,
    /// Where it stands.
    pub(super) place: Place<'f>,
}

/// What the sessions of each of the application's roles begin with, each place once.
pub(super) fn session_defaults<'f>(audit: &Audit<'f>, name: &str) -> Vec<SessionDefault<'f>> {
    let mut found: Vec<SessionDefault<'f>> = Vec::new();
    for application in audit.reach.applications() {
        let Some(role) = audit.facts.role(*application) else { continue };
        let Some(default) = of_role(audit.facts, role, name) else { continue };
        if found.iter().all(|other| other.place.words(audit.facts) != default.place.words(audit.facts)) {
            found.push(default);
        }
    }
    found
}

/// A database's own value outdoes the one for all databases, and a role's the one for all roles.
fn of_role<'f>(facts: &'f Facts, role: &'f Role, name: &str) -> Option<SessionDefault<'f>> {
    let set = |oid, this_database| {
        let matches = |one: &&RoleSetting| one.role == oid && one.this_database == this_database && one.name == name;
        facts.role_settings.iter().find(matches).map(|one| one.value.as_str())
    };
    let ordered = [
        (set(role.oid, true), Place::RoleInDatabase(role)),
        (set(role.oid, false), Place::Role(role)),
        (set(0, true), Place::Database),
        (set(0, false), Place::AllRoles),
        (on_server(facts, name), Place::Server),
    ];
    ordered.into_iter().find_map(|(value, place)| Some(SessionDefault { value: value?, place }))
}

/// The server's own value; `None` where the collector's session had another, so that it does not show.
pub(super) fn on_server<'f>(facts: &'f Facts, name: &str) -> Option<&'f str> {
    let setting = facts.setting(name)?;
    let hidden = ["database", "user", "database user", "client"].contains(&setting.source.as_str());
    (!hidden).then_some(setting.reset_value.as_str())
}

/// A setting's name as SQL wants it; a name with a dot is quoted part by part.
pub(super) fn setting_ident(name: &str) -> String {
    name.split('.').map(quote::ident).collect::<Vec<_>>().join(".")
}

impl Place<'_> {
    /// For a sentence: `for role my_app`.
    pub(super) fn words(self, facts: &Facts) -> String {
        let database = readable(&facts.database.name);
        match self {
            Self::Role(role) => format!("for role {}", readable(&role.name)),
            Self::RoleInDatabase(role) => format!("for role {} in database {database}", readable(&role.name)),
            Self::Database => format!("for database {database}"),
            Self::AllRoles => "for all roles".to_owned(),
            Self::Server => "on the server".to_owned(),
        }
    }

    /// SQL that goes back to what stands behind it; for the server's own, the value to be put there.
    pub(super) fn undo(self, facts: &Facts, name: &str, good: &str) -> String {
        let database = quote::ident(&facts.database.name);
        let setting = setting_ident(name);
        match self {
            Self::Role(role) => format!("ALTER ROLE {} RESET {setting};", quote::ident(&role.name)),
            Self::RoleInDatabase(role) => {
                format!("ALTER ROLE {} IN DATABASE {database} RESET {setting};", quote::ident(&role.name))
            }
            Self::Database => format!("ALTER DATABASE {database} RESET {setting};"),
            Self::AllRoles => format!("ALTER ROLE ALL RESET {setting};"),
            Self::Server => format!("ALTER SYSTEM SET {setting} = {};", quote::literal(good)),
        }
    }

    /// What to know before undoing it.
    pub(super) fn note(self) -> &'static str {
        match self {
            Self::Server => "then reload the configuration, or restart the server where the setting asks for it",
            _ => "sessions that are open keep the old value",
        }
    }
}
