--
-- Shapes and their versions, what travels of them, which statements may, ids.
--
SET client_min_messages = warning;
CREATE DATABASE regress_rows_schema;
\c regress_rows_schema
SET client_min_messages = warning;
CREATE EXTENSION pg_tide;
\pset format unaligned
\pset tuples_only on
\getenv dir PG_ABS_SRCDIR
\set lib :dir '/lib/try.sql'
\set ECHO none
\i :lib
\set ECHO all
SELECT try('SELECT tide.global_id()');
SELECT try($$SELECT tide.ddl('CREATE TABLE x (id int)')$$);
SELECT tide.region_init('us-east'), tide.region_add('eu-west', 'host=h'), tide.class_create('shop', '{"scope": "global"}'),
	tide.class_create('here', '{"scope": "regional"}'), tide.link_add('eu-west');

-- A version for each shape; what stays the same is none
CREATE TYPE mood AS ENUM ('sad', 'happy');
CREATE DOMAIN small AS int CHECK (VALUE < 100);
CREATE TABLE t (id int PRIMARY KEY, v text, m mood, s small);
CREATE TABLE r (id int PRIMARY KEY);
SELECT tide.table_add('t', 'shop'), tide.table_add('r', 'here');
SELECT try($$SELECT * FROM tide.table_shape('pg_class')$$);
SELECT version, columns, types FROM tide.table_shape('t');
SELECT fingerprint AS first FROM tide.table_shape('t') \gset
ALTER TABLE t SET (fillfactor = 90);
ALTER TABLE t ADD COLUMN more int;
SELECT version, columns, types FROM tide.table_shape('t');
ALTER TABLE t RENAME COLUMN more TO less;
SELECT version, columns[6] FROM tide.table_shape('t');
ALTER TABLE t DROP COLUMN less;
SELECT version, fingerprint = :'first' AS as_before FROM tide.table_shape('t');
ALTER TYPE mood ADD VALUE 'so so';
ALTER TYPE mood RENAME TO humour;
ALTER TABLE t ALTER COLUMN v SET NOT NULL;
SELECT version, types FROM tide.table_shape('t');
BEGIN;
ALTER TABLE t DROP COLUMN v;
ROLLBACK;
SELECT version FROM tide.table_shape('t');
-- while event triggers are off, it is seen when somebody asks, and by maintain()
ALTER EVENT TRIGGER tide_schema_changed DISABLE;
ALTER TABLE t ADD COLUMN unseen int;
SELECT version FROM tide.table_version WHERE table_name = 't';
SELECT tide.maintain() IS NOT NULL;
SELECT version FROM tide.table_version WHERE table_name = 't';
ALTER EVENT TRIGGER tide_schema_changed ENABLE;
-- versions go on when a table comes back
SELECT tide.table_remove('t'), tide.table_add('t', 'shop');
SELECT version FROM tide.table_shape('t');
ALTER TABLE t RENAME TO u;
ALTER TABLE u RENAME TO t;
SELECT table_name, relid IS NOT NULL AS present FROM tide.table_version ORDER BY 1;

-- What travels: shapes of what is published, and nothing of other tables
SELECT body::jsonb ->> 'table_name' AS table, count(*) FROM tide.schema_log WHERE kind = 'shape' GROUP BY 1 ORDER BY 1;
SELECT (SELECT string_agg(t ->> 'table_name', ' ') FROM jsonb_array_elements(shapes -> 'tables') t), shapes ->> 'node' FROM tide.rows_shapes(NULL, NULL);
SELECT digest AS known FROM tide.rows_shapes(NULL, NULL) \gset
SELECT shapes IS NULL FROM tide.rows_shapes(:'known', NULL);
ALTER TABLE t ADD COLUMN again int;
SELECT shapes IS NULL FROM tide.rows_shapes(:'known', NULL);

-- Comparing: what another region says, word for word
CREATE TABLE c (id int PRIMARY KEY, a text, b int, n numeric(10, 2), must int NOT NULL, may int, g int GENERATED ALWAYS AS (b + 1) STORED, m humour);
SELECT tide.table_add('c', 'shop');
CREATE FUNCTION said(VARIADIC changes text[]) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	here jsonb := tide._shape('c'::regclass);
	there jsonb := here;
	change text;
BEGIN
	FOREACH change IN ARRAY changes LOOP
		SELECT jsonb_set(there, '{columns}', coalesce(jsonb_agg(CASE WHEN c ->> 'name' = split_part(change, '|', 1)
				THEN c || nullif(split_part(change, '|', 2), '')::jsonb ELSE c END)
				FILTER (WHERE change NOT LIKE '-%' OR c ->> 'name' <> substr(change, 2)), '[]'))
			INTO there FROM jsonb_array_elements(there -> 'columns') c;
	END LOOP;
	RETURN (SELECT string_agg(format('%s: %s', CASE WHEN blocking THEN 'blocks' ELSE 'fine' END, difference), E'\n' ORDER BY difference)
		FROM tide._shape_differences('c'::regclass, here, there));
END $$;
SELECT said('id|{}');
SELECT said('a|{"name":"other"}');
SELECT said('b|{"type":"bigint","type_oid":20,"base":"pg_catalog.int8","base_name":"int8"}');
SELECT said('b|{"type":"smallint","type_oid":21,"base":"pg_catalog.int2","base_name":"int2"}');
SELECT said('a|{"type":"character varying(10)","type_oid":1043,"typmod":14}');
SELECT said('n|{"type":"numeric(12,2)","typmod":786438}');
SELECT said('-must', '-may', '-g');
SELECT said('g|{"generated":false}');
SELECT said('m|{"labels":["sad","angry"]}');
SELECT said('m|{"base":"public.gone","base_name":"gone","type":"gone","extension":"gone_too"}');

-- The relay's side
SELECT tide.relay_acquire('link:eu-west', 'a relay') AS e \gset
SELECT try($$SELECT * FROM tide.relay_link_shapes('link:eu-west', 99, NULL)$$) ~ '^TD001';
SELECT jsonb_build_object('node', 7, 'tables', jsonb_build_array(jsonb_build_object('schema_name', 'public', 'table_name', 'c', 'version', 3,
	'fingerprint', 'x', 'shape', jsonb_set(tide._shape('c'::regclass), '{columns,0,name}', '"changed"')))) AS shapes \gset
SELECT * FROM tide.relay_link_shapes('link:eu-west', :e, :'shapes');
SELECT * FROM tide.relay_link_shapes('link:eu-west', :e, NULL);
SELECT region, "table", version, difference, blocking, waiting_changes FROM tide.schema_drift;
SELECT drifted FROM tide.links;
SELECT node FROM tide.region;
ALTER TABLE c RENAME COLUMN a TO changed;
SELECT * FROM tide.relay_link_shapes('link:eu-west', :e, NULL);
SELECT count(*) FROM tide.schema_drift;
-- a column that was renamed, one that is gone, one that nobody knows
SELECT tide._link_shape_note(1, jsonb_build_object('schema_name', 'public', 'table_name', 'c', 'version', 4, 'fingerprint', 'y',
	'shape', '{"key": ["id"], "columns": [{"name": "id", "num": 1}, {"name": "b2", "num": 3}]}'::jsonb));
SELECT tide._link_column_now(1, 'public', 'c', 'b'), tide._link_column_now(1, 'public', 'c', 'may') = '', tide._link_column_now(1, 'public', 'c', 'never') IS NULL;

-- Statements: here at once, as whoever calls; in the log with who it was
CREATE ROLE regress_rows_schema IN ROLE tide_admin;
CREATE ROLE regress_rows_schema_nobody;
GRANT CREATE, USAGE ON SCHEMA public TO regress_rows_schema;
SET ROLE regress_rows_schema;
SELECT tide.ddl('CREATE TABLE mine (id int PRIMARY KEY); CREATE INDEX ON mine ((id + 1)); COMMENT ON TABLE mine IS ''; all mine''');
SELECT tide.ddl('ALTER TABLE mine ADD COLUMN v text');
SELECT split_part(public.try($$SELECT tide.ddl('ALTER TABLE t ADD COLUMN x int')$$), E'\n', 1);
SELECT split_part(public.try($$SELECT tide._ddl_log('postgres', '', 'CREATE TABLE evil ()')$$), E'\n', 1);
SELECT split_part(public.try($$INSERT INTO tide.schema_log (kind, body) VALUES ('ddl', '{}')$$), E'\n', 1);
SET ROLE regress_rows_schema_nobody;
SELECT split_part(public.try($$SELECT tide.ddl('CREATE TABLE x ()')$$), E'\n', 1);
RESET ROLE;
SELECT tableowner, obj_description('mine'::regclass) FROM pg_tables WHERE tablename = 'mine';
SELECT body FROM tide.schema_log WHERE kind = 'ddl' ORDER BY id;
-- ... and not in the log if it failed, also not of what is undone
SELECT split_part(try($$SELECT tide.ddl('CREATE TABLE mine ()')$$), E'\n', 1);
BEGIN;
SELECT tide.ddl('CREATE TABLE undone ()');
ROLLBACK;
SELECT count(*) FROM tide.schema_log WHERE kind = 'ddl';
SELECT sql, split_part(try(format('SELECT tide.ddl(%L)', sql)), E'\n', 1) FROM (VALUES (NULL), (''), ('  ;; '), ('SELECT 1'), ('INSERT INTO mine VALUES (1)'),
	('CREATE TABLE x AS SELECT 1'), ('BEGIN'), ('ALTER TABLE mine ADD w int; COMMIT'), ('CREATE ROLE x'), ('GRANT SELECT ON mine TO PUBLIC'),
	('CREATE FUNCTION x() RETURNS int LANGUAGE sql AS ''SELECT 1'''), ('CREATE EXTENSION hstore'), ('DO ''BEGIN END'''), ('TRUNCATE mine'), ('SET x.y = 1'),
	('CREATE INDEX CONCURRENTLY i ON mine (id)'), ('DROP INDEX CONCURRENTLY mine_pkey'), ('CREATE TEMP TABLE x ()'), ('CREATE TEMP VIEW x AS SELECT 1'),
	('CREATE SCHEMA x CREATE TABLE y ()'), ('CREATE TYPE x'), ('ALTER SYSTEM SET wal_level = minimal'), ('COPY mine FROM PROGRAM ''true'''),
	('CREATE TRIGGER x BEFORE INSERT ON mine FOR EACH ROW EXECUTE FUNCTION y()'), ('DROP OWNED BY x'), ('not a statement')) s (sql);
SELECT split_part(try($$SELECT tide.ddl('TRUNCATE mine')$$), E'\n', 2);
SELECT split_part(try($$SELECT tide.ddl('CREATE INDEX CONCURRENTLY i ON mine (id)')$$), E'\n', 2);

-- Ids
SELECT tide.global_id_time(0), tide.global_id_node(4096 * 1023 + 5), tide.global_id_time(9223372036854775807);
SELECT tide.global_id_region(tide.global_id()), tide.global_id_time(tide.global_id()) BETWEEN now() - interval '1 minute' AND now() + interval '1 minute';
SELECT count(DISTINCT tide.global_id()) FROM generate_series(1, 20000);
SELECT tide.global_id_node(tide.global_id()) = tide._default_node('us-east');
-- the other region has said that its number is 7
SELECT split_part(try('SELECT tide.region_set_node(7)'), E'\n', 1);
SELECT tide.region_set_node(8);
SELECT tide.global_id_region((1000::bigint << 22) | (7 << 12)), tide.global_id_region((1000::bigint << 22) | (8 << 12)),
	tide.global_id_region((1000::bigint << 22) | (9 << 12));
SELECT tide.region_set_node(tide._default_node('ap-east'));
SELECT regexp_replace(try($$SELECT tide.region_add('ap-east', 'host=h')$$), '\d+\)', 'N)');
SELECT count(*) FROM tide.region;
SET default_transaction_read_only = on;
SELECT count(try('SELECT tide.global_id()')) FROM generate_series(1, 300) HAVING bool_or(try('SELECT tide.global_id()') LIKE '25006%');
RESET default_transaction_read_only;

\c contrib_regression
DROP DATABASE regress_rows_schema;
DROP ROLE regress_rows_schema, regress_rows_schema_nobody;
