//! What names tell: a hint that the structure has to bear out, never a verdict of its own.

/// Words for a customer of a SaaS application, with how unmistakable each is.
const TENANTS: [(&str, u32); 34] = [
    ("tenant", 9),
    ("mandant", 9),
    ("organization", 6),
    ("organisation", 6),
    ("org", 6),
    ("workspace", 6),
    ("account", 6),
    ("company", 6),
    ("business", 5),
    ("firm", 5),
    ("agency", 5),
    ("enterprise", 5),
    ("institution", 5),
    ("practice", 4),
    ("clinic", 4),
    ("school", 4),
    ("merchant", 4),
    ("shop", 4),
    ("store", 4),
    ("site", 4),
    ("hotel", 4),
    ("restaurant", 4),
    ("club", 4),
    ("studio", 4),
    ("association", 4),
    ("municipality", 4),
    ("realm", 4),
    ("customer", 3),
    ("client", 3),
    ("subscriber", 3),
    ("team", 3),
    ("household", 3),
    ("domain", 2),
    ("project", 1),
];

/// Words for tables that hold the same for everybody.
const LOOKUPS: [&str; 36] = [
    "country",
    "currency",
    "language",
    "locale",
    "timezone",
    "region",
    "continent",
    "state",
    "province",
    "city",
    "unit",
    "status",
    "type",
    "kind",
    "category",
    "plan",
    "tier",
    "feature",
    "permission",
    "role",
    "priority",
    "severity",
    "color",
    "colour",
    "gender",
    "industry",
    "taxrate",
    "vatrate",
    "exchangerate",
    "holiday",
    "calendar",
    "postalcode",
    "zipcode",
    "mimetype",
    "lookup",
    "translation",
];

/// Ledgers of migration tools and the like.
const LEDGERS: [&str; 18] = [
    "schemamigrations",
    "schemaversion",
    "schemaversions",
    "flywayschemahistory",
    "alembicversion",
    "efmigrationshistory",
    "knexmigrations",
    "knexmigrationslock",
    "arinternalmetadata",
    "djangomigrations",
    "djangocontenttype",
    "prismamigrations",
    "databasechangelog",
    "databasechangeloglock",
    "goosedbversion",
    "gorpmigrations",
    "sequelizemeta",
    "migrations",
];

/// Words in the names of columns that hold what belongs to somebody.
const PERSONAL: [&str; 22] = [
    "email",
    "mail",
    "phone",
    "password",
    "secret",
    "token",
    "hash",
    "address",
    "birth",
    "firstname",
    "lastname",
    "fullname",
    "ip",
    "ssn",
    "iban",
    "salary",
    "comment",
    "body",
    "note",
    "message",
    "payload",
    "content",
];

/// In small letters, without underscores and the like: `OrderItems` and `order_items` are one.
pub(super) fn plain(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// The same in the singular, as far as English is regular.
pub(super) fn singular(name: &str) -> String {
    let name = plain(name);
    if let Some(stem) = name.strip_suffix("ies").filter(|stem| stem.len() > 1) {
        return format!("{stem}y");
    }
    for ending in ["sses", "xes", "ches", "shes", "uses"] {
        if name.ends_with(ending) {
            return name[..name.len() - 2].to_owned();
        }
    }
    let is_plural = name.ends_with('s') && !["ss", "us", "is"].iter().any(|ending| name.ends_with(ending));
    if is_plural && name.len() > 2 { name[..name.len() - 1].to_owned() } else { name }
}

/// `account` of `account_id`, `accountId` and `account_uuid`; `None` of a column that names nothing.
pub(super) fn stem(column: &str) -> Option<String> {
    let stem = ["_id", "_uuid", "_key", "_fk", "Id", "ID", "_ID", "_no"].iter().find_map(|end| column.strip_suffix(end))?;
    Some(singular(stem)).filter(|stem| !stem.is_empty())
}

/// How much a table's name sounds like the tenants', 0 to 9.
pub(super) fn tenant_rank(table: &str) -> u32 {
    let last = table.rsplit(['_', '-', '.']).next().unwrap_or(table);
    rank(&singular(table)).unwrap_or_else(|| rank(&singular(last)).unwrap_or(0).saturating_sub(1))
}

/// The same of a column: `tenant_id`, or plain `tenant`.
pub(super) fn column_rank(column: &str) -> u32 {
    let word = stem(column).unwrap_or_else(|| plain(column));
    // A bare word is a column like any other, unless it can mean nothing else.
    let rank = rank(&word).unwrap_or(0);
    if stem(column).is_some() || rank >= 9 { rank } else { 0 }
}

fn rank(word: &str) -> Option<u32> {
    TENANTS.iter().find(|(tenant, _)| *tenant == word).map(|(_, rank)| *rank)
}

/// Whether a table's name is that of reference data.
pub(super) fn is_lookup(table: &str) -> bool {
    let last = table.rsplit(['_', '-', '.']).next().unwrap_or(table);
    [singular(table), singular(last)].iter().any(|name| LOOKUPS.contains(&name.as_str()))
}

/// Whether a table's name is that of a tool's ledger.
pub(super) fn is_ledger(table: &str) -> bool {
    LEDGERS.contains(&plain(table).as_str())
}

/// Whether a column's name says that it holds what belongs to somebody.
pub(super) fn is_personal(column: &str) -> bool {
    let words = words(column);
    let whole = plain(column);
    PERSONAL.iter().any(|word| words.iter().any(|one| one == word) || (word.len() > 6 && whole.contains(word)))
}

/// The words of a name in small letters: `first_name`, `firstName` and `FirstName` have the same.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut previous_is_small = false;
    for c in name.chars() {
        if !c.is_alphanumeric() || (c.is_uppercase() && previous_is_small) {
            words.push(String::new());
        }
        previous_is_small = c.is_lowercase();
        if c.is_alphanumeric()
            && let Some(word) = words.last_mut()
        {
            word.extend(c.to_lowercase());
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// The other half of a pair such as `subject_type`, `subject_id`, when this column is the first.
pub(super) fn polymorphic_partner<'c>(column: &str, columns: &[&'c str]) -> Option<&'c str> {
    let stem = ["_type", "Type", "_kind", "_class", "_table"].iter().find_map(|end| column.strip_suffix(end))?;
    columns.iter().copied().find(|other| {
        ["_id", "Id", "_uuid", "_pk", "_key"].iter().any(|end| other.strip_suffix(end).is_some_and(|other| other == stem))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plural_and_case_make_no_difference() {
        let cases = [
            ("OrderItems", "orderitem"),
            ("order_items", "orderitem"),
            ("companies", "company"),
            ("Addresses", "address"),
            ("statuses", "status"),
            ("status", "status"),
            ("boxes", "box"),
            ("people", "people"),
        ];
        for (name, wanted) in cases {
            assert_eq!(singular(name), wanted, "{name}");
        }
    }

    #[test]
    fn a_tenants_name_is_known_in_its_forms() {
        assert_eq!(tenant_rank("Tenants"), 9);
        assert_eq!(tenant_rank("organisations"), 6);
        assert_eq!(tenant_rank("core_organization"), 5);
        assert_eq!(tenant_rank("order_lines"), 0);
        assert_eq!(column_rank("accountId"), 6);
        assert_eq!(column_rank("account"), 0);
        assert_eq!(column_rank("tenant"), 9);
        assert_eq!(column_rank("ticket_id"), 0);
    }

    #[test]
    fn personal_columns_are_words_not_letters() {
        assert!(is_personal("email") && is_personal("userEmail") && is_personal("password_hash") && is_personal("last_ip"));
        assert!(!is_personal("description") && !is_personal("zip") && !is_personal("name") && !is_personal("noted"));
    }

    #[test]
    fn pairs_of_type_and_id_are_seen() {
        assert_eq!(polymorphic_partner("subject_type", &["id", "subject_id"]), Some("subject_id"));
        assert_eq!(polymorphic_partner("type", &["id"]), None);
        assert_eq!(polymorphic_partner("media_type", &["id", "body"]), None);
    }
}
