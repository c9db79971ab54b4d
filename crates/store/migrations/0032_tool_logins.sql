-- Logins for a user's own migration tool: which roles have to be dropped, and when. No tenant: the shared place.

CREATE TABLE tool_login (
    id uuid PRIMARY KEY,
    tenant uuid REFERENCES tenant,
    cluster text NOT NULL,
    database text NOT NULL,
    schema text NOT NULL,
    opened_by text NOT NULL,
    opened_at timestamptz NOT NULL DEFAULT now(),
    -- From then on it is over, and nothing renews it any more.
    expires_at timestamptz NOT NULL,
    -- Not before then is its role tried to be dropped again.
    drop_at timestamptz NOT NULL DEFAULT now(),
    -- Two tools in one place would each do the other's work.
    CONSTRAINT tool_login_place UNIQUE (cluster, database, schema)
);
CREATE INDEX tool_login_by_tenant ON tool_login (tenant);
