--
-- Reading an outbox: windows, pages, positions.
--
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_tide;
RESET client_min_messages;
SELECT tide.outbox_create('fetch');
SELECT tide.outbox_create('fetch-empty');

CREATE FUNCTION pg_temp.try(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	message text;
	hint text;
BEGIN
	EXECUTE statement;
	RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
	RETURN concat_ws(E'\n', sqlstate || ' ' || regexp_replace(message, '\d{3,}', '#', 'g'), nullif(hint, ''));
END
$$;

-- Reads all there is after a position, as a relay does.  n: order of arrival.
CREATE FUNCTION pg_temp.walk(box text, start text DEFAULT NULL, max_events int DEFAULT 1000, max_bytes int DEFAULT 1000000000,
							 OUT n int, OUT window_no int, OUT page int, OUT seq bigint, OUT payload text, OUT event_id text)
	RETURNS SETOF record LANGUAGE plpgsql AS $$
DECLARE
	a text := start;
	b text;
	row record;
	in_window bigint;
BEGIN
	n := 0;
	window_no := 0;
	LOOP
		window_no := window_no + 1;
		page := 0;
		b := NULL;
		in_window := NULL;
		LOOP
			page := page + 1;
			FOR row IN SELECT * FROM tide.outbox_fetch(NULL, NULL, box, a, b, in_window, max_events, max_bytes) LOOP
				IF row.event_id IS NOT NULL THEN
					n := n + 1;
					seq := row.seq;
					payload := row.payload;
					event_id := row.event_id;
					in_window := row.seq;
					RETURN NEXT;
				END IF;
			END LOOP;
			b := row.window_end;
			EXIT WHEN NOT row.more;
		END LOOP;
		EXIT WHEN a = b;
		a := b;
	END LOOP;
END
$$;

-- ---- the rows ----
SELECT event_id, seq, window_end IS NOT NULL AS has_end, more FROM tide.outbox_fetch(NULL, NULL, 'fetch-empty', NULL, NULL, NULL, 10, 100000);
SELECT tide.outbox_publish('fetch', 'orders', '{"b": 1, "a": "é"}', '{"h": 1}', 'k', 'update') AS first_id \gset
SELECT seq, event_id = :'first_id' AS same_id, published_us - extract(epoch FROM (SELECT published_at FROM tide.fetch_outbox)) * 1000000 AS us_off,
	committed_us >= published_us AS committed_later, abs(committed_us / 1000000.0 - extract(epoch FROM clock_timestamp())) < 60 AS committed_recently,
	entity, op, key, payload, headers, window_end, more, generation
  FROM tide.outbox_fetch(NULL, NULL, 'fetch', NULL, NULL, NULL, 10, 100000) WHERE event_id IS NOT NULL;
SELECT seq, event_id, payload, window_end = pg_current_snapshot()::text AS at_present, more, generation IS NOT NULL AS can_wait
  FROM tide.outbox_fetch(NULL, NULL, 'fetch', NULL, NULL, NULL, 10, 100000) WHERE event_id IS NULL;
-- A fetch writes nothing and takes no transaction id, so it may run anywhere.
BEGIN READ ONLY;
SELECT count(event_id) FROM tide.outbox_fetch(NULL, NULL, 'fetch', NULL, NULL, NULL, 10, 100000);
SELECT pg_current_xact_id_if_assigned();
COMMIT;
SELECT window_end AS first_end FROM tide.outbox_fetch(NULL, NULL, 'fetch', NULL, NULL, NULL, 10, 100000) WHERE event_id IS NULL \gset
SELECT count(event_id) AS again FROM tide.outbox_fetch(NULL, NULL, 'fetch', :'first_end', NULL, NULL, 10, 100000);

-- ---- windows ----
SELECT tide.outbox_publish('fetch', 'e', '2') IS NOT NULL AS published;
SELECT payload FROM tide.outbox_fetch(NULL, NULL, 'fetch', :'first_end', NULL, NULL, 10, 100000);
SELECT window_end AS second_end FROM tide.outbox_fetch(NULL, NULL, 'fetch', :'first_end', NULL, NULL, 10, 100000) WHERE event_id IS NULL \gset
SELECT tide.outbox_publish('fetch', 'e', '3') IS NOT NULL AS published;
-- The same window again, also after later events were committed.
SELECT payload FROM tide.outbox_fetch(NULL, NULL, 'fetch', :'first_end', :'second_end', NULL, 10, 100000);
SELECT payload FROM tide.outbox_fetch(NULL, NULL, 'fetch', :'second_end', NULL, NULL, 10, 100000);
-- A window of no width, and one that ends before it begins.
SELECT count(event_id) FROM tide.outbox_fetch(NULL, NULL, 'fetch', :'second_end', :'second_end', NULL, 10, 100000);
SELECT count(event_id) FROM tide.outbox_fetch(NULL, NULL, 'fetch', :'second_end', :'first_end', NULL, 10, 100000);
-- What this transaction published itself is not there before it commits ... and then is.
BEGIN;
SELECT pg_current_xact_id() IS NOT NULL AS assigned;
SELECT tide.outbox_publish('fetch', 'e', '"own"') IS NOT NULL AS published;
SELECT window_end AS own_end FROM tide.outbox_fetch(NULL, NULL, 'fetch', :'second_end', NULL, NULL, 10, 100000) WHERE event_id IS NULL \gset
SELECT payload FROM tide.outbox_fetch(NULL, NULL, 'fetch', :'second_end', NULL, NULL, 10, 100000);
COMMIT;
SELECT payload FROM tide.outbox_fetch(NULL, NULL, 'fetch', :'own_end', NULL, NULL, 10, 100000);

-- ---- pages ----
SELECT count(tide.outbox_publish('fetch', 'page', to_jsonb(i))) FROM generate_series(1, 25) i;
SELECT pages, sum(n) AS events FROM (SELECT page AS pages, count(*) AS n FROM pg_temp.walk('fetch', :'own_end', 10) GROUP BY window_no, page) s
 GROUP BY pages ORDER BY pages;
-- At most so many events ...
SELECT max(n) AS largest_page, count(*) AS pages FROM (SELECT count(*) AS n FROM pg_temp.walk('fetch', NULL, 7) GROUP BY window_no, page) s;
-- ... and bytes, but at least one.
SELECT max(n) AS largest_page, count(*) AS pages FROM (SELECT count(*) AS n FROM pg_temp.walk('fetch', NULL, 1000, 1) GROUP BY window_no, page) s;
SELECT max(n) < 20 AS smaller, count(*) > 1 AS pages FROM (SELECT count(*) AS n FROM pg_temp.walk('fetch', NULL, 1000, 1000) GROUP BY window_no, page) s;
SELECT count(*), count(DISTINCT event_id), bool_and(seq > before) AS in_order
  FROM (SELECT *, lag(seq, 1, 0::bigint) OVER (ORDER BY n) AS before FROM pg_temp.walk('fetch', NULL, 7)) s;
-- Limits that make no sense are taken as one.
SELECT count(event_id) FROM tide.outbox_fetch(NULL, NULL, 'fetch', NULL, NULL, NULL, 0, 0);
SELECT count(event_id) FROM tide.outbox_fetch(NULL, NULL, 'fetch', NULL, NULL, NULL, -5, NULL);
SELECT count(event_id) FROM tide.outbox_fetch(NULL, NULL, 'fetch', NULL, NULL, NULL, 2147483647, 2147483647);
-- A page can be asked for again, skipped, or asked for from anywhere.
SELECT window_end AS page_end FROM tide.outbox_fetch(NULL, NULL, 'fetch', :'own_end', NULL, NULL, 5, 100000) WHERE event_id IS NULL \gset
SELECT string_agg(payload, ' ' ORDER BY seq) AS page, bool_or(more) AS more FROM tide.outbox_fetch(NULL, NULL, 'fetch', :'own_end', :'page_end', NULL, 5, 100000);
SELECT min(seq) AS page_seq FROM tide.outbox_fetch(NULL, NULL, 'fetch', :'own_end', :'page_end', NULL, 25, 100000) WHERE payload <> '"own"' \gset
SELECT string_agg(payload, ' ' ORDER BY seq) AS page, bool_or(more) AS more FROM tide.outbox_fetch(NULL, NULL, 'fetch', :'own_end', :'page_end', :page_seq + 9, 5, 100000);
SELECT string_agg(payload, ' ' ORDER BY seq) AS page, bool_or(more) AS more FROM tide.outbox_fetch(NULL, NULL, 'fetch', :'own_end', :'page_end', :page_seq + 4, 5, 100000);
SELECT string_agg(payload, ' ' ORDER BY seq) AS page, bool_or(more) AS more FROM tide.outbox_fetch(NULL, NULL, 'fetch', :'own_end', :'page_end', :page_seq + 24, 5, 100000);
SELECT string_agg(payload, ' ' ORDER BY seq) AS page, bool_or(more) AS more FROM tide.outbox_fetch(NULL, NULL, 'fetch', :'own_end', :'page_end', 9223372036854775807, 5, 100000);
SELECT string_agg(payload, ' ' ORDER BY seq) AS page, bool_or(more) AS more FROM tide.outbox_fetch(NULL, NULL, 'fetch', :'own_end', :'page_end', -1, 2, 100000);

-- ---- tables rewritten between two pages ----
SELECT format('tide.outbox_%s_%s', id, segment) AS segment FROM tide.outbox WHERE name = 'fetch' \gset
BEGIN;
SELECT count(tide.outbox_publish('fetch', 'gone', '1')) FROM generate_series(1, 500);	-- space that a rewrite gives back
ROLLBACK;
SELECT count(tide.outbox_publish('fetch', 'kept', to_jsonb(i))) FROM generate_series(1, 9) i;
SELECT window_end AS rw_end, (SELECT max(seq) - 9 FROM tide.fetch_outbox) AS rw_seq
  FROM tide.outbox_fetch(NULL, NULL, 'fetch', :'page_end', NULL, NULL, 1, 100000) WHERE event_id IS NULL \gset
SELECT string_agg(payload, ' ' ORDER BY seq) AS page FROM tide.outbox_fetch(NULL, NULL, 'fetch', :'page_end', :'rw_end', :rw_seq, 2, 100000);
VACUUM FULL :segment;
SELECT string_agg(payload, ' ' ORDER BY seq) AS page FROM tide.outbox_fetch(NULL, NULL, 'fetch', :'page_end', :'rw_end', :rw_seq + 2, 2, 100000);
SELECT quote_ident(c.relname) AS xid_index FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = :'segment'::regclass AND i.indkey::text = '2' \gset
CLUSTER :segment USING :xid_index;
SELECT string_agg(payload, ' ' ORDER BY seq) AS page FROM tide.outbox_fetch(NULL, NULL, 'fetch', :'page_end', :'rw_end', :rw_seq + 4, 2, 100000);
REINDEX TABLE CONCURRENTLY :segment;
SELECT string_agg(payload, ' ' ORDER BY seq) AS page FROM tide.outbox_fetch(NULL, NULL, 'fetch', :'page_end', :'rw_end', :rw_seq + 6, 2, 100000);
VACUUM (FREEZE) :segment;
SELECT string_agg(payload, ' ' ORDER BY seq) AS page FROM tide.outbox_fetch(NULL, NULL, 'fetch', :'page_end', :'rw_end', :rw_seq + 8, 2, 100000);
SELECT count(*), count(DISTINCT event_id) FROM pg_temp.walk('fetch', NULL, 4);
-- Without its index a segment can't be read; the error says which.
BEGIN;
DROP INDEX tide.:xid_index;
SELECT regexp_replace(pg_temp.try($$SELECT * FROM tide.outbox_fetch(NULL, NULL, 'fetch', NULL, NULL, NULL, 1, 1)$$), 'outbox_\d+', 'outbox_N', 'g');
ROLLBACK;
-- Neither can one whose rows somebody deleted.
BEGIN;
SELECT count(event_id) FROM tide.outbox_fetch(NULL, NULL, 'fetch', :'page_end', :'rw_end', :rw_seq, 1, 1);
DELETE FROM :segment WHERE seq > :rw_seq;
SELECT pg_temp.try(format($$SELECT * FROM tide.outbox_fetch(NULL, NULL, 'fetch', %L, %L, %s, 1, 1)$$, :'page_end', :'rw_end', :rw_seq + 1));
ROLLBACK;

-- ---- ticks: a backlog comes in pieces ----
SELECT tide.outbox_create('backlog');
DO $$
BEGIN
	FOR i IN 0..79 LOOP
		PERFORM tide.outbox_publish('backlog', 'e', to_jsonb(i * 100 + j)) FROM generate_series(1, 100) j;
		COMMIT;
		IF i % 10 = 9 THEN		-- gaps in the numbers
			PERFORM tide.outbox_publish('backlog', 'gone', '0') FROM generate_series(1, 50) j;
			ROLLBACK;
		END IF;
	END LOOP;
END
$$;
CREATE TEMP TABLE walked AS SELECT * FROM pg_temp.walk('backlog', NULL, 300);
SELECT count(*), count(DISTINCT event_id), count(DISTINCT seq), sum(payload::int), count(DISTINCT window_no) > 3 AS pieces FROM walked;
SELECT max(events) < 2 * 2048 + 100 AS none_too_large FROM (SELECT count(*) AS events FROM walked GROUP BY window_no) s;
SELECT count(*) AS out_of_order FROM (SELECT *, lag(seq) OVER (PARTITION BY window_no ORDER BY n) AS before FROM walked) s WHERE seq <= before;
SELECT count(*) AS differences FROM (SELECT event_id FROM walked EXCEPT SELECT event_id FROM tide.backlog_outbox
	UNION ALL SELECT event_id FROM tide.backlog_outbox EXCEPT SELECT event_id FROM walked) s;
-- One large transaction is one window, however many ticks it has.
SELECT (pg_temp.walk('backlog', pg_current_snapshot()::text)).n;
SELECT pg_current_snapshot() AS before_large \gset
SELECT count(tide.outbox_publish('backlog', 'large', to_jsonb(i))) FROM generate_series(1, 7000) i;
SELECT count(*), count(DISTINCT event_id), count(DISTINCT window_no) AS windows, count(DISTINCT page) AS pages FROM pg_temp.walk('backlog', :'before_large');
-- From any position in the backlog: what follows, once.
SELECT count(*) AS wrong_starts FROM (SELECT DISTINCT tick FROM (SELECT window_end AS tick FROM generate_series(0, 3) k,
		LATERAL (SELECT window_end FROM tide.outbox_fetch(NULL, NULL, 'backlog', NULL, NULL, k, 1, 1) WHERE event_id IS NULL) w) s) t
 WHERE (SELECT count(DISTINCT w.event_id) FROM pg_temp.walk('backlog', t.tick) w)
	<> (SELECT count(*) FROM tide.backlog_outbox b WHERE NOT pg_visible_in_snapshot(b.xid, t.tick::pg_snapshot));

-- ---- positions that make no sense ----
SELECT s AS from_snapshot, pg_temp.try(format('SELECT * FROM tide.outbox_fetch(NULL, NULL, ''fetch'', %L, NULL, NULL, 1, 1)', s))
  FROM unnest(ARRAY['', ' ', '1', '1:1', '1:1:1', '0:1:', '2:1:', '1:2:3', '5:9:7,6', '5:9:6,6', '5:9:6,', '5:9:,6', '-1:2:', '1:2:x', ' 1:1:', '1:1: ',
		'99999999999999999999:99999999999999999999:', '1:1:;', 'snapshot']) WITH ORDINALITY AS u (s, i) ORDER BY i;
SELECT s AS to_snapshot, pg_temp.try(format('SELECT * FROM tide.outbox_fetch(NULL, NULL, ''fetch'', NULL, %L, NULL, 1, 1)', s))
  FROM unnest(ARRAY['', 'x', '2:1:']) s;
SELECT pg_temp.try(s) FROM unnest(ARRAY[
	$$SELECT * FROM tide.outbox_fetch(NULL, NULL, NULL, NULL, NULL, NULL, 1, 1)$$,
	$$SELECT * FROM tide.outbox_fetch(NULL, NULL, 'fetch', NULL, NULL, NULL, NULL, NULL)$$,
	$$SELECT * FROM tide.outbox_unconfirmed(NULL, NULL, '1:1:', NULL, NULL, 1)$$,
	$$SELECT * FROM tide.outbox_unconfirmed('fetch', NULL, NULL, NULL, NULL, 1)$$,
	$$SELECT * FROM tide.outbox_unconfirmed('fetch', 'x', '1:1:', NULL, NULL, 1)$$,
	$$SELECT * FROM tide.outbox_unconfirmed('fetch', NULL, 'x', NULL, NULL, 1)$$,
	$$SELECT tide._outbox_oldest_unsent(NULL, NULL)$$,
	$$SELECT tide._outbox_oldest_unsent('fetch', 'x')$$]) s;
-- From the future: the server went back in time.
SELECT pg_temp.try(format('SELECT * FROM tide.outbox_fetch(NULL, NULL, ''fetch'', %L, NULL, NULL, 1, 1)', x || ':' || x || ':'))
  FROM (SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint + 100000 AS x) s;
SELECT pg_temp.try('SELECT * FROM tide.outbox_fetch(NULL, NULL, ''fetch'', ''18446744073709551614:18446744073709551614:'', NULL, NULL, 1, 1)');

-- ---- what is not confirmed yet ----
SELECT string_agg(o.payload::text, ' ' ORDER BY u.seq) AS unconfirmed, bool_and(u.window_end = :'own_end') AS to_the_end, bool_or(u.more) AS more
  FROM tide.outbox_unconfirmed('fetch', :'first_end', :'own_end', NULL, NULL, 10) u LEFT JOIN tide.fetch_outbox o ON o.event_id = u.event_id;
SELECT count(event_id) AS ids, bool_or(more) AS more FROM tide.outbox_unconfirmed('fetch', NULL, :'page_end', NULL, NULL, 7) u;
SELECT count(event_id) AS ids, bool_or(more) AS more FROM tide.outbox_unconfirmed('fetch', NULL, :'page_end', :'page_end', :page_seq + 20, 7) u;
SELECT count(event_id) AS ids FROM tide.outbox_unconfirmed('fetch', :'page_end', :'page_end', NULL, NULL, 7) u;
-- Never past what was sent, and in pieces like reading.
SELECT count(event_id) BETWEEN 1800 AND 2200 AS one_piece FROM tide.outbox_unconfirmed('backlog', NULL, :'before_large', NULL, NULL, 100000);
SELECT count(event_id) FROM tide.outbox_unconfirmed('backlog', :'before_large', :'before_large', NULL, NULL, 100000);
SELECT tide._outbox_oldest_unsent('fetch', NULL) = (SELECT min(published_at) FROM tide.fetch_outbox) AS oldest,
	tide._outbox_oldest_unsent('fetch', pg_current_snapshot()::text) AS none;

SELECT tide.outbox_drop(n) FROM unnest(ARRAY['fetch', 'fetch-empty', 'backlog']) n;
