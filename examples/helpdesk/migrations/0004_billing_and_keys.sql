-- Work that is billed by the ticket, and keys for customers who automate their help desk.

ALTER TABLE ticket ADD COLUMN billed_amount numeric(10, 2) NOT NULL DEFAULT 0 CHECK (billed_amount >= 0);
CREATE INDEX ticket_billed_amount_idx ON ticket (tenant_id, billed_amount) WHERE billed_amount > 0;

CREATE TABLE api_key (
    id         uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id  uuid NOT NULL,
    agent_id   uuid NOT NULL REFERENCES agent (id) ON DELETE CASCADE,
    label      text NOT NULL,
    key_hash   bytea NOT NULL CHECK (octet_length(key_hash) = 32),
    created_at timestamptz NOT NULL DEFAULT now(),
    revoked_at timestamptz,
    CONSTRAINT api_key_key_hash_key UNIQUE (key_hash)
);
CREATE INDEX api_key_agent_idx ON api_key (agent_id);
COMMENT ON CONSTRAINT api_key_key_hash_key ON api_key IS
    'Unique over all customers on purpose: a request is known by its key before it is known whose it is.';
