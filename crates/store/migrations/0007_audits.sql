-- Audits of the application's shared place: when one ran, what it counted, and each finding with the first and the last
-- time that it was seen.

CREATE TABLE audit_run (
    id uuid PRIMARY KEY,
    place text NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    error text,
    -- By severity, as far as the audit came to its end.
    counts jsonb CHECK (jsonb_typeof(counts) = 'object'),
    could_not_run integer,
    CONSTRAINT audit_run_end CHECK ((finished_at IS NULL) <= (error IS NULL AND counts IS NULL AND could_not_run IS NULL))
);
CREATE INDEX audit_run_by_place ON audit_run (place, started_at);

CREATE TABLE audit_finding (
    place text NOT NULL,
    fingerprint text NOT NULL,
    rule text NOT NULL,
    severity text NOT NULL
        CONSTRAINT audit_finding_severity CHECK (severity IN ('note', 'low', 'medium', 'high', 'critical')),
    object text NOT NULL,
    title text NOT NULL,
    evidence text NOT NULL,
    first_seen timestamptz NOT NULL DEFAULT now(),
    last_seen timestamptz NOT NULL DEFAULT now(),
    gone_at timestamptz,
    PRIMARY KEY (place, fingerprint)
);

-- The place whose audit opened an incident.
ALTER TABLE incident ADD COLUMN audited text;
CREATE INDEX incident_of_audit ON incident (audited) WHERE closed_at IS NULL AND audited IS NOT NULL;
