--
-- Publishing: what an event may be, what becomes of it, and in which transaction.
--
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_tide;
RESET client_min_messages;
SELECT tide.outbox_create('pub');

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

-- ---- the event ----
SELECT tide.outbox_publish('pub', 'orders', '{"b": 1, "a": [1, null, "x"]}', '{"trace": "t-1"}', 'k1', 'update') AS id \gset
SELECT event_id = :'id' AS same_id, entity, op, key, payload, headers, published_at <= clock_timestamp() AS in_time
  FROM tide.pub_outbox;
-- The id is a UUIDv7 of the present.
SELECT :'id' ~ '^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$' AS uuid7,
	abs(('x' || lpad(replace(left(:'id', 13), '-', ''), 16, '0'))::bit(64)::bigint / 1000.0
		- extract(epoch FROM clock_timestamp())) < 60 AS is_recent;
-- Defaults, and named arguments.
SELECT tide.outbox_publish('pub', 'orders', '1') IS NOT NULL AS published;
SELECT tide.outbox_publish(outbox => 'pub', entity => 'e', payload => '{}', op => 'delete', key => 'k') IS NOT NULL AS published;
SELECT entity, op, key, payload, headers FROM tide.pub_outbox ORDER BY seq OFFSET 1;
-- Many at once: as many ids, in order of publishing.
SELECT count(DISTINCT tide.outbox_publish('pub', 'many', to_jsonb(i), key => (i % 3)::text)) FROM generate_series(1, 5000) i;
SELECT count(*), count(DISTINCT event_id), count(DISTINCT seq), count(DISTINCT xid) AS transactions FROM tide.pub_outbox WHERE entity = 'many';
SELECT bool_and(payload::int > before) AS in_order
  FROM (SELECT payload, lag(payload::int, 1, 0) OVER (ORDER BY seq) AS before FROM tide.pub_outbox WHERE entity = 'many') s;

-- ---- payloads ----
SELECT pg_temp.try('SELECT tide.outbox_publish(''pub'', ''e'', NULL)');
SELECT tide.outbox_publish('pub', 'json_null', 'null') IS NOT NULL AS published;
SELECT tide.outbox_publish('pub', 'scalar', p) IS NOT NULL AS published FROM unnest(ARRAY['"x"', '1.50', 'true', '[]', '{}', '""']::jsonb[]) p;
SELECT payload FROM tide.pub_outbox WHERE entity IN ('json_null', 'scalar') ORDER BY seq;
SELECT pg_temp.try($$SELECT tide.outbox_publish('pub', 'e', '{"zero": "a\u0000b"}')$$);
SELECT tide.outbox_publish('pub', 'escaped', '{"zero": "a\\u0000b", "uni": "\ud83d\ude00 é \"\\"}') IS NOT NULL AS published;
SELECT payload FROM tide.pub_outbox WHERE entity = 'escaped';
SELECT tide.outbox_publish('pub', 'big', jsonb_build_object('x', repeat('x', n * 1024 * 1024), 'n', n)) IS NOT NULL AS published
  FROM unnest(ARRAY[1, 10]) n;
SELECT payload->>'n' AS mb, length(payload->>'x') AS length FROM tide.pub_outbox WHERE entity = 'big' ORDER BY seq;
-- What compresses badly goes the same way.
SELECT tide.outbox_publish('pub', 'random', to_jsonb(string_agg(md5(i::text), ''))) IS NOT NULL AS published FROM generate_series(1, 40000) i;
SELECT length(payload #>> '{}') AS length, md5(payload #>> '{}') = (SELECT md5(string_agg(md5(i::text), '')) FROM generate_series(1, 40000) i) AS same
  FROM tide.pub_outbox WHERE entity = 'random';
SELECT entity, length(payload) AS bytes FROM tide.outbox_fetch(NULL, NULL, 'pub', NULL, pg_current_snapshot()::text, 5000, 100000, 1000000000)
 WHERE entity IN ('big', 'random') ORDER BY seq;

-- ---- headers ----
SELECT h, pg_temp.try(format('SELECT tide.outbox_publish(''pub'', ''e'', ''1'', %L)', h)) FROM unnest(ARRAY['[]', '"x"', '1', 'null', '{}', '{"a": {"b": 1}}']) h;
SELECT pg_temp.try('SELECT tide.outbox_publish(''pub'', ''e'', ''1'', NULL)');

-- ---- entity, op, key ----
SELECT pg_temp.try(s) FROM unnest(ARRAY[
	$$SELECT tide.outbox_publish(NULL, 'e', '1')$$,
	$$SELECT tide.outbox_publish('', 'e', '1')$$,
	$$SELECT tide.outbox_publish('pub', NULL, '1')$$,
	$$SELECT tide.outbox_publish('pub', '', '1')$$,
	$$SELECT tide.outbox_publish('pub', '  ', '1')$$,
	$$SELECT tide.outbox_publish('pub', 'e', '1', op => '')$$,
	$$SELECT tide.outbox_publish('pub', 'e', '1', op => NULL)$$,
	$$SELECT tide.outbox_publish('pub', 'e', '1', key => '')$$,
	$$SELECT tide.outbox_publish('pub', repeat('e', 1024), '1', op => repeat('o', 1024), key => repeat('k', 1024))$$,
	$$SELECT tide.outbox_publish('pub', repeat('e', 1025), '1')$$,
	$$SELECT tide.outbox_publish('pub', 'e', '1', op => repeat('o', 1025))$$,
	$$SELECT tide.outbox_publish('pub', 'e', '1', key => repeat('é', 513))$$,
	$$SELECT tide.outbox_publish('pub', 'dépôt/é ''"--', '1', key => E'line\nbreak', op => 'op é')$$]) s;
SELECT entity, op, key FROM tide.pub_outbox WHERE entity LIKE 'd%';

-- ---- the older call form ----
SELECT tide.outbox_publish('pub', '{"older": 1}'::jsonb, '{"h": 1}'::jsonb) IS NOT NULL AS published;
SELECT entity, op, key, payload, headers FROM tide.pub_outbox WHERE payload ? 'older';
-- Without casts it means the other form: refused, not guessed.
SELECT tide.outbox_publish('pub', '{"older": 2}', '{"h": 1}');
SELECT tide.outbox_publish('pub', E' \n\t[1]', '{}');
SELECT pg_temp.try($$SELECT tide.outbox_publish('pub', NULL::jsonb, '{}'::jsonb)$$);
SELECT pg_temp.try($$SELECT tide.outbox_publish('pub', '1'::jsonb, '[]'::jsonb)$$);
SELECT pg_temp.try($$SELECT tide.outbox_publish('pub', '1'::jsonb, NULL::jsonb)$$);
SELECT pg_temp.try($$SELECT tide.outbox_publish(NULL, '1'::jsonb, '{}'::jsonb)$$);
SELECT count(*) FROM tide.pub_outbox WHERE payload ? 'older';

-- ---- transactions ----
CREATE FUNCTION pg_temp.published(what text) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(payload::text, ',' ORDER BY seq) FROM tide.pub_outbox WHERE entity = what $$;
BEGIN;
SELECT tide.outbox_publish('pub', 'rolled_back', '1') IS NOT NULL AS published;
ROLLBACK;
SELECT pg_temp.published('rolled_back');
BEGIN;
SELECT tide.outbox_publish('pub', 'savepoint', '1') IS NOT NULL AS published;
SAVEPOINT a;
SELECT tide.outbox_publish('pub', 'savepoint', '2') IS NOT NULL AS published;
SAVEPOINT b;
SELECT tide.outbox_publish('pub', 'savepoint', '3') IS NOT NULL AS published;
ROLLBACK TO b;
SELECT tide.outbox_publish('pub', 'savepoint', '4') IS NOT NULL AS published;
RELEASE a;
ROLLBACK TO nowhere;
ROLLBACK;
SELECT pg_temp.published('savepoint');
BEGIN;
SELECT tide.outbox_publish('pub', 'savepoint', '1') IS NOT NULL AS published;
SAVEPOINT a;
SELECT tide.outbox_publish('pub', 'savepoint', '2') IS NOT NULL AS published;
ROLLBACK TO a;
SELECT tide.outbox_publish('pub', 'savepoint', '3') IS NOT NULL AS published;
SAVEPOINT b;
SELECT tide.outbox_publish('pub', 'savepoint', '4') IS NOT NULL AS published;
RELEASE b;
COMMIT;
SELECT pg_temp.published('savepoint');
-- What a subtransaction published belongs to the whole: one transaction id, the top one's.
SELECT count(DISTINCT xid) AS transactions FROM tide.pub_outbox WHERE entity = 'savepoint';
SELECT string_agg(payload, ',' ORDER BY seq) AS fetched FROM tide.outbox_fetch(NULL, NULL, 'pub', NULL, pg_current_snapshot()::text, 5000, 100000, 1000000000)
 WHERE entity = 'savepoint';
BEGIN READ ONLY;
SELECT tide.outbox_publish('pub', 'read_only', '1');
ROLLBACK;
BEGIN;
SELECT tide.outbox_publish('pub', 'prepared', '1') IS NOT NULL AS published;
PREPARE TRANSACTION 'regress_tide_commit';
BEGIN;
SELECT tide.outbox_publish('pub', 'prepared', '2') IS NOT NULL AS published;
PREPARE TRANSACTION 'regress_tide_rollback';
SELECT tide.outbox_publish('pub', 'prepared', '3') IS NOT NULL AS published;
SELECT pg_temp.published('prepared');
SELECT window_end AS before FROM tide.outbox_fetch(NULL, NULL, 'pub', NULL, NULL, 1000000, 1, 1) WHERE window_end IS NOT NULL \gset
COMMIT PREPARED 'regress_tide_commit';
ROLLBACK PREPARED 'regress_tide_rollback';
SELECT pg_temp.published('prepared');
SELECT payload FROM tide.outbox_fetch(NULL, NULL, 'pub', :'before', NULL, NULL, 100, 1000000);
-- Other isolation levels, and a trigger.
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT tide.outbox_publish('pub', 'serializable', '1') IS NOT NULL AS published;
COMMIT;
SELECT pg_temp.published('serializable');
CREATE TABLE public.pub_source (i int);
CREATE FUNCTION public.pub_trigger() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM tide.outbox_publish('pub', 'trigger', to_jsonb(NEW.i), op => lower(TG_OP));
	RETURN NEW;
END $$;
CREATE TRIGGER publish BEFORE INSERT OR UPDATE ON public.pub_source FOR EACH ROW EXECUTE FUNCTION public.pub_trigger();
INSERT INTO public.pub_source VALUES (1), (2);
UPDATE public.pub_source SET i = i + 10;
SELECT op, payload FROM tide.pub_outbox WHERE entity = 'trigger' ORDER BY seq;
DROP TABLE public.pub_source;
DROP FUNCTION public.pub_trigger();

SELECT tide.outbox_drop('pub');
