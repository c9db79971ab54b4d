use guardian_model::{TenantId, api::AuditVerification};
use guardian_store::{AuditFilter, AuditRecord, Outcome};
use sqlx::{AssertSqlSafe, PgConnection};
use uuid::Uuid;

use crate::fixture::Fixture;

async fn write(fixture: &Fixture, from: usize, to: usize) {
    for number in from..to {
        let mut record =
            AuditRecord::anonymous("test.write", Outcome::Refused).with(serde_json::json!({ "number": number }));
        record.tenant = (number % 2 == 0).then(|| TenantId::from_uuid(Uuid::from_u128(1)));
        fixture.store.record(&record).await.unwrap();
    }
}

/// A log of three seals and an unsealed tail of two; entries 1 to 3 come from the fixture.
async fn sealed(hint: &str) -> Fixture {
    let fixture = Fixture::new(hint).await;
    for batch in 0..3 {
        write(&fixture, batch * 4, batch * 4 + 4).await;
        assert_eq!(fixture.store.seal().await.unwrap().unwrap().id, i64::try_from(batch).unwrap() + 1);
    }
    write(&fixture, 12, 14).await;
    fixture
}

async fn verify(fixture: &Fixture, head: Option<&str>) -> AuditVerification {
    fixture.store.verify_audit_log(head).await.unwrap()
}

async fn run(connection: &mut PgConnection, sql: &str) -> Result<u64, String> {
    let done = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(connection).await;
    done.map(|done| done.rows_affected()).map_err(|error| error.to_string())
}

#[tokio::test]
async fn an_untouched_log_is_intact_and_the_tail_is_told() {
    let fixture = sealed("audit").await;
    let found = verify(&fixture, None).await;
    assert_eq!((found.intact, found.sealed, found.unsealed, found.seals), (true, 15, 2, 3), "{:?}", found.faults);
    let head = found.head.unwrap();
    fixture.store.seal().await.unwrap().unwrap();
    let later = verify(&fixture, Some(&head)).await;
    assert!(later.intact && later.unsealed == 0, "an old head is still in the chain: {:?}", later.faults);
    assert_ne!(later.head.unwrap(), head);
    assert_eq!(fixture.store.seal().await.unwrap(), None, "nothing left to seal");
}

#[tokio::test]
async fn the_log_cannot_be_changed_by_its_owner() {
    let fixture = sealed("audit_triggers").await;
    let mut connection = fixture.superuser().await;
    for sql in [
        "UPDATE audit_entry SET actor = 'x' WHERE seq = 4",
        "UPDATE audit_entry SET seal = NULL WHERE seq = 4",
        "UPDATE audit_entry SET seal = 1 WHERE seal IS NULL",
        "DELETE FROM audit_entry WHERE seq = 4",
        "DELETE FROM audit_entry WHERE seal IS NULL",
        "TRUNCATE audit_entry",
        "TRUNCATE audit_entry CASCADE",
        "INSERT INTO audit_entry (actor, action, outcome, detail, seal) VALUES ('x', 'x', 'done', '{}', 1)",
        "UPDATE audit_seal SET hash = previous",
        "DELETE FROM audit_seal",
        "TRUNCATE audit_seal",
    ] {
        let refused = run(&mut connection, sql).await.expect_err(sql);
        assert!(refused.contains("append-only"), "{sql}: {refused}");
    }
    // The sealer itself may only seal.
    let lock = "BEGIN; SELECT pg_advisory_xact_lock(26485, 1);";
    for sql in
        ["UPDATE audit_entry SET actor = 'x', seal = 4 WHERE seal IS NULL", "UPDATE audit_entry SET seal = 2 WHERE seal = 1"]
    {
        let refused = run(&mut connection, &format!("{lock} {sql}")).await.expect_err(sql);
        assert!(refused.contains("append-only"), "{sql}: {refused}");
        run(&mut connection, "ROLLBACK").await.unwrap();
    }
    assert!(verify(&fixture, None).await.intact);
}

/// What a superuser does to the log after switching its triggers off, and a word of the fault that has to show it.
const TAMPERINGS: &[(&str, &str)] = &[
    ("UPDATE audit_entry SET at = at + interval '1 microsecond' WHERE seq = 6", "altered"),
    ("UPDATE audit_entry SET actor = 'somebody' WHERE seq = 6", "altered"),
    ("UPDATE audit_entry SET action = 'test.read' WHERE seq = 6", "altered"),
    ("UPDATE audit_entry SET tenant = NULL WHERE seq = 6", "altered"),
    ("UPDATE audit_entry SET tenant = gen_random_uuid() WHERE seq = 7", "altered"),
    ("UPDATE audit_entry SET outcome = 'allowed' WHERE seq = 6", "altered"),
    ("UPDATE audit_entry SET detail = '{\"number\": 99}' WHERE seq = 6", "altered"),
    ("UPDATE audit_entry SET actor = actor || action, action = '' WHERE seq = 6", "altered"),
    ("UPDATE audit_entry SET seal = NULL WHERE seq = 6", "lacks 1"),
    ("UPDATE audit_entry SET seal = 2 WHERE seq = 6", "belong to no seal"),
    ("UPDATE audit_entry SET seal = 99 WHERE seal IS NULL", "belong to no seal"),
    ("DELETE FROM audit_entry WHERE seq = 6", "lacks 1"),
    ("DELETE FROM audit_entry WHERE seal = 2", "lacks 4"),
    (
        "DELETE FROM audit_entry WHERE seq = 6; INSERT INTO audit_entry OVERRIDING SYSTEM VALUE
         SELECT 6, at, actor, action, tenant, outcome, detail, seal FROM audit_entry WHERE seq = 5",
        "altered",
    ),
    ("DELETE FROM audit_seal WHERE id = 1", "seal 1 is missing"),
    ("DELETE FROM audit_seal WHERE id = 2", "seal 2 is missing"),
    ("DELETE FROM audit_seal WHERE id = 3", "belong to no seal"),
    ("UPDATE audit_seal SET previous = hash WHERE id = 2", "does not follow"),
    ("UPDATE audit_seal SET hash = previous WHERE id = 2", "does not follow"),
    ("UPDATE audit_seal SET hash = previous WHERE id = 3", "altered"),
    ("UPDATE audit_seal SET sealed_at = sealed_at - interval '1 day' WHERE id = 2", "altered"),
    ("UPDATE audit_seal SET entries = entries - 1 WHERE id = 2", "added"),
    ("UPDATE audit_seal SET entries = entries + 1 WHERE id = 2", "lacks 1"),
    ("UPDATE audit_seal SET first_seq = first_seq - 1 WHERE id = 2", "altered"),
    ("UPDATE audit_seal SET last_seq = last_seq - 1 WHERE id = 2", "lacks 1"),
    ("UPDATE audit_seal SET id = 9 WHERE id = 3", "missing"),
];

#[tokio::test]
async fn every_tampering_shows() {
    let fixture = sealed("audit_tampered").await;
    let head = verify(&fixture, None).await.head.unwrap();
    let mut connection = fixture.superuser().await;
    run(&mut connection, "CREATE TABLE entries AS TABLE audit_entry; CREATE TABLE seals AS TABLE audit_seal").await.unwrap();
    // As a superuser can: no trigger fires any more.
    run(&mut connection, "SET session_replication_role = replica").await.unwrap();
    for (sql, sign) in TAMPERINGS {
        let changed = run(&mut connection, sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        assert!(changed > 0, "{sql} changed nothing");
        let found = verify(&fixture, None).await;
        assert!(!found.intact && found.faults.iter().any(|fault| fault.contains(sign)), "{sql}: {:?}", found.faults);
        run(
            &mut connection,
            "DELETE FROM audit_entry; DELETE FROM audit_seal;
             INSERT INTO audit_entry OVERRIDING SYSTEM VALUE TABLE entries; INSERT INTO audit_seal TABLE seals",
        )
        .await
        .unwrap();
        assert!(verify(&fixture, Some(&head)).await.intact, "restored after {sql}");
    }
}

#[tokio::test]
async fn a_log_cut_short_shows_to_who_kept_a_head() {
    let fixture = sealed("audit_cut").await;
    let head = verify(&fixture, None).await.head.unwrap();
    let mut connection = fixture.superuser().await;
    run(
        &mut connection,
        "SET session_replication_role = replica;
         DELETE FROM audit_entry WHERE seal = 3 OR seal IS NULL; DELETE FROM audit_seal WHERE id = 3",
    )
    .await
    .unwrap();
    assert!(verify(&fixture, None).await.intact, "without a head it cannot show");
    let found = verify(&fixture, Some(&head)).await;
    assert!(!found.intact && found.faults[0].contains("cut short"), "{:?}", found.faults);
}

#[tokio::test]
async fn sealers_at_once_make_one_chain_and_late_entries_are_not_lost() {
    let fixture = Fixture::new("audit_race").await;
    // An entry whose transaction ends after later ones were sealed.
    let mut late = fixture.superuser().await;
    run(&mut late, "BEGIN; INSERT INTO audit_entry (actor, action, outcome, detail) VALUES ('late', 'x', 'done', '{}')")
        .await
        .unwrap();
    let writers = (0..4).map(|_| {
        let store = fixture.store.clone();
        tokio::spawn(async move {
            for _ in 0..25 {
                store.record(&AuditRecord::anonymous("test.write", Outcome::Done)).await.unwrap();
                store.seal().await.unwrap();
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    run(&mut late, "COMMIT").await.unwrap();
    while fixture.store.seal().await.unwrap().is_some() {}
    let found = verify(&fixture, None).await;
    assert_eq!((found.intact, found.sealed, found.unsealed), (true, 104, 0), "{:?}", found.faults);
}

#[tokio::test]
async fn the_log_is_read_in_pages_by_filter() {
    let fixture = Fixture::new("audit_pages").await;
    write(&fixture, 0, 25).await;
    let read = async |filter: AuditFilter| {
        let (mut cursor, mut entries) = (None, Vec::new());
        loop {
            let page = fixture.store.audit_entries(&filter, cursor.as_deref(), Some(10)).await.unwrap();
            assert!(page.items.len() <= 10);
            entries.extend(page.items);
            cursor = page.next_cursor;
            if cursor.is_none() {
                break entries;
            }
        }
    };
    let all = read(AuditFilter::default()).await;
    assert_eq!(all.len(), 28);
    assert!(all.is_sorted_by(|left, right| left.seq > right.seq), "the newest first, none twice");
    assert_eq!(all[0].detail["number"], 24);
    let tenant = Some(TenantId::from_uuid(Uuid::from_u128(1)));
    assert_eq!(read(AuditFilter { tenant, ..Default::default() }).await.len(), 13);
    assert_eq!(read(AuditFilter { actor: Some("anonymous".to_owned()), ..Default::default() }).await.len(), 25);
    assert_eq!(read(AuditFilter { action: Some("test.".to_owned()), ..Default::default() }).await.len(), 25);
    for absent in ["tes", "test.\0"] {
        assert_eq!(read(AuditFilter { action: Some(absent.to_owned()), ..Default::default() }).await.len(), 0);
    }
    assert_eq!(read(AuditFilter { outcome: Some(Outcome::Done), ..Default::default() }).await.len(), 3);
}
