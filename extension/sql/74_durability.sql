/*
 * 74_durability.sql
 *		Durability: classes whose commits wait until another region has them.
 *
 * Owns: the options "peer" and "wait", the triggers that note who writes what, what the server's
 * configuration has to say, the view tide.durability.  Does not own: noting, waiting and
 * counting (durability.c).
 *
 * Core waits for the walsenders that synchronous_standby_names lists.  That of a link is called like its
 * slot: no two of a cluster are called the same, whatever its databases are linked to.
 */

/* The walsender of the link by which that region takes rows from here. */
CREATE FUNCTION tide._standby(peer text) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT tide._link_slot(peer, tide.region_name())::text $$;

CREATE FUNCTION tide._standby_listed(standby text) RETURNS boolean
LANGUAGE c STABLE STRICT AS 'MODULE_PATHNAME', 'tide_sql_standby_listed';

CREATE FUNCTION tide._standbys() RETURNS text[]
LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'tide_sql_standbys';

CREATE FUNCTION tide._sync_counts(class text, OUT waits bigint, OUT waited_us bigint, OUT ended bigint,
								  OUT last_ended timestamptz)
LANGUAGE c STABLE STRICT AS 'MODULE_PATHNAME', 'tide_sql_sync_counts';

CREATE FUNCTION tide._durability_note() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'tide_sql_durability_note';

/* Classes that wait here.  One that names this region itself means nothing in it. */
CREATE FUNCTION tide._sync_classes() RETURNS SETOF tide.class
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT c.* FROM tide.class c WHERE c.durability = 'sync' AND c.sync_peer <> tide.region_name() $$;

/* What postgresql.conf needs: everybody who is listed, and every peer of ours. */
CREATE FUNCTION tide._standby_line() RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT format('synchronous_standby_names = ''ANY %s (%s)''', count(*),
				  string_agg(quote_ident(n.name), ', ' ORDER BY n.name))
	FROM (SELECT u.name FROM unnest(tide._standbys()) u (name) WHERE u.name <> '*'
		  UNION SELECT tide._standby(c.sync_peer) FROM tide._sync_classes() c) n
$$;

/* ---- options ---- */

CREATE FUNCTION tide._read_sync_peer(what text, options jsonb) RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	peer text := options ->> 'peer';
	here text;
BEGIN
	IF coalesce(options ->> 'durability', 'async') <> 'sync' THEN
		IF options ?| '{peer,wait}' THEN
			RAISE EXCEPTION 'option "%" of % is for the durability "sync" only',
				CASE WHEN options ? 'peer' THEN 'peer' ELSE 'wait' END, what
				USING ERRCODE = 'invalid_parameter_value', HINT = 'Leave it out, or add "durability": "sync".';
		END IF;
		RETURN NULL;
	ELSIF peer IS NULL THEN
		RAISE EXCEPTION 'option "peer" is missing for %', what
			USING ERRCODE = 'invalid_parameter_value',
				  HINT = 'Name the region that must have a commit before it returns: "peer": "region".';
	ELSIF options ->> 'scope' = 'regional' THEN
		RAISE EXCEPTION '% can''t be synchronous: its rows stay here', what
			USING ERRCODE = 'invalid_parameter_value', HINT = 'Choose another scope, or leave "durability" out.';
	ELSIF options ->> 'primary' = peer THEN
		RAISE EXCEPTION '% would wait for the region that writes it', what
			USING ERRCODE = 'invalid_parameter_value', HINT = 'Name another region as "peer".';
	END IF;
	here := tide._own_region();
	IF peer = here THEN
		RETURN peer;
	END IF;
	PERFORM tide._region(peer);
	IF NOT tide.preloaded() THEN
		RAISE EXCEPTION '% can''t be synchronous: pg_tide is not in shared_preload_libraries', what
			USING ERRCODE = 'TD004', HINT = 'Add pg_tide to shared_preload_libraries and restart.';
	END IF;
	RETURN peer;
END;
$$;

/* How long a commit waits at most; NULL: as long as it takes. */
CREATE FUNCTION tide._read_sync_wait(what text, options jsonb) RETURNS interval
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	value jsonb := options -> 'wait';
	result interval;
BEGIN
	IF value IS NULL THEN
		RETURN NULL;
	END IF;
	BEGIN
		result := CASE jsonb_typeof(value) WHEN 'number' THEN make_interval(secs => (value #>> '{}')::float8)
				  WHEN 'string' THEN (value #>> '{}')::interval END;
	EXCEPTION WHEN data_exception THEN
		NULL;	/* said below */
	END;
	IF result IS NULL OR result < interval '1 millisecond' OR result > interval '1 day' THEN
		RAISE EXCEPTION 'option "wait" of % is not a time between 1 ms and a day', what
			USING ERRCODE = 'invalid_parameter_value',
				  HINT = 'Write how long a commit waits at most, such as "10 seconds", or a number of seconds; '
						 'leave it out to wait as long as it takes.';
	END IF;
	RETURN result;
END;
$$;

/* ---- triggers ---- */

/*
 * One for each statement; a partitioned table has one for each row, because that is cloned to partitions, also
 * those that come, and a partition may be written by its own name.  TRUNCATE asks the partition it names.
 */
CREATE FUNCTION tide._durability_triggers(tbl regclass)
RETURNS TABLE (rel regclass, name name, events text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT tbl, 'tide_durability'::name, 'INSERT OR UPDATE OR DELETE OR TRUNCATE ON %s FOR EACH STATEMENT'
	FROM pg_class c WHERE c.oid = tbl AND c.relkind <> 'p'
	UNION ALL
	SELECT tbl, 'tide_durability'::name, 'INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW'
	FROM pg_class c WHERE c.oid = tbl AND c.relkind = 'p'
	UNION ALL
	SELECT p.relid, 'tide_durability_truncate'::name, 'TRUNCATE ON %s FOR EACH STATEMENT'
	FROM pg_class c, pg_partition_tree(tbl) p WHERE c.oid = tbl AND c.relkind = 'p'
$$;

/* Made, changed or taken away, and left alone where it is right: its table would be locked. */
CREATE FUNCTION tide._table_make_durability(tbl regclass, class tide.class) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	args text[] := '{}';
	trig record;
BEGIN
	IF class.durability = 'sync' AND class.sync_peer <> tide.region_name() THEN
		args := ARRAY[class.name, class.sync_peer, tide._standby(class.sync_peer),
					  coalesce(floor(extract(epoch FROM class.sync_wait) * 1000)::int, -1)::text];
	ELSIF class.name IS NULL OR NOT EXISTS (SELECT FROM tide._sync_classes()) THEN
		FOR trig IN SELECT t.tgrelid::regclass AS rel, t.tgname FROM pg_trigger t
			WHERE t.tgfoid = 'tide._durability_note()'::regprocedure AND t.tgparentid = 0
				AND (t.tgrelid = tbl OR t.tgrelid IN (SELECT p.relid FROM pg_partition_tree(tbl) p))
		LOOP
			EXECUTE format('DROP TRIGGER %I ON %s', trig.tgname, trig.rel);
		END LOOP;
		RETURN;
	END IF;
	FOR trig IN SELECT d.* FROM tide._durability_triggers(tbl) d
		WHERE NOT EXISTS (SELECT FROM pg_trigger t
						  WHERE t.tgrelid = d.rel AND t.tgname = d.name AND t.tgenabled = 'O'
							  AND t.tgfoid = 'tide._durability_note()'::regprocedure
							  AND t.tgargs = coalesce((SELECT string_agg(convert_to(a, 'UTF8') || '\x00', '' ORDER BY n)
													   FROM unnest(args) WITH ORDINALITY u (a, n)), ''))
	LOOP
		EXECUTE format('CREATE OR REPLACE TRIGGER %I BEFORE %s EXECUTE FUNCTION tide._durability_note(%s)', trig.name,
					   format(trig.events, trig.rel), (SELECT string_agg(quote_literal(a), ', ' ORDER BY n)
													   FROM unnest(args) WITH ORDINALITY u (a, n)));
	END LOOP;
END;
$$;

/* After a change of classes: while one waits, tables of the others say that they need not. */
CREATE FUNCTION tide._durability_derive(made tide.class) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM tide._table_make_durability(t.relid, c)
		FROM tide.replicated_table t JOIN tide.class c ON c.name = t.class;
	IF made.durability = 'sync' AND made.sync_peer <> tide.region_name()
		AND NOT tide._standby_listed(tide._standby(made.sync_peer))
	THEN
		RAISE WARNING 'tables of class "%" can''t be written until this server waits for region "%"', made.name, made.sync_peer
			USING HINT = format('Set %s and reload.', tide._standby_line());
	END IF;
END;
$$;

/* ---- looking ---- */

/* Runs as the extension's owner, as readers may not look at other sessions. */
CREATE FUNCTION tide._durability()
RETURNS TABLE (class text, peer text, wait interval, standby text, listed boolean, connected boolean, state text,
			   lag interval, lag_bytes bigint, waiting bigint, waits bigint, waited interval, ended bigint,
			   last_ended timestamptz, line text)
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT c.name, c.sync_peer, c.sync_wait, s.name, tide._standby_listed(s.name), r.pid IS NOT NULL, r.state, r.flush_lag,
		CASE WHEN r.pid IS NOT NULL AND NOT pg_is_in_recovery() THEN
			greatest(pg_wal_lsn_diff(pg_current_wal_flush_lsn(), r.flush_lsn), 0)::bigint END,
		(SELECT count(*) FROM pg_stat_activity a
		 WHERE a.wait_event = 'SyncRep' AND a.datid = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())),
		n.waits, make_interval(secs => n.waited_us / 1000000.0::float8), n.ended, n.last_ended,
		tide._standby_line()
	FROM tide._sync_classes() c
		CROSS JOIN LATERAL (SELECT tide._standby(c.sync_peer)) s (name)
		CROSS JOIN LATERAL tide._sync_counts(c.name) n
		LEFT JOIN pg_stat_replication r ON r.application_name = s.name
$$;

CREATE VIEW tide.durability AS
	SELECT d.class, d.peer, d.wait, d.standby, d.listed, d.connected, d.state, d.lag, d.lag_bytes, d.waiting, d.waits,
		d.waited, d.ended, d.last_ended
	FROM tide._durability() d;

/* ---- rights ---- */

GRANT EXECUTE ON FUNCTION tide._durability() TO tide_admin, tide_relay, tide_reader;
GRANT SELECT ON tide.durability TO tide_admin, tide_relay, tide_reader;
