//! What is counted, and its form for Prometheus: a bounded number of tenants by name, the rest as `other`.

use std::{collections::BTreeMap, fmt::Write as _};

/// What a tenant did since the gateway started.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Measured {
    pub(crate) transactions: u64,
    pub(crate) server_us: u64,
    pub(crate) waits: u64,
    pub(crate) wait_us: u64,
    pub(crate) handovers: u64,
    pub(crate) refusals: u64,
    pub(crate) received: u64,
    pub(crate) sent: u64,
}

/// Names and meanings, in the order of [`Measured::values`].
const MEASURES: [(&str, &str); 8] = [
    ("transactions_total", "Transactions that ended."),
    ("server_microseconds_total", "Time that clients held server connections."),
    ("waits_total", "Times a client had to wait for a server connection."),
    ("wait_microseconds_total", "Time that clients waited for server connections."),
    ("handovers_total", "Times a server connection entered the context of the tenant."),
    ("refusals_total", "Messages and connections refused."),
    ("received_bytes_total", "Bytes from clients to servers."),
    ("sent_bytes_total", "Bytes from servers to clients."),
];

impl Measured {
    /// Every count, in a fixed order.
    pub(crate) const fn values(&self) -> [u64; 8] {
        let Self { transactions, server_us, waits, wait_us, handovers, refusals, received, sent } = *self;
        [transactions, server_us, waits, wait_us, handovers, refusals, received, sent]
    }

    fn of(values: [u64; 8]) -> Self {
        let [transactions, server_us, waits, wait_us, handovers, refusals, received, sent] = values;
        Self { transactions, server_us, waits, wait_us, handovers, refusals, received, sent }
    }

    /// From the texts of a row.
    pub(crate) fn parse(row: &[String]) -> Option<Self> {
        let mut values = [0; 8];
        for (value, text) in values.iter_mut().zip(row) {
            *value = text.parse().ok()?;
        }
        Some(Self::of(values))
    }

    pub(crate) fn add(&mut self, other: &Self) {
        let mut values = self.values();
        for (value, more) in values.iter_mut().zip(other.values()) {
            *value += more;
        }
        *self = Self::of(values);
    }
}

/// The text that Prometheus reads. `tenants`: by slug; those with the most server time keep their names.
pub(crate) fn render(
    tenants: Vec<(String, Measured)>,
    retired: Measured,
    refusals: &BTreeMap<&'static str, u64>,
    clients: usize,
    named_max: usize,
) -> String {
    let mut tenants = tenants;
    tenants.sort_by_key(|(slug, measured)| (std::cmp::Reverse(measured.server_us), slug.clone()));
    let mut other = retired;
    for (_, measured) in tenants.iter().skip(named_max) {
        other.add(measured);
    }
    tenants.truncate(named_max);
    tenants.push(("other".to_owned(), other));
    let mut text = String::new();
    let _ = writeln!(text, "# HELP guardian_sql_clients Clients connected.\n# TYPE guardian_sql_clients gauge");
    let _ = writeln!(text, "guardian_sql_clients {clients}");
    for (at, (name, meaning)) in MEASURES.iter().enumerate() {
        let _ = writeln!(text, "# HELP guardian_sql_{name} {meaning}\n# TYPE guardian_sql_{name} counter");
        for (slug, measured) in &tenants {
            let _ = writeln!(text, "guardian_sql_{name}{{tenant=\"{slug}\"}} {}", measured.values()[at]);
        }
    }
    let name = "guardian_sql_refused_total";
    let _ = writeln!(text, "# HELP {name} Refusals by reason.\n# TYPE {name} counter");
    for (reason, count) in refusals {
        let _ = writeln!(text, "{name}{{reason=\"{reason}\"}} {count}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_heaviest_tenants_have_series_of_their_own() {
        let measured = |server_us| Measured { server_us, transactions: 1, ..Measured::default() };
        let tenants = (0..100).map(|at| (format!("t{at}"), measured(at))).collect();
        let text = render(tenants, measured(7), &BTreeMap::from([("no_tenant", 3)]), 5, 2);
        assert!(text.contains("guardian_sql_transactions_total{tenant=\"t99\"} 1"), "{text}");
        assert!(text.contains("guardian_sql_transactions_total{tenant=\"other\"} 99"), "{text}");
        assert!(!text.contains("t97"), "{text}");
        assert!(text.contains("guardian_sql_refused_total{reason=\"no_tenant\"} 3"), "{text}");
    }
}
