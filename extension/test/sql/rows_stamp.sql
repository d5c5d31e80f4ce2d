--
-- Stamps: the type, its order, the trigger that sets them.
--
SET client_min_messages = warning;
CREATE DATABASE regress_rows_stamp;
\c regress_rows_stamp
SET client_min_messages = warning;
CREATE EXTENSION pg_tide;
CREATE FUNCTION pg_temp.try(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	message text;
	hint text;
BEGIN
	EXECUTE statement;
	RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
	RETURN concat_ws(E'\n', sqlstate || ' ' || message, nullif(hint, ''));
END
$$;

-- Text: exactly one form
SELECT '0@00000000'::tide.stamp, '9223372036854775807@ffffffff'::tide.stamp, '1700000000000000@ae8e56a9+00ff'::tide.stamp;
SELECT pg_temp.try($$SELECT 'soon'::tide.stamp$$);
SELECT t AS accepted
	FROM unnest(ARRAY['', '@', '1', '1@', '@00000001', '1@1', '1@000000001', '01@00000001', '-1@00000001', '+1@00000001',
					  ' 1@00000001', '1@00000001 ', '9223372036854775808@00000001', '1@0000000G', '1@ABCDEF01',
					  '1@00000001+', '1@00000001+0', '1@00000001+0g', '1@00000001+00+00', 'x@00000001',
					  '1@00000001+' || repeat('00', 4097)]) t
	WHERE pg_temp.try(format('SELECT %L::tide.stamp', t)) !~ '^22P02 invalid input syntax for type tide.stamp';
-- On disk: clock and origin, 13 bytes
SELECT tide.stamp_send('1@00000002'), tide.stamp_send('258@000000ff+abcd');
CREATE TABLE s (s tide.stamp);
INSERT INTO s VALUES ('1@00000002'), ('258@000000ff+abcd'), (NULL), ('9223372036854775807@ffffffff');
SELECT s, pg_column_size(s) FROM s;
-- Binary in and out
\copy s TO 'results/rows_stamp.data' (FORMAT binary)
CREATE TABLE r (LIKE s);
\copy r FROM 'results/rows_stamp.data' (FORMAT binary)
SELECT count(*) AS lost FROM (SELECT s FROM s EXCEPT SELECT s FROM r) d;
-- too short, and before the beginning
CREATE TABLE b (b bytea);
INSERT INTO b VALUES ('\x0000000000000001000000');
\copy b TO 'results/rows_stamp.data' (FORMAT binary)
\copy r FROM 'results/rows_stamp.data' (FORMAT binary)
UPDATE b SET b = '\xff0000000000000100000001';
\copy b TO 'results/rows_stamp.data' (FORMAT binary)
\copy r FROM 'results/rows_stamp.data' (FORMAT binary)

-- Order: clock, then origin, then what is reserved
SELECT array_agg(v ORDER BY v) FROM unnest('{2@00000001,1@ffffffff,10@00000000,1@00000001,1@00000001+01,1@00000001+00}'::tide.stamp[]) v;
SET search_path = tide, public;
SELECT a, b, a < b AS lt, a <= b AS le, a = b AS eq, a <> b AS ne, a >= b AS ge, a > b AS gt
	FROM (VALUES ('1@00000001'::tide.stamp, '1@00000001'::tide.stamp), ('1@00000001', '1@00000002'), ('2@00000000', '1@ffffffff')) v (a, b);
RESET search_path;
CREATE INDEX ON s (s);
SET enable_seqscan = off;
SELECT s FROM s WHERE s OPERATOR(tide.>) '1@00000002' ORDER BY s;
RESET enable_seqscan;

-- What a stamp says
DO $$ BEGIN PERFORM tide.region_init('us-east'), tide.region_add('eu-west', 'host=h'), tide.class_create('shop', '{"scope": "global"}'); END $$;
SELECT tide.region_id('us-east'), to_hex(tide.region_id('us-east')), tide.region_id('');
SELECT tide.stamp_origin('5@ffffffff'), tide.stamp_time('1700000000123456@00000001') AT TIME ZONE 'UTC',
	tide.stamp_time('9223372036854775807@00000001'), tide.stamp_time('0@00000001') AT TIME ZONE 'UTC';
SELECT tide.stamp_region('1@ae8e56a9'), tide.stamp_region('1@3ca66f25'), tide.stamp_region('1@00000001'), tide.stamp_region(NULL);

-- The trigger
CREATE TABLE t (id int PRIMARY KEY, v text);
INSERT INTO t SELECT n, 'before' FROM generate_series(1, 3) n;
SELECT pg_relation_filenode('t') AS file \gset
SELECT tide.table_add('t', 'shop');
SELECT pg_relation_filenode('t') = :file AS not_rewritten;
SELECT atthasdef, attnotnull FROM pg_attribute WHERE attrelid = 't'::regclass AND attname = 'tide_stamp';
SELECT id, tide_stamp FROM t;
SELECT now, now + 20000000 AS future FROM (SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint) n (now) \gset
INSERT INTO t VALUES (4, 'new');
UPDATE t SET v = 'changed' WHERE id = 1;
CREATE VIEW stamps AS SELECT id, split_part(tide_stamp::text, '@', 1)::bigint AS clock, tide.stamp_region(tide_stamp) AS region FROM t;
SELECT id, clock BETWEEN :now AND :now + 60000000 AS now, region FROM stamps ORDER BY id;
-- each version has its own, larger than the one before, whatever was given
INSERT INTO t SELECT n, 'many' FROM generate_series(5, 1000) n;
SELECT count(*) = count(DISTINCT clock) AS distinct, bool_and(clock >= :now) FROM stamps WHERE id >= 5;
INSERT INTO t (id, v, tide_stamp) VALUES (1001, 'mine', '1@00000001');
UPDATE t SET tide_stamp = NULL WHERE id = 2;
UPDATE t SET tide_stamp = '9000000000000000000@00000001' WHERE id = 3;
INSERT INTO t VALUES (4, 'x') ON CONFLICT (id) DO UPDATE SET v = excluded.v;
\copy t (id, v, tide_stamp) FROM STDIN
1002	copied	1@00000001
\.
SELECT id, clock >= :now AND clock < :future AS now, region FROM stamps WHERE id IN (2, 3, 4, 1001, 1002) ORDER BY id;
-- silent while rows are applied: they carry their own
SET session_replication_role = replica;
INSERT INTO t VALUES (2000, 'applied', '7@3ca66f25'), (2001, 'from the future', (:future || '@3ca66f25+01')::tide.stamp), (2002, 'none', NULL);
RESET session_replication_role;
SELECT id, CASE WHEN id <> 2001 THEN tide_stamp END AS stamp, tide.stamp_region(tide_stamp) FROM t WHERE id >= 2000;
-- what is written over them is newer all the same
UPDATE t SET v = 'here' WHERE id >= 2000;
SELECT id, clock > 7 AS newer, clock > :future AS future, region FROM stamps WHERE id >= 2000 ORDER BY id;
SELECT pg_column_size(tide_stamp) FROM t WHERE id = 2001;
-- the clock has seen it, so the next is later still (until the server starts again)
INSERT INTO t VALUES (3000, 'after');
SELECT clock > (SELECT clock FROM stamps WHERE id = 2001) AS later FROM stamps WHERE id = 3000;

-- A damaged stamp is no crash
SET session_replication_role = replica;
CREATE FUNCTION cut(bytea) RETURNS tide.stamp LANGUAGE internal AS 'byteasend';
UPDATE t SET tide_stamp = cut('\x01') WHERE id = 3000;
RESET session_replication_role;
SELECT pg_temp.try($$UPDATE t SET v = 'x' WHERE id = 3000$$);
SELECT pg_temp.try($$SELECT tide_stamp FROM t WHERE id = 3000$$);
DELETE FROM t WHERE id = 3000;

-- Whole rows are in the WAL: TOAST that did not change, too
CREATE TABLE big (id int PRIMARY KEY, n int, plain text, packed text, empty text, gone text);
ALTER TABLE big DROP COLUMN gone, ALTER COLUMN plain SET STORAGE external;
SELECT tide.table_add('big', 'shop');
INSERT INTO big SELECT n, 0, repeat('plain', 2000), (SELECT string_agg(md5(i::text || n), '') FROM generate_series(1, 500) i), NULL
	FROM generate_series(1, 3) n;
SELECT md5(string_agg(b::text, '' ORDER BY id)) AS before FROM (SELECT id, plain, packed FROM big) b \gset
CREATE TABLE unstamped (LIKE big INCLUDING ALL);
INSERT INTO unstamped SELECT * FROM big;
SELECT slot_name FROM pg_create_logical_replication_slot('regress_rows_stamp', 'test_decoding');
UPDATE big SET n = n + 1;
UPDATE big SET n = n + 1, plain = 'short' WHERE id = 1;
UPDATE unstamped SET n = n + 1;
SELECT substring(data FROM 'table public\.\w+: \w+') AS change, data ~ 'unchanged-toast-datum' AS unchanged, count(*),
	min(length(data)) > 10000 AS long
	FROM pg_logical_slot_get_changes('regress_rows_stamp', NULL, NULL) WHERE data ~ '^table' GROUP BY 1, 2 ORDER BY 1, 2;
DO $$ BEGIN PERFORM pg_drop_replication_slot('regress_rows_stamp'); END $$;
SELECT md5(string_agg(b::text, '' ORDER BY id)) = :'before' AS kept FROM (SELECT id, repeat('plain', 2000) AS plain, packed FROM big) b;
SELECT id, n, length(plain), length(packed), tide.stamp_region(tide_stamp) FROM big ORDER BY id;

-- Partitions with columns in another order
CREATE TABLE parts (id int, k int, v text, PRIMARY KEY (id)) PARTITION BY RANGE (id);
CREATE TABLE part_1 PARTITION OF parts FOR VALUES FROM (0) TO (100);
SELECT tide.table_add('parts', 'shop');
CREATE TABLE part_2 (tide_stamp tide.stamp, v text, junk int, id int NOT NULL, k int);
ALTER TABLE part_2 DROP COLUMN junk;
ALTER TABLE parts ATTACH PARTITION part_2 FOR VALUES FROM (100) TO (200);
INSERT INTO parts (id, k, v) VALUES (1, 1, 'one'), (150, 1, 'two');
UPDATE parts SET id = id + 100, v = 'moved' WHERE id = 1;
SELECT tableoid::regclass, id, k, v, tide.stamp_region(tide_stamp) FROM parts ORDER BY id;
CREATE TABLE part_3 (id int NOT NULL, k int, v text);
SELECT pg_temp.try('ALTER TABLE parts ATTACH PARTITION part_3 FOR VALUES FROM (200) TO (300)');

-- A trigger where it does not belong, or without its column
SELECT pg_temp.try('SELECT tide._stamp_row()');
CREATE TABLE other (id int PRIMARY KEY, v text, tide_stamp text);
CREATE TRIGGER t BEFORE INSERT OR UPDATE ON other FOR EACH ROW EXECUTE FUNCTION tide._stamp_row();
SELECT pg_temp.try($$INSERT INTO other VALUES (1)$$);
ALTER TABLE other DROP COLUMN tide_stamp;
SELECT pg_temp.try($$INSERT INTO other VALUES (1)$$);
DROP TRIGGER t ON other;
CREATE TRIGGER t AFTER INSERT ON other FOR EACH ROW EXECUTE FUNCTION tide._stamp_row();
SELECT pg_temp.try($$INSERT INTO other VALUES (1)$$);
DROP TRIGGER t ON other;
CREATE TRIGGER t BEFORE DELETE ON other FOR EACH STATEMENT EXECUTE FUNCTION tide._stamp_row();
SELECT pg_temp.try($$DELETE FROM other$$);
DROP TABLE other;

-- Without a name for the region there is no stamp; a session that knew one forgets it
BEGIN;
DELETE FROM tide.local_region;
SELECT pg_temp.try($$INSERT INTO t VALUES (4000)$$);
INSERT INTO tide.local_region (name) VALUES ('elsewhere');
INSERT INTO t VALUES (4000);
SELECT tide.stamp_region(tide_stamp) FROM t WHERE id = 4000;
ROLLBACK;
INSERT INTO t VALUES (4000);
SELECT tide.stamp_region(tide_stamp) FROM t WHERE id = 4000;

-- People who know nothing of stamps write, and compare whole rows
CREATE ROLE regress_rows_app;
GRANT SELECT, INSERT, UPDATE ON t TO regress_rows_app;
SET ROLE regress_rows_app;
INSERT INTO t VALUES (5000, 'app');
UPDATE t SET v = 'app' WHERE id = 4;
SELECT count(*) FROM (SELECT * FROM t UNION SELECT * FROM t) u;
SELECT count(*) FROM (SELECT DISTINCT * FROM t) u;
SELECT count(*) FROM t a JOIN t b ON a = b;
RESET ROLE;
DROP OWNED BY regress_rows_app;
DROP ROLE regress_rows_app;
\c contrib_regression
DROP DATABASE regress_rows_stamp;
