//! Exceptions in comments, on every kind of object that can have one.

use guardian_audit::{Report, Severity, audit, exceptions::apply, exceptions_of};
use guardian_testkit::Server;

use crate::place::Place;

async fn judge(place: &Place) -> Report {
    let facts = place.facts_as_superuser().await;
    let mut report = audit(&facts, &place.audit_options()).unwrap();
    let exceptions = exceptions_of(&facts, &place.audit_options()).unwrap();
    apply(&mut report, &exceptions, "2026-11-24".parse().unwrap());
    report
}

fn found(report: &Report, rule: &str) -> Vec<String> {
    report.findings.iter().filter(|finding| finding.rule == rule).map(|finding| finding.object.identity.clone()).collect()
}

#[tokio::test]
async fn a_comment_on_the_object_accepts_its_finding_until_the_day() {
    let place = Place::on(&Server::shared()).await;
    place
        .execute("ALTER TABLE shop.orders DISABLE ROW LEVEL SECURITY; ALTER TABLE shop.lines DISABLE ROW LEVEL SECURITY")
        .await;
    assert_eq!(found(&judge(&place).await, "GRD-PG-001"), ["shop.lines", "shop.orders"]);
    place
        .execute(
            "COMMENT ON TABLE shop.orders IS 'Orders of a shop.\n  guardian:allow GRD-PG-001 until 2026-11-24 because it is read by one tenant'; \
             COMMENT ON TABLE shop.lines IS 'guardian:allow GRD-PG-001 until 2026-11-23 because of yesterday'",
        )
        .await;
    let report = judge(&place).await;
    assert_eq!(found(&report, "GRD-PG-001"), ["shop.lines"]);
    assert_eq!(found(&report, "GRD-PG-901"), ["shop.lines"]);
    assert_eq!(report.excepted.len(), 1);
    assert_eq!(report.excepted[0].reason, "it is read by one tenant");
    assert_eq!(report.excepted[0].origin, "the comment on table shop.orders");
}

#[tokio::test]
async fn a_comment_counts_on_its_own_object_only_and_an_unused_one_is_found() {
    let place = Place::on(&Server::shared()).await;
    let allow = "guardian:allow GRD-PG-001 until 2027-01-31 because of a test";
    place
        .execute(&format!(
            "ALTER TABLE shop.orders DISABLE ROW LEVEL SECURITY; \
             COMMENT ON COLUMN shop.orders.note IS '{allow}'; COMMENT ON SCHEMA shop IS '{allow}'; COMMENT ON ROLE {{app}} IS '{allow}'; \
             COMMENT ON POLICY tenant_only ON shop.orders IS '{allow}'; COMMENT ON INDEX shop.lines_of_order IS '{allow}'; \
             COMMENT ON CONSTRAINT lines_pkey ON shop.lines IS '{allow}'; COMMENT ON DATABASE {{db}} IS '{allow}'; \
             CREATE FUNCTION shop.one() RETURNS int LANGUAGE sql AS 'SELECT 1'; COMMENT ON FUNCTION shop.one() IS '{allow}'"
        ))
        .await;
    let report = judge(&place).await;
    assert_eq!(found(&report, "GRD-PG-001"), ["shop.orders"]);
    let mut unused = found(&report, "GRD-PG-902");
    unused.sort();
    let mut expected = [
        "shop.orders.note",
        "shop",
        "{app}",
        "tenant_only on shop.orders",
        "shop.lines_of_order",
        "lines_pkey on shop.lines",
        "{db}",
        "shop.one()",
    ]
    .map(|identity| place.fill(identity));
    expected.sort();
    assert_eq!(unused, expected);
}

#[tokio::test]
async fn a_comment_that_is_not_understood_or_written_by_the_audited_is_refused() {
    let place = Place::on(&Server::shared()).await;
    place
        .execute(
            "ALTER TABLE shop.orders DISABLE ROW LEVEL SECURITY; \
             COMMENT ON TABLE shop.orders IS 'guardian:allow GRD-PG-001'; \
             COMMENT ON TABLE shop.lines IS 'guardian:allow GRD-PG-001 until 2027-01-31'; \
             COMMENT ON TABLE shop.countries IS 'guardian:allow GRD-PG-001 until soon because we can'",
        )
        .await;
    let report = judge(&place).await;
    assert_eq!(found(&report, "GRD-PG-904"), ["shop.countries", "shop.lines", "shop.orders"]);
    assert_eq!(found(&report, "GRD-PG-001"), ["shop.orders"]);

    place
        .execute(
            "ALTER TABLE shop.orders OWNER TO {app}; COMMENT ON TABLE shop.lines IS NULL; COMMENT ON TABLE shop.countries IS NULL; \
             COMMENT ON TABLE shop.orders IS 'guardian:allow GRD-PG-001 until 2027-01-31 because nothing to see'",
        )
        .await;
    let report = judge(&place).await;
    assert_eq!(found(&report, "GRD-PG-001"), ["shop.orders"], "the application cannot switch the auditor off");
    let refused: Vec<_> = report.findings.iter().filter(|finding| finding.rule == "GRD-PG-904").collect();
    assert_eq!(refused.len(), 1);
    assert!(refused[0].evidence.contains("the application could have written it itself"), "{}", refused[0].evidence);
    assert!(report.fails(Severity::Critical));
}
