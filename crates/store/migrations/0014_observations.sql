-- What gateways saw of an application that is being adopted: statements that would fare otherwise once everything is enforced.
-- Texts are without literals. Both tables are bounded by what writes them.

CREATE TABLE observation (
    number bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    fingerprint text PRIMARY KEY CONSTRAINT observation_fingerprint CHECK (fingerprint ~ '^[0-9a-f]{16}$'),
    statement text NOT NULL CONSTRAINT observation_statement CHECK (length(statement) <= 1100),
    verdict text NOT NULL CONSTRAINT observation_verdict
        CHECK (verdict IN ('not_looked_at', 'different', 'fewer', 'empty', 'refused', 'no_tenant')),
    sqlstate text,
    reason text NOT NULL,
    tables text[] NOT NULL,
    rows_enforced bigint,
    rows_now bigint,
    count bigint NOT NULL,
    tenants bigint NOT NULL,
    first_seen timestamptz NOT NULL,
    last_seen timestamptz NOT NULL,
    CONSTRAINT observation_rows CHECK ((rows_enforced IS NULL) = (rows_now IS NULL))
);

CREATE TABLE observed_session (
    role text NOT NULL,
    application_name text NOT NULL,
    client_address text NOT NULL,
    sessions bigint NOT NULL,
    last_seen timestamptz NOT NULL,
    PRIMARY KEY (role, application_name, client_address)
);

-- One row. The generation goes up when the observations are cleared.
CREATE TABLE observation_total (
    is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    generation bigint NOT NULL DEFAULT 1,
    statements bigint NOT NULL DEFAULT 0,
    looked_at bigint NOT NULL DEFAULT 0,
    overlooked bigint NOT NULL DEFAULT 0
);
INSERT INTO observation_total DEFAULT VALUES;
