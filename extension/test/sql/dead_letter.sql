--
-- Dead letters of all kinds: kept once, with their reason; redelivered for real, or discarded.
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
-- Calls a function with the id of the newest dead letter; ids vary, so they are cut out of messages.
CREATE FUNCTION pg_temp.newest(func text) RETURNS text LANGUAGE sql AS $$
	SELECT regexp_replace(pg_temp.try(format('SELECT tide.%s(%s)', func, (SELECT max(id) FROM tide.dead_letter))),
						  'letter \d+', 'letter N')
$$;
CREATE FUNCTION pg_temp.arrive(id text) RETURNS text LANGUAGE sql AS $$
	SELECT format('stored %s, duplicates %s', r.stored, r.duplicates)
	FROM tide.inbox_receive('dli', 'p', 1, 'eu', ARRAY[id], '{eu}', '{o}', '{e}', '{insert}', '{k}',
							ARRAY['{"n": 1}'::jsonb], ARRAY['{"h": 1}'::jsonb], '{1}', '{1}', NULL) r
$$;

SELECT tide.outbox_create('dlo'), tide.inbox_create('dli', max_attempts => 1);
SELECT tide.relay_set_outbox('dl-out', 'dlo', '{"sink_type": "stdout"}');
SELECT tide.relay_set_inbox('dl-in', 'dli', '{"source_type": "nats", "url": "nats://h:4222", "subject": "a.*", "stream": "S", "durable_name": "d"}');
SELECT tide.relay_acquire('dl-out', 'me') AS out_epoch \gset
SELECT tide.relay_acquire('dl-in', 'me') AS in_epoch \gset

-- An event that could not be sent: sent again under its own id
SELECT tide.dead_letter_add('dl-out', :out_epoch, '018f0000-0000-7000-8000-000000000001', 'here', 'dlo', 'orders', 'insert', 'k1',
	'{"total": 1}', '{"h": "x"}', '10003', 'stream is full') IS NOT NULL AS added;
SELECT direction, pipeline, inbox, outbox, event_id, origin, entity, op, key, code, error, attempts, payload, payload_raw, headers
	FROM tide.dead_letters;
-- the relay died before it saved its position and came here again: still one letter
SELECT count(DISTINCT tide.dead_letter_add('dl-out', :out_epoch, '018f0000-0000-7000-8000-000000000001', 'here', 'dlo', 'orders',
	'insert', 'k1', '{"total": 1}', '{"h": "x"}', '10003', 'stream is still full')) FROM generate_series(1, 2);
SELECT error, attempts FROM tide.dead_letters;
SELECT pg_temp.newest('dead_letter_retry');
SELECT count(*) FROM tide.dead_letters;
SELECT event_id, entity, op, key, payload, headers, extract(epoch FROM published_at) AS published FROM tide.dlo_outbox;
SELECT pg_temp.newest('dead_letter_retry');
SELECT pg_temp.newest('dead_letter_discard');
SELECT retried_at IS NOT NULL AS retried, resolved_at IS NOT NULL AS resolved FROM tide.dead_letter;

-- A message that could not be stored: JSON that the inbox refused
SELECT tide.dead_letter_add('dl-in', :in_epoch, 'm1', 'eu', 'out', 'orders', 'insert', 'k', '{"n": 1}', '{"h": 1}', '54000', 'too wide') > 0 AS added;
SELECT tide.inbox_missing('dli', '{m1,m2}');
SELECT direction, inbox, outbox FROM tide.dead_letters;
SELECT pg_temp.newest('dead_letter_retry');
SELECT event_id, origin, outbox, entity, op, key, payload, headers, processed_at FROM tide.dli_inbox;
SELECT pg_temp.arrive('m1');

-- Bytes that are not JSON, or not JSON for jsonb: kept as they came, never retried into something else
SELECT tide.dead_letter_add('dl-in', :in_epoch, 'm2', NULL, NULL, NULL, NULL, NULL, '\x00ff41', NULL, NULL, NULL) > 0 AS added;
SELECT payload, payload_raw, error FROM tide.dead_letters;
SELECT pg_temp.newest('dead_letter_retry');
SELECT count(*) FROM tide.dead_letters;
SELECT pg_temp.newest('dead_letter_discard');
SELECT tide.dead_letter_add('dl-in', :in_epoch, 'm3', NULL, NULL, NULL, NULL, NULL, convert_to('{"a": "\u0000"}', 'UTF8'), NULL, '22P05', 'x') > 0 AS added;
SELECT payload, convert_from(payload_raw, 'UTF8') AS raw FROM tide.dead_letters;
SELECT pg_temp.newest('dead_letter_discard');
-- an empty message
SELECT tide.dead_letter_add('dl-in', :in_epoch, 'm4', NULL, NULL, NULL, NULL, NULL, '', NULL, NULL, 'empty') > 0 AS added;
SELECT pg_temp.newest('dead_letter_discard');
SELECT tide.inbox_missing('dli', '{m2,m3,m4,m5}');

-- A worker's failure: pending again, from its first attempt on
SELECT pg_temp.arrive('w1');
SELECT tide.inbox_mark_failed('dli', 'w1', 'no');
SELECT count(*) FROM tide.inbox_claim('dli') WHERE event_id = 'w1';
SELECT pg_temp.newest('dead_letter_retry');
SELECT attempts, dead_at, next_attempt_at FROM tide.dli_inbox WHERE event_id = 'w1';
SELECT event_id, attempts FROM tide.inbox_claim('dli') WHERE event_id = 'w1';
SELECT tide.inbox_mark_failed('dli', 'w1', 'no again');
SELECT error FROM tide.dead_letters;
-- somebody removed the row meanwhile: the letter has it all
DELETE FROM tide.dli_inbox WHERE event_id = 'w1';
SELECT pg_temp.newest('dead_letter_retry');
SELECT event_id, payload, headers, attempts FROM tide.dli_inbox WHERE event_id = 'w1';
-- discarded: gone, but never accepted again
SELECT tide.inbox_mark_failed('dli', 'w1', 'for good');
SELECT pg_temp.newest('dead_letter_discard');
SELECT count(*) FROM tide.dli_inbox WHERE event_id = 'w1';
SELECT pg_temp.arrive('w1');

-- Wrong calls
SELECT pg_temp.try('SELECT tide.dead_letter_retry(-1)');
SELECT pg_temp.try('SELECT tide.dead_letter_retry(NULL)');
SELECT pg_temp.try('SELECT tide.dead_letter_discard(-1)');
SELECT split_part(pg_temp.try($$SELECT tide.dead_letter_add('dl-in', 0, 'm', NULL, NULL, NULL, NULL, NULL, '', NULL, NULL, 'x')$$), E'\n', 1);
SELECT count(*) FROM tide.dead_letters;

-- The inbox is gone: said so, and the letter stays
SELECT pg_temp.arrive('w2'), tide.inbox_mark_failed('dli', 'w2', 'no');
SELECT tide.relay_delete('dl-in'), tide.relay_delete('dl-out'), tide.inbox_drop('dli'), tide.outbox_drop('dlo');
SELECT split_part(pg_temp.newest('dead_letter_retry'), E'\n', 1);
SELECT count(*) FROM tide.dead_letters;
SELECT pg_temp.newest('dead_letter_discard');

-- Resolved letters are forgotten in time
UPDATE tide.dead_letter SET resolved_at = resolved_at - interval '31 days';
SELECT (tide.maintain() -> 'dead_letters_forgotten')::int > 5 AS forgotten;
SELECT count(*) FROM tide.dead_letter;
DELETE FROM tide.inbox_peer;
SELECT pg_advisory_unlock_all();
