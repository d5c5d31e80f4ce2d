--
-- Inboxes: names, creating, dropping; what arrives and what is dropped as known or as an echo.
--
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_tide;
RESET client_min_messages;

-- Runs a statement; says what became of it, with code, message and hint.
CREATE FUNCTION pg_temp.try(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	message text;
	detail text;
	hint text;
BEGIN
	EXECUTE statement;
	RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	RETURN concat_ws(E'\n', sqlstate || ' ' || message, nullif(detail, ''), nullif(hint, ''));
END
$$;

-- A batch from region "eu", as its relay would send it: ids, and what else matters.
CREATE FUNCTION pg_temp.arrive(inbox text, ids text[], origins text[] DEFAULT NULL, keys text[] DEFAULT NULL,
							   payloads jsonb[] DEFAULT NULL, us int8[] DEFAULT NULL)
RETURNS text LANGUAGE sql AS $$
	SELECT format('stored %s, duplicates %s, echoes %s', r.stored, r.duplicates, r.echoes)
	FROM tide.inbox_receive(inbox, 'p', 1, 'eu', ids,
		coalesce(origins, array_fill('eu'::text, ARRAY[cardinality(ids)])),
		array_fill('out'::text, ARRAY[cardinality(ids)]), array_fill('orders'::text, ARRAY[cardinality(ids)]),
		array_fill('insert'::text, ARRAY[cardinality(ids)]),
		coalesce(keys, array_fill(NULL::text, ARRAY[cardinality(ids)])),
		coalesce(payloads, array_fill('{"a": 1}'::jsonb, ARRAY[cardinality(ids)])),
		array_fill('{"h": "x"}'::jsonb, ARRAY[cardinality(ids)]),
		coalesce(us, array_fill(1700000000123456, ARRAY[cardinality(ids)])),
		coalesce(us, array_fill(1700000000123457, ARRAY[cardinality(ids)])), NULL) r
$$;

-- Creating
SELECT tide.inbox_create('in');
SELECT pg_temp.try($$SELECT tide.inbox_create('in')$$);
SELECT pg_temp.try($$SELECT tide.inbox_create(NULL)$$);
SELECT pg_temp.try(format('SELECT tide.inbox_create(%L)', n))
	FROM unnest(ARRAY['', 'a b', 'a"b', 'a''b', 'a;--', 'a.b', 'caf' || chr(233), repeat('x', 64), 'handler:in']) n;
SELECT pg_temp.try($$SELECT tide.inbox_create('bad', max_attempts => 0)$$);
SELECT pg_temp.try($$SELECT tide.inbox_create('bad', retention => '-1 day')$$);
SELECT pg_temp.try($$SELECT tide.inbox_create('bad', ledger_retention => '-1 day')$$);
SELECT a.attname, format_type(a.atttypid, a.atttypmod) AS type
	FROM pg_attribute a WHERE a.attrelid = 'tide.in_inbox'::regclass AND a.attnum > 0 ORDER BY a.attnum;

-- Names: mixed case, dashes, leading digits and 63 bytes work; the relation is what the server makes of name_inbox
SELECT tide.inbox_create('Mixed-Case'), tide.inbox_create('1st'), tide.inbox_create('-'),
	tide.inbox_create('select');
SELECT pg_temp.arrive('Mixed-Case', '{1}'), pg_temp.arrive('1st', '{1}'), pg_temp.arrive('-', '{1}'),
	pg_temp.arrive('select', '{1}');
SELECT count(*) FROM tide."Mixed-Case_inbox" a, tide."1st_inbox" b, tide."-_inbox" c, tide.select_inbox d;
SELECT tide.inbox_create(repeat('n', 63));
SELECT pg_temp.arrive(repeat('n', 63), '{1,2}');
SELECT count(*) FROM tide.nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn_inbox;
-- ... so another name may want the same relation
SELECT tide.inbox_create(repeat('m', 62) || '_');
SELECT pg_temp.try(format('SELECT tide.inbox_create(%L)', repeat('m', 62)));
SELECT tide.inbox_drop('Mixed-Case'), tide.inbox_drop('1st'), tide.inbox_drop('-'), tide.inbox_drop('select'),
	tide.inbox_drop(repeat('n', 63)), tide.inbox_drop(repeat('m', 62) || '_');

-- Unknown inboxes; the hint lists those there are
SELECT split_part(pg_temp.try($$SELECT tide.inbox_drop('nope')$$), E'\n', 1);
SELECT pg_temp.try($$SELECT tide.inbox_drop(NULL)$$);
SELECT split_part(pg_temp.try($$SELECT pg_temp.arrive('nope', '{1}')$$), E'\n', 1);
SELECT split_part(pg_temp.try($$SELECT * FROM tide.inbox_status('nope')$$), E'\n', 1);
SELECT split_part(pg_temp.try($$SELECT tide.inbox_missing('x"; DROP TABLE tide.inbox; --', '{1}')$$), E'\n', 1);
SELECT split_part(pg_temp.try($$SELECT tide.inbox_alter('nope')$$), E'\n', 1);
SELECT pg_temp.try($$SELECT tide.inbox_drop('nope')$$) ~ 'Inboxes of this database: .*\yin\y.* SELECT tide.inbox_create';

-- Arriving: everything is there, in the order of the batch
SELECT pg_temp.arrive('in', '{c,b,a}', NULL, '{k,k,NULL}', ARRAY['{"total": 149.99}', '[1, null]', NULL]::jsonb[]);
SELECT event_id, row_number() OVER (ORDER BY seq) AS nth, origin, outbox, entity, op, key, payload, headers,
	extract(epoch FROM published_at) AS published, extract(epoch FROM committed_at) AS committed,
	received_at > now() - interval '1 minute' AS received, processed_at, attempts, last_error
	FROM tide.in_inbox ORDER BY seq;

-- Times nobody knows, or that no timestamp holds
SELECT pg_temp.arrive('in', '{t1,t2,t3,t4}', us => ARRAY[0, NULL, 9223372036854775807, -9223372036854775808]);
SELECT event_id, published_at, committed_at FROM tide.in_inbox WHERE event_id LIKE 't_' ORDER BY seq;

-- Duplicates: again, in the same batch, with another payload (the first one stays)
SELECT pg_temp.arrive('in', '{a,d,d,b}', payloads => ARRAY['"new"', '"first"', '"second"', '"new"']::jsonb[]);
SELECT event_id, payload FROM tide.in_inbox WHERE event_id IN ('a', 'b', 'd') ORDER BY event_id;

-- Echoes: what this region published itself; a foreign message has no origin
SELECT tide.region_name() AS here \gset
SELECT pg_temp.arrive('in', '{e1,e2,e3}', ARRAY[:'here', 'eu', NULL]);
SELECT event_id, origin FROM tide.in_inbox WHERE event_id LIKE 'e_' ORDER BY event_id;
SELECT tide.inbox_missing('in', '{a,e1,e2,zz}');
SELECT pg_temp.arrive('in', '{}');

-- Wrong batches: nothing is stored
SELECT pg_temp.try($$SELECT tide.inbox_receive('in', 'p', 1, 'eu', '{x1,x2}', '{eu,eu}', '{o,o}', '{e,e}', '{i,i}',
	'{k,k}', '{1}', '{null,null}', '{1,1}', '{1,1}', NULL)$$);
SELECT pg_temp.try($$SELECT tide.inbox_receive('in', 'p', 1, 'eu', '{x1}', '{eu}', NULL, '{e}', '{i}', '{k}', '{1}', '{null}',
	'{1}', '{1}', NULL)$$);
SELECT pg_temp.try($$SELECT pg_temp.arrive('in', ARRAY['x1', NULL])$$);
SELECT pg_temp.try(format('SELECT pg_temp.arrive(%L, ARRAY[%L, %L])', 'in', 'x1',
						  (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 400) i))) ~ '^54000 ';
SELECT count(*) FROM tide.in_inbox WHERE event_id LIKE 'x_';
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT pg_temp.try($$SELECT pg_temp.arrive('in', '{x1}')$$);
ROLLBACK;

-- The sender's epoch: remembered per region and pipeline, older ones are refused
SELECT stored FROM tide.inbox_receive('in', 'q', 7, 'us', '{q1}', '{us}', '{o}', '{e}', '{i}', '{k}', '{1}', '{null}', '{1}', '{1}', NULL);
SELECT pg_temp.try($$SELECT tide.inbox_receive('in', 'q', 6, 'us', '{q2}', '{us}', '{o}', '{e}', '{i}', '{k}', '{1}', '{null}', '{1}', '{1}', NULL)$$);
SELECT stored FROM tide.inbox_receive('in', 'q', 6, 'asia', '{q3}', '{us}', '{o}', '{e}', '{i}', '{k}', '{1}', '{null}', '{1}', '{1}', NULL);
SELECT stored FROM tide.inbox_receive('in', 'q', 8, 'us', '{q4}', '{us}', '{o}', '{e}', '{i}', '{k}', '{1}', '{null}', '{1}', '{1}', NULL);
SELECT region, pipeline, epoch FROM tide.inbox_peer ORDER BY region, pipeline;
SELECT pg_temp.try($$SELECT tide.inbox_receive('in', 'q', NULL, 'us', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', NULL)$$);

-- The ledger outlives the rows: DELETE, TRUNCATE and pruning
DELETE FROM tide.in_inbox WHERE event_id IN ('a', 'b');
SELECT pg_temp.arrive('in', '{a,b,c,new}');
SELECT event_id FROM tide.in_inbox WHERE event_id IN ('a', 'b', 'new');
TRUNCATE tide.in_inbox;
SELECT pg_temp.arrive('in', '{a,b,c,d,new}');
SELECT tide.inbox_missing('in', '{a,b,c,d,new,never}');
-- ... also where rows are deleted by replication
SELECT pg_temp.arrive('in', '{rep}');
SET session_replication_role = replica;
DELETE FROM tide.in_inbox;
RESET session_replication_role;
SELECT pg_temp.arrive('in', '{rep}');
-- ... and a rolled-back deletion leaves the row and no trace
SELECT pg_temp.arrive('in', '{back}');
BEGIN;
DELETE FROM tide.in_inbox;
ROLLBACK;
SELECT pg_temp.arrive('in', '{back}');
SELECT count(*) FROM tide.in_inbox;

-- Pruning: processed rows past the retention go to the ledger, pending ones stay, the ledger forgets in the end
SELECT tide.inbox_create('short', retention => '0', ledger_retention => '1 day');
SELECT pg_temp.arrive('short', '{a,b,c}');
SELECT tide.inbox_mark_processed('short', 'a'), tide.inbox_mark_processed('short', 'b');
SELECT tide.maintain() -> 'inbox_rows_purged';
SELECT event_id FROM tide.short_inbox;
SELECT pg_temp.arrive('short', '{a,b,c}');
SELECT tide.inbox_alter('short', ledger_retention => '0');
SELECT tide.maintain() -> 'ledger_ids_forgotten';
SELECT pg_temp.arrive('short', '{a,b,c}');
SELECT tide.maintain() ? 'errors';

-- Settings
SELECT tide.inbox_alter('short', 3, '1 minute', '1 hour', '2 days', '3 days');
SELECT max_attempts, backoff_base, backoff_max, retention, ledger_retention FROM tide.inbox WHERE name = 'short';
SELECT pg_temp.try($$SELECT tide.inbox_alter('short', backoff_base => '0')$$);
SELECT name, pending, leased, retrying, dead, handler, max_attempts FROM tide.inbox_status()
	WHERE name IN ('in', 'short') ORDER BY name;

-- Dropping: not while a pipeline delivers to it
SELECT tide.relay_set_inbox('sub', 'short', '{"source_type": "nats", "url": "nats://h:4222", "stream": "S", "subject": "a.b", "durable_name": "d"}');
SELECT pg_temp.try($$SELECT tide.inbox_drop('short')$$);
SELECT tide.relay_delete('sub');
SELECT tide.inbox_drop('short'), tide.inbox_drop('in');
SELECT count(*) FROM pg_class WHERE relnamespace = 'tide'::regnamespace AND relname ~ '^(in|short|1st|-|Mixed-Case|select|[nm]+)_';

-- Somebody dropped the table
SELECT tide.inbox_create('lost');
DROP TABLE tide.lost_inbox;
SELECT pg_temp.try($$SELECT * FROM tide.inbox_claim('lost')$$);
SELECT tide.inbox_drop('lost');
DELETE FROM tide.inbox_peer;
