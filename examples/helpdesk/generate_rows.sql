-- The rows themselves, for generate.sql and generate_fleet.sql, which say for whom:
--
--   :fleet                       what to select from: tenant_id, tickets (to add), numbers_before (the last one taken)
--   :tenant_column :tenant_value 'tenant_id,' and 'fleet.tenant_id,'; or both empty, for the column default to fill in
--
-- Ids that the application may choose are digests of the tenant and a number, so that no row is looked up to refer to
-- it, and so that a second run finds the agents and contacts of the first. Random numbers are drawn in subselects of
-- their own, before any join, so that the plan does not change who gets which. INSERT … SELECT throughout: COPY FROM
-- is refused under row-level security; no temporary objects: a tenant may not create any.

\set agents '(3 + floor(sqrt(fleet.tickets) / 2)::integer)'
\set contacts '(3 + fleet.tickets / 4)'
\set organizations '(1 + fleet.tickets / 40)'
\set slug 'left(md5(fleet.tenant_id::text), 12)'
-- A rank from 1 to the number before it, rank k in proportion to 1/k:  floor(exp(random() * ln(count + 1)))

INSERT INTO agent (:tenant_column id, email, display_name, active, created_at)
SELECT :tenant_value
       md5(fleet.tenant_id || ' agent ' || n)::uuid,
       lower(given || '.' || family || n || '@' || :slug || '.example'),
       given || ' ' || family,
       n % 9 <> 8,
       timestamptz '2024-01-01 00:00+00'
FROM :fleet AS fleet
CROSS JOIN generate_series(1, :agents) AS n
CROSS JOIN LATERAL (SELECT (ARRAY['Ada', 'Bo', 'Chidi', 'Dana', 'Emre', 'Fatou', 'Goran'])[1 + n % 7] AS given,
                           (ARRAY['Okafor', 'Lind', 'Sato', 'Moreau', 'Silva'])[1 + n % 5] AS family) AS person
ON CONFLICT DO NOTHING;

INSERT INTO team (:tenant_column name)
SELECT :tenant_value name
FROM :fleet AS fleet
CROSS JOIN unnest(ARRAY['Support', 'Billing', 'Operations', 'Onboarding']) AS name
ON CONFLICT DO NOTHING;

INSERT INTO team_member (:tenant_column team_id, agent_id)
SELECT :tenant_value team.id, md5(fleet.tenant_id || ' agent ' || n)::uuid
FROM :fleet AS fleet
CROSS JOIN generate_series(1, :agents) AS n
JOIN team ON team.tenant_id = fleet.tenant_id
    AND team.name IN ('Support', (ARRAY['Billing', 'Operations', 'Onboarding'])[1 + n % 3])
ON CONFLICT DO NOTHING;

INSERT INTO organization (:tenant_column id, name, domain, country_code, attributes, created_at,
                          updated_at)
SELECT :tenant_value
       md5(fleet.tenant_id || ' organization ' || n)::uuid,
       (ARRAY['Northwind', 'Blue Harbour', 'Kestrel', 'Old Mill', 'Solstice', 'Tamarind'])[1 + n % 6] || ' '
           || (ARRAY['Logistics', 'Bakeries', 'Instruments', 'Energy', 'Clinics'])[1 + n % 5] || ' ' || n,
       'org' || n || '.' || :slug || '.example',
       (ARRAY['DE', 'US', 'FR', 'JP', 'BR', 'KE', 'SE', 'IN', 'NZ'])[1 + n % 9],
       jsonb_build_object('plan', (ARRAY['free', 'team', 'enterprise'])[1 + n % 3], 'seats', 5 * (1 + n % 40)),
       timestamptz '2024-01-01 00:00+00', timestamptz '2024-01-01 00:00+00'
FROM :fleet AS fleet
CROSS JOIN generate_series(1, :organizations) AS n
ON CONFLICT DO NOTHING;

-- Every fifth contact is a private person; the first organizations employ most of the others.
INSERT INTO contact (:tenant_column id, organization_id, email, full_name, created_at, updated_at)
SELECT :tenant_value
       md5(fleet.tenant_id || ' contact ' || n)::uuid,
       CASE WHEN n % 5 <> 0 THEN md5(fleet.tenant_id || ' organization ' || organization_rank)::uuid END,
       'contact' || n || '@' || CASE WHEN n % 5 <> 0 THEN 'org' || organization_rank ELSE 'mail' END
           || '.' || :slug || '.example',
       (ARRAY['Iris', 'Jonas', 'Kamala', 'Liam', 'Mina', 'Noor', 'Otto', 'Pilar'])[1 + n % 8] || ' '
           || (ARRAY['Haas', 'Njoroge', 'Dubois', 'Ito', 'Costa', 'Berg', 'Patel'])[1 + n % 7],
       timestamptz '2024-01-01 00:00+00', timestamptz '2024-01-01 00:00+00'
FROM (SELECT fleet.*, n, floor(exp(random() * ln(:organizations + 1))) AS organization_rank
      FROM :fleet AS fleet
      CROSS JOIN generate_series(1, :contacts) AS n) AS fleet
ON CONFLICT DO NOTHING;

INSERT INTO sla_policy (:tenant_column code, first_response_minutes, resolution_minutes)
SELECT :tenant_value code, first_response_minutes, resolution_minutes
FROM :fleet AS fleet
CROSS JOIN (VALUES ('standard', 480, 7200), ('priority', 120, 1440), ('critical', 15, 240))
    AS policy (code, first_response_minutes, resolution_minutes)
ON CONFLICT DO NOTHING;

INSERT INTO mailbox (:tenant_column address, team_id, preferred)
SELECT :tenant_value lower(team.name) || '@' || :slug || '.example', team.id, team.name = 'Support'
FROM :fleet AS fleet
JOIN team ON team.tenant_id = fleet.tenant_id AND team.name IN ('Support', 'Billing')
ON CONFLICT DO NOTHING;

INSERT INTO tag (:tenant_column name)
SELECT :tenant_value name
FROM :fleet AS fleet
CROSS JOIN unnest(ARRAY['bug', 'question', 'invoice', 'login', 'mobile', 'refund', 'export', 'outage', 'feature',
                        'duplicate', 'vip', 'legal']) AS name
ON CONFLICT DO NOTHING;

-- Ever more tickets as time goes by; what is old is closed. The first agents and contacts have most of them.
INSERT INTO ticket (:tenant_column number, subject, status, priority, requester_id, assignee_id, team_id,
                    mailbox_address, sla_code, custom, created_at, updated_at, solved_at, billed_amount)
SELECT :tenant_value
       number, subject, status, priority,
       md5(fleet.tenant_id || ' contact ' || requester_rank)::uuid,
       CASE WHEN status <> 'new' THEN md5(fleet.tenant_id || ' agent ' || assignee_rank)::uuid END,
       team.id,
       CASE WHEN team.name IN ('Support', 'Billing') THEN lower(team.name) || '@' || :slug || '.example' END,
       (ARRAY['critical', 'priority', 'standard', NULL])[priority],
       custom, created_at, created_at,
       CASE WHEN status IN ('solved', 'closed') THEN created_at + interval '3 days' END,
       CASE WHEN status = 'closed' THEN billed_amount ELSE 0 END
FROM (SELECT fleet.*,
             fleet.numbers_before + n AS number,
             (ARRAY['Cannot export', 'Question about', 'Wrong amount on', 'Error when opening', 'Please delete',
                    'Slow response from'])[1 + floor(6 * random())::integer] || ' '
                 || (ARRAY['the invoice', 'our dashboard', 'a customer record', 'the mobile app', 'the monthly report',
                           'the API'])[1 + floor(6 * random())::integer] || ' '
                 || (ARRAY['since the update', 'for our Berlin office', 'before the audit', 'every morning',
                           'after signing in'])[1 + floor(5 * random())::integer] AS subject,
             CASE WHEN n < 0.9 * fleet.tickets THEN (ARRAY['closed', 'solved'])[1 + floor(1.2 * random())::integer]
                  ELSE (ARRAY['new', 'open', 'open', 'pending', 'on_hold'])[1 + floor(5 * random())::integer]
             END::ticket_status AS status,
             (4 - floor(4 * power(random(), 2)))::smallint AS priority,
             floor(exp(random() * ln(:contacts + 1))) AS requester_rank,
             floor(exp(random() * ln(:agents + 1))) AS assignee_rank,
             (ARRAY['Support', 'Support', 'Billing', 'Operations', 'Onboarding'])[1 + floor(5 * random())::integer]
                 AS team_name,
             jsonb_build_object(
                 'channel', (ARRAY['email', 'email', 'chat', 'phone', 'web'])[1 + floor(5 * random())::integer],
                 'product', (ARRAY['desktop', 'mobile', 'api'])[1 + floor(3 * power(random(), 2))::integer],
                 'vip', random() < 0.05) AS custom,
             timestamptz '2024-01-01 00:00+00' + interval '900 days' * sqrt(n / fleet.tickets::double precision)
                 AS created_at,
             CASE WHEN random() < 0.3 THEN (10 / (0.01 + random()))::numeric(10, 2) ELSE 0 END AS billed_amount
      FROM :fleet AS fleet
      CROSS JOIN generate_series(1, fleet.tickets) AS n) AS fleet
JOIN team ON team.tenant_id = fleet.tenant_id AND team.name = fleet.team_name
ORDER BY created_at, number;

-- Somebody merges a duplicate now and then, always into the ticket before it.
UPDATE ticket
SET merged_into_id = earlier.id
FROM :fleet AS fleet
JOIN ticket AS earlier ON earlier.tenant_id = fleet.tenant_id AND earlier.number > fleet.numbers_before
WHERE ticket.tenant_id = fleet.tenant_id
  AND ticket.number = earlier.number + 1
  AND ticket.number % 97 = 0;

-- One message opens each ticket. Twice as many follow, most of them on a few tickets: the prime scatters these.
INSERT INTO message (:tenant_column ticket_id, agent_id, contact_id, internal, body, created_at)
SELECT :tenant_value
       ticket.id,
       CASE WHEN from_agent THEN ticket.assignee_id END,
       CASE WHEN NOT from_agent OR ticket.assignee_id IS NULL THEN ticket.requester_id END,
       from_agent AND internal AND ticket.assignee_id IS NOT NULL,
       CASE WHEN from_agent
            THEN (ARRAY['Thank you for your patience:', 'Good news:', 'Hello again,'])[1 + floor(3 * greeting)::integer]
                 || ' '
                 || (ARRAY['we could reproduce it and a correction is on its way.',
                           'could you send a screenshot of the error message?',
                           'the refund has been paid back to your card.',
                           'the export runs to its end again.'])[1 + floor(4 * point)::integer]
            ELSE (ARRAY['Hello,', 'Good morning,', 'Hi there,'])[1 + floor(3 * greeting)::integer]
                 || ' '
                 || (ARRAY['the export stops half way and the file stays empty.',
                           'two lines of the invoice show the wrong tax rate.',
                           'I was signed out and my password is refused.',
                           'the dashboard takes a minute to load since Monday.'])[1 + floor(4 * point)::integer]
       END || ' '
           || (ARRAY['It happens in every browser.', 'Only colleagues in the warehouse are affected.',
                     'The audit begins tomorrow.', 'No hurry from our side.',
                     'The reference is ' || n || '.'])[1 + floor(5 * close)::integer],
       ticket.created_at + age
FROM (SELECT fleet.*, n,
             CASE WHEN n <= fleet.tickets THEN n
                  ELSE 1 + (floor(exp(random() * ln(fleet.tickets + 1)))::bigint * 7919) % fleet.tickets
             END + fleet.numbers_before AS number,
             n > fleet.tickets AND random() < 0.6 AS from_agent,
             random() < 0.15 AS internal,
             random() AS greeting, random() AS point, random() AS close,
             CASE WHEN n <= fleet.tickets THEN interval '0' ELSE interval '3 days' * random() END AS age
      FROM :fleet AS fleet
      CROSS JOIN generate_series(1, 3 * fleet.tickets) AS n) AS fleet
JOIN ticket ON ticket.tenant_id = fleet.tenant_id AND ticket.number = fleet.number
ORDER BY ticket.created_at + age, ticket.number;

INSERT INTO attachment (:tenant_column id, message_id, file_name, media_type, bytes)
SELECT :tenant_value
       md5(fleet.tenant_id || ' attachment ' || number || ' ' || n)::uuid,
       message_id,
       CASE WHEN size_class < 0.7 THEN 'screenshot-' || n || '.png' ELSE 'log-' || n || '.txt' END,
       CASE WHEN size_class < 0.7 THEN 'image/png' ELSE 'text/plain' END,
       (20000 / (0.01 + size_class))::bigint
FROM (SELECT fleet.*, random() AS chosen, random() AS size_class
      FROM (SELECT fleet.tenant_id, ticket.number, message.id AS message_id,
                   row_number() OVER (PARTITION BY ticket.id ORDER BY message.id) AS n
            FROM :fleet AS fleet
            JOIN ticket ON ticket.tenant_id = fleet.tenant_id AND ticket.number > fleet.numbers_before
            JOIN message ON message.ticket_id = ticket.id
            ORDER BY message.id) AS fleet) AS fleet
WHERE chosen < 0.1;

INSERT INTO ticket_tag (:tenant_column ticket_id, tag_name)
SELECT DISTINCT :tenant_value ticket.id, tag_name
FROM (SELECT fleet.*,
             fleet.numbers_before + 1 + floor(random() * fleet.tickets)::integer AS number,
             (ARRAY['question', 'bug', 'invoice', 'login', 'export', 'mobile', 'refund', 'vip', 'outage', 'legal'])
                 [floor(exp(random() * ln(11)))::integer] AS tag_name
      FROM :fleet AS fleet
      CROSS JOIN generate_series(1, 2 * fleet.tickets) AS n) AS fleet
JOIN ticket ON ticket.tenant_id = fleet.tenant_id AND ticket.number = fleet.number;

-- The trigger wrote that each ticket was created; how it came to its present status is told here.
INSERT INTO ticket_event (:tenant_column ticket_id, kind, detail, occurred_at)
SELECT :tenant_value
       ticket.id,
       'status',
       jsonb_build_object('from', step.old, 'to', step.new),
       ticket.created_at + step.age
FROM :fleet AS fleet
JOIN ticket ON ticket.tenant_id = fleet.tenant_id AND ticket.number > fleet.numbers_before
JOIN (VALUES (1, 'new', 'open', interval '1 hour'),
             (2, 'open', 'solved', interval '3 days'),
             (3, 'solved', 'closed', interval '7 days')) AS step (n, old, new, age)
    ON step.n <= CASE ticket.status WHEN 'new' THEN 0 WHEN 'solved' THEN 2 WHEN 'closed' THEN 3 ELSE 1 END
ORDER BY ticket.created_at + step.age, ticket.number;

INSERT INTO api_key (:tenant_column id, agent_id, label, key_hash, created_at)
SELECT :tenant_value
       md5(fleet.tenant_id || ' api key ' || n)::uuid,
       md5(fleet.tenant_id || ' agent ' || n)::uuid,
       label,
       sha256(convert_to(fleet.tenant_id || ' secret ' || n, 'UTF8')),
       timestamptz '2024-01-01 00:00+00'
FROM :fleet AS fleet
CROSS JOIN unnest(ARRAY['import script', 'status page', 'warehouse']) WITH ORDINALITY AS key (label, n)
ON CONFLICT DO NOTHING;
