--
-- What is refused is parked, what follows of the same row waits behind it, the rest goes on; retrying and dropping.
--
SET client_min_messages = warning;
CREATE DATABASE regress_rows_parked;
\c regress_rows_parked
SET client_min_messages = warning;
CREATE EXTENSION pg_tide;
\set QUIET on
\pset format unaligned
\pset tuples_only on
\getenv dir PG_ABS_SRCDIR
\set lib :dir '/lib/frames.sql'
\i :lib
SELECT f.link();

CREATE TABLE t (id int PRIMARY KEY, a text UNIQUE, b int CONSTRAINT small CHECK (b < 100));
CREATE TABLE c (x text, y int, v int, PRIMARY KEY (x, y));
CREATE TABLE ok (id int PRIMARY KEY);
SELECT tide.table_add(t::regclass, 'shop') FROM unnest(ARRAY['t', 'c', 'ok']) t;
SELECT f.rel('t', '*id integer', 'a text', 'b integer', 'tide_stamp tide.stamp')
	|| f.rel('c', '*x text', '*y integer', 'v integer', 'tide_stamp tide.stamp') || f.rel('ok', '*id integer', 'tide_stamp tide.stamp') AS rels \gset
CREATE VIEW parked AS SELECT table_name, key, op, code, left(reason, 70) AS reason, attempts FROM tide.parked_change ORDER BY id;
CREATE FUNCTION f.first(tbl text) RETURNS bigint LANGUAGE sql AS $$ SELECT min(id) FROM tide.parked_change WHERE table_name = tbl $$;

-- Carefully: only what is refused waits; without care all is refused
SELECT f.next(:'rels'::bytea || f.ins('t', '1', 'a', '1', f.at('us', 1)) || f.ins('t', '2', 'b', '200', f.at('us', 1))
	|| f.ins('t', '3', 'c', '3', f.at('us', 1)) || f.ins('ok', '1', f.at('us', 1))) AS frame \gset
SELECT f.try(format('SELECT f.apply(%L)', :'frame'));
SELECT f.apply(:'frame', true);
SELECT id, a, b FROM t ORDER BY id;
SELECT * FROM parked;
-- The same frame again parks nothing twice
SELECT f.apply(:'frame', true);
SELECT count(*) FROM parked;
-- What follows of the row waits, whether applied with care or not; other rows go on
SELECT f.send(:'rels'::bytea || f.upd('t', '2', 'b', '5', f.at('us', 2)) || f.upd('t', '3', 'c', '33', f.at('us', 2)) || f.ins('ok', '2', f.at('us', 1)));
SELECT f.careful(:'rels'::bytea || f.del('t', '2', NULL, NULL, NULL) || f.ins('t', '4', 'd', '4', f.at('us', 2)));
-- A new key waits for itself only
SELECT f.send(:'rels'::bytea || f.move('t', ARRAY['2', NULL, NULL, NULL], '20', 'e', '20', f.at('us', 3))
	|| f.upd('t', '20', 'e', '21', f.at('us', 4)) || f.move('t', ARRAY['4', NULL, NULL, NULL], '2', 'd', '4', f.at('us', 4)));
SELECT id, a, b FROM t ORDER BY id;
SELECT * FROM parked;
-- Another session knows it, too
\c -
\set QUIET on
\pset format unaligned
\pset tuples_only on
SELECT f.send(:'rels'::bytea || f.upd('t', '2', 'b', '6', f.at('us', 7)));
SELECT count(*) FROM parked;
-- A retry that fails says why and keeps them; one that succeeds applies all in order
SELECT * FROM tide.pending_retry(f.first('t'));
SELECT attempts, code FROM parked LIMIT 2;
ALTER TABLE t DROP CONSTRAINT small;
SELECT sum(r.applied), max(r.waiting), count(r.code), count(*) FROM tide.parked_change c, tide.pending_retry(c.id) r;
SELECT id, a, b FROM t ORDER BY id;
SELECT * FROM parked;
SELECT f.send(:'rels'::bytea || f.upd('t', '2', 'b', '7', f.at('us', 8)));
SET client_min_messages = notice;
SELECT * FROM tide.pending_retry(1);
SET client_min_messages = warning;
SELECT f.try('SELECT tide.pending_retry(1000000)');
SELECT f.try('SELECT tide.pending_drop(1)');
SELECT f.try('SELECT tide.pending_retry(NULL)');

-- Unique in another column; a drop gives up one change
SELECT f.careful(:'rels'::bytea || f.ins('t', '50', 'a', '1', f.at('us', 1)) || f.upd('t', '50', 'z', '2', f.at('us', 2)));
SELECT * FROM parked;
SELECT regexp_replace(tide.pending_drop(f.first('t')), '[0-9]{4,}', 'N');
SELECT * FROM tide.pending_retry(f.first('t'));
SELECT id, a, b FROM t WHERE id = 50;

-- Keys of several columns: one text for each, whatever the session's settings are
SELECT f.careful(:'rels'::bytea || f.ins('c', 'a,"b\', '1', 'no', f.at('us', 1)) || f.ins('c', '', '1', '1', f.at('us', 1)) || f.ins('c', 'a', '1', 'no', f.at('us', 1)));
SELECT f.send(:'rels'::bytea || f.upd('c', 'a,"b\', '1', '2', f.at('us', 2)) || f.upd('c', 'a,"b\', '2', '2', f.at('us', 2)));
SELECT * FROM parked;
SELECT tide.pending_drop(id) IS NOT NULL FROM tide.parked_change WHERE key LIKE '("a"%';
SELECT * FROM tide.pending_retry(f.first('c'));
SELECT tide.pending_drop(f.first('c')) IS NOT NULL;
SELECT * FROM tide.pending_retry(f.first('c'));
SELECT x, y, v FROM c ORDER BY x, y;
CREATE TABLE w (at timestamptz PRIMARY KEY, v int);
SELECT tide.table_add('w', 'shop');
SELECT f.rel('w', '*at timestamptz', 'v integer', 'tide_stamp tide.stamp') AS rel_w \gset
SET timezone = 'Asia/Tokyo';
SET datestyle = 'German';
SELECT f.careful(:'rel_w'::bytea || f.ins('w', '2026-01-01 12:00:00+00', 'no', NULL));
SET timezone = 'UTC';
SET datestyle = 'ISO';
SELECT f.send(:'rel_w'::bytea || f.upd('w', '2026-01-01 12:00:00+00', '1', NULL));
SELECT * FROM parked;
DELETE FROM tide.parked_change;

-- The shape is wrong: the table waits as a whole, with all that follows
SELECT f.rel('ok', '*id integer', 'more integer', 'tide_stamp tide.stamp') AS rel_more \gset
SELECT f.careful(:'rels'::bytea || :'rel_more'::bytea || f.ins('ok', '10', '1', f.at('us', 1)) || f.ins('t', '60', 'sixty', '1', f.at('us', 1))
	|| f.ins('ok', '11', '2', f.at('us', 1)));
SELECT f.send(:'rel_more'::bytea || f.upd('ok', '1', '3', f.at('us', 9)) || f.move('ok', ARRAY['2', NULL, NULL], '12', '4', f.at('us', 9)));
SELECT * FROM parked;
SELECT applied, waiting, code FROM tide.pending_retry(f.first('ok'));
ALTER TABLE ok ADD more int;
-- ... one of its rows is refused for itself: it waits alone then
ALTER TABLE ok ADD CHECK (more <> 2);
SELECT * FROM tide.pending_retry(f.first('ok'));
SELECT id, more FROM ok ORDER BY id;
SELECT * FROM parked;
SELECT f.send(:'rel_more'::bytea || f.ins('ok', '13', '5', f.at('us', 1)) || f.upd('ok', '11', '6', f.at('us', 9)));
SELECT tide.pending_drop(f.first('ok')) IS NOT NULL;
SELECT * FROM tide.pending_retry(f.first('ok'));
SELECT id, more FROM ok ORDER BY id;

-- Rights that are missing
REVOKE ALL ON ok FROM tide_relay;
CREATE ROLE regress_rows_parked IN ROLE tide_relay;
GRANT USAGE ON SCHEMA f TO regress_rows_parked;
GRANT SELECT ON ALL TABLES IN SCHEMA f TO regress_rows_parked;
GRANT SELECT ON tide.link_progress, tide.pipeline TO regress_rows_parked;
GRANT EXECUTE ON FUNCTION tide._system_identifier() TO regress_rows_parked;
SET ROLE regress_rows_parked;
SELECT f.careful(:'rel_more'::bytea || f.ins('ok', '70', '1', f.at('us', 1)));
RESET ROLE;
SELECT * FROM parked;
-- ... also for a retry, which does what the relay may do
SELECT applied, waiting, code FROM tide.pending_retry(f.first('ok'));
GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON ok TO tide_relay;
SELECT * FROM tide.pending_retry(f.first('ok'));
-- ... who retries needs no rights on the table
CREATE ROLE regress_rows_admin IN ROLE tide_admin;
SELECT f.careful(:'rels'::bytea || f.ins('t', '80', 'a', '1', f.at('us', 1)));
SELECT f.first('t') AS id \gset
SET ROLE regress_rows_admin;
SELECT applied, code FROM tide.pending_retry(:id);
SELECT tide.pending_drop(:id) IS NOT NULL;
RESET ROLE;

-- TRUNCATE: refused, it makes the table wait; done, what waits of its rows is over
CREATE TABLE refers (id int REFERENCES t);
SELECT f.try(format('SELECT f.send(%L)', :'rels'::bytea || f.trunc(0, 't', 'ok')));
SELECT f.careful(:'rels'::bytea || f.trunc(0, 't', 'ok') || f.ins('t', '90', 'ninety', '1', f.at('us', 9)) || f.ins('ok', '90', f.at('us', 9)));
SELECT * FROM parked;
SELECT id FROM ok;
DROP TABLE refers;
SELECT * FROM tide.pending_retry(f.first('t'));
SELECT id FROM t;
SELECT f.careful(:'rels'::bytea || f.ins('t', '91', 'ninety', '1', f.at('us', 9)) || f.ins('t', '92', 'x', '1', f.at('us', 9)));
SELECT f.send(:'rels'::bytea || f.trunc(2, 't') || f.ins('t', '91', 'x', '1', f.at('us', 9)));
SELECT id FROM t;
SELECT * FROM parked;

-- Triggers that are always on refuse rows; errors that are not the data's fault are raised, also with care
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF NEW.a = 'deadlock' THEN
		RAISE deadlock_detected;
	END IF;
	RAISE EXCEPTION 'not %', NEW.a USING ERRCODE = 'GU001', DETAIL = 'never';
END$$;
CREATE TRIGGER refuse AFTER INSERT ON t FOR EACH ROW WHEN (NEW.b < 0) EXECUTE FUNCTION refuse();
ALTER TABLE t ENABLE ALWAYS TRIGGER refuse;
SELECT f.careful(:'rels'::bytea || f.ins('t', '100', 'this', '-1', f.at('us', 9)) || f.ins('t', '101', 'fine', '1', f.at('us', 9)));
SELECT * FROM parked;
SELECT f.try(format('SELECT f.careful(%L)', :'rels'::bytea || f.ins('t', '102', 'deadlock', '-1', f.at('us', 9))));
SELECT id FROM t ORDER BY id;
DELETE FROM tide.parked_change;
ALTER TABLE t DISABLE TRIGGER refuse;

-- Undone with its transaction, what was parked is not remembered
BEGIN;
SELECT f.careful(:'rels'::bytea || f.ins('t', '103', 'x', '1', f.at('us', 9)));
ROLLBACK;
SELECT f.send(:'rels'::bytea || f.ins('t', '103', 'y', '1', f.at('us', 9)));
BEGIN;
SAVEPOINT a;
SELECT f.careful(:'rels'::bytea || f.ins('t', '104', 'x', '1', f.at('us', 9)));
ROLLBACK TO a;
SELECT f.send(:'rels'::bytea || f.ins('t', '104', 'z', '1', f.at('us', 9)));
COMMIT;
SELECT id FROM t ORDER BY id;
SELECT * FROM parked;
-- A table that is not replicated any more
SELECT f.careful(:'rels'::bytea || f.ins('t', '105', 'x', '1', f.at('us', 9)));
SELECT tide.table_remove('t');
SELECT * FROM tide.pending_retry(f.first('t'));
\c postgres
DROP DATABASE regress_rows_parked;
DROP ROLE regress_rows_parked, regress_rows_admin;
