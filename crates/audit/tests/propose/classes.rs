//! Whose rows each table is said to hold, and how sure that is.

use guardian_audit::propose::{Class, Confidence, Proposal, Surroundings};
use guardian_testkit::TestDatabase;

use crate::{
    adopt::{Existing, assert_classes, evidence},
    schemas,
};

fn confidence(proposal: &Proposal, table: &str) -> Confidence {
    proposal.tables.iter().find(|one| one.name == table).unwrap().confidence
}

#[tokio::test]
async fn helpdesk_without_tenant_columns_in_its_children() {
    let proposal = Existing::new(schemas::HELPDESK).await.propose();
    assert_classes(
        &proposal,
        &[
            ("tenants", &["accounts"]),
            ("tenant-owned", &["users", "tickets", "tags"]),
            ("through parent", &["messages", "attachments", "ticket_tags", "audit_log"]),
            ("global", &["countries", "schema_migrations"]),
        ],
    );
    assert_eq!(
        evidence(&proposal, "attachments"),
        "attachments.message_id → messages.id, messages.ticket_id → tickets.id, tickets.account_id"
    );
    assert!(proposal.tables.iter().all(|table| table.confidence == Confidence::High), "{:#?}", proposal.tables);
}

#[tokio::test]
async fn the_example_has_a_column_and_no_table_of_tenants() {
    let existing = Existing::of(TestDatabase::helpdesk().await, "").await;
    let proposal = existing.propose();
    assert_eq!((proposal.tenant.table.as_deref(), proposal.tenant.column.as_str()), (None, "tenant_id"));
    for table in &proposal.tables {
        let wanted = if table.name == "country" { "global" } else { "tenant-owned" };
        assert_eq!(table.class.as_str(), wanted, "{table:#?}");
    }
    assert!(proposal.tables.len() >= 14);
}

#[tokio::test]
async fn people_who_belong_to_several_tenants_are_undecided() {
    let proposal = Existing::new(
        "CREATE TABLE accounts (id bigint PRIMARY KEY);
         CREATE TABLE users (id bigint PRIMARY KEY, email text, last_account_id bigint REFERENCES accounts);
         CREATE TABLE memberships (account_id bigint REFERENCES accounts, user_id bigint REFERENCES users,
           PRIMARY KEY (account_id, user_id));
         CREATE TABLE user_devices (id bigint PRIMARY KEY, user_id bigint NOT NULL REFERENCES users);
         CREATE TABLE posts (id bigint PRIMARY KEY, account_id bigint NOT NULL REFERENCES accounts,
           author_id bigint NOT NULL REFERENCES users)",
    )
    .await
    .propose();
    assert_classes(
        &proposal,
        &[
            ("tenants", &["accounts"]),
            ("tenant-owned", &["memberships", "posts"]),
            ("undecided", &["users", "user_devices"]),
        ],
    );
    assert!(evidence(&proposal, "users").contains("memberships ties its rows to tenants"));
    assert!(evidence(&proposal, "user_devices").contains("`user_id` refers to users, which is undecided"));
}

#[tokio::test]
async fn references_to_any_table_are_undecided() {
    let proposal = Existing::new(
        "CREATE TABLE accounts (id bigint PRIMARY KEY);
         CREATE TABLE documents (id bigint PRIMARY KEY, account_id bigint NOT NULL REFERENCES accounts);
         CREATE TABLE comments (id bigint PRIMARY KEY, subject_type text NOT NULL, subject_id bigint NOT NULL, body text);
         CREATE TABLE versions (id bigint PRIMARY KEY, item_type text NOT NULL, item_id bigint NOT NULL, object jsonb);
         CREATE TABLE document (id bigint PRIMARY KEY, document_type text, document_id bigint)",
    )
    .await
    .propose();
    assert_classes(
        &proposal,
        &[
            ("tenants", &["accounts"]),
            ("tenant-owned", &["documents"]),
            ("undecided", &["comments", "versions", "document"]),
        ],
    );
    assert!(evidence(&proposal, "comments").contains("`subject_type` and `subject_id` refer to rows of any table"));
}

#[tokio::test]
async fn two_ways_to_two_tenants_are_undecided() {
    let proposal = Existing::new(
        "CREATE TABLE accounts (id bigint PRIMARY KEY, parent_id bigint REFERENCES accounts);
         CREATE TABLE transfers (id bigint PRIMARY KEY, from_id bigint NOT NULL REFERENCES accounts,
           to_id bigint NOT NULL REFERENCES accounts);
         CREATE TABLE items (id bigint PRIMARY KEY, account_id bigint NOT NULL REFERENCES accounts,
           shared_with bigint REFERENCES accounts);
         CREATE TABLE jobs (id bigint PRIMARY KEY, account_id bigint NOT NULL REFERENCES accounts)",
    )
    .await
    .propose();
    assert_classes(
        &proposal,
        &[("tenants", &["accounts"]), ("tenant-owned", &["items", "jobs"]), ("undecided", &["transfers"])],
    );
    assert!(evidence(&proposal, "transfers").contains("`from_id`, `to_id` all refer to the tenants"));
    let notes: Vec<&str> = proposal.notes.iter().map(|note| note.object.as_str()).collect();
    assert_eq!(notes, ["accounts_parent_id_fkey on public.accounts", "items_shared_with_fkey on public.items"]);
}

#[tokio::test]
async fn what_everybody_may_read_is_no_guess() {
    let proposal = Existing::new(
        "CREATE TABLE tenants (id bigint PRIMARY KEY);
         CREATE TABLE orders (id bigint PRIMARY KEY, tenant_id bigint NOT NULL REFERENCES tenants, currency text, kind text);
         CREATE TABLE currencies (code text PRIMARY KEY, name text);
         CREATE TABLE order_types (id integer PRIMARY KEY, code text UNIQUE);
         CREATE TABLE newsletter_subscribers (id bigint PRIMARY KEY, email text UNIQUE);
         CREATE TABLE leads (id bigint PRIMARY KEY, score integer);
         CREATE TABLE api_keys (key_hash text PRIMARY KEY);
         CREATE TABLE flyway_schema_history (installed_rank integer PRIMARY KEY, description text, checksum integer)",
    )
    .await
    .propose();
    assert_classes(
        &proposal,
        &[
            ("tenants", &["tenants"]),
            ("tenant-owned", &["orders"]),
            ("global", &["currencies", "order_types", "flyway_schema_history"]),
            ("undecided", &["newsletter_subscribers", "leads", "api_keys"]),
        ],
    );
    assert!(evidence(&proposal, "newsletter_subscribers").contains("`email` may belong to somebody"));
}

#[tokio::test]
async fn a_column_of_the_name_that_means_something_else_is_undecided() {
    let proposal = Existing::new(
        "CREATE TABLE accounts (id bigint PRIMARY KEY);
         CREATE TABLE a (id bigint PRIMARY KEY, account_id bigint NOT NULL REFERENCES accounts);
         CREATE TABLE b (id bigint PRIMARY KEY, account_id bigint NOT NULL REFERENCES accounts);
         CREATE TABLE ledger (id bigint PRIMARY KEY);
         CREATE TABLE bookings (id bigint PRIMARY KEY, account_id bigint NOT NULL REFERENCES ledger);
         CREATE TABLE imports (id bigint PRIMARY KEY, account_id text NOT NULL)",
    )
    .await
    .propose();
    assert!(evidence(&proposal, "bookings").contains("its column `account_id` refers to ledger, not to the tenants"));
    assert!(evidence(&proposal, "imports").contains("is of type text, not bigint"));
    for name in ["bookings", "imports"] {
        assert_eq!(proposal.tables.iter().find(|table| table.name == name).unwrap().class, Class::Undecided);
    }
}

#[tokio::test]
async fn optional_parents_are_weaker_and_names_are_weaker_than_foreign_keys() {
    let proposal = Existing::new(schemas::CHAIN).await.propose();
    assert_classes(
        &proposal,
        &[("tenants", &["organization"]), ("tenant-owned", &["project"]), ("through parent", &["board", "card", "comment"])],
    );
    assert_eq!(confidence(&proposal, "card"), Confidence::High);
    assert_eq!(confidence(&proposal, "comment"), Confidence::Low);
    let comment = proposal.tables.iter().find(|table| table.name == "comment").unwrap();
    assert!(matches!(&comment.class, Class::Through { ways } if ways.len() == 2));

    let proposal = Existing::new(schemas::NAMES_ONLY).await.propose();
    assert_classes(
        &proposal,
        &[("tenants", &["workspaces"]), ("tenant-owned", &["projects"]), ("through parent", &["tasks"])],
    );
    assert_eq!(confidence(&proposal, "tasks"), Confidence::Medium);
    assert!(evidence(&proposal, "tasks").contains("no foreign key"));
}

#[tokio::test]
async fn several_schemas_are_read_and_the_largest_is_taken() {
    let reference = "CREATE SCHEMA reference; CREATE TABLE reference.countries (code text PRIMARY KEY, name text NOT NULL); \
        CREATE TABLE billing.remarks (id bigint PRIMARY KEY, record_type text, record_id bigint)";
    let proposal = Existing::new(&format!("{} {reference}", schemas::SCHEMAS)).await.propose();
    assert_classes(
        &proposal,
        &[
            ("tenants", &["core.accounts"]),
            ("tenant-owned", &["core.users", "billing.invoices"]),
            ("through parent", &["core.sessions", "billing.users"]),
            ("global", &["reference.countries"]),
            ("undecided", &["billing.remarks"]),
        ],
    );
    assert_eq!(proposal.schema, "core");
    let notes: Vec<(&str, &str)> = proposal.notes.iter().map(|note| (note.object.as_str(), note.text.as_str())).collect();
    let [("schema billing", billing), ("schema reference", reference)] = notes[..] else { panic!("{notes:?}") };
    assert!(
        billing.starts_with("it has rows of tenants in invoices, users, rows of nobody knows whom in remarks."),
        "{billing}"
    );
    assert!(billing.contains("no right there") && reference.starts_with("it has rows for every tenant in countries."));
    assert!(reference.contains("SET SCHEMA") && reference.contains("grant the application's role by hand"), "{reference}");
    let config = proposal.config(Surroundings::default());
    let told = config.split_once("schema = \"core\"\n").unwrap().1;
    assert_eq!(told.lines().nth(1), Some("#   billing, reference"), "{config}");
}
