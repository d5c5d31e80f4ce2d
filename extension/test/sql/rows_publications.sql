--
-- Publications that are pg_tide's own: nobody changes them by hand; who does all the same is found, and it is put right.
--
SET client_min_messages = warning;
CREATE DATABASE regress_rows_publications;
\c regress_rows_publications
SET client_min_messages = warning;
CREATE EXTENSION pg_tide;
\getenv dir PG_ABS_SRCDIR
\set lib :dir '/lib/try.sql'
\set ECHO none
\i :lib
\set ECHO all
\set QUIET on
\pset format unaligned
\pset tuples_only on
SELECT tide.region_init('us-east'), tide.region_add('eu-west', 'dbname=x');
CREATE SCHEMA s;
CREATE TABLE everywhere (id int PRIMARY KEY);
CREATE TABLE here (id int PRIMARY KEY);
CREATE TABLE client (id int PRIMARY KEY, region text NOT NULL, n bigint NOT NULL, v varchar(9) NOT NULL, ssn text);
CREATE TABLE none (id int PRIMARY KEY);
SELECT tide.class_create('everywhere', '{"scope": "global"}'), tide.class_create('here', '{"scope": "regional"}'),
	tide.class_create('client', '{"scope": "global", "residency": {"column": "region"}}'),
	tide.class_create('none', '{"scope": "global", "residency": {"regions": {"us-east": true}}}');
SELECT tide.table_add('everywhere', 'everywhere'), tide.table_add('here', 'here'), tide.table_add('client', 'client'), tide.table_add('none', 'none');

-- Refused, whatever it is
CREATE PUBLICATION mine FOR TABLE client;
SELECT command || ': ' || try(command) FROM unnest(ARRAY['ADD TABLE here', 'DROP TABLE everywhere', 'SET TABLE here', 'ADD TABLES IN SCHEMA public',
	'SET (publish = ''insert'')', 'RENAME TO other', 'OWNER TO CURRENT_USER']) c, format('ALTER PUBLICATION tide_global %s', c) command;
SELECT command || ': ' || try(command) FROM unnest(ARRAY['ALTER PUBLICATION tide_to_3ca66f25 SET TABLE client', 'ALTER PUBLICATION tide_to_3ca66f25 ADD TABLE here',
	'ALTER PUBLICATION tide_to_3ca66f25 DROP TABLE client', 'DROP PUBLICATION mine, tide_to_3ca66f25', 'DROP PUBLICATION tide_low']) command;
-- What others have is theirs
SELECT command || ': ' || try(command) FROM unnest(ARRAY['ALTER PUBLICATION mine SET TABLE client, here', 'ALTER PUBLICATION mine ADD TABLES IN SCHEMA s',
	'ALTER PUBLICATION mine RENAME TO ours', 'DROP SCHEMA s', 'DROP PUBLICATION ours']) command;

-- Who does it all the same: the audit says so, and table_add puts it right
CREATE VIEW audit AS SELECT "table", region, sent FROM tide.residency_audit() WHERE region <> 'us-east';
CREATE VIEW published AS SELECT pubname, tablename, attnames, rowfilter FROM pg_publication_tables WHERE pubname LIKE 'tide%' AND schemaname = 'public' ORDER BY 1, 2;
SELECT * FROM audit;
CREATE FUNCTION sabotage(command text) RETURNS TABLE (line text) LANGUAGE plpgsql AS $$
BEGIN
	SET LOCAL session_replication_role = replica;
	EXECUTE command;
	SET LOCAL session_replication_role = origin;
	RETURN QUERY SELECT a::text FROM audit a WHERE sent LIKE 'not as%';
	PERFORM tide.table_add('client', 'client'), tide.table_add('none', 'none'), tide.table_add('here', 'here');
	RETURN QUERY SELECT 'in the end: ' || a FROM audit a WHERE sent LIKE 'not as%';
END $$;
SELECT command, s FROM unnest(ARRAY['ALTER PUBLICATION tide_to_3ca66f25 SET TABLE client', 'ALTER PUBLICATION tide_to_3ca66f25 SET TABLE client WHERE (region <> ''x'')',
	'ALTER PUBLICATION tide_to_3ca66f25 SET TABLE client (id, region, tide_stamp) WHERE (region = ''eu-west'')', 'ALTER PUBLICATION tide_to_3ca66f25 DROP TABLE client',
	'ALTER PUBLICATION tide_to_3ca66f25 ADD TABLE none', 'ALTER PUBLICATION tide_global ADD TABLE client, none', 'ALTER PUBLICATION tide_to_3ca66f25 SET (publish = ''insert'')',
	'ALTER PUBLICATION tide_to_3ca66f25 SET (publish_via_partition_root = false)', 'DROP PUBLICATION tide_to_3ca66f25']) command, sabotage(command) s;
SELECT * FROM published;
SELECT pubname, pubinsert, pubupdate, pubdelete, pubtruncate, pubviaroot FROM pg_publication WHERE pubname = 'tide_to_3ca66f25';
-- Filters are written as the server writes them; read again they are the same
SELECT predicate, try(format('SELECT tide.class_alter(''client'', %L)', jsonb_build_object('residency', jsonb_build_object('regions', jsonb_build_object('*', predicate))))),
	(SELECT string_agg(a.sent, ' ') FROM audit a WHERE a."table" = 'public.client' AND predicate <> '')
	FROM unnest(ARRAY['true', 'TRUE', 'false', '1=1', 'n = 5', 'n > -1', 'n = ''-7''::bigint + 1', 'v = ''a''', 'v IN (''a'', ''b'')', 'NOT (v LIKE ''x%'' OR n = 1)', 'upper(v) = ''A''',
		'left(v::text, 2) || region = ''x''', 'n::numeric / 3 > 1.50', 'CASE WHEN n = 1 THEN region = ''a'' ELSE v <> '''' END', 'n BETWEEN 1 AND 3', 'region COLLATE "C" < ''b''', 'coalesce(v, region) IS NOT NULL']) predicate;
\c postgres
DROP DATABASE regress_rows_publications;
