use guardian_model::{
    Permission,
    observation::{DirectSessions, Observation, ObservationReport, ObservationVerdict},
};
use guardian_store::{AuditFilter, ReportError};
use jiff::Timestamp;

use crate::fixture::{Fixture, permit};

fn found(number: u32, verdict: ObservationVerdict, count: u64) -> Observation {
    Observation {
        fingerprint: format!("{number:016x}"),
        statement: format!("SELECT {number}"),
        verdict,
        sqlstate: None,
        reason: "because".to_owned(),
        tables: vec!["public.ticket".to_owned()],
        rows: None,
        count,
        tenants: 1,
        first_seen: Timestamp::UNIX_EPOCH,
        last_seen: Timestamp::UNIX_EPOCH,
    }
}

fn report(generation: u64, observations: Vec<Observation>) -> ObservationReport {
    ObservationReport {
        generation,
        observations,
        statements: 5,
        looked_at: 2,
        overlooked: 1,
        ..ObservationReport::default()
    }
}

#[tokio::test]
async fn reports_add_up_until_they_are_cleared_and_late_ones_are_not_taken() {
    let fixture = Fixture::new("observations").await;
    let (store, gateway) = (&fixture.store, permit(Permission::SnapshotRead));
    let untold = store.report_observations(&gateway, &report(0, vec![found(1, ObservationVerdict::Empty, 1)]), &[]).await;
    let generation = untold.unwrap().generation;
    assert!(store.observations(false, None, None).await.unwrap().items.is_empty(), "of no generation");
    for verdict in [ObservationVerdict::NotLookedAt, ObservationVerdict::Refused] {
        let next = report(generation, vec![found(1, verdict, 3), found(2, ObservationVerdict::NotLookedAt, 1)]);
        assert!(store.report_observations(&gateway, &next, &[]).await.unwrap().taken);
    }
    let listed = store.observations(true, None, None).await.unwrap().items;
    assert_eq!(
        listed.iter().map(|found| (found.verdict, found.count)).collect::<Vec<_>>(),
        [(ObservationVerdict::Refused, 6)]
    );
    let (first, second) = (store.observations(false, None, Some(1)).await.unwrap(), 2);
    assert_eq!(first.items[0].fingerprint, format!("{second:016x}"));
    let rest = store.observations(false, first.next_cursor.as_deref(), Some(1)).await.unwrap();
    assert_eq!((rest.items[0].fingerprint.as_str(), rest.next_cursor), ("0000000000000001", None));
    let well = ObservationReport { fine: vec![format!("{second:016x}")], ..report(generation, Vec::new()) };
    let direct = DirectSessions {
        role: "old".to_owned(),
        application_name: "report".to_owned(),
        client_address: String::new(),
        sessions: 2,
        last_seen: Timestamp::UNIX_EPOCH,
    };
    store.report_observations(&gateway, &well, std::slice::from_ref(&direct)).await.unwrap();
    assert_eq!(store.observations(false, None, None).await.unwrap().items.len(), 1);
    let summary = store.observation_summary().await.unwrap();
    assert_eq!((summary.statements, summary.looked_at, summary.overlooked, summary.elsewhere), (15, 6, 3, 0));
    assert_eq!((summary.tables.len(), summary.tables[0].need_work, summary.direct[0].sessions), (1, 1, 2));

    store.clear_observations(&permit(Permission::SchemaWrite)).await.unwrap();
    let late = report(generation, vec![found(1, ObservationVerdict::Empty, 1)]);
    let late = store.report_observations(&gateway, &late, &[]).await.unwrap();
    assert!(!late.taken && late.generation > generation);
    assert_eq!(store.observation_summary().await.unwrap(), guardian_model::observation::ObservationSummary::default());
    // New statements and the clearing are in the audit log, counts are not.
    let entries = store.audit_entries(&AuditFilter::default(), None, None).await.unwrap().items;
    let of = |action: &str| entries.iter().filter(|entry| entry.action == action).count();
    assert_eq!((of("observation.report"), of("observation.clear")), (1, 1));
}

#[tokio::test]
async fn a_report_that_no_gateway_writes_or_without_a_permit_is_refused() {
    let fixture = Fixture::new("observations_bad").await;
    let (store, gateway) = (&fixture.store, permit(Permission::SnapshotRead));
    let long = "x".repeat(5000);
    let odd = Observation {
        statement: format!("{long}\0"),
        reason: long.clone(),
        ..found(1, ObservationVerdict::Empty, u64::MAX)
    };
    assert!(store.report_observations(&gateway, &report(1, vec![odd]), &[]).await.unwrap().taken, "it is cut");
    assert!(store.observations(false, None, None).await.unwrap().items[0].statement.len() < 2000);
    let bad = [
        report(1, vec![found(1, ObservationVerdict::Fine, 1)]),
        report(1, vec![Observation { fingerprint: "'; --".to_owned(), ..found(1, ObservationVerdict::Empty, 1) }]),
        report(1, (0..501).map(|number| found(number, ObservationVerdict::Empty, 1)).collect()),
        ObservationReport { fine: vec![String::new()], ..report(1, Vec::new()) },
    ];
    for bad in bad {
        let refused = store.report_observations(&gateway, &bad, &[]).await;
        assert!(matches!(refused, Err(ReportError::Malformed(_))), "{refused:?}");
    }
    assert!(store.report_observations(&permit(Permission::PlatformRead), &report(1, Vec::new()), &[]).await.is_err());
    assert!(store.clear_observations(&permit(Permission::SnapshotRead)).await.is_err());
}
