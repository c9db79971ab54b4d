//! What those meet who may not come in: the same for each, whoever it is that they name.

use std::{
    fmt::Debug,
    sync::{Arc, Mutex},
};

use guardian_model::snapshot::Secret;
use guardian_pgwire::{
    frame::HEADER_LEN,
    frontend,
    scram::{MECHANISM, ScramError},
};
use tracing::{
    Event, Metadata, Subscriber,
    field::Field,
    span::{Attributes, Id, Record},
};

use super::way_in::{connect_to, packet, view};
use crate::{
    View,
    sql::login::{Channel, Login, Progress},
};

/// What the checks of proofs came to, as they say it to whoever looks for causes.
#[derive(Debug, Default, Clone)]
struct Verdicts(Arc<Mutex<Vec<String>>>);

impl Subscriber for Verdicts {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        event.record(&mut |field: &Field, value: &dyn Debug| {
            if field.name() == "error" {
                self.0.lock().unwrap().push(format!("{value:?}"));
            }
        });
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// A clock would be too coarse: instead, each kind of login is shown to do the same work, to the last signature.
#[test]
fn whoever_fails_fails_at_the_same_point_of_the_same_exchange() {
    let view = view();
    let fail = |user: &str| {
        let verdicts = Verdicts::default();
        let outcome = tracing::subscriber::with_default(verdicts.clone(), || {
            connect_to(&view, &packet(&[("user", user)]), b"wrong", &Channel::default())
        });
        let mut error = Vec::new();
        outcome.result.unwrap_err().write_error(&mut error);
        let text = String::from_utf8(outcome.sent).unwrap();
        let field = |name: &str| text.split(',').find(|part| part.starts_with(name)).unwrap().to_owned();
        let error = String::from_utf8(error[HEADER_LEN..].to_vec()).unwrap().replace(user, "WHO");
        let verdicts = verdicts.0.lock().unwrap().clone();
        (verdicts, error, field("i="), field("s="))
    };
    let of_known = fail("bound");
    // The verdict that falls after both signatures were made.
    assert_eq!(of_known.0, [ScramError::Proof.to_string()]);
    for user in ["bound", "bound.beta", "app.acme", "app.nobody", "sleeper", "nobody", "nobody.acme", "cert", "admin"] {
        let (verdicts, error, iterations, salt) = fail(user);
        assert_eq!((&verdicts, &error, &iterations), (&of_known.0, &of_known.1, &of_known.2), "{user}");
        assert_eq!(salt.len(), of_known.3.len(), "{user}");
        assert_eq!(salt, fail(user).3, "{user}: a salt that changes tells that nobody is there");
    }
}

/// The salt that a gateway with this secret of its own offers.
fn salt(view: &View, secret: [u8; 32], user: &str) -> String {
    let mut login = Login::new(secret);
    let (mut input, mut out) = (packet(&[("user", user)]), Vec::new());
    frontend::write_sasl_initial(&mut input, MECHANISM, b"n,,n=,r=abc");
    let progress = login.feed(&mut input, &Channel::default(), view, &mut out).unwrap();
    assert!(matches!(progress, Progress::More), "{progress:?}");
    String::from_utf8(out).unwrap().split(',').find(|part| part.starts_with("s=")).unwrap().to_owned()
}

#[test]
fn a_salt_is_the_same_at_every_gateway_and_after_a_restart() {
    let with_password = |password: &str| {
        let mut view = view();
        let password = Some(Secret::new(password.to_owned()));
        Arc::make_mut(&mut view.installation).application_password = password;
        view
    };
    let view = with_password("of the application");
    for user in ["bound", "nobody", "nobody.acme"] {
        assert_eq!(salt(&view, [7; 32], user), salt(&view, [8; 32], user), "{user}");
    }
    // Nobody outside can tell it beforehand.
    assert_ne!(salt(&view, [7; 32], "nobody"), salt(&with_password("of another"), [7; 32], "nobody"));
}
