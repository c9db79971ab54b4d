-- Who works at the help desk (agents, in teams) and who writes to it (contacts, of organizations).

CREATE TABLE country (
    code text PRIMARY KEY CHECK (code ~ '^[A-Z]{2}$'),
    name text NOT NULL UNIQUE
);
COMMENT ON TABLE country IS 'ISO 3166-1. The same for every customer of ours, and read-only for all of them.';

INSERT INTO country (code, name) VALUES
    ('AR', 'Argentina'), ('AT', 'Austria'), ('AU', 'Australia'), ('BE', 'Belgium'), ('BG', 'Bulgaria'),
    ('BR', 'Brazil'), ('CA', 'Canada'), ('CH', 'Switzerland'), ('CL', 'Chile'), ('CN', 'China'),
    ('CO', 'Colombia'), ('CZ', 'Czechia'), ('DE', 'Germany'), ('DK', 'Denmark'), ('EE', 'Estonia'),
    ('EG', 'Egypt'), ('ES', 'Spain'), ('FI', 'Finland'), ('FR', 'France'), ('GB', 'United Kingdom'),
    ('GR', 'Greece'), ('HR', 'Croatia'), ('HU', 'Hungary'), ('ID', 'Indonesia'), ('IE', 'Ireland'),
    ('IL', 'Israel'), ('IN', 'India'), ('IS', 'Iceland'), ('IT', 'Italy'), ('JP', 'Japan'),
    ('KE', 'Kenya'), ('KR', 'South Korea'), ('LT', 'Lithuania'), ('LU', 'Luxembourg'), ('LV', 'Latvia'),
    ('MX', 'Mexico'), ('MY', 'Malaysia'), ('NG', 'Nigeria'), ('NL', 'Netherlands'), ('NO', 'Norway'),
    ('NZ', 'New Zealand'), ('PL', 'Poland'), ('PT', 'Portugal'), ('RO', 'Romania'), ('SE', 'Sweden'),
    ('SG', 'Singapore'), ('SI', 'Slovenia'), ('SK', 'Slovakia'), ('TR', 'Türkiye'), ('UA', 'Ukraine'),
    ('US', 'United States'), ('ZA', 'South Africa');

CREATE TABLE agent (
    id           uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id    uuid NOT NULL,
    email        text NOT NULL CHECK (email = lower(email)),
    display_name text NOT NULL,
    active       boolean NOT NULL DEFAULT true,
    created_at   timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT agent_email_key UNIQUE (email)
);
CREATE INDEX agent_tenant_idx ON agent (tenant_id);

CREATE TABLE team (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id uuid NOT NULL,
    name      text NOT NULL,
    CONSTRAINT team_name_key UNIQUE (tenant_id, name)
);

CREATE TABLE team_member (
    tenant_id uuid NOT NULL,
    team_id   bigint NOT NULL REFERENCES team (id) ON DELETE CASCADE,
    agent_id  uuid NOT NULL REFERENCES agent (id) ON DELETE CASCADE,
    PRIMARY KEY (team_id, agent_id)
);
CREATE INDEX team_member_agent_idx ON team_member (agent_id);

CREATE TABLE organization (
    id             uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id      uuid NOT NULL,
    name           text NOT NULL,
    domain         text,
    country_code   text REFERENCES country (code),
    attributes     jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(attributes) = 'object'),
    created_at     timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX organization_tenant_idx ON organization (tenant_id, name);
-- New contacts are filed under the organization whose mail domain they write from.
CREATE UNIQUE INDEX organization_domain_key ON organization (lower(domain)) WHERE domain IS NOT NULL;

CREATE TABLE contact (
    id              uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id       uuid NOT NULL,
    organization_id uuid REFERENCES organization (id) ON DELETE SET NULL,
    email           text NOT NULL CHECK (email = lower(email)),
    full_name       text NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT contact_email_key UNIQUE (tenant_id, email)
);
CREATE INDEX contact_organization_idx ON contact (organization_id);
