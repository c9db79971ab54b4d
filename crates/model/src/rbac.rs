//! Roles, groups and permissions, compiled: which permissions somebody has is a set of bits, and asking for one is a look at
//! one bit. The control plane's API ([`crate::access::Role`]) and the API gateway use the same sets.
//!
//! A permission that nobody has a bit for is asked for nowhere, so sets leave it out. What is not granted is refused; there
//! are no refusing rules, no order and no wildcards. Rules on attributes of a request would be asked after these, and could
//! only refuse.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

use crate::{GroupName, PermissionName, RoleName, Subject, tenant_access::TenantAccess};

const WORD_BITS: usize = 64;

/// The place of a permission in a [`PermissionSet`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PermissionBit(u32);

impl PermissionBit {
    /// The bit of a number, for permissions that are an enum.
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn number(self) -> u32 {
        self.0
    }
}

/// A set of permissions. The first 64 need no allocation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct PermissionSet {
    first: u64,
    /// Bits 64 and up; no zero word at the end, so that equal sets are equal.
    rest: Vec<u64>,
}

impl PermissionSet {
    /// No permission.
    pub const NONE: Self = Self { first: 0, rest: Vec::new() };

    /// A set of the first 64 permissions, by bits.
    pub const fn of_word(word: u64) -> Self {
        Self { first: word, rest: Vec::new() }
    }

    /// Adds a permission.
    pub fn insert(&mut self, PermissionBit(bit): PermissionBit) {
        let (word, mask) = (bit as usize / WORD_BITS, 1 << (bit as usize % WORD_BITS));
        match word.checked_sub(1) {
            None => self.first |= mask,
            Some(word) => {
                if self.rest.len() <= word {
                    self.rest.resize(word + 1, 0);
                }
                self.rest[word] |= mask;
            }
        }
    }

    /// Whether a permission is in it.
    pub fn contains(&self, PermissionBit(bit): PermissionBit) -> bool {
        let (word, mask) = (bit as usize / WORD_BITS, 1_u64 << (bit as usize % WORD_BITS));
        let found = match word.checked_sub(1) {
            None => Some(&self.first),
            Some(word) => self.rest.get(word),
        };
        found.is_some_and(|found| found & mask != 0)
    }

    /// Adds every permission of another set.
    pub fn extend_with(&mut self, other: &Self) {
        self.first |= other.first;
        if self.rest.len() < other.rest.len() {
            self.rest.resize(other.rest.len(), 0);
        }
        for (word, more) in self.rest.iter_mut().zip(&other.rest) {
            *word |= more;
        }
    }

    /// Keeps what is in another set, too.
    pub fn narrow_to(&mut self, other: &Self) {
        self.first &= other.first;
        self.rest.truncate(other.rest.len());
        for (word, kept) in self.rest.iter_mut().zip(&other.rest) {
            *word &= kept;
        }
        while self.rest.last() == Some(&0) {
            self.rest.pop();
        }
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.first == 0 && self.rest.is_empty()
    }

    /// The bits in it, from the lowest.
    pub fn bits(&self) -> impl Iterator<Item = PermissionBit> + '_ {
        let words = std::iter::once(&self.first).chain(&self.rest);
        words.zip(0_u32..).flat_map(|(word, index)| {
            (0..64_u32).filter(move |bit| word >> bit & 1 == 1).map(move |bit| PermissionBit(index * 64 + bit))
        })
    }
}

impl FromIterator<PermissionBit> for PermissionSet {
    fn from_iter<I: IntoIterator<Item = PermissionBit>>(bits: I) -> Self {
        let mut set = Self::NONE;
        for bit in bits {
            set.insert(bit);
        }
        set
    }
}

/// The permissions that are asked for anywhere, each with its bit.
#[derive(Debug, Clone, Default)]
pub struct Catalogue {
    bits: HashMap<PermissionName, PermissionBit>,
}

impl Catalogue {
    /// Gives each name a bit. The same names have the same bits, in whatever order they come.
    pub fn new(names: impl IntoIterator<Item = PermissionName>) -> Self {
        let names: BTreeSet<PermissionName> = names.into_iter().collect();
        Self { bits: names.into_iter().zip((0..).map(PermissionBit)).collect() }
    }

    /// The bit of a permission; `None` when nothing asks for it.
    pub fn bit(&self, name: &PermissionName) -> Option<PermissionBit> {
        self.bits.get(name).copied()
    }

    /// The set of some permissions.
    pub fn set<'a>(&self, names: impl IntoIterator<Item = &'a PermissionName>) -> PermissionSet {
        names.into_iter().filter_map(|name| self.bit(name)).collect()
    }
}

/// The roles that every tenant has, compiled.
#[derive(Debug, Clone, Default)]
pub struct BuiltInRoles(BTreeMap<RoleName, PermissionSet>);

impl BuiltInRoles {
    /// Compiles roles, each with its permissions.
    pub fn new<'a>(catalogue: &Catalogue, roles: impl IntoIterator<Item = (&'a RoleName, &'a [PermissionName])>) -> Self {
        Self(roles.into_iter().map(|(name, permissions)| (name.clone(), catalogue.set(permissions))).collect())
    }

    /// What a role grants.
    pub fn get(&self, role: &RoleName) -> Option<&PermissionSet> {
        self.0.get(role)
    }
}

/// Who may do what in one tenant, compiled.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TenantGrants {
    /// The tenant's own roles.
    roles: BTreeMap<RoleName, PermissionSet>,
    /// Its users, with all that their roles and groups grant.
    users: HashMap<Subject, PermissionSet>,
}

impl TenantGrants {
    /// Compiles what a tenant declares. A role that it names and nobody has grants nothing.
    pub fn new(catalogue: &Catalogue, built_in: &BuiltInRoles, access: &TenantAccess) -> Self {
        let roles = access.roles.iter().map(|role| (role.name.clone(), catalogue.set(&role.permissions))).collect();
        let mut grants = Self { roles, users: HashMap::new() };
        let groups: BTreeMap<&GroupName, PermissionSet> =
            access.groups.iter().map(|group| (&group.name, grants.of_roles(built_in, &group.roles))).collect();
        let users = access.users.iter().map(|user| {
            let mut set = grants.of_roles(built_in, &user.roles);
            for group in user.groups.iter().filter_map(|name| groups.get(name)) {
                set.extend_with(group);
            }
            (user.subject.clone(), set)
        });
        grants.users = users.collect();
        grants
    }

    /// What some roles grant together. A built-in role goes before the tenant's own of the same name, so that a tenant
    /// cannot change what the installation's roles mean.
    pub fn of_roles<'a>(&self, built_in: &BuiltInRoles, roles: impl IntoIterator<Item = &'a RoleName>) -> PermissionSet {
        let mut set = PermissionSet::NONE;
        for role in roles {
            if let Some(granted) = built_in.get(role).or_else(|| self.roles.get(role)) {
                set.extend_with(granted);
            }
        }
        set
    }

    /// What a user of the tenant is granted by its roles and groups; `None` for one the tenant does not name.
    pub fn of_user(&self, subject: &Subject) -> Option<&PermissionSet> {
        self.users.get(subject)
    }
}

/// Whether somebody may do something, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AccessExplanation {
    /// Who.
    pub subject: Subject,
    /// What.
    pub permission: PermissionName,
    /// Whether it is allowed.
    pub allowed: bool,
    /// Whether the tenant names this subject at all; for an API key, whether it is in force.
    pub is_known: bool,
    /// Whether its roles grant it, but the API key is narrowed to other permissions.
    pub is_narrowed: bool,
    /// Every way on which it is allowed; none when it is refused.
    pub grants: Vec<Grant>,
    /// The roles that the subject has, and that do not grant it.
    pub other_roles: Vec<RoleName>,
    /// The roles that would grant it.
    pub roles_that_would: Vec<RoleName>,
    /// The routes that ask for it, by name.
    pub routes: Vec<String>,
}

/// A way on which something is allowed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Grant {
    /// The role that grants it.
    pub role: RoleName,
    /// Whether it is one that every tenant has.
    pub is_built_in: bool,
    /// The group that gives the role; `None` for a role that the subject itself has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupName>,
}

/// Says why somebody may do something, or may not. Reads what is declared rather than the compiled sets, so that a test can
/// compare the two.
pub fn explain(
    built_in: &BTreeMap<RoleName, BTreeSet<PermissionName>>,
    access: &TenantAccess,
    subject: &Subject,
    permission: &PermissionName,
) -> AccessExplanation {
    // Whether the role is built in, when it grants it.
    let granted_by = |role: &RoleName| {
        let own = || access.roles.iter().find(|own| own.name == *role).map(|own| (&own.permissions, false));
        let (permissions, is_built_in) = built_in.get(role).map(|permissions| (permissions, true)).or_else(own)?;
        permissions.contains(permission).then_some(is_built_in)
    };
    let user = access.users.iter().find(|user| user.subject == *subject);
    let mut ways: Vec<(&RoleName, Option<&GroupName>)> = Vec::new();
    if let Some(user) = user {
        ways.extend(user.roles.iter().map(|role| (role, None)));
        for group in access.groups.iter().filter(|group| user.groups.contains(&group.name)) {
            ways.extend(group.roles.iter().map(|role| (role, Some(&group.name))));
        }
    }
    let (mut grants, mut other_roles) = (Vec::new(), BTreeSet::new());
    for (role, group) in ways {
        match granted_by(role) {
            Some(is_built_in) => grants.push(Grant { role: role.clone(), is_built_in, group: group.cloned() }),
            None => {
                other_roles.insert(role.clone());
            }
        }
    }
    let all: BTreeSet<&RoleName> = built_in.keys().chain(access.roles.iter().map(|role| &role.name)).collect();
    AccessExplanation {
        subject: subject.clone(),
        permission: permission.clone(),
        allowed: !grants.is_empty(),
        is_known: user.is_some(),
        is_narrowed: false,
        grants,
        other_roles: other_roles.into_iter().collect(),
        roles_that_would: all.into_iter().filter(|role| granted_by(role).is_some()).cloned().collect(),
        routes: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection, prelude::*};

    use super::*;
    use crate::tenant_access::{AccessGroup, AccessRole, AccessUser};

    fn permission(number: u32) -> PermissionName {
        format!("p.{number}").parse().unwrap()
    }

    proptest! {
        #[test]
        fn a_set_is_a_set(left in collection::btree_set(0_u32..200, 0..40), right in collection::btree_set(0_u32..200, 0..40)) {
            let set = |bits: &BTreeSet<u32>| bits.iter().copied().map(PermissionBit).collect::<PermissionSet>();
            let (mut both, mut common) = (set(&left), set(&left));
            both.extend_with(&set(&right));
            common.narrow_to(&set(&right));
            prop_assert_eq!(&both, &set(&left.union(&right).copied().collect()));
            prop_assert_eq!(&common, &set(&left.intersection(&right).copied().collect()));
            prop_assert_eq!(common.is_empty(), left.is_disjoint(&right));
            for bit in 0..200 {
                prop_assert_eq!(set(&left).contains(PermissionBit(bit)), left.contains(&bit));
            }
            prop_assert_eq!(both.bits().map(PermissionBit::number).collect::<BTreeSet<_>>(), left.union(&right).copied().collect());
        }

        /// The compiled sets and the explanation are two readings of one declaration.
        #[test]
        fn the_bits_say_what_the_explanation_says(
            built_in in collection::btree_map(0_u8..3, collection::btree_set(0_u32..80, 0..6), 0..3),
            own in collection::btree_map(0_u8..5, collection::btree_set(0_u32..80, 0..6), 0..5),
            groups in collection::btree_map(0_u8..3, collection::btree_set(0_u8..6, 0..3), 0..3),
            users in collection::btree_map(0_u8..4, (collection::btree_set(0_u8..6, 0..3), collection::btree_set(0_u8..4, 0..3)), 0..4),
        ) {
            let role = |number: &u8| format!("r{number}").parse::<RoleName>().unwrap();
            let group = |number: &u8| format!("g{number}").parse::<GroupName>().unwrap();
            let subject = |number: &u8| format!("u{number}").parse::<Subject>().unwrap();
            let names = |numbers: &BTreeSet<u32>| numbers.iter().copied().map(permission).collect::<BTreeSet<_>>();
            let access = TenantAccess {
                roles: own.iter().map(|(name, of)| AccessRole { name: role(name), permissions: names(of) }).collect(),
                groups: groups.iter().map(|(name, of)| AccessGroup { name: group(name), roles: of.iter().map(role).collect() }).collect(),
                users: users.iter().map(|(name, (roles, of))| AccessUser {
                    subject: subject(name), roles: roles.iter().map(role).collect(), groups: of.iter().map(group).collect(),
                }).collect(),
            };
            let declared: BTreeMap<RoleName, BTreeSet<PermissionName>> =
                built_in.iter().map(|(name, of)| (role(name), names(of))).collect();
            // Every permission but one is asked for somewhere.
            let catalogue = Catalogue::new((0..79).map(permission));
            let lists: Vec<(RoleName, Vec<PermissionName>)> =
                declared.iter().map(|(name, of)| (name.clone(), of.iter().cloned().collect())).collect();
            let compiled = BuiltInRoles::new(&catalogue, lists.iter().map(|(name, of)| (name, of.as_slice())));
            let grants = TenantGrants::new(&catalogue, &compiled, &access);
            for user in 0..5 {
                for number in 0..79 {
                    let told = explain(&declared, &access, &subject(&user), &permission(number));
                    let bit = catalogue.bit(&permission(number)).unwrap();
                    let allowed = grants.of_user(&subject(&user)).is_some_and(|set| set.contains(bit));
                    prop_assert_eq!(told.allowed, allowed);
                    prop_assert_eq!(told.is_known, grants.of_user(&subject(&user)).is_some());
                    prop_assert_eq!(told.allowed, told.grants.iter().any(|grant| told.roles_that_would.contains(&grant.role)));
                }
            }
        }
    }

    #[test]
    fn a_tenant_cannot_change_what_a_built_in_role_means() {
        let catalogue = Catalogue::new([permission(1), permission(2)]);
        let reader: RoleName = "reader".parse().unwrap();
        let (ones, twos) = ([permission(1)], BTreeSet::from([permission(2)]));
        let built_in = BuiltInRoles::new(&catalogue, [(&reader, ones.as_slice())]);
        let own = AccessRole { name: reader.clone(), permissions: twos };
        let access = TenantAccess { roles: vec![own], ..TenantAccess::default() };
        let grants = TenantGrants::new(&catalogue, &built_in, &access);
        assert_eq!(grants.of_roles(&built_in, [&reader]), catalogue.set(&ones));
    }
}
