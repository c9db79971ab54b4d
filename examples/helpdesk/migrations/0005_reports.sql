-- What the dashboards and the search box read.

CREATE VIEW open_ticket AS
SELECT ticket.tenant_id,
       ticket.number,
       ticket.subject,
       ticket.status,
       ticket.priority,
       ticket.billed_amount,
       contact.full_name AS requester,
       organization.name AS organization,
       agent.display_name AS assignee,
       team.name AS team,
       ticket.last_message_at,
       ticket.created_at + make_interval(mins => sla_policy.resolution_minutes) AS due_at
FROM ticket
JOIN contact ON contact.id = ticket.requester_id
LEFT JOIN organization ON organization.id = contact.organization_id
LEFT JOIN agent ON agent.id = ticket.assignee_id
LEFT JOIN team ON team.id = ticket.team_id
LEFT JOIN sla_policy ON sla_policy.tenant_id = ticket.tenant_id AND sla_policy.code = ticket.sla_code
WHERE ticket.status IN ('new', 'open', 'pending', 'on_hold');

CREATE MATERIALIZED VIEW ticket_daily AS
SELECT tenant_id,
       (created_at AT TIME ZONE 'UTC')::date AS day,
       status,
       count(*) AS tickets,
       sum(billed_amount) AS billed_amount
FROM ticket
GROUP BY tenant_id, day, status;
CREATE UNIQUE INDEX ticket_daily_key ON ticket_daily (tenant_id, day, status);

CREATE FUNCTION search_tickets(terms text, rows_max integer DEFAULT 20)
RETURNS TABLE (ticket_number integer, ticket_subject text, relevance real)
LANGUAGE sql STABLE
AS $$
    SELECT ticket.number, ticket.subject, hit.relevance
    FROM (SELECT ticket_id, max(relevance) AS relevance
          FROM (SELECT id AS ticket_id, 2 * ts_rank(search, websearch_to_tsquery('english', terms)) AS relevance
                FROM ticket
                WHERE search @@ websearch_to_tsquery('english', terms)
                UNION ALL
                SELECT ticket_id, ts_rank(search, websearch_to_tsquery('english', terms))
                FROM message
                WHERE search @@ websearch_to_tsquery('english', terms)) AS found
          GROUP BY ticket_id) AS hit
    JOIN ticket ON ticket.id = hit.ticket_id
    ORDER BY hit.relevance DESC, ticket.number DESC
    LIMIT rows_max
$$;
