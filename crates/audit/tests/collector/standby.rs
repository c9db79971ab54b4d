//! On a standby, which can only be read.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, chown},
    path::PathBuf,
};

use guardian_audit::audit;
use guardian_testkit::Server;

use crate::place::Place;

#[tokio::test]
async fn a_standby_is_audited_like_its_primary() {
    let server = Server::own_with(&[("autovacuum", "off")]);
    let place = Place::on(&server).await;
    place.execute("ALTER TABLE shop.orders DISABLE ROW LEVEL SECURITY").await;
    // By itself: a transaction whose end is not on disk holds its locks on a standby for ever.
    place.execute("CHECKPOINT").await;
    let primary = place.facts_as_superuser().await;
    assert!(!primary.server.in_recovery);
    let data: String =
        sqlx::query_scalar("SHOW data_directory").fetch_one(&mut place.database.connect().await).await.unwrap();
    server.kill();
    let signal = PathBuf::from(&data).join("standby.signal");
    fs::write(&signal, "").unwrap();
    let owner = fs::metadata(&data).unwrap();
    chown(&signal, Some(owner.uid()), Some(owner.gid())).unwrap();
    server.restart();

    let standby = place.facts_as_superuser().await;
    assert!(standby.server.in_recovery);
    assert!(standby.missing.is_empty(), "{:?}", standby.missing);
    let findings = |facts| audit(facts, &place.audit_options()).unwrap().findings;
    assert_eq!(findings(&standby), findings(&primary));
    assert!(findings(&standby).iter().any(|finding| finding.rule == "GRD-PG-001"));
}
