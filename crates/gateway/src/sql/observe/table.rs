//! The statements that were seen, in bounded memory, with what is known of each.

use std::{
    collections::{HashMap, HashSet},
    time::{SystemTime, UNIX_EPOCH},
};

use guardian_model::{
    TenantId,
    observation::{Observation, ObservationVerdict, ObservedRows},
};

/// Distinct statements.
const STATEMENTS_MAX: usize = 10_000;
/// Tenants that are counted for one statement.
const TENANTS_COUNTED_MAX: usize = 100;
/// Tenants for which a statement is looked at out of turn.
const TENANTS_CHECKED: usize = 3;
/// Statements in one report.
const REPORTED_AT_ONCE: usize = 200;

/// What would become of a statement, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) what: ObservationVerdict,
    pub(crate) sqlstate: Option<String>,
    pub(crate) reason: String,
    pub(crate) tables: Vec<String>,
    pub(crate) rows: Option<ObservedRows>,
}

impl Verdict {
    pub(crate) fn new(what: ObservationVerdict, reason: impl Into<String>) -> Self {
        Self { what, sqlstate: None, reason: reason.into(), tables: Vec::new(), rows: None }
    }

    pub(crate) fn with_sqlstate(self, code: &str) -> Self {
        Self { sqlstate: Some(code.to_owned()), ..self }
    }

    pub(crate) fn on(self, tables: Vec<String>) -> Self {
        Self { tables, ..self }
    }
}

/// A statement.
#[derive(Debug)]
struct Seen {
    text: String,
    verdict: Option<Verdict>,
    /// Since the last report.
    unreported: u64,
    count: u64,
    tenants: HashSet<TenantId>,
    first_ms: i64,
    last_ms: i64,
    /// The verdict was told, and another one than "fine".
    told_bad: bool,
    changed: bool,
}

/// Them.
#[derive(Debug, Default)]
pub(crate) struct Table {
    seen: HashMap<u64, Seen>,
    pub(crate) totals: Totals,
}

/// Counts since the last report.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) statements: u64,
    pub(crate) looked_at: u64,
    pub(crate) overlooked: u64,
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

impl Table {
    /// Counts a statement; tells whether it ought to be looked at: at first, whenever it has run twice as often as the last
    /// time, and for the first few tenants.
    pub(crate) fn saw(&mut self, fingerprint: u64, tenant: Option<TenantId>, text: impl FnOnce() -> String) -> bool {
        self.totals.statements += 1;
        let is_full = self.seen.len() >= STATEMENTS_MAX;
        let now = now_ms();
        let seen = match self.seen.entry(fingerprint) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(_) if is_full => {
                self.totals.overlooked += 1;
                return false;
            }
            std::collections::hash_map::Entry::Vacant(entry) => entry.insert(Seen {
                text: text(),
                verdict: None,
                unreported: 0,
                count: 0,
                tenants: HashSet::new(),
                first_ms: now,
                last_ms: now,
                told_bad: false,
                changed: false,
            }),
        };
        seen.count += 1;
        seen.unreported += 1;
        seen.last_ms = now;
        seen.changed = true;
        let is_new = tenant.is_some_and(|tenant| seen.tenants.len() < TENANTS_COUNTED_MAX && seen.tenants.insert(tenant));
        seen.count.is_power_of_two() || is_new && seen.tenants.len() <= TENANTS_CHECKED
    }

    /// There was no room or time for a statement that ought to have been looked at.
    pub(crate) fn overlook(&mut self, fingerprint: u64) {
        self.totals.overlooked += 1;
        if let Some(seen) = self.seen.get_mut(&fingerprint).filter(|seen| seen.verdict.is_none()) {
            seen.verdict = Some(Verdict::new(ObservationVerdict::NotLookedAt, "the observer was busy"));
        }
    }

    /// What is known of a statement before anybody looked.
    pub(crate) fn judged_ahead(&mut self, fingerprint: u64, verdict: Verdict) {
        if let Some(seen) = self.seen.get_mut(&fingerprint).filter(|seen| seen.verdict.is_none()) {
            seen.verdict = Some(verdict);
            seen.changed = true;
        }
    }

    /// What came of looking. The worst that was found stands: other parameters may hide it.
    pub(crate) fn judged(&mut self, fingerprint: u64, verdict: Verdict) {
        if verdict.what == ObservationVerdict::NotLookedAt {
            self.totals.overlooked += 1;
        } else {
            self.totals.looked_at += 1;
        }
        let Some(seen) = self.seen.get_mut(&fingerprint) else { return };
        let rank = |verdict: &Verdict| match verdict.what {
            // Having been looked at once says more than not having been.
            ObservationVerdict::NotLookedAt => 0,
            ObservationVerdict::Fine => 1,
            other => 1 + other as u8,
        };
        if seen.verdict.as_ref().is_none_or(|known| rank(known) <= rank(&verdict)) {
            seen.verdict = Some(verdict);
            seen.changed = true;
        }
    }

    /// What changed since the last report: statements to work on or that could not be looked at, and those that turned out
    /// well after all.
    pub(crate) fn take(&mut self) -> (Vec<Observation>, Vec<String>, Totals) {
        let (mut observations, mut fine) = (Vec::new(), Vec::new());
        for (fingerprint, seen) in self.seen.iter_mut().filter(|(_, seen)| seen.changed) {
            if observations.len() + fine.len() >= REPORTED_AT_ONCE {
                break;
            }
            // Not looked at yet: it will be.
            let Some(verdict) = &seen.verdict else { continue };
            seen.changed = false;
            if verdict.what == ObservationVerdict::Fine {
                if std::mem::take(&mut seen.told_bad) {
                    fine.push(format!("{fingerprint:016x}"));
                }
                continue;
            }
            seen.told_bad = true;
            observations.push(Observation {
                fingerprint: format!("{fingerprint:016x}"),
                statement: seen.text.clone(),
                verdict: verdict.what,
                sqlstate: verdict.sqlstate.clone(),
                reason: verdict.reason.clone(),
                tables: verdict.tables.clone(),
                rows: verdict.rows,
                count: std::mem::take(&mut seen.unreported),
                tenants: u32::try_from(seen.tenants.len()).unwrap_or(u32::MAX),
                first_seen: jiff::Timestamp::from_millisecond(seen.first_ms).unwrap_or_default(),
                last_seen: jiff::Timestamp::from_millisecond(seen.last_ms).unwrap_or_default(),
            });
        }
        (observations, fine, std::mem::take(&mut self.totals))
    }

    /// A report did not arrive: it goes into the next one.
    pub(crate) fn give_back(&mut self, observations: &[Observation], fine: &[String], totals: Totals) {
        let number = |text: &str| u64::from_str_radix(text, 16).ok();
        for observation in observations {
            if let Some(seen) = number(&observation.fingerprint).and_then(|number| self.seen.get_mut(&number)) {
                seen.unreported += observation.count;
                seen.changed = true;
            }
        }
        for fingerprint in fine {
            if let Some(seen) = number(fingerprint).and_then(|number| self.seen.get_mut(&number)) {
                (seen.told_bad, seen.changed) = (true, true);
            }
        }
        self.totals.statements += totals.statements;
        self.totals.looked_at += totals.looked_at;
        self.totals.overlooked += totals.overlooked;
    }
}

#[cfg(test)]
mod tests {
    use ObservationVerdict::{Empty, Fine, NotLookedAt, Refused};

    use super::*;

    fn verdict(verdict: ObservationVerdict) -> Verdict {
        Verdict::new(verdict, "because")
    }

    fn tenant(number: u32) -> TenantId {
        format!("ten_{number:026}").parse().unwrap()
    }

    #[test]
    fn a_statement_is_looked_at_ever_more_seldom_and_for_the_first_tenants() {
        let mut table = Table::default();
        let looked: Vec<usize> = (1..=20).filter(|_| table.saw(1, Some(tenant(1)), String::new)).collect();
        assert_eq!(looked, [1, 2, 4, 8, 16]);
        let of_others: Vec<bool> = (2..=5).map(|number| table.saw(1, Some(tenant(number)), String::new)).collect();
        assert_eq!(of_others, [true, true, false, false]);
    }

    #[test]
    fn the_worst_verdict_stands_and_what_was_looked_at_is_not_undone() {
        let mut table = Table::default();
        table.saw(1, Some(tenant(1)), || "a statement".to_owned());
        for (next, stands) in [(NotLookedAt, NotLookedAt), (Fine, Fine), (Empty, Empty), (NotLookedAt, Empty), (Fine, Empty)]
        {
            table.judged(1, verdict(next));
            assert_eq!(table.seen[&1].verdict.as_ref().map(|verdict| verdict.what), Some(stands));
        }
        table.judged(1, verdict(Refused));
        let (observations, ..) = table.take();
        assert_eq!((observations[0].verdict, observations[0].count, observations[0].tenants), (Refused, 1, 1));
    }

    #[test]
    fn what_is_fine_is_counted_and_not_reported() {
        let mut table = Table::default();
        table.saw(1, None, String::new);
        table.judged(1, verdict(Fine));
        let (observations, fine, totals) = table.take();
        assert!(observations.is_empty() && fine.is_empty());
        assert_eq!(totals, Totals { statements: 1, looked_at: 1, overlooked: 0 });
    }

    #[test]
    fn a_statement_that_was_overlooked_and_then_found_well_is_taken_back() {
        let mut table = Table::default();
        table.saw(1, None, String::new);
        table.overlook(1);
        let (observations, ..) = table.take();
        assert_eq!(observations[0].verdict, NotLookedAt);
        table.judged(1, verdict(Fine));
        let (observations, fine, _) = table.take();
        assert_eq!((observations.len(), fine), (0, vec![format!("{:016x}", 1)]));
    }

    #[test]
    fn a_report_that_did_not_arrive_is_told_again_once() {
        let mut table = Table::default();
        for _ in 0..3 {
            table.saw(1, None, String::new);
        }
        table.judged(1, verdict(Refused));
        let (observations, fine, totals) = table.take();
        table.give_back(&observations, &fine, totals);
        let (again, _, totals_again) = table.take();
        assert_eq!((again, totals_again), (observations, totals));
        assert!(table.take().0.is_empty());
        table.saw(1, None, String::new);
        assert_eq!(table.take().0[0].count, 1);
    }

    #[test]
    fn what_there_is_no_room_for_is_counted() {
        let mut table = Table::default();
        for number in 0..=STATEMENTS_MAX as u64 {
            assert_eq!(table.saw(number, None, String::new), number < STATEMENTS_MAX as u64);
        }
        assert_eq!(table.totals.overlooked, 1);
        assert!(!table.saw(1 << 40, None, String::new));
        assert_eq!((table.totals.overlooked, table.seen.len()), (2, STATEMENTS_MAX));
    }
}
