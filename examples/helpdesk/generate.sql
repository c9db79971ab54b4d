-- Fills the help desk of one tenant. Run it with psql as the application would connect: bound to that tenant, so that
-- the default of every tenant_id column is the tenant, and nothing here names one on insert.
--
--   psql -f generate.sql -v size=2000 -v seed=0.42 "$DATABASE_URL"
--
-- size: tickets to add (200). Up to some ten thousand at a time: each number taken in one transaction leaves a dead
-- version of the counter for the next to step over. seed: -1 to 1 (0.42).
-- Run again, it adds more tickets, numbered on from the last.
\set ON_ERROR_STOP on
\if :{?size} \else \set size 200 \endif
\if :{?seed} \else \set seed 0.42 \endif

BEGIN;
SELECT setseed(:seed) AS unused \gset

-- Any row that the default filled in tells whose help desk this is.
INSERT INTO tag (name) VALUES ('bug')
ON CONFLICT (tenant_id, name) DO UPDATE SET name = excluded.name
RETURNING tenant_id
\gset

-- The numbers are reserved at once, because the rows that follow refer to each other by them.
SELECT coalesce(max(next_ticket_number()), :size) - :size AS numbers_before FROM generate_series(1, :size)
\gset

\set fleet '(SELECT ' :'tenant_id' '::uuid AS tenant_id, ' :size ' AS tickets, ' :numbers_before ' AS numbers_before)'
\set tenant_column
\set tenant_value
\ir generate_rows.sql
COMMIT;
