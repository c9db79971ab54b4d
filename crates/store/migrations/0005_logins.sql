-- Logins of the SQL gateway, and what a tenant has otherwise than its tier.

CREATE TABLE login (
    name text PRIMARY KEY CHECK (name <> '' AND name !~ '[.[:cntrl:]]'),
    scope text NOT NULL CONSTRAINT login_scope CHECK (scope IN ('tenant', 'any_tenant', 'admin')),
    tenant uuid REFERENCES tenant,
    switch text CONSTRAINT login_switch CHECK (switch IN ('never', 'identity', 'tenant')),
    proof text NOT NULL CONSTRAINT login_proof CHECK (proof IN ('password', 'certificate')),
    -- A SCRAM verifier. It cannot be turned back into the password, but guessed at offline.
    sealed_verifier bytea,
    created_at timestamptz NOT NULL DEFAULT now(),
    rotated_at timestamptz,
    CHECK ((scope = 'tenant') = (tenant IS NOT NULL)),
    CHECK ((scope = 'any_tenant') = (switch IS NOT NULL)),
    CHECK ((proof = 'password') = (sealed_verifier IS NOT NULL)),
    CHECK (proof = 'password' OR rotated_at IS NULL)
);
CREATE INDEX login_by_tenant ON login (tenant) WHERE tenant IS NOT NULL;

ALTER TABLE tenant ADD COLUMN limits jsonb NOT NULL DEFAULT '{}';
