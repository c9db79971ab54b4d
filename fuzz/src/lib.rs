//! What must hold for any bytes at all, one function a parser. A broken promise panics.

pub mod pgwire;
mod sql;

use std::str;

use guardian_gateway::sql::fuzzing;
use guardian_model::{Config, KeyType, Slug, TenantKey};

/// What takes any bytes and panics when a promise is broken.
pub type Target = fn(&[u8]);

/// Every target by name, as `fuzz_targets/` and `corpus/` spell it.
pub const TARGETS: &[(&str, Target)] = &[
    ("slug", slug),
    ("key", key),
    ("config", config),
    ("pgwire_startup", pgwire::first_packet),
    ("pgwire_client", pgwire::client),
    ("pgwire_server", pgwire::server),
    ("pgwire_switch", pgwire::own_statement),
    ("pgwire_scram", pgwire::scram),
    ("gateway_client", fuzzing::client),
    ("gateway_server", fuzzing::server),
];

/// A slug that parses is a DNS label and reads back as itself.
pub fn slug(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let Ok(slug) = text.parse::<Slug>() else { return };
    assert_eq!(slug.as_str(), text);
    assert!(text.len() <= 63 && !text.starts_with('-') && !text.ends_with('-'));
    assert!(text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'));
}

/// A key that parses survives the register, and nothing else reads as a register.
pub fn key(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    for key_type in [KeyType::Uuid, KeyType::Bigint, KeyType::Text] {
        if let Ok(key) = TenantKey::parse(key_type, text) {
            let register = key.to_register();
            assert!(register.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_, ".contains(&byte)));
            assert_eq!(TenantKey::from_register(key_type, &register), Ok(key));
        }
        if let Ok(key) = TenantKey::from_register(key_type, text) {
            assert_eq!(key.to_register(), text);
        }
    }
}

/// A configuration parses, or is refused with a message that names the file.
pub fn config(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    match Config::parse("guardian.toml", text) {
        Ok(config) => assert!(config.clusters.contains_key(&config.shared_place().cluster)),
        Err(error) => assert!(error.to_string().starts_with("guardian.toml")),
    }
}
