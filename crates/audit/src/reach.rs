//! What the application's roles can get at, and by which path. Pure.
//!
//! A role can *become* another by SET ROLE where each membership on the way allows it (or by its ADMIN option, with which it
//! can allow itself), and *has* the privileges of all roles that the one it became inherits from. What a superuser may do
//! besides is left out, or every object would be reported for one mistake: [`Reach::role`] and the rule on it say that.
//! So are the roles that CREATEROLE could hand out before PostgreSQL 16.

use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;

use crate::{
    facts::{Acl, Facts, Function, Oid, PUBLIC, Privilege, Relation, RelationKind},
    finding::{readable, readable_in},
};

/// How the application's role gets at something, step by step: `my_app`, `member of staff`, `owner of public.orders`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Path {
    /// The steps; the first is the application's role.
    pub steps: Vec<String>,
}

impl Path {
    /// One step further.
    #[must_use]
    pub fn then(&self, step: impl Into<String>) -> Self {
        let mut steps = self.steps.clone();
        steps.push(step.into());
        Self { steps }
    }
}

impl std::fmt::Display for Path {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.steps.join(" → "))
    }
}

/// A role whose privileges can be used.
#[derive(Debug, Clone)]
struct Held {
    path: Path,
    /// The roles to become (by index), as each of which it is held.
    sessions: Vec<u16>,
}

/// What the application's roles can get at.
#[derive(Debug)]
pub struct Reach<'f> {
    facts: &'f Facts,
    applications: Vec<Oid>,
    /// Roles that the session can become, with the way; the application's own among them.
    becomes: BTreeMap<Oid, Path>,
    held: BTreeMap<Oid, Held>,
    /// For each schema that is reached, as which sessions.
    schemas: BTreeMap<&'f str, Vec<u16>>,
}

impl<'f> Reach<'f> {
    /// Of these roles. A name that no role has is an error of the caller's.
    pub fn of(facts: &'f Facts, applications: &[Oid]) -> Self {
        let becomes = becomes(facts, applications);
        let mut held: BTreeMap<Oid, Held> = BTreeMap::new();
        for (session, (role, path)) in (0_u16..).zip(&becomes) {
            inherit(facts, &mut held, session, *role, path);
        }
        // PUBLIC is held as anybody; its path is the first application's.
        if let Some(first) = applications.first().and_then(|role| becomes.get(role)) {
            let sessions = (0_u16..).zip(&becomes).map(|(session, _)| session).collect();
            held.insert(PUBLIC, Held { path: first.then("PUBLIC"), sessions });
        }
        let mut reach = Self { facts, applications: applications.to_vec(), becomes, held, schemas: BTreeMap::new() };
        let schemas = facts.schemas.iter().map(|schema| {
            let mut sessions = reach.sessions(&schema.acl, Privilege::Usage, schema.owner);
            for name in ["pg_read_all_data", "pg_write_all_data"] {
                if let Some(held) = reach.system_role(name) {
                    sessions.extend(&held.sessions);
                }
            }
            (schema.name.as_str(), sessions)
        });
        reach.schemas = schemas.filter(|(_, sessions)| !sessions.is_empty()).collect();
        reach
    }

    /// The application's roles.
    pub fn applications(&self) -> &[Oid] {
        &self.applications
    }

    /// The way to a role whose privileges the application's session can use, itself included.
    pub fn role(&self, oid: Oid) -> Option<&Path> {
        self.held.get(&oid).map(|held| &held.path)
    }

    /// The way to a role that the session can become: attributes such as BYPASSRLS are never inherited.
    pub fn becomes(&self, oid: Oid) -> Option<&Path> {
        self.becomes.get(&oid)
    }

    /// Every role that the session can become, the application's own among them.
    pub fn sessions_as(&self) -> impl Iterator<Item = (Oid, &Path)> {
        self.becomes.iter().map(|(oid, path)| (*oid, path))
    }

    /// Every role whose privileges can be used (PUBLIC, as 0, among them), with the way to it.
    pub fn held(&self) -> impl Iterator<Item = (Oid, &Path)> {
        self.held.iter().map(|(oid, held)| (*oid, &held.path))
    }

    /// Whether names in the schema can be used.
    pub fn schema(&self, name: &str) -> bool {
        self.schemas.contains_key(name)
    }

    /// What can be done with a relation.
    pub fn relation(&self, relation: &'f Relation) -> RelationReach<'_, 'f> {
        RelationReach { reach: self, relation }
    }

    /// The same by OID; `None` for one that is not in the facts.
    pub fn table(&self, oid: Oid) -> Option<RelationReach<'_, 'f>> {
        self.facts.relation(oid).map(|relation| self.relation(relation))
    }

    /// The way to call a function: EXECUTE or ownership, and USAGE of its schema.
    pub fn function(&self, function: &Function) -> Option<Path> {
        let name = format!("{}({})", readable_in(&function.schema, &function.name), function.arguments);
        self.by_acl(&function.acl, Privilege::Execute, function.owner, Some(&function.schema), &name)
    }

    /// The way to a privilege on an object by its list. With a schema, its USAGE is needed by the same session.
    pub fn by_acl(&self, acl: &Acl, privilege: Privilege, owner: Oid, schema: Option<&str>, name: &str) -> Option<Path> {
        let named: &[u16] = match schema {
            Some(schema) => self.schemas.get(schema)?,
            None => &[],
        };
        let usable = |held: &&Held| schema.is_none() || held.sessions.iter().any(|session| named.contains(session));
        if let Some(held) = self.held.get(&owner).filter(usable) {
            return Some(held.path.then(format!("owner of {name}")));
        }
        let holders = acl.iter().filter(|grant| grant.privileges.contains(&privilege));
        let held =
            holders.filter_map(|grant| self.held.get(&grant.to)).filter(usable).min_by_key(|held| held.path.steps.len())?;
        Some(held.path.then(format!("{} on {name}", privilege.as_str())))
    }

    fn sessions(&self, acl: &Acl, privilege: Privilege, owner: Oid) -> Vec<u16> {
        let granted = acl.iter().filter(|grant| grant.privileges.contains(&privilege)).map(|grant| grant.to);
        granted
            .chain([owner])
            .filter_map(|role| self.held.get(&role))
            .flat_map(|held| held.sessions.iter().copied())
            .collect()
    }

    fn system_role(&self, name: &str) -> Option<&Held> {
        self.held.get(&self.facts.role_named(name)?.oid)
    }
}

/// What can be done with one relation, each with the way.
#[derive(Debug, Clone, Copy)]
pub struct RelationReach<'r, 'f> {
    reach: &'r Reach<'f>,
    relation: &'f Relation,
}

impl RelationReach<'_, '_> {
    /// The way to a privilege on the whole relation (ownership counts), or on one of its columns.
    pub fn privilege(&self, privilege: Privilege) -> Option<Path> {
        let Relation { acl, owner, schema, name, .. } = self.relation;
        let identity = readable_in(schema, name);
        self.reach
            .by_acl(acl, privilege, *owner, Some(schema), &identity)
            .or_else(|| self.by_column(privilege))
            .or_else(|| self.by_system_role(privilege, &identity))
    }

    /// The way to read rows.
    pub fn select(&self) -> Option<Path> {
        self.privilege(Privilege::Select)
    }

    /// The way to add rows.
    pub fn insert(&self) -> Option<Path> {
        self.privilege(Privilege::Insert)
    }

    /// The way to change rows.
    pub fn update(&self) -> Option<Path> {
        self.privilege(Privilege::Update)
    }

    /// The way to delete rows.
    pub fn delete(&self) -> Option<Path> {
        self.privilege(Privilege::Delete)
    }

    /// The way to empty it; row-level security does not apply.
    pub fn truncate(&self) -> Option<Path> {
        self.privilege(Privilege::Truncate)
    }

    /// The way to use its rights as an owner, who can also alter it.
    pub fn owner(&self) -> Option<Path> {
        let held = self.reach.held.get(&self.relation.owner)?;
        Some(held.path.then(format!("owner of {}", readable_in(&self.relation.schema, &self.relation.name))))
    }

    /// The way to read or write any of its rows.
    pub fn rows(&self) -> Option<Path> {
        [Privilege::Select, Privilege::Update, Privilege::Delete, Privilege::Insert]
            .into_iter()
            .find_map(|privilege| self.privilege(privilege))
    }

    fn by_column(&self, privilege: Privilege) -> Option<Path> {
        let Relation { oid, schema, name, .. } = self.relation;
        self.reach.facts.columns_of(*oid).iter().filter(|column| !column.acl.is_empty()).find_map(|column| {
            let identity = format!("{}.{}", readable_in(schema, name), readable(&column.name));
            // Nobody owns a column, and PUBLIC is no owner.
            self.reach.by_acl(&column.acl, privilege, Oid::MAX, Some(schema), &identity)
        })
    }

    fn by_system_role(&self, privilege: Privilege, identity: &str) -> Option<Path> {
        let name = match privilege {
            Privilege::Select => "pg_read_all_data",
            Privilege::Insert | Privilege::Update | Privilege::Delete => "pg_write_all_data",
            Privilege::Maintain if self.relation.kind != RelationKind::Sequence => "pg_maintain",
            _ => return None,
        };
        let held = self.reach.system_role(name)?;
        Some(held.path.then(format!("{} on {identity}", privilege.as_str())))
    }
}

/// Everything that a session of these roles can become by SET ROLE, with the shortest way.
fn becomes(facts: &Facts, applications: &[Oid]) -> BTreeMap<Oid, Path> {
    let start = |oid: &Oid| (*oid, Path { steps: vec![readable(&facts.role_name(*oid))] });
    let mut found: BTreeMap<Oid, Path> = applications.iter().map(start).collect();
    let mut queue: VecDeque<Oid> = applications.iter().copied().collect();
    while let Some(role) = queue.pop_front() {
        let path = found[&role].clone();
        for membership in facts.memberships_of(role) {
            if !(membership.set || membership.admin) || found.contains_key(&membership.role) {
                continue;
            }
            let name = readable(&facts.role_name(membership.role));
            let step = if membership.set { format!("member of {name}") } else { format!("may grant itself {name}") };
            found.insert(membership.role, path.then(step));
            queue.push_back(membership.role);
        }
    }
    found
}

/// Adds the privileges that a session has after it became a role.
fn inherit(facts: &Facts, held: &mut BTreeMap<Oid, Held>, session: u16, role: Oid, path: &Path) {
    let mut queue = VecDeque::from([(role, path.clone())]);
    while let Some((role, path)) = queue.pop_front() {
        let entry = held.entry(role).or_insert_with(|| Held { path: path.clone(), sessions: Vec::new() });
        if entry.sessions.contains(&session) {
            continue;
        }
        if path.steps.len() < entry.path.steps.len() {
            entry.path = path.clone();
        }
        entry.sessions.push(session);
        for membership in facts.memberships_of(role).iter().filter(|membership| membership.inherit) {
            let name = readable(&facts.role_name(membership.role));
            queue.push_back((membership.role, path.then(format!("member of {name}"))));
        }
        if role == facts.database.owner
            && let Some(implied) = facts.role_named("pg_database_owner")
        {
            queue.push_back((implied.oid, path.then("owner of the database")));
        }
    }
}
