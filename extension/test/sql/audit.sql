--
-- Who changed what was set up.
--
SET client_min_messages = warning;
CREATE DATABASE regress_audit;
\c regress_audit
SET client_min_messages = warning;
CREATE EXTENSION pg_tide;
CREATE ROLE regress_audit_admin IN ROLE tide_admin;
\pset format unaligned
\pset tuples_only on
SELECT tide.region_init('us-east'), tide.region_add('eu-west', 'dbname=x');
CREATE TABLE t (id int PRIMARY KEY);
CREATE VIEW seen AS SELECT role = session_user AS me, application IS NOT NULL AS named, action, object, CASE WHEN action = 'change' THEN detail END AS changes FROM tide.audit ORDER BY id;
SELECT tide.class_create('c', '{"scope": "global"}'), tide.class_create('c', '{"scope": "global"}');
SELECT tide.table_add('t', 'c'), tide.table_add('t', 'c');
SELECT * FROM tide.class_alter('c', '{"slo": 9}');
SELECT * FROM tide.class_alter('c', '{"slo": 10}', dry_run => true);
SELECT tide.link_add('eu-west'), tide.link_add('eu-west'), tide.link_pause('eu-west'), tide.link_resync('eu-west'), tide.link_remove('eu-west', force => true);
SELECT tide.table_remove('t'), tide.class_drop('c'), tide.region_remove('eu-west');
SELECT tide.outbox_create('o'), tide.relay_set_outbox('p', 'o', '{"sink_type": "nats", "url": "nats://x:4222", "stream": "S"}'), tide.relay_disable('p'), tide.relay_delete('p'), tide.outbox_drop('o');
SELECT tide.inbox_create('i'), tide.inbox_alter('i', 3), tide.inbox_drop('i');
SELECT * FROM seen;
-- A superuser's own hand is seen, too, and what relays write is not
UPDATE tide.local_region SET name = 'elsewhere';
SELECT object, detail FROM tide.audit ORDER BY id DESC LIMIT 1;
-- Nobody but the extension writes here
SET ROLE regress_audit_admin;
SELECT count(*) > 10 FROM tide.audit;
DELETE FROM tide.audit;
INSERT INTO tide.audit (role, action, object, detail) VALUES ('x', 'drop', 'y', '{}');
RESET ROLE;
-- Kept for 90 days
UPDATE tide.audit SET at = at - interval '91 days' WHERE object LIKE 'class%';
SELECT tide.maintain() ? 'errors';
SELECT count(*) FILTER (WHERE object LIKE 'class%'), count(*) > 10 FROM tide.audit;
DROP ROLE regress_audit_admin;
\c postgres
DROP DATABASE regress_audit;
