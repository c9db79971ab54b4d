-- The audit log. The triggers keep honest code from changing it; against a superuser, who can drop triggers, the hash
-- chain in audit_seal shows what was changed.

CREATE TABLE audit_entry (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor text NOT NULL,
    action text NOT NULL,
    tenant uuid,
    outcome text NOT NULL CONSTRAINT audit_outcome CHECK (outcome IN ('allowed', 'refused', 'done', 'undone', 'failed')),
    -- json, not jsonb: the text itself is hashed.
    detail json NOT NULL,
    -- The seal that covers this entry. No foreign key: verification finds dangling ones, and a row's check is saved.
    seal bigint
);
CREATE INDEX audit_entry_unsealed ON audit_entry (seq) WHERE seal IS NULL;
CREATE INDEX audit_entry_by_tenant ON audit_entry (tenant, seq) WHERE tenant IS NOT NULL;

CREATE TABLE audit_seal (
    -- Counted without gaps by the sealer, so that a missing one shows.
    id bigint PRIMARY KEY,
    previous bytea NOT NULL CHECK (length(previous) = 32),
    hash bytea NOT NULL CHECK (length(hash) = 32),
    entries bigint NOT NULL CHECK (entries > 0),
    first_seq bigint NOT NULL,
    last_seq bigint NOT NULL,
    sealed_at timestamptz NOT NULL
);

CREATE FUNCTION audit_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit log is append-only: % on % refused', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'insufficient_privilege';
END $$;

-- The sealer is whoever holds the sealer's advisory lock (Store::seal).
CREATE FUNCTION audit_sealer_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (
        SELECT FROM pg_catalog.pg_locks
        WHERE locktype = 'advisory' AND classid = 26485 AND objid = 1 AND objsubid = 2
          AND pid = pg_catalog.pg_backend_pid() AND granted
    ) THEN
        RAISE EXCEPTION 'the audit log is append-only: only the sealer may seal entries'
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER audit_entry_unsealed_at_birth BEFORE INSERT ON audit_entry
    FOR EACH ROW WHEN (NEW.seal IS NOT NULL) EXECUTE FUNCTION audit_refuse();
CREATE TRIGGER audit_entry_sealer BEFORE UPDATE ON audit_entry
    FOR EACH STATEMENT EXECUTE FUNCTION audit_sealer_only();
CREATE TRIGGER audit_entry_seal_once BEFORE UPDATE ON audit_entry
    FOR EACH ROW WHEN (
        OLD.seal IS NOT NULL OR NEW.seal IS NULL
        OR (OLD.seq, OLD.at, OLD.actor, OLD.action, OLD.tenant, OLD.outcome, OLD.detail::text)
           IS DISTINCT FROM (NEW.seq, NEW.at, NEW.actor, NEW.action, NEW.tenant, NEW.outcome, NEW.detail::text)
    ) EXECUTE FUNCTION audit_refuse();
CREATE TRIGGER audit_entry_keep BEFORE DELETE OR TRUNCATE ON audit_entry
    FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse();
CREATE TRIGGER audit_seal_keep BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_seal
    FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse();
