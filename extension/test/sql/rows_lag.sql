--
-- Lag: what heartbeats tell, remembered in buckets; objectives.
--
SET client_min_messages = warning;
CREATE DATABASE regress_rows_lag;
\c regress_rows_lag
SET client_min_messages = warning;
CREATE EXTENSION pg_tide;
\pset format unaligned
\pset tuples_only on
DO $$ BEGIN
	PERFORM tide.region_init('us-east'), tide.region_add('eu-west', 'host=h'), tide.region_add('ap-east', 'host=h'),
		tide.class_create('shop', '{"scope": "global", "slo": "2 seconds"}'), tide.class_create('slow', '{"scope": "global", "slo": "1 hour"}'),
		tide.class_create('empty', '{"scope": "global"}'), tide.class_create('here', '{"scope": "regional"}');
	CREATE TABLE a (id int PRIMARY KEY);
	CREATE TABLE b (id int PRIMARY KEY);
	CREATE TABLE c (id int PRIMARY KEY);
	PERFORM tide.table_add('a', 'shop'), tide.table_add('b', 'slow'), tide.table_add('c', 'here');
	PERFORM tide.link_add('eu-west'), tide.link_add('ap-east');
END $$;
SELECT id AS eu FROM tide.link WHERE region = 'eu-west' \gset
SELECT id AS ap FROM tide.link WHERE region = 'ap-east' \gset

-- Before anything came, nobody knows
SELECT region, class, seconds, bytes FROM tide.lag ORDER BY 1, 2;
SELECT * FROM tide.slo ORDER BY 1;

-- Buckets: a quarter more each; the limit belongs to the bucket
SELECT late, tide._lag_bucket(late) FROM unnest('{-5 s, 0, 0.5 ms, 1 ms, 1.001 ms, 1.25 ms, 1.26 ms, 10 ms, 1 s, 1 min, 1 h, 1 day, 40 days, 400 days}'::interval[]) late;
SELECT count(*) FROM generate_series(2, 99) n WHERE tide._lag_bucket(make_interval(secs => tide._lag_bucket_limit(n) * 0.999)) <> n
	OR tide._lag_bucket(make_interval(secs => tide._lag_bucket_limit(n) * 1.001)) <> n + 1;

-- One after the other: no seconds missing between
CREATE FUNCTION samples(link int) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(format('%s:%s', n, samples), ' ' ORDER BY n)
	FROM (SELECT n, sum(samples) AS samples FROM tide.lag_history h, unnest(buckets) WITH ORDINALITY b (samples, n)
		  WHERE h.link_id = link GROUP BY n) s WHERE samples > 0 $$;
SELECT count(tide._lag_note(:eu, '5 ms')) FROM generate_series(1, 98);
SELECT tide._lag_note(:eu, '1 s'), tide._lag_note(:eu, '10 s');
SELECT samples(:eu);
SELECT class, objective, met_share, p50, p99, samples FROM tide.slo ORDER BY 1;
-- a class's objective within a bucket: in proportion
SELECT tide._lag_share_within(ARRAY[:eu], '9 s'), tide._lag_share_within(ARRAY[:eu], '10 s'), tide._lag_share_within(ARRAY[:eu], '11 s'), tide._lag_share_within(ARRAY[:eu], '1 ms'), tide._lag_share_within(ARRAY[:eu], '0');
-- an outage: the seconds without heartbeats count, late as they are
UPDATE tide.lag_history SET last_at = clock_timestamp() - interval '61.5 seconds' WHERE link_id = :eu;
SELECT tide._lag_note(:eu, '5 ms');
SELECT sum(samples) FROM tide.lag_history h, unnest(buckets) samples WHERE h.link_id = :eu;
SELECT met_share BETWEEN 0.61 AND 0.63, samples FROM tide.slo WHERE class = 'shop';
-- ... up to a day of them
UPDATE tide.lag_history SET last_at = clock_timestamp() - interval '10 years' WHERE link_id = :eu;
SELECT tide._lag_note(:eu, '5 ms');
SELECT sum(samples) BETWEEN 86400 AND 86700 FROM tide.lag_history h, unnest(buckets) samples WHERE h.link_id = :eu;
-- heartbeats that came in another order, or by several ways, add nothing
DELETE FROM tide.lag_history;
SELECT tide._lag_note(:ap, '1 ms'), tide._lag_note(:ap, '1 hour'), tide._lag_note(:ap, '59 min'), tide._lag_note(:ap, '1 ms');
SELECT samples(:ap);
-- a new hour begins with empty buckets and knows when the last heartbeat was
UPDATE tide.lag_history SET hour = hour - interval '1 hour', last_at = clock_timestamp() - interval '4.5 s';
SELECT tide._lag_note(:ap, '1 ms');
SELECT count(*), max(n) FROM (SELECT (SELECT sum(s) FROM unnest(buckets) s) AS n FROM tide.lag_history) h;
SELECT samples FROM tide.slo WHERE class = 'shop';
-- old ones are forgotten, and do not count for objectives
UPDATE tide.lag_history SET hour = hour - interval '2 days';
SELECT * FROM tide.slo WHERE class = 'shop';
UPDATE tide.lag_history SET hour = hour - interval '6 days';
SELECT tide.maintain() ? 'errors', (SELECT count(*) FROM tide.lag_history);

-- Now: as late as the last heartbeat was, or as it is by now
INSERT INTO tide.link_progress (link_id, position, system_id, timeline, source_end, heartbeat_at, heartbeat_seen_at)
	VALUES (:eu, '0/1000', 1, 1, '0/5000', clock_timestamp() - interval '3 s', clock_timestamp() - interval '2.9 s'),
		   (:ap, '0/5000', 1, 1, '0/4000', clock_timestamp() - interval '0.1 s', clock_timestamp() - interval '0.05 s');
SELECT region, class, seconds BETWEEN 2 AND 10, seconds < 0.5, bytes FROM tide.lag ORDER BY 1, 2;
UPDATE tide.link_progress SET heartbeat_at = clock_timestamp() + interval '1 hour', heartbeat_seen_at = clock_timestamp();
SELECT DISTINCT seconds FROM tide.lag;
-- cut before the first heartbeat: what is here is as of the last transaction
UPDATE tide.link_progress SET heartbeat_at = NULL, heartbeat_seen_at = NULL, commit_at = clock_timestamp() - interval '10 s';
SELECT DISTINCT seconds BETWEEN 9 AND 60 FROM tide.lag;
UPDATE tide.link_progress SET commit_at = NULL;
SELECT count(seconds) FROM tide.lag;
SELECT tide.link_remove('ap-east', force => true);
SELECT region, class FROM tide.lag ORDER BY 1, 2;
SELECT tide.link_remove('eu-west', force => true);
SELECT count(*) FROM tide.lag_history;
\c contrib_regression
DROP DATABASE regress_rows_lag;
