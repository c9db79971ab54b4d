//! Who gets in, as whom, and what those hear who do not.

use guardian_model::{
    LoginProof, LoginScope, Switch, TenantState,
    snapshot::{Secret, SnapshotLogin},
};
use guardian_pgwire::{
    backend::{self, Auth},
    frame::{self, HEADER_LEN},
    frontend, startup,
};
use postgres_protocol::{
    authentication::sasl::{ChannelBinding, ScramSha256},
    password,
};

use crate::{
    View,
    directory::tests::{snapshot, tenant},
    sql::{
        login::{Admitted, Channel, Login, Progress, Role},
        refusal::Refusal,
    },
};

const PASSWORD: &[u8] = b"open sesame";

fn login(name: &str, scope: LoginScope, proof: LoginProof) -> SnapshotLogin {
    let verifier = (proof == LoginProof::Password).then(|| Secret::new(password::scram_sha_256(PASSWORD)));
    SnapshotLogin { name: name.parse().unwrap(), scope, proof, verifier }
}

/// Tenants acme, beta, one suspended and one deleted; logins of every kind.
pub(super) fn view() -> View {
    let tenants = vec![
        tenant(1, "acme", TenantState::Active),
        tenant(2, "beta", TenantState::Active),
        tenant(3, "asleep", TenantState::Suspended),
        tenant(4, "gone", TenantState::Deleted),
    ];
    let of = |number: usize| LoginScope::Tenant { tenant: tenants[number].id };
    let any = |switch| LoginScope::AnyTenant { switch };
    let logins = vec![
        login("bound", of(0), LoginProof::Password),
        login("sleeper", of(2), LoginProof::Password),
        login("app", any(Switch::Never), LoginProof::Password),
        login("switcher", any(Switch::Tenant), LoginProof::Password),
        login("admin", LoginScope::Admin, LoginProof::Password),
        login("guardian", LoginScope::Admin, LoginProof::Password),
        login("cert", of(0), LoginProof::Certificate),
    ];
    View::of(snapshot(tenants, logins))
}

/// What a client came to hear and be.
pub(super) struct Outcome {
    pub(super) result: Result<Admitted, Refusal>,
    /// The bytes that it was sent before.
    pub(super) sent: Vec<u8>,
}

pub(super) fn packet(parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut packet = Vec::new();
    startup::write_startup(&mut packet, parameters);
    packet
}

/// A client that sends a packet and proves itself with a password, a byte at a time.
fn connect_with(packet: &[u8], password: &[u8], channel: &Channel) -> Outcome {
    connect_to(&view(), packet, password, channel)
}

pub(super) fn connect_to(view: &View, packet: &[u8], password: &[u8], channel: &Channel) -> Outcome {
    let mut login = Login::new([7; 32]);
    let mut client = ScramSha256::new(password, ChannelBinding::unsupported());
    let (mut sent, mut taken) = (Vec::new(), 0);
    let mut to_send = packet.to_vec();
    let mut input = Vec::new();
    while !to_send.is_empty() {
        let mut progress = Ok(Progress::More);
        for byte in to_send.drain(..) {
            assert!(matches!(progress, Ok(Progress::More)), "{progress:?}");
            input.push(byte);
            progress = login.feed(&mut input, channel, view, &mut sent);
        }
        match progress {
            Ok(Progress::More) => {}
            Ok(Progress::Admitted(admitted)) => return Outcome { result: Ok(*admitted), sent },
            Ok(other) => panic!("{other:?}"),
            Err(refusal) => return Outcome { result: Err(refusal), sent },
        }
        while let Some(header) = frame::header(&sent[taken..]).unwrap() {
            let body = &sent[taken + HEADER_LEN..taken + header.total()];
            taken += header.total();
            if header.tag == b'v' {
                continue;
            }
            match backend::auth(body).unwrap() {
                Auth::Sasl(_) => frontend::write_sasl_initial(&mut to_send, "SCRAM-SHA-256", client.message()),
                Auth::SaslContinue(challenge) => {
                    client.update(challenge).unwrap();
                    frontend::write_sasl_response(&mut to_send, client.message());
                }
                other => panic!("{other:?}"),
            }
        }
    }
    panic!("neither in nor refused");
}

fn connect(parameters: &[(&str, &str)]) -> Result<Admitted, Refusal> {
    connect_with(&packet(parameters), PASSWORD, &Channel::default()).result
}

fn slug_of(result: Result<Admitted, Refusal>) -> String {
    match result.unwrap().role {
        Role::Tenant(tenant) => tenant.slug.to_string(),
        other => panic!("{other:?}"),
    }
}

fn refused(user: &str) -> Refusal {
    Refusal::Authentication { user: user.to_owned() }
}

fn named_by_server(slug: &str) -> Channel {
    Channel { is_tls: true, server_name_tenant: Some(slug.to_owned()), ..Channel::default() }
}

#[test]
fn each_source_names_the_tenant() {
    let id = tenant(1, "acme", TenantState::Active).id.to_string();
    for parameters in [
        &[("user", "app.acme")][..],
        &[("user", "app.acme"), ("database", "app.acme")],
        &[("user", "app.acme"), ("database", "helpdesk")],
        &[("user", "app"), ("database", "acme")],
        &[("user", "app"), ("database", &id)],
        &[("user", "app"), ("options", "-c guardian.tenant=acme")],
        &[("user", "app"), ("options", "--Guardian.Tenant=acme")],
        &[("user", "app.acme"), ("database", "acme"), ("options", "-cguardian.tenant=acme")],
        &[("user", "bound")],
        &[("user", "bound.acme"), ("database", "acme")],
    ] {
        assert_eq!(slug_of(connect(parameters)), "acme", "{parameters:?}");
    }
    let by_server_name = connect_with(&packet(&[("user", "app")]), PASSWORD, &named_by_server("beta"));
    assert_eq!(slug_of(by_server_name.result), "beta");
}

#[test]
fn sources_that_disagree_are_refused_whoever_asks() {
    let user_and_database = [("user", "app.acme"), ("database", "beta")];
    let disagreement = |first, second| Refusal::Disagreement { first, second };
    assert_eq!(connect(&user_and_database).unwrap_err(), disagreement("user name", "database name"));
    let options = [("user", "app.acme"), ("options", "-c guardian.tenant=beta")];
    assert_eq!(connect(&options).unwrap_err(), disagreement("user name", "option guardian.tenant"));
    let twice = [("user", "app"), ("options", "-c guardian.tenant=beta -c guardian.tenant=acme")];
    assert!(matches!(connect(&twice).unwrap_err(), Refusal::Disagreement { .. }));
    let server = connect_with(&packet(&[("user", "app.acme")]), PASSWORD, &named_by_server("beta"));
    assert_eq!(server.result.unwrap_err(), disagreement("user name", "server name"));
    // A login of one tenant learns nothing of others: neither that beta is there nor that nobody is not.
    for other in ["beta", "nobody"] {
        assert_eq!(connect(&[("user", "bound"), ("database", other)]).unwrap_err(), refused("bound"));
        let server = connect_with(&packet(&[("user", "bound")]), PASSWORD, &named_by_server(other));
        assert_eq!(server.result.unwrap_err(), refused("bound"));
    }
}

#[test]
fn no_tenant_an_unknown_one_and_those_that_do_not_serve() {
    assert_eq!(connect(&[("user", "app")]).unwrap_err(), Refusal::NoTenant);
    assert!(matches!(connect(&[("user", "switcher")]).unwrap().role, Role::Unbound));
    assert_eq!(slug_of(connect(&[("user", "switcher.beta")])), "beta");
    assert_eq!(connect(&[("user", "app.nobody")]).unwrap_err(), Refusal::UnknownTenant("nobody".to_owned()));
    for (user, state) in [("app.asleep", TenantState::Suspended), ("app.gone", TenantState::Deleted)] {
        let error = connect(&[("user", user)]).unwrap_err();
        assert!(matches!(error, Refusal::NotServing { state: found, .. } if found == state), "{error:?}");
    }
    assert!(matches!(connect(&[("user", "sleeper")]).unwrap_err(), Refusal::NotServing { .. }));
    // Who does not know the password hears none of that.
    for user in ["app", "app.nobody", "app.asleep", "app.gone", "sleeper", "bound.beta"] {
        let outcome = connect_with(&packet(&[("user", user)]), b"wrong", &Channel::default());
        assert_eq!(outcome.result.unwrap_err(), refused(user));
    }
}

#[test]
fn the_console_is_the_administrator_s_alone() {
    assert!(matches!(connect(&[("user", "admin"), ("database", "guardian")]).unwrap().role, Role::Admin));
    for parameters in [
        &[("user", "admin")][..],
        &[("user", "admin"), ("database", "acme")],
        &[("user", "admin.acme"), ("database", "guardian")],
        &[("user", "admin"), ("database", "guardian"), ("options", "-c guardian.tenant=acme")],
        &[("user", "app"), ("database", "guardian")],
        &[("user", "bound"), ("database", "guardian")],
        &[("user", "switcher.acme"), ("database", "guardian")],
    ] {
        assert_eq!(connect(parameters).unwrap_err(), refused(parameters[0].1), "{parameters:?}");
    }
}

#[test]
fn an_unknown_login_and_a_wrong_password_are_answered_alike() {
    let answers = |user: &str| {
        let outcome = connect_with(&packet(&[("user", user)]), b"wrong", &Channel::default());
        assert_eq!(outcome.result.unwrap_err(), refused(user));
        let mut shapes = Vec::new();
        let mut rest = &outcome.sent[..];
        while let Some(header) = frame::header(rest).unwrap() {
            shapes.push((header.tag, header.body_len));
            rest = &rest[header.total()..];
        }
        shapes
    };
    let known = answers("bound");
    assert_eq!(known.len(), 2);
    for user in ["nobody", "nobody.acme", "app.nobody", "No Login!", "cert"] {
        assert_eq!(answers(user), known, "{user}");
    }
    // The right password of another login does not open one that is not there.
    assert_eq!(connect(&[("user", "nobody")]).unwrap_err(), refused("nobody"));
}

#[test]
fn an_unknown_login_has_one_salt_for_all_tenants() {
    let salt = |user: &str| {
        let sent = connect_with(&packet(&[("user", user)]), b"wrong", &Channel::default()).sent;
        let text = String::from_utf8_lossy(&sent).into_owned();
        text.split(',').find(|part| part.starts_with("s=")).unwrap().to_owned()
    };
    assert_eq!(salt("nobody.acme"), salt("nobody.beta"));
    assert_eq!(salt("nobody.acme"), salt("nobody"));
    assert_ne!(salt("nobody"), salt("somebody"));
}

#[test]
fn a_certificate_admits_its_own_login_only() {
    let channel = |name: &str| Channel { is_tls: true, certificate_name: Some(name.to_owned()), ..Channel::default() };
    let admitted = connect_with(&packet(&[("user", "cert")]), b"", &channel("cert"));
    assert!(admitted.sent.is_empty(), "no password is asked for");
    assert_eq!(slug_of(admitted.result), "acme");
    let other_tenant = connect_with(&packet(&[("user", "cert.beta")]), b"", &channel("cert"));
    assert_eq!(other_tenant.result.unwrap_err(), refused("cert.beta"));
    let of_another = connect_with(&packet(&[("user", "cert")]), PASSWORD, &channel("bound"));
    assert_eq!(of_another.result.unwrap_err(), refused("cert"));
    // A login with a password stays one, whatever certificate comes along.
    let wrong = connect_with(&packet(&[("user", "bound")]), b"wrong", &channel("bound"));
    assert_eq!(wrong.result.unwrap_err(), refused("bound"));
}

#[test]
fn tls_is_asked_for_before_anything_is_said() {
    let channel = Channel { tls_required: true, ..Channel::default() };
    for user in ["bound", "nobody"] {
        let outcome = connect_with(&packet(&[("user", user)]), PASSWORD, &channel);
        assert_eq!((outcome.result.unwrap_err(), outcome.sent.len()), (Refusal::TlsRequired, 0));
    }
    let under_tls = Channel { is_tls: true, ..channel };
    assert_eq!(slug_of(connect_with(&packet(&[("user", "bound")]), PASSWORD, &under_tls).result), "acme");
}

/// Feeds the first bytes of a connection at once.
fn first(bytes: &[u8], channel: &Channel) -> (Result<Progress, Refusal>, Vec<u8>) {
    let (mut input, mut out) = (bytes.to_vec(), Vec::new());
    (Login::new([7; 32]).feed(&mut input, channel, &view(), &mut out), out)
}

#[test]
fn nothing_may_come_behind_a_request_for_encryption() {
    let mut ssl = Vec::new();
    startup::write_ssl_request(&mut ssl);
    let mut gss = ssl.clone();
    gss[7] += 1;
    let plain = Channel::default();
    assert!(matches!(first(&ssl, &plain).0, Ok(Progress::Tls)));
    let (progress, out) = first(&gss, &plain);
    assert!(matches!(progress, Ok(Progress::More)) && out == b"N");
    for request in [&ssl, &gss] {
        let stuffed = [&request[..], &packet(&[("user", "bound")])].concat();
        assert!(matches!(first(&stuffed, &plain).0, Err(Refusal::Protocol(_))));
        assert!(matches!(first(&[&request[..], b"x"].concat(), &plain).0, Err(Refusal::Protocol(_))));
    }
    let under_tls = Channel { is_tls: true, ..Channel::default() };
    assert!(matches!(first(&ssl, &under_tls).0, Err(Refusal::Protocol(_))), "TLS within TLS");
}

#[test]
fn a_cancel_is_read_and_other_versions_are_negotiated_or_refused() {
    let plain = Channel::default();
    let mut cancel = Vec::new();
    startup::write_cancel(&mut cancel, 7, &[1, 2, 3, 4]);
    let progress = first(&cancel, &plain).0.unwrap();
    assert!(matches!(progress, Progress::Cancel { process: 7, secret } if secret == [1, 2, 3, 4]));
    let mut newer = packet(&[("user", "bound"), ("_pq_.some_extension", "on")]);
    newer[7] = 2;
    let outcome = connect_with(&newer, PASSWORD, &plain);
    let header = frame::header(&outcome.sent).unwrap().unwrap();
    assert_eq!(header.tag, b'v');
    let mut expected = Vec::new();
    backend::write_negotiate(&mut expected, 0, &["_pq_.some_extension"]);
    assert_eq!(outcome.sent[..header.total()], expected);
    assert_eq!(slug_of(outcome.result), "acme");
    let mut older = packet(&[("user", "bound")]);
    older[5] = 2;
    assert!(matches!(first(&older, &plain).0, Err(Refusal::Protocol(_))));
}

#[test]
fn settings_pass_and_what_would_change_the_session_does_not() {
    let parameters =
        [("user", "bound"), ("TimeZone", "UTC"), ("options", "-c statement_timeout=5 -c app.x=y"), ("replication", "false")];
    let admitted = connect(&parameters).unwrap();
    let settings: Vec<_> = admitted.settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(settings, [("TimeZone", "UTC"), ("statement_timeout", "5"), ("app.x", "y")]);
    for (name, value) in [
        ("role", "postgres"),
        ("replication", "database"),
        ("Session_Authorization", "postgres"),
        ("guardian.register", "x"),
        ("guardian.tenant", "acme"),
        ("options", "-c role=postgres"),
        ("options", "-c guardian.identity=x"),
    ] {
        let error = connect(&[("user", "bound"), (name, value)]).unwrap_err();
        assert!(matches!(error, Refusal::Parameter(_)), "{name}: {error:?}");
    }
    assert!(matches!(connect(&[("user", "bound"), ("options", "-x")]).unwrap_err(), Refusal::Protocol(_)));
    assert!(matches!(connect(&[("database", "acme")]).unwrap_err(), Refusal::Protocol(_)), "no user");
}

#[test]
fn a_proof_of_any_other_shape_is_refused() {
    let mut query = Vec::new();
    frontend::write_query(&mut query, b"SELECT 1");
    let mut long = Vec::new();
    frontend::write_sasl_response(&mut long, &[b'x'; 5000]);
    let mut other = Vec::new();
    frontend::write_sasl_initial(&mut other, "SCRAM-SHA-1", b"n,,n=,r=x");
    for (bytes, is_protocol) in [(query, true), (long, true), (other, false)] {
        let (result, _) = first(&[packet(&[("user", "bound")]), bytes].concat(), &Channel::default());
        match result.unwrap_err() {
            Refusal::Protocol(_) => assert!(is_protocol),
            refusal => assert_eq!((refusal, is_protocol), (refused("bound"), false)),
        }
    }
}

#[test]
fn a_goodbye_in_place_of_anything_is_heard_in_silence() {
    let goodbye = {
        let mut out = Vec::new();
        frontend::write_terminate(&mut out);
        out
    };
    for before in [Vec::new(), packet(&[("user", "bound")])] {
        let (result, heard) = first(&before, &Channel::default());
        assert!(before.is_empty() || matches!(result, Ok(Progress::More)));
        // node-postgres has the start-up packet behind it when it is ended before it is connected.
        for behind in [Vec::new(), packet(&[("user", "bound")])] {
            let (result, sent) = first(&[before.clone(), goodbye.clone(), behind].concat(), &Channel::default());
            assert!(matches!(result, Ok(Progress::Gone)), "{result:?}");
            assert_eq!(sent, heard, "nothing for it");
        }
    }
}

#[test]
fn an_administrator_may_have_the_name_of_the_console() {
    for parameters in [&[("user", "guardian")][..], &[("user", "guardian"), ("database", "guardian")]] {
        assert!(matches!(connect(parameters).unwrap().role, Role::Admin), "{parameters:?}");
    }
    assert!(matches!(connect(&[("user", "guardian"), ("database", "helpdesk")]), Err(Refusal::Authentication { .. })));
    // A tenant's login of that name is not taken for one.
    let bound =
        login("guardian", LoginScope::Tenant { tenant: tenant(1, "acme", TenantState::Active).id }, LoginProof::Password);
    let view = View::of(snapshot(vec![tenant(1, "acme", TenantState::Active)], vec![bound]));
    let named_after_it = packet(&[("user", "guardian"), ("database", "guardian")]);
    assert_eq!(slug_of(connect_to(&view, &named_after_it, PASSWORD, &Channel::default()).result), "acme");
}
