-- What the statements of bench-postgres run on: an indexed table for access by key, one whose rows mostly belong to one
-- tenant for scans, and three tables for a join.

CREATE TYPE mood AS ENUM ('low', 'even', 'high');

CREATE TABLE account (
    tenant_id uuid NOT NULL,
    id bigint NOT NULL,
    name text NOT NULL,
    PRIMARY KEY (tenant_id, id)
);

CREATE TABLE item (
    tenant_id uuid NOT NULL,
    id bigint NOT NULL,
    account_id bigint NOT NULL,
    created_at timestamptz NOT NULL,
    title text NOT NULL,
    amount numeric(12, 2) NOT NULL,
    mood mood NOT NULL,
    attributes jsonb NOT NULL,
    words tsvector NOT NULL,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, account_id) REFERENCES account (tenant_id, id)
);
CREATE INDEX item_created ON item (tenant_id, created_at DESC);
CREATE INDEX item_amount ON item (amount);
CREATE INDEX item_mood ON item (tenant_id, mood);
CREATE INDEX item_title ON item (title text_pattern_ops);
CREATE INDEX item_attributes ON item USING gin (attributes);
CREATE INDEX item_words ON item USING gin (words);

CREATE TABLE remark (
    tenant_id uuid NOT NULL,
    id bigint NOT NULL,
    item_id bigint NOT NULL,
    body text NOT NULL,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, item_id) REFERENCES item (tenant_id, id)
);
CREATE INDEX remark_item ON remark (tenant_id, item_id);

CREATE TABLE reading (
    tenant_id uuid NOT NULL,
    at timestamptz NOT NULL,
    value double precision NOT NULL
);

INSERT INTO account
SELECT md5('tenant ' || t)::uuid, a, 'account ' || a FROM generate_series(1, 1000) t, generate_series(1, 20) a;

INSERT INTO item
SELECT md5('tenant ' || t)::uuid, i, 1 + i % 20, timestamptz '2026-01-01' + i * interval '1 minute', 'item ' || md5(t || '/' || i),
       (i * 7 % 1000) / 10.0, (ARRAY['low', 'even', 'high'])[1 + i % 3]::mood,
       jsonb_build_object('colour', (ARRAY['red', 'green', 'blue', 'grey'])[1 + i % 4], 'size', i % 50),
       to_tsvector('simple', 'word' || i % 100 || ' term' || t % 50)
FROM generate_series(1, 1000) t, generate_series(1, 200) i;

INSERT INTO remark
SELECT md5('tenant ' || t)::uuid, r, 1 + r % 200, repeat('remark ', 10) FROM generate_series(1, 1000) t, generate_series(1, 200) r;

INSERT INTO reading
SELECT md5('tenant ' || CASE WHEN r % 10 < 9 THEN 1 ELSE 2 + r % 50 END)::uuid, timestamptz '2026-01-01' + r * interval '1 second', r % 1000
FROM generate_series(1, 50000) r;
