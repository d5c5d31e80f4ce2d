--
-- Classes: presets, changing one's mind, what each derives, whether regions agree.
--
SET client_min_messages = warning;
CREATE DATABASE regress_rows_classes;
\c regress_rows_classes
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
SELECT tide.region_init('us-east'), tide.region_add('eu-west', 'dbname=x'), tide.region_add('ap-east', 'dbname=x');

-- Presets: each one is a class, with what it needs besides
SELECT try(format('SELECT tide.class_create(%L, %L)', p.preset,
				  jsonb_build_object('preset', p.preset) || CASE WHEN 'primary' = ANY (p.needs) THEN '{"primary": "us-east"}' ELSE '{}' END::jsonb))
	FROM tide.presets() p WHERE p.preset <> 'financial_ledger';
SELECT class, scope, written, durability, objective, priority FROM tide.classes;
SELECT try(format('SELECT tide.class_create(%L, %L)', 'x', options))
	FROM unnest(ARRAY['{"preset": "User Profiles"}', '{"preset": "User Profiles (Global Users)"}', '{"preset": "Reference Data (Static)", "primary": "us-east"}', '{"preset": "(x)"}', '{"preset": "user-profiles", "scope": "global"}', '{"preset": "mars"}', '{"preset": 1}', '{"preset": null}',
		'{"preset": "reference data"}', '{"preset": "financial_ledger"}', '{"preset": "financial_ledger", "primary": "us-east"}',
		'{"preset": "reference_data", "scope": "global"}', '{"preset": "reference_data", "primary": "mars"}']) options;
SELECT scope, options FROM tide.classes WHERE class = 'x';
SELECT count(tide.class_drop(name)::text) FROM tide.class;

-- What a class derives
CREATE TABLE fare (id int PRIMARY KEY);
CREATE TABLE trip (id int PRIMARY KEY);
CREATE TABLE profile (id int PRIMARY KEY, home text);
SELECT tide.class_create('fares', '{"scope": "primary", "primary": "eu-west"}'), tide.class_create('trips', '{"scope": "regional"}'),
	tide.class_create('profiles', '{"preset": "user_profiles", "slo": 7}');
SELECT tide.table_add('fare', 'fares'), tide.table_add('trip', 'trips'), tide.table_add('profile', 'profiles');
SELECT class, scope, written, objective, tables, publications, triggers, agrees, differences FROM tide.classes;

-- Changing one's mind: a dry run refuses what would be refused, and changes nothing
SELECT * FROM tide.class_alter('fares', '{"scope": "global", "primary": null}', dry_run => true);
SELECT try($$SELECT * FROM tide.class_alter('fares', '{"scope": "home", "primary": null}', dry_run => true)$$);
SELECT try($$SELECT * FROM tide.class_alter('fares', '{"scope": "home", "primary": null}')$$);
SELECT * FROM tide.class_alter('trips', '{"scope": "global"}', dry_run => true);
SELECT class, scope, publications FROM tide.classes;
SELECT * FROM tide.class_alter('profiles', '{"slo": null, "priority": 10}');
SELECT options, objective, priority FROM tide.classes WHERE class = 'profiles';

-- What other regions declare, as their links' relays tell it
SELECT tide.link_add('eu-west'), tide.link_add('ap-east');
SELECT tide.relay_acquire('link:eu-west', 'r') AS eu \gset
SELECT tide.relay_acquire('link:ap-east', 'r') AS ap \gset
SELECT tide.relay_link_classes('link:eu-west', :eu, tide.rows_classes()) IS NULL;
SELECT class, agrees, differences FROM tide.classes;
SELECT tide.relay_link_classes('link:ap-east', :ap, jsonb_set(jsonb_set(tide.rows_classes() - 'trips', '{fares,facts,slo}', '"00:01:00"'),
	'{carts}', '{"facts": {"scope": "global"}, "tables": ["public.cart"]}'));
SELECT class, scope, written, agrees, differences FROM tide.classes;
SELECT tide.relay_link_classes('link:ap-east', :ap, jsonb_set(tide.rows_classes() - 'profiles', '{fares,tables}', '["public.tax"]'));
-- Regions whose commits wait for each other agree
CREATE FUNCTION compare(here text, there text) RETURNS SETOF text LANGUAGE sql AS
	$$ SELECT difference FROM tide._class_compare('eu-west', jsonb_build_object('facts', jsonb_build_object('scope', 'global', 'sync_peer', here), 'tables', '[]'::jsonb),
		jsonb_build_object('facts', jsonb_build_object('scope', 'global', 'sync_peer', there), 'tables', '[]'::jsonb)) $$;
SELECT here, there, compare(here, there) FROM (VALUES ('eu-west', 'us-east'), ('eu-west', 'eu-west'), ('eu-west', 'ap-east'), ('ap-east', 'us-east'), ('eu-west', NULL)) x (here, there);
-- The same, written otherwise, is the same
SET intervalstyle = iso_8601;
SELECT tide.relay_link_classes('link:ap-east', :ap, tide.rows_classes()) IS NULL;
SELECT tide.class_create('profiles', '{"scope": "home", "home": "home", "priority": 10, "slo": "5 s"}');
SELECT bool_and(agrees) FROM tide.classes;
SELECT tide.class_create('new', '{"scope": "global"}'), tide.class_create('newer', '{"scope": "regional"}');
SELECT class, agrees, differences FROM tide.classes WHERE class LIKE 'new%';
SELECT tide.link_remove('ap-east', force => true), tide.link_remove('eu-west', force => true);
SELECT class, agrees FROM tide.classes WHERE agrees IS NOT NULL;
-- Who may look
CREATE ROLE regress_class_reader IN ROLE tide_reader;
SET ROLE regress_class_reader;
SELECT count(*) FROM tide.classes;
SELECT try('SELECT tide.rows_classes()'), try($$SELECT tide.class_alter('new', '{}')$$);
RESET ROLE;
DROP ROLE regress_class_reader;
\c postgres
DROP DATABASE regress_rows_classes;
