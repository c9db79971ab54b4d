//! Exceptions and baselines on reports made by hand; comments on a real database are in the collector's tests.

use guardian_audit::{
    Report, Severity,
    audit::NotRun,
    baseline::Baseline,
    exceptions::{Exceptions, apply, of_file},
};
use jiff::civil::Date;

use crate::made::{empty, finding};

fn day(text: &str) -> Date {
    text.parse().unwrap()
}

fn report() -> Report {
    let mut report = empty();
    report.findings =
        vec![finding("GRD-PG-001", Severity::Critical, "orders"), finding("GRD-PG-001", Severity::Critical, "lines")];
    report
}

const ORDERS: &str = "# The team's own.\n\n[[exception]]\nrule = \"GRD-PG-001\"\nobject = \"public.orders\"\nuntil = 2027-01-31\nreason = \"it has test rows\"\n";

fn after(text: &str, today: &str) -> Report {
    let mut report = report();
    let granted = of_file("guardian-audit.toml", text).unwrap();
    apply(&mut report, &Exceptions { granted, refused: Vec::new() }, day(today));
    report
}

fn brief(report: &Report) -> Vec<String> {
    report.findings.iter().map(|finding| format!("{} {}", finding.rule, finding.object.identity)).collect()
}

#[test]
fn an_exception_takes_its_finding_out_until_its_day() {
    for today in ["2026-11-24", "2027-01-31"] {
        let report = after(ORDERS, today);
        assert_eq!(brief(&report), ["GRD-PG-001 public.lines"], "{today}");
        assert_eq!(report.excepted.len(), 1);
        assert_eq!(report.excepted[0].reason, "it has test rows");
        assert_eq!(report.excepted[0].origin, "guardian-audit.toml:3");
        assert!(report.fails(Severity::High), "the other one still counts");
    }
}

#[test]
fn an_expired_exception_is_a_finding_and_its_own_counts_again() {
    let report = after(ORDERS, "2027-02-01");
    assert_eq!(brief(&report), ["GRD-PG-001 public.lines", "GRD-PG-001 public.orders", "GRD-PG-901 guardian-audit.toml"]);
    assert!(report.excepted.is_empty());
    let expired = &report.findings[2];
    assert_eq!(
        expired.evidence,
        "guardian-audit.toml:3 allows GRD-PG-001 on public.orders until 2027-01-31, because \"it has test rows\"; the finding is \
         still there and counts again"
    );
}

#[test]
fn an_exception_that_matches_nothing_is_a_finding() {
    let report = after(&ORDERS.replace("orders", "order"), "2026-11-24");
    assert_eq!(brief(&report), ["GRD-PG-001 public.lines", "GRD-PG-001 public.orders", "GRD-PG-902 guardian-audit.toml"]);
    let report = after(&ORDERS.replace("001", "000"), "2026-11-24");
    assert_eq!(
        report.findings[2].evidence,
        "guardian-audit.toml:3 allows GRD-PG-000 on public.orders, and there is no such rule"
    );
    // Written twice, neither is unused, and one is enough.
    let report = after(&format!("{ORDERS}{ORDERS}"), "2026-11-24");
    assert_eq!(brief(&report), ["GRD-PG-001 public.lines"]);
}

#[test]
fn what_is_wrong_with_exceptions_cannot_be_excepted() {
    let own =
        "[[exception]]\nrule = \"GRD-PG-902\"\nobject = \"guardian-audit.toml\"\nuntil = 2027-01-31\nreason = \"hush\"\n";
    let report = after(own, "2026-11-24");
    assert_eq!(brief(&report)[2..], ["GRD-PG-902 guardian-audit.toml"]);
}

#[test]
fn of_a_rule_that_could_not_run_an_exception_is_not_called_unused() {
    let mut report = empty();
    report.could_not_run = vec![NotRun { rule: "GRD-PG-001", title: "Any", missing: Vec::new() }];
    let granted = of_file("f", ORDERS).unwrap();
    apply(&mut report, &Exceptions { granted, refused: Vec::new() }, day("2026-11-24"));
    assert_eq!(brief(&report), [""; 0]);
}

#[test]
fn a_fingerprint_means_one_finding() {
    let fingerprint = report().findings[1].fingerprint.clone();
    let text = ORDERS.replace("object = \"public.orders\"", &format!("fingerprint = \"{fingerprint}\""));
    assert_eq!(brief(&after(&text, "2026-11-24")), ["GRD-PG-001 public.orders"]);
}

#[test]
fn a_file_that_makes_no_sense_is_refused_with_its_line() {
    let refused = |text: &str| of_file("guardian-audit.toml", text).unwrap_err().to_string();
    assert_eq!(
        refused(&ORDERS.replace("it has test rows", "  ")),
        "guardian-audit.toml:3: `reason` is empty; say why the finding is accepted"
    );
    assert_eq!(
        refused(&ORDERS.replace("2027-01-31", "\"soon\"")),
        "guardian-audit.toml:3: `until` is no date such as 2027-01-31"
    );
    assert_eq!(
        refused(&ORDERS.replace("2027-01-31", "2027-01-31T00:00:00Z")),
        "guardian-audit.toml:3: `until` is no date such as 2027-01-31"
    );
    assert_eq!(
        refused(&ORDERS.replace("object = \"public.orders\"\n", "")),
        "guardian-audit.toml:3: give either `object`, as the report names it, or `fingerprint`"
    );
    for (from, to, line) in [
        ("until", "untill", "line 6"),
        ("reason = \"it has test rows\"", "", "line 3"),
        ("[[exception]]", "[exception", "line 3"),
    ] {
        let problem = refused(&ORDERS.replace(from, to));
        assert!(problem.contains("guardian-audit.toml") && problem.contains(line), "{problem}");
    }
}

#[test]
fn a_baseline_knows_findings_again_but_not_new_or_worse_ones() {
    let first = report();
    let text = Baseline::of(&first).to_text().unwrap();
    let baseline = Baseline::of_text(&text).unwrap();
    let mut same = report();
    baseline.apply(&mut same);
    assert_eq!((same.findings.len(), same.known.len(), same.gone.len()), (0, 2, 0));
    assert!(!same.fails(Severity::Note));

    let mut changed = report();
    changed.findings.remove(1);
    changed.findings.push(finding("GRD-PG-001", Severity::Critical, "invoices"));
    baseline.apply(&mut changed);
    assert_eq!(brief(&changed), ["GRD-PG-001 public.invoices"]);
    assert_eq!(changed.gone, ["GRD-PG-001 public.lines"]);

    let mut milder = report();
    milder.findings[0].severity = Severity::Low;
    let mut worse = report();
    Baseline::of(&milder).apply(&mut worse);
    assert_eq!(brief(&worse), ["GRD-PG-001 public.orders"], "what was low and is critical is not known");
}

#[test]
fn the_audits_own_findings_are_never_in_a_baseline() {
    let expired = after(ORDERS, "2027-02-01");
    let baseline = Baseline::of(&expired);
    assert_eq!(baseline.findings.len(), 2);
    let mut again = after(ORDERS, "2027-02-01");
    baseline.apply(&mut again);
    assert_eq!(brief(&again), ["GRD-PG-901 guardian-audit.toml"]);
}

#[test]
fn a_baseline_of_another_format_is_refused() {
    let text = Baseline::of(&report()).to_text().unwrap().replace("\"format\": 1", "\"format\": 9");
    assert_eq!(
        Baseline::of_text(&text).unwrap_err().to_string(),
        "the baseline has format 9, this Guardian reads 1; write it anew with --write-baseline"
    );
    assert!(Baseline::of_text("[]").is_err());
}
