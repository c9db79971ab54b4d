use aws_lc_rs::{
    hmac,
    rand::SystemRandom,
    rsa,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256},
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use guardian_model::config::Keys;
use serde_json::{Value, json};

use super::*;

const NOW_S: u64 = 1_800_000_000;
const ALL: [Algorithm; 3] = [Algorithm::EdDsa, Algorithm::Es256, Algorithm::Rs256];

enum Key {
    Ed(Box<Ed25519KeyPair>),
    Ec(Box<EcdsaKeyPair>),
    Rsa(Box<rsa::KeyPair>),
}

impl Key {
    fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::EdDsa => Self::Ed(Box::new(Ed25519KeyPair::generate().unwrap())),
            Algorithm::Es256 => Self::Ec(Box::new(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())),
            Algorithm::Rs256 => Self::Rsa(Box::new(rsa::KeyPair::generate(rsa::KeySize::Rsa2048).unwrap())),
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Ed(_) => "EdDSA",
            Self::Ec(_) => "ES256",
            Self::Rsa(_) => "RS256",
        }
    }

    fn public(&self, id: &str) -> Value {
        let mut key = match self {
            Self::Ed(key) => json!({ "kty": "OKP", "crv": "Ed25519", "x": BASE64.encode(key.public_key()) }),
            Self::Ec(key) => {
                let point = key.public_key().as_ref();
                json!({ "kty": "EC", "crv": "P-256", "x": BASE64.encode(&point[1..33]), "y": BASE64.encode(&point[33..]) })
            }
            Self::Rsa(key) => {
                // A modulus of 256 bytes behind a zero, and the usual exponent.
                let der = key.public_key().as_ref();
                json!({ "kty": "RSA", "n": BASE64.encode(&der[9..265]), "e": BASE64.encode(&der[267..]) })
            }
        };
        key["kid"] = id.into();
        key
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Ed(key) => key.sign(message).as_ref().to_vec(),
            Self::Ec(key) => key.sign(&random, message).unwrap().as_ref().to_vec(),
            Self::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).unwrap();
                signature
            }
        }
    }

    fn token(&self, id: &str, claims: &Value) -> String {
        signed(&json!({ "alg": self.name(), "typ": "JWT", "kid": id }), claims, |message| self.sign(message))
    }
}

fn signed(header: &Value, claims: &Value, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let message = format!("{}.{}", BASE64.encode(header.to_string()), BASE64.encode(claims.to_string()));
    let signature = BASE64.encode(sign(message.as_bytes()));
    format!("{message}.{signature}")
}

fn issuer(algorithms: &[Algorithm]) -> Issuer {
    Issuer {
        name: "ours".to_owned(),
        issuer: "https://id.example".to_owned(),
        audience: "helpdesk".to_owned(),
        tenant_claim: "tenant".to_owned(),
        subject_claim: "sub".to_owned(),
        roles_claim: None,
        tenants: None,
        algorithms: algorithms.to_vec(),
        keys: Keys::Set(String::new()),
    }
}

fn verifier(algorithms: &[Algorithm], keys: &[Value]) -> Verifier {
    let verifier = Verifier::default();
    verifier.believe([(issuer(algorithms), json!({ "keys": keys }).to_string())]);
    verifier
}

fn claims() -> Value {
    json!({ "iss": "https://id.example", "aud": "helpdesk", "tenant": "acme", "exp": NOW_S + 60 })
}

/// The claims with some of them otherwise; null: left out.
fn claims_with(changes: &Value) -> Value {
    let mut claims = claims();
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    claims
}

#[test]
fn a_token_of_each_algorithm_is_believed() {
    for algorithm in ALL {
        let key = Key::new(algorithm);
        let verifier = verifier(&[algorithm], &[key.public("a")]);
        let identity = verifier.verify(&key.token("a", &claims()), NOW_S).unwrap();
        assert_eq!(identity, Identity { tenant: "acme".to_owned(), expires_at_s: NOW_S + 60 + LEEWAY_S });
        let of_many = claims_with(&json!({ "aud": ["other", "helpdesk"] }));
        assert!(verifier.verify(&key.token("a", &of_many), NOW_S).is_ok());
        let without_id = signed(&json!({ "alg": key.name() }), &claims(), |message| key.sign(message));
        assert!(verifier.verify(&without_id, NOW_S).is_ok());
    }
}

#[test]
fn claims_have_to_be_right() {
    for algorithm in ALL {
        let key = Key::new(algorithm);
        let verifier = verifier(&[algorithm], &[key.public("a")]);
        let cases = [
            (json!({ "iss": "https://else.example" }), IdentityError::Issuer),
            (json!({ "iss": "https://id.example/" }), IdentityError::Issuer),
            (json!({ "aud": "else" }), IdentityError::Audience),
            (json!({ "aud": [] }), IdentityError::Audience),
            (json!({ "exp": NOW_S - LEEWAY_S - 1 }), IdentityError::Time),
            (json!({ "exp": "tomorrow" }), IdentityError::Malformed),
            (json!({ "exp": -1 }), IdentityError::Malformed),
            (json!({ "nbf": NOW_S + LEEWAY_S + 1 }), IdentityError::Time),
            (json!({ "nbf": "yesterday" }), IdentityError::Time),
            (json!({ "tenant": null }), IdentityError::Tenant),
            (json!({ "tenant": 7 }), IdentityError::Tenant),
        ];
        for (changes, error) in cases {
            let token = key.token("a", &claims_with(&changes));
            assert_eq!(verifier.verify(&token, NOW_S), Err(error), "{changes}");
        }
        for missing in ["exp", "aud", "iss"] {
            let token = key.token("a", &claims_with(&json!({ missing: null })));
            assert!(verifier.verify(&token, NOW_S).is_err(), "{missing}");
        }
    }
}

#[test]
fn clocks_may_differ_a_little() {
    let key = Key::new(Algorithm::EdDsa);
    let verifier = verifier(&[Algorithm::EdDsa], &[key.public("a")]);
    let token = key.token("a", &claims_with(&json!({ "exp": NOW_S - LEEWAY_S + 1, "nbf": NOW_S + LEEWAY_S })));
    assert!(verifier.verify(&token, NOW_S).is_ok());
}

#[test]
fn only_the_keys_of_its_issuer_sign() {
    for algorithm in ALL {
        let (key, other) = (Key::new(algorithm), Key::new(algorithm));
        let verifier = verifier(&[algorithm], &[key.public("a")]);
        assert_eq!(verifier.verify(&other.token("a", &claims()), NOW_S), Err(IdentityError::Signature));
        assert_eq!(verifier.verify(&key.token("b", &claims()), NOW_S), Err(IdentityError::Key));
        let token = key.token("a", &claims());
        let (head, signature) = token.rsplit_once('.').unwrap();
        let (header, _) = head.split_once('.').unwrap();
        let altered = BASE64.encode(claims_with(&json!({ "tenant": "beta" })).to_string());
        let forged = format!("{header}.{altered}.{signature}");
        assert_eq!(verifier.verify(&forged, NOW_S), Err(IdentityError::Signature));
        assert!(verifier.verify(&format!("{head}."), NOW_S).is_err());
    }
}

#[test]
fn each_key_of_a_set_is_tried() {
    let keys = [Key::new(Algorithm::EdDsa), Key::new(Algorithm::EdDsa)];
    let mut set = [keys[0].public("a"), keys[1].public("b")];
    for key in &mut set {
        key.as_object_mut().unwrap().remove("kid");
    }
    let verifier = verifier(&[Algorithm::EdDsa], &set);
    for key in &keys {
        assert!(verifier.verify(&key.token("whatever", &claims()), NOW_S).is_ok());
    }
}

#[test]
fn no_algorithm_but_a_declared_one() {
    let (ed, ec) = (Key::new(Algorithm::EdDsa), Key::new(Algorithm::Es256));
    let verifier = verifier(&[Algorithm::EdDsa], &[ed.public("a"), ec.public("b")]);
    assert_eq!(verifier.verify(&ec.token("b", &claims()), NOW_S), Err(IdentityError::Algorithm));
    // What everybody knows must not serve as a secret.
    let Key::Ed(pair) = &ed else { unreachable!() };
    let public_jwk = ed.public("a").to_string();
    for secret in [pair.public_key().as_ref(), public_jwk.as_bytes()] {
        let sign = |message: &[u8]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message).as_ref().to_vec();
        let token = signed(&json!({ "alg": "HS256", "kid": "a" }), &claims(), sign);
        assert_eq!(verifier.verify(&token, NOW_S), Err(IdentityError::Algorithm));
    }
    for none in ["none", "None", "NONE", ""] {
        let token = signed(&json!({ "alg": none, "kid": "a" }), &claims(), |_| Vec::new());
        assert_eq!(verifier.verify(&token, NOW_S), Err(IdentityError::Malformed), "{none}");
    }
    let mislabelled = signed(&json!({ "alg": "EdDSA", "kid": "b" }), &claims(), |message| ec.sign(message));
    assert_eq!(verifier.verify(&mislabelled, NOW_S), Err(IdentityError::Key));
}

#[test]
fn what_is_remembered_expires_and_goes_with_its_key() {
    let key = Key::new(Algorithm::EdDsa);
    let verifier = verifier(&[Algorithm::EdDsa], &[key.public("a")]);
    let token = key.token("a", &claims());
    let identity = verifier.verify(&token, NOW_S).unwrap();
    assert_eq!(verifier.believed().len(), 1);
    assert_eq!(verifier.verify(&token, identity.expires_at_s - 1), Ok(identity.clone()));
    assert_eq!(verifier.verify(&token, identity.expires_at_s), Err(IdentityError::Time), "remembered");
    verifier.believed().clear();
    assert_eq!(verifier.verify(&token, identity.expires_at_s), Err(IdentityError::Time), "checked anew");
    verifier.verify(&token, NOW_S).unwrap();
    verifier.believe([(issuer(&[Algorithm::EdDsa]), json!({ "keys": [] }).to_string())]);
    assert_eq!(verifier.verify(&token, NOW_S), Err(IdentityError::Key));
    verifier.believe([]);
    assert_eq!(verifier.verify(&token, NOW_S), Err(IdentityError::Issuer));
}

#[test]
fn refusals_are_not_remembered_as_identities() {
    let key = Key::new(Algorithm::EdDsa);
    let verifier = verifier(&[Algorithm::EdDsa], &[key.public("a")]);
    let early = key.token("a", &claims_with(&json!({ "nbf": NOW_S + 30 })));
    assert_eq!(verifier.verify(&early, NOW_S), Err(IdentityError::Time));
    assert!(verifier.verify(&early, NOW_S + 30).is_ok());
}

#[test]
fn what_is_no_token_is_refused() {
    let verifier = verifier(&ALL, &[]);
    for text in ["", ".", "..", "a.b.c", "acme", &"x".repeat(TOKEN_LEN_MAX + 1)] {
        assert_eq!(verifier.verify(text, NOW_S), Err(IdentityError::Malformed), "{text:.20}");
    }
    assert!(keys("no JSON", &ALL).is_empty());
}

#[test]
fn keys_for_other_uses_are_left_out() {
    let key = Key::new(Algorithm::EdDsa);
    let mut public = key.public("a");
    public["use"] = "enc".into();
    assert!(keys(&json!({ "keys": [public] }).to_string(), &ALL).is_empty());
    let mut public = key.public("a");
    public["use"] = "sig".into();
    assert_eq!(keys(&json!({ "keys": [public] }).to_string(), &ALL).len(), 1);
}
