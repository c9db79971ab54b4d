-- The feed of changes that gateways follow. Each thing carries the number of the transaction that changed it last, written
-- by triggers, so that no code can forget it. A position in the feed is a database snapshot: what is visible now and was
-- not visible in it has changed since. A transaction that commits late is therefore never missed, and nothing comes twice.

ALTER TABLE tenant ADD COLUMN changed_xid xid8 NOT NULL DEFAULT '0';
ALTER TABLE tenant ALTER COLUMN changed_xid SET DEFAULT pg_current_xact_id();
CREATE INDEX tenant_by_change ON tenant (changed_xid);
CREATE INDEX tombstone_by_age ON tenant (changed_at) WHERE state = 'deleted';

-- A commit with a notification waits for the one before it to reach the disk, which would make creations ten times slower
-- under load. Their end is announced after the commit instead (Store::finish); all other changes announce themselves.
CREATE FUNCTION tenant_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.changed_xid := pg_catalog.pg_current_xact_id();
    IF NOT (OLD.state = 'creating' AND NEW.state = 'active') THEN
        PERFORM pg_catalog.pg_notify('guardian_change', '');
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER tenant_changed BEFORE UPDATE ON tenant FOR EACH ROW EXECUTE FUNCTION tenant_changed();

-- Things that can go without leaving a row of their own.
CREATE TABLE change (
    kind text NOT NULL CONSTRAINT change_kind CHECK (kind IN ('tier', 'login')),
    id text NOT NULL,
    xid xid8 NOT NULL,
    PRIMARY KEY (kind, id)
);
CREATE INDEX change_by_xid ON change (xid);

CREATE FUNCTION note_change() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    changed record := coalesce(NEW, OLD);
BEGIN
    INSERT INTO change (kind, id, xid) VALUES (TG_ARGV[0], changed.name, pg_current_xact_id())
        ON CONFLICT (kind, id) DO UPDATE SET xid = excluded.xid;
    PERFORM pg_notify('guardian_change', '');
    RETURN NULL;
END $$;
CREATE TRIGGER tier_changed AFTER INSERT OR UPDATE OR DELETE ON tier
    FOR EACH ROW EXECUTE FUNCTION note_change('tier');
CREATE TRIGGER login_changed AFTER INSERT OR UPDATE OR DELETE ON login
    FOR EACH ROW EXECUTE FUNCTION note_change('login');

-- The positions given out, by the number that gateways know them by.
CREATE TABLE feed_position (
    cursor bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    snapshot pg_snapshot NOT NULL,
    at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX feed_position_age ON feed_position (at);
-- Begins anywhere, so that a position in another database is none in this one.
SELECT setval(pg_get_serial_sequence('feed_position', 'cursor'), (random() * 1e12)::bigint + 1);

-- What guardian.toml said when the last control plane started, as a hash: when it changes, no position is good any more.
CREATE TABLE feed_installation (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    hash bytea NOT NULL
);
