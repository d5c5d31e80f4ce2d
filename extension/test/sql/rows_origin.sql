--
-- What an origin tells: who it is, what it publishes and how that is read, heartbeats, the publisher on a broker.
--
SET client_min_messages = warning;
CREATE DATABASE regress_rows_origin;
\c regress_rows_origin
SET client_min_messages = warning;
CREATE EXTENSION pg_tide;
\getenv dir PG_ABS_SRCDIR
\set lib :dir '/lib/try.sql'
\set ECHO none
\i :lib
\set ECHO all
\pset format unaligned
\pset tuples_only on

SELECT region = tide.region_name(), system_id = (pg_control_system()).system_identifier,
	timeline = (pg_control_checkpoint()).timeline_id, wal_level, in_recovery, wal_end <= pg_current_wal_insert_lsn(),
	version = current_setting('server_version_num')::int FROM tide.rows_identify();
SELECT count(*) FROM pg_publication;
SELECT tide.region_init('us-east');
SELECT region FROM tide.rows_identify();
SELECT pubname, pubinsert, pubupdate, pubdelete, pubtruncate, pubviaroot FROM pg_publication ORDER BY 1;

-- Tables: which columns, and in which form they can be read elsewhere
CREATE TYPE mood AS ENUM ('sad', 'ok');
CREATE TYPE pair AS (a int, b text);
CREATE DOMAIN posint AS int CHECK (VALUE > 0);
CREATE DOMAIN mood_domain AS mood;
CREATE DOMAIN pairs AS pair[];
CREATE TYPE floatrange AS RANGE (subtype = float8);
CREATE TYPE moodrange AS RANGE (subtype = mood);
CREATE TYPE pairrange AS RANGE (subtype = pair);
SELECT t, tide._binary_portable(t::regtype) FROM unnest('{int,text,numeric,jsonb,bytea,"timestamp with time zone",uuid,xml,inet,tsvector,bit,"int[]","text[]",
	"numeric[]",int4range,int4multirange,"int4range[]",tide.stamp,mood,posint,mood_domain,floatrange,floatmultirange,moodrange}'::text[]) t
	WHERE NOT tide._binary_portable(t::regtype);
SELECT t, tide._binary_portable(t::regtype) FROM unnest('{regclass,regtype,"regrole[]",aclitem,"aclitem[]",pair,"pair[]",pairs,"mood[]","posint[]","floatrange[]",
	"tide.stamp[]",pairrange,"pg_class"}'::text[]) t
	WHERE tide._binary_portable(t::regtype);
SELECT tide.class_create('shop', '{"scope": "global"}'), tide.class_create('here', '{"scope": "regional"}');
CREATE TABLE plain (gone int, id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY, v varchar(20), m mood, n numeric(10, 2)[],
	twice bigint GENERATED ALWAYS AS (id * 2) STORED, "odd "" name" posint);
ALTER TABLE plain DROP COLUMN gone;
CREATE TABLE arrays (id int PRIMARY KEY, moods mood[]);
CREATE TABLE parts (id int PRIMARY KEY) PARTITION BY RANGE (id);
CREATE TABLE part_1 PARTITION OF parts FOR VALUES FROM (0) TO (10);
CREATE TABLE part_2 PARTITION OF parts FOR VALUES FROM (10) TO (20);
CREATE TABLE logs (line text);
CREATE TABLE private (id int PRIMARY KEY);
CREATE SCHEMA "odd "" schema";
CREATE TABLE "odd "" schema"."odd "" tablé" (id int PRIMARY KEY);
CREATE TABLE nothing_else (id int PRIMARY KEY);
CREATE TABLE parent (id int PRIMARY KEY);
CREATE TABLE child () INHERITS (parent);
INSERT INTO parts SELECT n FROM generate_series(0, 19) n;
INSERT INTO plain (v) SELECT 'x' FROM generate_series(1, 100);
INSERT INTO parent VALUES (1);
INSERT INTO child VALUES (2);
SELECT tide.table_add(t::regclass, 'shop') FROM unnest(ARRAY['plain', 'arrays', 'parts', '"odd "" schema"."odd "" tablé"', 'parent']) t;
SELECT tide.table_add('logs', 'shop', '{"insert_only": true}'), tide.table_add('private', 'here');
ANALYZE;
SELECT schema_name, table_name, class, insert_only, columns, types, format, copy_sql, rows_estimate, bytes >= 0 FROM tide.rows_tables();
-- the copy has this region's rows, not those that came from elsewhere
SET session_replication_role = replica;
UPDATE parts SET tide_stamp = '5@00000001' WHERE id IN (3, 13);
UPDATE parts SET tide_stamp = NULL WHERE id IN (4, 14);
RESET session_replication_role;
CREATE ROLE regress_rows_relay IN ROLE tide_relay;
SET ROLE regress_rows_relay;
SELECT replace(copy_sql, '(FORMAT binary)', '(FORMAT csv)') AS copy FROM tide.rows_tables() WHERE table_name = 'parts' \gset
:copy;
SELECT replace(copy_sql, '(FORMAT binary)', '(FORMAT csv)') AS copy FROM tide.rows_tables() WHERE table_name = 'parent' \gset
:copy;
SELECT copy_sql AS copy FROM tide.rows_tables() WHERE table_name = 'arrays' \gset
:copy;
RESET ROLE;

-- Heartbeats: a transaction of their own, with the time
SELECT slot_name FROM pg_create_logical_replication_slot('regress_rows_origin', 'test_decoding');
SET ROLE regress_rows_relay;
SELECT tide.rows_heartbeat() AS lsn \gset
SELECT active, plugin, wal_status, confirmed IS NOT NULL, restart IS NOT NULL, retained_bytes > 0, safe_bytes FROM tide.rows_slot('regress_rows_origin');
SELECT count(*) FROM tide.rows_slot('nope');
RESET ROLE;
SELECT data ~ '^message: transactional: 1 prefix: tide, sz: 13 content:H' FROM pg_logical_slot_peek_changes('regress_rows_origin', NULL, NULL) WHERE data ~ 'prefix: tide';
SELECT lsn >= :'lsn' FROM pg_logical_slot_peek_binary_changes('regress_rows_origin', NULL, NULL, 'include-xids', 'off') WHERE encode(data, 'escape') ~ 'prefix: tide';
DO $$ BEGIN PERFORM pg_drop_replication_slot('regress_rows_origin'); END $$;

-- A publisher on a broker, for whoever wants it
SELECT try($$SELECT tide.rows_announce('us-east', NULL, 'nats', '{}')$$);
SELECT try($$SELECT tide.rows_announce('eu-west', NULL, 'pigeon', '{}')$$);
SELECT try($$SELECT tide.rows_announce('eu-west', NULL, 'kafka', '{}')$$);
SELECT try($$SELECT tide.rows_announce('eu west', NULL, 'nats', '{}')$$);
SELECT try($$SELECT tide.rows_announce(NULL, NULL, 'nats', '{}')$$) ~ '^22004';
SELECT count(*) FROM tide.rows_publisher;
SET ROLE regress_rows_relay;
SELECT tide.rows_announce('eu-west', NULL, 'nats', '{"url": "nats://eu"}');
RESET ROLE;
SELECT transport, options, slot = 'tide_rows_' || (SELECT oid FROM pg_database WHERE datname = current_database()) FROM tide.rows_publisher;
SELECT p.name, p.direction, p.target, p.config - 'slot' AS config, p.state, p.lag FROM tide.pipelines p;
SELECT d.region, d.position = s.confirmed FROM tide.rows_destination d, tide.rows_publisher p, tide.rows_slot(p.slot) s;
SELECT plugin, temporary, database = current_database() FROM pg_replication_slots WHERE slot_name ~ '^tide_rows';
-- alone it may bring other options, beside others not
SELECT tide.rows_announce('eu-west', NULL, 'nats', '{"url": "nats://eu2"}');
SELECT options FROM tide.rows_publisher;
SELECT tide.rows_announce('ap-east', NULL, 'nats', '{"url": "nats://ap"}');
SELECT options, (SELECT array_agg(region ORDER BY region) FROM tide.rows_destination) FROM tide.rows_publisher;
-- what is no longer kept is said
SELECT regexp_replace(try($$SELECT tide.rows_announce('eu-west', '0/1', 'nats', '{}')$$), '[0-9A-F]+/[0-9A-F]+ is', 'X is');
SELECT try($$SELECT tide.relay_delete('rows:publish')$$);
-- the publisher's relay: no further than the slowest
SELECT tide.relay_acquire('rows:publish', 'a relay') AS e \gset
SELECT slot ~ '^tide_rows_', transport, options, position = (SELECT min(position) FROM tide.rows_destination), destinations FROM tide.relay_rows('rows:publish', :e);
SELECT try($$SELECT * FROM tide.relay_rows('rows:publish', 99)$$) ~ '^TD001';
SELECT tide.relay_rows_confirm('rows:publish', :e, 'eu-west', 'F/10') < 'F/0', tide.relay_rows_confirm('rows:publish', :e, 'ap-east', 'F/8');
SELECT tide.relay_rows_confirm('rows:publish', :e, 'ap-east', '0/1'), tide.relay_rows_confirm('rows:publish', :e, 'atlantis', '0/1'),
	tide.relay_rows_confirm('rows:publish', :e, 'ap-east', 'F/20');
SELECT try($$SELECT tide.relay_rows_confirm('rows:publish', 99, 'eu-west', 'F/10')$$) ~ '^TD001';
-- each leaves by itself; with the last all of it goes
SELECT tide.rows_leave('ap-east'), tide.rows_leave('atlantis');
SELECT position, destinations FROM tide.relay_rows('rows:publish', :e);
SELECT tide.rows_leave('eu-west');
SELECT (SELECT count(*) FROM tide.rows_publisher), (SELECT count(*) FROM tide.pipeline), (SELECT count(*) FROM pg_replication_slots);
-- a stream for one region alone: a publisher and a slot of its own
SELECT tide.rows_announce('eu-west', NULL, 'nats', '{"url": "nats://eu"}');
SELECT tide.rows_announce('ap-east', NULL, 'nats', '{"url": "nats://ap", "own_stream": true}');
SELECT pipeline, destination, options, slot = tide._publisher_slot(destination) FROM tide.rows_publisher ORDER BY 1;
SELECT region, pipeline FROM tide.rows_destination ORDER BY 1;
SELECT regexp_replace(slot::text, '[0-9]+', 'N'), s.region, lane FROM tide.slots s WHERE slot ~ '^tide_rows' ORDER BY slot;
SELECT tide.relay_acquire('rows:publish', 'a relay') AS e, tide.relay_acquire('rows:publish:ap-east', 'a relay') AS own \gset
SELECT destination, destinations, position = (SELECT position FROM tide.rows_destination WHERE region = 'ap-east') FROM tide.relay_rows('rows:publish:ap-east', :own);
SELECT destination, destinations FROM tide.relay_rows('rows:publish', :e);
SELECT tide.relay_rows_confirm('rows:publish', :e, 'ap-east', 'F/20') < 'F/0', tide.relay_rows_confirm('rows:publish:ap-east', :own, 'ap-east', 'F/20');
-- what came by the stream for all was less, so there is no going on; from now on there is
SELECT try(format($$SELECT tide.rows_announce('eu-west', %L, 'nats', '{"own_stream": true}')$$, pg_current_wal_lsn() + 1000000));
SELECT tide.rows_announce('eu-west', NULL, 'nats', '{"own_stream": true}');
SELECT pipeline FROM tide.rows_publisher ORDER BY 1;
SELECT name FROM tide.pipelines ORDER BY 1;
SELECT tide.maintain() ? 'errors';
SELECT count(*) FROM pg_replication_slots;
-- the other way nothing is missed
SELECT tide.rows_announce('ap-east', 'F/20', 'nats', '{"url": "nats://ap"}');
SELECT region, pipeline, position = 'F/20' FROM tide.rows_destination ORDER BY 1;
SELECT tide.rows_leave('eu-west'), tide.rows_leave('ap-east');
SELECT (SELECT count(*) FROM tide.rows_publisher), (SELECT count(*) FROM tide.pipeline), (SELECT count(*) FROM pg_replication_slots);
-- a slot that nobody needs and nobody reads is dropped by maintain
SELECT slot_name ~ '^tide_rows' FROM pg_create_logical_replication_slot(tide._publisher_slot(), 'pgoutput');
SELECT tide.maintain() ? 'errors';
SELECT count(*) FROM pg_replication_slots;
DROP ROLE regress_rows_relay;
\c contrib_regression
DROP DATABASE regress_rows_origin;
