//! Who may do what: the roles of a bearer token and the permissions that endpoints ask for.

use serde::{Deserialize, Serialize};

use crate::{
    TenantId,
    rbac::{PermissionBit, PermissionSet},
};

/// The role of a bearer token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Everything, tokens included.
    PlatformAdmin,
    /// Tenants, operations, hardening, migrations and the cross-tenant door; no tokens, no tiers.
    Operator,
    /// Reads everything but secrets.
    Auditor,
    /// Its own tenant only.
    TenantAdmin,
    /// The data plane: reads the snapshot, and nothing else.
    Gateway,
}

/// What an endpoint asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Permission {
    /// Read one tenant.
    TenantRead,
    /// List tenants, operations, incidents, tiers and runs of the whole platform.
    PlatformRead,
    /// Create, suspend, resume, delete and re-tier tenants; retry operations.
    TenantWrite,
    /// Open a session bound to one tenant.
    TenantEnter,
    /// Open a session that reaches the rows of every tenant.
    DoorOpen,
    /// Read the credentials of one tenant's placement.
    SecretRead,
    /// Create, change and delete tiers.
    TierWrite,
    /// Plan and apply the hardening; run migrations.
    SchemaWrite,
    /// Read and verify the audit log.
    AuditRead,
    /// Create, list and revoke tokens.
    TokenWrite,
    /// List the logins of the SQL gateway.
    LoginRead,
    /// Create, rotate and delete logins of the SQL gateway.
    LoginWrite,
    /// Read the snapshot that a gateway runs on: every tenant with its secrets.
    SnapshotRead,
    /// Read one tenant's API keys, roles, groups and users; never a secret.
    AccessRead,
    /// Change one tenant's API keys, roles, groups and users.
    AccessWrite,
    /// Change the routes of the API gateway, and the roles that every tenant has.
    RouteWrite,
}

impl Role {
    /// Every role, in falling power.
    pub const ALL: [Self; 5] = [Self::PlatformAdmin, Self::Operator, Self::Auditor, Self::TenantAdmin, Self::Gateway];

    /// The word in configuration, in the database and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PlatformAdmin => "platform_admin",
            Self::Operator => "operator",
            Self::Auditor => "auditor",
            Self::TenantAdmin => "tenant_admin",
            Self::Gateway => "gateway",
        }
    }

    /// Reads the word back.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == word)
    }

    /// What the role holds, for the tenants it may see at all.
    pub const fn permissions(self) -> PermissionSet {
        use Permission::{
            AccessRead, AccessWrite, AuditRead, DoorOpen, LoginRead, PlatformRead, SchemaWrite, SecretRead, SnapshotRead,
            TenantEnter, TenantRead, TenantWrite,
        };
        match self {
            Self::PlatformAdmin => PermissionSet::of_word(u64::MAX),
            Self::Operator => set(&[
                TenantRead,
                PlatformRead,
                TenantWrite,
                TenantEnter,
                DoorOpen,
                SecretRead,
                SchemaWrite,
                LoginRead,
                AccessRead,
                AccessWrite,
            ]),
            Self::Auditor => set(&[TenantRead, PlatformRead, AuditRead, LoginRead, AccessRead]),
            Self::TenantAdmin => set(&[TenantRead, TenantEnter, AccessRead, AccessWrite]),
            Self::Gateway => set(&[SnapshotRead]),
        }
    }

    /// Whether the role holds the permission, for the tenants it may see at all.
    pub fn grants(self, permission: Permission) -> bool {
        self.permissions().contains(permission.bit())
    }
}

impl Permission {
    /// Its place in a set.
    pub const fn bit(self) -> PermissionBit {
        PermissionBit::new(self as u32)
    }
}

const fn set(permissions: &[Permission]) -> PermissionSet {
    let (mut word, mut index) = (0, 0);
    while index < permissions.len() {
        word |= 1 << permissions[index].bit().number();
        index += 1;
    }
    PermissionSet::of_word(word)
}

/// Who calls: a token's identity, as it stands in the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// `token:tok_…`, or `system:` and the part of Guardian that acts by itself.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// The only tenant it may touch, for [`Role::TenantAdmin`].
    pub tenant: Option<TenantId>,
}

impl Actor {
    /// Guardian itself, outside any request (`system:lifecycle`, `system:boot`).
    pub fn system(part: &str) -> Self {
        Self { name: format!("system:{part}"), role: Role::PlatformAdmin, tenant: None }
    }

    /// Whether the actor may do this to this tenant (`None`: to the platform as a whole).
    pub fn may(&self, permission: Permission, tenant: Option<TenantId>) -> bool {
        self.role.grants(permission)
            && match self.role {
                Role::TenantAdmin => tenant.is_some() && tenant == self.tenant,
                Role::PlatformAdmin | Role::Operator | Role::Auditor | Role::Gateway => true,
            }
    }
}

/// The proof that an actor may do one thing to one tenant (or to the platform). Mutating store calls take it, so that an
/// unauthorised change does not compile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permit {
    actor: Actor,
    permission: Permission,
    tenant: Option<TenantId>,
}

/// The actor may not do that.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the role `{}` may not do that here", .role.as_str())]
pub struct Refused {
    /// The role that was not enough.
    pub role: Role,
    /// What it lacked.
    pub permission: Permission,
}

impl Actor {
    /// The only way to a [`Permit`].
    pub fn permit(&self, permission: Permission, tenant: Option<TenantId>) -> Result<Permit, Refused> {
        if self.may(permission, tenant) {
            Ok(Permit { actor: self.clone(), permission, tenant })
        } else {
            Err(Refused { role: self.role, permission })
        }
    }
}

impl Permit {
    /// Who was authorised.
    pub const fn actor(&self) -> &Actor {
        &self.actor
    }

    /// To do what.
    pub const fn permission(&self) -> Permission {
        self.permission
    }

    /// To which tenant; `None` for the platform.
    pub const fn tenant(&self) -> Option<TenantId> {
        self.tenant
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn a_tenant_admin_reaches_its_own_tenant_only() {
        let own = TenantId::from_uuid(Uuid::from_u128(1));
        let other = TenantId::from_uuid(Uuid::from_u128(2));
        let actor = Actor { name: "token:a".to_owned(), role: Role::TenantAdmin, tenant: Some(own) };
        assert!(actor.may(Permission::TenantRead, Some(own)));
        assert!(!actor.may(Permission::TenantRead, Some(other)));
        assert!(!actor.may(Permission::TenantRead, None));
        assert!(!actor.may(Permission::TenantWrite, Some(own)));
        let unbound = Actor { tenant: None, ..actor };
        assert!(!unbound.may(Permission::TenantRead, None));
    }

    #[test]
    fn words_round_trip() {
        for role in Role::ALL {
            assert_eq!(Role::from_word(role.as_str()), Some(role));
        }
    }
}
