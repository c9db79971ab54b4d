//! Which table is taken for the tenants', and when there is none.

use guardian_audit::propose::{Confidence, Options, ProposeError};

use crate::{
    adopt::{Existing, assert_classes, evidence},
    schemas,
};

fn named(root: Option<&str>, column: Option<&str>) -> Options {
    Options { tenant_root: root.map(str::to_owned), tenant_column: column.map(str::to_owned), application: None }
}

const TWO: &str = "
CREATE TABLE organizations (id bigint PRIMARY KEY);
CREATE TABLE workspaces (id bigint PRIMARY KEY, organization_id bigint NOT NULL REFERENCES organizations);
CREATE TABLE pages (id bigint PRIMARY KEY, workspace_id bigint NOT NULL REFERENCES workspaces);
CREATE TABLE blocks (id bigint PRIMARY KEY, page_id bigint NOT NULL REFERENCES pages)";

#[tokio::test]
async fn of_two_candidates_the_upper_one_is_taken_and_the_other_named() {
    let existing = Existing::new(TWO).await;
    let proposal = existing.propose();
    assert_eq!(proposal.tenant.table.as_deref(), Some("public.organizations"));
    assert_eq!(proposal.tenant.column, "organization_id");
    assert_eq!(proposal.confidence, Confidence::Low, "{:?}", proposal.alternatives);
    assert_eq!(proposal.alternatives[0].table.as_deref(), Some("public.workspaces"));
    assert_classes(
        &proposal,
        &[("tenants", &["organizations"]), ("tenant-owned", &["workspaces"]), ("through parent", &["pages", "blocks"])],
    );
}

#[tokio::test]
async fn the_user_names_another_root() {
    let existing = Existing::new(TWO).await;
    for name in ["workspaces", "public.workspaces"] {
        let proposal = existing.try_propose(named(Some(name), None)).unwrap();
        assert_eq!((proposal.tenant.column.as_str(), proposal.confidence), ("workspace_id", Confidence::High));
        // An organization has several workspaces: it is no tenant's, and nobody but the user can say what it is.
        assert_classes(
            &proposal,
            &[
                ("tenants", &["workspaces"]),
                ("tenant-owned", &["pages"]),
                ("through parent", &["blocks"]),
                ("undecided", &["organizations"]),
            ],
        );
    }
    let error = existing.try_propose(named(Some("nothing"), None)).unwrap_err();
    assert_eq!(error, ProposeError::NoTable { name: "nothing".to_owned() });
}

#[tokio::test]
async fn the_user_names_another_column() {
    let existing = Existing::new(TWO).await;
    let proposal = existing.try_propose(named(None, Some("workspace_id"))).unwrap();
    assert_eq!(proposal.tenant.table.as_deref(), Some("public.workspaces"));
    // A column that no table has yet is the one to add.
    let proposal = existing.try_propose(named(Some("organizations"), Some("tenant_id"))).unwrap();
    assert_classes(&proposal, &[("tenants", &["organizations"]), ("through parent", &["workspaces", "pages", "blocks"])]);
    assert!(matches!(existing.try_propose(named(None, Some("x"))), Err(ProposeError::NoTenant { .. })));
}

#[tokio::test]
async fn customers_of_tenants_are_no_tenants() {
    let existing = Existing::new(
        "CREATE TABLE companies (id uuid PRIMARY KEY);
         CREATE TABLE accounts (id uuid PRIMARY KEY, company_id uuid NOT NULL REFERENCES companies);
         CREATE TABLE contacts (id uuid PRIMARY KEY, account_id uuid NOT NULL REFERENCES accounts);
         CREATE TABLE products (id uuid PRIMARY KEY, company_id uuid NOT NULL REFERENCES companies);
         CREATE TABLE sales (id uuid PRIMARY KEY, product_id uuid NOT NULL REFERENCES products)",
    )
    .await;
    let proposal = existing.propose();
    assert_eq!(proposal.tenant.table.as_deref(), Some("public.companies"));
}

#[tokio::test]
async fn a_schema_without_tenants_gets_no_proposal() {
    let existing = Existing::new(
        "CREATE TABLE stars (id bigint PRIMARY KEY, name text);
         CREATE TABLE planets (id bigint PRIMARY KEY, star_id bigint NOT NULL REFERENCES stars)",
    )
    .await;
    let error = existing.try_propose(Options::default()).unwrap_err();
    assert_eq!(error, ProposeError::NoTenant { hubs: vec!["public.stars (1 tables lead to it)".to_owned()] });
    // The user may know better.
    assert!(existing.try_propose(named(Some("stars"), None)).is_ok());
    let empty = Existing::new("").await;
    assert_eq!(empty.try_propose(Options::default()).unwrap_err(), ProposeError::NoTables);
}

#[tokio::test]
async fn a_key_that_no_context_can_carry_is_refused() {
    let existing = Existing::new(
        "CREATE TABLE tenants (id numeric PRIMARY KEY);
         CREATE TABLE things (id bigint PRIMARY KEY, tenant_id numeric NOT NULL REFERENCES tenants)",
    )
    .await;
    let error = existing.try_propose(Options::default()).unwrap_err();
    assert_eq!(error, ProposeError::KeyType { column: "public.tenants.id".to_owned(), found: "numeric".to_owned() });
}

#[tokio::test]
async fn policies_outweigh_names() {
    let existing = Existing::new(
        "CREATE TABLE accounts (id bigint PRIMARY KEY);
         CREATE TABLE realms (id bigint PRIMARY KEY, account_id bigint REFERENCES accounts);
         CREATE TABLE a (id bigint PRIMARY KEY, realm bigint NOT NULL REFERENCES realms, account_id bigint REFERENCES accounts);
         CREATE TABLE b (id bigint PRIMARY KEY, realm bigint NOT NULL REFERENCES realms, account_id bigint REFERENCES accounts);
         CREATE POLICY p ON a USING (realm = current_setting('app.realm')::bigint);
         CREATE POLICY p ON b USING (realm = current_setting('app.realm')::bigint)",
    )
    .await;
    let proposal = existing.propose();
    assert_eq!((proposal.tenant.table.as_deref(), proposal.tenant.column.as_str()), (Some("public.realms"), "realm"));
}

#[tokio::test]
async fn the_same_facts_make_the_same_proposal() {
    let existing = Existing::new(schemas::HELPDESK).await;
    let (one, other) = (existing.propose(), existing.propose());
    assert_eq!(one.migration(&existing.facts), other.migration(&existing.facts));
    assert_eq!(one.tables, other.tables);
    assert!(evidence(&one, "accounts").contains("other tables lead to it"));
}
