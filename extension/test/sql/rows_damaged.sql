--
-- Frames that are damaged, or lie: refused with TD013, and nothing of them stays.
--
SET client_min_messages = warning;
CREATE DATABASE regress_rows_damaged;
\c regress_rows_damaged
SET client_min_messages = warning;
CREATE EXTENSION pg_tide;
\set QUIET on
\pset format unaligned
\pset tuples_only on
\getenv dir PG_ABS_SRCDIR
\set lib :dir '/lib/frames.sql'
\i :lib
SELECT f.link();

CREATE TABLE t (id int PRIMARY KEY, a text);
SELECT tide.table_add('t', 'shop');
SELECT f.rel('t', '*id integer', 'a text', 'tide_stamp tide.stamp') AS rel \gset
SELECT f.position() AS p \gset
SELECT f.next(:'rel'::bytea || f.ins('t', '1', 'x', f.at('us', 1))) AS good \gset
CREATE FUNCTION f.refused(frame bytea) RETURNS text LANGUAGE sql AS $$
	SELECT f.try(format('SELECT f.apply(%L)', frame)) || ' | ' || f.try(format('SELECT f.apply(%L, true)', frame)) $$;
/* With a checksum that is right. */
CREATE FUNCTION f.sealed(frame bytea) RETURNS bytea LANGUAGE sql AS $$
	SELECT overlay(frame PLACING f.u32(f.crc32c(overlay(frame PLACING f.u32(0) FROM 17))) FROM 17) $$;

-- Every byte counts, and so does every length
SELECT bool_and(f.try(format('SELECT f.apply(%L)', substr(:'good'::bytea, 1, n))) ~ '^TD013') FROM generate_series(0, length(:'good'::bytea) - 1) n;
SELECT bool_and(f.try(format('SELECT f.apply(%L)', set_byte(:'good'::bytea, n, (get_byte(:'good'::bytea, n) + 1) & 255))) ~ '^TD013')
	FROM generate_series(0, length(:'good'::bytea) - 1) n;
SELECT f.refused('');
SELECT f.refused(:'good'::bytea || '\x00');
-- ... checksums that are right do not help: whatever changes is refused or harmless, nothing crashes
SELECT count(*) > 0, bool_and(r ~ '^(TD01[1-4]|22|23|08|[0-9]+ transactions)') FROM
	(SELECT f.try(format('DO $do$ BEGIN PERFORM f.apply(%L); RAISE data_exception; END $do$', f.sealed(set_byte(:'good'::bytea, n, b)))) AS r
	 FROM generate_series(4, length(:'good'::bytea) - 1) n, unnest(ARRAY[0, 1, 127, 255]) b) x;

-- A header that lies
SELECT f.refused(f.sealed(overlay(:'good'::bytea PLACING f.u32(4294967295) FROM 9)));
SELECT f.refused(f.sealed(overlay(:'good'::bytea PLACING f.u32(1000000000) FROM 9)));
SELECT f.refused(f.sealed(overlay(overlay(:'good'::bytea PLACING f.u8(1) FROM 5) PLACING f.u32(1000000000) FROM 9)));
SELECT f.refused(f.sealed(overlay(:'good'::bytea PLACING f.u8(16) FROM 5)));
SELECT f.refused(f.frame(:'p'::pg_lsn + 10, :'p', ''));
SELECT f.refused(f.frame(:'p', :'p'::pg_lsn + 10, '', 4, 0));
SELECT f.refused(f.frame(:'p', :'p', '', 0, 0, ''));
SELECT f.refused(f.frame(:'p', :'p', '', 0, 0, 'a b'));

-- Records in the wrong place, of the wrong length, of relations nobody described
SELECT f.refused(f.frame(:'p', :'p'::pg_lsn + 10, :'rel'::bytea || f.ins('t', '1', 'x', NULL)));
SELECT f.refused(f.frame(:'p', :'p'::pg_lsn + 10, f.done(:'p')));
SELECT f.refused(f.frame(:'p', :'p'::pg_lsn + 10, f.begun(:'p') || f.begun(:'p'::pg_lsn + 1)));
SELECT f.refused(f.frame(:'p', :'p'::pg_lsn + 10, f.begun(:'p')));
SELECT f.refused(f.frame(:'p', :'p', f.begun(:'p') || f.done(:'p'), 4, 0));
SELECT f.refused(f.frame(:'p', :'p'::pg_lsn + 10, f.rec('B', '\x00')));
SELECT f.refused(f.frame(:'p', :'p'::pg_lsn + 10, f.rec('Z', '\x00')));
SELECT f.refused(f.next(f.ins('t', '1', 'x', NULL)));
SELECT f.refused(f.next(f.rec('C', '\x00')));
SELECT f.refused(f.next(f.rec('H', '\x00')));
SELECT f.refused(f.next(f.rec('R', '\x00')));
SELECT f.refused(f.next(substr(:'rel'::bytea, 1, length(:'rel'::bytea) - 1)));
SELECT f.refused(f.next(:'rel'::bytea || f.ins('t', '1', 'x')));
SELECT f.refused(f.next(:'rel'::bytea || f.ins('t', '1', 'x', NULL, 'y')));
SELECT f.refused(f.next(:'rel'::bytea || f.rec('I', f.u32(f.relid('t')) || f.tuple(ARRAY['1', 'x', NULL]) || '\x00')));
SELECT f.refused(f.next(:'rel'::bytea || f.rec('U', f.u32(f.relid('t')) || f.u8(0) || '\x0003')));
SELECT f.refused(f.next(:'rel'::bytea || f.rec('D', f.u32(f.relid('t')) || f.u8(75) || f.tuple(ARRAY['1', NULL, NULL]) || '\x00')));
SELECT f.refused(f.next(:'rel'::bytea || f.rec('I', f.u32(f.relid('t')) || f.u16(65535))));
SELECT f.refused(f.next(:'rel'::bytea || f.rec('I', f.u32(f.relid('t')) || f.u16(3) || f.u8(ascii('b')) || f.u32(4294967295))));
SELECT f.refused(f.next(:'rel'::bytea || f.rec('T', f.u8(0) || f.u32(1073741824) || f.u32(f.relid('t')))));
SELECT f.refused(f.next(:'rel'::bytea || f.rec('T', f.u8(0) || f.u32(2) || f.u32(f.relid('t')) || f.u32(5))));
-- A relation with the same fingerprint and another shape is another relation
SELECT f.send(:'rel'::bytea || f.ins('t', '1', 'x', f.at('us', 1)));
SELECT f.refused(f.next(overlay(f.rel('t', '*id integer', 'b text', 'tide_stamp tide.stamp') PLACING substr(:'rel'::bytea, 10, 8) FROM 10)
	|| f.ins('t', '1', 'x', f.at('us', 2)))) ~ 'no column "b"';
DELETE FROM tide.parked_change;
-- Text must be text
SELECT f.refused(f.next(:'rel'::bytea || f.rec('I', f.u32(f.relid('t')) || f.u16(3) || f.value('2') || f.u8(ascii('b')) || f.u32(2) || '\x6100' || f.value(NULL))));
SELECT f.refused(f.next(:'rel'::bytea || f.rec('I', f.u32(f.relid('t')) || f.u16(3) || f.value('3') || f.u8(ascii('t')) || f.u32(2) || '\xfffe' || f.value(NULL))));
SELECT f.refused(f.next(:'rel'::bytea || f.rec('I', f.u32(f.relid('t')) || f.u16(3) || f.value('4') || f.u8(ascii('t')) || f.u32(2) || '\x6100' || f.value(NULL))));
SELECT key, code, reason FROM tide.parked_change ORDER BY id;
-- A delete of no row, applied and where changes wait
SELECT f.refused(f.next(:'rel'::bytea || f.rec('D', f.u32(f.relid('t')) || f.u8(0))));
BEGIN;
DELETE FROM tide.parked_change;
SELECT f.refused(f.next(:'rel'::bytea || f.rec('D', f.u32(f.relid('t')) || f.u8(0))));
ROLLBACK;
-- Nothing of all that is here, and the next frame comes as ever
SELECT id, a FROM t;
SELECT f.send(:'rel'::bytea || f.ins('t', '10', 'x', f.at('us', 1)));
\c postgres
DROP DATABASE regress_rows_damaged;
