/*
 * 77_rows.sql
 *		What a region that others take rows from tells their relays.
 *
 * Owns: who is here, what is published, slots, heartbeats; the publishers on a
 * broker and who takes rows from there.  Does not own: reading the WAL (the
 * relay), which tables are published (75_table.sql).
 */

/* How far the WAL has been written; on a standby: replayed. */
CREATE FUNCTION tide._wal_end() RETURNS pg_lsn
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$ SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END $$;

/*
 * Who is here.  Asked before anything else, so what is to be published gets its publications now, if
 * it has none; and the region that asks gets its own (73_residency.sql), unless it takes rows from a broker's stream for all.
 * The timeline is that of the WAL being written: a checkpoint would tell of a
 * promotion much later.
 */
CREATE FUNCTION tide.rows_identify(destination text DEFAULT NULL, OUT region text, OUT system_id bigint, OUT timeline int, OUT wal_level text,
								   OUT in_recovery boolean, OUT wal_end pg_lsn, OUT version int)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET client_min_messages = error
AS $$
BEGIN
	in_recovery := pg_is_in_recovery();
	IF NOT in_recovery AND EXISTS (SELECT FROM tide.local_region)
		AND ((SELECT count(*) < 4 FROM pg_publication p
			  WHERE p.pubname IN ('tide_global', 'tide_global_insert', 'tide_low', 'tide_low_insert'))
			 /* A dump does not have it. */
			 OR NOT EXISTS (SELECT FROM pg_publication_rel r WHERE r.prrelid = 'tide.schema_log'::regclass))
	THEN
		PERFORM tide._publications_make();
	END IF;
	IF NOT in_recovery AND destination IS NOT NULL AND EXISTS (SELECT FROM tide.local_region) THEN
		PERFORM tide._residency_add_destination(destination);
	END IF;
	region := tide.region_name();
	system_id := tide._system_identifier();
	timeline := CASE WHEN in_recovery THEN (pg_control_checkpoint()).timeline_id
				ELSE ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int END;
	wal_level := current_setting('wal_level');
	wal_end := tide._wal_end();
	version := current_setting('server_version_num')::int;
END;
$$;

/*
 * Does the type's binary form mean the same on every server?  Not if it holds
 * numbers that each server gives out by itself: of types (arrays and composites
 * of user types) or of other objects (reg* types).
 */
CREATE FUNCTION tide._binary_portable(type oid) RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	typ pg_type;
BEGIN
	SELECT t.* INTO typ FROM pg_type t WHERE t.oid = type;
	IF typ.typsend = 0 OR typ.typreceive = 0 THEN
		RETURN false;
	ELSIF typ.typtype IN ('d', 'e') THEN
		RETURN typ.typtype = 'e' OR tide._binary_portable(typ.typbasetype);
	ELSIF typ.typtype IN ('r', 'm') THEN
		RETURN (SELECT tide._binary_portable(r.rngsubtype) FROM pg_range r WHERE type IN (r.rngtypid, r.rngmultitypid));
	ELSIF typ.oid >= 16384 THEN
		RETURN type = 'tide.stamp'::regtype;
	ELSIF typ.typcategory = 'A' AND typ.typelem <> 0 THEN
		RETURN tide._binary_portable(typ.typelem);
	END IF;
	RETURN typ.typtype = 'b' AND NOT (typ.typname ~ '^reg' AND typ.typlen = 4);
END;
$$;

/* What crosses: everything but what is generated there too; of a table with residency those columns. */
CREATE FUNCTION tide._copied_columns(tbl oid, chosen text[])
RETURNS TABLE (names text[], types text[], portable boolean)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT array_agg(a.attname::text ORDER BY a.attnum), array_agg(format_type(a.atttypid, a.atttypmod) ORDER BY a.attnum),
		bool_and(tide._binary_portable(a.atttypid))
	FROM pg_attribute a
	WHERE a.attrelid = tbl AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
		AND (chosen IS NULL OR a.attname = ANY (chosen))
$$;

/*
 * About how large a table is.  pg_table_size() would wait for whoever has it locked, perhaps for a
 * commit that waits for the very region that asks.
 */
CREATE FUNCTION tide._table_bytes(tbl pg_class) RETURNS bigint
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT greatest(tbl.relpages::bigint * current_setting('block_size')::bigint,
					(pg_stat_file(pg_relation_filepath(tbl.oid), true)).size)
$$;

/*
 * About how many rows that is: those that were counted last, for so many pages; if nobody ever
 * did, as many as fit.  For the same reason not the planner's own estimate, which takes a lock.
 */
CREATE FUNCTION tide._table_rows(tbl pg_class) RETURNS float8
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT tide._table_bytes(tbl) / page.size
		* CASE WHEN tbl.reltuples >= 0 AND tbl.relpages > 0 THEN tbl.reltuples / tbl.relpages ELSE page.size / (28 + k.width) END
	FROM (SELECT current_setting('block_size')::float8 AS size) page,
		(SELECT sum(CASE WHEN a.attlen > 0 THEN a.attlen ELSE 32 END) AS width FROM pg_attribute a
		 WHERE a.attrelid = tbl.oid AND a.attnum > 0 AND NOT a.attisdropped) k
$$;

/*
 * What is published, and how a destination reads it: the rows written here; those
 * that came from elsewhere come to it from there.  Of tables with residency, what that destination may have;
 * NULL: one that reads a broker's stream for all, which has nothing of them.
 */
CREATE FUNCTION tide.rows_tables(destination text DEFAULT NULL)
RETURNS TABLE (schema_name text, table_name text, class text, insert_only boolean, columns text[], types text[],
			   format text, copy_sql text, rows_estimate bigint, bytes bigint)
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT n.nspname, c.relname, t.class, t.insert_only, k.names, k.types, f.format,
		format('COPY (SELECT %s FROM %s%I.%I WHERE %s) TO STDOUT (FORMAT %s)',
			   (SELECT string_agg(quote_ident(u.name), ', ' ORDER BY u.n) FROM unnest(k.names) WITH ORDINALITY u (name, n)),
			   CASE WHEN c.relkind = 'p' THEN '' ELSE 'ONLY ' END, n.nspname, c.relname,
			   format(CASE WHEN r.filter <> 'true' THEN '(%s) AND (%s)' ELSE '%s' END,
					  format('tide_stamp IS NULL OR tide.stamp_origin(tide_stamp) = %s', tide.region_id(tide.region_name())),
					  r.filter),
			   f.format),
		size.rows, size.bytes
	FROM tide.replicated_table t
		JOIN tide.class s ON s.name = t.class AND s.scope <> 'regional'
		JOIN pg_class c ON c.oid = t.relid
		JOIN pg_namespace n ON n.oid = c.relnamespace
		LEFT JOIN tide.residency_rule r ON r.relid = t.relid AND r.region = rows_tables.destination
		CROSS JOIN LATERAL tide._copied_columns(c.oid, r.columns) k
		CROSS JOIN LATERAL (SELECT CASE WHEN k.portable THEN 'binary' ELSE 'text' END) f (format)
		CROSS JOIN LATERAL (SELECT sum(tide._table_rows(p))::bigint, sum(tide._table_bytes(p))::bigint
							FROM tide._table_leaves(c.oid) l JOIN pg_class p ON p.oid = l) size (rows, bytes)
	WHERE s.residency IS NULL OR r.filter IS NOT NULL
	ORDER BY n.nspname, c.relname
$$;

CREATE FUNCTION tide.rows_slot(slot text)
RETURNS TABLE (active boolean, plugin text, wal_status text, confirmed pg_lsn, restart pg_lsn, retained_bytes bigint,
			   safe_bytes bigint)
LANGUAGE sql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT s.active, s.plugin::text, s.wal_status, s.confirmed_flush_lsn, s.restart_lsn,
		pg_wal_lsn_diff(tide._wal_end(), s.restart_lsn)::bigint, s.safe_wal_size
	FROM pg_replication_slots s WHERE s.slot_name = rows_slot.slot
$$;

/* A transaction of its own in the WAL, with the time: one record 'H' of common/tide_frame.h. */
CREATE FUNCTION tide.rows_heartbeat() RETURNS pg_lsn
LANGUAGE sql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT pg_logical_emit_message(true, 'tide',
		'\x48'::bytea || int4send(8) || int8send((extract(epoch FROM clock_timestamp()) * 1000000)::bigint))
$$;

/* ---- rows on a broker ---- */

/* What belongs to a publisher: the pipeline, and the slot that its relay reads.  destination NULL: that of all. */
CREATE FUNCTION tide._publisher_pipeline(destination text DEFAULT NULL) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT 'rows:publish' || coalesce(':' || destination, '') $$;

/* Slots are the whole cluster's.  The doctor reads the number at the end. */
CREATE FUNCTION tide._publisher_slot(destination text DEFAULT NULL) RETURNS name
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT ('tide_rows_' || d.oid || coalesce('_' || lpad(to_hex(tide.region_id(destination)), 8, '0'), ''))::name
	FROM pg_database d WHERE d.datname = current_database()
$$;

/*
 * Before anything is written: a transaction that has written can't make a slot.
 * The lock, held until the transaction ends, keeps others from making it too, and
 * from dropping it because nobody has announced himself yet.
 */
CREATE FUNCTION tide._publisher_make_slot(slot name) RETURNS pg_lsn
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM pg_advisory_xact_lock(1953064038, 0);
	IF NOT EXISTS (SELECT FROM pg_replication_slots s WHERE s.slot_name = slot) THEN
		PERFORM pg_create_logical_replication_slot(slot, 'pgoutput');
	END IF;
	RETURN (SELECT s.confirmed_flush_lsn FROM pg_replication_slots s WHERE s.slot_name = slot);
END;
$$;

/* Options are the first destination's, until one is alone and brings others. */
CREATE FUNCTION tide._publisher_make(destination text, transport text, options jsonb) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	pipe text := tide._publisher_pipeline(destination);
	alone boolean := (SELECT count(*) = 1 FROM tide.rows_destination d WHERE d.pipeline = pipe);
	publisher tide.rows_publisher;
BEGIN
	INSERT INTO tide.rows_publisher AS p (pipeline, destination, transport, options, slot)
		VALUES (pipe, _publisher_make.destination, _publisher_make.transport, _publisher_make.options, tide._publisher_slot(destination))
		ON CONFLICT ON CONSTRAINT rows_publisher_pkey DO UPDATE
			SET transport = excluded.transport, options = excluded.options
			WHERE alone AND (p.transport, p.options) IS DISTINCT FROM (excluded.transport, excluded.options);
	SELECT p.* INTO STRICT publisher FROM tide.rows_publisher p WHERE p.pipeline = pipe;
	IF publisher.transport <> transport THEN
		RAISE EXCEPTION 'region "%" publishes its rows by %, not by %', tide.region_name(), publisher.transport, transport
			USING ERRCODE = 'object_not_in_prerequisite_state',
				  HINT = 'All regions that take its rows from a broker use the same kind.';
	END IF;
	PERFORM tide._pipeline_set(pipe, 'rows', tide.region_name(),
							   publisher.options || jsonb_build_object('transport', publisher.transport,
																	   'slot', publisher.slot));
END;
$$;

/*
 * A destination takes rows from a broker from that position on; NULL: from now on.  With the option
 * own_stream they are published for it alone, and what residency lets it have is among them.
 * TD011 if what it needs is no longer kept: then its rows must be copied again.  That is so, too, if
 * it was in the stream for all until now, as there was less in that.
 * The answer: has it been in another stream?  That is not waited for any more.
 */
CREATE FUNCTION tide.rows_announce(region text, "position" pg_lsn, transport text, options jsonb) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	own text := CASE WHEN (options ->> 'own_stream')::boolean THEN region END;
	pipe text := tide._publisher_pipeline(own);
	confirmed pg_lsn;
	before tide.rows_destination;
BEGIN
	PERFORM tide._check_name('region', region);
	PERFORM tide._check_choice('the publisher', 'transport', transport, '{nats}', '{kafka}');
	IF region = tide._own_region() THEN
		RAISE EXCEPTION 'region "%" is this database''s own', region
			USING ERRCODE = 'invalid_parameter_value', HINT = 'Rows are taken by other regions.';
	END IF;
	confirmed := tide._publisher_make_slot(tide._publisher_slot(own));
	SELECT d.* INTO before FROM tide.rows_destination d WHERE d.region = rows_announce.region;
	IF position < confirmed THEN
		RAISE EXCEPTION 'region "%" asks for rows from % on, but what is before % is gone', region, position, confirmed
			USING ERRCODE = 'TD011', HINT = 'The rows must be copied again.';
	ELSIF position IS NOT NULL AND own IS NOT NULL AND before.pipeline <> pipe THEN
		RAISE EXCEPTION 'region "%" gets a stream of its own, and the one before had less in it', region
			USING ERRCODE = 'TD011', HINT = 'The rows must be copied again.';
	END IF;
	INSERT INTO tide.rows_destination AS d (region, pipeline, position)
		VALUES (rows_announce.region, pipe, coalesce(rows_announce.position, confirmed))
		ON CONFLICT ON CONSTRAINT rows_destination_pkey DO UPDATE
			SET position = CASE WHEN d.pipeline = excluded.pipeline THEN least(d.position, rows_announce.position)
							ELSE excluded.position END,
				pipeline = excluded.pipeline, seen_at = clock_timestamp();
	PERFORM tide._publisher_make(own, transport, coalesce(options, '{}')), tide._publisher_forget();
	RETURN coalesce(before.pipeline <> pipe, false);
END;
$$;

/* Publishers that nobody takes rows from. */
CREATE FUNCTION tide._publisher_forget() RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
	DELETE FROM tide.rows_publisher p WHERE NOT EXISTS (SELECT FROM tide.rows_destination d WHERE d.pipeline = p.pipeline);
	DELETE FROM tide.pipeline p WHERE p.direction = 'rows' AND NOT EXISTS (SELECT FROM tide.rows_publisher r WHERE r.pipeline = p.name);
$$;

/* ... and their slots.  One that is still read is dropped by a later maintain(). */
CREATE FUNCTION tide._publisher_unmake() RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	slot name;
BEGIN
	IF NOT pg_try_advisory_xact_lock(1953064038, 0) THEN
		RETURN;
	END IF;
	PERFORM tide._publisher_forget();
	FOR slot IN SELECT s.slot_name FROM pg_replication_slots s
		WHERE s.database = current_database() AND NOT s.active AND NOT EXISTS (SELECT FROM tide.rows_publisher p WHERE p.slot = s.slot_name)
			AND s.slot_name ~ format('^%s(_[0-9a-f]{8})?$', tide._publisher_slot())
	LOOP
		BEGIN
			PERFORM pg_drop_replication_slot(slot);
		EXCEPTION WHEN object_in_use OR undefined_object THEN
			NULL;
		END;
	END LOOP;
END;
$$;

/* The answer: had it a stream of its own?  NULL: it had none. */
CREATE FUNCTION tide.rows_leave(region text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	own boolean;
BEGIN
	DELETE FROM tide.rows_destination d WHERE d.region = rows_leave.region
		RETURNING d.pipeline <> tide._publisher_pipeline() INTO own;
	PERFORM tide._publisher_unmake();
	RETURN own;
END;
$$;

CREATE FUNCTION tide.relay_rows(pipeline text, epoch bigint)
RETURNS TABLE (slot text, transport text, options jsonb, "position" pg_lsn, destinations text[], destination text)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM tide._check_epoch(pipeline, epoch);
	RETURN QUERY
		SELECT p.slot::text, p.transport, p.options, min(d.position), coalesce(array_agg(d.region::text ORDER BY d.region)
																			   FILTER (WHERE d.region IS NOT NULL), '{}'), p.destination::text
		FROM tide.rows_publisher p LEFT JOIN tide.rows_destination d ON d.pipeline = p.pipeline
		WHERE p.pipeline = relay_rows.pipeline
		GROUP BY p.pipeline;
END;
$$;

/* A region that has left, or never announced itself, is not waited for; NULL: nobody is. */
CREATE FUNCTION tide.relay_rows_confirm(pipeline text, epoch bigint, region text, "position" pg_lsn) RETURNS pg_lsn
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM tide._check_epoch(pipeline, epoch);
	UPDATE tide.rows_destination d
		SET position = greatest(d.position, relay_rows_confirm.position), seen_at = clock_timestamp()
		WHERE d.region = relay_rows_confirm.region AND d.pipeline = relay_rows_confirm.pipeline;
	RETURN (SELECT min(d.position) FROM tide.rows_destination d WHERE d.pipeline = relay_rows_confirm.pipeline);
END;
$$;

/* ---- rights ---- */

GRANT EXECUTE ON FUNCTION
	tide.rows_identify(text),
	tide.rows_tables(text),
	tide.rows_slot(text),
	tide.rows_heartbeat(),
	tide.rows_announce(text, pg_lsn, text, jsonb),
	tide.rows_leave(text),
	tide.relay_rows(text, bigint),
	tide.relay_rows_confirm(text, bigint, text, pg_lsn)
	TO tide_relay;
GRANT EXECUTE ON FUNCTION tide.rows_leave(text) TO tide_admin;	/* for a region that is gone for good */
GRANT SELECT ON tide.rows_publisher, tide.rows_destination TO tide_admin, tide_relay, tide_reader;
