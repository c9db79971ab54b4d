//! Every error of the store and the lifecycle as one of the API's problems: the one place where that is decided.

use guardian_lifecycle::LifecycleError;
use guardian_model::tenant_access::AccessError;
use guardian_store::{
    ApiKeyError, BeginError, HttpOverrideError, IdentityKeyError, InterveneError, ListError, LoginError, RotationError,
    RunError, SetLimitsError, SetTierError, StoreError, TenantAccessError, TierError, TokenError,
};
use sqlx::{Error as Driver, error::DatabaseError};

use crate::{
    feed::FeedError,
    problem::{ApiError, Kind},
};

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        let StoreError::Database { source, .. } = &error else { return Self::internal(error) };
        let code = source.as_database_error().and_then(DatabaseError::code).unwrap_or_default().into_owned();
        match source {
            _ if code == "53100" => Self::unavailable("the disk of the control database is full; make room on it", error),
            Driver::Io(_) | Driver::Tls(_) | Driver::PoolTimedOut | Driver::PoolClosed => silent(error),
            // Connection, resources, shut down or starting, cancelled by the store's own time limit.
            _ if ["08", "53", "57"].iter().any(|class| code.starts_with(class)) => silent(error),
            _ => Self::internal(error),
        }
    }
}

fn silent(error: StoreError) -> ApiError {
    ApiError::unavailable("the control database does not answer; nothing was changed", error)
}

impl From<ListError> for ApiError {
    fn from(error: ListError) -> Self {
        match error {
            ListError::Cursor | ListError::Limit(_) => Self::invalid(error.to_string()),
            ListError::Store(error) => error.into(),
        }
    }
}

impl From<SetTierError> for ApiError {
    fn from(error: SetTierError) -> Self {
        match error {
            SetTierError::NotFound(_) => Self::not_found(error.to_string()),
            SetTierError::Tier { .. } => Self::invalid(error.to_string()),
            SetTierError::Store(error) => error.into(),
        }
    }
}

impl From<TierError> for ApiError {
    fn from(error: TierError) -> Self {
        match error {
            TierError::NotFound(_) => Self::not_found(error.to_string()),
            TierError::Declared(_) | TierError::InUse(_) | TierError::Full => Self::new(Kind::WrongState, error.to_string()),
            TierError::Weight(_) => Self::invalid(error.to_string()),
            TierError::Store(error) => error.into(),
        }
    }
}

impl From<TokenError> for ApiError {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::NotFound(_) => Self::not_found(error.to_string()),
            TokenError::Name | TokenError::Tenant | TokenError::NoTenant(_) => Self::invalid(error.to_string()),
            TokenError::Full => Self::new(Kind::WrongState, error.to_string()),
            TokenError::Store(error) => error.into(),
        }
    }
}

impl From<AccessError> for ApiError {
    fn from(error: AccessError) -> Self {
        let kind = match error {
            AccessError::NoUser(_) => Kind::NotFound,
            AccessError::NoRole(_) | AccessError::NoGroup(_) | AccessError::TooMany { .. } => Kind::Invalid,
            AccessError::Full { .. } | AccessError::BuiltIn(_) | AccessError::InUse { .. } => Kind::WrongState,
            AccessError::Reserved(_) => Kind::Forbidden,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<ApiKeyError> for ApiError {
    fn from(error: ApiKeyError) -> Self {
        let kind = match error {
            ApiKeyError::NotFound(_) | ApiKeyError::NoTenant(_) => Kind::NotFound,
            ApiKeyError::Name
            | ApiKeyError::NoRoles
            | ApiKeyError::Permissions
            | ApiKeyError::NoPermissions
            | ApiKeyError::Zero(_)
            | ApiKeyError::Grace => Kind::Invalid,
            ApiKeyError::Ended(_) | ApiKeyError::Full => Kind::WrongState,
            ApiKeyError::Access(error) => return error.into(),
            ApiKeyError::Store(error) => return error.into(),
        };
        Self::new(kind, error.to_string())
    }
}

impl From<TenantAccessError> for ApiError {
    fn from(error: TenantAccessError) -> Self {
        let kind = match error {
            TenantAccessError::NoTenant(_) | TenantAccessError::NoHost(_) => Kind::NotFound,
            TenantAccessError::NoDomain(_) | TenantAccessError::WithinSuffix { .. } => Kind::Invalid,
            TenantAccessError::Taken(_) | TenantAccessError::Full => Kind::WrongState,
            TenantAccessError::Access(error) => return error.into(),
            TenantAccessError::Store(error) => return error.into(),
        };
        Self::new(kind, error.to_string())
    }
}

impl From<HttpOverrideError> for ApiError {
    fn from(error: HttpOverrideError) -> Self {
        let kind = match error {
            HttpOverrideError::NotFound(_) => Kind::NotFound,
            HttpOverrideError::Conflict(_) => Kind::Invalid,
            HttpOverrideError::Disabled | HttpOverrideError::Version { .. } => Kind::WrongState,
            HttpOverrideError::Store(error) => return error.into(),
        };
        Self::new(kind, error.to_string())
    }
}

impl From<IdentityKeyError> for ApiError {
    fn from(error: IdentityKeyError) -> Self {
        match error {
            IdentityKeyError::UnderWay(_) => Self::new(Kind::WrongState, error.to_string()),
            IdentityKeyError::Store(error) => error.into(),
        }
    }
}

impl From<LoginError> for ApiError {
    fn from(error: LoginError) -> Self {
        match error {
            LoginError::NotFound(_) => Self::not_found(error.to_string()),
            LoginError::NoTenant(_) => Self::invalid(error.to_string()),
            LoginError::Taken(_) | LoginError::NoPassword(_) | LoginError::Full => {
                Self::new(Kind::WrongState, error.to_string())
            }
            LoginError::Store(error) => error.into(),
        }
    }
}

impl From<SetLimitsError> for ApiError {
    fn from(error: SetLimitsError) -> Self {
        match error {
            SetLimitsError::NotFound(_) => Self::not_found(error.to_string()),
            SetLimitsError::Weight(_) => Self::invalid(error.to_string()),
            SetLimitsError::Store(error) => error.into(),
        }
    }
}

impl From<FeedError> for ApiError {
    fn from(error: FeedError) -> Self {
        match error {
            FeedError::Gone(_) => Self::new(Kind::Gone, error.to_string()),
            FeedError::Installation(error) => Self::new(Kind::Configuration, error.to_string()),
            FeedError::Store(error) => error.into(),
        }
    }
}

impl From<RotationError> for ApiError {
    fn from(error: RotationError) -> Self {
        match error {
            RotationError::Store(error) => error.into(),
            _ => Self::new(Kind::WrongState, error.to_string()),
        }
    }
}

impl From<RunError> for ApiError {
    fn from(error: RunError) -> Self {
        match error {
            RunError::Busy(_) => Self::new(Kind::RunBusy, error.to_string()),
            RunError::Store(error) => error.into(),
        }
    }
}

impl From<BeginError> for ApiError {
    fn from(error: BeginError) -> Self {
        let kind = match error {
            BeginError::SlugTaken(_) => Kind::SlugTaken,
            BeginError::KeyTaken(_) => Kind::KeyTaken,
            BeginError::NotFound(_) => Kind::NotFound,
            BeginError::Busy(_) | BeginError::IdTaken(_) => Kind::TenantBusy,
            BeginError::WrongState { .. } => Kind::WrongState,
            BeginError::Tier(_) | BeginError::IdempotencyKey => Kind::Invalid,
            BeginError::IdempotencyMismatch => Kind::IdempotencyMismatch,
            BeginError::Store(error) => return error.into(),
        };
        Self::new(kind, error.to_string())
    }
}

impl From<InterveneError> for ApiError {
    fn from(error: InterveneError) -> Self {
        match error {
            InterveneError::NotFound(_) => Self::not_found(error.to_string()),
            InterveneError::NotStuck { .. } | InterveneError::Over { .. } | InterveneError::Irreversible(_) => {
                Self::new(Kind::WrongState, error.to_string())
            }
            InterveneError::Store(error) => error.into(),
        }
    }
}

impl From<LifecycleError> for ApiError {
    fn from(error: LifecycleError) -> Self {
        let kind = match error {
            LifecycleError::NotFound(_) | LifecycleError::DoorNotOpen { .. } | LifecycleError::NoToolLogin(_) => {
                Kind::NotFound
            }
            LifecycleError::NoTier(_)
            | LifecycleError::NoRowTier(_)
            | LifecycleError::ImportSize { .. }
            | LifecycleError::DoorMinutes { .. }
            | LifecycleError::NoPlace { .. }
            | LifecycleError::Key(_) => Kind::Invalid,
            LifecycleError::NotHardened { .. }
            | LifecycleError::NoDoor { .. }
            | LifecycleError::NoTool { .. }
            | LifecycleError::Foreign(_)
            | LifecycleError::NotActive { .. } => Kind::WrongState,
            LifecycleError::ToolBusy { .. } | LifecycleError::ToolOvertaken { .. } => Kind::ToolBusy,
            LifecycleError::TooManyTickets { .. } | LifecycleError::TooManyDoors { .. } => Kind::LimitReached,
            LifecycleError::NoReservedCluster(_) | LifecycleError::Migrations(_) => Kind::Configuration,
            LifecycleError::Bounds { .. } | LifecycleError::Cluster { .. } => {
                return Self::unavailable(error.to_string(), error);
            }
            LifecycleError::Begin(error) => return error.into(),
            LifecycleError::Intervene(error) => return error.into(),
            LifecycleError::SetLimits(error) => return error.into(),
            LifecycleError::SetTier(error) => return error.into(),
            LifecycleError::Store(error) => return error.into(),
        };
        Self::new(kind, error.to_string())
    }
}
