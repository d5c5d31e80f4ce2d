--
-- A table's first copy: shapes, COPY data, merging with rows that are here.
--
SET client_min_messages = warning;
CREATE DATABASE regress_rows_copy;
\c regress_rows_copy
SET client_min_messages = warning;
CREATE EXTENSION pg_tide;
\set QUIET on
\pset format unaligned
\pset tuples_only on
\getenv dir PG_ABS_SRCDIR
\set lib :dir '/lib/frames.sql'
\i :lib
SELECT f.link();

CREATE TABLE t (id int PRIMARY KEY, v text, n numeric(6,2));
CREATE TABLE g (id int PRIMARY KEY, twice int GENERATED ALWAYS AS (id * 2) STORED);
CREATE TABLE p (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (100);
CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (100) TO (200);
SELECT tide.table_add(t::regclass, 'shop') FROM unnest(ARRAY['t', 'g', 'p']) t;
UPDATE tide.link SET copy = true;
SELECT count(*) FROM tide.relay_link_tables('link:us', f.epoch());
CREATE FUNCTION f.begin(tbl text, columns text[], types text[]) RETURNS text LANGUAGE sql AS $$
	SELECT tide.copy_begin('link:us', f.epoch(), 'public', tbl, '0/5000', columns, types) $$;
CREATE FUNCTION f.copy(tbl text, columns text[], format text, data bytea) RETURNS bigint LANGUAGE sql AS $$
	SELECT tide.copy_in('link:us', f.epoch(), 'public', tbl, columns, format, data) $$;
CREATE FUNCTION f.end(tbl text) RETURNS void LANGUAGE sql AS $$
	SELECT tide.copy_end('link:us', f.epoch(), 'public', tbl, '0/5000', 1, 1) $$;
\set cols '{id,v,n,tide_stamp}'
\set types '{integer,text,"numeric(6,2)",tide.stamp}'

-- Shapes
SELECT f.try(format('SELECT f.begin(%L, %L, %L)', tbl, cols, types)) FROM (VALUES ('nowhere', '{id}', '{integer}'), ('t', '{id,x}', '{integer,text}'),
	('t', '{id}', '{bigint}'), ('t', '{id,n}', '{integer,"numeric(8,3)"}'), ('t', '{id}', '{nonsense}'), ('t', '{id,v}', '{integer}'),
	('t', '{id,v}', '{integer,"character varying(5)"}'), ('t', '{}', '{}')) x (tbl, cols, types);
CREATE TABLE other (id int PRIMARY KEY);
SELECT f.try('SELECT f.begin(''other'', ''{id}'', ''{integer}'')');

-- Into an empty table: COPY's rows, as text and binary, in pieces
BEGIN;
SELECT f.begin('t', :'cols', :'types');
SELECT f.copy('t', :'cols', 'text', convert_to(format(E'1\tone\t1.5\t%s\n2\t\\N\t\\N\t%s\n', f.at('us', 1), f.at('us', 1)), 'UTF8'));
SELECT f.copy('t', :'cols', 'text', convert_to(E'3\tt\\tab\t0\t\\N\n', 'UTF8'));
SELECT f.copy('t', :'cols', 'text', '');
SELECT f.end('t');
COMMIT;
SELECT id, v, n, f.of(tide_stamp) FROM t ORDER BY id;
SELECT table_name, state, copied_lsn FROM tide.link_table ORDER BY 1;
BEGIN;
SELECT f.begin('p', '{id,v,tide_stamp}', '{integer,text,tide.stamp}');
SELECT f.copy('p', '{id,v}', 'binary', f.u16(2) || f.u32(4) || f.u32(5) || f.u32(4) || 'five' || f.u16(2) || f.u32(4) || f.u32(105) || f.u32(4294967295));
SELECT f.copy('p', '{id,v}', 'binary', '');
SELECT f.end('p');
COMMIT;
SELECT tableoid::regclass, id, v FROM p ORDER BY id;
SELECT f.try('SELECT f.copy(''p'', ''{id}'', ''csv'', ''1'')');
SELECT f.try('SELECT f.copy(''p'', ''{id,v}'', ''binary'', ''\x0003'')');
SELECT f.try('SELECT f.copy(''p'', ''{id,v}'', ''text'', ''5'')');

-- Many at a time: more than go into one page, checked, found by every index; large values too
CREATE TABLE many (id int PRIMARY KEY, v text NOT NULL CHECK (v <> 'bad'), n int UNIQUE);
CREATE INDEX ON many (upper(left(v, 5))) WHERE n % 2 = 0;
SELECT tide.table_add('many', 'shop');
SELECT count(*) FROM tide.relay_link_tables('link:us', f.epoch());
\set manycols '{id,v,n,tide_stamp}'
\set manytypes '{integer,text,integer,tide.stamp}'
CREATE FUNCTION f.lines(first int, last int) RETURNS bytea LANGUAGE sql AS $$
	SELECT convert_to(string_agg(format(E'%s\tv%s%s\t%s\t\\N\n', i, i, CASE WHEN i % 1000 = 0 THEN repeat('x', 20000) END, -i), '' ORDER BY i), 'UTF8')
	FROM generate_series(first, last) i $$;
BEGIN;
SELECT f.begin('many', :'manycols', :'manytypes');
SELECT f.copy('many', :'manycols', 'text', f.lines(1, 2500)), f.copy('many', :'manycols', 'text', f.lines(2501, 2502));
SELECT f.end('many');
COMMIT;
SELECT count(*), count(DISTINCT ctid), sum(length(v)), min(n), max(id) FROM many;
SET enable_seqscan = off;
SELECT id, n FROM many WHERE id = 1234;
SELECT id, n FROM many WHERE n = -2502;
SELECT id, n FROM many WHERE upper(left(v, 5)) = 'V2000' AND n % 2 = 0;
RESET enable_seqscan;
CREATE FUNCTION f.line(variadic col text[]) RETURNS bytea LANGUAGE sql AS $$ SELECT convert_to(array_to_string(col, E'\t') || E'\t\\N\n', 'UTF8') $$;
SELECT f.try(format('SELECT f.copy(''many'', %L, ''text'', %L)', '{id,v,n,tide_stamp}', f.line(id, v, n)))
	FROM (VALUES ('1', 'again', '9'), ('9000', 'again', '-7'), ('9000', 'bad', '9'), ('9000', '\N', '9'), ('9000', 'number', 'x')) x (id, v, n);
-- Of a value that can't be read, it says which
DO $$ BEGIN PERFORM f.copy('many', '{id,v,n,tide_stamp}', 'text', f.line('9001', 'v', '1') || f.line('9002', 'v', 'x'));
EXCEPTION WHEN OTHERS THEN DECLARE context text; BEGIN GET STACKED DIAGNOSTICS context = PG_EXCEPTION_CONTEXT; RAISE WARNING '%', split_part(context, E'\n', 1); END; END $$;
SELECT count(*) FROM many;
-- A default that looks into the table, and a trigger that is not silent, see the rows before
CREATE TABLE looks (id int PRIMARY KEY, before int);
CREATE FUNCTION looks_before() RETURNS int LANGUAGE sql AS 'SELECT count(*)::int FROM public.looks';
ALTER TABLE looks ALTER before SET DEFAULT looks_before();
CREATE TABLE fires (id int PRIMARY KEY, before int);
CREATE FUNCTION fires_before() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN new.before := (SELECT count(*) FROM public.fires); RETURN new; END $$;
CREATE TRIGGER before BEFORE INSERT ON fires FOR EACH ROW EXECUTE FUNCTION fires_before();
ALTER TABLE fires ENABLE REPLICA TRIGGER before;
SELECT tide.table_add(t::regclass, 'shop') FROM unnest(ARRAY['looks', 'fires']) t;
SELECT f.copy('looks', '{id,tide_stamp}', 'text', f.line('1') || f.line('2') || f.line('3'));
SELECT f.copy('fires', '{id,before,tide_stamp}', 'text', f.line('1', '0') || f.line('2', '0') || f.line('3', '0'));
SELECT id, l.before, f.before FROM looks l FULL JOIN fires f USING (id) ORDER BY id;

-- Again: what that region wrote last goes, what others wrote stays and is merged with
INSERT INTO t VALUES (10, 'ours', 1);
UPDATE t SET v = 'ours now' WHERE id = 2;
INSERT INTO tide.parked_change (link_id, schema_name, table_name, op, relation, change, commit_lsn, commit_at, code, reason)
	SELECT id, 'public', 't', 'insert', '', '', '0/1', now(), 'TD014', '' FROM tide.link;
BEGIN;
SELECT f.begin('t', :'cols', :'types');
SELECT id, v FROM t ORDER BY id;
SELECT f.rel('t', '*id integer', 'v text', 'n numeric 393222', 'tide_stamp tide.stamp') AS rel \gset
SELECT tide.copy_merge('link:us', f.epoch(), f.frame('0/5000', '0/5000', f.begun('0/5000') || :'rel'::bytea || f.ins('t', '2', 'theirs', '1', f.at('us', 2))
	|| f.ins('t', '4', 'four', '4', f.at('us', 2)) || f.done('0/5000')));
SELECT f.end('t');
COMMIT;
SELECT id, v FROM t ORDER BY id;
SELECT count(*) FROM tide.parked_change;

-- What the destination refuses is parked, and comes with a retry
ALTER TABLE t ADD CONSTRAINT small CHECK (id < 100);
BEGIN;
SELECT tide.copy_merge('link:us', f.epoch(), f.frame('0/5000', '0/5000', f.begun('0/5000') || :'rel'::bytea || f.ins('t', '200', 'no', '1', f.at('us', 2))
	|| f.ins('t', '5', 'five', '4', f.at('us', 2)) || f.done('0/5000')));
SELECT f.end('t');
COMMIT;
SELECT table_name, key, op, code, commit_lsn FROM tide.parked_change;
ALTER TABLE t DROP CONSTRAINT small;
SELECT * FROM tide.pending_retry((SELECT id FROM tide.parked_change));
SELECT id, v FROM t ORDER BY id;

-- A column that is generated here can't be left out of COPY's rows: they are merged
SELECT f.begin('g', '{id,twice}', '{integer,integer}');
SELECT f.begin('g', '{id}', '{integer}');
-- Frames of copies have inserts only, and are of the link's region
SELECT f.try(format('SELECT tide.copy_merge(''link:us'', f.epoch(), %L)', f.frame('0/5000', '0/5000', f.begun('0/5000') || :'rel'::bytea || f.del('t', '2', NULL, NULL, NULL))));
SELECT f.try(format('SELECT tide.copy_merge(''link:us'', f.epoch(), %L)', f.frame('0/5000', '0/5000', '', 0, 0, 'asia')));
SELECT f.try('SELECT tide.copy_merge(''link:us'', 0, '''')') ~ '^TD001', f.try('SELECT tide.copy_in(''link:us'', 0, ''public'', ''t'', ''{id}'', ''text'', '''')') ~ '^TD001';
SELECT f.try('SELECT tide.copy_end(''link:us'', f.epoch(), ''public'', ''other'', ''0/1'', 0, 0)');
-- What is allowed changes while a table is copied: that copy is not the one that is wanted, and what it brings is looked through
SELECT f.end('g');
SELECT table_name, state, wish FROM tide.relay_link_tables('link:us', f.epoch()) ORDER BY 1;
UPDATE tide.link_table SET state = 'copying' WHERE table_name = 't';
SELECT count(*) > 0 FROM tide.class_alter('shop', jsonb_build_object('residency', jsonb_build_object('regions', jsonb_build_object(tide.region_name(), 'id < 3', '*', true))));
SELECT table_name, state, wish FROM tide.relay_link_tables('link:us', f.epoch()) ORDER BY 1;
DELETE FROM tide.residency_due;
SELECT tide.copy_end('link:us', f.epoch(), 'public', 't', '0/5000', 1, 1, 0);
SELECT table_name, state, wish, copied_lsn FROM tide.link_table ORDER BY 1;
SELECT relid FROM tide.residency_due;
SELECT tide.copy_end('link:us', f.epoch(), 'public', 't', '0/6000', 1, 1, 1);
SELECT count(*) > 0 FROM tide.class_alter('shop', '{"residency": {"regions": {"*": true}}}');
SELECT table_name, state, wish FROM tide.relay_link_tables('link:us', f.epoch()) ORDER BY 1;
\c postgres
DROP DATABASE regress_rows_copy;
