//! Values that give themselves away: whatever shows one of them, in whatever form, shows a row of that tenant.

use std::fmt;

use guardian_model::KeyType;
use guardian_postgres::quote::literal;
use serde::Serialize;

/// Whose a planted row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Tenant {
    /// The attacker.
    A,
    /// The victim.
    B,
    /// Nobody's in particular: what both refer to, such as a list of countries.
    Shared,
}

impl Tenant {
    const fn letter(self) -> char {
        match self {
            Self::A => 'a',
            Self::B => 'b',
            Self::Shared => 'c',
        }
    }
}

impl fmt::Display for Tenant {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.letter().to_ascii_uppercase())
    }
}

/// The type that tenants' keys have in most tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyForm {
    Uuid,
    Bigint,
    Integer,
    Smallint,
    Text,
}

impl KeyForm {
    /// Of tenant columns' types; of several numbers the narrowest, so that one key fits all.
    pub(crate) fn of(types: &[u32]) -> Self {
        let count = |wanted: &[u32]| types.iter().filter(|oid| wanted.contains(oid)).count();
        let [uuids, texts, numbers] = [count(&[UUID]), count(&TEXTS), count(&[INT8, INT4, INT2, NUMERIC])];
        match (uuids >= texts && uuids >= numbers, numbers >= texts) {
            (true, _) => Self::Uuid,
            (false, true) if count(&[INT2]) > 0 => Self::Smallint,
            (false, true) if count(&[INT4]) > 0 => Self::Integer,
            (false, true) => Self::Bigint,
            (false, false) => Self::Text,
        }
    }

    /// As the registry knows it.
    pub(crate) const fn key_type(self) -> KeyType {
        match self {
            Self::Uuid => KeyType::Uuid,
            Self::Text => KeyType::Text,
            Self::Bigint | Self::Integer | Self::Smallint => KeyType::Bigint,
        }
    }
}

pub(crate) const UUID: u32 = 2950;
pub(crate) const INT8: u32 = 20;
pub(crate) const INT4: u32 = 23;
pub(crate) const INT2: u32 = 21;
pub(crate) const NUMERIC: u32 = 1700;
/// `text`, `varchar`, `char`, `name`
pub(crate) const TEXTS: [u32; 4] = [25, 1043, 1042, 19];

/// The values of one run. Each run has its own, so that what an earlier one left proves nothing.
#[derive(Debug, Clone)]
pub(crate) struct Marks {
    run: u32,
    pub(crate) form: KeyForm,
}

impl Marks {
    pub(crate) const fn new(run: u32, form: KeyForm) -> Self {
        Self { run, form }
    }

    /// The tenant's key, as text.
    pub(crate) fn key(&self, tenant: Tenant) -> String {
        match self.form {
            KeyForm::Uuid => self.uuid(tenant, 0),
            KeyForm::Bigint => self.bigint(tenant, 0).to_string(),
            KeyForm::Integer => self.integer(tenant, 0).to_string(),
            KeyForm::Smallint => (20_000 + self.run % 4000 + 4000 * u32::from(tenant == Tenant::B)).to_string(),
            KeyForm::Text => self.word(tenant, 0),
        }
    }

    /// The key as a literal for a column of this type; `None` where it does not fit.
    pub(crate) fn key_literal(&self, tenant: Tenant, base_type: u32, written_type: &str) -> Option<String> {
        let is_number = matches!(base_type, INT8 | INT4 | INT2 | NUMERIC);
        let fits = match self.form {
            KeyForm::Uuid => base_type == UUID || !is_number,
            KeyForm::Text => base_type != UUID && !is_number,
            KeyForm::Bigint | KeyForm::Integer | KeyForm::Smallint => base_type != UUID,
        };
        fits.then(|| format!("{}::{written_type}", literal(&self.key(tenant))))
    }

    pub(crate) fn uuid(&self, tenant: Tenant, n: u32) -> String {
        let (run, x) = (self.run, tenant.letter());
        format!("{run:08x}-{x}0{x}0-4{x}0{x}-8{x}0{x}-{n:012x}")
    }

    /// Letters and digits only, so that it can stand in JSON, an address, an URL or as hexadecimal digits.
    pub(crate) fn word(&self, tenant: Tenant, n: u32) -> String {
        format!("c{}{:08x}{n:06x}", tenant.letter(), self.run)
    }

    pub(crate) fn bigint(&self, tenant: Tenant, n: u32) -> i64 {
        let head = 775 + i64::from(u32::from(tenant.letter()) - u32::from('a'));
        (head * 100_000_000 + i64::from(self.run % 100_000_000)) * 100_000 + i64::from(n % 100_000)
    }

    pub(crate) fn integer(&self, tenant: Tenant, n: u32) -> i64 {
        let head = 15 + i64::from(u32::from(tenant.letter()) - u32::from('a'));
        (head * 10_000 + i64::from(self.run % 10_000)) * 10_000 + i64::from(n % 10_000)
    }

    /// A regular expression (PostgreSQL's) that matches what is this tenant's.
    pub(crate) fn pattern(&self, tenant: Tenant) -> String {
        let (run, x) = (self.run, tenant.letter());
        let head = 775 + u32::from(x) - u32::from('a');
        let short = 15 + u32::from(x) - u32::from('a');
        let (long, brief) = (run % 100_000_000, run % 10_000);
        format!(r"({run:08x}-{x}0{x}0-4{x}0{x}|c{x}{run:08x}|\m{head}{long:08}\d{{5}}\M|\m{short}{brief:04}\d{{4}}\M)")
    }

    /// Whether bytes that came out of the server hold something of the tenant's.
    pub(crate) fn is_in(&self, tenant: Tenant, bytes: &[u8]) -> bool {
        let (run, x) = (self.run, tenant.letter());
        let needles = [format!("{run:08x}-{x}0{x}0-4{x}0{x}"), format!("c{x}{run:08x}"), self.key(tenant)];
        let text = String::from_utf8_lossy(bytes);
        needles.iter().any(|needle| text.contains(needle.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tenants_values_differ_and_fit_their_types() {
        let marks = Marks::new(u32::MAX, KeyForm::Integer);
        for n in [0, 7, 9999] {
            assert_ne!(marks.uuid(Tenant::A, n), marks.uuid(Tenant::B, n));
            assert!(i32::try_from(marks.integer(Tenant::Shared, n)).is_ok());
            assert!(uuid_shaped(&marks.uuid(Tenant::B, n)));
        }
        assert_ne!(marks.pattern(Tenant::A), marks.pattern(Tenant::B));
        assert_ne!(marks.key(Tenant::A), marks.key(Tenant::B));
    }

    fn uuid_shaped(text: &str) -> bool {
        text.len() == 36 && text.split('-').map(str::len).eq([8, 4, 4, 4, 12])
    }

    #[test]
    fn a_value_is_found_in_bytes_of_its_tenant_only() {
        let marks = Marks::new(0x12_34, KeyForm::Uuid);
        let row = format!("1\t{}\n", marks.word(Tenant::B, 4));
        assert!(marks.is_in(Tenant::B, row.as_bytes()));
        assert!(!marks.is_in(Tenant::A, row.as_bytes()));
    }

    #[test]
    fn the_narrowest_number_is_the_keys_form() {
        assert_eq!(KeyForm::of(&[INT8, INT4]), KeyForm::Integer);
        assert_eq!(KeyForm::of(&[UUID, UUID, 25]), KeyForm::Uuid);
        assert_eq!(KeyForm::of(&[25, 25, UUID]), KeyForm::Text);
    }
}
