//! Who may do what in one tenant: its own roles, its groups and its users. What it does not name, the installation's roles
//! ([`crate::http::HttpRole`]) say.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{GroupName, PermissionName, RoleName, Subject, TenantId};

/// Roles of its own that a tenant may have.
pub const ROLES_MAX: usize = 200;
/// Groups that a tenant may have.
pub const GROUPS_MAX: usize = 500;
/// Users that a tenant may name; whoever has more gives them roles by a claim of their tokens.
pub const USERS_MAX: usize = 5_000;
/// Permissions of one role.
pub const PERMISSIONS_MAX: usize = 500;
/// Roles and groups that a user has, and roles that a group or an API key has.
pub const MEMBERSHIPS_MAX: usize = 50;

/// Who may do what in one tenant. Each list is in the order of its names, which are unique.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct TenantAccess {
    /// Its own roles.
    pub roles: Vec<AccessRole>,
    /// Its groups.
    pub groups: Vec<AccessGroup>,
    /// Its users.
    pub users: Vec<AccessUser>,
}

/// A role of a tenant's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AccessRole {
    /// Its name.
    pub name: RoleName,
    /// What it grants.
    pub permissions: BTreeSet<PermissionName>,
}

/// A group of users.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AccessGroup {
    /// Its name.
    pub name: GroupName,
    /// The roles that its members have.
    pub roles: BTreeSet<RoleName>,
}

/// A user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AccessUser {
    /// Who: the subject of its tokens.
    pub subject: Subject,
    /// Its roles.
    #[serde(default)]
    pub roles: BTreeSet<RoleName>,
    /// Its groups.
    #[serde(default)]
    pub groups: BTreeSet<GroupName>,
}

/// Who may do what in a tenant, as a gateway needs it. One with nothing in it says that there is nothing any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotAccess {
    /// The tenant.
    pub tenant: TenantId,
    /// Who may do what.
    #[serde(flatten)]
    pub access: TenantAccess,
}

/// Why something cannot be declared.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// Too many of something.
    #[error("a tenant may have {max} {what} at most")]
    Full {
        /// Of what.
        what: &'static str,
        /// How many there may be.
        max: usize,
    },
    /// Too many of something in one of them.
    #[error("one of them may have {max} {what} at most")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there may be.
        max: usize,
    },
    /// The name is that of a role that every tenant has.
    #[error("`{0}` is a role that every tenant has; choose another name")]
    BuiltIn(RoleName),
    /// There is no such role.
    #[error("there is no role `{0}`; `guardian access show TENANT` lists those there are")]
    NoRole(RoleName),
    /// There is no such group.
    #[error("there is no group `{0}`; `guardian access show TENANT` lists those there are")]
    NoGroup(GroupName),
    /// There is no such user.
    #[error("there is no user `{0}`")]
    NoUser(Subject),
    /// Somebody has it.
    #[error("`{name}` is still given to {held_by}; take it away first")]
    InUse {
        /// The role or group.
        name: String,
        /// One who has it.
        held_by: String,
    },
    /// It is for the installation's own people to give.
    #[error("`{0}` is reserved: a tenant's administrator cannot give it")]
    Reserved(String),
}

/// The roles that every tenant has, each with its permissions; and which of them a tenant's administrator cannot give.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BuiltIn {
    /// By name.
    pub roles: BTreeMap<RoleName, BTreeSet<PermissionName>>,
    /// Those for the installation's own people to give.
    pub reserved: BTreeSet<RoleName>,
}

impl BuiltIn {
    /// Whether a tenant's administrator cannot give this permission: only reserved roles grant it.
    pub fn is_reserved(&self, permission: &PermissionName) -> bool {
        let mut holders = self.roles.iter().filter(|(_, permissions)| permissions.contains(permission)).peekable();
        holders.peek().is_some() && holders.all(|(role, _)| self.reserved.contains(role))
    }
}

/// What somebody changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessChange {
    /// Declares a role, or declares it anew.
    PutRole(AccessRole),
    /// Takes a role away.
    DeleteRole(RoleName),
    /// Declares a group, or declares it anew.
    PutGroup(AccessGroup),
    /// Takes a group away.
    DeleteGroup(GroupName),
    /// Declares a user, or declares it anew.
    PutUser(AccessUser),
    /// Takes a user away.
    DeleteUser(Subject),
}

/// Who makes a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Giver {
    /// The installation's own people: they may give everything.
    Installation,
    /// A tenant's administrator, who cannot give what is reserved; what others gave stays.
    Tenant,
}

fn bounded(len: usize, max: usize, what: &'static str) -> Result<(), AccessError> {
    if len > max { Err(AccessError::TooMany { what, max }) } else { Ok(()) }
}

/// Puts a thing into its place in a list that is ordered by `key`.
fn put<T, K: Ord>(
    list: &mut Vec<T>,
    thing: T,
    key: impl Fn(&T) -> &K,
    max: usize,
    what: &'static str,
) -> Result<(), AccessError> {
    match list.binary_search_by(|other| key(other).cmp(key(&thing))) {
        Ok(index) => list[index] = thing,
        Err(_) if list.len() >= max => return Err(AccessError::Full { what, max }),
        Err(index) => list.insert(index, thing),
    }
    Ok(())
}

impl TenantAccess {
    /// Whether nothing is declared.
    pub fn is_empty(&self) -> bool {
        self.roles.is_empty() && self.groups.is_empty() && self.users.is_empty()
    }

    /// Whether a role is there to be given.
    pub fn knows_role(&self, built_in: &BuiltIn, role: &RoleName) -> bool {
        built_in.roles.contains_key(role) || self.roles.iter().any(|own| own.name == *role)
    }

    /// Refuses roles that are not there.
    pub fn check_known(&self, built_in: &BuiltIn, roles: &BTreeSet<RoleName>) -> Result<(), AccessError> {
        bounded(roles.len(), MEMBERSHIPS_MAX, "roles")?;
        let missing = roles.iter().find(|role| !self.knows_role(built_in, role));
        missing.map_or(Ok(()), |role| Err(AccessError::NoRole(role.clone())))
    }

    /// Whether a tenant's administrator cannot give a role: it is reserved, or grants what is.
    fn is_reserved(&self, built_in: &BuiltIn, role: &RoleName) -> bool {
        built_in.reserved.contains(role)
            || self.roles.iter().any(|own| own.name == *role && own.permissions.iter().any(|one| built_in.is_reserved(one)))
    }

    /// Refuses roles that this giver cannot give.
    pub fn check_given<'a>(
        &self,
        built_in: &BuiltIn,
        giver: Giver,
        roles: impl IntoIterator<Item = &'a RoleName>,
    ) -> Result<(), AccessError> {
        let reserved = match giver {
            Giver::Installation => None,
            Giver::Tenant => roles.into_iter().find(|role| self.is_reserved(built_in, role)),
        };
        reserved.map_or(Ok(()), |role| Err(AccessError::Reserved(role.to_string())))
    }

    /// Refuses a change that gives more than this giver can give.
    fn check_giver(&self, built_in: &BuiltIn, giver: Giver, change: &AccessChange) -> Result<(), AccessError> {
        if giver == Giver::Installation {
            return Ok(());
        }
        match change {
            AccessChange::PutRole(role) => {
                let before = self.roles.iter().find(|own| own.name == role.name).map(|own| &own.permissions);
                let mut added = role.permissions.iter().filter(|one| before.is_none_or(|before| !before.contains(*one)));
                let reserved = added.find(|permission| built_in.is_reserved(permission));
                reserved.map_or(Ok(()), |permission| Err(AccessError::Reserved(permission.to_string())))
            }
            AccessChange::PutGroup(group) => {
                let before = self.groups.iter().find(|own| own.name == group.name).map(|own| &own.roles);
                let added = group.roles.iter().filter(|role| before.is_none_or(|before| !before.contains(*role)));
                self.check_given(built_in, giver, added)
            }
            AccessChange::PutUser(user) => {
                let before = self.users.iter().find(|own| own.subject == user.subject);
                let added = user.roles.iter().filter(|role| before.is_none_or(|before| !before.roles.contains(*role)));
                self.check_given(built_in, giver, added)?;
                let joined = user.groups.iter().filter(|group| before.is_none_or(|before| !before.groups.contains(*group)));
                let groups: Vec<_> =
                    joined.filter_map(|name| self.groups.iter().find(|group| group.name == *name)).collect();
                self.check_given(built_in, giver, groups.into_iter().flat_map(|group| &group.roles))
            }
            AccessChange::DeleteRole(_) | AccessChange::DeleteGroup(_) | AccessChange::DeleteUser(_) => Ok(()),
        }
    }

    /// Makes a change, or refuses it and changes nothing.
    pub fn change(&mut self, built_in: &BuiltIn, giver: Giver, change: AccessChange) -> Result<(), AccessError> {
        self.check_giver(built_in, giver, &change)?;
        match change {
            AccessChange::PutRole(role) => {
                if built_in.roles.contains_key(&role.name) {
                    return Err(AccessError::BuiltIn(role.name));
                }
                bounded(role.permissions.len(), PERMISSIONS_MAX, "permissions")?;
                put(&mut self.roles, role, |role| &role.name, ROLES_MAX, "roles of its own")
            }
            AccessChange::DeleteRole(name) => {
                let index = self.roles.iter().position(|role| role.name == name);
                let index = index.ok_or_else(|| AccessError::NoRole(name.clone()))?;
                self.check_unused_role(&name)?;
                self.roles.remove(index);
                Ok(())
            }
            AccessChange::PutGroup(group) => {
                self.check_known(built_in, &group.roles)?;
                put(&mut self.groups, group, |group| &group.name, GROUPS_MAX, "groups")
            }
            AccessChange::DeleteGroup(name) => {
                let index = self.groups.iter().position(|group| group.name == name);
                let index = index.ok_or_else(|| AccessError::NoGroup(name.clone()))?;
                if let Some(user) = self.users.iter().find(|user| user.groups.contains(&name)) {
                    return Err(AccessError::InUse {
                        name: name.to_string(),
                        held_by: format!("the user `{}`", user.subject),
                    });
                }
                self.groups.remove(index);
                Ok(())
            }
            AccessChange::PutUser(user) => {
                self.check_known(built_in, &user.roles)?;
                bounded(user.groups.len(), MEMBERSHIPS_MAX, "groups")?;
                if let Some(missing) = user.groups.iter().find(|name| self.groups.iter().all(|group| group.name != **name)) {
                    return Err(AccessError::NoGroup(missing.clone()));
                }
                put(&mut self.users, user, |user| &user.subject, USERS_MAX, "users")
            }
            AccessChange::DeleteUser(subject) => {
                let index = self.users.iter().position(|user| user.subject == subject);
                let index = index.ok_or(AccessError::NoUser(subject))?;
                self.users.remove(index);
                Ok(())
            }
        }
    }

    fn check_unused_role(&self, name: &RoleName) -> Result<(), AccessError> {
        let group =
            self.groups.iter().find(|group| group.roles.contains(name)).map(|group| format!("the group `{}`", group.name));
        let user =
            || self.users.iter().find(|user| user.roles.contains(name)).map(|user| format!("the user `{}`", user.subject));
        match group.or_else(user) {
            Some(held_by) => Err(AccessError::InUse { name: name.to_string(), held_by }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built_in() -> BuiltIn {
        let set = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect();
        BuiltIn {
            roles: BTreeMap::from([
                ("reader".parse().unwrap(), set(&["ticket.read"])),
                ("support".parse().unwrap(), set(&["ticket.read", "billing.refund"])),
            ]),
            reserved: BTreeSet::from(["support".parse().unwrap()]),
        }
    }

    fn role(name: &str) -> AccessChange {
        AccessChange::PutRole(AccessRole {
            name: name.parse().unwrap(),
            permissions: BTreeSet::from(["ticket.write".parse().unwrap()]),
        })
    }

    fn user(subject: &str, roles: &[&str], groups: &[&str]) -> AccessChange {
        AccessChange::PutUser(AccessUser {
            subject: subject.parse().unwrap(),
            roles: roles.iter().map(|role| role.parse().unwrap()).collect(),
            groups: groups.iter().map(|group| group.parse().unwrap()).collect(),
        })
    }

    #[test]
    fn what_is_named_is_there_and_what_is_given_stays() {
        let (built_in, mut access) = (built_in(), TenantAccess::default());
        let refused = |access: &mut TenantAccess, change| {
            let before = access.clone();
            let error = access.change(&built_in, Giver::Tenant, change).unwrap_err();
            assert_eq!(*access, before);
            error
        };
        assert!(matches!(refused(&mut access, role("reader")), AccessError::BuiltIn(_)));
        assert!(matches!(refused(&mut access, user("ada", &["writer"], &[])), AccessError::NoRole(_)));
        access.change(&built_in, Giver::Tenant, role("writer")).unwrap();
        let agents = AccessGroup { name: "agents".parse().unwrap(), roles: BTreeSet::from(["writer".parse().unwrap()]) };
        assert!(matches!(refused(&mut access, user("ada", &["reader"], &["agents"])), AccessError::NoGroup(_)));
        access.change(&built_in, Giver::Tenant, AccessChange::PutGroup(agents)).unwrap();
        access.change(&built_in, Giver::Tenant, user("ada", &["reader"], &["agents"])).unwrap();
        access.change(&built_in, Giver::Tenant, user("abe", &[], &[])).unwrap();
        assert_eq!(access.users[0].subject.as_str(), "abe");
        assert!(matches!(
            refused(&mut access, AccessChange::DeleteRole("writer".parse().unwrap())),
            AccessError::InUse { .. }
        ));
        assert!(matches!(
            refused(&mut access, AccessChange::DeleteGroup("agents".parse().unwrap())),
            AccessError::InUse { .. }
        ));
        access.change(&built_in, Giver::Tenant, AccessChange::DeleteUser("ada".parse().unwrap())).unwrap();
        access.change(&built_in, Giver::Tenant, AccessChange::DeleteGroup("agents".parse().unwrap())).unwrap();
        access.change(&built_in, Giver::Tenant, AccessChange::DeleteRole("writer".parse().unwrap())).unwrap();
        assert!(matches!(refused(&mut access, AccessChange::DeleteUser("ada".parse().unwrap())), AccessError::NoUser(_)));
    }

    #[test]
    fn the_sizes_are_bounded() {
        let (built_in, mut access) = (built_in(), TenantAccess::default());
        for number in 0..ROLES_MAX {
            access.change(&built_in, Giver::Tenant, role(&format!("r{number}"))).unwrap();
        }
        assert!(matches!(access.change(&built_in, Giver::Tenant, role("more")), Err(AccessError::Full { .. })));
        access.change(&built_in, Giver::Tenant, role("r7")).unwrap();
        let all: Vec<String> = (0..=MEMBERSHIPS_MAX).map(|number| format!("r{number}")).collect();
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        assert!(matches!(access.change(&built_in, Giver::Tenant, user("ada", &all, &[])), Err(AccessError::TooMany { .. })));
    }

    #[test]
    fn what_only_reserved_roles_grant_is_reserved() {
        let built_in = built_in();
        assert!(built_in.is_reserved(&"billing.refund".parse().unwrap()));
        assert!(!built_in.is_reserved(&"ticket.read".parse().unwrap()));
        assert!(!built_in.is_reserved(&"ticket.write".parse().unwrap()));
        let agent = BTreeSet::from(["ticket.read".parse().unwrap(), "billing.refund".parse().unwrap()]);
        let refunds = || AccessChange::PutRole(AccessRole { name: "refunds".parse().unwrap(), permissions: agent.clone() });
        let group = |roles: &[&str]| {
            AccessChange::PutGroup(AccessGroup {
                name: "money".parse().unwrap(),
                roles: roles.iter().map(|role| role.parse().unwrap()).collect(),
            })
        };
        let mut access = TenantAccess::default();
        let refused = |access: &mut TenantAccess, change| {
            assert!(matches!(access.change(&built_in, Giver::Tenant, change), Err(AccessError::Reserved(_))));
        };
        refused(&mut access, refunds());
        refused(&mut access, user("ada", &["support"], &[]));
        refused(&mut access, group(&["support"]));
        access.change(&built_in, Giver::Installation, refunds()).unwrap();
        access.change(&built_in, Giver::Installation, group(&["support"])).unwrap();
        access.change(&built_in, Giver::Installation, user("abe", &["support"], &["money"])).unwrap();
        // Neither by a role of its own that grants it, nor by a group that has it.
        refused(&mut access, user("ada", &["refunds"], &[]));
        refused(&mut access, user("ada", &[], &["money"]));
        // What others gave stays.
        access.change(&built_in, Giver::Tenant, user("abe", &["reader", "support"], &["money"])).unwrap();
        access.change(&built_in, Giver::Tenant, refunds()).unwrap();
    }
}
