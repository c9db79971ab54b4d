-- The secret that is to come, while it is being changed: gateways try it where the present one is refused.
ALTER TABLE tenant
    ADD COLUMN sealed_next_capability bytea,
    ADD COLUMN sealed_next_password bytea,
    -- When it was changed last; NULL: it is the one that the tenant was made with.
    ADD COLUMN secret_changed_at timestamptz,
    ADD CONSTRAINT tenant_tombstone_next
        CHECK (state <> 'deleted' OR (sealed_next_capability IS NULL AND sealed_next_password IS NULL));
CREATE INDEX tenant_next_secret ON tenant (id) WHERE sealed_next_capability IS NOT NULL OR sealed_next_password IS NOT NULL;

ALTER TABLE run DROP CONSTRAINT run_kind;
ALTER TABLE run ADD CONSTRAINT run_kind CHECK (kind IN ('apply', 'migrate', 'adopt', 'rotate_key', 'rotate_secrets'));
