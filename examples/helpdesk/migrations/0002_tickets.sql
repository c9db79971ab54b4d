-- Tickets, their messages and their tags.

CREATE TYPE ticket_status AS ENUM ('new', 'open', 'pending', 'on_hold', 'solved', 'closed');

CREATE TABLE sla_policy (
    tenant_id              uuid NOT NULL,
    code                   text NOT NULL,
    first_response_minutes integer NOT NULL CHECK (first_response_minutes > 0),
    resolution_minutes     integer NOT NULL CHECK (resolution_minutes >= first_response_minutes),
    PRIMARY KEY (tenant_id, code)
);

CREATE TABLE mailbox (
    address   text PRIMARY KEY CHECK (address = lower(address)),
    tenant_id uuid NOT NULL,
    team_id   bigint REFERENCES team (id) ON DELETE SET NULL,
    preferred boolean NOT NULL DEFAULT false
);
CREATE UNIQUE INDEX mailbox_preferred_key ON mailbox (tenant_id) WHERE preferred;
COMMENT ON CONSTRAINT mailbox_pkey ON mailbox IS
    'Unique over all customers on purpose: the address alone decides whose mail an incoming message is.';

-- Ticket numbers count from 1 for each customer, without gaps that a sequence would leave.
CREATE TABLE ticket_counter (
    tenant_id   uuid PRIMARY KEY,
    last_number integer NOT NULL CHECK (last_number >= 0)
);

-- Definer's rights, so that the application needs no privilege to set a counter back. It names no tenant: the column
-- default says whose counter it is, and without one the NOT NULL refuses. An UPDATE without a filter would count for
-- everybody wherever the caller sees every row.
CREATE FUNCTION next_ticket_number() RETURNS integer
LANGUAGE sql VOLATILE SECURITY DEFINER
AS $$
    INSERT INTO ticket_counter (last_number) VALUES (1)
    ON CONFLICT (tenant_id) DO UPDATE SET last_number = ticket_counter.last_number + 1
    RETURNING last_number
$$;

CREATE TABLE ticket (
    id                bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id         uuid NOT NULL,
    number            integer NOT NULL DEFAULT next_ticket_number(),
    subject           text NOT NULL CHECK (subject <> ''),
    status            ticket_status NOT NULL DEFAULT 'new',
    priority          smallint NOT NULL DEFAULT 3 CHECK (priority BETWEEN 1 AND 4),
    requester_id      uuid NOT NULL REFERENCES contact (id),
    assignee_id       uuid REFERENCES agent (id) ON DELETE SET NULL,
    team_id           bigint REFERENCES team (id) ON DELETE SET NULL,
    mailbox_address   text REFERENCES mailbox (address) ON UPDATE CASCADE,
    sla_code          text,
    merged_into_id    bigint REFERENCES ticket (id) ON DELETE SET NULL,
    custom            jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(custom) = 'object'),
    created_at        timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz NOT NULL DEFAULT now(),
    last_message_at   timestamptz,
    first_response_at timestamptz,
    solved_at         timestamptz,
    search            tsvector GENERATED ALWAYS AS (to_tsvector('english', subject)) STORED,
    CONSTRAINT ticket_number_key UNIQUE (tenant_id, number),
    CONSTRAINT ticket_sla_fkey FOREIGN KEY (tenant_id, sla_code) REFERENCES sla_policy (tenant_id, code),
    CONSTRAINT ticket_not_merged_into_itself CHECK (merged_into_id <> id)
);
CREATE INDEX ticket_inbox_idx ON ticket (tenant_id, status, last_message_at DESC);
CREATE INDEX ticket_requester_idx ON ticket (requester_id);
CREATE INDEX ticket_assignee_idx ON ticket (assignee_id);
CREATE INDEX ticket_team_idx ON ticket (team_id);
CREATE INDEX ticket_merged_into_idx ON ticket (merged_into_id) WHERE merged_into_id IS NOT NULL;
CREATE INDEX ticket_custom_idx ON ticket USING gin (custom jsonb_path_ops);
CREATE INDEX ticket_search_idx ON ticket USING gin (search);

CREATE TABLE message (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id  uuid NOT NULL,
    ticket_id  bigint NOT NULL REFERENCES ticket (id) ON DELETE CASCADE,
    agent_id   uuid REFERENCES agent (id) ON DELETE SET NULL,
    contact_id uuid REFERENCES contact (id) ON DELETE SET NULL,
    internal   boolean NOT NULL DEFAULT false,
    body       text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    search     tsvector GENERATED ALWAYS AS (to_tsvector('english', body)) STORED,
    CONSTRAINT message_one_author CHECK (num_nonnulls(agent_id, contact_id) <= 1)
);
CREATE INDEX message_ticket_idx ON message (ticket_id, created_at);
CREATE INDEX message_agent_idx ON message (agent_id);
CREATE INDEX message_contact_idx ON message (contact_id);
CREATE INDEX message_search_idx ON message USING gin (search);

CREATE TABLE attachment (
    id         uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id  uuid NOT NULL,
    message_id bigint NOT NULL REFERENCES message (id) ON DELETE CASCADE,
    file_name  text NOT NULL,
    media_type text NOT NULL,
    bytes      bigint NOT NULL CHECK (bytes >= 0)
);
CREATE INDEX attachment_message_idx ON attachment (message_id);

CREATE TABLE tag (
    tenant_id uuid NOT NULL,
    name      text NOT NULL CHECK (name = lower(name) AND name <> ''),
    PRIMARY KEY (tenant_id, name)
);

CREATE TABLE ticket_tag (
    tenant_id uuid NOT NULL,
    ticket_id bigint NOT NULL REFERENCES ticket (id) ON DELETE CASCADE,
    tag_name  text NOT NULL,
    PRIMARY KEY (ticket_id, tag_name),
    CONSTRAINT ticket_tag_tag_fkey FOREIGN KEY (tenant_id, tag_name) REFERENCES tag (tenant_id, name)
        ON UPDATE CASCADE ON DELETE CASCADE
);
CREATE INDEX ticket_tag_tag_idx ON ticket_tag (tenant_id, tag_name);
