--
-- Handlers: how parameters are bound, whose rights they have, one transaction per event, poison events.
--
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_tide;
RESET client_min_messages;

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
-- Events written as "id/key/payload".
CREATE FUNCTION pg_temp.arrive(VARIADIC events text[]) RETURNS bigint LANGUAGE sql AS $$
	SELECT (tide.inbox_receive('hi', 'p', 1, 'eu', array_agg(split_part(e, '/', 1)), array_agg('eu'::text),
		array_agg('out'::text), array_agg('orders'::text), array_agg('insert'::text),
		array_agg(nullif(split_part(e, '/', 2), '')), array_agg(split_part(e, '/', 3)::jsonb), array_agg('{"h": 1}'::jsonb),
		array_agg(1700000000000000), array_agg(1700000000000001), NULL)).stored
	FROM unnest(events) e
$$;

CREATE SCHEMA regress_handler;
SET search_path = regress_handler, public;
CREATE TABLE seen (n int GENERATED ALWAYS AS IDENTITY, what text);
SELECT tide.inbox_create('hi', max_attempts => 2);
SELECT tide.inbox_alter('hi', backoff_base => '1 hour');

-- Every way to bind parameters
CREATE FUNCTION by_name(p_inbox text, _event_id text, origin text, outbox text, entity varchar, op text, key text, p_payload jsonb,
	headers json, published_at timestamptz, committed_at timestamptz, received_at timestamptz, attempts bigint, seq bigint,
	extra text DEFAULT 'default') RETURNS void LANGUAGE sql AS $$
	INSERT INTO seen (what) VALUES (concat_ws(' ', p_inbox, _event_id, origin, outbox, entity, op, key, p_payload, headers,
		extract(epoch FROM published_at), extract(epoch FROM committed_at), received_at <= clock_timestamp(), attempts, seq > 0, extra))
$$;
CREATE FUNCTION only_some(event_id text, payload jsonb) RETURNS int LANGUAGE sql AS $$
	INSERT INTO seen (what) VALUES (event_id || ' ' || payload) RETURNING 1
$$;
CREATE FUNCTION one_jsonb(jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO seen (what) VALUES ($1::text) $$;
CREATE FUNCTION one_json(whatever json, extra int DEFAULT 1) RETURNS SETOF text LANGUAGE sql AS $$ INSERT INTO seen (what) VALUES ($1::text) RETURNING what $$;
CREATE FUNCTION two_jsonb(data jsonb, meta jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO seen (what) VALUES (data || meta::text) $$;
CREATE FUNCTION an_event(e tide.inbox_event) RETURNS void LANGUAGE sql AS $$
	INSERT INTO seen (what) VALUES (concat_ws(' ', e.event_id, e.origin, e.outbox, e.entity, e.op, e.key, e.payload, e.headers, e.attempts))
$$;
CREATE FUNCTION a_row(r tide.hi_inbox) RETURNS void LANGUAGE sql AS $$ INSERT INTO seen (what) VALUES (concat_ws(' ', r.event_id, r.key, r.payload)) $$;
CREATE PROCEDURE a_procedure(payload jsonb, event_id text) LANGUAGE sql AS $$ INSERT INTO seen (what) VALUES (event_id || payload) $$;
CREATE FUNCTION "odd ""Name"(key text) RETURNS void LANGUAGE sql AS $$ INSERT INTO seen (what) VALUES (key) $$;

-- One round for each: register, let an event arrive, run
SELECT tide.inbox_set_handler('hi', 'by_name(text,text,text,text,varchar,text,text,jsonb,json,timestamptz,timestamptz,timestamptz,bigint,bigint,text)');
SELECT tide.relay_acquire('handler:hi', 'me') AS epoch \gset
SELECT name, direction, target, enabled, config ->> 'handler' ~ '^regress_handler\.by_name\(' AS handler,
	config ->> 'role' = current_user AS mine, config ->> 'search_path' AS path FROM tide.pipelines WHERE target = 'hi';
SELECT handler ~ '^regress_handler\.by_name\(' AS handler, handler_role = current_user::regrole AS mine, handler_path
	FROM tide.inbox WHERE name = 'hi';
CREATE FUNCTION pg_temp.shown(OUT text) LANGUAGE sql AS $$ SELECT string_agg(what, '; ' ORDER BY n) FROM regress_handler.seen $$;
SELECT pg_temp.arrive('e1/k/{"a": 1}');
CALL tide.inbox_run_handler('hi', 'handler:hi', :epoch, 100, NULL, NULL, NULL, NULL) \gset
SELECT :done AS done, :failed AS failed, :'more' AS more;
SELECT pg_temp.shown();
SELECT event_id, processed_at IS NOT NULL AS processed, attempts, last_error FROM tide.hi_inbox ORDER BY seq;
TRUNCATE seen;
SELECT pg_temp.arrive('f1/k/1');
SELECT tide.inbox_set_handler('hi', 'only_some(text,jsonb)');
CALL tide.inbox_run_handler('hi', 'handler:hi', :epoch, 100, NULL, NULL, NULL, NULL) \gset
SELECT pg_temp.arrive('f2/k/2');
SELECT tide.inbox_set_handler('hi', 'one_jsonb(jsonb)');
CALL tide.inbox_run_handler('hi', 'handler:hi', :epoch, 100, NULL, NULL, NULL, NULL) \gset
SELECT pg_temp.arrive('f3/k/3');
SELECT tide.inbox_set_handler('hi', 'one_json(json,int)');
CALL tide.inbox_run_handler('hi', 'handler:hi', :epoch, 100, NULL, NULL, NULL, NULL) \gset
SELECT pg_temp.arrive('f4/k/4');
SELECT tide.inbox_set_handler('hi', 'two_jsonb(jsonb,jsonb)');
CALL tide.inbox_run_handler('hi', 'handler:hi', :epoch, 100, NULL, NULL, NULL, NULL) \gset
SELECT pg_temp.arrive('f5/k/5');
SELECT tide.inbox_set_handler('hi', 'an_event(tide.inbox_event)');
CALL tide.inbox_run_handler('hi', 'handler:hi', :epoch, 100, NULL, NULL, NULL, NULL) \gset
SELECT pg_temp.arrive('f6/k/6');
SELECT tide.inbox_set_handler('hi', 'a_row(tide.hi_inbox)');
CALL tide.inbox_run_handler('hi', 'handler:hi', :epoch, 100, NULL, NULL, NULL, NULL) \gset
SELECT pg_temp.arrive('f7/k/7');
SELECT tide.inbox_set_handler('hi', 'a_procedure(jsonb,text)');
CALL tide.inbox_run_handler('hi', 'handler:hi', :epoch, 100, NULL, NULL, NULL, NULL) \gset
SELECT pg_temp.arrive('f8//8');
SELECT tide.inbox_set_handler('hi', '"odd ""Name"(text)');
CALL tide.inbox_run_handler('hi', 'handler:hi', :epoch, 100, NULL, NULL, NULL, NULL) \gset
SELECT what FROM seen ORDER BY n;
SELECT count(*) FROM tide.hi_inbox WHERE processed_at IS NULL;

-- What can't be a handler, and why
CREATE FUNCTION no_parameters() RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION unknown_name(payload jsonb, colour text) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION three_jsonb(jsonb, jsonb, jsonb) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION one_text(text) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION variadic_one(VARIADIC payload jsonb[]) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION wrong_type(payload int[]) RETURNS void LANGUAGE sql AS '';
CREATE PROCEDURE with_out(payload jsonb, INOUT key text) LANGUAGE sql AS 'SELECT $2';
CREATE FUNCTION overloaded(payload jsonb) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION overloaded(payload jsonb, key int DEFAULT 1) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION pg_temp.set_handler(f text) RETURNS text LANGUAGE sql AS
	$$ SELECT split_part(pg_temp.try(format('SELECT tide.inbox_set_handler(%L, %L::regprocedure)', 'hi', f)), E'\n', 1) $$;
SELECT f, pg_temp.set_handler(f) FROM unnest(ARRAY['no_parameters()', 'unknown_name(jsonb,text)', 'three_jsonb(jsonb,jsonb,jsonb)',
	'one_text(text)', 'variadic_one(jsonb[])', 'wrong_type(int[])', 'with_out(jsonb,text)', 'pg_catalog.max(text)',
	'overloaded(jsonb)', 'nowhere(jsonb)']) f;
SELECT pg_temp.try($$SELECT tide.inbox_set_handler('hi', 'one_text(text)'::regprocedure)$$);
SELECT pg_temp.try($$SELECT tide.inbox_set_handler('hi', NULL)$$);
SELECT split_part(pg_temp.try($$SELECT tide.inbox_set_handler('hi', 4294967295)$$), E'\n', 1);
SELECT split_part(pg_temp.try($$SELECT tide.inbox_set_handler('nope', 'one_jsonb(jsonb)'::regprocedure)$$), E'\n', 1);
-- a refused handler leaves the one there was
SELECT handler FROM tide.inbox WHERE name = 'hi';

-- Poison: the failing event is recorded with its error and blocks its key; others go on; its work is undone
CREATE TABLE parent (id int PRIMARY KEY);
CREATE TABLE child (id int REFERENCES parent DEFERRABLE INITIALLY DEFERRED);
CREATE FUNCTION picky(event_id text, payload jsonb, key text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO seen (what) VALUES (event_id);
	SET search_path = pg_catalog;
	SET work_mem = '5MB';
	CASE payload #>> '{}'
		WHEN 'raise' THEN RAISE EXCEPTION 'I do not like %', event_id USING ERRCODE = 'TT123', DETAIL = 'It is poison.';
		WHEN 'divide' THEN PERFORM 1 / 0;
		WHEN 'defer' THEN INSERT INTO regress_handler.child VALUES (1);
		WHEN 'commit' THEN EXECUTE 'COMMIT';
		WHEN 'role' THEN EXECUTE 'SET ROLE pg_monitor';
		WHEN 'serialize' THEN RAISE serialization_failure;
		ELSE NULL;
	END CASE;
END
$$;
TRUNCATE seen, tide.hi_inbox;
SELECT tide.inbox_set_handler('hi', 'picky(text,jsonb,text)');
SELECT pg_temp.arrive('a1/a/"raise"', 'b1/b/"ok"', 'a2/a/"ok"', 'c1/c/"divide"', 'd1/d/"defer"', 'e9/e/"commit"', 'f9/f/"role"',
	'g1/g/"serialize"', 'n1//"divide"', 'n2//"ok"');
CALL tide.inbox_run_handler('hi', 'handler:hi', :epoch, 100, NULL, NULL, NULL, NULL) \gset
SELECT :done AS done, :failed AS failed, :'more' AS more;
SELECT event_id, processed_at IS NOT NULL AS processed, attempts, last_error FROM tide.hi_inbox ORDER BY seq;
SELECT what FROM seen ORDER BY n;
SELECT count(*) FROM child;
-- whatever it SET is gone
SHOW search_path;
SELECT current_setting('work_mem') = (SELECT reset_val || 'kB' FROM pg_settings WHERE name = 'work_mem')
	OR current_setting('work_mem') <> '5MB' AS restored;
-- nothing is due yet
CALL tide.inbox_run_handler('hi', 'handler:hi', :epoch, 100, NULL, NULL, NULL, NULL) \gset
SELECT :done AS done, :failed AS failed, :'more' AS more;
-- the second attempt is the last: dead letters, except for what says nothing about the event; then a2 is next
UPDATE tide.hi_inbox SET next_attempt_at = NULL;
CALL tide.inbox_run_handler('hi', 'handler:hi', :epoch, 100, NULL, NULL, NULL, NULL) \gset
SELECT :done AS done, :failed AS failed;
SELECT event_id, direction, pipeline, inbox, code, error, attempts FROM tide.dead_letters ORDER BY event_id;
SELECT event_id, dead_at IS NOT NULL AS dead, attempts FROM tide.hi_inbox WHERE event_id IN ('g1', 'a1') ORDER BY event_id;
SELECT what FROM seen ORDER BY n;
-- mended and redelivered for real
CREATE OR REPLACE FUNCTION picky(event_id text, payload jsonb, key text) RETURNS void LANGUAGE sql AS $$
	INSERT INTO regress_handler.seen (what) VALUES (event_id || ' mended') $$;
SELECT count(tide.dead_letter_retry(id)) FROM tide.dead_letters;
UPDATE tide.hi_inbox SET next_attempt_at = NULL;
CALL tide.inbox_run_handler('hi', 'handler:hi', :epoch, 3, NULL, NULL, NULL, NULL) \gset
SELECT :done AS done, :failed AS failed, :'more' AS more;
CALL tide.inbox_run_handler('hi', 'handler:hi', :epoch, 100, NULL, NULL, NULL, NULL) \gset
SELECT :done AS done, :failed AS failed, :'more' AS more;
SELECT count(*) FROM tide.hi_inbox WHERE processed_at IS NULL;
SELECT count(*) FROM tide.dead_letters;

-- A time limit hits the event that used it up, and the call ends; cancelling by hand would end it without blame
CREATE FUNCTION slow(event_id text) RETURNS void LANGUAGE sql AS $$ SELECT pg_sleep(CASE WHEN event_id = 'slow' THEN 60 ELSE 0 END) $$;
SELECT tide.inbox_set_handler('hi', 'slow(text)');
SELECT pg_temp.arrive('slow/x/1', 'next/y/1');
SET statement_timeout = '500ms';
CALL tide.inbox_run_handler('hi', 'handler:hi', :epoch, 100, NULL, NULL, NULL, NULL) \gset
RESET statement_timeout;
SELECT :done AS done, :failed AS failed, :'more' AS more;
SELECT event_id, attempts, last_error FROM tide.hi_inbox WHERE processed_at IS NULL ORDER BY seq;
CALL tide.inbox_run_handler('hi', 'handler:hi', :epoch, 100, NULL, NULL, NULL, NULL) \gset
SELECT :done AS done, :failed AS failed, :'more' AS more;

-- Claims and handlers keep out of each other's way
SELECT tide.inbox_set_handler('hi', 'only_some(text,jsonb)');
SELECT pg_temp.arrive('w1/w/1', 'w2/w/2', 'v1/v/3');
SELECT event_id FROM tide.inbox_claim('hi', 1, '1 hour');
CALL tide.inbox_run_handler('hi', 'handler:hi', :epoch, 100, NULL, NULL, NULL, NULL) \gset
SELECT event_id FROM tide.hi_inbox WHERE processed_at IS NULL AND event_id <> 'slow' ORDER BY seq;
SELECT tide.inbox_mark_processed('hi', 'w1');

-- Not for everybody, not any time
\set VERBOSITY terse
CALL tide.inbox_run_handler('hi', 'handler:hi', 0, 100, NULL, NULL, NULL, NULL);
CALL tide.inbox_run_handler('hi', 'handler:nope', 1, 100, NULL, NULL, NULL, NULL);
CALL tide.inbox_run_handler(NULL, 'handler:hi', :epoch, 100, NULL, NULL, NULL, NULL);
BEGIN;
CALL tide.inbox_run_handler('hi', 'handler:hi', :epoch, 100, NULL, NULL, NULL, NULL);
ROLLBACK;
DROP FUNCTION only_some(text, jsonb);
CALL tide.inbox_run_handler('hi', 'handler:hi', :epoch, 100, NULL, NULL, NULL, NULL);
-- ... and nobody is to blame for that
SELECT event_id, attempts, last_error FROM tide.hi_inbox WHERE event_id = 'w2';
SELECT tide.relay_delete('handler:hi');
SELECT tide.inbox_unset_handler('hi'), tide.inbox_unset_handler('hi');
SELECT count(*) FROM tide.pipelines WHERE target = 'hi';
CALL tide.inbox_run_handler('hi', 'handler:hi', :epoch, 100, NULL, NULL, NULL, NULL);
\set VERBOSITY default

-- The rights are those of who registered it, not of who runs it, and so is the search_path
CREATE ROLE regress_hadmin IN ROLE tide_admin;
CREATE ROLE regress_hrelay IN ROLE tide_relay;
CREATE SCHEMA regress_hadmin AUTHORIZATION regress_hadmin;
GRANT USAGE ON SCHEMA regress_handler TO regress_hadmin;
CREATE FUNCTION private(jsonb) RETURNS void LANGUAGE sql AS '';
REVOKE ALL ON FUNCTION private(jsonb) FROM PUBLIC;
SET ROLE regress_hadmin;
SET search_path = regress_hadmin, pg_temp;
CREATE TABLE ours (who text, path text);
CREATE FUNCTION whoami(event_id text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO ours VALUES (current_user, current_setting('search_path'));
END
$$;
SELECT tide.inbox_set_handler('hi', 'whoami(text)');
SELECT split_part(pg_temp.try($$SELECT tide.inbox_set_handler('hi', 'regress_handler.private(jsonb)'::regprocedure)$$), E'\n', 1);
RESET ROLE;
SET search_path = regress_handler;
SET ROLE regress_hrelay;
SELECT tide.relay_acquire('handler:hi', 'me') AS epoch \gset
CALL tide.inbox_run_handler('hi', 'handler:hi', :epoch, 100, NULL, NULL, NULL, NULL) \gset
SELECT :done AS done, :failed AS failed, current_user;
RESET ROLE;
SELECT DISTINCT * FROM regress_hadmin.ours;
-- the right is lost: the call says so, no event is blamed
REVOKE ALL ON FUNCTION regress_hadmin.whoami(text) FROM PUBLIC, regress_hadmin;
SELECT pg_temp.arrive('last/l/1');
SET ROLE regress_hrelay;
\set VERBOSITY terse
CALL tide.inbox_run_handler('hi', 'handler:hi', :epoch, 100, NULL, NULL, NULL, NULL);
\set VERBOSITY default
RESET ROLE;
SELECT attempts, last_error FROM tide.hi_inbox WHERE event_id = 'last';

SELECT split_part(pg_temp.try($$SELECT tide.inbox_drop('hi')$$), E'\n', 1);
DROP FUNCTION regress_handler.a_row(tide.hi_inbox);
SELECT tide.inbox_drop('hi');
SELECT count(*) FROM tide.pipelines WHERE target = 'hi';
SET client_min_messages = warning;
DROP SCHEMA regress_handler, regress_hadmin CASCADE;
DROP ROLE regress_hadmin, regress_hrelay;
DELETE FROM tide.inbox_peer;
DELETE FROM tide.dead_letter;
SELECT pg_advisory_unlock_all();
