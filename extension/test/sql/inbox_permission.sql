--
-- Who may do what with inboxes, pipelines and dead letters; SET ROLE counts.
--
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_tide;
CREATE ROLE regress_nobody;
CREATE ROLE regress_worker;
CREATE ROLE "regress odd""role";
CREATE ROLE regress_reader IN ROLE tide_reader;
CREATE ROLE regress_relay IN ROLE tide_relay;
CREATE ROLE regress_admin IN ROLE tide_admin;
RESET client_min_messages;

CREATE FUNCTION pg_temp.try(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	message text;
BEGIN
	EXECUTE statement;
	RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS message = MESSAGE_TEXT;
	RETURN sqlstate || ' ' || message;
END
$$;
-- What each role can do: one line per call.
CREATE FUNCTION pg_temp.matrix(roles text[], calls text[]) RETURNS TABLE (call text, role text, outcome text) LANGUAGE plpgsql AS $$
BEGIN
	FOREACH call IN ARRAY calls LOOP
		FOREACH role IN ARRAY roles LOOP
			EXECUTE format('SET LOCAL ROLE %I', role);
			outcome := pg_temp.try(call);
			RESET ROLE;
			RETURN NEXT;
		END LOOP;
	END LOOP;
END
$$;

SELECT tide.inbox_create('perm'), tide.inbox_create('other');
SELECT tide.relay_set_inbox('perm-in', 'perm', '{"source_type": "nats", "url": "nats://h:4222", "subject": "a.*", "stream": "S", "durable_name": "d"}');
SELECT stored FROM tide.inbox_receive('perm', 'p', 1, 'eu', '{a,b,c,d}', '{eu,eu,eu,eu}', '{o,o,o,o}', '{e,e,e,e}', '{i,i,i,i}', '{k,l,m,n}', '{1,1,1,1}',
	'{null,null,null,null}', '{1,1,1,1}', '{1,1,1,1}', NULL);

-- Nothing is for everybody, but comparing stamps and setting them (rows_stamp, rows_table)
SELECT p.oid::regprocedure FROM pg_proc p
	WHERE p.pronamespace = 'tide'::regnamespace AND has_function_privilege('regress_nobody', p.oid, 'EXECUTE')
		AND p.proname !~ '^(_stamp_row|_scope_row|_durability_note|stamp_(cmp|lt|le|eq|ne|ge|gt))$';
SELECT c.oid::regclass FROM pg_class c
	WHERE c.relnamespace = 'tide'::regnamespace AND c.relkind IN ('r', 'v', 'S')
		AND has_table_privilege('regress_nobody', c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE');
-- Functions that run as their owner fix their search_path
SELECT p.oid::regprocedure FROM pg_proc p
	WHERE p.pronamespace = 'tide'::regnamespace AND p.prosecdef
		AND NOT coalesce(p.proconfig @> '{"search_path=pg_catalog, pg_temp"}', false);

-- Working on events
SELECT * FROM pg_temp.matrix('{regress_nobody,regress_worker,regress_reader,regress_relay,regress_admin}', ARRAY[
	$$SELECT count(*) FROM tide.inbox_claim('perm', 1)$$,
	$$SELECT tide.inbox_mark_processed('perm', 'a')$$,
	$$SELECT tide.inbox_mark_processed('perm', '{}'::text[])$$,
	$$SELECT tide.inbox_mark_failed('perm', 'b', 'x')$$,
	$$SELECT tide.inbox_release('perm', 'c')$$]);
SELECT tide.inbox_grant('perm', 'regress_worker'), tide.inbox_grant('perm', '"regress odd""role"');
SELECT * FROM pg_temp.matrix('{regress_worker,"regress odd\"role"}', ARRAY[
	$$SELECT count(*) FROM tide.inbox_claim('perm', 1)$$,
	$$SELECT count(*) FROM tide.perm_inbox$$,
	$$SELECT tide.inbox_mark_processed('perm', 'a')$$,
	$$SELECT tide.inbox_mark_failed('perm', 'd', 'x')$$,
	$$SELECT count(*) FROM tide.inbox_claim('other', 1)$$,
	$$SELECT tide.inbox_mark_processed('other', 'a')$$,
	$$SELECT tide.inbox_mark_processed('other', '{}'::text[])$$,
	$$SELECT count(*) FROM tide.other_inbox$$,
	$$DELETE FROM tide.perm_inbox$$,
	$$SELECT tide.inbox_create('mine')$$,
	$$SELECT tide.inbox_status()$$,
	$$SELECT tide._inbox_fail('perm', 'a', 'x', NULL, false, NULL)$$]);
SELECT tide.inbox_revoke('perm', 'regress_worker');
SELECT * FROM pg_temp.matrix('{regress_worker}', ARRAY[
	$$SELECT count(*) FROM tide.inbox_claim('perm', 1)$$,
	$$SELECT count(*) FROM tide.perm_inbox$$]);
-- the hint names who has to be granted what
SET ROLE regress_worker;
\set VERBOSITY default
SELECT tide.inbox_mark_processed('perm', 'a');
RESET ROLE;
SELECT pg_temp.try($$SELECT tide.inbox_grant('perm', 'regress_missing')$$), pg_temp.try($$SELECT tide.inbox_grant('perm', 4294967295)$$),
	pg_temp.try($$SELECT tide.inbox_grant('nope', 'regress_worker')$$), pg_temp.try($$SELECT tide.inbox_grant('perm', NULL)$$);

-- Looking
SELECT * FROM pg_temp.matrix('{regress_nobody,regress_reader,regress_relay,regress_admin}', ARRAY[
	$$SELECT count(*) FROM tide.perm_inbox$$,
	$$SELECT count(*) FROM tide.pipelines$$,
	$$SELECT count(*) FROM tide.dead_letters$$,
	$$SELECT count(*) FROM tide.inbox_status()$$,
	$$SELECT count(*) FROM tide.inbox$$,
	$$SELECT count(*) FROM tide.position_0$$]);

-- Administering
SELECT * FROM pg_temp.matrix('{regress_reader,regress_relay,regress_admin}', ARRAY[
	$$SELECT tide.inbox_create('perm2')$$,
	$$SELECT tide.inbox_alter('perm2', 5)$$,
	$$SELECT tide.inbox_grant('perm2', 'regress_worker')$$,
	$$SELECT tide.inbox_revoke('perm2', 'regress_worker')$$,
	$$SELECT tide.inbox_unset_handler('perm2')$$,
	$$SELECT tide.relay_set_inbox('perm2-in', 'perm2', '{"source_type": "nats", "url": "nats://h:4222", "subject": "a.*", "stream": "S", "durable_name": "d"}')$$,
	$$SELECT tide.relay_disable('perm2-in')$$,
	$$SELECT tide.relay_enable('perm2-in')$$,
	$$SELECT tide.relay_delete('perm2-in')$$,
	$$SELECT tide.dead_letter_retry(-1)$$,
	$$SELECT tide.dead_letter_discard(-1)$$,
	$$TRUNCATE tide.perm2_inbox$$,
	$$DELETE FROM tide.perm2_inbox$$,
	$$INSERT INTO tide.perm2_inbox (event_id) VALUES ('x')$$,
	$$SELECT tide.inbox_drop('perm2')$$]);

-- Relaying
SELECT * FROM pg_temp.matrix('{regress_reader,regress_admin,regress_relay}', ARRAY[
	$$SELECT count(*) FROM tide.relay_poll()$$,
	$$SELECT tide.relay_acquire('perm-in', 'r')$$,
	$$SELECT tide.relay_set_state('perm-in', 1, 'running', NULL, NULL)$$,
	$$SELECT tide.relay_evict('perm-in', 0)$$,
	$$SELECT tide.position_save('perm-in', 1, 'x', NULL)$$,
	$$SELECT tide.position_get('perm-in')$$,
	$$SELECT tide.inbox_receive('perm', 'perm-in', 1, NULL, '{r}', '{eu}', '{o}', '{e}', '{i}', '{k}', '{1}', '{null}', '{1}', '{1}', 'y')$$,
	$$SELECT tide.inbox_missing('perm', '{r}')$$,
	$$SELECT tide.dead_letter_add('perm-in', 1, 'dl', NULL, NULL, NULL, NULL, NULL, '1', NULL, NULL, 'x')$$,
	$$SELECT tide.relay_release('perm-in')$$,
	$$SELECT tide.maintain()$$]);
SELECT direction, event_id FROM tide.dead_letters;

-- A search_path of the caller's own bends nothing
CREATE SCHEMA regress_evil AUTHORIZATION regress_worker;
SELECT tide.inbox_grant('perm', 'regress_worker');
SET ROLE regress_worker;
CREATE FUNCTION regress_evil.equal(text, text) RETURNS boolean LANGUAGE plpgsql AS
	$$ BEGIN RAISE WARNING 'called as %', current_user; RETURN true; END $$;
CREATE OPERATOR regress_evil.= (FUNCTION = regress_evil.equal, LEFTARG = text, RIGHTARG = text);
CREATE FUNCTION regress_evil.clock_timestamp() RETURNS timestamptz LANGUAGE plpgsql AS
	$$ BEGIN RAISE WARNING 'called as %', current_user; RETURN now(); END $$;
SET search_path = regress_evil, pg_catalog;
SELECT event_id FROM tide.inbox_claim('perm', 1, '1 hour');
SELECT tide.inbox_mark_processed('perm', 'c');
SHOW search_path;
RESET search_path;
RESET ROLE;

SELECT tide.relay_delete('perm-in'), tide.inbox_drop('perm'), tide.inbox_drop('other');
SET client_min_messages = warning;
DROP SCHEMA regress_evil CASCADE;
SELECT p.oid::regprocedure FROM pg_proc p WHERE p.pronamespace = 'tide'::regnamespace
	AND has_function_privilege('regress_worker', p.oid, 'EXECUTE')
	AND p.proname !~ '^(_stamp_row|_scope_row|_durability_note|stamp_(cmp|lt|le|eq|ne|ge|gt))$' ORDER BY 1;
DROP OWNED BY regress_worker, "regress odd""role";
DROP ROLE regress_nobody, regress_worker, "regress odd""role", regress_reader, regress_relay, regress_admin;
DELETE FROM tide.dead_letter;
DELETE FROM tide.inbox_peer;
SELECT pg_advisory_unlock_all();
