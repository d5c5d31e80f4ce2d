/*
 * 77_wal_watch.sql
 *		The WAL that slots for other regions keep here: how much, and for how long that can go on.
 *
 * Owns: the history it is reckoned from, tide.slots, the oldest transactions.  Does
 * not own: making and dropping slots, asking the disk (wal_watch.c).
 *
 * A slot that stands still keeps everything that is written from then on.  The disk is full, or
 * the slot lost (max_slot_wal_keep_size), when what it keeps has grown by as much as there is
 * room for; how fast it grows is measured over the last minutes.
 */

/* Where the WAL was, and where each slot began to need it; written by maintain(). */
CREATE TABLE tide.wal_history
(
	at			timestamptz PRIMARY KEY DEFAULT pg_catalog.clock_timestamp(),
	position	pg_lsn NOT NULL,
	slots		jsonb NOT NULL						-- {slot: its restart_lsn}
);

CREATE FUNCTION tide._wal_free_bytes() RETURNS bigint
LANGUAGE c VOLATILE
AS 'MODULE_PATHNAME', 'tide_sql_wal_free_bytes';

/* Slots for links of other regions, and the publishers'. */
CREATE FUNCTION tide._own_slots() RETURNS SETOF pg_replication_slots
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT s.* FROM pg_replication_slots s
	WHERE s.database = current_database() AND NOT s.temporary AND s.slot_name ~ '^tide_(link|rows)_'
$$;

CREATE FUNCTION tide._maintain_wal() RETURNS jsonb
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	DELETE FROM tide.wal_history h WHERE h.at < clock_timestamp() - interval '15 minutes' OR h.position > pg_current_wal_insert_lsn();
	IF NOT EXISTS (SELECT FROM tide.wal_history h WHERE h.at > clock_timestamp() - interval '5 seconds') THEN
		INSERT INTO tide.wal_history (position, slots)
			SELECT pg_current_wal_lsn(), jsonb_object_agg(s.slot_name, s.restart_lsn) FROM tide._own_slots() s HAVING count(*) > 0;
	END IF;
	RETURN NULL;
END;
$$;

/* Which region, by which lane, reads the slot; several by a broker. */
CREATE FUNCTION tide._slot_reader(slot name, OUT region text, OUT lane text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT string_agg(x.region, ', ' ORDER BY x.region), min(x.lane)
	FROM (SELECT r.name, l FROM tide.region r, unnest(ARRAY['main', 'low']) l
			WHERE tide._link_slot(r.name, tide.region_name(), l) = slot
		  UNION ALL
		  SELECT d.region, NULL FROM tide.rows_destination d JOIN tide.rows_publisher p ON p.pipeline = d.pipeline WHERE p.slot = _slot_reader.slot) x (region, lane)
$$;

/*
 * bytes_per_second: how fast what the slot keeps grows.  A slot that nobody reads keeps all that is
 * written; of one that is read it is what it fell behind by, over a minute at least, as such slots
 * move in steps.  time_to_full: NULL if it does not
 * grow, or nothing is known yet.
 */
CREATE FUNCTION tide._slots()
RETURNS TABLE (slot name, region text, lane text, active boolean, wal_status text, retained_bytes bigint, safe_bytes bigint,
			   free_bytes bigint, bytes_per_second float8, time_to_full interval)
LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT s.slot_name, k.region, k.lane, s.active, s.wal_status, pg_wal_lsn_diff(w.now, s.restart_lsn)::bigint, s.safe_wal_size,
		w.free, g.rate,
		CASE WHEN s.wal_status = 'lost' THEN NULL
			 WHEN g.rate > 0 THEN make_interval(secs => least(greatest(least(w.free, s.safe_wal_size), 0) / g.rate, 1e9)) END
	FROM tide._own_slots() s
		CROSS JOIN LATERAL tide._slot_reader(s.slot_name) k
		CROSS JOIN (SELECT tide._wal_end(), tide._wal_free_bytes()) w (now, free)
		LEFT JOIN LATERAL (
			SELECT h.at, h.position, (h.slots ->> s.slot_name)::pg_lsn AS restart FROM tide.wal_history h
			WHERE h.at BETWEEN clock_timestamp() - interval '5 minutes'
					AND clock_timestamp() - CASE WHEN s.active THEN interval '1 minute' ELSE interval '4 seconds' END
				AND h.slots ? s.slot_name::text
			ORDER BY h.at LIMIT 1) h ON true
		CROSS JOIN LATERAL (
			SELECT greatest(0, pg_wal_lsn_diff(w.now, h.position)
							- CASE WHEN s.active THEN pg_wal_lsn_diff(s.restart_lsn, h.restart) ELSE 0 END)
				/ extract(epoch FROM clock_timestamp() - h.at)) g (rate)
$$;

CREATE VIEW tide.slots AS
	SELECT s.slot, s.region, s.lane, s.active, s.wal_status, s.retained_bytes, s.safe_bytes, s.free_bytes, s.bytes_per_second,
		s.time_to_full
	FROM tide._slots() s;

/*
 * Transactions that have been open for longer than that, the oldest first.  One that writes keeps
 * slots where they were when it began, any keeps dead rows from being cleared away.
 */
CREATE FUNCTION tide.rows_transactions(longer_than interval)
RETURNS TABLE (who text, age interval, writes boolean, state text)
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT format('pid %s, role %s, application "%s"', a.pid, a.usename, a.application_name), clock_timestamp() - a.xact_start,
		a.backend_xid IS NOT NULL, a.state
	FROM pg_stat_activity a
	WHERE a.backend_type = 'client backend' AND (a.backend_xid IS NOT NULL OR a.backend_xmin IS NOT NULL)
		AND a.xact_start < clock_timestamp() - longer_than
	UNION ALL
	SELECT format('prepared transaction "%s" of role %s', p.gid, p.owner), clock_timestamp() - p.prepared, true, 'prepared'
	FROM pg_prepared_xacts p
	WHERE p.prepared < clock_timestamp() - longer_than
	ORDER BY 2 DESC
$$;

/* ---- rights ---- */

GRANT EXECUTE ON FUNCTION tide._slots() TO tide_admin, tide_relay, tide_reader;
GRANT EXECUTE ON FUNCTION tide.rows_transactions(interval) TO tide_relay;
GRANT SELECT ON tide.slots TO tide_admin, tide_relay, tide_reader;
