//! A collector without rights: every missing source is named with the server's reason, and every rule that needs it.

use guardian_audit::{AuditError, Facts, audit, facts::Source, rules};
use guardian_testkit::Server;

use crate::place::Place;

#[tokio::test]
async fn a_role_without_rights_says_what_it_could_not_read() {
    let place = Place::on(&Server::shared()).await;
    let facts = place.facts_as("{nobody}").await;
    let missing: Vec<Source> = facts.missing.iter().map(|missing| missing.source).collect();
    assert_eq!(missing, [Source::HbaRules, Source::Passwords], "{:?}", facts.missing);
    assert!(facts.missing.iter().all(|missing| !missing.reason.is_empty()));
    assert_eq!(facts.server.tls, None, "the sound database shows nobody the sessions");
    // Everything else is as a superuser sees it.
    let all = place.facts_as_superuser().await;
    assert!(all.missing.is_empty(), "{:?}", all.missing);
    assert_eq!(facts.relations, all.relations);
    assert_eq!(facts.policies, all.policies);
    assert_eq!(facts.columns, all.columns);
    assert!(facts.role_named(&place.fill("{app}")).is_some_and(|role| role.logs_in && role.password.is_none()));
    // Predicates are evaluated without rights on the tables; what needs a setting that only a superuser makes is undecided.
    assert_eq!(facts.truths.len(), all.truths.len());
    for (mine, theirs) in facts.truths.iter().zip(&all.truths) {
        let unsettable = mine.undecided.as_ref().is_some_and(|reason| reason.contains("may not set"));
        assert!(mine == theirs || unsettable, "{mine:?} {theirs:?}");
    }
}

#[tokio::test]
async fn a_rule_whose_facts_are_missing_is_said_not_to_have_run_and_counts() {
    let place = Place::on(&Server::shared()).await;
    place
        .execute("REVOKE SELECT ON pg_catalog.pg_policy FROM PUBLIC; ALTER TABLE shop.orders NO FORCE ROW LEVEL SECURITY")
        .await;
    let facts = place.facts_as("{nobody}").await;
    let policies = facts.missing(Source::Policies).expect("the policies are missing");
    assert_eq!(policies.reason, "permission denied for table pg_policy");
    let report = audit(&facts, &place.audit_options()).unwrap();
    let expected: Vec<&str> = rules::ALL
        .iter()
        .filter(|rule| rule.needs.iter().any(|source| facts.missing(*source).is_some()))
        .map(|rule| rule.id)
        .collect();
    assert!(expected.contains(&"GRD-PG-003"), "{expected:?}");
    let not_run: Vec<&str> = report.could_not_run.iter().map(|rule| rule.rule).collect();
    assert_eq!(not_run, expected);
    assert_eq!(report.rules_run + not_run.len(), rules::ALL.len());
    for id in expected {
        let rule = rules::by_id(id).unwrap();
        let counted = report.findings.iter().filter(|finding| finding.rule == "GRD-PG-903" && finding.object.identity == id);
        let severities: Vec<_> = counted.map(|finding| finding.severity).collect();
        assert_eq!(severities, [rule.severity], "{id} counts as much as what it would have found");
    }
}

#[tokio::test]
async fn without_roles_or_relations_there_is_no_verdict() {
    let place = Place::on(&Server::shared()).await;
    place.execute("REVOKE SELECT ON pg_catalog.pg_auth_members FROM PUBLIC").await;
    let facts = place.facts_as("{nobody}").await;
    let refused = audit(&facts, &place.audit_options());
    assert!(
        matches!(&refused, Err(AuditError::Blind { source_name: Source::Memberships, reason }) if reason.contains("pg_auth_members")),
        "{refused:?}"
    );
}

#[tokio::test]
async fn the_audit_of_an_unknown_role_is_refused() {
    let place = Place::on(&Server::shared()).await;
    let mut options = place.audit_options();
    options.app_roles.push("no such role".to_owned());
    let refused = audit(&place.facts_as("{nobody}").await, &options);
    assert!(matches!(&refused, Err(AuditError::UnknownRole(name)) if name == "no such role"), "{refused:?}");
    options.app_roles.clear();
    let refused = audit(&place.facts_as("{nobody}").await, &options);
    assert!(matches!(refused, Err(AuditError::NoRole)), "{refused:?}");
}

/// A migration holds a catalog longer than the collector waits.
#[tokio::test]
async fn a_source_that_is_locked_is_missing_and_the_rest_goes_on() {
    let place = Place::on(&Server::shared()).await;
    let mut migration = place.database.connect().await;
    sqlx::raw_sql("BEGIN; LOCK TABLE pg_catalog.pg_policy IN ACCESS EXCLUSIVE MODE").execute(&mut migration).await.unwrap();
    let facts = place.facts_as_superuser().await;
    let policies = facts.missing(Source::Policies).expect("the policies are missing");
    assert!(policies.reason.contains("lock timeout"), "{policies:?}");
    assert!(!facts.relations.is_empty() && !facts.functions.is_empty());
    sqlx::raw_sql("ROLLBACK").execute(&mut migration).await.unwrap();
    assert!(place.facts_as_superuser().await.missing.is_empty());
}

#[tokio::test]
async fn saved_facts_give_the_same_report_and_others_are_refused() {
    let place = Place::on(&Server::shared()).await;
    place.execute("ALTER TABLE shop.orders DISABLE ROW LEVEL SECURITY").await;
    let facts = place.facts_as_superuser().await;
    let text = facts.to_text().unwrap();
    let read = Facts::of_text(&text).unwrap();
    assert_eq!(read, facts);
    let report = audit(&facts, &place.audit_options()).unwrap();
    assert!(report.findings.iter().any(|finding| finding.rule == "GRD-PG-001"));
    assert_eq!(audit(&read, &place.audit_options()).unwrap(), report);
    let newer = text.replacen("\"format\":1", "\"format\":2,\"colour\":\"red\"", 1);
    assert_eq!(
        Facts::of_text(&newer).unwrap_err().to_string(),
        "the facts have format 2, this Guardian reads 1; collect them again"
    );
    assert!(Facts::of_text("{}").unwrap_err().to_string().contains("missing field `format`"));
    assert!(Facts::of_text(&text[..text.len() / 2]).is_err());
}
