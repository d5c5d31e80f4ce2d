/*
 * 76_link.sql
 *		Links: taking rows from other regions.
 *
 * Owns: adding, changing, pausing and removing links, and what the relay at the
 * destination tells and asks about one.  Does not own: lease, epoch and state of
 * the pipeline behind it (30_pipeline.sql), applying (78_apply.sql).
 *
 * A link's pipeline is 'link:' and the region; no user can name one so.  Its
 * configuration repeats what the relay must notice a change of.
 *
 * What a person does to a link is done to both its lanes (76_lane.sql).  The
 * main one has the options; the other one is made and removed as classes ask for it.
 */

/* The link's row, that of its main lane, or an error that says what to do. */
CREATE FUNCTION tide._link(region text) RETURNS tide.link
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	result tide.link;
BEGIN
	SELECT l.* INTO result FROM tide.link l WHERE l.region = _link.region AND l.lane = 'main';
	IF NOT FOUND THEN
		RAISE EXCEPTION 'no rows are taken from region "%"', coalesce(region, 'NULL')
			USING ERRCODE = 'undefined_object',
				  HINT = coalesce('Links of this database: '
								  || (SELECT string_agg(l.region, ', ' ORDER BY l.region) FROM tide.link l WHERE l.lane = 'main')
								  || '. ', '')
						 || 'SELECT tide.link_add(''region'') makes one.';
	END IF;
	RETURN result;
END;
$$;

/* For the relay: the link behind a pipeline, if the epoch is the current one. */
CREATE FUNCTION tide._link_of(pipeline text, epoch bigint) RETURNS tide.link
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	pipe_id int := tide._check_epoch(pipeline, epoch);
	result tide.link;
BEGIN
	SELECT l.* INTO result FROM tide.link l JOIN tide.pipeline p ON p.name = l.pipeline
		WHERE p.id = pipe_id AND p.direction = 'link';
	IF NOT FOUND THEN
		RAISE EXCEPTION 'pipeline "%" is not a link', pipeline
			USING ERRCODE = 'wrong_object_type', HINT = 'Those of links are named "link:REGION".';
	END IF;
	RETURN result;
END;
$$;

/*
 * The slot at the other region: named after this region, so that a person there
 * sees whose it is, and after both numbers, because slots are the whole
 * cluster's.  The doctor reads the number at the end.
 */
CREATE FUNCTION tide._link_slot(here text, there text, lane text DEFAULT 'main') RETURNS name
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT format('tide_link_%s_%s_%s', CASE lane WHEN 'main' THEN left(n.here, 34) ELSE left(n.here, 30) || '_' || lane END,
				  lpad(to_hex(tide.region_id(there)), 8, '0'), lpad(to_hex(tide.region_id(_link_slot.here)), 8, '0'))::name
	FROM (SELECT regexp_replace(lower(_link_slot.here COLLATE "C"), '[^a-z0-9_]', '_', 'g')) n (here)
$$;

/* Makes the pipeline say what the link says; enabled NULL: as it was. */
CREATE FUNCTION tide._link_configure(link tide.link, enabled boolean DEFAULT NULL) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	config jsonb := link.options || jsonb_build_object(
		'transport', link.transport, 'copy', link.copy, 'slot', link.slot, 'removing', link.removing,
		'conninfo', (tide._region(link.region)).conninfo)
		|| tide._lane_config(link);
BEGIN
	INSERT INTO tide.pipeline AS p (name, direction, target, config, enabled)
		VALUES (link.pipeline, 'link', link.region, config, coalesce(_link_configure.enabled, true))
		ON CONFLICT ON CONSTRAINT pipeline_name_key DO UPDATE SET
			config = excluded.config,
			enabled = coalesce(_link_configure.enabled, p.enabled),
			version = nextval('tide.pipeline_version'),
			updated_at = clock_timestamp()
			WHERE (p.config, p.enabled)
				IS DISTINCT FROM (excluded.config, coalesce(_link_configure.enabled, p.enabled));
END;
$$;

/* Takes rows from that region; with another set of options: changes the link. */
CREATE FUNCTION tide.link_add(region text, options jsonb DEFAULT '{}') RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	here text := tide._own_region();
	superuser boolean := (SELECT r.rolsuper FROM pg_roles r WHERE r.rolname = session_user);
	known tide.region;
	link tide.link;
	transport text;
BEGIN
	IF region = here THEN
		RAISE EXCEPTION 'region "%" is this database''s own', region
			USING ERRCODE = 'invalid_parameter_value', HINT = 'Rows are taken from other regions.';
	END IF;
	known := tide._region(region);
	IF options ->> 'transport' = 'kafka' THEN
		RAISE EXCEPTION 'rows can''t travel by kafka yet'
			USING ERRCODE = 'feature_not_supported', HINT = '"transport" is one of: direct, nats.';
	END IF;
	PERFORM tide._check_config('link', options);
	PERFORM tide._set_up_lock();
	transport := coalesce(options ->> 'transport', 'direct');
	INSERT INTO tide.link (region, transport, slot, by_superuser)
		VALUES (known.name, transport, tide._link_slot(here, known.name), superuser)
		ON CONFLICT DO NOTHING;
	SELECT l.* INTO STRICT link FROM tide.link l WHERE l.region = known.name AND l.lane = 'main' FOR UPDATE;
	IF link.transport <> transport THEN
		RAISE EXCEPTION 'the rows of region "%" come by %, not by %', known.name, link.transport, transport
			USING ERRCODE = 'object_not_in_prerequisite_state',
				  HINT = format('Remove the link with SELECT tide.link_remove(%L), wait until tide.links no longer shows it, and add it again.',
								known.name);
	END IF;
	IF transport = 'nats' AND NOT tide._link_for_one(link) AND (options ->> 'own_stream')::boolean
		AND EXISTS (SELECT FROM tide.link_progress p WHERE p.link_id = link.id)
	THEN
		RAISE NOTICE 'rows of region "%" are copied again, as the stream they came by had less in it', known.name;
	END IF;
	UPDATE tide.link l SET
		options = link_add.options - '{transport,copy,paused}'::text[],
		by_superuser = superuser,
		copy = coalesce((link_add.options ->> 'copy')::boolean, true),
		removing = false
		WHERE l.id = link.id
		RETURNING l.* INTO link;
	IF EXISTS (SELECT FROM tide.class k WHERE k.residency IS NOT NULL) THEN
		PERFORM tide._residency_warn();
	END IF;
	PERFORM tide._link_configure(link, NOT coalesce((options ->> 'paused')::boolean, false));
	PERFORM tide._lanes_make();
END;
$$;

/*
 * Relays that make or drop the same origins at once would wait for each other: the server locks its catalog of
 * origins only for a moment when it makes one, and then each waits for the other's.
 */
CREATE FUNCTION tide._link_origins_lock() RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$ SELECT pg_advisory_xact_lock(1953064039, 3) $$;

/*
 * The replication origins that tag what comes by a lane, and what sessions that copy tables
 * write: see apply_session.c.  Origins are of the whole cluster, so their names have the database's
 * number.  They must be committed before they are used: a decoder that does not find the name
 * (PostgreSQL 15 looks for it) would take the rows for this region's own.  NULL: only the latter.
 */
CREATE FUNCTION tide._link_origins(link tide.link) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	database oid := (SELECT d.oid FROM pg_database d WHERE d.datname = current_database());
	origin text;
BEGIN
	FOR origin IN
		SELECT format('tide_%s_%s', database, substr(link.pipeline, 6)) WHERE link.id IS NOT NULL
		UNION ALL
		SELECT format('tide_%s#%s', database, n) FROM generate_series(1, 8) n
	LOOP
		IF pg_replication_origin_oid(origin) IS NULL THEN
			PERFORM tide._link_origins_lock();
			BEGIN
				PERFORM pg_replication_origin_create(origin);
			EXCEPTION WHEN unique_violation THEN
				NULL;	/* another link's relay was faster */
			END;
		END IF;
	END LOOP;
END;
$$;

/*
 * Drops the replication origins of links that are gone, and those of
 * copies with the last link, unless residency has use for them.  What a session still holds, maintain() drops later.
 */
CREATE FUNCTION tide._link_origins_drop() RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	prefix text := format('tide_%s', (SELECT d.oid FROM pg_database d WHERE d.datname = current_database()));
	name text;
BEGIN
	FOR name IN
		SELECT o.roname FROM pg_replication_origin o
		WHERE starts_with(o.roname, prefix || '_') AND NOT EXISTS (SELECT FROM tide.link l WHERE prefix || '_' || substr(l.pipeline, 6) = o.roname)
			OR starts_with(o.roname, prefix || '#') AND NOT EXISTS (SELECT FROM tide.link l)
				AND NOT EXISTS (SELECT FROM tide.residency_rule)
	LOOP
		BEGIN
			PERFORM pg_replication_origin_drop(name);
		EXCEPTION WHEN object_in_use OR undefined_object OR lock_not_available THEN
			NULL;
		END;
	END LOOP;
END;
$$;

CREATE FUNCTION tide._link_forget(link tide.link) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	DELETE FROM tide.pipeline p WHERE p.name = link.pipeline;
	DELETE FROM tide.link l WHERE l.id = link.id;
	PERFORM tide._link_origins_drop();
END;
$$;

/* Has a relay ever worked on it?  Then there may be a slot. */
CREATE FUNCTION tide._link_begun(link tide.link) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT coalesce((SELECT p.epoch > 0 FROM tide.pipeline p WHERE p.name = link.pipeline), false) $$;

/*
 * Ends a link.  The relay first drops the slots at the other region; with force
 * the link is forgotten at once, and a slot there stays (the doctor finds it).
 */
CREATE FUNCTION tide.link_remove(region text, force boolean DEFAULT false) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	link tide.link := tide._link(region);
BEGIN
	PERFORM tide._set_up_lock();
	IF force THEN
		PERFORM tide._link_forget(l) FROM tide.link l WHERE l.region = link.region;
		RETURN;
	END IF;
	UPDATE tide.link l SET removing = true WHERE l.id = link.id RETURNING l.* INTO link;
	PERFORM tide._lanes_make();
	/* The other lane first: as long as one is left, the link is seen. */
	IF EXISTS (SELECT FROM tide.link l WHERE l.region = link.region AND l.lane <> 'main') THEN
		PERFORM tide._link_configure(link, false);
	ELSIF tide._link_begun(link) THEN
		PERFORM tide._link_configure(link, true);
	ELSE
		PERFORM tide._link_forget(link);
	END IF;
END;
$$;

CREATE FUNCTION tide.link_pause(region text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	link tide.link := tide._link(region);
BEGIN
	IF link.removing THEN
		RAISE EXCEPTION 'the link from region "%" is being removed', link.region
			USING ERRCODE = 'object_not_in_prerequisite_state',
				  HINT = 'SELECT tide.link_add(...) takes that back.';
	END IF;
	PERFORM tide._pipeline_switch(l.pipeline, false) FROM tide.link l WHERE l.region = link.region AND NOT l.removing;
END;
$$;

CREATE FUNCTION tide.link_resume(region text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	link tide.link := tide._link(region);
BEGIN
	PERFORM tide._pipeline_switch(l.pipeline, true) FROM tide.link l WHERE l.region = link.region;
END;
$$;

/*
 * Everything is to be copied again; what is parked is part of that.  The rows of link_table are other
 * ones afterwards, and that of link_progress is gone: a copy or a frame that is under way in
 * another session does not find what it wants to update, and fails.
 */
CREATE FUNCTION tide._link_reset(link tide.link, reason text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	dropped bigint;
BEGIN
	DELETE FROM tide.link_progress p WHERE p.link_id = link.id;
	WITH gone AS (DELETE FROM tide.link_table t WHERE t.link_id = link.id RETURNING t.*)
	INSERT INTO tide.link_table (link_id, schema_name, table_name)
		SELECT g.link_id, g.schema_name, g.table_name FROM gone g;
	DELETE FROM tide.link_shape s WHERE s.link_id = link.id;
	DELETE FROM tide.parked_change c WHERE c.link_id = link.id;
	GET DIAGNOSTICS dropped = ROW_COUNT;
	UPDATE tide.link l SET phase = 'new', resyncs = l.resyncs + 1, last_resync = reason WHERE l.id = link.id;
	RAISE LOG 'pg_tide: the rows of region "%"% are to be copied again: %', link.region,
		CASE link.lane WHEN 'main' THEN '' ELSE format(' (%s lane)', link.lane) END, reason
		USING DETAIL = format('%s parked changes are part of that.', dropped);
END;
$$;

/* The relay that works on the link is refused from now on, and begins anew. */
CREATE FUNCTION tide.link_resync(region text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	link tide.link := tide._link(region);
BEGIN
	FOR link IN SELECT l.* FROM tide.link l WHERE l.region = link.region ORDER BY l.id
	LOOP
		PERFORM tide._position_reset((tide._pipeline(link.pipeline)).id);
		PERFORM tide._link_reset(link, format('asked for by %s', session_user));
	END LOOP;
END;
$$;

/* ---- tables of links ---- */

/* Tables that rows are taken for, as the other regions know them: by name. */
CREATE FUNCTION tide._taken_tables() RETURNS TABLE (schema_name name, table_name name)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT n.nspname, c.relname
	FROM tide.replicated_table r
		JOIN tide.class k ON k.name = r.class AND k.scope <> 'regional'
		JOIN pg_class c ON c.oid = r.relid
		JOIN pg_namespace n ON n.oid = c.relnamespace
$$;

/*
 * Forgets copies of tables that are not added here any more, or have another
 * name: added again, they are copied again, as their changes were let lie.
 * Looks first: link_table's triggers tell every backend of a statement, even if it changes no row.
 */
CREATE FUNCTION tide._link_tables_clean() RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF EXISTS (SELECT t.schema_name, t.table_name FROM tide.link_table t EXCEPT SELECT h.* FROM tide._taken_tables() h) THEN
		DELETE FROM tide.link_table t WHERE (t.schema_name, t.table_name) NOT IN (SELECT h.* FROM tide._taken_tables() h);
	END IF;
END;
$$;

/* Makes the rows of link_table that a link lacks. */
CREATE FUNCTION tide._link_tables_add(link tide.link) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF EXISTS (SELECT h.* FROM tide._taken_tables() h
			   EXCEPT SELECT t.schema_name, t.table_name FROM tide.link_table t WHERE t.link_id = link.id)
	THEN
		INSERT INTO tide.link_table (link_id, schema_name, table_name, state, copied_lsn)
			SELECT link.id, h.schema_name, h.table_name, CASE WHEN link.copy THEN 'wanted' ELSE 'copied' END,
				CASE WHEN NOT link.copy THEN '0/0'::pg_lsn END
			FROM tide._taken_tables() h
			ON CONFLICT DO NOTHING;
	END IF;
END;
$$;

/* ---- the relay's side ---- */

CREATE FUNCTION tide.relay_link(pipeline text, epoch bigint)
RETURNS TABLE (link_id int, region text, conninfo text, transport text, slot text, copy boolean, phase text,
			   removing boolean, "position" pg_lsn, system_id bigint, timeline int, options jsonb,
			   commit_end pg_lsn, commit_us bigint, lanes text)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	link tide.link := tide._link_of(pipeline, epoch);
BEGIN
	IF NOT link.removing THEN
		PERFORM tide._link_origins(link);
	END IF;
	RETURN QUERY
		SELECT link.id, link.region, r.conninfo, link.transport, link.slot::text, link.copy, link.phase, link.removing,
			p.position, p.system_id, p.timeline, link.options, p.commit_end,
			(extract(epoch FROM p.commit_at) * 1000000)::bigint, array_to_string(tide._lanes_of(link), ',')
		FROM tide.region r LEFT JOIN tide.link_progress p ON p.link_id = link.id
		WHERE r.name = link.region;
END;
$$;

/*
 * The stream is about to be opened for these lanes: are they those of the last time?  If not, the last transaction that was
 * taken may be in none of what is read now, and can't be looked for: it is forgotten.
 */
CREATE FUNCTION tide.relay_link_reads(pipeline text, epoch bigint, lanes text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	link tide.link := tide._link_of(pipeline, epoch);
BEGIN
	IF link.read_lanes = lanes THEN
		RETURN true;
	END IF;
	UPDATE tide.link l SET read_lanes = lanes WHERE l.id = link.id;
	UPDATE tide.link_progress p SET commit_end = NULL, commit_at = NULL WHERE p.link_id = link.id;
	RETURN false;
END;
$$;

/*
 * published: what the origin's rows_lanes() answered, if it was asked; see _link_published().  lanes: those
 * that the relay reads, comma-separated, which for a moment are not those that it should.
 */
CREATE FUNCTION tide.relay_link_tables(pipeline text, epoch bigint, published jsonb DEFAULT NULL, lanes text DEFAULT NULL)
RETURNS TABLE (schema_name text, table_name text, state text, copied_lsn pg_lsn, wish int)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	link tide.link := tide._link_of(pipeline, epoch);
	taken text[] := coalesce(string_to_array(lanes, ','), tide._lanes_of(link));
BEGIN
	PERFORM tide._link_tables_clean(), tide._link_tables_add(link), tide._link_published(link, published, taken);
	RETURN QUERY
		SELECT t.schema_name::text, t.table_name::text,
			CASE WHEN t.origin_lane = ANY (taken) OR t.origin_lane IS NULL AND published IS NULL THEN t.state ELSE 'elsewhere' END, t.copied_lsn, t.wish
		FROM tide.link_table t WHERE t.link_id = link.id
		ORDER BY 1, 2;
END;
$$;

CREATE FUNCTION tide.relay_link_begin(pipeline text, epoch bigint, "position" pg_lsn, system_id bigint, timeline int)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	link tide.link := tide._link_of(pipeline, epoch);
BEGIN
	INSERT INTO tide.link_progress (link_id, position, system_id, timeline, source_end)
		VALUES (link.id, relay_link_begin.position, relay_link_begin.system_id, relay_link_begin.timeline,
				relay_link_begin.position)
		ON CONFLICT DO NOTHING;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'the link from region "%" has begun already', link.region
			USING ERRCODE = 'object_not_in_prerequisite_state',
				  HINT = 'Only tide.relay_link_resync() or tide.link_resync() lets it begin anew.';
	END IF;
END;
$$;

CREATE FUNCTION tide.relay_link_phase(pipeline text, epoch bigint, phase text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	link tide.link := tide._link_of(pipeline, epoch);
BEGIN
	IF phase IS NULL OR phase NOT IN ('new', 'copying', 'streaming') THEN
		RAISE EXCEPTION 'a link has no phase "%"', coalesce(phase, 'NULL')
			USING ERRCODE = 'invalid_parameter_value', HINT = 'Phases are new, copying and streaming.';
	END IF;
	UPDATE tide.link l SET phase = relay_link_phase.phase WHERE l.id = link.id AND l.phase <> relay_link_phase.phase;
END;
$$;

CREATE FUNCTION tide.relay_link_resync(pipeline text, epoch bigint, reason text) RETURNS void
LANGUAGE sql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$ SELECT tide._link_reset(tide._link_of(pipeline, epoch), reason) $$;

/* The link may have been wanted again meanwhile. */
CREATE FUNCTION tide.relay_link_removed(pipeline text, epoch bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	link tide.link := tide._link_of(pipeline, epoch);
BEGIN
	PERFORM tide._set_up_lock(), tide._link_origins_lock();
	SELECT l.* INTO link FROM tide.link l WHERE l.id = link.id FOR UPDATE;
	IF NOT link.removing THEN
		RAISE EXCEPTION 'the link from region "%" is wanted again', link.region
			USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Begin anew.';
	END IF;
	PERFORM tide._link_forget(link), tide._lanes_make();
	IF link.lane <> 'main' THEN
		PERFORM tide._link_configure(l, true) FROM tide.link l WHERE l.region = link.region AND l.lane = 'main' AND l.removing;
	END IF;
END;
$$;

CREATE FUNCTION tide.relay_link_copying(pipeline text, epoch bigint, schema_name text, table_name text,
										rows_done bigint, bytes_done bigint, rows_total bigint)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	link tide.link := tide._link_of(pipeline, epoch);
BEGIN
	/* Not in the statement below: changes of state are told to every backend.  Of two lanes only relay_link_takes() may. */
	IF NOT EXISTS (SELECT FROM tide.link l WHERE l.region = link.region AND l.id <> link.id) AND EXISTS (SELECT FROM tide.link_table t
			   WHERE t.link_id = link.id AND t.schema_name = relay_link_copying.schema_name
				   AND t.table_name = relay_link_copying.table_name AND t.state = 'wanted')
	THEN
		UPDATE tide.link_table t SET state = 'copying', started_at = clock_timestamp()
			WHERE t.link_id = link.id AND t.schema_name = relay_link_copying.schema_name
				AND t.table_name = relay_link_copying.table_name AND t.state = 'wanted';
	END IF;
	UPDATE tide.link_table t SET
		rows_done = relay_link_copying.rows_done,
		bytes_done = relay_link_copying.bytes_done,
		rows_total = relay_link_copying.rows_total
		WHERE t.link_id = link.id AND t.schema_name = relay_link_copying.schema_name
			AND t.table_name = relay_link_copying.table_name AND t.state = 'copying';
END;
$$;

/* ---- rights ---- */

GRANT EXECUTE ON FUNCTION
	tide.link_add(text, jsonb),
	tide.link_remove(text, boolean),
	tide.link_pause(text),
	tide.link_resume(text),
	tide.link_resync(text)
	TO tide_admin;
GRANT EXECUTE ON FUNCTION
	tide.relay_link(text, bigint),
	tide.relay_link_tables(text, bigint, jsonb, text),
	tide.relay_link_begin(text, bigint, pg_lsn, bigint, int),
	tide.relay_link_phase(text, bigint, text),
	tide.relay_link_resync(text, bigint, text),
	tide.relay_link_removed(text, bigint),
	tide.relay_link_reads(text, bigint, text),
	tide.relay_link_copying(text, bigint, text, text, bigint, bigint, bigint)
	TO tide_relay;
GRANT SELECT ON tide.link, tide.link_table, tide.link_progress, tide.parked_change TO tide_admin, tide_relay, tide_reader;
