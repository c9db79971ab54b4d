-- What the API gateway runs on beyond guardian.toml: API keys, who may do what in a tenant, tenants' own host names, the keys
-- that sign identities, and routes and roles that were declared over the API.

CREATE TABLE api_key (
    id uuid PRIMARY KEY,
    tenant uuid NOT NULL REFERENCES tenant,
    name text NOT NULL CHECK (name <> ''),
    -- SHA-256 of the secret, which is nowhere.
    hash bytea NOT NULL UNIQUE CHECK (length(hash) = 32),
    ends_with text NOT NULL,
    roles text[] NOT NULL,
    -- What the key may do of what its roles grant; NULL: all of it.
    permissions text[],
    requests_per_minute_max bigint CHECK (requests_per_minute_max BETWEEN 1 AND 4294967295),
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    rotated_at timestamptz,
    revoked_at timestamptz,
    -- The secret before the last rotation, while it is accepted, too.
    previous_hash bytea UNIQUE CHECK (length(previous_hash) = 32),
    previous_until timestamptz,
    CHECK ((previous_hash IS NULL) = (previous_until IS NULL))
);
CREATE INDEX api_key_by_tenant ON api_key (tenant, id);
CREATE INDEX api_key_in_force ON api_key (id) WHERE revoked_at IS NULL;

-- One document a tenant: it is small, read as a whole, and checked as a whole before it is written.
CREATE TABLE tenant_access (
    tenant uuid PRIMARY KEY REFERENCES tenant,
    access jsonb NOT NULL
);

CREATE TABLE tenant_domain (
    host text PRIMARY KEY CHECK (host = lower(host) AND host ~ '^[a-z0-9.-]+$'),
    tenant uuid NOT NULL REFERENCES tenant,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX tenant_domain_by_tenant ON tenant_domain (tenant);

CREATE TABLE identity_key (
    kid text PRIMARY KEY,
    -- The public key as in a JSON Web Key (`x`).
    public text NOT NULL,
    sealed_secret bytea NOT NULL,
    -- Published before it signs, and until what it signed is over.
    state text NOT NULL CONSTRAINT identity_key_state CHECK (state IN ('next', 'signing', 'retired')),
    since timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX identity_key_one ON identity_key (state) WHERE state IN ('next', 'signing');

CREATE TABLE http_override (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    version bigint NOT NULL,
    document jsonb NOT NULL
);

ALTER TABLE change DROP CONSTRAINT change_kind;
ALTER TABLE change ADD CONSTRAINT change_kind
    CHECK (kind IN ('tier', 'login', 'application', 'api_key', 'access', 'identity', 'http'));

CREATE FUNCTION note_change_for_http() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    changed record := coalesce(NEW, OLD);
    id text := '';
BEGIN
    IF TG_ARGV[0] = 'api_key' THEN
        id := changed.id::text;
    ELSIF TG_ARGV[0] = 'access' THEN
        id := changed.tenant::text;
    END IF;
    INSERT INTO change (kind, id, xid) VALUES (TG_ARGV[0], id, pg_current_xact_id())
        ON CONFLICT ON CONSTRAINT change_pkey DO UPDATE SET xid = excluded.xid;
    PERFORM pg_notify('guardian_change', '');
    RETURN NULL;
END $$;
CREATE TRIGGER api_key_changed AFTER INSERT OR UPDATE OR DELETE ON api_key
    FOR EACH ROW EXECUTE FUNCTION note_change_for_http('api_key');
CREATE TRIGGER tenant_access_changed AFTER INSERT OR UPDATE OR DELETE ON tenant_access
    FOR EACH ROW EXECUTE FUNCTION note_change_for_http('access');
-- Not when the secret is sealed anew: gateways see nothing of that.
CREATE TRIGGER identity_key_changed AFTER INSERT OR UPDATE OF state OR DELETE ON identity_key
    FOR EACH ROW EXECUTE FUNCTION note_change_for_http('identity');
CREATE TRIGGER http_override_changed AFTER INSERT OR UPDATE OR DELETE ON http_override
    FOR EACH ROW EXECUTE FUNCTION note_change_for_http('http');

-- A tenant's host names are read with it.
CREATE FUNCTION note_domain() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    changed record := coalesce(NEW, OLD);
BEGIN
    UPDATE tenant SET changed_xid = pg_current_xact_id() WHERE id = changed.tenant;
    RETURN NULL;
END $$;
CREATE TRIGGER tenant_domain_changed AFTER INSERT OR UPDATE OR DELETE ON tenant_domain
    FOR EACH ROW EXECUTE FUNCTION note_domain();

-- Whoever ends a tenant, ends its keys, and gives its host names back.
CREATE FUNCTION tenant_gone() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    UPDATE api_key SET revoked_at = now() WHERE tenant = NEW.id AND revoked_at IS NULL;
    DELETE FROM tenant_access WHERE tenant = NEW.id;
    DELETE FROM tenant_domain WHERE tenant = NEW.id;
    RETURN NULL;
END $$;
CREATE TRIGGER tenant_gone AFTER UPDATE OF state ON tenant
    FOR EACH ROW WHEN (NEW.state = 'deleted' AND OLD.state <> 'deleted') EXECUTE FUNCTION tenant_gone();
