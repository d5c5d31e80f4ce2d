--
-- tide.apply: inserts, updates, deletes and who wins, shapes, what is skipped, transactions in several frames.
--
SET client_min_messages = warning;
CREATE DATABASE regress_rows_apply;
\c regress_rows_apply
SET client_min_messages = warning;
CREATE EXTENSION pg_tide;
\set QUIET on
\pset format unaligned
\pset tuples_only on
\getenv dir PG_ABS_SRCDIR
\set lib :dir '/lib/frames.sql'
\i :lib

SELECT f.try($$SELECT tide.apply('link:us', 1, '\x', false)$$);
-- A frame in parts: what does not follow is refused, and an abort throws it all away
SELECT f.try($$SELECT tide.relay_part(0, 0, '\x')$$), f.try($$SELECT tide.relay_part(1 << 31, 0, '\x01')$$);
SELECT f.try($$SELECT tide.relay_part(3, 1, '\x01')$$);
SELECT tide.relay_part(3, 0, '\x0102') IS NOT NULL AS taken;
SELECT f.try($$SELECT tide.relay_part(3, 2, '\x0304')$$), f.try($$SELECT tide.relay_part(4, 2, '\x03')$$), f.try($$SELECT tide.relay_part(3, 1, '\x03')$$);
\set VERBOSITY sqlstate
BEGIN; SELECT tide.relay_part(3, 0, '\x0102') IS NOT NULL AS taken; ROLLBACK;
SELECT tide.relay_part(3, 2, '\x03');
\set VERBOSITY default
SELECT f.link();
CREATE TABLE t (id int PRIMARY KEY, a text, b int);
SELECT tide.table_add('t', 'shop');
SELECT f.rel('t', '*id integer', 'a text', 'b integer', 'tide_stamp tide.stamp') AS rel_t \gset
CREATE VIEW seen AS SELECT id, a, b, f.of(tide_stamp) AS version FROM t ORDER BY id;

-- One transaction: rows come, change, go
SELECT f.send(:'rel_t'::bytea || f.ins('t', '1', 'one', '1', f.at('us', 1)) || f.ins('t', '2', NULL, '2', f.at('us', 1))
	|| f.ins('t', '3', 'three', '3', f.at('us', 1)) || f.upd('t', '1', 'uno', '1', f.at('us', 2))
	|| f.del('t', '3', NULL, NULL, NULL));
SELECT * FROM seen;
-- The same again does nothing
SELECT f.apply(f.frame('0/1000', f.position(), f.begun('0/1000') || :'rel_t'::bytea || f.ins('t', '3', 'three', '3', f.at('us', 9))
	|| f.done(f.position())));
SELECT count(*) FROM t;
SELECT position, transactions, changes, commit_at AT TIME ZONE 'UTC' FROM tide.link_progress;

-- A row that is inserted there and is here already is found when that is done with care, and by inserts after that
SELECT f.send(:'rel_t'::bytea || f.ins('t', '1', 'older', '0', f.at('us', 1)));
SELECT f.apply(f.next(:'rel_t'::bytea || f.ins('t', '1', 'older', '0', f.at('us', 1))), true);
SELECT f.send(:'rel_t'::bytea || f.ins('t', '1', 'older', '0', f.at('us', 1)));
-- The newer version wins, whoever writes it; the same version is the same row
SELECT f.send(:'rel_t'::bytea || f.ins('t', '1', 'older', '0', f.at('us', 1)) || f.upd('t', '1', 'same', '0', f.at('us', 2))
	|| f.upd('t', '2', 'newer', '22', f.at('us', 3)));
SELECT * FROM seen;
UPDATE t SET a = 'here' WHERE id = 1;
SELECT f.send(:'rel_t'::bytea || f.upd('t', '1', 'from us', '0', f.at('us', 5)));
SELECT a, tide.stamp_region(tide_stamp) FROM t WHERE id = 1;
SELECT f.send(:'rel_t'::bytea || f.upd('t', '1', 'later', '0', split_part(tide_stamp::text, '@', 1)::bigint + 1 || '@00000001')) FROM t WHERE id = 1;
SELECT a, tide.stamp_origin(tide_stamp) FROM t WHERE id = 1;
-- An update of a row that is not here brings it; a delete of one that is not here is done
SELECT f.send(:'rel_t'::bytea || f.upd('t', '4', 'four', '4', f.at('us', 1)) || f.del('t', '99', NULL, NULL, NULL));
SELECT * FROM seen WHERE id = 4;
-- Without a stamp a row is older than all, and its region's
SELECT f.send(:'rel_t'::bytea || f.ins('t', '5', 'five', '5', NULL) || f.upd('t', '4', 'none', '4', NULL));
SELECT id, a, tide_stamp, tide.stamp_region(tide_stamp) FROM t WHERE id IN (4, 5) ORDER BY id;
-- A delete wins over what it finds
INSERT INTO t VALUES (6, 'new', 6);
SELECT f.send(:'rel_t'::bytea || f.del('t', '6', NULL, NULL, NULL));
SELECT count(*) FROM t WHERE id = 6;
-- From the future: refused
SELECT regexp_replace(f.try(format('SELECT f.send(%L)', :'rel_t'::bytea || f.ins('t', '7', '', '7', '99999999999999999@00000001'))), '[0-9]{5,}', 'N', 'g');

-- Keys that change: the old row goes, the new one is merged with what is there
TRUNCATE t;
SELECT f.send(:'rel_t'::bytea || f.ins('t', '1', 'a', '1', f.at('us', 1)) || f.ins('t', '2', 'b', '2', f.at('us', 1))
	|| f.ins('t', '3', 'c', '3', f.at('us', 5)));
SELECT f.send(:'rel_t'::bytea || f.move('t', ARRAY['1', NULL, NULL, NULL], '10', 'a', '1', f.at('us', 2))
	|| f.move('t', ARRAY['2', NULL, NULL, NULL], '3', 'b', '2', f.at('us', 4))
	|| f.move('t', ARRAY['77', NULL, NULL, NULL], '7', 'new', '7', f.at('us', 4))
	|| f.move('t', ARRAY['10', NULL, NULL, NULL], '10', 'same key', '1', f.at('us', 3)));
SELECT * FROM seen;
CREATE TABLE k (n numeric PRIMARY KEY, v text);
SELECT tide.table_add('k', 'shop');
SELECT f.rel('k', '*n numeric', 'v text', 'tide_stamp tide.stamp') AS rel_k \gset
SELECT f.send(:'rel_k'::bytea || f.ins('k', '1.0', 'a', f.at('us', 1)) || f.move('k', ARRAY['1.0', NULL, NULL], '1.00', 'b', f.at('us', 2)));
SELECT n, v FROM k;

-- Values that were not sent
SELECT f.send(:'rel_t'::bytea || f.upd('t', '10', '<same>', '5', f.at('us', 6)));
SELECT * FROM seen WHERE id = 10;
SELECT f.try(format('SELECT f.send(%L)', :'rel_t'::bytea || f.upd('t', '11', '<same>', '5', f.at('us', 6))));

-- Other shapes: columns in another order, with a default, generated here, identity, missing, of another type
CREATE TABLE s (g int GENERATED ALWAYS AS (id * 2) STORED, extra text DEFAULT 'dflt', b int, i int GENERATED ALWAYS AS IDENTITY, id int PRIMARY KEY, plain text);
SELECT tide.table_add('s', 'shop');
SELECT f.rel('s', '*id integer', 'b integer', 'i integer', 'g integer', 'tide_stamp tide.stamp') AS rel_s \gset
SELECT f.send(:'rel_s'::bytea || f.ins('s', '1', '5', '1000', '-1', f.at('us', 1)));
UPDATE s SET extra = 'ours', plain = 'ours';
SELECT f.send(:'rel_s'::bytea || f.move('s', ARRAY['1', NULL, NULL, NULL, NULL], '2', '6', '1001', '-1', '1@00000001')
	|| f.upd('s', '2', '7', '1001', '-1', '2@00000001'));
SELECT id, g, b, i, extra, plain FROM s;
SELECT f.try(format('SELECT f.send(%L)', f.rel('s', '*id integer', 'nowhere integer') || f.ins('s', '1', '1')));
SELECT f.try(format('SELECT f.send(%L)', f.rel('s', '*id integer', 'b bigint') || f.ins('s', '1', '1')));
SELECT f.try(format('SELECT f.send(%L)', f.rel('s', '*id integer', 'b tide.stamp') || f.ins('s', '1', '1')));
SELECT f.try(format('SELECT f.send(%L)', f.rel('s', 'b integer') || f.ins('s', '1')));
SELECT f.try(format('SELECT f.send(%L)', f.rel('s', 'id integer', '*b integer') || f.del('s', NULL, '1')));
ALTER TABLE s ALTER b TYPE numeric(5,1);
SELECT f.try(format('SELECT f.send(%L)', f.rel('s', '*id integer', 'b numeric') || f.ins('s', '1', '1.25')));
-- What changed is noticed at once
ALTER TABLE s ALTER b TYPE int;
SELECT f.send(:'rel_s'::bytea || f.ins('s', '3', '5', '1000', '-1', f.at('us', 1)));
ALTER TABLE s RENAME b TO bb;
SELECT f.try(format('SELECT f.send(%L)', :'rel_s'::bytea || f.ins('s', '4', '5', '1000', '-1', f.at('us', 1))));
ALTER TABLE s RENAME bb TO b;
SELECT f.send(:'rel_s'::bytea || f.ins('s', '4', '5', '1000', '-1', f.at('us', 1)));
ALTER TABLE s ADD more int NOT NULL DEFAULT 3;
SELECT f.send(:'rel_s'::bytea || f.ins('s', '5', '5', '1000', '-1', f.at('us', 1)));
SELECT id, more FROM s ORDER BY id;

-- Times in binary: rounded where the column says so, without end, too late for any
CREATE TABLE times (id int PRIMARY KEY, at timestamptz, short timestamp(0));
SELECT tide.table_add('times', 'shop');
SELECT f.rel('times', '*id integer', 'at timestamptz', 'short timestamp 0') AS rel_times \gset
SELECT f.send(:'rel_times'::bytea || f.ins('times', '1', 'b:000000000016e360', 'b:000000000016e360')
	|| f.ins('times', '2', 'b:7fffffffffffffff', 'b:8000000000000000'));
SELECT id, at AT TIME ZONE 'UTC', short FROM times ORDER BY id;
SELECT f.try(format('SELECT f.send(%L)', :'rel_times'::bytea || f.ins('times', '3', 'b:7ffffffffffffff0', NULL)));
SELECT f.try(format('SELECT f.send(%L)', :'rel_times'::bytea || f.ins('times', '3', 'b:00', NULL)));

-- Types of users, domains among them: by name; domains are checked here
CREATE TYPE mood AS ENUM ('low', 'high');
CREATE DOMAIN small AS int CHECK (value < 10);
CREATE TABLE u (id int PRIMARY KEY, m mood, d small, x small[]);
SELECT tide.table_add('u', 'shop');
SELECT f.rec('R', f.u32(f.relid('u')) || int8send(1) || f.u8(ascii('d')) || f.str('public') || f.str('u') || f.u16(3) || f.col('*id integer')
	|| f.u8(0) || f.str('m') || f.u32(77777) || int4send(-1) || f.str('public') || f.str('mood')
	|| f.u8(0) || f.str('d') || f.u32(77778) || int4send(-1) || f.str('pg_catalog') || f.str('int4')) AS rel_u \gset
SELECT f.send(:'rel_u'::bytea || f.ins('u', '1', 'high', '9') || f.ins('u', '2', 'b:' || encode('low', 'hex'), 'b:00000008'));
SELECT id, m, d FROM u ORDER BY id;
SELECT f.try(format('SELECT f.send(%L)', :'rel_u'::bytea || f.ins('u', '3', 'high', '10')));
SELECT f.try(format('SELECT f.send(%L)', :'rel_u'::bytea || f.ins('u', '3', 'middling', '1')));
SELECT f.try(format('SELECT f.send(%L)', :'rel_u'::bytea || f.ins('u', '3', NULL, 'b:0000')));
SELECT f.try(format('SELECT f.send(%L)', :'rel_u'::bytea || f.ins('u', 'b:000000000001', NULL, NULL)));

-- A table without a key takes inserts only
CREATE TABLE l (at int, what text);
SELECT tide.table_add('l', 'shop', '{"insert_only": true}');
SELECT f.rel('l', 'at integer', 'what text') AS rel_l \gset
SELECT f.send(:'rel_l'::bytea || f.ins('l', '1', 'x') || f.ins('l', '1', 'x'));
SELECT at, what FROM l;
SELECT f.try(format('SELECT f.send(%L)', :'rel_l'::bytea || f.del('l', '1', 'x')));

-- Skipped: tables that are not added, or not copied yet, and what is in the copy
CREATE TABLE n (id int PRIMARY KEY);
SELECT f.send(f.rel('n', '*id integer') || f.ins('n', '1') || f.rel('gone', '*id integer') || f.ins('gone', '1'));
SELECT tide.table_add('n', 'shop');
UPDATE tide.link SET copy = true;
INSERT INTO tide.link_table (link_id, schema_name, table_name) SELECT id, 'public', 'n' FROM tide.link;
SELECT f.send(f.rel('n', '*id integer') || f.ins('n', '1') || f.ins('n', '2'));
UPDATE tide.link_table SET state = 'copied', copied_lsn = f.position() + 1 WHERE table_name = 'n';
SELECT f.send(f.rel('n', '*id integer') || f.ins('n', '3'));
SELECT f.send(f.rel('n', '*id integer') || f.ins('n', '4'));
SELECT id FROM n;
SELECT tide.table_remove('n');
SELECT f.send(f.rel('n', '*id integer') || f.ins('n', '5'));
UPDATE tide.link SET copy = false;

-- A transaction in several frames
SELECT f.position() AS p \gset
SELECT f.frame(:'p', :'p', f.begun(:'p') || :'rel_t'::bytea || f.ins('t', '100', 'part one', '1', f.at('us', 1)), 4, 0) AS one \gset
SELECT f.frame(:'p', :'p', f.begun(:'p') || :'rel_t'::bytea || f.ins('t', '101', 'part two', '1', f.at('us', 1)), 6, 0) AS two \gset
SELECT f.frame(:'p', :'p'::pg_lsn + 100, f.done(:'p'::pg_lsn + 100), 2, 1) AS last \gset
SELECT f.apply(:'two');
SELECT f.apply(:'last');
BEGIN;
SELECT f.apply(:'one');
COMMIT;
BEGIN;
SELECT f.apply(:'one');
SAVEPOINT a;
SELECT f.send(f.rel('n', '*id integer') || f.ins('n', '4'));
ROLLBACK TO a;
PREPARE TRANSACTION 'x';
BEGIN;
SELECT f.apply(:'one');
SELECT f.apply(:'two');
SELECT f.apply(:'last');
COMMIT;
SELECT * FROM seen WHERE id >= 100;
SELECT f.position() - :'p'::pg_lsn;
BEGIN;
SELECT f.apply(:'one');
SELECT f.apply(:'two');
SELECT f.apply(:'last');
COMMIT;
-- ... undone by a savepoint: all of it, or a part
SELECT f.position() AS p \gset
SELECT f.frame(:'p', :'p', f.begun(:'p') || :'rel_t'::bytea || f.ins('t', '102', 'part one', '1', f.at('us', 1)), 4, 0) AS one \gset
SELECT f.frame(:'p', :'p'::pg_lsn + 100, f.done(:'p'::pg_lsn + 100), 2, 1) AS last \gset
BEGIN;
SAVEPOINT a;
SELECT f.apply(:'one');
ROLLBACK TO a;
SELECT f.try(format('SELECT f.apply(%L)', :'last'));
COMMIT;
BEGIN;
SELECT f.apply(:'one');
SAVEPOINT a;
SELECT f.apply(:'last');
ROLLBACK TO a;
SELECT f.try(format('SELECT f.apply(%L)', :'last'));
COMMIT;
SELECT count(*) FROM t WHERE id = 102;

-- Heartbeats, and frames that only carry the position
SELECT f.send(f.beat(clock_timestamp() - interval '3 seconds'));
SELECT heartbeat_seen_at - heartbeat_at BETWEEN interval '3 s' AND interval '1 min' FROM tide.link_progress;
SELECT count(*) FROM tide.lag_history;
SELECT f.apply(f.frame(f.position(), f.position() + 50, '', 0, 0));
SELECT f.position() = '0/1000'::pg_lsn + 50 + 100 * transactions FROM tide.link_progress;

-- What is refused: gaps, other servers, other owners
SELECT f.try($$SELECT f.apply(f.frame(f.position() + 1, f.position() + 50, '', 0, 0))$$) ~ '^TD011';
SELECT f.try($$SELECT f.apply(f.frame(f.position(), f.position() + 50, '', 0, 0, 'asia'))$$);
SELECT f.try($$SELECT f.apply(f.frame(f.position(), f.position() + 50, '', 0, 0, 'us', 7))$$);
SELECT f.try($$SELECT f.apply(f.frame(f.position(), f.position() + 50, '', 0, 0, 'us', tide._system_identifier(), 2))$$) ~ '^TD012';
SELECT f.try($$SELECT tide.apply('link:us', 0, f.next(''), false)$$);
SELECT f.try($$SELECT tide.apply('nobody', 1, f.next(''), false)$$);
SELECT f.try($$SELECT tide.apply('link:us', f.epoch(), NULL, false)$$);
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT f.send('');
ROLLBACK;
SELECT f.epoch() AS before \gset
SELECT tide.relay_acquire('link:us', 'another') > :before;
SELECT f.try(format('SELECT tide.apply(''link:us'', %s, f.next(''''), false)', :before)) ~ '^TD001';
SELECT f.send('');

-- Everything is here that should be; nothing is left open
SELECT tide.apply_flushed('link:us', f.epoch()) <= f.position();
SELECT count(*) FROM pg_prepared_xacts;
SHOW session_replication_role;
\c postgres
DROP DATABASE regress_rows_apply;
