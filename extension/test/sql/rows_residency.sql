--
-- Residency: which rows and columns go to which region, and what may stay here.
--
SET client_min_messages = warning;
CREATE DATABASE regress_rows_residency;
\c regress_rows_residency
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
CREATE VIEW published AS
	SELECT CASE WHEN p.pubname = 'tide_to_' || lpad(to_hex(tide.region_id('eu-west')), 8, '0') THEN 'to eu-west'
				WHEN p.pubname = 'tide_to_' || lpad(to_hex(tide.region_id('ap-east')), 8, '0') THEN 'to ap-east'
				WHEN p.pubname = 'tide_to_' || lpad(to_hex(tide.region_id('eu-west')), 8, '0') || '_insert' THEN 'to eu-west, insert'
				ELSE p.pubname END AS publication,
		p.tablename, p.attnames, p.rowfilter
	FROM pg_publication_tables p WHERE p.pubname LIKE 'tide%' ORDER BY 1, 2;
CREATE VIEW identity AS
	SELECT c.relname, c.relreplident, regexp_replace(x.relname, '\d+_\w+$', 'N') AS index,
		(SELECT string_agg(a.attname, ',' ORDER BY k.n) FROM unnest(i.indkey) WITH ORDINALITY k (at, n)
			JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.at) AS columns, tide._table_key(c.oid) AS key
	FROM pg_class c LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisreplident LEFT JOIN pg_class x ON x.oid = i.indexrelid
	WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace ORDER BY c.relname;

-- The option is checked
SELECT options || ': ' || try(format('SELECT tide.class_create(%L, %L)', 'c',
									 format('{"scope": "global", "residency": %s}', options)))
	FROM unnest(ARRAY['1', '{}', '{"personal": false}', '{"personal": 1}', '{"colum": "region"}', '{"column": 5}', '{"regions": []}',
		'{"regions": {"eu west": true}}', '{"regions": {"eu-west": 5}}', '{"regions": {"eu-west": {"rows": []}}}',
		'{"regions": {"eu-west": {"row": true}}}', '{"regions": {"eu-west": {"columns": "id"}}}', '{"regions": {"eu-west": {"columns": [1]}}}',
		'{"regions": {"eu-west": {"columns": ["id"], "without": ["v"]}}}', '{"regions": {}}', '{"column": ""}', '{"column": "", "personal": true}']) options;
-- A misspelt region is seen
SELECT tide.class_create('c', '{"scope": "global", "residency": {"regions": {"us-east": true, "eu-wset": false, "*": true}}}');
SELECT tide.class_drop('c');
SELECT predicate || ': ' || try(format('SELECT tide.class_create(%L, %L)', 'c',
									   jsonb_build_object('scope', 'global', 'residency', jsonb_build_object('regions', jsonb_build_object('*', predicate)))))
	FROM unnest(ARRAY['v =', 'true), TABLE secrets WHERE (true', 'true) --', 'true /*', 'v = 1; DROP TABLE x', 'v = 1 FROM x', 'a, b',
		'v = 1 ORDER BY 1', 'v AS x', '*', '', 'SELECT true', 'v = ''', 'DISTINCT v', 'true UNION SELECT true']) predicate;
SELECT try($$SELECT tide.class_create('c', '{"scope": "regional", "residency": {"column": "region"}}')$$);

-- A column that names the region; another key than the primary one; a key that has the column; insert-only
CREATE TABLE customer (id int PRIMARY KEY, region text NOT NULL, email text, spent int);
CREATE TABLE nullable (id int PRIMARY KEY, region text);
CREATE TABLE without (id int PRIMARY KEY);
CREATE TABLE alternate (id int PRIMARY KEY, a int NOT NULL, b int NOT NULL, region text NOT NULL);
CREATE UNIQUE INDEX alternate_ab ON alternate (a, b);
ALTER TABLE alternate REPLICA IDENTITY USING INDEX alternate_ab;
CREATE TABLE keyed (region text, id int, v text, PRIMARY KEY (region, id));
CREATE TABLE events (at int, region text);
CREATE TABLE parts (id int, at int, region text NOT NULL, v text, PRIMARY KEY (at, id)) PARTITION BY RANGE (at);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (10);
CREATE TABLE plain (id int PRIMARY KEY);
CREATE TYPE mood AS ENUM ('good', 'bad');
SELECT tide.class_create('by_region', '{"scope": "global", "residency": {"column": "region"}}'), tide.class_create('free', '{"scope": "global"}');
SELECT try($$SELECT tide.table_add('nullable', 'by_region')$$);
SELECT try($$SELECT tide.table_add('without', 'by_region')$$);
SELECT tide.table_add(t::regclass, 'by_region') FROM unnest('{customer,alternate,keyed,parts}'::text[]) t;
SELECT tide.table_add('events', 'by_region', '{"insert_only": true}'), tide.table_add('plain', 'free');
SELECT * FROM published;
SELECT * FROM identity;
-- Writing works, also in a partition that comes
INSERT INTO parts VALUES (1, 1, 'eu-west', 'a');
CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (10) TO (20);
CREATE TABLE parts_3 (v text, region text NOT NULL, at int NOT NULL, id int NOT NULL, tide_stamp tide.stamp);
ALTER TABLE parts ATTACH PARTITION parts_3 FOR VALUES FROM (20) TO (30);
INSERT INTO parts VALUES (2, 11, 'eu-west', 'b'), (3, 21, 'us-east', 'c');
UPDATE parts SET at = at + 1, region = 'ap-east';
DELETE FROM parts WHERE id = 2;
UPDATE customer SET region = 'x';
SELECT relname, relreplident, index, columns, key FROM identity WHERE relname ~ 'parts';

-- What a destination copies; it gets its publications by asking
SELECT table_name, columns, copy_sql FROM tide.rows_tables('eu-west');
SELECT table_name FROM tide.rows_tables();
SELECT table_name FROM tide.rows_tables('ap-east');
SELECT region FROM tide.rows_identify('ap-east');
SELECT table_name, copy_sql FROM tide.rows_tables('ap-east') WHERE table_name = 'customer';
SELECT region FROM tide.residency_destination ORDER BY region;

-- Regions by name, predicates, columns
SELECT * FROM tide.class_alter('by_region', '{"residency": {"column": "region", "regions": {"eu-west": {"columns": ["id", "v", "spent"]}, "ap-east": "region LIKE ''ap%'' AND region <> ''ap-x''"}}}', dry_run => true);
SELECT tide.class_alter('by_region', '{"residency": {"column": "region", "regions": {"eu-west": {"columns": ["id", "v", "spent"]}, "ap-east": "region LIKE ''ap%'' AND region <> ''ap-x''"}}}');
SELECT * FROM published;
SELECT try(format('SELECT tide.class_alter(%L, %L)', 'by_region', jsonb_build_object('residency', jsonb_build_object('regions', jsonb_build_object('mars', predicate)))))
	FROM unnest(ARRAY['nothing = 1', 'random() < 0.5', 'now() > ''2020-01-01''', 'id = (SELECT 1)', 'id = $1', 'id', 'tide_stamp IS NULL', 'email IS NULL']) predicate;
SELECT * FROM tide.class_alter('by_region', '{"residency": {"regions": {"eu-west": {"rows": true, "without": ["email", "v"]}, "ap-east": false}}}');
SELECT * FROM published;
SELECT relname, relreplident, index, columns, key FROM identity;
SELECT try($$SELECT tide.class_alter('by_region', '{"residency": {"regions": {"*": {"without": ["id"]}}}}')$$);
-- A column that comes goes where "without" does not name it
ALTER TABLE customer ADD COLUMN phone text;
SELECT attnames FROM published WHERE tablename = 'customer';
ALTER TABLE customer DROP COLUMN phone CASCADE;
SELECT attnames FROM published WHERE tablename = 'customer';
SELECT count(*) > 0 FROM tide.class_alter('by_region', '{"residency": {"column": "region"}}');
SELECT try('ALTER TABLE customer RENAME COLUMN region TO country');
SELECT try('ALTER TABLE customer DROP COLUMN region');

-- Personal data: what comes later is denied until it is allowed
CREATE TABLE person (id int PRIMARY KEY, name text);
SELECT tide.class_create('people', '{"scope": "global", "residency": {"personal": true, "regions": {"eu-west": true}}}');
SELECT tide.table_add('person', 'people');
ALTER TABLE person ADD COLUMN ssn text;
SELECT * FROM published WHERE tablename = 'person';
SELECT tide.residency_allow('person', 'ssn');
SELECT attnames FROM published WHERE tablename = 'person';
SELECT tide.residency_deny('person', 'ssn'), tide.residency_deny('person', 'name');
SELECT attnames FROM published WHERE tablename = 'person';
SELECT tide.table_add('person', 'people');
SELECT attnames FROM published WHERE tablename = 'person';
SELECT try(command) FROM unnest(ARRAY['SELECT tide.residency_deny(''person'', ''id'')', 'SELECT tide.residency_allow(''person'', ''nothing'')',
	'SELECT tide.residency_deny(''person'', ''tide_stamp'')', 'SELECT tide.residency_allow(''plain'', ''id'')', 'SELECT tide.residency_allow(NULL, ''id'')']) command;

-- What is here: rows of others that may not be go; what this region wrote only when somebody has it
SELECT tide.class_create('held', '{"scope": "global", "residency": {"column": "region"}}');
CREATE TABLE held (id int PRIMARY KEY, region text NOT NULL, a text, b int NOT NULL DEFAULT 7, c int NOT NULL DEFAULT random(), d json DEFAULT '{}');
SELECT tide.table_add('held', 'held');
INSERT INTO held VALUES (1, 'eu-west', 'ours');
SET session_replication_role = replica;
INSERT INTO held (id, region, a, tide_stamp) VALUES (2, 'eu-west', 'x', ('1@' || lpad(to_hex(tide.region_id('eu-west')), 8, '0'))::tide.stamp),
	(3, 'us-east', 'y', ('1@' || lpad(to_hex(tide.region_id('eu-west')), 8, '0'))::tide.stamp);
UPDATE held SET b = 9 WHERE id = 3;
RESET session_replication_role;
SELECT region, "table", class, rows, columns, denied, sent, rows_against, values_against, rows_own FROM tide.residency_audit() WHERE "table" = 'public.held';
SELECT key, stamp IS NOT NULL FROM tide.residency_leaving WHERE relid = 'held'::regclass;
SELECT leaving #- '{0,rows,0,stamp}' #- '{0,rows,0,id}' AS leaving, next FROM tide.rows_leaving('eu-west', 0);
SELECT tide.rows_leaving('ap-east', 0), tide.rows_gone('ap-east', '[{"id": 1, "stamp": "1@1"}]');
SELECT * FROM tide.residency_purge(dry_run => true);
SELECT object, change FROM tide.class_alter('held', '{"residency": {"regions": {"us-east": {"columns": ["id"]}}}}', dry_run => true) ORDER BY 1, 2;
BEGIN;
SELECT try('SELECT * FROM tide.residency_purge()');
ROLLBACK;
SELECT * FROM tide.residency_purge();
SELECT id, region, a, b FROM held ORDER BY id;
SELECT count(*) FROM tide.class_alter('held', '{"residency": {"regions": {"us-east": {"columns": ["id"]}}}}');
SELECT * FROM tide.residency_purge();
SELECT id, region, a, b FROM held ORDER BY id;
SELECT * FROM tide.residency_purge();
SELECT rows_against, values_against FROM tide.residency_audit() WHERE "table" = 'public.held' AND region = 'us-east';

-- As relays do it, once, and what waits for a link that has not come so far
SELECT tide.class_create('held', '{"scope": "global", "residency": {"regions": {"eu-west": true}}}');
SELECT relid, looked_at FROM tide.residency_due WHERE relid = 'held'::regclass;
SELECT tide.relay_residency();
SELECT id FROM held;
SELECT count(*) FROM tide.residency_due;
SELECT tide.link_add('eu-west'), tide.class_create('held', '{"scope": "global", "residency": {"regions": {"us-east": "id < 0"}}}');
SELECT tide.relay_residency();
SELECT tide.relay_residency();
SELECT relid, looked_at IS NOT NULL FROM tide.residency_due;
SELECT tide.link_remove('eu-west');
SELECT tide.relay_residency();
SELECT count(*) FROM tide.residency_due;

-- Types of users are not asked as somebody they are not: filters and denied columns
CREATE FUNCTION evil(mood) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'run as %', current_user; END $$;
CREATE CAST (mood AS text) WITH FUNCTION evil(mood) AS IMPLICIT;
CREATE TABLE feelings (id int PRIMARY KEY, region text NOT NULL, m mood DEFAULT 'good', n mood);
SELECT tide.class_create('feelings', '{"scope": "global", "residency": {"regions": {"us-east": {"rows": "region <> ''x''", "columns": ["id"]}}}}'), tide.table_add('feelings', 'feelings');
INSERT INTO feelings (id, region, m, n, tide_stamp) VALUES (1, 'good', 'bad', 'bad', NULL), (2, 'good', 'good', NULL, NULL);
SET session_replication_role = replica;
UPDATE feelings SET tide_stamp = ('1@' || lpad(to_hex(tide.region_id('eu-west')), 8, '0'))::tide.stamp;
RESET session_replication_role;
SELECT rows_against, values_against FROM tide.residency_audit() WHERE "table" = 'public.feelings' AND region = 'us-east';
SELECT * FROM tide.residency_purge();
SELECT id, format('%s %s', m, n) FROM feelings ORDER BY id;
SELECT try('ALTER TABLE feelings ALTER region TYPE mood USING ''good''');
SET tide.deriving = 'on';
DROP TRIGGER tide_leaving ON feelings;
ALTER TABLE feelings REPLICA IDENTITY DEFAULT;
SELECT try('ALTER TABLE feelings ALTER region TYPE mood USING ''good''');
RESET tide.deriving;
SELECT try('SELECT * FROM tide.residency_audit()');
SELECT tide.table_remove('feelings');
DROP TABLE feelings;

-- Who may
CREATE ROLE regress_residency_reader IN ROLE tide_reader;
SET ROLE regress_residency_reader;
SELECT count(*) > 0 FROM tide.residency_audit();
SELECT try(command) FROM unnest(ARRAY['SELECT tide.residency_purge()', 'SELECT tide.residency_allow(''person'', ''ssn'')', 'SELECT tide.relay_residency()']) command;
RESET ROLE;
DROP ROLE regress_residency_reader;

-- Without residency again, and removed: everything as it was
SELECT count(*) > 0 FROM tide.class_alter('by_region', '{"residency": null}');
SELECT tide.table_remove('person'), tide.table_remove('held');
SELECT * FROM published;
SELECT relname, relreplident, index, columns, key FROM identity;
SELECT count(*) FROM pg_class WHERE relname LIKE 'tide_residency%' AND relkind IN ('i', 'I');
SELECT * FROM tide.residency_rule;
SELECT tide.region_remove('eu-west');
SELECT d.region, (SELECT count(*) FROM pg_publication p WHERE p.pubname LIKE 'tide_to_%') FROM tide.residency_destination d;
\c postgres
DROP DATABASE regress_rows_residency;
