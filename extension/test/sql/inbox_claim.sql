--
-- Working on events: claims in order per key, leases, marks, failures.
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

-- Events written as "id/entity/key"; an empty part is NULL.
CREATE FUNCTION pg_temp.arrive(inbox text, VARIADIC events text[]) RETURNS bigint LANGUAGE sql AS $$
	SELECT (tide.inbox_receive(inbox, 'p', 1, 'eu', array_agg(split_part(e, '/', 1)), array_agg('eu'::text),
		array_agg('out'::text), array_agg(nullif(split_part(e, '/', 2), '')), array_agg('insert'::text),
		array_agg(nullif(split_part(e, '/', 3), '')), array_agg('{}'::jsonb), array_agg('{}'::jsonb),
		array_agg(1::int8), array_agg(1::int8), NULL)).stored
	FROM unnest(events) WITH ORDINALITY AS u (e, n)
$$;

CREATE FUNCTION pg_temp.claim(inbox text, max_events int DEFAULT 100, lease interval DEFAULT '10 minutes')
RETURNS text LANGUAGE sql AS $$
	SELECT coalesce(string_agg(c.event_id || ':' || c.attempts, ' '), 'nothing')
	FROM tide.inbox_claim(inbox, max_events, lease) c
$$;

-- Waits (at most ten seconds) until an event can be claimed.
CREATE FUNCTION pg_temp.claim_soon(inbox text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	got text;
BEGIN
	FOR i IN 1 .. 1000 LOOP
		got := pg_temp.claim(inbox);
		EXIT WHEN got <> 'nothing';
		PERFORM pg_sleep(0.01);
	END LOOP;
	RETURN got;
END
$$;

SELECT tide.inbox_create('work', max_attempts => 3);
SELECT tide.inbox_alter('work', backoff_base => '1 hour', backoff_max => '1 day');

-- In order of arrival, no more than asked for, and each once
SELECT pg_temp.arrive('work', 'a1/e/a', 'b1/e/b', 'a2/e/a', 'n1/e/', 'n2//', 'b2/e/b', 'a3/e/a');
SELECT pg_temp.claim('work', 2);
-- a1 and b1 are out: their keys wait, events without a key do not
SELECT pg_temp.claim('work');
SELECT pg_temp.claim('work');
SELECT tide.inbox_mark_processed('work', 'a1');
-- several events of one key may go out together
SELECT pg_temp.claim('work');
SELECT tide.inbox_mark_processed('work', e) FROM unnest(ARRAY['a2', 'a3', 'n1', 'n2', 'b1', 'b2']) e;
-- b2 was marked without ever having been claimed; everything is done now
SELECT pg_temp.claim('work');
SELECT count(*) FROM tide.work_inbox WHERE processed_at IS NULL OR lease_until IS NOT NULL;

-- Equal keys of different entities are different; NULL and '' too
SELECT pg_temp.arrive('work', 'p1/x/k', 'p2/y/k', 'p3//k');
UPDATE tide.work_inbox SET entity = '' WHERE event_id = 'p2';
SELECT pg_temp.claim('work', 1), pg_temp.claim('work', 1), pg_temp.claim('work', 1);
SELECT tide.inbox_mark_processed('work', e) FROM unnest(ARRAY['p1', 'p2', 'p3']) e;

-- What a claim returns
SELECT pg_temp.arrive('work', 'r1/e/k');
SELECT event_id, origin, outbox, entity, op, key, payload, headers, processed_at, attempts, last_error,
	lease_until > now() AS leased
	FROM tide.inbox_claim('work', lease => '1 minute');

-- Marking twice, unknown events, NULLs
SELECT tide.inbox_mark_processed('work', 'r1'), tide.inbox_mark_processed('work', 'r1');
SELECT tide.inbox_mark_failed('work', 'r1', 'too late'), tide.inbox_release('work', 'r1');
SELECT pg_temp.try($$SELECT tide.inbox_mark_processed('work', 'never')$$);
SELECT pg_temp.try($$SELECT tide.inbox_mark_failed('work', 'never', 'x')$$);
SELECT pg_temp.try($$SELECT tide.inbox_release('work', 'never')$$);
SELECT split_part(pg_temp.try($$SELECT tide.inbox_mark_processed('nope', 'r1')$$), E'\n', 1);
SELECT pg_temp.try($$SELECT tide.inbox_mark_processed('work', NULL)$$);
SELECT pg_temp.try($$SELECT tide.inbox_mark_processed(NULL, 'r1')$$);
-- many at once: all or none
SELECT pg_temp.arrive('work', 's1/e/k', 's2/e/k', 's3/e/l');
SELECT pg_temp.try($$SELECT tide.inbox_mark_processed('work', ARRAY['s1', 'never'])$$);
SELECT pg_temp.try($$SELECT tide.inbox_mark_processed('work', ARRAY['s1', NULL])$$);
SELECT tide.inbox_mark_processed('work', ARRAY['s1', 's3', 's1']), tide.inbox_mark_processed('work', ARRAY['s1', 's2', 's3']),
	tide.inbox_mark_processed('work', '{}'::text[]), tide.inbox_mark_processed('work', NULL::text[]);
SELECT pg_temp.try($$SELECT tide.inbox_mark_processed('nope', '{}'::text[])$$) ~ '^42704';
-- a mark that comes after the row was pruned is no mistake
DELETE FROM tide.work_inbox WHERE event_id = 'r1';
SELECT tide.inbox_mark_processed('work', 'r1');

-- Wrong arguments
SELECT split_part(pg_temp.try($$SELECT tide.inbox_claim('nope')$$), E'\n', 1);
SELECT pg_temp.try($$SELECT tide.inbox_claim(NULL)$$);
SELECT pg_temp.try($$SELECT tide.inbox_claim('work', 0)$$);
SELECT pg_temp.try($$SELECT tide.inbox_claim('work', NULL)$$);
SELECT pg_temp.try($$SELECT tide.inbox_claim('work', 1, '0')$$);
SELECT pg_temp.try($$SELECT tide.inbox_claim('work', 1, '-1 second')$$);
SELECT pg_temp.claim('work', 2147483647);

-- A lease that runs out makes the event free again, with one attempt more
SELECT pg_temp.arrive('work', 'l1/e/k', 'l2/e/k');
SELECT pg_temp.claim('work', 1, '20 milliseconds');
SELECT pg_temp.claim_soon('work');
-- giving it back takes the attempt back
SELECT tide.inbox_release('work', 'l1'), tide.inbox_release('work', 'l2'), tide.inbox_release('work', 'l2');
SELECT event_id, attempts, lease_until FROM tide.work_inbox WHERE event_id LIKE 'l_' ORDER BY seq;
SELECT tide.inbox_mark_processed('work', e) FROM unnest(ARRAY['l1', 'l2']) e;

-- Failing: the event waits, and with it its key; others go on
SELECT pg_temp.arrive('work', 'f1/e/k', 'f2/e/k', 'g1/e/g');
SELECT pg_temp.claim('work', 1);
SELECT tide.inbox_mark_failed('work', 'f1', 'no such customer');
SELECT pg_temp.claim('work');
SELECT attempts, last_error, lease_until, next_attempt_at > now() + interval '40 minutes' AS later,
	next_attempt_at <= now() + interval '61 minutes' AS not_too_late, dead_at
	FROM tide.work_inbox WHERE event_id = 'f1';
SELECT name, pending, leased, retrying, dead FROM tide.inbox_status('work');
-- without a claim, failing counts as an attempt by itself; the wait doubles
SELECT tide.inbox_mark_failed('work', 'f1', NULL);
SELECT attempts, last_error, next_attempt_at > now() + interval '80 minutes' AS later FROM tide.work_inbox WHERE event_id = 'f1';
-- the third time it is dead, and blocks nobody
SELECT tide.inbox_mark_failed('work', 'f1', 'still no such customer');
SELECT attempts, next_attempt_at, dead_at IS NOT NULL AS dead FROM tide.work_inbox WHERE event_id = 'f1';
SELECT direction, pipeline, inbox, event_id, entity, key, code, error, attempts FROM tide.dead_letters;
SELECT tide.inbox_mark_failed('work', 'f1', 'again');
SELECT pg_temp.claim('work');
-- processed after all: the dead letter is settled
SELECT tide.inbox_mark_processed('work', 'f1');
SELECT count(*) FROM tide.dead_letters;
SELECT tide.inbox_mark_processed('work', e) FROM unnest(ARRAY['f2', 'g1']) e;

-- An event waits for earlier ones of its key, not for later ones that are still out
SELECT tide.inbox_alter('work', backoff_base => '1 millisecond');
SELECT pg_temp.arrive('work', 'v1/e/k', 'v2/e/k', 'v3/e/k');
SELECT pg_temp.claim('work');
SELECT tide.inbox_mark_failed('work', 'v1', 'for now');
SELECT pg_sleep(0.002);
SELECT pg_temp.claim('work');
SELECT tide.inbox_mark_processed('work', ARRAY['v1', 'v2', 'v3']);

-- Back-off ends by itself
SELECT tide.inbox_alter('work', backoff_base => '20 milliseconds');
SELECT pg_temp.arrive('work', 'w1/e/k');
SELECT pg_temp.claim('work');
SELECT tide.inbox_mark_failed('work', 'w1', 'for now');
SELECT pg_temp.claim_soon('work');
SELECT tide.inbox_mark_processed('work', 'w1');

-- The wait is bounded, however many attempts
SELECT bool_and(tide._backoff(n, '1 second', '5 minutes') BETWEEN interval '0.75 seconds' AND '5 minutes'
				AND (n < 10 OR tide._backoff(n, '1 second', '5 minutes') >= interval '225 seconds'))
	FROM generate_series(0, 100) n;

-- An event that is claimed over and over without any report is given up
SELECT pg_temp.arrive('work', 'z1/e/k', 'z2/e/k');
SELECT pg_temp.claim('work', 1, '1 microsecond') FROM generate_series(1, 3);
SELECT pg_temp.claim('work');
SELECT direction, event_id, code, error, attempts FROM tide.dead_letters;
SELECT tide.dead_letter_discard(id) FROM tide.dead_letters;
SELECT tide.inbox_mark_processed('work', 'z2');
SELECT count(*) FROM tide.work_inbox WHERE processed_at IS NULL;

-- A claim is undone with its transaction
SELECT pg_temp.arrive('work', 'u1/e/k');
BEGIN;
SELECT pg_temp.claim('work');
ROLLBACK;
SELECT pg_temp.claim('work');
SELECT tide.inbox_mark_processed('work', 'u1');

-- Many blocked keys: one walk, whatever the planner thinks of the table
SELECT pg_temp.arrive('work', VARIADIC ARRAY(SELECT format('m%s/e/%s', i, i % 500) FROM generate_series(1, 3000) i));
SELECT count(*) FROM tide.inbox_claim('work', 500, '1 hour');
SELECT pg_temp.arrive('work', 'last/e/free');
SELECT pg_temp.claim('work');

SELECT tide.inbox_drop('work');
DELETE FROM tide.dead_letter;
DELETE FROM tide.inbox_peer;
