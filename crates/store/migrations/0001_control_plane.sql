-- Guardian's own tables. They live in the schema that the connection's search_path names first.

CREATE TABLE vault_canary (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    sealed bytea NOT NULL
);

CREATE TABLE tier (
    name text PRIMARY KEY,
    isolation text NOT NULL CONSTRAINT tier_isolation CHECK (isolation IN ('row', 'schema', 'database', 'cluster')),
    weight integer NOT NULL CHECK (weight BETWEEN 1 AND 1000),
    limits jsonb NOT NULL,
    features jsonb NOT NULL,
    declared boolean NOT NULL,
    UNIQUE (name, isolation)
);

CREATE SEQUENCE tenant_key;

CREATE TABLE tenant (
    id uuid PRIMARY KEY,
    slug text NOT NULL CHECK (slug ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'),
    key text NOT NULL CHECK (key <> ''),
    tier text NOT NULL,
    state text NOT NULL CONSTRAINT tenant_state CHECK (state IN ('creating', 'active', 'suspended', 'deleting', 'deleted')),
    isolation text NOT NULL CONSTRAINT tenant_isolation CHECK (isolation IN ('row', 'schema', 'database', 'cluster')),
    cluster text NOT NULL,
    database text NOT NULL,
    schema text NOT NULL,
    role text NOT NULL,
    sealed_capability bytea,
    sealed_password bytea,
    created_at timestamptz NOT NULL DEFAULT now(),
    changed_at timestamptz NOT NULL DEFAULT now(),
    -- A deleted tenant keeps its tier's name but no longer holds the tier in place.
    live_tier text GENERATED ALWAYS AS (CASE WHEN state = 'deleted' THEN NULL ELSE tier END) STORED,
    -- The isolation is part of the key: neither side can change it alone.
    CONSTRAINT tenant_tier FOREIGN KEY (live_tier, isolation) REFERENCES tier (name, isolation),
    CONSTRAINT tenant_tombstone CHECK (state <> 'deleted' OR (sealed_capability IS NULL AND sealed_password IS NULL))
);
CREATE UNIQUE INDEX tenant_slug_live ON tenant (slug text_pattern_ops) WHERE state <> 'deleted';
CREATE UNIQUE INDEX tenant_key_live ON tenant (key) WHERE state <> 'deleted';
CREATE INDEX tenant_live ON tenant (id) WHERE state <> 'deleted';
CREATE INDEX tenant_by_state ON tenant (state, id);
CREATE INDEX tenant_by_tier ON tenant (tier, id) WHERE state <> 'deleted';
-- The other models have thousands of tenants at most; leaving `row` out makes its creations cheaper.
CREATE INDEX tenant_by_isolation ON tenant (isolation, id) WHERE state <> 'deleted' AND isolation <> 'row';
-- Tombstones are listed on request only, and must not make the lists of the living longer to read.
CREATE INDEX tombstone_by_slug ON tenant (slug text_pattern_ops, id) WHERE state = 'deleted';
CREATE INDEX tombstone_by_tier ON tenant (tier, id) WHERE state = 'deleted';
CREATE INDEX tombstone_by_isolation ON tenant (isolation, id) WHERE state = 'deleted';

CREATE TABLE operation (
    id uuid PRIMARY KEY,
    kind text NOT NULL CONSTRAINT operation_kind CHECK (kind IN ('create', 'suspend', 'resume', 'delete')),
    tenant uuid NOT NULL REFERENCES tenant,
    state text NOT NULL CONSTRAINT operation_state CHECK (state IN ('running', 'undoing', 'done', 'undone', 'stuck')),
    -- Which way it goes; `stuck` keeps it for the retry.
    undoing boolean NOT NULL DEFAULT false,
    tenant_state_before text NOT NULL CONSTRAINT operation_state_before
        CHECK (tenant_state_before IN ('creating', 'active', 'suspended', 'deleting', 'deleted')),
    plan json NOT NULL,
    steps_done integer NOT NULL DEFAULT 0 CHECK (steps_done BETWEEN 0 AND cardinality(durations)),
    -- Microseconds of each step's last application; NULL while it has not been applied.
    durations bigint[] NOT NULL,
    attempts integer NOT NULL DEFAULT 1,
    error text,
    requested_by text NOT NULL,
    fence bigint NOT NULL DEFAULT 1,
    lease_owner text,
    -- When a worker may claim it: while one holds the lease, the lease's end.
    next_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    CHECK (CASE state WHEN 'running' THEN NOT undoing WHEN 'done' THEN NOT undoing
                      WHEN 'undoing' THEN undoing WHEN 'undone' THEN undoing ELSE true END),
    CHECK ((finished_at IS NOT NULL) = (state IN ('done', 'undone')))
);
CREATE UNIQUE INDEX operation_live ON operation (tenant) WHERE state IN ('running', 'undoing', 'stuck');
CREATE INDEX operation_due ON operation (next_at) WHERE state IN ('running', 'undoing');
CREATE INDEX operation_by_tenant ON operation (tenant, id);
-- Done creations are the bulk, and live operations few: neither needs to pay for these.
CREATE INDEX operation_by_state ON operation (state, id) WHERE state = 'undone';
CREATE INDEX operation_by_kind ON operation (kind, id) WHERE kind <> 'create';

CREATE TABLE incident (
    id uuid PRIMARY KEY,
    operation uuid REFERENCES operation,
    tenant uuid REFERENCES tenant,
    summary text NOT NULL,
    opened_at timestamptz NOT NULL DEFAULT now(),
    closed_at timestamptz
);
CREATE UNIQUE INDEX incident_open ON incident (operation) WHERE closed_at IS NULL;
CREATE INDEX incident_open_id ON incident (id) WHERE closed_at IS NULL;

CREATE TABLE idempotency (
    actor text NOT NULL,
    key text NOT NULL CHECK (length(key) BETWEEN 1 AND 255),
    request_hash bytea NOT NULL CHECK (length(request_hash) = 32),
    tenant uuid NOT NULL,
    operation uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT idempotency_key PRIMARY KEY (actor, key)
);
CREATE INDEX idempotency_age ON idempotency (created_at);

CREATE TABLE token (
    id uuid PRIMARY KEY,
    name text NOT NULL,
    role text NOT NULL
        CONSTRAINT token_role CHECK (role IN ('platform_admin', 'operator', 'auditor', 'tenant_admin', 'gateway')),
    tenant uuid REFERENCES tenant,
    -- sha256 of the secret, which has 256 random bits: nothing slower is needed.
    hash bytea NOT NULL UNIQUE CHECK (length(hash) = 32),
    created_at timestamptz NOT NULL DEFAULT now(),
    revoked_at timestamptz,
    CONSTRAINT token_tenant CHECK ((role = 'tenant_admin') = (tenant IS NOT NULL))
);
CREATE INDEX token_by_tenant ON token (tenant) WHERE tenant IS NOT NULL;

CREATE TABLE ticket (
    id uuid PRIMARY KEY,
    tenant uuid NOT NULL REFERENCES tenant,
    cluster text NOT NULL,
    role text NOT NULL,
    expires_at timestamptz NOT NULL
);
CREATE INDEX ticket_expiry ON ticket (expires_at);
CREATE INDEX ticket_by_tenant ON ticket (tenant);

CREATE TABLE run (
    id uuid PRIMARY KEY,
    kind text NOT NULL CONSTRAINT run_kind CHECK (kind IN ('apply', 'migrate')),
    state text NOT NULL DEFAULT 'running' CONSTRAINT run_state CHECK (state IN ('running', 'done', 'failed', 'interrupted')),
    error text,
    requested_by text NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    CHECK ((finished_at IS NULL) = (state = 'running'))
);
-- Two passes of the same kind would wait for each other's locks.
CREATE UNIQUE INDEX run_live ON run (kind) WHERE state = 'running';

CREATE TABLE run_item (
    run uuid NOT NULL REFERENCES run ON DELETE CASCADE,
    position integer NOT NULL,
    name text NOT NULL,
    state text NOT NULL DEFAULT 'waiting'
        CONSTRAINT run_item_state CHECK (state IN ('waiting', 'running', 'done', 'failed', 'interrupted')),
    detail text NOT NULL,
    duration_us bigint,
    PRIMARY KEY (run, position)
);
