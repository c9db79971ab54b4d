//! Keys and foreign keys in their less usual shapes become composite, and keep everything else about them.

use crate::application::{Application, execute, sqlstate, text};

/// The definitions of all keys and unique indexes, sorted, a line each.
async fn definitions(app: &mut Application) -> Vec<String> {
    let sql = "SELECT string_agg(d, E'\\n' ORDER BY d) FROM (
        SELECT conname || ': ' || pg_get_constraintdef(oid) || CASE WHEN convalidated THEN '' ELSE ' !' END AS d
        FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND contype IN ('p', 'u', 'f') AND conparentid = 0
        UNION ALL
        SELECT replace(pg_get_indexdef(indexrelid), 'public.', '') FROM pg_index JOIN pg_class AS c ON c.oid = indexrelid
        WHERE indisunique AND relnamespace = 'public'::regnamespace AND NOT relispartition
          AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid AND contype IN ('p', 'u'))) AS found";
    text(&mut app.admin, sql).await.unwrap().unwrap_or_default().lines().map(str::to_owned).collect()
}

async fn hardened(schema: &str, keys: &str) -> Vec<String> {
    let mut app = Application::new(schema, &format!("[application.keys]\n{keys}")).await;
    app.harden().await;
    definitions(&mut app).await
}

#[tokio::test]
async fn indexes_keep_their_shape() {
    let schema = "CREATE TABLE t (tenant_id uuid NOT NULL, a int, b text COLLATE \"C\", c int);
        CREATE UNIQUE INDEX t_shape ON t (a DESC NULLS LAST, lower(b) text_pattern_ops) INCLUDE (c) WITH (fillfactor = 70) WHERE c > 0;
        ALTER TABLE t ADD CONSTRAINT t_late UNIQUE (a) DEFERRABLE INITIALLY DEFERRED;
        ALTER TABLE t ADD CONSTRAINT t_with UNIQUE (b) INCLUDE (c)";
    assert_eq!(
        hardened(schema, "t_shape = \"composite\"\nt_late = \"composite\"\nt_with = \"composite\"").await,
        [
            "CREATE UNIQUE INDEX t_shape ON t USING btree (tenant_id, a DESC NULLS LAST, lower(b) text_pattern_ops) \
             INCLUDE (c) WITH (fillfactor='70') WHERE (c > 0)",
            "t_late: UNIQUE (tenant_id, a) DEFERRABLE INITIALLY DEFERRED",
            "t_with: UNIQUE (tenant_id, b) INCLUDE (c)",
        ]
    );
}

#[tokio::test]
async fn foreign_keys_keep_their_actions() {
    let schema = "CREATE TABLE p (tenant_id uuid NOT NULL, id int PRIMARY KEY, parent int REFERENCES p (id) DEFERRABLE);
        CREATE TABLE f (tenant_id uuid NOT NULL,
          a int REFERENCES p (id) ON DELETE SET NULL ON UPDATE CASCADE,
          b int DEFAULT 1 REFERENCES p (id) ON DELETE SET DEFAULT,
          c int REFERENCES p (id) ON DELETE RESTRICT ON UPDATE RESTRICT DEFERRABLE INITIALLY DEFERRED)";
    assert_eq!(
        hardened(schema, "p_pkey = \"composite\"").await,
        [
            "f_a_fkey: FOREIGN KEY (tenant_id, a) REFERENCES p(tenant_id, id) ON UPDATE CASCADE ON DELETE SET NULL (a)",
            "f_b_fkey: FOREIGN KEY (tenant_id, b) REFERENCES p(tenant_id, id) ON DELETE SET DEFAULT (b)",
            "f_c_fkey: FOREIGN KEY (tenant_id, c) REFERENCES p(tenant_id, id) ON UPDATE RESTRICT ON DELETE RESTRICT \
             DEFERRABLE INITIALLY DEFERRED",
            "p_parent_fkey: FOREIGN KEY (tenant_id, parent) REFERENCES p(tenant_id, id) DEFERRABLE",
            "p_pkey: PRIMARY KEY (tenant_id, id)",
        ]
    );
}

#[tokio::test]
async fn a_global_key_gets_a_second_one_for_foreign_keys() {
    let schema = "CREATE TABLE p (tenant_id uuid NOT NULL, id int PRIMARY KEY);
        CREATE TABLE f (tenant_id uuid NOT NULL, a int REFERENCES p (id), b int REFERENCES p (id))";
    assert_eq!(
        hardened(schema, "p_pkey = { global = \"random\" }").await,
        [
            "CREATE UNIQUE INDEX p_id_guardian_key ON p USING btree (tenant_id, id)",
            "f_a_fkey: FOREIGN KEY (tenant_id, a) REFERENCES p(tenant_id, id)",
            "f_b_fkey: FOREIGN KEY (tenant_id, b) REFERENCES p(tenant_id, id)",
            "p_pkey: PRIMARY KEY (id)",
        ]
    );
}

#[tokio::test]
async fn partitioned_tables_change_in_one_transaction() {
    let schema =
        "CREATE TABLE p (tenant_id uuid NOT NULL, id int, day date, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
        CREATE TABLE p_all PARTITION OF p DEFAULT;
        CREATE UNIQUE INDEX p_reverse ON p (day DESC, id);
        CREATE TABLE f (tenant_id uuid NOT NULL, id int, day date, FOREIGN KEY (id, day) REFERENCES p ON DELETE CASCADE)
          PARTITION BY RANGE (day);
        CREATE TABLE f_all PARTITION OF f DEFAULT";
    assert_eq!(
        hardened(schema, "p_pkey = \"composite\"\np_reverse = \"composite\"").await,
        [
            "CREATE UNIQUE INDEX p_reverse ON ONLY p USING btree (tenant_id, day DESC, id)",
            "f_id_day_fkey: FOREIGN KEY (tenant_id, id, day) REFERENCES p(tenant_id, id, day) ON DELETE CASCADE",
            "p_pkey: PRIMARY KEY (tenant_id, id, day)",
        ]
    );
}

#[tokio::test]
async fn rows_that_refer_to_another_tenant_stop_the_validation() {
    let schema = "CREATE TABLE p (tenant_id uuid NOT NULL, id int PRIMARY KEY);
        CREATE TABLE f (tenant_id uuid NOT NULL, p_id int REFERENCES p (id));
        INSERT INTO p VALUES (md5('a')::uuid, 1); INSERT INTO f VALUES (md5('b')::uuid, 1)";
    let mut app = Application::new(schema, "keys = { p_pkey = \"composite\" }").await;
    let hardening = app.plan().await;
    let error = guardian_postgres::apply(&mut app.admin, &hardening, &mut |_, _, _| {}).await.unwrap_err();
    assert!(error.to_string().contains("VALIDATE CONSTRAINT \"f_p_id_fkey_guardian\""), "{error}");
    // From the first step on no such row can be added; once the old ones are gone, the next run finishes.
    let planted = sqlstate(&mut app.admin, "INSERT INTO f VALUES (md5('b')::uuid, 1)").await;
    assert_eq!(planted, "23503");
    execute(&mut app.admin, "DELETE FROM f").await.unwrap();
    app.harden().await;
}

/// What a unique key means to a tenant afterwards: its own values, and nobody else's.
#[tokio::test]
async fn upserts_name_the_tenant() {
    let schema = "CREATE TABLE person (tenant_id uuid NOT NULL, mail text CONSTRAINT person_mail UNIQUE, n int DEFAULT 1)";
    let mut app = Application::new(schema, "keys = { person_mail = \"composite\" }").await;
    app.harden().await;
    app.admit().await;
    for tenant in [0, 1] {
        let mut session = app.enter(tenant).await;
        for _ in 0..2 {
            let upsert = "INSERT INTO person (mail) VALUES ('ann@example.com') \
                ON CONFLICT (tenant_id, mail) DO UPDATE SET n = person.n + 1";
            execute(&mut session, upsert).await.unwrap();
        }
        assert_eq!(text(&mut session, "SELECT n::text FROM person").await.unwrap().as_deref(), Some("2"));
    }
}
