//! A client's way in: start-up packet, proof, and the tenant that all sources agree on. No IO.

use std::sync::Arc;

use aws_lc_rs::hmac;
use guardian_model::{
    LoginProof, LoginScope, TenantState,
    snapshot::{SnapshotLogin, SnapshotTenant},
};
use guardian_pgwire::{
    backend, frame, frontend,
    scram::{self, Exchange, MECHANISM, MECHANISM_PLUS, Verifier},
    startup::{self, FirstPacket, Startup},
};

use super::{observe, refusal::Refusal, settings};
use crate::View;

/// The database name that opens the admin console.
pub(crate) const ADMIN_DATABASE: &str = "guardian";
/// What clients send before they close, also some that have not been let in.
const GOODBYE: &[u8] = b"X\0\0\0\x04";
/// The longest message of a proof.
const PROOF_LEN_MAX: usize = 4096;

/// What is known of the connection itself.
#[derive(Debug, Default, Clone)]
pub(crate) struct Channel {
    /// Under TLS.
    pub(crate) is_tls: bool,
    /// TLS is asked of it.
    pub(crate) tls_required: bool,
    /// What channel binding compares.
    pub(crate) end_point: Option<Vec<u8>>,
    /// The tenant that the server name (SNI) names.
    pub(crate) server_name_tenant: Option<String>,
    /// The common name of the client's certificate, which was verified.
    pub(crate) certificate_name: Option<String>,
}

/// How far a client is.
#[derive(Debug)]
pub(crate) struct Login {
    stage: Stage,
    /// Makes up verifiers for logins that are not there, as long as the installation has nothing to derive them from.
    mock_secret: [u8; 32],
}

#[derive(Debug)]
enum Stage {
    /// The first packet, or the one after the turn to TLS.
    Startup,
    /// Its name of a mechanism and first message.
    SaslInitial(Box<Asked>),
    /// Its proof.
    SaslResponse(Box<Asked>, Exchange),
}

/// What the start-up packet asked for.
#[derive(Debug)]
struct Asked {
    user: String,
    /// The login by that name, which a proof is still wanted of.
    login: Option<Arc<SnapshotLogin>>,
    verifier: Option<Verifier>,
    sources: Sources,
    is_admin: bool,
    settings: Vec<(String, String)>,
}

/// Every place at start-up that can name a tenant.
#[derive(Debug, Default)]
struct Sources(Vec<(&'static str, String)>);

/// A client that has proved who it is.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) login: Arc<SnapshotLogin>,
    pub(crate) role: Role,
    /// Settings of the start-up packet.
    pub(crate) settings: Vec<(String, String)>,
}

/// What an admitted client is.
#[derive(Debug)]
pub(crate) enum Role {
    /// At the admin console.
    Admin,
    /// Bound to a tenant.
    Tenant(Arc<SnapshotTenant>),
    /// Bound to none yet; its login may switch.
    Unbound,
}

/// What comes next.
#[derive(Debug)]
pub(crate) enum Progress {
    /// More bytes.
    More,
    /// The client asks for TLS; nothing but its request may have come.
    Tls,
    /// The client asks for another's statement to be cancelled.
    Cancel { process: u32, secret: Vec<u8> },
    /// It is in.
    Admitted(Box<Admitted>),
    /// The client said goodbye.
    Gone,
}

impl Login {
    pub(crate) fn new(mock_secret: [u8; 32]) -> Self {
        Self { stage: Stage::Startup, mock_secret }
    }

    /// Takes bytes from the front of `input`, and writes answers.
    pub(crate) fn feed(
        &mut self,
        input: &mut Vec<u8>,
        channel: &Channel,
        view: &View,
        out: &mut Vec<u8>,
    ) -> Result<Progress, Refusal> {
        loop {
            let stage = std::mem::replace(&mut self.stage, Stage::Startup);
            match stage {
                // Whatever it had begun to say behind it.
                Stage::Startup | Stage::SaslInitial(_) | Stage::SaslResponse(..) if input.starts_with(GOODBYE) => {
                    return Ok(Progress::Gone);
                }
                Stage::Startup => {
                    // Of a length it would be an impossible one.
                    if !input.is_empty() && GOODBYE.starts_with(input) {
                        return Ok(Progress::More);
                    }
                    let parsed = startup::parse(input).map_err(|error| Refusal::Protocol(error.to_string()))?;
                    let Some((packet, len)) = parsed else { return Ok(Progress::More) };
                    match packet {
                        FirstPacket::Ssl => {
                            // Bytes behind the request came in clear, and must not be taken for what comes under TLS.
                            if input.len() > len || channel.is_tls {
                                return Err(Refusal::Protocol("unexpected bytes after a request for TLS".to_owned()));
                            }
                            input.clear();
                            return Ok(Progress::Tls);
                        }
                        FirstPacket::GssEncryption => {
                            if input.len() > len {
                                return Err(Refusal::Protocol("unexpected bytes after a request for GSS".to_owned()));
                            }
                            input.clear();
                            out.push(b'N');
                            return Ok(Progress::More);
                        }
                        FirstPacket::Cancel { process, secret } => return Ok(Progress::Cancel { process, secret }),
                        FirstPacket::Startup(packet) => {
                            input.drain(..len);
                            if channel.tls_required && !channel.is_tls {
                                return Err(Refusal::TlsRequired);
                            }
                            let asked = Asked::read(&packet, channel, view, out)?;
                            if asked.verifier.is_none() && asked.login.is_some() {
                                return asked.admit(view);
                            }
                            let offered: &[&str] =
                                if channel.end_point.is_some() { &[MECHANISM_PLUS, MECHANISM] } else { &[MECHANISM] };
                            backend::write_auth_sasl(out, offered);
                            self.stage = Stage::SaslInitial(Box::new(asked));
                        }
                    }
                }
                Stage::SaslInitial(mut asked) => {
                    let Some(body) = proof(input)? else {
                        self.stage = Stage::SaslInitial(asked);
                        return Ok(Progress::More);
                    };
                    let initial = frontend::sasl_initial(&body).map_err(|error| Refusal::Protocol(error.to_string()))?;
                    // One salt a login, whatever tenant is named behind it, as with a login that is there.
                    let name = asked.user.split('.').next().unwrap_or_default();
                    let made_up = || Verifier::mock(&mock_secret(view).unwrap_or(self.mock_secret), name);
                    let verifier = asked.verifier.take().unwrap_or_else(made_up);
                    let begun = Exchange::begin(verifier, initial.mechanism, initial.response, channel.end_point.as_deref());
                    let (exchange, first) = begun.map_err(|error| asked.failed(&error))?;
                    backend::write_auth_sasl_continue(out, &first);
                    self.stage = Stage::SaslResponse(asked, exchange);
                }
                Stage::SaslResponse(asked, exchange) => {
                    let Some(body) = proof(input)? else {
                        self.stage = Stage::SaslResponse(asked, exchange);
                        return Ok(Progress::More);
                    };
                    let last = exchange.finish(&body).map_err(|error| asked.failed(&error))?;
                    let admitted = asked.admit(view)?;
                    backend::write_auth_sasl_final(out, &last);
                    return Ok(admitted);
                }
            }
        }
    }
}

/// What verifiers of logins that are not there are derived from: the same at every gateway and after each restart. A salt that
/// changed there would tell that nobody is behind the name.
fn mock_secret(view: &View) -> Option<[u8; 32]> {
    let password = view.installation.application_password.as_ref()?;
    let key = hmac::Key::new(hmac::HMAC_SHA256, password.expose().as_bytes());
    hmac::sign(&key, b"verifiers of logins that are not there").as_ref().try_into().ok()
}

fn names(tenant: &SnapshotTenant, name: &str) -> bool {
    tenant.slug.as_str() == name || tenant.id.to_string() == name
}

/// The tenant, if it serves.
pub(crate) fn serving(tenant: &Arc<SnapshotTenant>) -> Result<Arc<SnapshotTenant>, Refusal> {
    if tenant.state == TenantState::Active && tenant.secret.is_some() {
        Ok(Arc::clone(tenant))
    } else {
        Err(Refusal::NotServing { slug: tenant.slug.clone(), state: tenant.state })
    }
}

impl Asked {
    fn read(packet: &Startup, channel: &Channel, view: &View, out: &mut Vec<u8>) -> Result<Asked, Refusal> {
        if packet.minor > 0 || !packet.extensions.is_empty() {
            let unknown: Vec<&str> = packet.extensions.iter().map(String::as_str).collect();
            backend::write_negotiate(out, 0, &unknown);
        }
        let user = packet.get("user").unwrap_or_default().to_owned();
        if user.is_empty() {
            return Err(Refusal::Protocol("no user name was given at start-up".to_owned()));
        }
        let (name, of_user) = user.split_once('.').map_or((user.as_str(), None), |(name, tenant)| (name, Some(tenant)));
        let mut sources = Sources::default();
        sources.add("user name", of_user);
        sources.add("server name", channel.server_name_tenant.as_deref());
        let login = name.parse().ok().and_then(|name| view.login(&name)).cloned();
        let asked_for = packet.get("database").unwrap_or(&user);
        // Clients name the database after the user when nobody names it: then it says something only of an administrator.
        let database = Some(asked_for).filter(|database| *database != user);
        let is_admin_s = login.as_ref().is_some_and(|login| matches!(login.scope, LoginScope::Admin));
        let is_admin = asked_for == ADMIN_DATABASE && (database.is_some() || is_admin_s);
        let shared = &view.installation.shared.database;
        if !is_admin {
            sources.add("database name", database.filter(|database| database != shared));
        }
        let mut settings = Vec::new();
        for (parameter, value) in &packet.parameters {
            match parameter.as_str() {
                "user" | "database" => {}
                "replication" if matches!(value.as_str(), "false" | "off" | "no" | "0") => {}
                "options" => {
                    let options = startup::options(value).map_err(|error| Refusal::Protocol(error.to_string()))?;
                    for (option, value) in options {
                        if option.eq_ignore_ascii_case("guardian.tenant") {
                            sources.add("option guardian.tenant", Some(&value));
                        } else {
                            add_setting(&mut settings, &option, &value)?;
                        }
                    }
                }
                other => add_setting(&mut settings, other, value)?,
            }
        }
        let by_certificate = login.as_ref().is_some_and(|login| {
            login.proof == LoginProof::Certificate && channel.certificate_name.as_deref() == Some(login.name.as_str())
        });
        let verifier = login.as_ref().and_then(|login| login.verifier.as_ref()).map(|text| Verifier::parse(text.expose()));
        let (login, verifier) = match (login, verifier) {
            (Some(login), _) if by_certificate => (Some(login), None),
            (Some(login), Some(Ok(verifier))) => (Some(login), Some(verifier)),
            // Nobody can prove to be it: the exchange goes on against a verifier made up, and fails at its end.
            _ => (None, None),
        };
        Ok(Asked { user, login, verifier, sources, is_admin, settings })
    }

    /// Whom the client may serve, now that it has proved who it is.
    fn admit(self, view: &View) -> Result<Progress, Refusal> {
        let Some(login) = self.login.clone() else { return Err(self.refused()) };
        let role = match login.scope {
            LoginScope::Admin if self.is_admin && self.sources.0.is_empty() => Role::Admin,
            LoginScope::Admin => return Err(self.refused()),
            LoginScope::Tenant { .. } | LoginScope::AnyTenant { .. } if self.is_admin => return Err(self.refused()),
            LoginScope::Tenant { tenant } => {
                let tenant = view.tenant(tenant).ok_or_else(|| self.refused())?;
                // Whether another tenant is there is none of this login's business.
                let names_another = self.sources.0.iter().any(|(_, name)| !names(tenant, name));
                if names_another {
                    return Err(self.refused());
                }
                Role::Tenant(serving(tenant)?)
            }
            LoginScope::AnyTenant { switch } => match self.sources.agreed(view)? {
                Some(tenant) => Role::Tenant(serving(&tenant)?),
                // An application that is observed may not name tenants yet: that is what is to be found out.
                None if switch == guardian_model::Switch::Never && !observe::is_observing(view) => {
                    return Err(Refusal::NoTenant);
                }
                None => Role::Unbound,
            },
        };
        Ok(Progress::Admitted(Box::new(Admitted { login, role, settings: self.settings })))
    }

    fn refused(&self) -> Refusal {
        Refusal::Authentication { user: self.user.clone() }
    }

    fn failed(&self, error: &scram::ScramError) -> Refusal {
        tracing::debug!(%error, "a proof failed");
        self.refused()
    }
}

impl Sources {
    fn add(&mut self, source: &'static str, tenant: Option<&str>) {
        self.0.extend(tenant.filter(|tenant| !tenant.is_empty()).map(|tenant| (source, tenant.to_owned())));
    }

    /// The one tenant that all of them name.
    fn agreed(&self, view: &View) -> Result<Option<Arc<SnapshotTenant>>, Refusal> {
        let Some(((first, name), others)) = self.0.split_first() else { return Ok(None) };
        let unknown = || Refusal::UnknownTenant(name.chars().take(80).collect());
        let tenant = view.tenant_named(name).ok_or_else(unknown)?;
        match others.iter().find(|(_, other)| !names(tenant, other)) {
            Some((second, _)) => Err(Refusal::Disagreement { first, second }),
            None => Ok(Some(Arc::clone(tenant))),
        }
    }
}

fn add_setting(settings: &mut Vec<(String, String)>, name: &str, value: &str) -> Result<(), Refusal> {
    if !settings::may_be_set(name) {
        return Err(Refusal::Parameter(name.chars().take(80).collect()));
    }
    if settings.len() >= 100 {
        return Err(Refusal::Protocol("more than 100 settings at start-up".to_owned()));
    }
    settings.push((name.to_owned(), value.to_owned()));
    Ok(())
}

/// A message that carries a proof, taken from the front.
fn proof(input: &mut Vec<u8>) -> Result<Option<Vec<u8>>, Refusal> {
    let malformed = || Refusal::Protocol("expected a message of the authentication".to_owned());
    let Some(header) = frame::header(input).map_err(|_| malformed())? else { return Ok(None) };
    if header.tag != b'p' || header.body_len > PROOF_LEN_MAX {
        return Err(malformed());
    }
    if input.len() < header.total() {
        return Ok(None);
    }
    let body = input[frame::HEADER_LEN..header.total()].to_vec();
    input.drain(..header.total());
    Ok(Some(body))
}
