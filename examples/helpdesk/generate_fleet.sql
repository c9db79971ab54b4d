-- Fills one shared (row isolation) help desk for many tenants at once, a few of them large and most of them small.
-- Run it with psql as an administrator whom row-level security does not bind; it names the tenant on every row.
--
--   psql -f generate_fleet.sql -v tenants=100 -v tickets=20000 -v seed=0.42 "$ADMIN_DATABASE_URL"
--
-- tenants: how many (100). tickets: of all tenants together (20000); tenant n gets a share in proportion to 1/n.
-- seed: -1 to 1 (0.42). The key of tenant n is md5('helpdesk tenant ' || n)::uuid, whatever the seed.
\set ON_ERROR_STOP on
\if :{?tenants} \else \set tenants 100 \endif
\if :{?tickets} \else \set tickets 20000 \endif
\if :{?seed} \else \set seed 0.42 \endif

BEGIN;
SELECT setseed(:seed) AS unused \gset

-- Rounding the running total, not each share, makes the shares add up to :tickets.
CREATE TEMP TABLE fleet ON COMMIT DROP AS
SELECT tenant_id,
       (round(running) - lag(round(running), 1, 0::double precision) OVER (ORDER BY n))::integer AS tickets,
       0 AS numbers_before
FROM (SELECT n, md5('helpdesk tenant ' || n)::uuid AS tenant_id,
             :tickets * sum(1 / n::double precision) OVER (ORDER BY n) / sum(1 / n::double precision) OVER () AS running
      FROM generate_series(1, :tenants) AS n) AS share
ORDER BY n;

WITH reserved AS (
    INSERT INTO ticket_counter (tenant_id, last_number) SELECT tenant_id, tickets FROM fleet
    ON CONFLICT (tenant_id) DO UPDATE SET last_number = ticket_counter.last_number + excluded.last_number
    RETURNING tenant_id, last_number
)
UPDATE fleet SET numbers_before = reserved.last_number - fleet.tickets
FROM reserved WHERE reserved.tenant_id = fleet.tenant_id;

\set fleet fleet
\set tenant_column tenant_id,
\set tenant_value fleet.tenant_id,
\ir generate_rows.sql
COMMIT;

ANALYZE agent, team, team_member, organization, contact, sla_policy, mailbox, ticket_counter, ticket, message,
    attachment, tag, ticket_tag, ticket_event, api_key;
