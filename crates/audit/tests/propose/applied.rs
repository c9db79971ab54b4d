//! The migration on real PostgreSQL: every row gets its tenant, and hardening goes through.

use crate::{
    adopt::{Existing, execute, number},
    schemas,
};

/// Adopts, and compares each row's tenant with the one that its text names. `root` is the tenants' table with the columns
/// of their key and name; `tables` those to look at, each with the expression of its text.
async fn adopt(sql: &str, root: (&str, &str, &str), column: &str, tables: &[(&str, &str)]) {
    let existing = Existing::new(sql).await;
    let proposal = existing.propose();
    let mut connection = existing.adopt(&proposal).await;
    let (root, key, name) = root;
    for (table, text) in tables {
        let all = number(&mut connection, &format!("SELECT count(*) FROM {table}")).await;
        let right = format!(
            "SELECT count(*) FROM {table} AS t JOIN {root} AS tenant_of ON tenant_of.{key} = t.{column} \
             WHERE tenant_of.{name} = {text}"
        );
        assert_eq!(number(&mut connection, &right).await, all, "{table}");
        assert!(all > 0, "{table} has no rows");
    }
}

#[tokio::test]
async fn bigint_keys() {
    let tables = [
        ("public.accounts", "t.name"),
        ("public.users", "left(t.email, 1)"),
        ("public.tickets", "t.subject"),
        ("public.messages", "t.body"),
        ("public.attachments", "t.path"),
        ("public.tags", "t.label"),
        ("public.ticket_tags", "(SELECT label FROM public.tags WHERE id = t.tag_id)"),
        ("public.audit_log", "t.what"),
    ];
    adopt(schemas::HELPDESK, ("public.accounts", "id", "name"), "account_id", &tables).await;
}

#[tokio::test]
async fn uuid_keys_down_a_chain_and_by_either_of_two_parents() {
    let tables = [
        ("public.project", "t.title"),
        ("public.board", "t.title"),
        ("public.card", "t.title"),
        ("public.comment", "t.title"),
    ];
    adopt(schemas::CHAIN, ("public.organization", "id", "slug"), "organization_id", &tables).await;
}

#[tokio::test]
async fn text_keys() {
    let tables = [("public.invoices", "t.who"), ("public.invoice_lines", "t.who")];
    adopt(schemas::TEXT, ("public.tenants", "tenant", "tenant"), "tenant", &tables).await;
}

#[tokio::test]
async fn names_in_mixed_case_and_with_quotes() {
    let tables = [(r#"public."Order""#, "t.who"), (r#"public."Order Line's ""x""""#, "t.who")];
    adopt(schemas::MIXED_CASE, (r#"public."Company""#, r#""Id""#, r#""Name""#), r#""companyId""#, &tables).await;
}

#[tokio::test]
async fn composite_foreign_keys() {
    let tables =
        [("public.contracts", "t.who"), ("public.sites", "t.who"), ("public.meters", "t.who"), ("public.readings", "t.who")];
    adopt(schemas::COMPOSITE, ("public.customers", "id", "name"), "customer_id", &tables).await;
}

#[tokio::test]
async fn partitioned_and_inherited_tables() {
    let tables = [
        ("public.devices", "t.who"),
        ("public.events", "t.who"),
        ("public.events_2023", "t.who"),
        ("public.alarms", "t.who"),
        ("public.notes", "t.who"),
        ("public.old_notes", "t.who"),
    ];
    adopt(schemas::PARTITIONED, ("public.tenants", "id", "name"), "tenant_id", &tables).await;
}

#[tokio::test]
async fn foreign_keys_by_name_only() {
    let tables = [("public.projects", "t.who"), ("public.tasks", "t.who")];
    adopt(schemas::NAMES_ONLY, ("public.workspaces", "id", "name"), "workspace_id", &tables).await;
}

#[tokio::test]
async fn one_of_several_schemas_is_hardened_and_all_get_the_column() {
    let tables = [("core.users", "t.who"), ("core.sessions", "t.who"), ("billing.users", "t.who")];
    adopt(schemas::SCHEMAS, ("core.accounts", "id", "name"), "account_id", &tables).await;
}

#[tokio::test]
async fn many_rows_are_filled_in_several_transactions() {
    // 400 bytes a row: 8,000 rows take more pages than one transaction fills.
    let existing = Existing::new(
        "CREATE TABLE tenants (id bigint PRIMARY KEY);
         CREATE TABLE parents (id bigint PRIMARY KEY, tenant_id bigint NOT NULL REFERENCES tenants);
         CREATE TABLE children (parent_id bigint NOT NULL REFERENCES parents, padding text NOT NULL);
         INSERT INTO tenants SELECT generate_series(1, 10);
         INSERT INTO parents SELECT n, 1 + n % 10 FROM generate_series(1, 1000) AS n;
         INSERT INTO children SELECT 1 + n % 1000, repeat('x', 400) FROM generate_series(1, 8000) AS n",
    )
    .await;
    let mut connection = existing.database.connect().await;
    let transactions = "SELECT count(DISTINCT xmin::text) FROM public.children";
    assert_eq!(number(&mut connection, transactions).await, 1);
    let proposal = existing.propose();
    existing.migrate(&proposal).await.unwrap();
    assert!(number(&mut connection, transactions).await > 1);
    let wrong = "SELECT count(*) FROM public.children AS c JOIN public.parents AS p ON p.id = c.parent_id \
                 WHERE c.tenant_id IS DISTINCT FROM p.tenant_id";
    assert_eq!(number(&mut connection, wrong).await, 0);
}

#[tokio::test]
async fn rows_without_a_parent_stop_the_migration_and_it_goes_on_after() {
    let existing = Existing::new(
        "CREATE TABLE tenants (id bigint PRIMARY KEY);
         CREATE TABLE orders (id bigint PRIMARY KEY, tenant_id bigint NOT NULL REFERENCES tenants);
         CREATE TABLE notes (id bigint PRIMARY KEY, order_id bigint REFERENCES orders);
         INSERT INTO tenants VALUES (1), (2);
         INSERT INTO orders VALUES (1, 1), (2, 2);
         INSERT INTO notes VALUES (1, 1), (2, 2), (3, NULL)",
    )
    .await;
    let proposal = existing.propose();
    let refused = existing.migrate(&proposal).await.unwrap_err();
    assert!(refused.contains("1 rows of public.notes have no tenant"), "{refused}");
    let mut connection = existing.database.connect().await;
    execute(&mut connection, "UPDATE public.notes SET tenant_id = 2 WHERE tenant_id IS NULL").await;
    existing.adopt(&proposal).await;
}

#[tokio::test]
async fn rows_that_refer_to_another_tenant_stop_the_migration() {
    let existing = Existing::new(
        "CREATE TABLE tenants (id bigint PRIMARY KEY);
         CREATE TABLE users (id bigint PRIMARY KEY, tenant_id bigint NOT NULL REFERENCES tenants);
         CREATE TABLE orders (id bigint PRIMARY KEY, tenant_id bigint NOT NULL REFERENCES tenants);
         CREATE TABLE notes (id bigint PRIMARY KEY, order_id bigint NOT NULL REFERENCES orders,
           author_id bigint REFERENCES users);
         INSERT INTO tenants VALUES (1), (2);
         INSERT INTO users VALUES (1, 1), (2, 2);
         INSERT INTO orders VALUES (1, 1), (2, 2);
         INSERT INTO notes VALUES (1, 1, 1), (2, 2, 1)",
    )
    .await;
    let proposal = existing.propose();
    let refused = existing.migrate(&proposal).await.unwrap_err();
    assert!(refused.contains("1 rows of public.notes refer to another tenant's row of public.users"), "{refused}");
}

#[tokio::test]
async fn the_database_is_as_it_was_after_a_proposal() {
    let existing = Existing::new(schemas::HELPDESK).await;
    let proposal = existing.propose();
    let _ = proposal.migration(&existing.facts);
    let mut connection = existing.database.connect().await;
    let again = guardian_audit::collect(&mut connection).await.unwrap();
    assert_eq!(again.relations, existing.facts.relations);
    assert_eq!(again.columns, existing.facts.columns);
    assert_eq!(again.constraints, existing.facts.constraints);
}
