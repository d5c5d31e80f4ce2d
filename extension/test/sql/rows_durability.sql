--
-- Durability: classes whose commits wait for another region.  Waiting itself: tests/t/465_sync.pl.
--
SET client_min_messages = error;
CREATE DATABASE regress_rows_durability;
\c regress_rows_durability
SET client_min_messages = error;
CREATE EXTENSION pg_tide;
\getenv dir PG_ABS_SRCDIR
\set lib :dir '/lib/try.sql'
\set ECHO none
\i :lib
\set ECHO all
CREATE VIEW triggers AS
	SELECT t.tgrelid::regclass || ': ' || t.tgname || ' ' || regexp_replace(pg_get_triggerdef(t.oid), '^.*? BEFORE (.*) ON .* FOR EACH (\w+) .*(\(.*\))$', '\1 \2 \3') AS trig
	FROM pg_trigger t WHERE t.tgfoid = 'tide._durability_note()'::regprocedure AND t.tgparentid = 0;
\set QUIET on
\pset format unaligned
\pset tuples_only on
SELECT tide.region_init('us-east'), tide.region_add('eu-west', 'dbname=x');

-- Options
SELECT options || ': ' || try(format('SELECT tide.class_create(%L, %L)', 'c', options))
	FROM unnest(ARRAY['{"scope": "global", "durability": "sync"}', '{"scope": "global", "durability": "sync", "peer": "mars"}',
		'{"scope": "global", "durability": "sync", "peer": 1}', '{"scope": "global", "peer": "eu-west"}',
		'{"scope": "global", "wait": 1}', '{"scope": "regional", "durability": "sync", "peer": "eu-west"}',
		'{"scope": "primary", "primary": "eu-west", "durability": "sync", "peer": "eu-west"}',
		'{"scope": "global", "durability": "sync", "peer": "eu-west", "wait": "soon"}',
		'{"scope": "global", "durability": "sync", "peer": "eu-west", "wait": 0}',
		'{"scope": "global", "durability": "sync", "peer": "eu-west", "wait": "2 days"}',
		'{"scope": "global", "durability": "sync", "peer": "eu-west", "wait": true}', '{"scope": "global", "durability": "quick"}']) options;
SELECT name FROM tide.class;
SET client_min_messages = warning;
SELECT tide.class_create('money', '{"scope": "global", "durability": "sync", "peer": "eu-west", "wait": "2 seconds"}');
SET client_min_messages = error;
SELECT tide.class_create('web', '{"scope": "global"}'),
	tide.class_create('ours', '{"scope": "global", "durability": "sync", "peer": "us-east", "wait": 0.5}');
SELECT name, durability, sync_peer, sync_wait FROM tide.class ORDER BY name;

-- Who waits: not the region that is waited for
CREATE TABLE ledger (id int PRIMARY KEY, v int);
CREATE TABLE clicks (id int PRIMARY KEY, v int);
CREATE TABLE own (id int PRIMARY KEY, v int);
CREATE TABLE parts (id int PRIMARY KEY, v int) PARTITION BY RANGE (id);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (10);
SELECT tide.table_add('ledger', 'money'), tide.table_add('parts', 'money'), tide.table_add('clicks', 'web'), tide.table_add('own', 'ours');
SELECT trig FROM triggers ORDER BY trig COLLATE "C";
SELECT command || ': ' || try(command)
	FROM unnest(ARRAY['INSERT INTO ledger VALUES (1, 1)', 'UPDATE ledger SET v = 0', 'DELETE FROM ledger', 'TRUNCATE ledger',
		'INSERT INTO parts VALUES (1, 1)', 'INSERT INTO parts_1 VALUES (1, 1)', 'TRUNCATE parts', 'TRUNCATE parts_1']) command;
INSERT INTO own VALUES (1, 1);
INSERT INTO clicks VALUES (1, 1);
-- A partition that comes later asks, too
CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (10) TO (20);
SELECT try('INSERT INTO parts_2 VALUES (10, 1)');
-- What comes by a link does not ask
SET session_replication_role = replica;
INSERT INTO ledger VALUES (7, 7);
RESET session_replication_role;
SELECT class, peer, wait, standby, listed, connected, state, lag, lag_bytes, waiting, waits, ended, last_ended FROM tide.durability;

-- Changing one's mind
SELECT object, change FROM tide.class_alter('money', '{"wait": null}', dry_run => true);
SELECT object, change FROM tide.class_alter('money', '{"wait": null}');
SELECT trig FROM triggers WHERE trig ~ '^(ledger|clicks)' ORDER BY trig COLLATE "C";
SELECT object, change FROM tide.class_alter('money', '{"durability": null, "peer": null}');
SELECT count(*) FROM triggers;
INSERT INTO ledger VALUES (1, 1);
SELECT object, change FROM tide.class_alter('web', '{"durability": "sync", "peer": "eu-west"}');
SELECT trig FROM triggers ORDER BY trig COLLATE "C";
SELECT tide.table_remove('clicks');
SELECT trig FROM triggers ORDER BY trig COLLATE "C";
SELECT tide.class_drop('web');
SELECT count(*) FROM triggers;

-- The function is for its own triggers
CREATE TRIGGER mine BEFORE INSERT ON clicks FOR EACH ROW EXECUTE FUNCTION tide._durability_note('a');
SELECT try('INSERT INTO clicks VALUES (2, 2)');
DROP TRIGGER mine ON clicks;
CREATE TRIGGER mine AFTER INSERT ON clicks FOR EACH ROW EXECUTE FUNCTION tide._durability_note();
SELECT try('INSERT INTO clicks VALUES (2, 2)');
SELECT try('SELECT tide._durability_note()');

\c postgres
SET client_min_messages = error;
DROP DATABASE regress_rows_durability;
