//! Which tables are taken for the tenants'.

use guardian_audit::{Tenancy, facts::Facts};

use crate::bench::Bench;

const SCHEMA: &str = "CREATE TABLE shop.tenants (id uuid PRIMARY KEY); \
    ALTER TABLE shop.orders ADD FOREIGN KEY (tenant_id) REFERENCES shop.tenants; \
    CREATE TABLE shop.\"Seats\" (owner uuid NOT NULL REFERENCES shop.tenants, id int PRIMARY KEY); \
    CREATE TABLE shop.seat_notes (id int PRIMARY KEY, seat int NOT NULL REFERENCES shop.\"Seats\"); \
    CREATE TABLE shop.loose_notes (id int PRIMARY KEY, seat int REFERENCES shop.\"Seats\"); \
    CREATE TABLE shop.parcels (account uuid NOT NULL, id int)";

fn column<'t>(facts: &Facts, tenancy: &'t Tenancy, table: &str) -> Option<&'t str> {
    tenancy.column(facts.relation_named("shop", table).unwrap().oid).map(|column| column.name.as_str())
}

#[tokio::test]
async fn foreign_keys_lead_from_one_tenant_column_to_the_others() {
    let bench = Bench::new().await;
    bench.execute(SCHEMA).await;
    let facts = bench.facts().await;
    let tenancy = Tenancy::of(&facts, &[]);
    let of = |table| column(&facts, &tenancy, table);
    assert_eq!(of("orders"), Some("tenant_id"));
    assert_eq!(of("Seats"), Some("owner"), "it refers to what orders.tenant_id refers to");
    assert_eq!(of("tenants"), None);
    assert_eq!(of("parcels"), None, "nothing leads there");
    let oid = |table: &str| facts.relation_named("shop", table).unwrap().oid;
    assert_eq!(tenancy.parent(oid("seat_notes")).map(|parent| parent.table), Some(oid("Seats")));
    assert!(tenancy.is_tenants(oid("seat_notes")) && !tenancy.is_tenants(oid("countries")));
    assert!(!tenancy.is_tenants(oid("loose_notes")), "a reference that may be null says nothing about the rest");
}

#[tokio::test]
async fn a_declared_column_may_differ_by_table() {
    let bench = Bench::new().await;
    bench.execute(SCHEMA).await;
    let facts = bench.facts().await;
    let tenancy = Tenancy::of(&facts, &["shop.parcels.account".to_owned()]);
    assert_eq!(column(&facts, &tenancy, "parcels"), Some("account"));
    assert_eq!(column(&facts, &tenancy, "orders"), Some("tenant_id"), "the others are inferred");
    let tenancy = Tenancy::of(&facts, &["owner".to_owned(), "parcels.account".to_owned()]);
    assert_eq!(column(&facts, &tenancy, "parcels"), Some("account"));
    assert_eq!(column(&facts, &tenancy, "Seats"), Some("owner"));
}
