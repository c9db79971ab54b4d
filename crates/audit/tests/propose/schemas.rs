//! Schemas as applications have them, with rows of two tenants whose owner each row's text names.

/// A help desk on bigint keys, whose children know nothing of the tenant.
pub(crate) const HELPDESK: &str = "
CREATE TABLE countries (code text PRIMARY KEY, name text NOT NULL UNIQUE);
CREATE TABLE accounts (id bigserial PRIMARY KEY, name text NOT NULL UNIQUE, country text REFERENCES countries);
CREATE TABLE users (id bigserial PRIMARY KEY, account_id bigint NOT NULL REFERENCES accounts ON DELETE CASCADE,
  email text NOT NULL UNIQUE);
CREATE TABLE tickets (id bigserial PRIMARY KEY, account_id bigint NOT NULL REFERENCES accounts (id) DEFERRABLE,
  requester_id bigint REFERENCES users ON DELETE SET NULL, merged_into bigint REFERENCES tickets, subject text NOT NULL);
CREATE TABLE messages (id bigserial PRIMARY KEY, ticket_id bigint NOT NULL REFERENCES tickets ON DELETE CASCADE,
  author_id bigint REFERENCES users, body text NOT NULL);
CREATE TABLE attachments (id bigserial PRIMARY KEY, message_id bigint NOT NULL REFERENCES messages, path text NOT NULL);
CREATE TABLE tags (id bigserial PRIMARY KEY, account_id bigint NOT NULL REFERENCES accounts, label text NOT NULL,
  UNIQUE (account_id, label));
CREATE TABLE ticket_tags (ticket_id bigint NOT NULL REFERENCES tickets, tag_id bigint NOT NULL REFERENCES tags,
  PRIMARY KEY (ticket_id, tag_id));
CREATE TABLE audit_log (id bigserial PRIMARY KEY, user_id bigint NOT NULL REFERENCES users, what text NOT NULL);
CREATE TABLE schema_migrations (version text PRIMARY KEY);
INSERT INTO countries VALUES ('DE', 'Germany'), ('FR', 'France');
INSERT INTO accounts (name, country) VALUES ('a', 'DE'), ('b', 'FR');
INSERT INTO users (account_id, email) SELECT a.id, a.name || n FROM accounts AS a, generate_series(1, 3) AS n;
INSERT INTO tickets (account_id, requester_id, subject)
  SELECT u.account_id, u.id, a.name FROM users AS u JOIN accounts AS a ON a.id = u.account_id, generate_series(1, 20);
INSERT INTO messages (ticket_id, author_id, body) SELECT id, requester_id, subject FROM tickets, generate_series(1, 5);
INSERT INTO attachments (message_id, path) SELECT id, body FROM messages;
INSERT INTO tags (account_id, label) SELECT id, name FROM accounts;
INSERT INTO ticket_tags SELECT t.id, g.id FROM tickets AS t JOIN tags AS g USING (account_id);
INSERT INTO audit_log (user_id, what) SELECT id, left(email, 1) FROM users;";

/// UUID keys, a chain of parents, a parent that is optional, and two optional parents of which each row has one.
pub(crate) const CHAIN: &str = "
CREATE TABLE organization (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), slug text NOT NULL UNIQUE);
CREATE TABLE project (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), organization_id uuid NOT NULL REFERENCES organization,
  title text NOT NULL);
CREATE TABLE board (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), project_id uuid NOT NULL REFERENCES project,
  title text NOT NULL);
CREATE TABLE card (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), board_id uuid NOT NULL REFERENCES board,
  parent_id uuid REFERENCES card, title text NOT NULL);
CREATE TABLE comment (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), card_id uuid REFERENCES card,
  board_id uuid REFERENCES board, title text NOT NULL, CHECK ((card_id IS NULL) <> (board_id IS NULL)));
INSERT INTO organization (slug) VALUES ('a'), ('b');
INSERT INTO project (organization_id, title) SELECT id, slug FROM organization;
INSERT INTO board (project_id, title) SELECT id, title FROM project, generate_series(1, 2);
INSERT INTO card (board_id, title) SELECT id, title FROM board, generate_series(1, 10);
INSERT INTO comment (card_id, title) SELECT id, title FROM card;
INSERT INTO comment (board_id, title) SELECT id, title FROM board;";

/// Text keys, under the column's own name in the tenants' table.
pub(crate) const TEXT: &str = "
CREATE TABLE tenants (tenant varchar(40) PRIMARY KEY, plan text);
CREATE TABLE invoices (id integer PRIMARY KEY, tenant varchar(40) NOT NULL REFERENCES tenants (tenant) ON UPDATE CASCADE,
  who text NOT NULL);
CREATE TABLE invoice_lines (invoice_id integer NOT NULL REFERENCES invoices, line smallint NOT NULL, who text NOT NULL,
  PRIMARY KEY (invoice_id, line));
INSERT INTO tenants VALUES ('a'), ('b');
INSERT INTO invoices SELECT row_number() OVER (), tenant, tenant FROM tenants, generate_series(1, 5);
INSERT INTO invoice_lines SELECT id, n, who FROM invoices, generate_series(1, 4) AS n;";

/// Names in mixed case and worse, and integer keys.
pub(crate) const MIXED_CASE: &str = r#"
CREATE TABLE "Company" ("Id" integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "Name" text NOT NULL);
CREATE TABLE "Order" ("Id" integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  "companyId" integer NOT NULL REFERENCES "Company" ("Id"), who text NOT NULL);
CREATE TABLE "Order Line's ""x""" ("orderId" integer NOT NULL REFERENCES "Order" ("Id"), "No" integer, who text NOT NULL,
  CONSTRAINT "pk of $guardian$" PRIMARY KEY ("orderId", "No"));
INSERT INTO "Company" ("Name") VALUES ('a'), ('b');
INSERT INTO "Order" ("companyId", who) SELECT "Id", "Name" FROM "Company", generate_series(1, 3);
INSERT INTO "Order Line's ""x""" SELECT "Id", n, who FROM "Order", generate_series(1, 3) AS n;"#;

/// Composite foreign keys, of which one is the only way to the tenant.
pub(crate) const COMPOSITE: &str = "
CREATE TABLE customers (id bigint PRIMARY KEY, name text);
CREATE TABLE contracts (customer_id bigint NOT NULL REFERENCES customers, number integer NOT NULL, who text,
  PRIMARY KEY (customer_id, number));
CREATE TABLE sites (site text NOT NULL, floor integer NOT NULL, customer_id bigint NOT NULL REFERENCES customers, who text,
  PRIMARY KEY (site, floor));
CREATE TABLE meters (id bigint PRIMARY KEY, site text NOT NULL, floor integer NOT NULL, who text,
  FOREIGN KEY (site, floor) REFERENCES sites (site, floor));
CREATE TABLE readings (meter_id bigint NOT NULL REFERENCES meters, day date NOT NULL, who text,
  PRIMARY KEY (meter_id, day));
INSERT INTO customers VALUES (1, 'a'), (2, 'b');
INSERT INTO contracts SELECT id, n, name FROM customers, generate_series(1, 3) AS n;
INSERT INTO sites SELECT name || n, n, id, name FROM customers, generate_series(1, 3) AS n;
INSERT INTO meters SELECT row_number() OVER (), site, floor, who FROM sites;
INSERT INTO readings SELECT id, d, who FROM meters, generate_series(date '2024-01-01', '2024-01-05', '1 day') AS d;";

/// A partitioned table below a plain one, one with a key of its own on a partition, and an inheritance child.
pub(crate) const PARTITIONED: &str = "
CREATE TABLE tenants (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), name text);
CREATE TABLE devices (id bigint PRIMARY KEY, tenant_id uuid NOT NULL REFERENCES tenants, who text);
CREATE TABLE events (device_id bigint NOT NULL REFERENCES devices, at date NOT NULL, who text, PRIMARY KEY (device_id, at))
  PARTITION BY RANGE (at);
CREATE TABLE events_2023 PARTITION OF events FOR VALUES FROM ('2023-01-01') TO ('2024-01-01');
CREATE TABLE events_2024 PARTITION OF events FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE alarms (tenant_id uuid NOT NULL REFERENCES tenants, at date NOT NULL, who text) PARTITION BY LIST (at);
CREATE TABLE alarms_rest PARTITION OF alarms DEFAULT;
CREATE TABLE notes (id bigint PRIMARY KEY, device_id bigint NOT NULL REFERENCES devices, who text);
CREATE TABLE old_notes () INHERITS (notes);
INSERT INTO tenants (name) VALUES ('a'), ('b');
INSERT INTO devices SELECT row_number() OVER (), id, name FROM tenants, generate_series(1, 4);
INSERT INTO events SELECT id, d, who FROM devices, generate_series(date '2023-12-20', '2024-01-10', '1 day') AS d;
INSERT INTO alarms SELECT tenant_id, '2024-01-01', who FROM devices;
INSERT INTO notes SELECT id, id, who FROM devices;
INSERT INTO old_notes SELECT id + 100, id, who FROM devices;";

/// Tenants' tables in two schemas.
pub(crate) const SCHEMAS: &str = "
CREATE SCHEMA core; CREATE SCHEMA billing;
CREATE TABLE core.accounts (id bigint PRIMARY KEY, name text);
CREATE TABLE core.users (id bigint PRIMARY KEY, account_id bigint NOT NULL REFERENCES core.accounts, who text);
CREATE TABLE core.sessions (id bigint PRIMARY KEY, user_id bigint NOT NULL REFERENCES core.users, who text);
CREATE TABLE billing.invoices (id bigint PRIMARY KEY, account_id bigint NOT NULL REFERENCES core.accounts, who text);
CREATE TABLE billing.users (id bigint PRIMARY KEY, user_id bigint NOT NULL REFERENCES core.users, who text);
INSERT INTO core.accounts VALUES (1, 'a'), (2, 'b');
INSERT INTO core.users SELECT id, id, name FROM core.accounts;
INSERT INTO core.sessions SELECT id, id, who FROM core.users;
INSERT INTO billing.invoices SELECT id, id, name FROM core.accounts;
INSERT INTO billing.users SELECT id, id, who FROM core.users;";

/// No foreign keys at all, as some frameworks leave it.
pub(crate) const NAMES_ONLY: &str = "
CREATE TABLE workspaces (id bigint PRIMARY KEY, name text);
CREATE TABLE projects (id bigint PRIMARY KEY, workspace_id bigint NOT NULL, who text);
CREATE TABLE tasks (id bigint PRIMARY KEY, project_id bigint NOT NULL, who text);
INSERT INTO workspaces VALUES (1, 'a'), (2, 'b');
INSERT INTO projects SELECT id, id, name FROM workspaces;
INSERT INTO tasks SELECT n * 10 + id, id, who FROM projects, generate_series(1, 4) AS n;";
