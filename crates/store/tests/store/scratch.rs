
use crate::fixture::*;
use guardian_model::*;
use guardian_store::*;
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scratch() {
    let fixture = Fixture::new("scratch").await;
    let (vault, _) = Vault::generate().unwrap();
    let o = sqlx::postgres::PgConnectOptions::new().socket("/tmp/stbench").port(54999).username("postgres").database("postgres");
    let fixture = Fixture { store: Store::open(o, vault).await.unwrap(), ..fixture };
    let _ = fixture.store.put_tier(&permit(Permission::TierWrite), &tier("free"), put(Isolation::Row)).await;
    println!("PSQL {}", fixture.database.url());
    for round in 0..3 {
    let t = std::time::Instant::now();
    let tasks: Vec<_> = (0..8).map(|w| { let store = fixture.store.clone(); tokio::spawn(async move {
        let p = permit(Permission::TenantWrite);
        for n in 0..1000 {
            let secrets = Secrets { capability: Some(Capability::from_bytes([7; 32])), password: None };
            let Begun::New(c) = store.begin_create(&p, new_tenant(&format!("t-{round}-{w}-{n}"), "free"), secrets, plan(1), None, &lease("w")).await.unwrap() else { panic!() };
            store.finish(&c, Some(1)).await.unwrap();
        }
    })}).collect();
    for t in tasks { t.await.unwrap(); }
    println!("{} creations/s", 8000.0 / t.elapsed().as_secs_f64());
    }
}
