--
-- Lanes: which there are, which tables come by them, a table's move, what a lane is held back for; slots and their WAL.
--
SET client_min_messages = warning;
CREATE DATABASE regress_rows_lanes;
\c regress_rows_lanes
SET client_min_messages = warning;
CREATE EXTENSION pg_tide;
\pset format unaligned
\pset tuples_only on
\getenv dir PG_ABS_SRCDIR
\set lib :dir '/lib/try.sql'
\set ECHO none
\i :lib
\set ECHO all
DO $$ BEGIN
	PERFORM tide.region_init('eu-west'), tide.region_add('us-east', 'host=h'), tide.region_add('ap-east', 'host=h'),
		tide.class_create('money', '{"scope": "global", "priority": 90, "slo": "2 seconds"}'),
		tide.class_create('telemetry', '{"scope": "global", "priority": 50}');
	CREATE TABLE payment (id int PRIMARY KEY);
	CREATE TABLE metric (id int PRIMARY KEY);
	CREATE TABLE trace (v text);
	PERFORM tide.table_add('payment', 'money'), tide.table_add('metric', 'telemetry'), tide.table_add('trace', 'telemetry', '{"insert_only": true}');
	PERFORM tide.link_add('us-east');
END $$;
CREATE VIEW published AS SELECT pubname, tablename FROM pg_publication_tables;

-- One lane as long as no class is below 50; a class that is gets another
SELECT * FROM published ORDER BY 1, 2;
SELECT region, lane, classes, state, held, slot FROM tide.lanes ORDER BY 1, 2;
SELECT config -> 'lane' FROM tide.pipeline;
SELECT * FROM tide.class_alter('telemetry', '{"priority": 49}', dry_run => true);
SELECT count(*) FROM tide.lanes;
SELECT count(*) FROM tide.class_alter('telemetry', '{"priority": 49}');
SELECT * FROM published ORDER BY 1, 2;
SELECT region, lane, classes, state, held, slot FROM tide.lanes ORDER BY 1, 2;
SELECT region, slot, paused_classes FROM tide.links;
SELECT name, target, enabled, config ->> 'lane', config ->> 'slot' FROM tide.pipeline ORDER BY name;
SELECT region, class, seconds, bytes, paused FROM tide.lag ORDER BY 1, 2;
-- Links by a broker, and those that copy nothing, have one stream for everything
SELECT tide.link_add('ap-east', '{"copy": false}');
SELECT region, lane, classes FROM tide.lanes WHERE region = 'ap-east';
SELECT tide.link_remove('ap-east');
SELECT tide.link_add('ap-east', '{"transport": "nats", "url": "nats://h", "peer_domain": "ap"}');
SELECT region, lane, classes FROM tide.lanes WHERE region = 'ap-east';
SELECT tide.link_remove('ap-east');
-- What is done to a link is done to both
SELECT tide.link_pause('us-east');
SELECT name, enabled FROM tide.pipeline ORDER BY name;
SELECT tide.link_add('us-east', '{"compression": 3, "paused": true}');
SELECT name, enabled, config -> 'compression' FROM tide.pipeline ORDER BY name;
SELECT tide.link_resume('us-east'), tide.link_resync('us-east');
SELECT name, enabled FROM tide.pipeline ORDER BY name;
SELECT lane, resyncs FROM tide.lanes ORDER BY lane;

-- The tables, as their origin says
SELECT tide.relay_acquire('link:us-east', 'a relay') AS m, tide.relay_acquire('link:us-east#low', 'a relay') AS l \gset
SELECT lanes FROM tide.relay_link('link:us-east', :m) UNION ALL SELECT lanes FROM tide.relay_link('link:us-east#low', :l);
CREATE FUNCTION said(metric text, since pg_lsn, wal_end pg_lsn) RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_build_object('wal_end', wal_end, 'tables', jsonb_build_array(
		jsonb_build_object('schema', 'public', 'table', 'payment', 'lane', 'main', 'published', '0/10', 'since', '0/10'),
		jsonb_build_object('schema', 'public', 'table', 'metric', 'lane', metric, 'published', '0/10', 'since', since))) $$;
SELECT 'main', * FROM tide.relay_link_tables('link:us-east', :m, said('main', '0/10', '0/100'))
	UNION ALL SELECT 'low', * FROM tide.relay_link_tables('link:us-east#low', :l, said('main', '0/10', '0/100'));
SELECT tide.relay_link_takes('link:us-east', :m, 'public', t), tide.copy_end('link:us-east', :m, 'public', t, '0/200', 1, 1) FROM unnest('{metric,payment}'::text[]) t;
SELECT schema_name, table_name, state, copied_lsn FROM tide._link_tables;
-- metric moves: what the main lane has of it is old, and it is copied by the other
INSERT INTO tide.parked_change (link_id, schema_name, table_name, key, op, relation, change, commit_lsn, commit_at, code, reason)
	SELECT id, 'public', 'metric', '7', 'insert', '\x00', '\x00', '0/1', '2026-01-01', '23514', 'no' FROM tide.link WHERE lane = 'main';
SELECT * FROM tide.relay_link_tables('link:us-east#low', :l, said('low', '0/300', '0/310'));
SELECT tide.relay_link_takes('link:us-east#low', :l, 'public', 'metric');
SELECT l.lane, t.table_name, t.state, t.copied_lsn FROM tide.link_table t JOIN tide.link l ON l.id = t.link_id WHERE t.table_name <> 'trace' ORDER BY 1, 2;
SELECT count(*) FROM tide.parked_change;
SELECT try(format($$SELECT tide.copy_end('link:us-east', %s, 'public', 'metric', '0/320', 1, 1)$$, :m));
SELECT tide.copy_end('link:us-east#low', :l, 'public', 'metric', '0/330', 1, 1);
SELECT * FROM tide.relay_link_tables('link:us-east', :m, said('low', '0/300', '0/340'));
SELECT lane, classes FROM tide.lanes ORDER BY lane;
-- to and fro between two looks: it has missed something
SELECT * FROM tide.relay_link_tables('link:us-east#low', :l, said('low', '0/300', '0/400')) WHERE table_name = 'metric';
SELECT * FROM tide.relay_link_tables('link:us-east#low', :l, said('low', '0/410', '0/420')) WHERE table_name = 'metric';
SELECT tide.relay_link_takes('link:us-east#low', :l, 'public', 'metric'), tide.copy_end('link:us-east#low', :l, 'public', 'metric', '0/430', 1, 1);
SELECT * FROM tide.relay_link_tables('link:us-east#low', :l, said('low', '0/410', '0/440')) WHERE table_name = 'metric';
SELECT tables_copied, tables_total FROM tide.links;

-- What this region says of its own tables: since when they are where they are
SELECT t ->> 'table', t ->> 'lane', (t ->> 'published')::pg_lsn < (t ->> 'since')::pg_lsn AS moved FROM tide.rows_lanes() l, jsonb_array_elements(l.tables) t ORDER BY 1;
SELECT bool_and((t ->> 'since')::pg_lsn <= l.wal_end) FROM tide.rows_lanes() l, jsonb_array_elements(l.tables) t;
SELECT published_since AS p, lane_since AS l FROM tide.replicated_table WHERE relid = 'metric'::regclass \gset before_
SELECT tide.class_create('telemetry', '{"scope": "global", "priority": 20}');
SELECT (published_since, lane_since) = (:'before_p'::pg_lsn, :'before_l'::pg_lsn) FROM tide.replicated_table WHERE relid = 'metric'::regclass;
SELECT tide.class_create('telemetry', '{"scope": "regional"}');
SELECT published_since, lane_since FROM tide.replicated_table WHERE relid = 'metric'::regclass;
SELECT region, lane, removing, state FROM tide.lanes ORDER BY lane;
SELECT tide.class_create('telemetry', '{"scope": "global", "priority": 20}');
SELECT published_since > :'before_p'::pg_lsn, lane_since = published_since FROM tide.replicated_table WHERE relid = 'metric'::regclass;
SELECT region, lane, removing FROM tide.lanes ORDER BY lane;

-- Holding back: the main lane is late, well, late again, well for long enough
UPDATE tide.link_table SET state = 'copied', copied_lsn = '0/500' WHERE link_id = (SELECT id FROM tide.link WHERE lane = CASE table_name WHEN 'payment' THEN 'main' ELSE 'low' END);
SELECT tide.relay_link_begin(p, e, '0/500', 1, 1), tide.relay_link_phase(p, e, 'streaming'), tide.relay_set_state(p, e, 'running', NULL, NULL)
	FROM (VALUES ('link:us-east', :m), ('link:us-east#low', :l)) x (p, e);
SELECT region, lane, state FROM tide.lanes ORDER BY lane;
CREATE FUNCTION beat(late interval) RETURNS void LANGUAGE sql AS $$
	UPDATE tide.link_progress SET heartbeat_at = clock_timestamp() - late, heartbeat_seen_at = clock_timestamp() $$;
CREATE FUNCTION hold(pipeline text, epoch bigint) RETURNS text LANGUAGE sql AS $$
	SELECT coalesce(regexp_replace(tide.relay_link_hold(pipeline, epoch), '[\d.]+ s late', 'N s late'), 'no') $$;
SELECT hold('link:us-east#low', :l);
SELECT beat('1 second');
SELECT hold('link:us-east#low', :l), hold('link:us-east', :m);
SELECT beat('10 seconds');
SELECT hold('link:us-east#low', :l), hold('link:us-east', :m);
SELECT lane, held, regexp_replace(reason, '[\d.]+ s', 'N s') FROM tide.lanes ORDER BY lane;
SELECT class, paused FROM tide.lag ORDER BY class;
SELECT paused_classes FROM tide.links;
SELECT beat('1.7 seconds');
SELECT hold('link:us-east#low', :l), better_since FROM tide.link_hold;
SELECT beat('0.1 seconds');
SELECT hold('link:us-east#low', :l);
SELECT better_since IS NOT NULL FROM tide.link_hold;
SELECT beat('10 seconds');
SELECT hold('link:us-east#low', :l);
SELECT better_since IS NOT NULL FROM tide.link_hold;
SELECT beat('0.1 seconds');
SELECT hold('link:us-east#low', :l);
UPDATE tide.link_hold SET better_since = better_since - interval '1 minute';
SELECT hold('link:us-east#low', :l), hold('link:us-east#low', :l);
SELECT count(*) FROM tide.link_hold;
-- one that fails, or is paused, is not waited for
SELECT beat('10 seconds');
SELECT tide.relay_set_state('link:us-east', :m, 'retrying', '08006', 'no route');
SELECT hold('link:us-east#low', :l), state FROM tide.links;
SELECT tide.relay_set_state('link:us-east', :m, 'running', NULL, NULL);
SELECT hold('link:us-east#low', :l) ~ 'late', state FROM tide.links;
SELECT tide._pipeline_switch('link:us-east', false);
UPDATE tide.link_hold SET better_since = clock_timestamp() - interval '1 minute';
SELECT hold('link:us-east#low', :l);
SELECT tide._pipeline_switch('link:us-east', true);
-- a link with a higher priority comes before the others
SELECT tide.link_add('ap-east', '{"priority": 70}');
SELECT tide.relay_acquire('link:ap-east', 'a relay') AS a \gset
SELECT tide.relay_link_begin('link:ap-east', :a, '0/500', 1, 1), tide.relay_link_phase('link:ap-east', :a, 'streaming'), tide.relay_set_state('link:ap-east', :a, 'running', NULL, NULL);
SELECT beat('10 seconds');
SELECT hold('link:us-east', :m), hold('link:ap-east', :a);
SELECT try($$SELECT tide.link_add('ap-east', '{"priority": 101}')$$);

-- Objectives by lane
SELECT id AS main FROM tide.link WHERE region = 'us-east' AND lane = 'main' \gset
SELECT id AS low FROM tide.link WHERE region = 'us-east' AND lane = 'low' \gset
SELECT count(tide._lag_note(:main, '5 ms')), count(tide._lag_note(:low, '1 minute')) FROM generate_series(1, 10);
SELECT class, met_share, samples FROM tide.slo ORDER BY class;

-- The end: the other lane first
SELECT tide.link_remove('ap-east', force => true), tide.link_remove('us-east');
SELECT lane, removing, state FROM tide.lanes ORDER BY lane;
SELECT name, enabled FROM tide.pipeline ORDER BY name;
SELECT tide.relay_link_removed('link:us-east#low', :l);
SELECT name, enabled, config -> 'removing' FROM tide.pipeline;
SELECT tide.relay_link_removed('link:us-east', :m);
SELECT count(*) FROM tide.link;

-- Slots: nothing here; the disk is asked, the history has nobody to be kept for
SELECT count(*) FROM tide.slots;
SELECT tide._wal_free_bytes() > 0;
SELECT tide._maintain_wal(), (SELECT count(*) FROM tide.wal_history);
SELECT tide._slot_reader(tide._link_slot('us-east', 'eu-west')), tide._slot_reader(tide._link_slot('us-east', 'eu-west', 'low')), tide._slot_reader('tide_link_x');

\c contrib_regression
DROP DATABASE regress_rows_lanes;
