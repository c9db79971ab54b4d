-- The kinds of mutations of the hardened helpdesk. `[a|b]` is one of them at random; `{table}`, `{partition}`, `{view}`, `{sequence}`,
-- `{registry_table}`, `{function}` are one of the database's, `{app}`, `{definer}`, `{enter}`, `{registry}` the roles of the hardening, `{n}` a number of
-- its own. What belongs to the whole server is undone by what follows `-- undo`. `-- once` may not be a part of two together.

-- kind grant_dangerous
GRANT [TRUNCATE|TRIGGER|REFERENCES|ALL] ON {table} TO [{app}|PUBLIC];
-- kind grant_rows_again
GRANT [SELECT|INSERT|UPDATE|DELETE] ON {table} TO {app} WITH GRANT OPTION;
-- kind grant_public
GRANT [SELECT|INSERT|UPDATE|DELETE] ON {table} TO PUBLIC;
-- kind grant_partition
GRANT [SELECT|INSERT|UPDATE|DELETE|ALL] ON {partition} TO [{app}|PUBLIC];
-- kind grant_column_of_partition
GRANT [SELECT|UPDATE] (detail) ON {partition} TO {app};
-- kind grant_stored
GRANT SELECT ON ticket_daily TO [{app}|PUBLIC];
-- kind grant_stored_to_others
GRANT SELECT ON ticket_daily TO [{definer}|{enter}];
-- kind grant_sequence
GRANT [SELECT|UPDATE|USAGE|ALL] ON SEQUENCE {sequence} TO {app};
-- kind grant_registry
GRANT [SELECT|INSERT|UPDATE|ALL] ON {registry_table} TO {app};
-- kind grant_schema
GRANT CREATE ON SCHEMA [public|guardian] TO [{app}|PUBLIC];
-- kind grant_database
GRANT [CREATE|TEMPORARY] ON DATABASE {db} TO {app};
-- kind grant_global
GRANT [SELECT|TRUNCATE|REFERENCES] ON country TO {app};
-- kind write_global
GRANT [INSERT|UPDATE|DELETE] ON country TO {app};
-- kind grant_to_the_bound
GRANT [SELECT|UPDATE] ON {table} TO [{enter}|{registry}];
-- kind revoke_rows
REVOKE [SELECT|INSERT|UPDATE|DELETE|ALL] ON {table} FROM {app};
-- kind default_privileges
ALTER DEFAULT PRIVILEGES GRANT [SELECT|ALL] ON TABLES TO [{app}|PUBLIC];
-- kind grant_system_catalog
GRANT SELECT ON [pg_statistic|pg_authid|pg_user_mapping] TO {app};
-- kind grant_server_function
GRANT EXECUTE ON FUNCTION [pg_read_file(text)|pg_ls_dir(text)|pg_reload_conf()] TO {app};
-- kind grant_large_objects
GRANT EXECUTE ON FUNCTION [lo_get(oid)|lo_open(oid,integer)|lo_unlink(oid)] TO {app};
-- kind grant_signals
GRANT EXECUTE ON FUNCTION [pg_cancel_backend(int)|pg_terminate_backend(int,bigint)] TO {app};

-- kind drop_tenant_policy
DROP POLICY guardian_tenant ON {table};
-- kind drop_open_policy
DROP POLICY guardian_open ON {table};
-- kind tenant_policy_true
ALTER POLICY guardian_tenant ON {table} USING (true) WITH CHECK (true);
-- kind tenant_policy_check_true
ALTER POLICY guardian_tenant ON {table} WITH CHECK ([true|tenant_id IS NOT NULL]);
-- kind tenant_policy_or
ALTER POLICY guardian_tenant ON {table} USING ([tenant_id IS NOT NULL|current_setting('app.admin', true) = 'on'|current_setting('backtrace_functions') = ''] OR tenant_id = current_setting('backtrace_functions')::uuid);
-- kind tenant_policy_other_role
ALTER POLICY guardian_tenant ON {table} TO [{definer}|{enter}];
-- kind tenant_policy_settable
ALTER POLICY guardian_tenant ON {table} USING (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid) WITH CHECK (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid);
-- kind tenant_policy_rewritten
ALTER POLICY guardian_tenant ON {table} USING (tenant_id = (SELECT current_setting('backtrace_functions')::uuid)) WITH CHECK (tenant_id = current_setting('backtrace_functions')::uuid);
-- kind tenant_policy_permissive
DROP POLICY guardian_tenant ON {table}; DROP POLICY guardian_open ON {table};
CREATE POLICY own ON {table} USING (tenant_id = nullif(current_setting('backtrace_functions'), '')::uuid);
-- kind tenant_policy_one_command
DROP POLICY guardian_tenant ON {table};
CREATE POLICY part ON {table} AS RESTRICTIVE FOR [SELECT|UPDATE|DELETE] USING (tenant_id = nullif(current_setting('backtrace_functions'), '')::uuid);
-- kind more_permissive
CREATE POLICY more_{n} ON {table} FOR [ALL|SELECT|UPDATE|DELETE] USING ([true|tenant_id IS NOT NULL]);
-- kind more_restrictive
CREATE POLICY less_{n} ON {table} AS RESTRICTIVE USING ([tenant_id IS NOT NULL|true]);
-- kind rename_policy
ALTER POLICY guardian_tenant ON {table} RENAME TO "Whose; row {n}";
-- kind open_policy_narrowed
ALTER POLICY guardian_open ON {table} USING (tenant_id IS NOT NULL);

-- kind rls_off
ALTER TABLE {table} DISABLE ROW LEVEL SECURITY;
-- kind rls_not_forced
ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY;
-- kind rls_of_partition
ALTER TABLE {partition} [DISABLE|NO FORCE|ENABLE] ROW LEVEL SECURITY;
-- kind rls_of_global
ALTER TABLE country ENABLE ROW LEVEL SECURITY; CREATE POLICY p_{n} ON country FOR SELECT USING (true);

-- kind owner_of_table
ALTER TABLE {table} OWNER TO {app};
-- kind owner_of_table_others
ALTER TABLE {table} OWNER TO [{definer}|{enter}|{registry}];
-- kind owner_of_partition
ALTER TABLE {partition} OWNER TO {app};
-- kind owner_of_schema
ALTER SCHEMA [public|guardian] OWNER TO {app};
-- kind owner_of_view
ALTER VIEW open_ticket OWNER TO {app};
-- kind owner_of_stored
ALTER MATERIALIZED VIEW ticket_daily OWNER TO {app};
-- kind owner_of_function
ALTER FUNCTION {function} OWNER TO {app};
-- kind owner_of_definer_function
ALTER FUNCTION next_ticket_number() OWNER TO guardian_admin;
-- kind owner_of_sequence
ALTER SEQUENCE free_{n} OWNER TO {app};
-- first
CREATE SEQUENCE free_{n};
-- kind owner_of_database
ALTER DATABASE {db} OWNER TO {app};

-- kind owner_view
CREATE VIEW view_{n} AS SELECT * FROM {table}; GRANT SELECT ON view_{n} TO {app};
-- kind owner_view_not_granted
CREATE VIEW view_{n} AS SELECT * FROM {table};
-- kind invoker_view
CREATE VIEW view_{n} WITH (security_invoker = on) AS SELECT * FROM {table}; GRANT SELECT ON view_{n} TO {app};
-- kind counting_view
CREATE VIEW view_{n} AS SELECT count(*) AS n FROM {table}; GRANT SELECT ON view_{n} TO {app};
-- kind global_view
CREATE VIEW view_{n} AS SELECT * FROM country; GRANT SELECT ON view_{n} TO {app};
-- kind definer_view
CREATE VIEW view_{n} AS SELECT * FROM {table}; GRANT SELECT ON {table} TO {definer}; ALTER VIEW view_{n} OWNER TO {definer}; GRANT SELECT ON view_{n} TO {app};
-- kind view_loses_invoker
ALTER VIEW open_ticket [RESET (security_invoker)|SET (security_invoker = off)|SET (security_barrier = on)];
-- kind view_writable
CREATE VIEW view_{n} AS SELECT * FROM {table}; GRANT [INSERT|UPDATE|DELETE], SELECT ON view_{n} TO {app};
-- kind stored_view
CREATE MATERIALIZED VIEW stored_{n} AS SELECT tenant_id, count(*) FROM {table} GROUP BY 1; GRANT SELECT ON stored_{n} TO {app};
-- kind view_of_stored
CREATE VIEW view_{n} [|WITH (security_invoker = on)] AS SELECT * FROM ticket_daily; GRANT SELECT ON view_{n} TO {app};
-- kind nested_view
CREATE VIEW below_{n} AS SELECT * FROM {table}; CREATE VIEW view_{n} [|WITH (security_invoker = on)] AS SELECT * FROM below_{n}; GRANT SELECT ON view_{n} TO {app};
-- kind rule_on_global
GRANT UPDATE ON country TO {app}; CREATE RULE r_{n} AS ON UPDATE TO country DO ALSO DELETE FROM ticket_tag;

-- kind definer_function
CREATE FUNCTION f_{n}() RETURNS bigint LANGUAGE [sql|sql STABLE] SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS 'SELECT count(*) FROM public.{bare_table}'; GRANT EXECUTE ON FUNCTION f_{n}() TO {app};
-- kind definer_function_plpgsql
CREATE FUNCTION f_{n}() RETURNS SETOF uuid LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS 'BEGIN RETURN QUERY SELECT tenant_id FROM public.{bare_table}; END'; GRANT EXECUTE ON FUNCTION f_{n}() TO {app};
-- kind invoker_function
CREATE FUNCTION f_{n}() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM public.{bare_table}'; GRANT EXECUTE ON FUNCTION f_{n}() TO {app};
-- kind bound_definer_function
CREATE FUNCTION f_{n}() RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS 'SELECT count(*) FROM public.{bare_table}'; GRANT SELECT ON {table} TO {definer}; ALTER FUNCTION f_{n}() OWNER TO {definer}; GRANT EXECUTE ON FUNCTION f_{n}() TO {app};
-- kind function_becomes_definer
ALTER FUNCTION search_tickets(text, integer) SECURITY DEFINER;
-- kind function_loses_path
ALTER FUNCTION [next_ticket_number()|guardian.enter(bytea)|guardian.redeem(bytea)] RESET search_path;
-- kind trigger_becomes_definer
ALTER FUNCTION [touch_updated_at()|record_ticket_event()|note_new_messages()] SECURITY DEFINER;
-- kind leakproof
ALTER FUNCTION {function} LEAKPROOF;
-- kind leakproof_system
ALTER FUNCTION pg_catalog.[jsonb_contains(jsonb,jsonb)|textregexeq(text,text)] LEAKPROOF;
-- kind dynamic_sql
CREATE FUNCTION f_{n}(what text) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS 'DECLARE n bigint; BEGIN EXECUTE what INTO n; RETURN n; END'; GRANT EXECUTE ON FUNCTION f_{n}(text) TO {app};

-- kind unique_without_tenant
CREATE UNIQUE INDEX unique_{n} ON [ticket (number)|team (name)|contact (email)|api_key (label)|organization (lower(name))|attachment (file_name)];
-- kind unique_with_tenant
CREATE UNIQUE INDEX unique_{n} ON [ticket (number, tenant_id)|team (name, tenant_id)|api_key (tenant_id, label)];
-- kind foreign_key_without_tenant
CREATE UNIQUE INDEX unique_{n} ON ticket (id); ALTER TABLE ticket ADD CONSTRAINT by_id_{n} UNIQUE USING INDEX unique_{n}; ALTER TABLE [attachment|tag|sla_policy] ADD COLUMN of_{n} bigint REFERENCES ticket (id) [|ON DELETE CASCADE|ON DELETE SET NULL];
-- kind foreign_key_with_tenant
ALTER TABLE [attachment|tag|sla_policy] ADD COLUMN of_{n} uuid, ADD FOREIGN KEY (tenant_id, of_{n}) REFERENCES agent (tenant_id, id) [|ON DELETE SET NULL (of_{n})|ON DELETE CASCADE];
-- kind drop_index
DROP INDEX [ticket_inbox_idx|organization_tenant_idx|ticket_custom_idx];

-- kind bypassrls
-- once
ALTER ROLE {app} BYPASSRLS;
-- undo
ALTER ROLE {app} NOBYPASSRLS;
-- kind createrole
-- once
ALTER ROLE {app} [CREATEROLE|CREATEDB|REPLICATION];
-- undo
ALTER ROLE {app} NOCREATEROLE NOCREATEDB NOREPLICATION;
-- kind superuser
-- once
ALTER ROLE {app} SUPERUSER;
-- undo
ALTER ROLE {app} NOSUPERUSER;
-- kind member_of_system_role
-- once
GRANT [pg_read_all_data|pg_write_all_data|pg_read_server_files|pg_execute_server_program|pg_signal_backend|pg_monitor] TO {app};
-- undo
REVOKE pg_read_all_data, pg_write_all_data, pg_read_server_files, pg_execute_server_program, pg_signal_backend, pg_monitor FROM {app};
-- kind member_of_ours
-- once
GRANT [{definer}|{enter}|{registry}] TO {app};
-- undo
REVOKE {definer}, {enter}, {registry} FROM {app};
-- kind member_of_the_administrator
-- once
GRANT guardian_admin TO {app};
-- undo
REVOKE guardian_admin FROM {app};
-- kind others_become_it
-- once
GRANT {app} TO [{definer}|{enter}];
-- undo
REVOKE {app} FROM {definer}, {enter};
-- kind member_of_bypass
-- once
CREATE ROLE other_{n} NOLOGIN BYPASSRLS; GRANT SELECT ON {table} TO other_{n}; [ALTER ROLE {app} NOINHERIT;|] GRANT USAGE ON SCHEMA public TO other_{n}; GRANT other_{n} TO {app};
-- undo
ALTER ROLE {app} INHERIT; DROP OWNED BY other_{n}; DROP ROLE other_{n};
-- kind definer_bypasses
-- once
ALTER ROLE {definer} BYPASSRLS;
-- undo
ALTER ROLE {definer} NOBYPASSRLS;
-- kind grant_register
-- once
GRANT SET ON PARAMETER backtrace_functions TO [{app}|PUBLIC];
-- undo
REVOKE SET ON PARAMETER backtrace_functions FROM {app}, PUBLIC;
-- kind grant_parameter
-- once
GRANT SET ON PARAMETER [session_replication_role|log_statement|allow_system_table_mods] TO {app};
-- undo
REVOKE SET ON PARAMETER session_replication_role, log_statement, allow_system_table_mods FROM {app};
-- kind role_default
-- once
ALTER ROLE {app} SET [row_security = off|search_path = public|work_mem = '8MB'|backtrace_functions = 'x'];
-- undo
ALTER ROLE {app} RESET row_security; ALTER ROLE {app} RESET search_path; ALTER ROLE {app} RESET work_mem; ALTER ROLE {app} RESET backtrace_functions;

-- kind column_default
ALTER TABLE {table} ALTER tenant_id DROP DEFAULT;
-- kind partition_added
CREATE TABLE event_{n} PARTITION OF ticket_event FOR VALUES FROM ('[2030|2031|2032]-01-01 00:00+00') TO ('[2033|2034]-01-01 00:00+00');
-- kind partition_added_and_granted
CREATE TABLE event_{n} PARTITION OF ticket_event FOR VALUES FROM ('2030-01-01 00:00+00') TO ('2033-01-01 00:00+00'); GRANT [SELECT|UPDATE|INSERT] ON event_{n} TO {app};
-- kind partition_detached
ALTER TABLE ticket_event DETACH PARTITION ticket_event_default;
-- kind inherited
CREATE TABLE child_{n} () INHERITS ([agent|team|contact|tag]);
-- kind inherited_and_granted
CREATE TABLE child_{n} () INHERITS ([agent|team|contact|tag]); GRANT [SELECT|DELETE] ON child_{n} TO {app};

-- kind new_table
CREATE TABLE new_{n} (tenant_id uuid NOT NULL, note text); GRANT [SELECT|INSERT|UPDATE, SELECT|DELETE, SELECT] ON new_{n} TO {app};
-- kind new_table_not_granted
CREATE TABLE new_{n} (tenant_id uuid NOT NULL, note text);
-- kind new_table_protected
CREATE TABLE new_{n} (tenant_id uuid NOT NULL, id uuid NOT NULL, note text, PRIMARY KEY (tenant_id, id)); ALTER TABLE new_{n} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; CREATE POLICY own ON new_{n} USING (tenant_id = nullif(current_setting('backtrace_functions'), '')::uuid); GRANT SELECT, INSERT ON new_{n} TO {app};
-- kind new_table_without_policies
CREATE TABLE new_{n} (tenant_id uuid NOT NULL, note text); ALTER TABLE new_{n} ENABLE ROW LEVEL SECURITY; GRANT SELECT ON new_{n} TO {app};
-- kind new_table_of_a_parent
CREATE TABLE new_{n} (of_tenant uuid NOT NULL, of_team bigint NOT NULL, note text, FOREIGN KEY (of_tenant, of_team) REFERENCES team (tenant_id, id)); GRANT SELECT ON new_{n} TO {app};
-- kind new_table_quoted
CREATE SCHEMA "S {n}"; CREATE TABLE "S {n}"."New; --" (tenant_id uuid NOT NULL, note text); GRANT USAGE ON SCHEMA "S {n}" TO {app}; GRANT SELECT (note) ON "S {n}"."New; --" TO {app};
-- kind new_table_in_a_closed_schema
CREATE SCHEMA "S {n}"; CREATE TABLE "S {n}".notes (tenant_id uuid NOT NULL, note text); GRANT SELECT ON "S {n}".notes TO {app};
-- kind new_sequence
CREATE SEQUENCE seq_{n}; GRANT [SELECT|UPDATE|USAGE] ON SEQUENCE seq_{n} TO {app};
-- kind domain
CREATE DOMAIN word_{n} AS text; ALTER TABLE {table} ADD COLUMN word_{n} word_{n};
-- kind publication
CREATE PUBLICATION pub_{n} FOR ALL TABLES;
