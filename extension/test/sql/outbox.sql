--
-- Outboxes: names, creating, dropping, enabling, who may publish.
--
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_tide;
RESET client_min_messages;

-- Runs a statement; says what became of it, with code, message and hint.
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

-- ---- names ----
SELECT n AS shown, pg_temp.try(format('SELECT tide.outbox_create(%L)', n)) AS outcome
  FROM unnest(ARRAY['', ' ', 'a b', 'a''b', 'a"b', 'a;b', 'a--b; DROP TABLE x', 'a.b', 'a/b', E'a\nb', E'a\n',
					'Grün', 'é', '日本', 'a%b', '*', '{op}']) WITH ORDINALITY AS u (n, i) ORDER BY i;
SELECT pg_temp.try('SELECT tide.outbox_create(NULL)');
-- Two hyphens are a name like any other, and so is what needs quotes as an identifier.
SELECT n, pg_temp.try(format('SELECT tide.outbox_create(%L)', n)) AS outcome
  FROM unnest(ARRAY['a--b', 'Mixed-Case', '0', '-', '_', 'select', 'true']) WITH ORDINALITY AS u (n, i) ORDER BY i;
SELECT n, substr(tide.outbox_publish(n, 'e', '1'), 15, 1) AS version FROM unnest(ARRAY['a--b', 'Mixed-Case', '-', 'select']) n;
SELECT payload FROM tide."Mixed-Case_outbox";
SELECT count(*) FROM tide."a--b_outbox";
SELECT pg_temp.try('SELECT tide.outbox_publish(''mixed-case'', ''e'', ''1'')');
-- 63 bytes are allowed, 64 are not.  Long names don't get in each other's way, nor in that of inboxes.
SELECT pg_temp.try(format('SELECT tide.outbox_create(%L)', repeat('x', 63)));
SELECT pg_temp.try(format('SELECT tide.outbox_create(%L)', repeat('x', 64)));
SELECT pg_temp.try(format('SELECT tide.outbox_create(%L)', repeat('y', 57)));
SELECT pg_temp.try(format('SELECT tide.outbox_create(%L)', repeat('y', 57) || '_outbo'));
SELECT tide.inbox_create(repeat('x', 63)), tide.inbox_drop(repeat('x', 63));
SELECT tide.outbox_create(repeat('z', 56));
SELECT count(*) FROM tide.zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz_outbox;
SELECT substr(tide.outbox_publish(repeat('x', 63), 'e', '1'), 15, 1) AS version;
SELECT pg_temp.try(format('SELECT tide.outbox_publish(%L, ''e'', ''1'')', repeat('x', 64)));
SELECT pg_temp.try(format('SELECT tide.outbox_publish(%L, ''e'', ''1'')', repeat('x', 63) || 'y'));
SELECT tide.outbox_drop(name) FROM tide.outbox
 WHERE name IN ('a--b', 'Mixed-Case', '0', '-', '_', 'select', 'true', repeat('x', 63), repeat('y', 57),
	repeat('y', 57) || '_outbo', repeat('z', 56)) ORDER BY name;

-- ---- creating and dropping ----
SELECT tide.outbox_create('box_a');
SELECT pg_temp.try('SELECT tide.outbox_create(''box_a'')');
SELECT pg_temp.try('SELECT tide.outbox_create(''box_b'', ''-1 hour'')');
SELECT pg_temp.try('SELECT tide.outbox_create(''box_b'', NULL)');
SELECT pg_temp.try('SELECT tide.outbox_set_retention(''box_a'', ''-1 s'')');
SELECT pg_temp.try('SELECT tide.outbox_set_retention(''box_a'', NULL)');
SELECT pg_temp.try('SELECT tide.outbox_set_retention(''nowhere'', ''1 s'')');
SELECT tide.outbox_set_retention('box_a', '2 hours');
SELECT name, enabled, retention, segment FROM tide.outbox WHERE name = 'box_a';
SELECT s - 'bytes' - 'segments' FROM tide.outbox_status('box_a') s;
SELECT pg_temp.try(format(f, 'nowhere')) FROM unnest(ARRAY['SELECT tide.outbox_drop(%L)',
	'SELECT tide.outbox_enable(%L)', 'SELECT tide.outbox_disable(%L)', 'SELECT tide.outbox_status(%L)',
	'SELECT tide.outbox_rebase(%L)', 'SELECT tide.outbox_grant_publish(%L, ''postgres'')',
	'SELECT tide.outbox_revoke_publish(%L, ''postgres'')', 'SELECT tide.outbox_publish(%L, ''e'', ''1'')',
	'SELECT tide.outbox_fetch(NULL, NULL, %L, NULL, NULL, NULL, 1, 1)']) f;
SELECT tide.outbox_drop('nowhere', if_exists => true);
-- Nothing of a dropped outbox stays behind, and its name is free again.
SELECT tide.outbox_publish('box_a', 'e', '1') IS NOT NULL AS published;
SELECT id AS box_id FROM tide.outbox WHERE name = 'box_a' \gset
SELECT tide.outbox_drop('box_a');
SELECT count(*) FROM pg_class WHERE relnamespace = 'tide'::regnamespace AND relname LIKE 'outbox\_' || :box_id || '\_%';
SELECT to_regclass('tide.box_a_outbox');
SELECT pg_temp.try('SELECT tide.outbox_publish(''box_a'', ''e'', ''1'')');
SELECT tide.outbox_create('box_a');
SELECT count(*) FROM tide.box_a_outbox;
-- Rolled back, whatever was done with it in between.
BEGIN;
SELECT tide.outbox_create('box_r');
SELECT tide.outbox_publish('box_r', 'e', '1') IS NOT NULL AS published;
ROLLBACK;
SELECT pg_temp.try('SELECT tide.outbox_publish(''box_r'', ''e'', ''1'')');
BEGIN;
SELECT tide.outbox_drop('box_a');
SELECT pg_temp.try('SELECT tide.outbox_publish(''box_a'', ''e'', ''1'')');
ROLLBACK;
SELECT tide.outbox_publish('box_a', 'e', '1') IS NOT NULL AS published;
SELECT count(*) FROM tide.box_a_outbox;
-- A relation that is in the way.
CREATE TABLE tide.box_c_outbox (i int);
SELECT pg_temp.try('SELECT tide.outbox_create(''box_c'')');
DROP TABLE tide.box_c_outbox;

-- ---- enabling ----
SELECT tide.outbox_disable('box_a');
SELECT pg_temp.try('SELECT tide.outbox_publish(''box_a'', ''e'', ''1'')');
SELECT count(event_id) AS events FROM tide.outbox_fetch(NULL, NULL, 'box_a', NULL, NULL, NULL, 10, 1000000);
SELECT tide.outbox_enable('box_a');
SELECT tide.outbox_publish('box_a', 'e', '2') IS NOT NULL AS published;
SELECT count(*) FROM tide.box_a_outbox;

-- ---- rights ----
CREATE ROLE regress_tide_one;
CREATE ROLE regress_tide_all IN ROLE tide_publisher;
CREATE ROLE regress_tide_rel IN ROLE tide_relay;
CREATE ROLE "regress tide ""odd"" role";
SELECT tide.outbox_create('box_b');
-- Nothing is for everybody, but comparing stamps and the triggers of replicated tables (rows_stamp, rows_table, rows_scope).
SELECT count(*) AS granted_to_public FROM pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
 WHERE p.pronamespace = 'tide'::regnamespace AND a.grantee = 0 AND p.proname !~ '^(_stamp_row|_scope_row|_durability_note|stamp_(cmp|lt|le|eq|ne|ge|gt))$';
SELECT count(*) AS granted_to_public FROM pg_class c, aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) a
 WHERE c.relnamespace = 'tide'::regnamespace AND a.grantee = 0;
SELECT count(*) AS security_definer_without_path FROM pg_proc p
 WHERE p.pronamespace = 'tide'::regnamespace AND p.prosecdef
   AND NOT coalesce('search_path=pg_catalog, pg_temp' = ANY (p.proconfig), false);
SET ROLE regress_tide_one;
SELECT tide.outbox_publish('box_a', 'e', '1');
SELECT * FROM tide.box_a_outbox;
RESET ROLE;
-- For one outbox only.
SELECT tide.outbox_grant_publish('box_a', 'regress_tide_one');
SELECT tide.outbox_grant_publish('box_a', '"regress tide ""odd"" role"');
SELECT pg_temp.try('SELECT tide.outbox_grant_publish(''box_a'', ''regress_nobody'')');
SELECT pg_temp.try('SELECT tide.outbox_grant_publish(''box_a'', NULL)');
SELECT pg_temp.try('SELECT tide.outbox_revoke_publish(''box_a'', ''1'')');
SET ROLE regress_tide_one;
SELECT tide.outbox_publish('box_a', 'e', '3') IS NOT NULL AS published;
SELECT tide.outbox_publish('box_a', '{"older": "form"}'::jsonb, '{}'::jsonb) IS NOT NULL AS published;
SELECT tide.outbox_publish('box_b', 'e', '1');
SELECT * FROM tide.box_a_outbox;
SELECT tide.outbox_drop('box_a');
SELECT * FROM tide.outbox_fetch(NULL, NULL, 'box_a', NULL, NULL, NULL, 10, 1000000);
RESET ROLE;
-- The stored tables can't be written around the function, not even with the view's privilege.
SET ROLE regress_tide_one;
INSERT INTO tide.box_a_outbox (event_id) VALUES ('x');
RESET ROLE;
SET ROLE "regress tide ""odd"" role";
SELECT tide.outbox_publish('box_a', 'e', '4') IS NOT NULL AS published;
RESET ROLE;
-- The current role counts, not the one that logged in, also behind a function of somebody else.
CREATE FUNCTION public.publish_as_owner() RETURNS boolean LANGUAGE sql SECURITY DEFINER
	AS $$ SELECT tide.outbox_publish('box_a', 'e', '5') IS NOT NULL $$;
ALTER FUNCTION public.publish_as_owner() OWNER TO regress_tide_one;
CREATE ROLE regress_tide_none;
SET ROLE regress_tide_none;
SELECT public.publish_as_owner();
SELECT tide.outbox_publish('box_a', 'e', '5');
RESET ROLE;
-- Taken away: at once, in a session that had published.
SET ROLE regress_tide_one;
SELECT tide.outbox_publish('box_a', 'e', '6') IS NOT NULL AS published;
RESET ROLE;
SELECT tide.outbox_revoke_publish('box_a', 'regress_tide_one');
SET ROLE regress_tide_one;
SELECT tide.outbox_publish('box_a', 'e', '7');
RESET ROLE;
-- Publishers of everything, also of what is made later; they don't read.
SELECT tide.outbox_create('box_d');
SET ROLE regress_tide_all;
SELECT n, tide.outbox_publish(n, 'e', '8') IS NOT NULL AS published FROM unnest(ARRAY['box_a', 'box_b', 'box_d']) n;
SELECT * FROM tide.box_a_outbox;
SELECT tide.outbox_create('box_e');
RESET ROLE;
-- Relays read and don't publish.
SET ROLE regress_tide_rel;
SELECT count(event_id) AS events FROM tide.outbox_fetch(NULL, NULL, 'box_b', NULL, NULL, NULL, 10, 1000000);
SELECT tide.outbox_publish('box_b', 'e', '1');
RESET ROLE;
SELECT payload FROM tide.box_a_outbox ORDER BY seq;

SELECT tide.outbox_revoke_publish('box_a', '"regress tide ""odd"" role"');
SELECT tide.outbox_drop(n) FROM unnest(ARRAY['box_a', 'box_b', 'box_d']) n;
DROP FUNCTION public.publish_as_owner();
DROP OWNED BY regress_tide_one, "regress tide ""odd"" role";
DROP ROLE regress_tide_one, regress_tide_all, regress_tide_rel, regress_tide_none, "regress tide ""odd"" role";
