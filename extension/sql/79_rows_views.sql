/*
 * 79_rows_views.sql
 *		What a person sees of rows: tables, links, lanes, lag, objectives, parked changes.
 *
 * Owns: the views, how lateness is remembered, house-keeping of all that.
 *
 * Lag is measured by heartbeats, which every origin writes each second: they travel
 * and are applied like any transaction, so they also tell of a link where nothing happens.
 * tide.apply calls _lag_note() for each.
 *
 * Lateness is kept as a histogram per hour: bucket 1 holds what took up to 1 ms, each further one
 * what took up to 1.25 times as long as the one before.  Seconds for which no
 * heartbeat came (nobody could write one) are counted when the next one comes, as late as
 * a heartbeat written then would have been: an outage is no gap in the objective.
 */

CREATE FUNCTION tide._lag_bucket(late interval) RETURNS int
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT least(100, 1 + ceil(ln(greatest(1, extract(epoch FROM late) * 1000)::float8) / ln(1.25::float8)))::int
$$;

/* The longest time a bucket holds, in seconds. */
CREATE FUNCTION tide._lag_bucket_limit(bucket int) RETURNS float8
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT 0.001 * power(1.25::float8, bucket - 1) $$;

CREATE FUNCTION tide._lag_note(link_id int, late interval) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	now timestamptz := clock_timestamp();
	this_at timestamptz := now - late;
	this_hour timestamptz := date_trunc('hour', now, 'UTC');
	last tide.lag_history;
	missed int;
	counts bigint[] := array_fill(0::bigint, ARRAY[100]);
	bucket int := tide._lag_bucket(late);
BEGIN
	SELECT h.* INTO last FROM tide.lag_history h WHERE h.link_id = _lag_note.link_id ORDER BY h.hour DESC LIMIT 1;
	IF last.hour = this_hour THEN
		counts := last.buckets;
	END IF;
	counts[bucket] := counts[bucket] + 1;
	missed := least(86400, coalesce(floor(extract(epoch FROM this_at - last.last_at)) - 1, 0));
	FOR n IN 1 .. missed
	LOOP
		bucket := tide._lag_bucket(late + make_interval(secs => n));
		counts[bucket] := counts[bucket] + 1;
	END LOOP;
	INSERT INTO tide.lag_history AS h (link_id, hour, buckets, last_at)
		VALUES (_lag_note.link_id, this_hour, counts, greatest(this_at, last.last_at))
		ON CONFLICT ON CONSTRAINT lag_history_pkey DO UPDATE
			SET buckets = excluded.buckets, last_at = excluded.last_at;
END;
$$;

/* ---- tables ---- */

CREATE VIEW tide.tables AS
	SELECT t.relid AS "table", t.class, c.scope, c.scope <> 'regional' AS published, tide._table_key(t.relid) AS key,
		t.insert_only, t.options, t.added_at
	FROM tide.replicated_table t JOIN tide.class c ON c.name = t.class;

/* ---- links ---- */

/* Runs as the extension's owner, as readers may not look into other sessions. */
CREATE FUNCTION tide._links()
RETURNS TABLE (link_id int, state text, enabled boolean, owner text, last_error text, last_error_code text,
			   last_error_at timestamptz, changed_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT l.id,
		CASE WHEN NOT p.enabled AND NOT l.removing THEN 'paused'
			 WHEN p.state IN ('retrying', 'failed') AND h.pid IS NOT NULL THEN 'error'
			 WHEN h.pid IS NULL OR p.state IN ('waiting', 'stopped') OR l.removing THEN 'stopped'
			 WHEN l.phase = 'streaming' THEN 'streaming'
			 ELSE 'copying' END,
		p.enabled, CASE WHEN h.pid IS NOT NULL THEN coalesce(p.owner, a.application_name) END,
		p.last_error, p.state_code, p.last_error_at, p.changed_at
	FROM tide.link l JOIN tide.pipeline p ON p.name = l.pipeline
		LEFT JOIN tide._pipeline_holders() h ON h.pipeline_id = p.id
		LEFT JOIN pg_stat_activity a ON a.pid = h.pid
$$;

/* One row per lane: how far it is, and whether it is held back for more important ones. */
CREATE VIEW tide.lanes AS
	SELECT l.region, l.lane, coalesce(c.classes, '{}') AS classes, k.state,
		h.link_id IS NOT NULL AND k.state = 'streaming' AS held, CASE WHEN k.state = 'streaming' THEN h.reason END AS reason,
		CASE WHEN k.state = 'streaming' THEN h.since END AS held_since,
		p.position, tide._lateness(p) AS lag,
		CASE WHEN p.position IS NOT NULL THEN greatest(p.source_end - p.position, 0)::bigint END AS lag_bytes,
		l.slot, k.last_error, l.resyncs, l.last_resync, l.removing, l.id AS link_id
	FROM tide.link l
		JOIN tide._links() k ON k.link_id = l.id
		LEFT JOIN tide.link_progress p ON p.link_id = l.id
		LEFT JOIN tide.link_hold h ON h.link_id = l.id
		LEFT JOIN (SELECT c.link_id, pg_catalog.array_agg(c.class ORDER BY c.class) AS classes
				   FROM tide._link_classes c GROUP BY c.link_id) c ON c.link_id = l.id;

/* Each table once, as it is in the lane that it comes by: where two lanes know it, the one that has it. */
CREATE VIEW tide._link_tables AS
	SELECT DISTINCT ON (l.region, t.schema_name, t.table_name)
		l.region, t.schema_name, t.table_name, t.state, t.copied_lsn, t.rows_done, t.bytes_done, t.rows_total
	FROM tide.link l JOIN tide.link_table t ON t.link_id = l.id
	ORDER BY l.region, t.schema_name, t.table_name, t.state = 'wanted', t.state, t.rows_total DESC NULLS LAST;

/*
 * One row per region: its main lane, with what both lanes have done.  The position is that of the
 * lane that is further behind: everything that ended before it is here.
 */
CREATE VIEW tide.links AS
	SELECT l.region, l.transport,
		CASE WHEN k.state = 'streaming' AND NOT w.removing AND w.state IN ('error', 'copying') THEN w.state ELSE k.state END AS state,
		CASE WHEN w.link_id IS NULL OR w.removing THEN p.position
			 WHEN w.position IS NOT NULL THEN least(p.position, w.position) END AS position,
		tide._lateness(p) AS lag,
		CASE WHEN p.position IS NOT NULL THEN greatest(p.source_end - p.position, 0)::bigint END AS lag_bytes,
		coalesce(k.last_error, w.last_error) AS last_error, k.last_error_code, k.last_error_at, k.owner,
		coalesce(t.tables_copied, 0) AS tables_copied, coalesce(t.tables_total, 0) AS tables_total,
		coalesce(t.rows_copied, 0) AS rows_copied, t.rows_to_copy, coalesce(t.bytes_copied, 0) AS bytes_copied,
		coalesce(p.transactions, 0) + coalesce(wp.transactions, 0) AS transactions,
		coalesce(p.changes, 0) + coalesce(wp.changes, 0) AS changes, greatest(p.commit_at, wp.commit_at) AS commit_at, p.heartbeat_at,
		(SELECT pg_catalog.count(*) FROM tide.parked_change c WHERE c.link_id IN (l.id, w.link_id)) AS parked,
		(SELECT pg_catalog.count(DISTINCT (d.schema_name, d.table_name)) FROM tide.link_drift d WHERE d.link_id IN (l.id, w.link_id)) AS drifted,
		l.resyncs + coalesce(w.resyncs, 0) AS resyncs, coalesce(l.last_resync, w.last_resync) AS last_resync, l.slot, l.copy,
		CASE WHEN l.phase = 'streaming' AND NOT w.removing AND w.state = 'copying' THEN 'copying' ELSE l.phase END AS phase,
		l.removing, l.options, k.changed_at, CASE WHEN w.held THEN w.classes ELSE '{}' END AS paused_classes
	FROM tide.link l
		JOIN tide._links() k ON k.link_id = l.id
		LEFT JOIN tide.link_progress p ON p.link_id = l.id
		LEFT JOIN tide.lanes w ON w.region = l.region AND w.lane <> 'main'
		LEFT JOIN tide.link_progress wp ON wp.link_id = w.link_id
		LEFT JOIN (SELECT t.region, pg_catalog.count(*) FILTER (WHERE t.state = 'copied') AS tables_copied,
					   pg_catalog.count(*) AS tables_total, pg_catalog.sum(t.rows_done)::bigint AS rows_copied,
					   pg_catalog.sum(greatest(t.rows_total, t.rows_done))::bigint AS rows_to_copy,
					   pg_catalog.sum(t.bytes_done)::bigint AS bytes_copied
				   FROM tide._link_tables t GROUP BY t.region) t ON t.region = l.region
	WHERE l.lane = 'main';

/* ---- lag and objectives ---- */

/* Classes of one lane come by one stream, so they are equally late.  paused: the lane is held back. */
CREATE VIEW tide.lag AS
	SELECT l.region, c.class, extract(epoch FROM l.lag)::float8 AS seconds, l.lag_bytes AS bytes, l.held AS paused
	FROM tide.lanes l JOIN tide._link_classes c ON c.link_id = l.link_id;

/* The last day's lateness of these lanes together, by bucket. */
CREATE FUNCTION tide._lag_buckets(links int[]) RETURNS TABLE (bucket int, samples numeric, before numeric, total numeric)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT b.n::int, sum(b.samples), sum(sum(b.samples)) OVER (ORDER BY b.n) - sum(b.samples), sum(sum(b.samples)) OVER ()
	FROM tide.lag_history h CROSS JOIN LATERAL unnest(h.buckets) WITH ORDINALITY b (samples, n)
	WHERE h.link_id = ANY (links) AND h.hour > clock_timestamp() - interval '25 hours' AND b.samples > 0
	GROUP BY b.n
$$;

/* The time below which that share of the samples is: the limit of the bucket it falls into. */
CREATE FUNCTION tide._lag_quantile(links int[], share numeric) RETURNS interval
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT make_interval(secs => tide._lag_bucket_limit(b.bucket)) FROM tide._lag_buckets(links) b
	WHERE b.before + b.samples >= share * b.total ORDER BY b.bucket LIMIT 1
$$;

/* Within the bucket that the objective falls into, samples count as evenly spread. */
CREATE FUNCTION tide._lag_share_within(links int[], objective interval) RETURNS numeric
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT round(sum(b.samples * CASE WHEN high.s <= o.s THEN 1 WHEN low.s >= o.s THEN 0
								 ELSE ((o.s - low.s) / (high.s - low.s))::numeric END) / max(b.total), 6)
	FROM tide._lag_buckets(links) b,
		LATERAL (SELECT tide._lag_bucket_limit(b.bucket)) high (s),
		LATERAL (SELECT CASE WHEN b.bucket = 1 THEN 0 ELSE tide._lag_bucket_limit(b.bucket - 1) END) low (s),
		(SELECT extract(epoch FROM objective)::float8) o (s)
$$;

CREATE FUNCTION tide._slo() RETURNS TABLE (class text, objective interval, met_share numeric, p50 interval, p99 interval,
										   samples bigint)
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT c.name, c.slo, tide._lag_share_within(l.ids, c.slo), tide._lag_quantile(l.ids, 0.5), tide._lag_quantile(l.ids, 0.99),
		coalesce((SELECT max(b.total)::bigint FROM tide._lag_buckets(l.ids) b), 0)
	FROM tide.class c
		CROSS JOIN LATERAL (SELECT coalesce(array_agg(k.link_id), '{}') AS ids FROM tide._link_classes k WHERE k.class = c.name) l
	WHERE c.scope <> 'regional' AND EXISTS (SELECT FROM tide.replicated_table t WHERE t.class = c.name)
$$;

CREATE VIEW tide.slo AS
	SELECT s.class, s.objective, s.met_share, s.p50, s.p99, s.samples FROM tide._slo() s;

/* ---- parked changes ---- */

CREATE VIEW tide.pending_changes AS
	SELECT c.id, l.region, pg_catalog.format('%I.%I', c.schema_name, c.table_name) AS "table", c.key, c.op, c.code, c.reason,
		c.parked_at, c.attempts, c.commit_at
	FROM tide.parked_change c JOIN tide.link l ON l.id = c.link_id
	ORDER BY c.id;

/* ---- conflicts ---- */

/* The shape of what will be recorded.  Nothing is so far: docs/rows.md says so. */
CREATE VIEW tide.conflicts AS
	SELECT NULL::timestamptz AS "when", NULL::text AS region, NULL::text AS "table", NULL::text AS key, NULL::text AS rule,
		NULL::jsonb AS winner, NULL::tide.stamp AS winner_stamp, NULL::jsonb AS loser, NULL::tide.stamp AS loser_stamp
	WHERE false;

/* ---- keeping house ---- */

CREATE FUNCTION tide._maintain_rows() RETURNS jsonb
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	gone bigint;
BEGIN
	/* Tables dropped while event triggers were off. */
	DELETE FROM tide.replicated_table t WHERE NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = t.relid);
	GET DIAGNOSTICS gone = ROW_COUNT;
	PERFORM tide._link_tables_clean();
	DELETE FROM tide.residency_rule r WHERE NOT EXISTS (SELECT FROM tide.replicated_table t WHERE t.relid = r.relid);
	DELETE FROM tide.residency_leaving l WHERE NOT EXISTS (SELECT FROM tide.replicated_table t WHERE t.relid = l.relid);
	DELETE FROM tide.residency_due d WHERE NOT EXISTS (SELECT FROM tide.replicated_table t WHERE t.relid = d.relid);
	PERFORM tide._shape_note(t.relid, false) FROM tide.replicated_table t;	/* changed while event triggers were off */
	DELETE FROM tide.schema_log g WHERE g.at < clock_timestamp() - interval '7 days';
	PERFORM tide._link_origins_drop();
	PERFORM tide._publisher_unmake();
	DELETE FROM tide.lag_history h WHERE h.hour < clock_timestamp() - interval '7 days';
	RETURN jsonb_build_object('tables_forgotten', gone);
END;
$$;

/* ---- rights ---- */

GRANT EXECUTE ON FUNCTION tide._links(), tide._slo() TO tide_admin, tide_relay, tide_reader;
GRANT EXECUTE ON FUNCTION tide._table_key(oid), tide._key_index(oid) TO tide_admin, tide_relay, tide_reader;
GRANT EXECUTE ON FUNCTION tide._lateness(tide.link_progress), tide._class_lane(tide.class) TO tide_admin, tide_relay, tide_reader;
GRANT SELECT ON tide._link_tables TO tide_admin, tide_relay, tide_reader;
GRANT SELECT ON tide.tables, tide.links, tide.lanes, tide.lag, tide.slo, tide.pending_changes, tide.conflicts TO tide_admin, tide_relay, tide_reader;
