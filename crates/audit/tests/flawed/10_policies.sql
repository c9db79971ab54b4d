-- Row-level security, its policies, and the tenant context.

-- flaw GRD-PG-001: shop.off, leaks
SELECT pg_temp.make('shop.off');
DROP POLICY rows_open ON shop.off; DROP POLICY tenant_only ON shop.off;
ALTER TABLE shop.off DISABLE ROW LEVEL SECURITY;
-- flaw GRD-PG-001: shop.never_on, leaks
CREATE TABLE shop.never_on (tenant_id uuid NOT NULL, id uuid NOT NULL, note text, PRIMARY KEY (tenant_id, id));
ALTER TABLE shop.never_on OWNER TO owner;
GRANT SELECT (id, note) ON shop.never_on TO app;
-- near GRD-PG-001: shop.not_granted
CREATE TABLE shop.not_granted (tenant_id uuid NOT NULL, note text);
-- flaw GRD-PG-008: closed.no_usage, leaks
CREATE TABLE closed.no_usage (tenant_id uuid NOT NULL, note text);
GRANT SELECT, INSERT ON closed.no_usage TO app;
-- near GRD-PG-008: closed.no_usage_kept
SELECT pg_temp.make('closed.no_usage_kept');

-- flaw GRD-PG-003: p on shop.always_true, leaks shop.always_true
SELECT pg_temp.make_with('shop.always_true', 'true');
-- flaw GRD-PG-003: p on shop.tautology, leaks shop.tautology
SELECT pg_temp.make_with('shop.tautology', 'id IS NULL OR id IS NOT NULL');
-- flaw GRD-PG-003: p on shop.defaulted, leaks shop.defaulted
SELECT pg_temp.make_with('shop.defaulted', 'coalesce(note, ''x'') = coalesce(note, ''x'')');
-- flaw GRD-PG-003: support on shop.or_ed, leaks shop.or_ed
SELECT pg_temp.make_with('shop.or_ed', 'tenant_id = nullif(current_setting(''backtrace_functions''), '''')::uuid');
CREATE POLICY support ON shop.or_ed FOR SELECT USING (length(coalesce(note, '')) >= 0);
-- flaw GRD-PG-003: rows_open on shop.restricted_reads, leaks shop.restricted_reads
SELECT pg_temp.make('shop.restricted_reads');
DROP POLICY tenant_only ON shop.restricted_reads;
CREATE POLICY reads ON shop.restricted_reads AS RESTRICTIVE FOR SELECT
    USING (tenant_id = nullif(current_setting('backtrace_functions'), '')::uuid);
-- flaw GRD-PG-003: rows_open on shop.restricted_for_others, leaks shop.restricted_for_others
SELECT pg_temp.make('shop.restricted_for_others');
ALTER POLICY tenant_only ON shop.restricted_for_others TO staff;
-- near GRD-PG-003: shop.permissive_alone
SELECT pg_temp.make_with('shop.permissive_alone', 'tenant_id = nullif(current_setting(''backtrace_functions''), '''')::uuid');
-- near GRD-PG-003: shop.open_for_staff
SELECT pg_temp.make_with('shop.open_for_staff', 'tenant_id = nullif(current_setting(''backtrace_functions''), '''')::uuid');
CREATE POLICY reports ON shop.open_for_staff TO staff USING (true);
-- near GRD-PG-003: shop.command_by_command
SELECT pg_temp.make('shop.command_by_command');
DROP POLICY tenant_only ON shop.command_by_command;
DO $$ DECLARE command text; BEGIN
    FOREACH command IN ARRAY ARRAY['SELECT', 'UPDATE', 'DELETE'] LOOP
        EXECUTE format('CREATE POLICY on_%s ON shop.command_by_command AS RESTRICTIVE FOR %1$s '
            'USING (tenant_id = nullif(current_setting(''backtrace_functions''), '''')::uuid)', command);
    END LOOP;
END $$;
CREATE POLICY on_insert ON shop.command_by_command AS RESTRICTIVE FOR INSERT
    WITH CHECK (tenant_id = nullif(current_setting('backtrace_functions'), '')::uuid);
-- near GRD-PG-003: shop.in_a_list
SELECT pg_temp.make_with('shop.in_a_list', 'tenant_id = ANY (ARRAY[nullif(current_setting(''backtrace_functions''), '''')::uuid])');
-- near GRD-PG-003: shop.by_select
SELECT pg_temp.make_with('shop.by_select', 'tenant_id = (SELECT nullif(current_setting(''backtrace_functions''), '''')::uuid)');

-- flaw GRD-PG-001: shop.forgotten, leaks
SELECT pg_temp.make('shop.forgotten');
ALTER TABLE shop.forgotten DISABLE ROW LEVEL SECURITY;
-- flaw GRD-PG-004: shop.half_listed
SELECT pg_temp.make_common('shop.half_listed');
CREATE POLICY listed ON shop.half_listed USING (name <> '');
-- flaw GRD-PG-005: shop.no_policy
SELECT pg_temp.make('shop.no_policy');
DROP POLICY rows_open ON shop.no_policy;
-- near GRD-PG-005: shop.policy_for_public
SELECT pg_temp.make('shop.policy_for_public');
ALTER POLICY rows_open ON shop.policy_for_public TO PUBLIC;

-- flaw GRD-PG-006: p on shop.not_about_tenants, leaks shop.not_about_tenants
SELECT pg_temp.make_with('shop.not_about_tenants', 'note <> ''deleted''');
-- flaw GRD-PG-006: tenant_only on shop.shared_rows, leaks shop.shared_rows
SELECT pg_temp.make('shop.shared_rows');
ALTER TABLE shop.shared_rows ADD COLUMN open_to_all boolean NOT NULL DEFAULT true;
ALTER POLICY tenant_only ON shop.shared_rows
    USING (open_to_all OR tenant_id = nullif(current_setting('backtrace_functions'), '')::uuid)
    WITH CHECK (tenant_id = nullif(current_setting('backtrace_functions'), '')::uuid);
-- flaw GRD-PG-006: p on shop.not_the_own, leaks shop.not_the_own
SELECT pg_temp.make_with('shop.not_the_own', 'tenant_id <> nullif(current_setting(''backtrace_functions''), '''')::uuid');
-- near GRD-PG-006: shop.narrowed
SELECT pg_temp.make('shop.narrowed');
ALTER POLICY rows_open ON shop.narrowed USING (note <> 'deleted');

-- flaw GRD-PG-007: p on shop.checks_nothing, leaks shop.checks_nothing
SELECT pg_temp.make_with('shop.checks_nothing', 'tenant_id = nullif(current_setting(''backtrace_functions''), '''')::uuid', 'true');
-- flaw GRD-PG-007: tenant_only on shop.checks_the_note, leaks shop.checks_the_note
SELECT pg_temp.make('shop.checks_the_note');
ALTER POLICY tenant_only ON shop.checks_the_note WITH CHECK (note IS DISTINCT FROM 'forbidden');
-- flaw GRD-PG-007: adds on shop.open_inserts, leaks shop.open_inserts
SELECT pg_temp.make_with('shop.open_inserts', 'tenant_id = nullif(current_setting(''backtrace_functions''), '''')::uuid');
CREATE POLICY adds ON shop.open_inserts FOR INSERT WITH CHECK (true);
-- near GRD-PG-007: shop.checked_beside
SELECT pg_temp.make('shop.checked_beside');
ALTER POLICY rows_open ON shop.checked_beside USING (note <> '') WITH CHECK (true);

-- flaw GRD-PG-009: p on shop.trusts_members, leaks shop.trusts_members
CREATE TABLE shop.members (person uuid NOT NULL, org uuid NOT NULL, PRIMARY KEY (person, org));
ALTER TABLE shop.members OWNER TO owner;
GRANT SELECT, INSERT ON shop.members TO app;
-- also GRD-PG-015: p on shop.trusts_members
SELECT pg_temp.make_with('shop.trusts_members', 'tenant_id IN (SELECT m.org FROM shop.members AS m
    WHERE m.person = nullif(current_setting(''backtrace_functions''), '''')::uuid)');
-- near GRD-PG-009: shop.trusts_readers
CREATE TABLE shop.readers (person uuid NOT NULL, org uuid NOT NULL, PRIMARY KEY (person, org));
ALTER TABLE shop.readers OWNER TO owner;
GRANT SELECT ON shop.readers TO app;
-- also GRD-PG-015: p on shop.trusts_readers
SELECT pg_temp.make_with('shop.trusts_readers', 'tenant_id IN (SELECT m.org FROM shop.readers AS m
    WHERE m.person = nullif(current_setting(''backtrace_functions''), '''')::uuid)');

-- The tenant context.
-- flaw GRD-PG-101: "app.tenant", leaks shop.settable
SELECT pg_temp.make_with('shop.settable', 'tenant_id = nullif(current_setting(''app.tenant'', true), '''')::uuid');
-- flaw GRD-PG-101: application_name, leaks shop.by_application_name
SELECT pg_temp.make_with('shop.by_application_name', 'tenant_id::text = current_setting(''application_name'')');
-- flaw GRD-PG-101: "app.hidden", leaks shop.behind_a_function
CREATE FUNCTION guard.hidden() RETURNS uuid STABLE LANGUAGE sql
    AS $$ SELECT nullif(current_setting('app.hidden', true), '')::uuid $$;
GRANT EXECUTE ON FUNCTION guard.hidden() TO app;
-- also GRD-PG-015: p on shop.behind_a_function
SELECT pg_temp.make_with('shop.behind_a_function', 'tenant_id = (SELECT guard.hidden())');
-- near GRD-PG-101: shop.settable_beside
SELECT pg_temp.make('shop.settable_beside');
ALTER POLICY rows_open ON shop.settable_beside USING (note = current_setting('app.filter', true));
-- flaw GRD-PG-102: tenant_only on shop.flagged, leaks shop.flagged
SELECT pg_temp.make('shop.flagged');
ALTER POLICY tenant_only ON shop.flagged USING (current_setting('app.support', true) = 'on'
    OR tenant_id = nullif(current_setting('backtrace_functions'), '')::uuid);
-- near GRD-PG-102: shop.flag_beside
SELECT pg_temp.make('shop.flag_beside');
ALTER POLICY rows_open ON shop.flag_beside USING (current_setting('app.support', true) = 'on');
-- flaw GRD-PG-103: tenant_only on shop.open_when_unset, leaks shop.open_when_unset
SELECT pg_temp.make('shop.open_when_unset');
ALTER POLICY tenant_only ON shop.open_when_unset USING (nullif(current_setting('backtrace_functions'), '') IS NULL
    OR tenant_id = nullif(current_setting('backtrace_functions'), '')::uuid);
-- flaw GRD-PG-103: tenant_only on shop.falls_back_to_all, leaks shop.falls_back_to_all
SELECT pg_temp.make('shop.falls_back_to_all');
ALTER POLICY tenant_only ON shop.falls_back_to_all
    USING (tenant_id = coalesce(nullif(current_setting('backtrace_functions'), '')::uuid, tenant_id));
-- flaw GRD-PG-104: p on shop.by_profile, leaks shop.by_profile
SELECT pg_temp.make_with('shop.by_profile',
    'tenant_id::text = (nullif(current_setting(''request.jwt.claims'', true), '''')::jsonb -> ''user_metadata'' ->> ''tenant'')');
-- also GRD-PG-101: "request.jwt.claims"
-- flaw GRD-PG-108: guard.once(), leaks shop.worked_out_once
CREATE FUNCTION guard.once() RETURNS uuid LANGUAGE plpgsql IMMUTABLE
    AS 'BEGIN RETURN nullif(current_setting(''backtrace_functions''), '''')::uuid; END';
GRANT EXECUTE ON FUNCTION guard.once() TO app;
-- also GRD-PG-015: p on shop.worked_out_once
SELECT pg_temp.make_with('shop.worked_out_once', 'tenant_id = guard.once()');
-- near GRD-PG-108: shop.stable_context
CREATE FUNCTION guard.each_time() RETURNS uuid LANGUAGE plpgsql STABLE
    AS 'BEGIN RETURN nullif(current_setting(''backtrace_functions''), '''')::uuid; END';
GRANT EXECUTE ON FUNCTION guard.each_time() TO app;
-- also GRD-PG-015: p on shop.stable_context
SELECT pg_temp.make_with('shop.stable_context', 'tenant_id = guard.each_time()');
