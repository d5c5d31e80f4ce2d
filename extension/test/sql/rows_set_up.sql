--
-- Regions and links: adding, changing, removing; what the relay at the destination asks and tells.
--
SET client_min_messages = warning;
CREATE DATABASE regress_rows_set_up;
\c regress_rows_set_up
SET client_min_messages = warning;
CREATE EXTENSION pg_tide;
\getenv dir PG_ABS_SRCDIR
\set lib :dir '/lib/try.sql'
\set ECHO none
\i :lib
\set ECHO all
\pset format unaligned
\pset tuples_only on

-- Regions
SELECT try($$SELECT tide.link_add('eu-west')$$);
SELECT tide.region_add('early', 'host=e');
SELECT try($$SELECT tide.region_init('early')$$);
SELECT tide.region_init('us-east'), tide.region_init('us-east');
SELECT try($$SELECT tide.region_init('other')$$);
SELECT try(format('SELECT tide.region_add(%L, %L)', name, 'host=h'))
	FROM unnest(ARRAY[NULL, '', 'a b', 'us-east', repeat('x', 64), 'x"y', 'tab' || chr(9)]) name;
SELECT m ~ 'hunter2' AS shown, m FROM unnest(ARRAY[NULL, '', 'host=h password=hunter2', 'postgresql://me:hunter2@h/db', 'host', 'file:relative',
	repeat('x', 5000)]) c, LATERAL try(format('SELECT tide.region_add(%L, %L)', 'eu-west', c)) m;
SELECT tide.region_add('eu-west', 'host=eu dbname=app'), tide.region_add(repeat('r', 63), 'env:CONNINFO'), tide.region_add('Eu_West', 'file:/etc/tide/conninfo');
SELECT tide.region_add('eu-west', 'host=eu dbname=app');
SELECT name, to_hex(region_id), conninfo FROM tide.region ORDER BY name;
-- two names with one number (found by trying): never both
SELECT tide.region_id('costarring') = tide.region_id('liquid') AS same;
SELECT tide.region_add('costarring', 'host=h');
SELECT try($$SELECT tide.region_add('liquid', 'host=h')$$);
SELECT tide.region_remove('costarring'), tide.region_add('liquid', 'host=h'), tide.region_remove('liquid'), tide.region_remove('early');
SELECT try($$SELECT tide.region_remove('atlantis')$$);
SELECT try($$SELECT tide.region_remove(NULL)$$);

-- Links: options
SELECT try($$SELECT tide.link_add('atlantis')$$);
SELECT try($$SELECT tide.link_add(NULL)$$);
SELECT try($$SELECT tide.link_add('us-east')$$);
SELECT o || ': ' || split_part(try(format('SELECT tide.link_add(%L, %L)', 'eu-west', o)), E'\n', 1)
	FROM unnest(ARRAY['[]', '"direct"', '{"transport": "pigeon"}', '{"transport": "kafka"}', '{"transport": 5}', '{"transprt": "direct"}',
		'{"copy": "yes"}', '{"copy_workers": 0}', '{"max_frame": 1}', '{"compression": 20}', '{"resync": "perhaps"}', '{"paused": 1}',
		'{"url": "nats://h"}', '{"transport": "nats"}', '{"transport": "nats", "url": "http://h"}',
		'{"transport": "nats", "url": "nats://h", "stream": "a.b"}', '{"transport": "nats", "url": "nats://h", "domain": "d", "peer_domain": "d"}',
		'{"transport": "nats", "url": "nats://h", "token": "hunter2"}', '{"transport": "nats", "url": "nats://h", "user": "u"}',
		'{"batch_size": 5}', '{"slot": "mine"}', '{"copy": null}']) o;
SELECT try($$SELECT tide.link_add('eu-west', NULL)$$);
SELECT try($$SELECT tide.link_add('eu-west', '{"transprt": "direct"}')$$);
SELECT count(*) FROM tide.link;

-- A link and its pipeline
SELECT tide.link_add('eu-west');
SELECT region, transport, state, position, lag, last_error, tables_copied, tables_total, parked, resyncs, slot, copy, phase, removing, options FROM tide.links;
SELECT name, direction, target, config, enabled FROM tide.pipeline;
SELECT count(*) FROM tide.pipelines;
SELECT version AS v FROM tide.pipeline \gset
-- the same again disturbs nobody; anything else is noticed
SELECT tide.link_add('eu-west', '{}'), tide.link_add('eu-west', '{"transport": "direct", "copy": true}'), tide.region_add('eu-west', 'host=eu dbname=app');
SELECT version = :v AS undisturbed FROM tide.pipeline;
SELECT tide.link_add('eu-west', '{"copy_workers": 4, "compression": 1, "resync": "manual"}');
SELECT version > :v AS noticed, config FROM tide.pipeline;
SELECT options FROM tide.link;
SELECT version AS v FROM tide.pipeline \gset
SELECT tide.region_add('eu-west', 'host=moved');
SELECT version > :v AS noticed, config ->> 'conninfo' FROM tide.pipeline;
SELECT tide.link_add('eu-west', '{"paused": true}');
SELECT state, options FROM tide.links;
SELECT tide.link_add('eu-west');
SELECT state FROM tide.links;
SELECT tide.link_pause('eu-west'), tide.link_pause('eu-west');
SELECT state FROM tide.links;
SELECT tide.region_add('eu-west', 'host=eu');
SELECT state FROM tide.links;
SELECT tide.link_resume('eu-west');
SELECT state FROM tide.links;
SELECT try($$SELECT tide.link_add('eu-west', '{"transport": "nats", "url": "nats://h"}')$$);
SELECT split_part(try(format('SELECT tide.%s(%L)', f, r)), E'\n', 1)
	FROM unnest(ARRAY['link_remove', 'link_pause', 'link_resume', 'link_resync']) f, unnest(ARRAY['atlantis', NULL]) r;
SELECT try($$SELECT tide.link_remove('atlantis')$$);
-- the pipeline is not for the hands
SELECT try($$SELECT tide.relay_delete('link:eu-west')$$);
SELECT try($$SELECT tide.relay_set_outbox('link:eu-west', 'x', '{}')$$);
SELECT try($$SELECT tide.region_remove('eu-west')$$);
-- slots are named after both regions, in what a slot's name may hold
SELECT tide._link_slot('us-east', 'eu-west'), tide._link_slot('Us_East', 'eu-west'), length(tide._link_slot(repeat('X', 63), repeat('y', 63)));

-- The relay
SELECT tide.class_create('shop', '{"scope": "global"}'), tide.class_create('here', '{"scope": "regional"}');
CREATE TABLE t (id int PRIMARY KEY);
CREATE TABLE private (id int PRIMARY KEY);
CREATE SCHEMA "odd "" one";
CREATE TABLE "odd "" one"."t able" (id int PRIMARY KEY);
SELECT tide.table_add('t', 'shop'), tide.table_add('private', 'here');
SELECT try($$SELECT * FROM tide.relay_link('link:eu-west', 1)$$);
SELECT tide.relay_acquire('link:eu-west', 'a relay') AS e \gset
SELECT region, conninfo, transport, slot, copy, phase, removing, position, system_id, timeline, options FROM tide.relay_link('link:eu-west', :e);
SELECT count(*) FROM pg_replication_origin o, pg_database d WHERE d.datname = current_database() AND o.roname ~ format('^tide_%s[_#]', d.oid);
SELECT try($$SELECT * FROM tide.relay_link('link:eu-west', 99)$$);
SELECT try($$SELECT * FROM tide.relay_link('link:atlantis', 1)$$) ~ '^TD001';
SELECT try($$SELECT * FROM tide.relay_link(NULL, NULL)$$) ~ '^TD001';
SELECT * FROM tide.relay_link_tables('link:eu-west', :e);
SELECT tide.relay_set_state('link:eu-west', :e, 'running', NULL, NULL);
SELECT state, tables_copied, tables_total FROM tide.links;
SELECT try(format($$SELECT tide.relay_link_phase('link:eu-west', %s, 'lost')$$, :e));
SELECT try(format($$SELECT tide.relay_link_phase('link:eu-west', %s, NULL)$$, :e)) ~ '^22023';
SELECT tide.relay_link_begin('link:eu-west', :e, '0/1000', 77, 3), tide.relay_link_phase('link:eu-west', :e, 'copying');
SELECT try(format($$SELECT tide.relay_link_begin('link:eu-west', %s, '0/2000', 77, 3)$$, :e));
SELECT position, system_id, timeline, phase FROM tide.relay_link('link:eu-west', :e);
SELECT tide.relay_link_copying('link:eu-west', :e, 'public', 't', 10, 1000, 40), tide.relay_link_copying('link:eu-west', :e, 'public', 'nope', 1, 1, 1);
SELECT state, tables_copied, tables_total, rows_copied, rows_to_copy, bytes_copied FROM tide.links;
SELECT table_name, state, started_at IS NOT NULL AS started FROM tide.link_table;
UPDATE tide.link_table SET state = 'copied', copied_lsn = '0/1500' WHERE table_name = 't';
SELECT tide.relay_link_copying('link:eu-west', :e, 'public', 't', 99, 99, 99), tide.relay_link_phase('link:eu-west', :e, 'streaming');
SELECT state, tables_copied, tables_total, rows_copied FROM tide.links;
-- tables come and go
SELECT tide.table_add('"odd "" one"."t able"', 'shop');
SELECT * FROM tide.relay_link_tables('link:eu-west', :e);
ALTER TABLE t RENAME TO t2;
SELECT * FROM tide.relay_link_tables('link:eu-west', :e);
ALTER TABLE t2 RENAME TO t;
SELECT * FROM tide.relay_link_tables('link:eu-west', :e);
UPDATE tide.link_table SET state = 'copied', copied_lsn = '0/1500';
ALTER SCHEMA "odd "" one" RENAME TO two;
SELECT table_name FROM tide.link_table;
SELECT tide.table_remove('t');
SELECT table_name FROM tide.link_table;
SELECT tide.table_add('t', 'shop');
SELECT * FROM tide.relay_link_tables('link:eu-west', :e);
UPDATE tide.link_table SET state = 'copied', copied_lsn = '0/1500';
DROP TABLE two."t able";
SELECT * FROM tide.relay_link_tables('link:eu-west', :e);
SELECT tide.class_create('shop', '{"scope": "regional"}');
SELECT count(*) FROM tide.relay_link_tables('link:eu-west', :e);
SELECT tide.class_create('shop', '{"scope": "global"}');
SELECT * FROM tide.relay_link_tables('link:eu-west', :e);
-- errors are seen
SELECT tide.relay_set_state('link:eu-west', :e, 'retrying', '08006', 'no route');
SELECT state, last_error, last_error_code FROM tide.links;
SELECT tide.relay_set_state('link:eu-west', :e, 'stopped', NULL, NULL);
SELECT state, last_error FROM tide.links;
SELECT tide.relay_set_state('link:eu-west', :e, 'running', NULL, NULL);
-- parked changes, and a resync that makes them needless
UPDATE tide.link_table SET state = 'copied', copied_lsn = '0/1500', rows_done = 5;
INSERT INTO tide.parked_change (link_id, schema_name, table_name, key, op, relation, change, commit_lsn, commit_at, code, reason)
	SELECT id, 'public', 'T "x"', '7', 'insert', '\x00', '\x00', '0/1', '2026-01-01', '23514', 'no' FROM tide.link;
SELECT region, "table", key, op, code, reason, attempts FROM tide.pending_changes;
SELECT parked FROM tide.links;
SELECT tide.relay_link_resync('link:eu-west', :e, 'slot was lost');
SELECT state, position, resyncs, last_resync, parked, tables_copied, rows_copied, phase FROM tide.links;
SELECT * FROM tide.relay_link_tables('link:eu-west', :e);
-- a person's resync sends the relay back to the start
SELECT tide.link_resync('eu-west');
SELECT resyncs, last_resync ~ '^asked for by ' FROM tide.links;
SELECT try(format($$SELECT tide.relay_link_tables('link:eu-west', %s)$$, :e)) ~ '^TD001';
SELECT tide.relay_acquire('link:eu-west', 'a relay') AS e \gset

-- Without a first copy: changes count from now on, until a resync
SELECT tide.link_add('Eu_West', '{"copy": false}');
SELECT tide.relay_acquire('link:Eu_West', 'a relay') AS f \gset
SELECT copy FROM tide.relay_link('link:Eu_West', :f);
SELECT * FROM tide.relay_link_tables('link:Eu_West', :f);
SELECT tide.relay_link_resync('link:Eu_West', :f, 'gap');
SELECT * FROM tide.relay_link_tables('link:Eu_West', :f);

-- Removing: the relay drops the slot first
SELECT tide.link_remove('eu-west'), tide.link_remove('eu-west');
SELECT state, removing FROM tide.links WHERE region = 'eu-west';
SELECT enabled, config -> 'removing' FROM tide.pipeline WHERE name = 'link:eu-west';
SELECT try($$SELECT tide.link_pause('eu-west')$$);
SELECT removing FROM tide.relay_link('link:eu-west', :e);
SELECT tide.link_add('eu-west');
SELECT try(format($$SELECT tide.relay_link_removed('link:eu-west', %s)$$, :e));
SELECT tide.link_pause('eu-west'), tide.link_remove('eu-west');
SELECT enabled FROM tide.pipeline WHERE name = 'link:eu-west';
SELECT tide.relay_link_removed('link:eu-west', :e);
SELECT region FROM tide.links;
SELECT try(format($$SELECT tide.relay_link_removed('link:eu-west', %s)$$, :e)) ~ '^TD001';
-- by force, and before any relay took it up: at once
SELECT tide.link_remove('Eu_West', force => true);
SELECT tide.link_add('eu-west'), tide.link_remove('eu-west');
SELECT (SELECT count(*) FROM tide.link), (SELECT count(*) FROM tide.link_table), (SELECT count(*) FROM tide.pipeline),
	(SELECT count(*) FROM pg_replication_origin o, pg_database d WHERE d.datname = current_database() AND o.roname ~ format('^tide_%s[_#]', d.oid));
SELECT tide.region_remove('eu-west');

-- Who may
CREATE ROLE regress_rows_admin IN ROLE tide_admin;
CREATE ROLE regress_rows_relay IN ROLE tide_relay;
CREATE ROLE regress_rows_reader IN ROLE tide_reader;
CREATE ROLE regress_rows_nobody;
SELECT r, string_agg(p.proname, ' ' ORDER BY p.proname COLLATE "C")
	FROM unnest('{regress_rows_admin,regress_rows_relay,regress_rows_reader,regress_rows_nobody}'::regrole[]) r, pg_proc p
	WHERE p.pronamespace = 'tide'::regnamespace AND has_function_privilege(r, p.oid, 'EXECUTE')
		AND p.proname ~ '^(region|class|table|link|rows|relay_link|relay_rows|stamp|_)'
	GROUP BY r ORDER BY r::text;
SET ROLE regress_rows_admin;
SELECT tide.region_add('eu-west', 'host=h'), tide.link_add('eu-west'), tide.link_remove('eu-west'), tide.region_remove('eu-west');
SET ROLE regress_rows_reader;
SELECT try('SELECT * FROM tide.' || v) FROM unnest('{links,lag,slo,tables,pending_changes}'::text[]) v GROUP BY 1;
SELECT split_part(try($$SELECT tide.region_add('eu-west', 'host=h')$$), E'\n', 1);
SET ROLE regress_rows_nobody;
SELECT split_part(try($$SELECT * FROM tide.links$$), E'\n', 1);
RESET ROLE;
DROP ROLE regress_rows_admin, regress_rows_relay, regress_rows_reader, regress_rows_nobody;
\c contrib_regression
DROP DATABASE regress_rows_set_up;
