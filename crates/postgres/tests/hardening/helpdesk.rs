//! The whole of `examples/helpdesk`: undecided, then decided, then hardened, then used by two tenants.

use guardian_testkit::TestDatabase;

use crate::application::{Application, number};

pub(crate) const DECIDED: &str = r#"
[application.global]
country = "ISO 3166-1"

[application.keys]
agent_pkey = "composite"
agent_email_key = "composite"
team_pkey = "composite"
team_member_pkey = "composite"
organization_pkey = "composite"
organization_domain_key = "composite"
contact_pkey = "composite"
mailbox_pkey = { global = "an incoming message has only the address" }
ticket_pkey = "composite"
message_pkey = "composite"
attachment_pkey = { global = "random" }
ticket_tag_pkey = "composite"
ticket_event_pkey = "composite"
api_key_pkey = "composite"
api_key_key_hash_key = { global = "a request has only the key" }
"#;

#[tokio::test]
async fn helpdesk_is_refused_until_it_is_decided() {
    let mut app = Application::of(TestDatabase::helpdesk().await, "").await;
    let hardening = app.plan().await;
    let objects: Vec<&str> = hardening.refusals.iter().map(|refusal| refusal.object.as_str()).collect();
    assert_eq!(objects, ["public.country", "keys"], "{:#?}", hardening.refusals);
    assert!(hardening.refusals[1].ways_out[0].contains("agent_email_key = \"composite\""));
}

#[tokio::test]
async fn helpdesk_is_hardened_and_used() {
    let mut app = Application::of(TestDatabase::helpdesk().await, DECIDED).await;
    app.harden().await;
    app.admit().await;
    use_it(&mut app).await;
}

/// Both tenants do the same work, and each sees its own alone.
pub(crate) async fn use_it(app: &mut Application) {
    let mut a = app.enter(0).await;
    let mut b = app.enter(1).await;
    for connection in [&mut a, &mut b] {
        crate::application::execute(
            connection,
            "INSERT INTO team (name) VALUES ('first');
             INSERT INTO agent (email, display_name) VALUES ('ann@example.com', 'Ann');
             INSERT INTO contact (email, full_name) VALUES ('bob@example.com', 'Bob');
             INSERT INTO ticket (subject, requester_id) SELECT 'printer', id FROM contact",
        )
        .await
        .unwrap();
        assert_eq!(number(connection, "SELECT count(*) FROM ticket").await.unwrap(), 1);
        assert_eq!(number(connection, "SELECT max(number)::int8 FROM ticket").await.unwrap(), 1);
        assert_eq!(number(connection, "SELECT count(*) FROM ticket_event").await.unwrap(), 1);
        assert_eq!(number(connection, "SELECT count(*) FROM open_ticket").await.unwrap(), 1);
        assert_eq!(number(connection, "SELECT count(*) FROM search_tickets('printer')").await.unwrap(), 1);
    }
    assert_eq!(number(&mut app.admin, "SELECT count(*) FROM public.ticket").await.unwrap(), 2);
}
