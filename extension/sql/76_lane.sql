/*
 * 76_lane.sql
 *		Lanes: the two streams of a link, and which of them is held back.
 *
 * Owns: when a link has a second lane, which tables come by which lane, a table's
 * move from one to the other, what a lane is held back for.  Does not own: links
 * (76_link.sql), the publications behind the lanes (75_table.sql).
 *
 * Tables of classes with a priority below 50 are in publications of their own, so that
 * they can be read by a slot of their own: the low lane.  A link has one if a class
 * with tables here has such a priority; without one the main lane takes everything, as do
 * links by a broker (there is one stream for all regions) and those without a copy.
 *
 * By which lane a table comes is for its origin to say: rows_lanes().  The two lanes are not
 * equally far, so a table that moves is copied again by the lane it moves to, from a snapshot of
 * after the move, and changes of it that the other lane still brings are let lie.
 */

/* Tables published here: by which lane, and since when without a break. */
CREATE FUNCTION tide.rows_lanes(OUT tables jsonb, OUT wal_end pg_lsn)
LANGUAGE sql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
	/* The tables first: what is not seen yet was committed behind wal_end. */
	SELECT coalesce(jsonb_agg(jsonb_build_object('schema', n.nspname, 'table', c.relname, 'lane', tide._class_lane(s),
												 'published', t.published_since, 'since', t.lane_since)), '[]'),
		CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END
	FROM tide.replicated_table t
		JOIN tide.class s ON s.name = t.class AND s.scope <> 'regional'
		JOIN pg_class c ON c.oid = t.relid
		JOIN pg_namespace n ON n.oid = c.relnamespace
$$;

/* The lanes that come by this one's stream. */
CREATE FUNCTION tide._lanes_of(link tide.link) RETURNS text[]
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE WHEN EXISTS (SELECT FROM tide.link o WHERE o.region = link.region AND o.id <> link.id) THEN ARRAY[link.lane]
		   ELSE ARRAY['main', 'low'] END
$$;

/* What the relay must notice: it reads other publications then. */
CREATE FUNCTION tide._lane_config(link tide.link) RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT CASE WHEN cardinality(l) = 1 THEN jsonb_build_object('lane', l[1]) ELSE '{}' END FROM tide._lanes_of(link) l $$;

/* Makes the low lane of a link, or has it removed. */
CREATE FUNCTION tide._lane_make(main tide.link, wanted boolean) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	low tide.link;
BEGIN
	SELECT l.* INTO low FROM tide.link l WHERE l.region = main.region AND l.lane = 'low' FOR UPDATE;
	IF wanted THEN
		INSERT INTO tide.link AS l (region, lane, transport, copy, options, slot)
			VALUES (main.region, 'low', main.transport, main.copy, main.options,
					tide._link_slot(tide._own_region(), main.region, 'low'))
			ON CONFLICT ON CONSTRAINT link_region_lane_key DO UPDATE SET options = excluded.options, removing = false
				WHERE (l.options, l.removing) IS DISTINCT FROM (excluded.options, false);
		PERFORM tide._link_configure(l, (SELECT p.enabled FROM tide.pipeline p WHERE p.name = main.pipeline))
			FROM tide.link l WHERE l.region = main.region AND l.lane = 'low';
	ELSIF low.id IS NULL OR low.removing THEN
		NULL;	/* as it should be, or on its way */
	ELSIF tide._link_begun(low) THEN
		UPDATE tide.link l SET removing = true WHERE l.id = low.id RETURNING l.* INTO low;
		PERFORM tide._link_configure(low, true);
	ELSE
		PERFORM tide._link_forget(low);
	END IF;
	PERFORM tide._link_configure(main);
END;
$$;

/* Gives each link the lanes that it needs; called whenever that may have changed. */
CREATE FUNCTION tide._lanes_make() RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	wanted boolean := EXISTS (SELECT FROM tide.replicated_table t JOIN tide.class c ON c.name = t.class
							  WHERE tide._class_lane(c) = 'low');
BEGIN
	PERFORM tide._lane_make(l, wanted AND l.copy AND l.transport = 'direct' AND NOT l.removing)
		FROM tide.link l WHERE l.lane = 'main';
END;
$$;

/*
 * Notes what the origin said of its tables.  One that does not come by this lane is to be
 * copied if it ever does.  One that has not been in the lane without a break since its copy has
 * missed changes: it is copied again, as of a moment after this one.
 */
CREATE FUNCTION tide._link_published(link tide.link, answer jsonb, lanes text[]) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	said record;
BEGIN
	FOR said IN
		SELECT t.schema_name, t.table_name, o.lane, o.published, o.since,
			CASE WHEN o.published IS DISTINCT FROM t.published_since OR cardinality(lanes) = 1 AND o.since IS DISTINCT FROM t.lane_since
				 THEN (answer ->> 'wal_end')::pg_lsn ELSE t.valid_from END AS valid_from
		FROM tide.link_table t
			LEFT JOIN jsonb_to_recordset(answer -> 'tables')
				AS o (schema name, "table" name, lane text, published pg_lsn, since pg_lsn)
				ON o.schema = t.schema_name AND o."table" = t.table_name
		WHERE t.link_id = link.id AND answer IS NOT NULL
			AND (o.lane, o.published, o.since) IS DISTINCT FROM (t.origin_lane, t.published_since, t.lane_since)
	LOOP
		UPDATE tide.link_table t SET origin_lane = said.lane, published_since = said.published, lane_since = said.since,
			valid_from = said.valid_from
			WHERE t.link_id = link.id AND t.schema_name = said.schema_name AND t.table_name = said.table_name;
	END LOOP;
	/* Looks first: changes of state are told to every backend. */
	IF link.copy AND answer IS NOT NULL AND EXISTS (
		SELECT FROM tide.link_table t WHERE t.link_id = link.id AND tide._link_table_stale(t, lanes))
	THEN
		UPDATE tide.link_table t SET state = 'wanted', copied_lsn = NULL
			WHERE t.link_id = link.id AND tide._link_table_stale(t, lanes);
	END IF;
END;
$$;

CREATE FUNCTION tide._link_table_stale(tbl tide.link_table, lanes text[]) RETURNS boolean
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT tbl.state = 'copied' AND coalesce(tbl.origin_lane <> ALL (lanes) OR tbl.copied_lsn < tbl.valid_from, false)
$$;

/*
 * A lane begins to copy a table: the other one, if there is one, has no more business with it.
 * What that is applying just now is waited for, or the copy would not see it.  Committed
 * before the copy begins.
 */
CREATE FUNCTION tide.relay_link_takes(pipeline text, epoch bigint, schema_name text, table_name text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	link tide.link := tide._link_of(pipeline, epoch);
	other int := (SELECT l.id FROM tide.link l WHERE l.region = link.region AND l.id <> link.id);
BEGIN
	IF other IS NULL THEN
		RETURN;
	END IF;
	PERFORM tide._link_lock(other);
	UPDATE tide.link_table t SET state = 'wanted', copied_lsn = NULL
		WHERE t.link_id = other AND t.schema_name = relay_link_takes.schema_name::name
			AND t.table_name = relay_link_takes.table_name::name AND t.state <> 'wanted';
	DELETE FROM tide.parked_change c
		WHERE c.link_id = other AND c.schema_name = relay_link_takes.schema_name::name
			AND c.table_name = relay_link_takes.table_name::name;
	UPDATE tide.link_table t SET state = 'copying', started_at = clock_timestamp()
		WHERE t.link_id = link.id AND t.schema_name = relay_link_takes.schema_name::name
			AND t.table_name = relay_link_takes.table_name::name AND t.state <> 'copying';
END;
$$;

/* ---- holding back ---- */

/*
 * Which classes come by which lane: where their tables are, or by their priority if none is
 * here yet.
 */
CREATE VIEW tide._link_classes AS
	SELECT l.id AS link_id, l.region, l.lane, c.name AS class, c.slo, c.priority
	FROM tide.link m
		JOIN tide.class c ON c.scope <> 'regional' AND EXISTS (SELECT FROM tide.replicated_table t WHERE t.class = c.name)
		LEFT JOIN tide.link w ON w.region = m.region AND w.lane = 'low'
		CROSS JOIN LATERAL (
			SELECT pg_catalog.bool_or(t.link_id = w.id) AS low
			FROM tide.replicated_table r
				JOIN pg_catalog.pg_class p ON p.oid = r.relid
				JOIN pg_catalog.pg_namespace n ON n.oid = p.relnamespace
				JOIN tide.link_table t ON t.link_id IN (m.id, w.id) AND t.schema_name = n.nspname
					AND t.table_name = p.relname AND t.state <> 'wanted'
			WHERE r.class = c.name) h
		JOIN tide.link l ON l.id = CASE WHEN w.id IS NOT NULL AND coalesce(h.low, tide._class_lane(c) = 'low') THEN w.id ELSE m.id END
	WHERE m.lane = 'main';

/*
 * How late what a lane has applied is by now: as the last heartbeat was, or since none has come.  A link that
 * was cut before its first one has what was committed up to the last transaction.
 */
CREATE FUNCTION tide._lateness(progress tide.link_progress) RETURNS interval
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE WHEN progress.heartbeat_at IS NOT NULL THEN
		greatest(progress.heartbeat_seen_at - progress.heartbeat_at,
				 clock_timestamp() - progress.heartbeat_at - interval '1 second', interval '0')
		WHEN progress.commit_at IS NOT NULL THEN
		greatest(clock_timestamp() - progress.commit_at - interval '1 second', interval '0') END
$$;

/* More is more important: main lanes before low ones, then by the link's priority. */
CREATE FUNCTION tide._lane_rank(link tide.link) RETURNS int
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT CASE link.lane WHEN 'main' THEN 1000 ELSE 0 END + coalesce((link.options ->> 'priority')::int, 50) $$;

/*
 * More important lanes at work whose rows are later than that share of an objective, the latest
 * first.  Only lanes that stream count: one that is paused, stopped, copying or failing is not helped by waiting for it.
 */
CREATE FUNCTION tide._lanes_late(link tide.link, share float8) RETURNS SETOF text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN QUERY SELECT format('class "%s" from region "%s" is %s s late; its objective is %s', c.class, c.region,
				  round(extract(epoch FROM p.late), 1), c.slo)
	FROM tide.link o
		JOIN tide._links() k ON k.link_id = o.id AND k.state = 'streaming'
		JOIN tide._link_classes c ON c.link_id = o.id
		CROSS JOIN LATERAL (SELECT tide._lateness(g) AS late FROM tide.link_progress g WHERE g.link_id = o.id) p
	WHERE tide._lane_rank(o) > tide._lane_rank(link) AND p.late > c.slo * share
	ORDER BY extract(epoch FROM p.late) / extract(epoch FROM c.slo) DESC;
END;
$$;

/*
 * Asked by the relay again and again: why is the lane to be held back?  NULL: it is not.
 * It is let go when the others have been within half of their objectives for 3 seconds.
 */
CREATE FUNCTION tide.relay_link_hold(pipeline text, epoch bigint) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	link tide.link := tide._link_of(pipeline, epoch);
	hold tide.link_hold;
	late text;
	well boolean;
BEGIN
	SELECT h.* INTO hold FROM tide.link_hold h WHERE h.link_id = link.id;
	/* Most links are not less important than any. */
	IF hold.link_id IS NULL AND NOT EXISTS (SELECT FROM tide.link o WHERE tide._lane_rank(o) > tide._lane_rank(link)) THEN
		RETURN NULL;
	END IF;
	late := (SELECT n FROM tide._lanes_late(link, 1) n LIMIT 1);
	IF hold.link_id IS NULL THEN
		IF late IS NOT NULL THEN
			INSERT INTO tide.link_hold (link_id, reason) VALUES (link.id, late) ON CONFLICT DO NOTHING;
		END IF;
		RETURN late;
	END IF;
	well := late IS NULL AND NOT EXISTS (SELECT FROM tide._lanes_late(link, 0.5));
	IF well AND hold.better_since < clock_timestamp() - interval '3 seconds' THEN
		DELETE FROM tide.link_hold h WHERE h.link_id = link.id;
		RETURN NULL;
	ELSIF well <> (hold.better_since IS NOT NULL) THEN
		UPDATE tide.link_hold h SET better_since = CASE WHEN well THEN clock_timestamp() END WHERE h.link_id = link.id;
	END IF;
	RETURN hold.reason;
END;
$$;

/* ---- rights ---- */

GRANT EXECUTE ON FUNCTION
	tide.rows_lanes(),
	tide.relay_link_takes(text, bigint, text, text),
	tide.relay_link_hold(text, bigint)
	TO tide_relay;
GRANT SELECT ON tide._link_classes TO tide_admin, tide_relay, tide_reader;
GRANT SELECT ON tide.link_hold TO tide_admin, tide_relay, tide_reader;
