-- Sessions that reach the rows of every tenant: who opened each, what for, and until when.

CREATE TABLE door (
    id uuid PRIMARY KEY,
    cluster text NOT NULL,
    opened_by text NOT NULL,
    reason text NOT NULL CHECK (reason <> ''),
    write boolean NOT NULL,
    opened_at timestamptz NOT NULL DEFAULT now(),
    -- Until then its session has to begin.
    expires_at timestamptz NOT NULL,
    ends_at timestamptz NOT NULL,
    closed_at timestamptz
);
CREATE INDEX door_open ON door (opened_at) WHERE closed_at IS NULL;
