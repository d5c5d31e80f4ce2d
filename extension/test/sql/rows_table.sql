--
-- Which tables are replicated: classes, table_add, table_remove, what is published, what others do to such tables.
--
SET client_min_messages = warning;
CREATE DATABASE regress_rows_table;
\c regress_rows_table
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

-- Classes: what is wrong is named
SELECT options || ': ' || try(format('SELECT tide.class_create(%L, %L)', 'c', options))
	FROM unnest(ARRAY[NULL, '[]', '"global"', '{}', '{"scope": "galactic"}', '{"scope": 5}', '{"scope": null}', '{"scop": "global"}',
		'{"scope": "global", "conflict": "first"}',
		'{"scope": "global", "conflict": "luck"}', '{"scope": "global", "durability": "sync"}',
		'{"scope": "global", "residency": ["eu"]}', '{"scope": "global", "slo": "soon"}', '{"scope": "global", "slo": "-1 s"}',
		'{"scope": "global", "slo": 0}', '{"scope": "global", "slo": true}', '{"scope": "global", "slo": 1e300}',
		'{"scope": "global", "priority": 101}', '{"scope": "global", "priority": 1.5}', '{"scope": "global", "priority": "high"}']) options;
SELECT try(format('SELECT tide.class_create(%L, NULL)', 'c'));
SELECT try(format('SELECT tide.class_create(%L, %L)', name, '{"scope": "global"}'))
	FROM unnest(ARRAY[NULL, '', 'a b', repeat('x', 64), 'q"x', E'\u00e9']) name;
SELECT count(*) FROM tide.class;
SELECT tide.class_create('shop', '{"scope": "global"}'),
	tide.class_create('fast', '{"scope": "global", "conflict": "lww", "durability": "async", "slo": 0.5, "priority": 90}'),
	tide.class_create('here', '{"scope": "regional", "slo": "1 minute"}'),
	tide.class_create(repeat('x', 63), '{"scope": "global"}');
SELECT name, scope, conflict, durability, slo, priority FROM tide.class ORDER BY name;
SELECT tide.class_drop(repeat('x', 63));
SELECT try($$SELECT tide.class_drop('nope')$$);
SELECT try($$SELECT tide.class_drop(NULL)$$);

-- The region must have a name
CREATE TABLE t (id int PRIMARY KEY, v text);
SELECT try($$SELECT tide.table_add('t', 'shop')$$);
SELECT tide.region_init('us-east');

-- What can't be replicated
CREATE VIEW v AS SELECT 1 AS id;
CREATE MATERIALIZED VIEW mv AS SELECT 1 AS id;
CREATE SEQUENCE seq;
CREATE UNLOGGED TABLE unlogged (id int PRIMARY KEY);
CREATE TEMP TABLE temporary (id int PRIMARY KEY);
CREATE FOREIGN DATA WRAPPER w;
CREATE SERVER s FOREIGN DATA WRAPPER w;
CREATE FOREIGN TABLE f (id int) SERVER s;
CREATE TABLE nokey (id int, v text);
CREATE TABLE deferred (id int PRIMARY KEY DEFERRABLE);
CREATE TABLE uniq (id int NOT NULL UNIQUE);
CREATE TABLE nothing (id int PRIMARY KEY);
ALTER TABLE nothing REPLICA IDENTITY NOTHING;
CREATE TABLE full_nokey (id int);
ALTER TABLE full_nokey REPLICA IDENTITY FULL;
CREATE TABLE foreign_parts (id int PRIMARY KEY) PARTITION BY RANGE (id);
CREATE TABLE foreign_ok PARTITION OF foreign_parts FOR VALUES FROM (0) TO (9);
CREATE TABLE fparts (id int) PARTITION BY RANGE (id);
CREATE FOREIGN TABLE fpart PARTITION OF fparts FOR VALUES FROM (0) TO (9) SERVER s;
CREATE TABLE odd_parts (id int PRIMARY KEY) PARTITION BY RANGE (id);
CREATE TABLE odd_part PARTITION OF odd_parts FOR VALUES FROM (0) TO (9);
ALTER TABLE odd_part REPLICA IDENTITY NOTHING;
CREATE TABLE taken (id int PRIMARY KEY, tide_stamp timestamptz);
CREATE TABLE taken_trigger (id int PRIMARY KEY);
CREATE TRIGGER tide_stamp BEFORE UPDATE ON taken_trigger FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger();
DO $$ BEGIN EXECUTE format('CREATE TABLE wide (%s, PRIMARY KEY (c1))', (SELECT string_agg('c' || n || ' bool', ', ') FROM generate_series(1, 1600) n)); END $$;
DO $$ BEGIN EXECUTE format('CREATE TABLE almost (%s, PRIMARY KEY (c1))', (SELECT string_agg('c' || n || ' bool', ', ') FROM generate_series(1, 1599) n)); END $$;
SELECT t || ': ' || try(format('SELECT tide.table_add(%L, %L)', t, 'shop'))
	FROM unnest('{v,mv,seq,t_pkey,unlogged,temporary,f,pg_class,tide.class,information_schema.sql_features,nokey,deferred,uniq,nothing,full_nokey,
		foreign_ok,fparts,odd_parts,taken,taken_trigger,wide,missing}'::text[]) t;
SELECT try($$SELECT tide.table_add(NULL, 'shop')$$);
SELECT try($$SELECT tide.table_add(12345678::oid, 'shop')$$);
CREATE TYPE a_row AS (id int);
CREATE TABLE typed OF a_row (PRIMARY KEY (id));
SELECT try($$SELECT tide.table_add('typed', 'shop')$$);
-- what means nothing elsewhere is warned of; a table that nobody has counted is estimated
CREATE TABLE regs (id int PRIMARY KEY, what regclass, kinds regtype[]);
INSERT INTO regs SELECT n FROM generate_series(1, 5000) n;
BEGIN;
SELECT tide.table_add('regs', 'shop');
SELECT rows_estimate BETWEEN 1000 AND 10000 FROM tide.rows_tables() WHERE table_name = 'regs';
ANALYZE regs;
SELECT rows_estimate FROM tide.rows_tables() WHERE table_name = 'regs';
ROLLBACK;
SELECT try($$SELECT tide.table_add('t', NULL)$$);
SELECT try($$SELECT tide.table_add('t', 'nowhere')$$);
SELECT options || ': ' || try(format('SELECT tide.table_add(%L, %L, %L)', 't', 'shop', options))
	FROM unnest(ARRAY['[]', '{"insertonly": true}', '{"insert_only": "yes"}', '{"columns": ["v"]}', '{"columns": {"w": "lww"}}',
		'{"columns": {"v": 5}}', '{"columns": {"v": "counter"}}', '{"columns": {"v": {"merge": "bounded", "min": 0}}}',
		'{"columns": {"v": "function:f"}}', '{"columns": {"v": "luck"}}', '{"columns": {"v": {}}}']) options;
SELECT try($$SELECT tide.table_add('t', 'shop', NULL)$$);
SELECT count(*) FROM tide.replicated_table;
SELECT count(*) FROM pg_publication;
SELECT count(*) FROM pg_attribute a WHERE a.attname = 'tide_stamp' AND a.atttypid = 'tide.stamp'::regtype AND a.attrelid >= 16384
	AND (SELECT relkind FROM pg_class c WHERE c.oid = a.attrelid) = 'r';

-- What can
CREATE SCHEMA "odd "" schema";
CREATE TABLE "odd "" schema"."odd "" tablé" ("odd "" key" int, "select" int, PRIMARY KEY ("odd "" key"));
DO $$ BEGIN EXECUTE format('CREATE TABLE %I (id int PRIMARY KEY)', repeat('n', 63)); END $$;
CREATE TABLE logs (at timestamptz, line text);
CREATE TABLE by_index (a int NOT NULL, b int NOT NULL, c int);
CREATE UNIQUE INDEX by_index_ab ON by_index (b, a) INCLUDE (c);
ALTER TABLE by_index REPLICA IDENTITY USING INDEX by_index_ab;
CREATE TABLE full_key (id int PRIMARY KEY);
ALTER TABLE full_key REPLICA IDENTITY FULL;
CREATE TABLE parts (id int, region text, PRIMARY KEY (region, id)) PARTITION BY LIST (region);
CREATE TABLE parts_a PARTITION OF parts FOR VALUES IN ('a') PARTITION BY RANGE (id);
CREATE TABLE parts_a1 PARTITION OF parts_a FOR VALUES FROM (0) TO (9);
CREATE TABLE generated (id int PRIMARY KEY GENERATED ALWAYS AS IDENTITY, n int, twice int GENERATED ALWAYS AS (n * 2) STORED);
CREATE TABLE private (id int PRIMARY KEY);
SELECT t || ': ' || try(format('SELECT tide.table_add(%L, %L, %L)', t, c, o))
	FROM (VALUES ('t', 'shop', '{"columns": {"v": "lww"}}'), ('"odd "" schema"."odd "" tablé"', 'shop', '{}'), (repeat('n', 63), 'fast', '{}'),
		('logs', 'shop', '{"insert_only": true}'), ('by_index', 'shop', '{}'), ('full_key', 'shop', '{"columns": {"id": {"merge": "lww"}}}'),
		('parts', 'shop', '{}'), ('generated', 'shop', '{}'), ('private', 'here', '{}'), ('almost', 'shop', '{}')) v (t, c, o);
SELECT "table", class, scope, published, key, insert_only FROM tide.tables ORDER BY "table"::text;
SELECT pubname, schemaname, tablename FROM pg_publication_tables ORDER BY 1, 2, 3;
SELECT pubname, pubinsert, pubupdate, pubdelete, pubtruncate, pubviaroot FROM pg_publication ORDER BY 1;
SELECT tgrelid::regclass, tgname, tgenabled FROM pg_trigger WHERE tgfoid = 'tide._stamp_row()'::regprocedure ORDER BY tgrelid::regclass::text COLLATE "C";
SELECT relname, (SELECT a FROM unnest(relacl) a WHERE a::text ~ '^tide_') FROM pg_class WHERE relname IN ('t', 'parts', 'parts_a') ORDER BY 1;
SELECT has_schema_privilege('tide_relay', 'odd " schema', 'USAGE');
INSERT INTO generated (n) VALUES (21);
INSERT INTO parts VALUES (1, 'a');
SELECT id, n, twice, tide.stamp_region(tide_stamp) FROM generated;
SELECT tableoid::regclass, tide.stamp_region(tide_stamp) FROM parts;

-- Again: the same is fine, another class is not, other options are taken
SELECT tide.table_add('t', 'shop', '{"columns": {"v": "lww"}}');
SELECT try($$SELECT tide.table_add('t', 'here')$$);
SELECT tide.table_add('t', 'shop', '{"insert_only": true}');
SELECT pubname FROM pg_publication_tables WHERE tablename = 't';
SELECT tide.table_add('t', 'shop');
SELECT pubname FROM pg_publication_tables WHERE tablename = 't';
SELECT options, insert_only FROM tide.tables WHERE "table" = 't'::regclass;
-- what somebody disturbed, against its guard, is put right
ALTER TABLE t DISABLE TRIGGER tide_stamp;
SET session_replication_role = replica;
ALTER PUBLICATION tide_global DROP TABLE t;
ALTER PUBLICATION tide_global SET (publish = 'insert', publish_via_partition_root = false);
RESET session_replication_role;
SELECT tide.table_add('t', 'shop');
SELECT tgenabled, pubname, pubupdate, pubviaroot FROM pg_trigger, pg_publication p JOIN pg_publication_rel r ON r.prpubid = p.oid
	WHERE tgrelid = 't'::regclass AND tgname = 'tide_stamp' AND prrelid = 't'::regclass;

-- A class that changes its scope
SELECT tide.class_create('here', '{"scope": "global"}');
SELECT pubname FROM pg_publication_tables WHERE tablename = 'private';
SELECT tide.class_create('here', '{"scope": "regional"}');
SELECT pubname FROM pg_publication_tables WHERE tablename = 'private';
SELECT try($$SELECT tide.class_drop('here')$$);

-- Removing
SELECT try($$SELECT tide.table_remove('nokey')$$);
SELECT try($$SELECT tide.table_remove(NULL)$$);
INSERT INTO t VALUES (1, 'x');
SELECT tide.table_remove('t'), tide.table_remove('parts', drop_column => true), tide.table_remove('private');
SELECT try($$SELECT tide.table_remove('t')$$);
INSERT INTO t VALUES (2, 'y');
SELECT id, tide.stamp_region(tide_stamp) FROM t;
SELECT attrelid::regclass FROM pg_attribute WHERE attname = 'tide_stamp' AND attrelid IN ('t'::regclass, 'parts'::regclass, 'parts_a1'::regclass);
SELECT tgrelid::regclass FROM pg_trigger WHERE tgrelid IN ('t'::regclass, 'parts'::regclass, 'parts_a1'::regclass);
SELECT tablename FROM pg_publication_tables WHERE tablename IN ('t', 'parts', 'private');
SELECT has_table_privilege('tide_relay', 't', p) FROM unnest('{SELECT,INSERT,UPDATE,DELETE,TRUNCATE}'::text[]) p GROUP BY 1;
SELECT tide.class_drop('here');
-- and back: stamps that are there stay
SELECT tide.table_add('t', 'shop'), tide.table_add('parts', 'shop');
SELECT id, split_part(tide_stamp::text, '@', 1) <> '0' AS clock, tide.stamp_region(tide_stamp) FROM t;
SELECT tide_stamp FROM parts;

-- Whose table it is
CREATE ROLE regress_rows_owner;
CREATE ROLE regress_rows_admin IN ROLE tide_admin;
CREATE ROLE regress_rows_both IN ROLE tide_admin, regress_rows_owner;
GRANT CREATE, USAGE ON SCHEMA public TO regress_rows_owner;
CREATE TABLE owned (id int PRIMARY KEY);
ALTER TABLE owned OWNER TO regress_rows_owner;
SET ROLE regress_rows_owner;
SELECT try($$SELECT tide.table_add('owned', 'shop')$$);
SET ROLE regress_rows_admin;
SELECT try($$SELECT tide.table_add('owned', 'shop')$$);
SELECT try($$SELECT tide.table_remove('t')$$);
SELECT try($$SELECT tide._table_add('owned', 'shop', '{}', 10)$$);
SELECT tide.class_create('admins', '{"scope": "global"}'), tide.class_drop('admins');
SET ROLE regress_rows_both;
SELECT tide.table_add('owned', 'shop'), tide.table_remove('owned'), tide.table_add('owned', 'shop');
RESET ROLE;
-- a security definer function acts as its owner, not as whoever calls it
CREATE FUNCTION trick() RETURNS void LANGUAGE sql SECURITY DEFINER AS $$ SELECT tide.table_remove('t') $$;
ALTER FUNCTION trick() OWNER TO regress_rows_admin;
SELECT try('SELECT trick()');
SELECT a FROM pg_class, unnest(relacl) a WHERE relname = 'owned' AND a::text ~ '^tide_';
SET ROLE regress_rows_owner;
INSERT INTO owned VALUES (1);
SELECT id, tide_stamp IS NOT NULL FROM owned;
-- and may give it partitions
CREATE TABLE owned_parts (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
SET ROLE regress_rows_both;
SELECT tide.table_add('owned_parts', 'shop');
SET ROLE regress_rows_owner;
CREATE TABLE owned_part_1 PARTITION OF owned_parts FOR VALUES FROM (0) TO (10);
CREATE TABLE owned_part_2 (LIKE owned_parts INCLUDING ALL);
ALTER TABLE owned_parts ATTACH PARTITION owned_part_2 FOR VALUES FROM (10) TO (20);
INSERT INTO owned_parts VALUES (1), (11);
SELECT tableoid::regclass, tide_stamp IS NOT NULL FROM owned_parts ORDER BY id;
ALTER TABLE owned_parts DETACH PARTITION owned_part_2;
INSERT INTO owned_part_2 VALUES (12);
SELECT id, tide_stamp IS NOT NULL FROM owned_part_2 ORDER BY id;
DROP TABLE owned_parts, owned_part_2;
RESET ROLE;

-- What others do to replicated tables
SELECT try('ALTER TABLE t DROP COLUMN tide_stamp');
SELECT try('DROP TRIGGER tide_stamp ON t');
SELECT try('DROP TRIGGER tide_stamp ON "odd "" schema"."odd "" tablé"');
SELECT try('ALTER TABLE t DROP COLUMN v');
ALTER TABLE t ADD COLUMN w int;
ALTER TABLE t RENAME TO renamed;
SELECT "table" FROM tide.tables WHERE "table" = 'renamed'::regclass;
SELECT tablename FROM pg_publication_tables WHERE tablename = 'renamed';
DROP TABLE renamed, logs;
SET ROLE regress_rows_owner;
DROP TABLE owned;
RESET ROLE;
DROP SCHEMA "odd "" schema" CASCADE;
DROP TABLE parts_a;
SELECT "table" FROM tide.tables ORDER BY "table"::text COLLATE "C";
SET session_replication_role = replica;
DROP TABLE generated;
RESET session_replication_role;
SELECT tide.maintain() ->> 'tables_forgotten';
SELECT count(*) FROM tide.tables;
CREATE TABLE rolled_back (id int PRIMARY KEY);
BEGIN;
SELECT tide.table_add('rolled_back', 'shop');
DROP TABLE rolled_back;
ROLLBACK;
SELECT count(*) FROM tide.tables WHERE "table" = 'rolled_back'::regclass;
CREATE TABLE secured (id int PRIMARY KEY);
ALTER TABLE secured ENABLE ROW LEVEL SECURITY;
SELECT tide.table_add('secured', 'shop');
SET session_replication_role = replica;
CREATE PUBLICATION mine FOR ALL TABLES;
DROP PUBLICATION tide_global_insert;
ALTER PUBLICATION mine RENAME TO tide_global_insert;
RESET session_replication_role;
SELECT try($$SELECT tide.table_add('rolled_back', 'shop', '{"insert_only": true}')$$);

-- Without the extension nothing of it is in the way
DROP EXTENSION pg_tide CASCADE;
SELECT count(*) FROM pg_attribute WHERE attname = 'tide_stamp' AND attrelid IN ('by_index'::regclass, 'full_key'::regclass);
SELECT count(*) FROM pg_event_trigger;
INSERT INTO full_key VALUES (1);
DROP TABLE full_key;
DROP FUNCTION trick();
DROP OWNED BY regress_rows_owner, regress_rows_admin, regress_rows_both;
DROP ROLE regress_rows_owner, regress_rows_admin, regress_rows_both;
\c contrib_regression
DROP DATABASE regress_rows_table;
