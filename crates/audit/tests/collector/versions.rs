//! Every major version: the same schema has the same findings.

use guardian_audit::audit;
use guardian_testkit::Server;

use crate::place::Place;

async fn judge(server: &Server) {
    let place = Place::on(server).await;
    place.execute("ALTER TABLE shop.orders DISABLE ROW LEVEL SECURITY").await;
    let facts = place.facts_as_superuser().await;
    assert!(facts.missing.is_empty(), "{:?}", facts.missing);
    assert_eq!(u32::try_from(facts.server.version / 10_000), Ok(server.major()));
    let report = audit(&facts, &place.audit_options()).unwrap();
    assert!(report.could_not_run.is_empty(), "{:?}", report.could_not_run);
    let orders: Vec<_> = report.findings.iter().filter(|finding| finding.object.identity == "shop.orders").collect();
    assert!(orders.iter().any(|finding| finding.rule == "GRD-PG-001"), "{orders:#?}");
    assert!(report.tenant_tables.contains_key("shop.lines"), "{:?}", report.tenant_tables);
}

#[tokio::test]
async fn postgresql_13() {
    if let Some(server) = Server::of_version(13) {
        judge(&server).await;
    }
}

#[tokio::test]
async fn postgresql_14() {
    if let Some(server) = Server::of_version(14) {
        judge(&server).await;
    }
}

#[tokio::test]
async fn the_installed_postgresql() {
    judge(&Server::shared()).await;
}

#[tokio::test]
async fn postgresql_18() {
    if let Some(server) = Server::of_version(18) {
        judge(&server).await;
    }
}
