//! The sound schema.

use guardian_audit::attacks::{By, Origin, Verdict};

use crate::bench::{Bench, open};

#[tokio::test]
async fn the_sound_schema_is_proven_isolated() {
    let bench = Bench::sound().await;
    let report = bench.attack().await;
    assert_eq!((report.context_origin, report.context_by), (Origin::Proposed, By::Administrator));
    assert_eq!(open(&report), Vec::<String>::new());
    for table in ["shop.orders", "shop.lines"] {
        assert_eq!(report.verdict(table), Some(Verdict::ProvenIsolated));
    }
    assert_eq!(report.verdict("shop.countries"), None, "what belongs to no tenant has no verdict");
}
