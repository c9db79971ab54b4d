-- The password of the application's own login role, which its row tenants share.
CREATE TABLE application (
    name text PRIMARY KEY,
    sealed_password bytea NOT NULL
);
