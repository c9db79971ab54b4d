//! Every refusal of the SQL gateway: its SQLSTATE, its words, and the label it counts under.

use guardian_model::{LoginName, Slug, TenantState};
use guardian_pgwire::backend::{self, Report, Severity};

/// Why the gateway says no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Wrong password, unknown login, or a tenant that the login may not name: one answer, so that nobody learns which.
    Authentication { user: String },
    /// No TLS where it is required.
    TlsRequired,
    /// A start-up packet or a message that is none.
    Protocol(String),
    /// A start-up parameter that the gateway does not pass on.
    Parameter(String),
    /// The tenants named at start-up are not one and the same.
    Disagreement { first: &'static str, second: &'static str },
    /// There is no such tenant.
    UnknownTenant(String),
    /// The tenant is there, and does not serve.
    NotServing { slug: Slug, state: TenantState },
    /// The connection has no tenant yet.
    NoTenant,
    /// The login may not switch.
    MayNotSwitch { login: LoginName, by: &'static str },
    /// A switch inside something else.
    SwitchMisplaced,
    /// A switch that is not understood.
    SwitchMalformed,
    /// A prepared statement under a name that another one has.
    NameTaken(String),
    /// The identity was not believed.
    Identity(String),
    /// The identity was good until now.
    IdentityExpired,
    /// A limit of the tenant.
    Limit { name: &'static str, value: u32, unit: &'static str },
    /// A limit of the whole gateway.
    GatewayLimit { name: &'static str, value: u32, unit: &'static str },
    /// The cluster cannot be reached, or does not let the gateway in.
    Server(String),
    /// The connection to the server broke in the middle.
    ServerLost,
    /// COPY FROM STDIN into tables of row tenants.
    CopyFrom,
    /// The gateway stops.
    Stopping,
    /// The client asked for it while it waited.
    Cancelled,
    /// An administrator ended the connection.
    Killed,
    /// The tenant's place or login changed under the connection.
    Changed,
    /// A message larger than the gateway looks into.
    TooLarge { what: &'static str, bytes_max: usize },
}

struct Words {
    code: &'static str,
    message: String,
    hint: Option<&'static str>,
}

impl Refusal {
    fn words(&self) -> Words {
        let words = |code, message: String, hint| Words { code, message, hint };
        match self {
            Self::Authentication { user } => {
                words("28P01", format!("password authentication failed for user \"{user}\""), None)
            }
            Self::TlsRequired => {
                words("28000", "connections without TLS are refused".to_owned(), Some("Connect with sslmode=verify-full."))
            }
            Self::Protocol(problem) => words("08P01", problem.clone(), None),
            Self::Parameter(name) => {
                words("42501", format!("start-up parameter \"{name}\" cannot be set through the gateway"), None)
            }
            Self::Disagreement { first, second } => words(
                "28000",
                format!("the {first} and the {second} name different tenants"),
                Some("Name the tenant once, or the same one everywhere."),
            ),
            Self::UnknownTenant(name) => words("3D000", format!("there is no tenant \"{name}\""), None),
            Self::NotServing { slug, state } => words(
                "57P03",
                match state {
                    TenantState::Suspended => format!("tenant \"{slug}\" is suspended"),
                    TenantState::Deleting | TenantState::Deleted => format!("tenant \"{slug}\" was deleted"),
                    TenantState::Creating | TenantState::Active => format!("tenant \"{slug}\" is being made"),
                },
                None,
            ),
            Self::NoTenant => words(
                "28000",
                "this connection is bound to no tenant yet".to_owned(),
                Some(
                    "Connect as login.tenant, or send SET guardian.tenant or SET guardian.identity as a message of its own.",
                ),
            ),
            Self::MayNotSwitch { login, by } => words(
                "42501",
                format!("login \"{login}\" may not change its tenant by {by}"),
                Some("See guardian login create --switch."),
            ),
            Self::SwitchMisplaced => words(
                "25001",
                "the tenant can be changed only by a message of its own, outside a transaction".to_owned(),
                Some("End the transaction, and send SET guardian.tenant alone."),
            ),
            Self::SwitchMalformed => words(
                "42601",
                "guardian.tenant and guardian.identity are set by exactly SET guardian.tenant = 'slug' or \
                 SET guardian.identity = 'token'"
                    .to_owned(),
                None,
            ),
            Self::NameTaken(name) => words("42P05", format!("prepared statement \"{name}\" already exists"), None),
            Self::Identity(problem) => words("28000", format!("the identity is not accepted: {problem}"), None),
            Self::IdentityExpired => words(
                "28000",
                "the identity this connection is bound by has expired".to_owned(),
                Some("Send SET guardian.identity with the token of the request at hand."),
            ),
            Self::Limit { name, value, unit } => {
                let code = match *name {
                    "statement_ms_max" => "57014",
                    "transaction_ms_max" => "25P04",
                    "idle_in_transaction_ms_max" => "25P03",
                    _ => "53300",
                };
                words(code, format!("the tenant's limit {name} of {value}{unit} is reached"), None)
            }
            Self::GatewayLimit { name, value, unit } => {
                words("53300", format!("the gateway's limit {name} of {value}{unit} is reached"), None)
            }
            Self::Server(problem) => words("08006", format!("the database server cannot be used: {problem}"), None),
            Self::ServerLost => words("08006", "the connection to the database server broke".to_owned(), None),
            Self::CopyFrom => words(
                "0A000",
                "PostgreSQL has no COPY FROM into tables under row-level security".to_owned(),
                Some(
                    "Send INSERTs of many rows, or INSERT … SELECT FROM unnest(…) with an array a column; or give the tenant \
                     isolation schema or database, where COPY FROM works.",
                ),
            ),
            Self::Stopping => words("57P01", "the gateway is stopping".to_owned(), Some("Connect again.")),
            Self::Cancelled => words("57014", "canceling statement due to user request".to_owned(), None),
            Self::Killed => words("57P01", "an administrator ended this connection".to_owned(), None),
            Self::Changed => {
                words("57P01", "the tenant or the login of this connection was changed".to_owned(), Some("Connect again."))
            }
            Self::TooLarge { what, bytes_max } => words("54000", format!("{what} is longer than {bytes_max} bytes"), None),
        }
    }

    /// As an `ErrorResponse` that leaves the connection usable.
    pub(crate) fn write_error(&self, out: &mut Vec<u8>) {
        self.write(out, Severity::Error);
    }

    /// As the last word on a connection.
    pub(crate) fn write_fatal(&self, out: &mut Vec<u8>) {
        self.write(out, Severity::Fatal);
    }

    fn write(&self, out: &mut Vec<u8>, severity: Severity) {
        let Words { code, message, hint } = self.words();
        backend::write_error(out, &Report { severity, code, message: &message, detail: None, hint });
    }

    /// The label in metrics.
    pub(crate) const fn label(&self) -> &'static str {
        match self {
            Self::Authentication { .. } => "authentication",
            Self::TlsRequired => "tls_required",
            Self::Protocol(_) | Self::TooLarge { .. } | Self::NameTaken(_) => "protocol",
            Self::Parameter(_) => "parameter",
            Self::Disagreement { .. } => "disagreement",
            Self::UnknownTenant(_) => "unknown_tenant",
            Self::NotServing { .. } => "not_serving",
            Self::NoTenant => "no_tenant",
            Self::MayNotSwitch { .. } | Self::SwitchMisplaced | Self::SwitchMalformed => "switch",
            Self::Identity(_) | Self::IdentityExpired => "identity",
            Self::Limit { name, .. } | Self::GatewayLimit { name, .. } => name,
            Self::Server(_) | Self::ServerLost => "server",
            Self::CopyFrom => "copy_from",
            Self::Stopping => "stopping",
            Self::Cancelled => "cancelled",
            Self::Killed => "killed",
            Self::Changed => "changed",
        }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.words().message)
    }
}
