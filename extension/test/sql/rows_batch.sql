--
-- Inserts that wait for others: they are stored together, and before anybody looks at their table.
--
SET client_min_messages = warning;
CREATE DATABASE regress_rows_batch;
\c regress_rows_batch
SET client_min_messages = warning;
CREATE EXTENSION pg_tide;
\set QUIET on
\pset format unaligned
\pset tuples_only on
\getenv dir PG_ABS_SRCDIR
\set lib :dir '/lib/frames.sql'
\i :lib
SELECT f.link();
CREATE TABLE t (id int PRIMARY KEY, a text, n int DEFAULT 7 CHECK (n > 0), g int GENERATED ALWAYS AS (id * 2) STORED);
SELECT tide.table_add('t', 'shop');
SELECT f.rel('t', '*id integer', 'a text', 'tide_stamp tide.stamp') AS rel_t \gset
CREATE FUNCTION many(tbl text, first int, last int) RETURNS bytea LANGUAGE sql AS $$
	SELECT string_agg(f.ins(tbl, i::text, 'v' || i, f.at('us', 1)), '' ORDER BY i) FROM generate_series(first, last) i $$;

-- 150 rows by three commands; each has its default, what is computed, and its index entry
SELECT f.send(:'rel_t'::bytea || many('t', 1, 150));
SELECT count(*), sum(n), sum(g), count(DISTINCT cmin::text) FROM t;
SET enable_seqscan = off;
SELECT count(*) FROM generate_series(1, 150) i JOIN LATERAL (SELECT FROM t WHERE t.id = i OFFSET 0) found ON true;
RESET enable_seqscan;
-- One frame, several transactions: they wait together
SELECT f.apply(f.frame(f.position(), f.position() + 200, f.begun(f.position()) || :'rel_t'::bytea || many('t', 201, 210) || f.done(f.position() + 100)
	|| f.begun(f.position() + 100) || many('t', 211, 220) || f.done(f.position() + 200)));
SELECT count(*), count(DISTINCT cmin::text) FROM t WHERE id > 200;

-- What is changed, moved or deleted in the same transaction has been stored before
SELECT f.send(:'rel_t'::bytea || many('t', 301, 303) || f.upd('t', '302', 'changed', f.at('us', 2)) || f.del('t', '301', NULL, NULL)
	|| f.ins('t', '304', 'new', f.at('us', 3)) || f.move('t', ARRAY['304', NULL, NULL], '305', 'moved', f.at('us', 4))
	|| f.ins('t', '304', 'again', f.at('us', 5)));
SELECT id, a, n, g FROM t WHERE id > 300 ORDER BY id;
SELECT f.send(:'rel_t'::bytea || many('t', 401, 410) || f.trunc(0, 't') || many('t', 501, 503));
SELECT array_agg(id ORDER BY id) FROM t;
-- An update of what is not here is an insert: it waits, too, and is found by the next
SELECT f.send(:'rel_t'::bytea || f.upd('t', '600', 'first', f.at('us', 1)) || f.upd('t', '600', 'second', f.at('us', 2)) || many('t', 601, 602));
SELECT id, a FROM t WHERE id >= 600 ORDER BY id;

-- One that is refused takes all with it; with care only itself
SELECT f.try(format('SELECT f.send(%L)', :'rel_t'::bytea || many('t', 701, 710) || many('t', 705, 705)));
SELECT count(*) FROM t WHERE id > 700;
SELECT f.careful(:'rel_t'::bytea || many('t', 701, 710) || f.ins('t', '705', 'newer', f.at('us', 2)));
SELECT count(*), max(a) FILTER (WHERE id = 705) FROM t WHERE id > 700;
SELECT f.rel('t', '*id integer', 'n integer', 'tide_stamp tide.stamp') AS rel_n \gset
SELECT f.try(format('SELECT f.send(%L)', :'rel_n'::bytea || f.ins('t', '801', '1', f.at('us', 1)) || f.ins('t', '802', '0', f.at('us', 1))));
SELECT f.careful(:'rel_n'::bytea || f.ins('t', '801', '1', f.at('us', 1)) || f.ins('t', '802', '0', f.at('us', 1)) || f.ins('t', '803', '1', f.at('us', 1)));
SELECT array_agg(id ORDER BY id) FROM t WHERE id > 800;
SELECT key, code FROM tide.pending_changes;
SELECT tide.pending_drop(id) FROM tide.pending_changes;
-- The error of a row that waited says where it belongs, whatever came after it
CREATE TABLE other (id int PRIMARY KEY, a text);
SELECT tide.table_add('other', 'shop');
SELECT f.rel('other', '*id integer', 'a text', 'tide_stamp tide.stamp') AS rel_other \gset
CREATE FUNCTION context_of(records bytea) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	context text;
BEGIN
	PERFORM f.send(records);
	RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS context = PG_EXCEPTION_CONTEXT;
	RETURN sqlstate || ' ' || regexp_replace(context, ' from region.*', '');
END$$;
SELECT context_of(:'rel_t'::bytea || :'rel_other'::bytea || f.ins('t', '501', 'here already', f.at('us', 1)) || f.upd('other', '1', 'x', f.at('us', 1)));

-- Two tables in turn, partitions among them, of other owners and with columns in another order
CREATE ROLE regress_batch_owner;
CREATE TABLE p (id int, a text, PRIMARY KEY (id)) PARTITION BY RANGE (id);
CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (100);
CREATE TABLE p2 (a text CHECK (current_user = 'regress_batch_owner'), id int NOT NULL);
ALTER TABLE p ATTACH PARTITION p2 FOR VALUES FROM (100) TO (200);
SELECT tide.table_add('p', 'shop');
ALTER TABLE p2 OWNER TO regress_batch_owner;
SELECT f.rel('p', '*id integer', 'a text', 'tide_stamp tide.stamp') AS rel_p \gset
SELECT f.send(:'rel_p'::bytea || :'rel_other'::bytea || many('p', 1, 3) || many('p', 101, 103) || many('other', 1, 2) || many('p', 4, 5)
	|| many('other', 3, 3) || f.upd('p', '103', 'changed', f.at('us', 2)) || many('p', 104, 104));
SELECT tableoid::regclass, array_agg(id || ' ' || a ORDER BY id) FROM p GROUP BY 1 ORDER BY 1;
SELECT array_agg(id ORDER BY id) FROM other;

-- A trigger may look at the table: nothing waits
CREATE TABLE seen (id int, others bigint);
CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO public.seen SELECT NEW.id, count(*) FROM public.other;
	RETURN NEW;
END$$;
CREATE TRIGGER look BEFORE INSERT ON other FOR EACH ROW EXECUTE FUNCTION look();
ALTER TABLE other ENABLE ALWAYS TRIGGER look;
TRUNCATE other;
SELECT f.send(:'rel_other'::bytea || many('other', 1, 3));
SELECT * FROM seen ORDER BY id;
\c postgres
DROP DATABASE regress_rows_batch;
DROP ROLE regress_batch_owner;
