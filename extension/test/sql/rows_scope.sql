--
-- Scopes home and primary: a row is written where it belongs, and nowhere else.
--
SET client_min_messages = warning;
CREATE DATABASE regress_rows_scope;
\c regress_rows_scope
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

-- Classes: who writes must be said, and be known
SELECT options || ': ' || try(format('SELECT tide.class_create(%L, %L)', 'c', options))
	FROM unnest(ARRAY['{"scope": "primary"}', '{"scope": "primary", "primary": "mars"}', '{"scope": "primary", "primary": 1}',
		'{"scope": "global", "primary": "us-east"}', '{"scope": "regional", "home": "h"}', '{"scope": "home", "primary": "us-east"}',
		'{"scope": "home", "home": 7}', '{"scope": "home", "home": ""}']) options;
SELECT tide.class_create('ours', '{"scope": "primary", "primary": "us-east"}'),
	tide.class_create('theirs', '{"scope": "primary", "primary": "eu-west"}'),
	tide.class_create('users', '{"scope": "home"}'), tide.class_create('carts', '{"scope": "home", "home": "at"}');
SELECT name, scope, primary_region, home_column FROM tide.class ORDER BY name;

-- Primary
CREATE TABLE fares (id int PRIMARY KEY, v int);
CREATE TABLE prices (id int PRIMARY KEY, v int) PARTITION BY RANGE (id);
CREATE TABLE prices_1 PARTITION OF prices FOR VALUES FROM (0) TO (10);
INSERT INTO prices VALUES (1, 1);
SELECT tide.table_add('fares', 'ours'), tide.table_add('prices', 'theirs');
SELECT tgrelid::regclass, tgname, tgenabled FROM pg_trigger WHERE tgname ~ '^tide_scope' ORDER BY tgrelid::regclass::text COLLATE "C", tgname;
SELECT try('INSERT INTO fares VALUES (1, 1)'), try('TRUNCATE fares');
CREATE TABLE prices_2 PARTITION OF prices FOR VALUES FROM (10) TO (20);
SELECT command || ': ' || try(command) FROM unnest(ARRAY['INSERT INTO prices VALUES (2, 2)', 'UPDATE prices SET v = 2', 'DELETE FROM prices',
	'TRUNCATE prices', 'TRUNCATE prices_1', 'INSERT INTO prices_2 VALUES (11, 1)', 'UPDATE prices SET v = 0 WHERE false',
	'INSERT INTO prices VALUES (1, 2) ON CONFLICT (id) DO UPDATE SET v = 2', 'MERGE INTO prices p USING (VALUES (1)) x (id) ON p.id = x.id WHEN MATCHED THEN DELETE']) command;
-- What comes from another region is written
SET session_replication_role = replica;
INSERT INTO prices VALUES (3, 3);
RESET session_replication_role;
SELECT * FROM prices ORDER BY id;
-- Another primary: at once
SELECT tide.class_create('theirs', '{"scope": "primary", "primary": "us-east"}');
SELECT try('INSERT INTO prices VALUES (4, 4)'), try('TRUNCATE prices');
SELECT tide.class_create('ours', '{"scope": "primary", "primary": "eu-west"}');
SELECT try('INSERT INTO fares VALUES (5, 5)');
SELECT tide.class_create('ours', '{"scope": "global"}');
SELECT try('INSERT INTO fares VALUES (6, 6)');
SELECT count(*) FROM pg_trigger WHERE tgname ~ '^tide_scope';

-- Home
CREATE TABLE profile (id int PRIMARY KEY, name text, home text NOT NULL);
CREATE TYPE region AS ENUM ('us-east', 'eu-west', 'moon');
CREATE DOMAIN place AS region;
CREATE TABLE cart (id int PRIMARY KEY, at place) PARTITION BY HASH (id);
CREATE TABLE cart_0 PARTITION OF cart FOR VALUES WITH (MODULUS 1, REMAINDER 0);
CREATE TABLE homeless (id int PRIMARY KEY);
SELECT try($$SELECT tide.table_add('homeless', 'users')$$);
SELECT tide.table_add('profile', 'users'), tide.table_add('cart', 'carts');
INSERT INTO profile VALUES (1, 'Ann', 'us-east'), (2, 'Bob', NULL);
SET session_replication_role = replica;
INSERT INTO profile VALUES (3, 'Eva', 'eu-west');
ALTER TABLE profile ALTER home DROP NOT NULL;
INSERT INTO profile VALUES (4, 'Nil');
RESET session_replication_role;
SELECT command || ': ' || try(command) FROM unnest(ARRAY['INSERT INTO profile VALUES (9, ''x'', ''eu-west'')', 'INSERT INTO profile VALUES (9, ''x'', ''mars'')', 'INSERT INTO profile (id) VALUES (9)',
	'UPDATE profile SET name = ''x'' WHERE id = 3', 'UPDATE profile SET home = ''us-east'' WHERE id = 3', 'DELETE FROM profile WHERE id = 3',
	'UPDATE profile SET name = ''x'' WHERE id = 4', 'UPDATE profile SET home = ''mars'' WHERE id = 1', 'UPDATE profile SET home = NULL WHERE id = 1', 'TRUNCATE profile']) command;
-- What is here is written, and moves; then it is written there
UPDATE profile SET name = 'Anna' WHERE id = 1;
DELETE FROM profile WHERE id = 2;
UPDATE profile SET home = 'eu-west', name = 'Ann E.' WHERE id = 1;
SELECT try('UPDATE profile SET home = ''us-east'' WHERE id = 1');
SELECT id, name, home FROM profile ORDER BY id;
SELECT command || ': ' || try(command) FROM unnest(ARRAY['INSERT INTO cart VALUES (1, ''us-east''), (3, NULL)', 'INSERT INTO cart_0 VALUES (2, ''eu-west'')',
	'UPDATE cart SET at = ''moon''', 'UPDATE cart SET at = ''eu-west''', 'DELETE FROM cart', 'TRUNCATE cart_0']) command;
-- Partitioned by home: a move is an update, a delete and an insert, and nothing else passes as one
CREATE TABLE stay (id int, home text, v text, PRIMARY KEY (id, home)) PARTITION BY LIST (home);
CREATE TABLE stay_us PARTITION OF stay FOR VALUES IN ('us-east');
CREATE TABLE stay_eu PARTITION OF stay FOR VALUES IN ('eu-west');
SELECT tide.table_add('stay', 'users');
INSERT INTO stay SELECT n, 'us-east', 'v' FROM generate_series(1, 5) n;
UPDATE stay SET home = 'eu-west' WHERE id < 3;
SELECT tableoid::regclass, id, home FROM stay ORDER BY id;
SELECT try('INSERT INTO stay VALUES (9, ''eu-west'')'), try('DELETE FROM stay WHERE id = 3; INSERT INTO stay VALUES (9, ''eu-west'')'),
	try('WITH gone AS (DELETE FROM stay WHERE id = 3 RETURNING id) INSERT INTO stay SELECT id, ''eu-west'' FROM gone');
DO $$ BEGIN
	BEGIN UPDATE stay SET home = 'eu-west' WHERE id = 4; RAISE EXCEPTION 'undo'; EXCEPTION WHEN raise_exception THEN NULL; END;
	DELETE FROM stay WHERE id = 4;
	INSERT INTO stay VALUES (4, 'eu-west');
END $$;
SELECT count(*) FROM stay_us;
-- Somebody without rights on pg_tide's tables
CREATE ROLE regress_scope_writer;
GRANT SELECT, INSERT, UPDATE, DELETE ON profile TO regress_scope_writer;
SET ROLE regress_scope_writer;
INSERT INTO profile VALUES (5, 'Udo');
SELECT try('UPDATE profile SET name = ''x'' WHERE id = 3'), try('UPDATE profile SET home = ''mars'' WHERE id = 5'), try('UPDATE profile SET home = ''eu-west'' WHERE id = 5');
RESET ROLE;
-- The column goes
ALTER TABLE profile RENAME home TO house;
SELECT try('DELETE FROM profile WHERE id = 3');
ALTER TABLE profile RENAME house TO home;
SELECT tide.table_remove('profile');
SELECT try('DELETE FROM profile WHERE id = 3'), (SELECT count(*) FROM pg_trigger WHERE tgrelid = 'profile'::regclass);
-- Changing one's mind: what it changes is said before, and done only then
CREATE TABLE note (id int PRIMARY KEY, home text);
SELECT tide.class_create('mind', '{"scope": "regional", "slo": 10}'), tide.table_add('note', 'mind');
SELECT * FROM tide.class_alter('mind', '{"scope": "global"}', dry_run => true);
SELECT options, (SELECT count(*) FROM pg_publication_tables WHERE tablename = 'note') FROM tide.class WHERE name = 'mind';
SELECT * FROM tide.class_alter('mind', '{"scope": "primary", "primary": "eu-west", "slo": null, "priority": 80}');
SELECT options, slo, (SELECT count(*) FROM pg_publication_tables WHERE tablename = 'note') FROM tide.class WHERE name = 'mind';
SELECT try('INSERT INTO note VALUES (1)') ~ '^TD021';
SELECT * FROM tide.class_alter('mind', '{"scope": "home", "primary": null}');
SELECT try('INSERT INTO note VALUES (1)');
SELECT home FROM note;
SELECT * FROM tide.class_alter('mind', '{"scope": "home"}');
SELECT try($$SELECT * FROM tide.class_alter('mind', '{"home": "at"}', dry_run => true)$$);
SELECT try(format('SELECT tide.class_alter(%L, %L)', name, options))
	FROM (VALUES ('nope', '{}'), ('mind', NULL), ('mind', '[]'), ('mind', '{"scope": null}'), ('mind', '{"nope": 1}'), ('mind', '{"home": "at"}')) x (name, options);
SELECT home_column FROM tide.class WHERE name = 'mind';
-- The function is for these triggers only
CREATE TRIGGER mine BEFORE INSERT ON homeless FOR EACH ROW EXECUTE FUNCTION tide._scope_row();
SELECT try('INSERT INTO homeless VALUES (1)');
DROP OWNED BY regress_scope_writer;
DROP ROLE regress_scope_writer;
\c postgres
DROP DATABASE regress_rows_scope;
