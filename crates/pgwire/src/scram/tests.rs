use std::num::NonZeroU32;

use aws_lc_rs::pbkdf2;
use postgres_protocol::{
    authentication::sasl::{ChannelBinding, ScramSha256},
    password::scram_sha_256,
};
use proptest::prelude::*;

use super::*;

const PASSWORD: &[u8] = b"correct horse battery staple";
const CHANNEL_HASH: &[u8] = &[0xc4; 32];

/// The verifier of a password, computed here and not by the crate that plays the client.
fn verifier(password: &[u8], iterations: u32, salt: &[u8]) -> Verifier {
    let mut salted = [0; KEY_LEN];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, NonZeroU32::new(iterations).unwrap(), salt, password, &mut salted);
    let key = hmac::Key::new(hmac::HMAC_SHA256, &salted);
    let client_key = sign(&key, &[b"Client Key"]);
    let stored_key = digest::digest(&digest::SHA256, &client_key).as_ref().try_into().unwrap();
    Verifier { iterations, salt: salt.to_vec(), stored_key, server_key: sign(&key, &[b"Server Key"]), mock: false }
}

fn stored(password: &[u8]) -> Verifier {
    Verifier::parse(&scram_sha_256(password)).unwrap()
}

fn bound() -> ChannelBinding {
    ChannelBinding::tls_server_end_point(CHANNEL_HASH.to_vec())
}

/// A whole exchange with another's client; each message of the client goes through `edit` on its way.
fn exchange(
    verifier: Verifier,
    binding: ChannelBinding,
    mechanism: &str,
    channel: Option<&[u8]>,
    edit: impl Fn(usize, Vec<u8>) -> Vec<u8>,
) -> Result<(), ScramError> {
    let mut client = ScramSha256::new(PASSWORD, binding);
    let first = edit(0, client.message().to_vec());
    let (exchange, server_first) = Exchange::begin(verifier, mechanism.as_bytes(), &first, channel)?;
    client.update(&server_first).unwrap();
    let server_final = exchange.finish(&edit(1, client.message().to_vec()))?;
    client.finish(&server_final).expect("the server proves that it knows the client");
    Ok(())
}

fn untouched(_: usize, message: Vec<u8>) -> Vec<u8> {
    message
}

#[test]
fn the_example_of_rfc_7677() {
    let salt = BASE64_STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
    let (exchange, server_first) = Exchange::begin_with(
        verifier(b"pencil", 4096, &salt),
        MECHANISM.as_bytes(),
        b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
        None,
        "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
    )
    .unwrap();
    assert_eq!(server_first, b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096");
    let client_final = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
        p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    assert_eq!(exchange.finish(client_final), Ok(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=".to_vec()));
}

#[test]
fn a_stored_verifier_is_the_passwords() {
    let parsed = stored(PASSWORD);
    let own = verifier(PASSWORD, parsed.iterations, &parsed.salt);
    assert_eq!((parsed.stored_key, parsed.server_key), (own.stored_key, own.server_key));
}

#[test]
fn the_right_password_is_let_in() {
    let right = |binding, mechanism, channel| exchange(stored(PASSWORD), binding, mechanism, channel, untouched);
    assert_eq!(right(ChannelBinding::unsupported(), MECHANISM, None), Ok(()));
    assert_eq!(right(ChannelBinding::unrequested(), MECHANISM, None), Ok(()));
    // A client that cannot bind may still come over TLS.
    assert_eq!(right(ChannelBinding::unsupported(), MECHANISM, Some(CHANNEL_HASH)), Ok(()));
    assert_eq!(right(bound(), MECHANISM_PLUS, Some(CHANNEL_HASH)), Ok(()));
}

#[test]
fn a_wrong_password_and_an_unknown_login_are_told_the_same() {
    let without = |verifier| exchange(verifier, ChannelBinding::unsupported(), MECHANISM, None, untouched);
    assert_eq!(without(stored(b"other")), Err(ScramError::Proof));
    assert_eq!(without(Verifier::mock(&[7; 32], "nobody")), Err(ScramError::Proof));
    // Not even one who knew the preimage would get in.
    let mut known = stored(PASSWORD);
    known.mock = true;
    assert_eq!(without(known), Err(ScramError::Proof));
}

#[test]
fn an_unknown_login_has_one_salt() {
    let mock = |secret: u8, name: &str| {
        let Verifier { salt, iterations, .. } = &Verifier::mock(&[secret; 32], name);
        (salt.clone(), *iterations)
    };
    assert_eq!(mock(1, "app.acme"), mock(1, "app.acme"));
    assert_ne!(mock(1, "app.acme"), mock(1, "app.globex"));
    assert_ne!(mock(1, "app.acme"), mock(2, "app.acme"));
    let real = stored(PASSWORD);
    assert_eq!((mock(1, "a").0.len(), mock(1, "a").1), (real.salt.len(), real.iterations));
}

#[test]
fn a_channel_binding_cannot_be_taken_away() {
    let refused = |binding, mechanism, channel| {
        exchange(stored(PASSWORD), binding, mechanism, channel, untouched).unwrap_err().to_string()
    };
    let tls = Some(CHANNEL_HASH);
    // Another server's certificate: somebody stands in between.
    assert!(refused(bound(), MECHANISM_PLUS, Some(&[0xc5; 32])).contains("another channel"));
    assert!(refused(bound(), MECHANISM_PLUS, Some(&[0xc4; 31])).contains("another channel"));
    // The offer was stripped on its way.
    assert!(refused(ChannelBinding::unrequested(), MECHANISM, tls).contains("kept from seeing"));
    assert!(refused(ChannelBinding::unrequested(), MECHANISM_PLUS, tls).contains("gives none"));
    assert!(refused(ChannelBinding::unsupported(), MECHANISM_PLUS, tls).contains("gives none"));
    assert!(refused(bound(), MECHANISM, tls).contains("has none"));
    assert!(refused(bound(), MECHANISM, None).contains("has none"));
    for mechanism in [MECHANISM_PLUS, "SCRAM-SHA-1", "", "SCRAM-SHA-256\0"] {
        let binding = ChannelBinding::unsupported();
        assert_eq!(exchange(stored(PASSWORD), binding, mechanism, None, untouched), Err(ScramError::Mechanism));
    }
}

#[test]
fn every_bit_of_both_messages_counts() {
    type Case = (fn() -> ChannelBinding, &'static str, Option<&'static [u8]>);
    let cases: [Case; 3] = [
        (ChannelBinding::unsupported, MECHANISM, None),
        (ChannelBinding::unrequested, MECHANISM, None),
        (bound, MECHANISM_PLUS, Some(CHANNEL_HASH)),
    ];
    // One iteration: the exchange runs a thousand times.
    let verifier = verifier(PASSWORD, 1, b"salt");
    for (binding, mechanism, channel) in cases {
        let len_of = |which: usize| {
            let len = std::cell::Cell::new(0);
            let note = |at: usize, message: Vec<u8>| {
                if at == which {
                    len.set(message.len());
                }
                message
            };
            exchange(verifier.clone(), binding(), mechanism, channel, note).unwrap();
            len.get()
        };
        for which in 0..2 {
            for at in 0..len_of(which) {
                for edit in 0..4 {
                    let edited = |message: usize, mut bytes: Vec<u8>| {
                        match edit {
                            _ if message != which => {}
                            0 => bytes[at] ^= 1,
                            1 => bytes.truncate(at),
                            2 => bytes.insert(at, b'A'),
                            _ => drop(bytes.remove(at)),
                        }
                        bytes
                    };
                    // An edit of the nonce in the first message: the client itself breaks off. So does the removal of the sign
                    // before a nonce that begins with one.
                    let is_of_nonce = |nonce: usize| at >= nonce || edit == 3 && at + 1 == nonce;
                    if which == 0 && nonce_starts(&mechanism_first(binding)).is_some_and(is_of_nonce) {
                        continue;
                    }
                    let outcome = exchange(verifier.clone(), binding(), mechanism, channel, edited);
                    assert!(outcome.is_err(), "message {which}, byte {at}, edit {edit}");
                }
            }
        }
    }
}

fn mechanism_first(binding: fn() -> ChannelBinding) -> Vec<u8> {
    ScramSha256::new(PASSWORD, binding()).message().to_vec()
}

fn nonce_starts(first: &[u8]) -> Option<usize> {
    first.windows(3).position(|window| window == b",r=").map(|at| at + 3)
}

#[test]
fn an_old_final_message_is_of_no_use() {
    let verifier = verifier(PASSWORD, 1, b"salt");
    let mut client = ScramSha256::new(PASSWORD, ChannelBinding::unsupported());
    let first = client.message().to_vec();
    let begin = || Exchange::begin(verifier.clone(), MECHANISM.as_bytes(), &first, None).unwrap();
    let (one, server_first) = begin();
    let (other, another_first) = begin();
    assert_ne!(server_first, another_first);
    client.update(&server_first).unwrap();
    let client_final = client.message().to_vec();
    assert!(one.finish(&client_final).is_ok());
    assert_eq!(other.finish(&client_final), Err(ScramError::Nonce));
}

#[test]
fn first_messages_follow_the_grammar() {
    let begin = |first: &[u8]| {
        Exchange::begin(verifier(PASSWORD, 1, b"salt"), MECHANISM.as_bytes(), first, None).map(|(_, answer)| answer)
    };
    for first in ["n,,n=,r=abc", "n,,n=anybody,r=abc", "y,,n=*,r=abc", "n,,n=,r=abc,x=extension", "n,,n=,r=a=b"] {
        assert!(begin(first.as_bytes()).unwrap().starts_with(b"r=a"), "{first}");
    }
    for first in [
        "",
        "n",
        "n,",
        "n,,",
        "n,,n=",
        "n,,n=,",
        "n,,n=,r=",
        "n,,r=abc",
        "n,,r=abc,n=",
        "n,,n=,r=a b",
        "n,,n=,r=\u{e9}",
        "n,,n=,r=abc,",
        "n,,n=,r=abc,x",
        "n,,n=,r=abc,1=x",
        "n,a=admin,n=,r=abc",
        "n,,m=1,n=,r=abc",
        "x,,n=,r=abc",
        ",,n=,r=abc",
        "N,,n=,r=abc",
        "n,,n=\0,r=abc",
    ] {
        assert!(matches!(begin(first.as_bytes()), Err(ScramError::Malformed(_))), "{first:?}");
    }
    assert!(begin(b"n,,m=1,n=,r=abc").unwrap_err().to_string().contains("mandatory extension"));
    assert!(matches!(begin(b"n,,n=\xff,r=abc"), Err(ScramError::Malformed("it is not UTF-8"))));
    let long = [&b"n,,n=,r="[..], &[b'a'; MESSAGE_LEN_MAX]].concat();
    assert!(begin(&long[..MESSAGE_LEN_MAX]).is_ok());
    assert_eq!(begin(&long), Err(ScramError::Malformed("it is too long")));
    assert!(matches!(begin(b"p=tls-unique,,n=,r=abc"), Err(ScramError::ChannelBinding(_))));
    let plus = |first: &[u8]| {
        let outcome = Exchange::begin(stored(PASSWORD), MECHANISM_PLUS.as_bytes(), first, Some(CHANNEL_HASH));
        outcome.map(|_| ()).unwrap_err()
    };
    assert!(matches!(plus(b"p=tls-unique,,n=,r=abc"), ScramError::ChannelBinding(_)));
    assert!(matches!(plus(b"x,,n=,r=abc"), ScramError::Malformed(_)));
}

#[test]
fn stored_verifiers_follow_the_grammar() {
    let key = "A".repeat(43) + "=";
    let short = "A".repeat(42) + "==";
    let good = format!("SCRAM-SHA-256$4096:c2FsdA==${key}:{key}");
    assert!(Verifier::parse(&good).is_ok());
    for bad in [
        String::new(),
        good.replace("256", "1"),
        good.replace("SCRAM", "scram"),
        good.replace("4096", "0"),
        good.replace("4096", "-1"),
        good.replace("4096", "+1"),
        good.replace("4096", ""),
        good.replace("4096", "2147483648"),
        good.replace("c2FsdA==", ""),
        good.replace("c2FsdA==", "c2FsdA"),
        good.replace("c2FsdA==", "!"),
        format!("SCRAM-SHA-256$4096:c2FsdA==${key}"),
        format!("SCRAM-SHA-256$4096:c2FsdA==${key}:{short}"),
        format!("SCRAM-SHA-256$4096:c2FsdA==${short}:{key}"),
        format!("{good}:"),
        format!("{good} "),
        "md5d41d8cd98f00b204e9800998ecf8427e".to_owned(),
    ] {
        assert_eq!(Verifier::parse(&bad).map(|_| ()), Err(ScramError::Verifier), "{bad}");
    }
}

#[test]
fn nothing_secret_is_printed() {
    assert_eq!(format!("{:?}", stored(PASSWORD)), "Verifier { .. }");
    let (exchange, _) = Exchange::begin(stored(PASSWORD), MECHANISM.as_bytes(), b"n,,n=,r=abc", None).unwrap();
    assert_eq!(format!("{exchange:?}"), "Exchange { .. }");
}

proptest! {
    #[test]
    fn no_final_message_is_let_in_by_chance(tail in "(,[a-z]=[a-zA-Z0-9+/]{0,8}){0,3}", proof: [u8; 32]) {
        let verifier = Verifier { iterations: 1, salt: vec![1], stored_key: [2; 32], server_key: [3; 32], mock: false };
        let (exchange, _) =
            Exchange::begin_with(verifier, MECHANISM.as_bytes(), b"n,,n=,r=abc", None, "def").unwrap();
        let client_final = format!("c=biws,r=abcdef{tail},p={}", BASE64_STANDARD.encode(proof));
        prop_assert_eq!(exchange.finish(client_final.as_bytes()), Err(ScramError::Proof));
    }
}
