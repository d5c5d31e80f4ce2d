--
-- Statements of other regions, and shapes, as frames bring them: as whom they run, what is parked, what hostile ones can't.
--
SET client_min_messages = warning;
CREATE DATABASE regress_rows_ddl;
\c regress_rows_ddl
SET client_min_messages = warning;
CREATE EXTENSION pg_tide;
\set QUIET on
\pset format unaligned
\pset tuples_only on
\getenv dir PG_ABS_SRCDIR
\set lib :dir '/lib/frames.sql'
\i :lib
SELECT f.link();
SELECT tide.link_add('us', '{"copy": false, "ddl_superuser": false}');
CREATE ROLE regress_rows_ddl IN ROLE tide_admin;
CREATE ROLE regress_rows_ddl_nobody;
CREATE ROLE regress_rows_ddl_super SUPERUSER;
GRANT CREATE, USAGE ON SCHEMA public TO regress_rows_ddl;
SET ROLE regress_rows_ddl;
CREATE TABLE public.t (id int PRIMARY KEY, v text);
RESET ROLE;
SELECT tide.table_add('t', 'shop');
CREATE FUNCTION f.log(VARIADIC cols text[]) RETURNS bytea STABLE LANGUAGE sql AS $$
	SELECT f.rec('R', f.u32(f.relid('schema_log')) || int8send(1) || f.u8(ascii('d')) || f.str('tide') || f.str('schema_log') || f.u16(cardinality(cols))
		|| (SELECT string_agg(f.col(c), '' ORDER BY n) FROM unnest(cols) WITH ORDINALITY u (c, n))) $$;
CREATE FUNCTION f.entry(kind text, body text) RETURNS bytea STABLE LANGUAGE sql AS $$
	SELECT f.log('kind text', 'body text') || f.ins('schema_log', kind, body) $$;
CREATE FUNCTION f.ddl(sql text, role text DEFAULT 'regress_rows_ddl', path text DEFAULT 'public') RETURNS bytea STABLE LANGUAGE sql AS $$
	SELECT f.entry('ddl', jsonb_build_object('role', role, 'path', path, 'sql', sql)::text) $$;
CREATE VIEW parked AS SELECT op, code, split_part(reason, '; it says', 1) AS reason FROM tide.parked_change ORDER BY id;
SELECT f.rel('t', '*id integer', 'v text', 'tide_stamp tide.stamp') AS rel, f.rel('t', '*id integer', 'v text', 'tide_stamp tide.stamp', 'more integer') AS rel_more \gset

-- Shapes: kept; those that are none are let lie
SELECT f.send(f.entry('shape', '{"schema_name": "public", "table_name": "t", "version": 4, "fingerprint": "x", "shape": {"key": ["id"], "columns": []}}'));
SELECT f.send(f.entry('shape', 'no JSON'));
SELECT f.send(f.entry('shape', '{}'));
SELECT f.send(f.entry('later', '{}'));
SELECT schema_name, table_name, version, fingerprint FROM tide.link_shape;
SELECT count(*) FROM parked;
-- ... and what is damaged is refused
SELECT f.try(format('SELECT f.send(%L)', f.log('kind text') || f.ins('schema_log', 'shape')));
SELECT f.try(format('SELECT f.send(%L)', f.log('kind text', 'body text') || f.ins('schema_log', 'shape')));
SELECT f.try(format('SELECT f.send(%L)', f.entry('shape', NULL)));
SELECT f.try(format('SELECT f.send(%L)', f.entry('ddl', '{"role": "x"}')));

-- In its place: rows before it, it, rows that need it
SELECT f.send(:'rel'::bytea || f.ins('t', '1', 'before', f.at('us', 1)) || f.ddl('ALTER TABLE t ADD COLUMN more int DEFAULT 7; CREATE INDEX ON t (more)')
	|| :'rel_more'::bytea || f.ins('t', '2', 'after', f.at('us', 1), '2') || f.upd('t', '1', 'changed', f.at('us', 2), '7'));
SELECT id, v, more FROM t ORDER BY id;
-- After its transaction it stops: what comes behind in the frame is for the next call
SELECT f.position() AS p \gset
SELECT f.frame(:'p', :'p'::pg_lsn + 200, f.begun(:'p') || f.ddl('CREATE TYPE mood AS ENUM (''sad'')') || f.done(:'p'::pg_lsn + 100)
	|| f.begun(:'p'::pg_lsn + 100) || :'rel'::bytea || f.ins('t', '3', 'behind', f.at('us', 1)) || f.done(:'p'::pg_lsn + 200), n => 2) AS frame \gset
SELECT f.apply(:'frame');
SELECT f.position() - :'p';
SELECT f.apply(:'frame');
SELECT f.position() - :'p';
SELECT f.apply(:'frame');
SELECT id FROM t WHERE v = 'behind';
-- Done already counts as done, each for itself; what else fails is parked, all of it undone
SELECT f.send(f.ddl('CREATE TABLE t (id int); ALTER TABLE t ADD COLUMN more int; ALTER TABLE t ADD COLUMN new int; DROP TABLE nothing; ALTER TABLE t DROP COLUMN nothing; ALTER TABLE t RENAME COLUMN nothing TO new'));
SELECT f.send(f.ddl('ALTER TABLE t ADD COLUMN undone int; ALTER TABLE t ALTER COLUMN nothing TYPE int'));
SELECT attname FROM pg_attribute WHERE attrelid = 't'::regclass AND attname IN ('new', 'undone');
SELECT * FROM parked;
SELECT f.try('SELECT tide.pending_drop(id) IS NOT NULL FROM tide.parked_change');

-- As whom
SELECT f.send(f.ddl('CREATE TABLE of_role (id int)'));
SELECT tableowner FROM pg_tables WHERE tablename = 'of_role';
SELECT role, f.try(format('SELECT f.send(%L)', f.ddl('CREATE TABLE x (id int)', role => role)))
	FROM unnest('{regress_rows_ddl_nobody,regress_rows_ddl_super,tide_relay,nobody at all}'::text[]) role;
SELECT f.try(format('SELECT f.send(%L)', f.ddl(sql))) FROM unnest(ARRAY['ALTER TABLE tide.link ADD COLUMN x int', 'DROP TABLE pg_catalog.pg_class', 'GRANT tide_admin TO PUBLIC', 'ALTER ROLE regress_rows_ddl SUPERUSER',
	'CREATE FUNCTION x() RETURNS int LANGUAGE sql AS ''SELECT 1''', 'DO ''BEGIN END''', 'COPY t TO PROGRAM ''true''', 'COMMIT', 'DELETE FROM t', 'nonsense', '']) sql;
SELECT * FROM parked;
SELECT to_regclass('x') IS NULL, count(*) > 0 FROM t;
DELETE FROM tide.parked_change;
-- ... and what its code tries
SET ROLE regress_rows_ddl;
CREATE FUNCTION public.spring(int) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	IF current_user <> 'regress_rows_ddl' THEN RAISE 'as %', current_user; END IF;
	BEGIN
		RESET ROLE;
		RAISE 'got out';
	EXCEPTION WHEN insufficient_privilege THEN NULL;
	END;
	PERFORM set_config('session_replication_role', 'replica', false);
	RETURN 'out';
END $$;
RESET ROLE;
SELECT f.send(f.ddl('ALTER TABLE t ALTER COLUMN v TYPE text USING spring(id)'));
SELECT * FROM parked;
DELETE FROM tide.parked_change;

-- The link's options
SELECT tide.link_add('us', '{"copy": false, "ddl": false}');
SELECT f.send(f.ddl('CREATE TABLE unwanted (id int)'));
SELECT * FROM parked;
SELECT code FROM tide.pending_retry((SELECT id FROM tide.parked_change));
SELECT tide.link_add('us', '{"copy": false}');
SELECT * FROM tide.pending_retry((SELECT id FROM tide.parked_change));
SELECT f.send(f.ddl('CREATE TABLE of_super (id int)', role => 'regress_rows_ddl_super'));
SELECT tablename, tableowner FROM pg_tables WHERE tablename IN ('unwanted', 'of_super') ORDER BY 1;

-- A table that waits goes on when it fits: by the relay, in pieces, in order; one that does not is left alone
SELECT tide.relay_link_shapes('link:us', f.epoch(), NULL);
SELECT f.rel('t', '*id integer', 'v text', 'tide_stamp tide.stamp', 'more integer', 'late integer') AS rel_late \gset
SELECT f.careful(:'rel_late'::bytea || f.ins('t', '10', 'ten', f.at('us', 1), '1', '1') || f.upd('t', '10', 'TEN', f.at('us', 2), '1', '2')
	|| f.ins('t', '11', 'eleven', f.at('us', 1), '1', '1') || f.del('t', '11', NULL, NULL, NULL, NULL));
SELECT resumable IS NULL FROM tide.relay_link_shapes('link:us', f.epoch(), NULL);
SELECT min(id) AS first FROM tide.parked_change \gset
SELECT * FROM tide.relay_link_retry('link:us', f.epoch(), :first, 2);
ALTER TABLE t ADD COLUMN late int;
SELECT resumable[1] = :first FROM tide.relay_link_shapes('link:us', f.epoch(), NULL);
SELECT f.try(format('SELECT * FROM tide.relay_link_retry(%L, 99, %s, 2)', 'link:us', :first)) ~ '^TD001';
SELECT * FROM tide.relay_link_retry('link:us', f.epoch(), :first, 2);
SELECT f.send(:'rel_late'::bytea || f.upd('t', '10', 'Ten', f.at('us', 3), '1', '3'));
SELECT id, v, late FROM t WHERE id >= 10;
SELECT * FROM tide.relay_link_retry('link:us', f.epoch(), (SELECT min(id) FROM tide.parked_change), 100);
SELECT * FROM tide.relay_link_retry('link:us', f.epoch(), :first, 100);
SELECT id, v, late FROM t WHERE id >= 10;
SELECT * FROM parked;

-- Of a shape that was left behind: what was renamed there, dropped, given another type
CREATE TABLE old (id int PRIMARY KEY, a text, b text, c text);
SELECT tide.table_add('old', 'shop');
CREATE FUNCTION f.shape(version int, columns jsonb) RETURNS bytea STABLE LANGUAGE sql AS $$
	SELECT f.entry('shape', jsonb_build_object('schema_name', 'public', 'table_name', 'old', 'version', version, 'fingerprint', version,
		'shape', jsonb_build_object('key', '["id"]'::jsonb, 'columns', columns))::text) $$;
SELECT f.send(f.shape(1, '[{"name": "id", "num": 1, "type_oid": 23, "typmod": -1}, {"name": "was_a", "num": 2, "type_oid": 25, "typmod": -1},
	{"name": "gone", "num": 3, "type_oid": 25, "typmod": -1}, {"name": "c", "num": 4, "type_oid": 23, "typmod": -1}]'));
SELECT f.rel('old', '*id integer', 'was_a text', 'gone text', 'c integer', 'tide_stamp tide.stamp') AS rel_old \gset
SELECT f.careful(:'rel_old'::bytea || f.ins('old', '1', 'a', 'gone', 'b:00000005', f.at('us', 1)));
SELECT * FROM parked;
SELECT f.send(f.shape(2, '[{"name": "id", "num": 1, "type_oid": 23, "typmod": -1}, {"name": "a", "num": 2, "type_oid": 25, "typmod": -1}, {"name": "c", "num": 4, "type_oid": 23, "typmod": -1}]'));
SELECT resumable IS NULL FROM tide.relay_link_shapes('link:us', f.epoch(), NULL);
SELECT reason FROM tide.pending_retry((SELECT id FROM tide.parked_change));
SELECT f.send(f.shape(3, '[{"name": "id", "num": 1, "type_oid": 23, "typmod": -1}, {"name": "a", "num": 2, "type_oid": 25, "typmod": -1}, {"name": "c", "num": 4, "type_oid": 25, "typmod": -1}]'));
SELECT applied FROM tide.relay_link_retry('link:us', f.epoch(), (SELECT id FROM tide.parked_change), 100);
SELECT id, a, b, c FROM old;

-- Smaller numbers than here
CREATE TABLE wide (id bigint PRIMARY KEY, a bigint, b numeric, c int, d numeric, e double precision, f numeric(5));
SELECT tide.table_add('wide', 'shop');
SELECT f.send(f.rel('wide', '*id integer', 'a smallint', 'b smallint', 'c smallint', 'd bigint', 'e real', 'tide_stamp tide.stamp')
	|| f.ins('wide', 'b:00000001', 'b:ffff', 'b:8000', 'b:7fff', 'b:7fffffffffffffff', 'b:3dcccccd', f.at('us', 1))
	|| f.ins('wide', '2', '-1', '-2', '3', '4', '0.5', f.at('us', 1)));
SELECT id, a, b, c, d, e = 0.1::real::double precision, f FROM wide ORDER BY id;
SELECT f.send(f.rel('wide', '*id integer', 'a smallint', 'tide_stamp tide.stamp') || f.upd('wide', 'b:00000001', 'b:0007', f.at('us', 2)) || f.del('wide', 'b:00000002', NULL, NULL));
SELECT id, a, c FROM wide ORDER BY id;
SELECT f.try(format('SELECT f.send(%L)', f.rel('wide', '*id integer', 'f integer', 'tide_stamp tide.stamp') || f.ins('wide', '3', '1', f.at('us', 1))));
SELECT f.try(format('SELECT f.send(%L)', f.rel('wide', '*id integer', 'a smallint', 'tide_stamp tide.stamp') || f.ins('wide', '4', 'b:00000001', f.at('us', 1))));

\c contrib_regression
DROP DATABASE regress_rows_ddl;
DROP ROLE regress_rows_ddl, regress_rows_ddl_nobody, regress_rows_ddl_super;
