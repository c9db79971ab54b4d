//! What those meet who may not come in: the same for each, whoever it is that they name.

use std::{
    fmt::Debug,
    sync::{Arc, Mutex},
};

use guardian_pgwire::{frame::HEADER_LEN, scram::ScramError};
use tracing::{
    Event, Metadata, Subscriber,
    field::Field,
    span::{Attributes, Id, Record},
};

use super::way_in::{connect_to, packet, view};
use crate::sql::login::Channel;

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
