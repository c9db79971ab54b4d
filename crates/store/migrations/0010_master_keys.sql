-- Which master key seals, by its id (a hash that tells nothing of the key), and under which other one there may still be
-- values, while the key is being changed.
CREATE TABLE vault_key (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    id text NOT NULL,
    previous text CHECK (previous <> id),
    rotated_at timestamptz
);

-- The control planes that run, and the keys they have: nothing may be sealed under a key that one of them cannot open.
CREATE TABLE node (
    worker text PRIMARY KEY,
    keys text[] NOT NULL,
    sealing text NOT NULL,
    seen_at timestamptz NOT NULL DEFAULT now()
);

-- A secret that is only sealed anew has not changed for anybody: gateways need not hear of it.
DROP TRIGGER tenant_changed ON tenant;
CREATE TRIGGER tenant_changed BEFORE UPDATE ON tenant FOR EACH ROW
    WHEN (pg_catalog.current_setting('guardian.resealing', true) IS DISTINCT FROM 'on') EXECUTE FUNCTION tenant_changed();
DROP TRIGGER login_changed ON login;
CREATE TRIGGER login_changed AFTER INSERT OR UPDATE OR DELETE ON login FOR EACH ROW
    WHEN (pg_catalog.current_setting('guardian.resealing', true) IS DISTINCT FROM 'on') EXECUTE FUNCTION note_change('login');
