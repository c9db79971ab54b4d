-- What happened to a ticket and when, and the triggers that keep derived columns true.

CREATE TABLE ticket_event (
    id          bigserial,
    tenant_id   uuid NOT NULL,
    ticket_id   bigint NOT NULL REFERENCES ticket (id) ON DELETE CASCADE,
    kind        text NOT NULL CHECK (kind IN ('created', 'status', 'assignee', 'priority')),
    detail      jsonb NOT NULL DEFAULT '{}',
    occurred_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (id, occurred_at)
) PARTITION BY RANGE (occurred_at);

CREATE TABLE ticket_event_2024 PARTITION OF ticket_event
    FOR VALUES FROM ('2024-01-01 00:00+00') TO ('2025-01-01 00:00+00');
CREATE TABLE ticket_event_2025 PARTITION OF ticket_event
    FOR VALUES FROM ('2025-01-01 00:00+00') TO ('2026-01-01 00:00+00');
CREATE TABLE ticket_event_2026 PARTITION OF ticket_event
    FOR VALUES FROM ('2026-01-01 00:00+00') TO ('2027-01-01 00:00+00');
CREATE TABLE ticket_event_default PARTITION OF ticket_event DEFAULT;

CREATE INDEX ticket_event_ticket_idx ON ticket_event (ticket_id, occurred_at);
CREATE INDEX ticket_event_tenant_idx ON ticket_event (tenant_id, occurred_at);

CREATE FUNCTION touch_updated_at() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    NEW.updated_at := now();
    RETURN NEW;
END
$$;

CREATE TRIGGER organization_touch BEFORE UPDATE ON organization FOR EACH ROW EXECUTE FUNCTION touch_updated_at();
CREATE TRIGGER contact_touch BEFORE UPDATE ON contact FOR EACH ROW EXECUTE FUNCTION touch_updated_at();
CREATE TRIGGER ticket_touch BEFORE UPDATE ON ticket FOR EACH ROW EXECUTE FUNCTION touch_updated_at();

-- An event belongs to whoever its ticket belongs to, also when somebody works on tickets of several customers at once.
CREATE FUNCTION record_ticket_event() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO ticket_event (tenant_id, ticket_id, kind, detail, occurred_at)
        VALUES (NEW.tenant_id, NEW.id, 'created', jsonb_build_object('number', NEW.number), NEW.created_at);
        RETURN NULL;
    END IF;
    INSERT INTO ticket_event (tenant_id, ticket_id, kind, detail, occurred_at)
    SELECT NEW.tenant_id, NEW.id, change.kind, jsonb_build_object('from', change.old, 'to', change.new), NEW.updated_at
    FROM (VALUES ('status', OLD.status::text, NEW.status::text),
                 ('assignee', OLD.assignee_id::text, NEW.assignee_id::text),
                 ('priority', OLD.priority::text, NEW.priority::text)) AS change (kind, old, new)
    WHERE change.old IS DISTINCT FROM change.new;
    RETURN NULL;
END
$$;

CREATE TRIGGER ticket_created AFTER INSERT ON ticket FOR EACH ROW EXECUTE FUNCTION record_ticket_event();
CREATE TRIGGER ticket_changed AFTER UPDATE ON ticket FOR EACH ROW
    WHEN ((OLD.status, OLD.assignee_id, OLD.priority) IS DISTINCT FROM (NEW.status, NEW.assignee_id, NEW.priority))
    EXECUTE FUNCTION record_ticket_event();

-- Once a statement, not once a row: an import of ten thousand messages updates each ticket once.
CREATE FUNCTION note_new_messages() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    UPDATE ticket
    SET last_message_at = greatest(ticket.last_message_at, added.last_at),
        first_response_at = least(ticket.first_response_at, added.first_reply_at)
    FROM (SELECT ticket_id, max(created_at) AS last_at,
                 min(created_at) FILTER (WHERE agent_id IS NOT NULL AND NOT internal) AS first_reply_at
          FROM new_message
          GROUP BY ticket_id) AS added
    WHERE ticket.id = added.ticket_id;
    RETURN NULL;
END
$$;

CREATE TRIGGER message_noted AFTER INSERT ON message REFERENCING NEW TABLE AS new_message
    FOR EACH STATEMENT EXECUTE FUNCTION note_new_messages();
