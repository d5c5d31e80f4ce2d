/*
 * 20_inbox.sql
 *		Inboxes: the tables events arrive in, deduplication, claiming, pruning.
 *
 * Owns: tide.inbox, one table and one ledger per inbox, tide.inbox_peer.
 * Does not own: pipelines and positions (30), dead letters (40), handlers (50).
 *
 * Deduplication.  An event id is accepted by an inbox once, however long ago
 * that was (within ledger_retention).  While its row exists the row's primary
 * key says so; when the row goes, by whatever statement, a trigger writes its
 * id to the inbox's ledger in the same transaction.  So at any instant a
 * snapshot shows a known id in exactly one of the two.  inbox_receive() looks
 * into the ledger before and, with a newer snapshot, after it inserts: the
 * second look catches a row that was deleted in between.
 */

CREATE TABLE tide.inbox
(
	id					int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	name				text COLLATE "C" NOT NULL UNIQUE,
	max_attempts		int NOT NULL DEFAULT 10 CHECK (max_attempts > 0),
	backoff_base		interval NOT NULL DEFAULT '1 second' CHECK (backoff_base > '0'),
	backoff_max			interval NOT NULL DEFAULT '5 minutes' CHECK (backoff_max > '0'),
	retention			interval NOT NULL DEFAULT '7 days' CHECK (retention >= '0'),
	ledger_retention	interval NOT NULL DEFAULT '30 days' CHECK (ledger_retention >= '0'),
	handler				text,		-- schema-qualified signature; text, as pg_upgrade refuses regprocedure
	handler_role		regrole,	-- who registered it: it runs with this role's privileges ...
	handler_path		text,		-- ... and with the search_path it was registered under
	created_at			timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);

/* What a sending region's pipeline last said of itself: older epochs are refused. */
CREATE TABLE tide.inbox_peer
(
	region		text COLLATE "C" NOT NULL,
	pipeline	text COLLATE "C" NOT NULL,
	epoch		bigint NOT NULL,
	last_seen	timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	PRIMARY KEY (region, pipeline)
) WITH (fillfactor = 50);

SELECT pg_catalog.pg_extension_config_dump('tide.inbox', '');
SELECT pg_catalog.pg_extension_config_dump('tide.inbox_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('tide.inbox_peer', '');

/* One claimed event, as inbox_claim() returns it and a handler may take it. */
CREATE TYPE tide.inbox_event AS
(
	event_id		text,
	seq				bigint,
	origin			text,
	outbox			text,
	entity			text,
	op				text,
	key				text,
	payload			jsonb,
	headers			jsonb,
	published_at	timestamptz,
	committed_at	timestamptz,
	received_at		timestamptz,
	processed_at	timestamptz,	-- NULL: what is claimed is not processed yet
	attempts		int,
	last_error		text,
	lease_until		timestamptz
);

/* ---- names ---- */

/* The relation of an inbox: cut to 63 bytes exactly as the server cuts any identifier. */
CREATE FUNCTION tide._inbox_relation(inbox text) RETURNS name
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN (inbox || '_inbox')::pg_catalog.name;

CREATE FUNCTION tide._inbox_ledger(id int) RETURNS name
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN ('inbox_' || id || '_ledger')::pg_catalog.name;

/* The inbox's catalog row, or an error that says what to do. */
CREATE FUNCTION tide._inbox(inbox text) RETURNS tide.inbox
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	box tide.inbox;
BEGIN
	IF inbox IS NULL THEN
		RAISE EXCEPTION 'the name of the inbox must not be NULL'
			USING ERRCODE = 'null_value_not_allowed',
				  HINT = 'Pass the name given to tide.inbox_create().';
	END IF;
	SELECT b.* INTO box FROM tide.inbox b WHERE b.name = _inbox.inbox;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'inbox "%" does not exist', inbox
			USING ERRCODE = 'undefined_object',
				  HINT = coalesce('Inboxes of this database: '
								  || (SELECT string_agg(b.name, ', ' ORDER BY b.name) FROM tide.inbox b)
								  || '. ', '')
						 || 'SELECT tide.inbox_create(''name'') makes a new one.';
	END IF;
	RETURN box;
END;
$$;

/* ---- creating and dropping ---- */

/* A row left an inbox by DELETE: its id moves to the ledger, in the deleter's transaction. */
CREATE FUNCTION tide._inbox_removed() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	EXECUTE format('INSERT INTO tide.%I AS l (event_id) SELECT r.event_id FROM removed r
					ON CONFLICT (event_id) DO NOTHING',
				   tide._inbox_ledger(TG_ARGV[0]::int));
	RETURN NULL;
END;
$$;

/* The same for TRUNCATE, which holds a lock that keeps everybody else out meanwhile. */
CREATE FUNCTION tide._inbox_truncated() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	EXECUTE format('INSERT INTO tide.%I AS l (event_id) SELECT t.event_id FROM %I.%I t
					ON CONFLICT (event_id) DO NOTHING',
				   tide._inbox_ledger(TG_ARGV[0]::int), TG_TABLE_SCHEMA, TG_TABLE_NAME);
	RETURN NULL;
END;
$$;

/*
 * Makes the inbox's table, ledger and triggers.  The triggers fire ALWAYS: a
 * deletion applied by logical replication must reach the ledger too.
 * The table keeps room in its pages (fillfactor) because a claim updates
 * columns that no index has; the update can then stay in the page.
 */
CREATE FUNCTION tide._inbox_build(id int, name text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET client_min_messages = warning
AS $$
DECLARE
	rel name := tide._inbox_relation(name);
	ledger name := tide._inbox_ledger(id);
BEGIN
	EXECUTE format($ddl$
		CREATE TABLE tide.%1$I
		(
			event_id		text COLLATE "C" PRIMARY KEY,
			seq				bigint GENERATED ALWAYS AS IDENTITY,	-- order of arrival
			origin			text,			-- region that published it; NULL: foreign message
			outbox			text,
			entity			text,
			op				text,
			key				text,			-- events with equal (entity, key) are worked on in order
			payload			jsonb,
			headers			jsonb,
			published_at	timestamptz,
			committed_at	timestamptz,
			received_at		timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
			processed_at	timestamptz,
			attempts		int NOT NULL DEFAULT 0,
			last_error		text,
			lease_until		timestamptz,	-- claimed until then
			next_attempt_at	timestamptz,	-- failed: not to be tried before then
			dead_at			timestamptz		-- given up: see tide.dead_letters
		) WITH (fillfactor = 85)
	$ddl$, rel);
	EXECUTE format('CREATE INDEX ON tide.%I (seq) WHERE processed_at IS NULL AND dead_at IS NULL', rel);
	EXECUTE format('CREATE INDEX ON tide.%I (processed_at) WHERE processed_at IS NOT NULL', rel);
	EXECUTE format($ddl$
		CREATE TABLE tide.%1$I
		(
			event_id	text COLLATE "C" PRIMARY KEY,
			removed_at	timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
		)
	$ddl$, ledger);
	EXECUTE format('CREATE INDEX ON tide.%I (removed_at)', ledger);
	EXECUTE format('CREATE TRIGGER tide_ledger_delete AFTER DELETE ON tide.%I
					REFERENCING OLD TABLE AS removed
					FOR EACH STATEMENT EXECUTE FUNCTION tide._inbox_removed(%L)', rel, id);
	EXECUTE format('CREATE TRIGGER tide_ledger_truncate BEFORE TRUNCATE ON tide.%I
					FOR EACH STATEMENT EXECUTE FUNCTION tide._inbox_truncated(%L)', rel, id);
	EXECUTE format('ALTER TABLE tide.%I ENABLE ALWAYS TRIGGER tide_ledger_delete,
					ENABLE ALWAYS TRIGGER tide_ledger_truncate', rel);
	EXECUTE format('REVOKE ALL ON tide.%I, tide.%I FROM PUBLIC', rel, ledger);
	EXECUTE format('GRANT SELECT ON tide.%I TO tide_reader, tide_relay, tide_admin', rel);
	EXECUTE format('GRANT DELETE, TRUNCATE ON tide.%I TO tide_admin', rel);
END;
$$;

CREATE FUNCTION tide.inbox_create(name text, max_attempts int DEFAULT 10,
								  retention interval DEFAULT '7 days',
								  ledger_retention interval DEFAULT '30 days') RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	rel name;
	new_id int;
BEGIN
	PERFORM tide._check_name('inbox', name);
	PERFORM tide._inbox_check_settings(max_attempts, NULL, NULL, retention, ledger_retention);
	INSERT INTO tide.inbox AS b (name, max_attempts, retention, ledger_retention)
		VALUES (inbox_create.name, coalesce(inbox_create.max_attempts, 10),
				coalesce(inbox_create.retention, '7 days'),
				coalesce(inbox_create.ledger_retention, '30 days'))
		ON CONFLICT DO NOTHING
		RETURNING b.id INTO new_id;
	IF new_id IS NULL THEN
		RAISE EXCEPTION 'inbox "%" already exists', name
			USING ERRCODE = 'duplicate_object',
				  HINT = 'Use it as it is, change it with tide.inbox_alter(), '
						 'or drop it with tide.inbox_drop() first.';
	END IF;
	rel := tide._inbox_relation(name);
	IF EXISTS (SELECT FROM pg_class c
			   WHERE c.relname = rel AND c.relnamespace = 'tide'::regnamespace) THEN
		RAISE EXCEPTION 'cannot create inbox "%": relation tide.% already exists', name, quote_ident(rel)
			USING ERRCODE = 'duplicate_table',
				  HINT = 'The relation of an inbox is its name followed by "_inbox", cut to 63 bytes. '
						 'Choose another name.';
	END IF;
	PERFORM tide._inbox_build(new_id, name);
END;
$$;

/* NULL: not given. */
CREATE FUNCTION tide._inbox_check_settings(max_attempts int, backoff_base interval, backoff_max interval,
										   retention interval, ledger_retention interval) RETURNS void
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	wrong text := CASE
		WHEN max_attempts < 1 THEN format('max_attempts must be at least 1, not %s', max_attempts)
		WHEN backoff_base <= '0' THEN format('backoff_base must be positive, not %s', backoff_base)
		WHEN backoff_max <= '0' THEN format('backoff_max must be positive, not %s', backoff_max)
		WHEN retention < '0' THEN format('retention must not be negative: %s', retention)
		WHEN ledger_retention < '0' THEN format('ledger_retention must not be negative: %s', ledger_retention)
	END;
BEGIN
	IF wrong IS NOT NULL THEN
		RAISE EXCEPTION '%', wrong
			USING ERRCODE = 'invalid_parameter_value',
				  HINT = 'Leave a setting out to keep its default.';
	END IF;
END;
$$;

/* Changes settings of an inbox; what is NULL stays. */
CREATE FUNCTION tide.inbox_alter(inbox text, max_attempts int DEFAULT NULL,
								 backoff_base interval DEFAULT NULL, backoff_max interval DEFAULT NULL,
								 retention interval DEFAULT NULL,
								 ledger_retention interval DEFAULT NULL) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	box tide.inbox := tide._inbox(inbox);
BEGIN
	PERFORM tide._inbox_check_settings(max_attempts, backoff_base, backoff_max, retention, ledger_retention);
	UPDATE tide.inbox b SET
		max_attempts = coalesce(inbox_alter.max_attempts, b.max_attempts),
		backoff_base = coalesce(inbox_alter.backoff_base, b.backoff_base),
		backoff_max = coalesce(inbox_alter.backoff_max, b.backoff_max),
		retention = coalesce(inbox_alter.retention, b.retention),
		ledger_retention = coalesce(inbox_alter.ledger_retention, b.ledger_retention)
		WHERE b.id = box.id;
END;
$$;

/* Drops an inbox with everything in it, its ledger included; refuses while a pipeline delivers to it. */
CREATE FUNCTION tide.inbox_drop(inbox text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET client_min_messages = warning
AS $$
DECLARE
	box tide.inbox := tide._inbox(inbox);
	pipelines text;
BEGIN
	SELECT string_agg(p.name, ', ' ORDER BY p.name) INTO pipelines
		FROM tide.pipeline p WHERE p.direction = 'inbox' AND p.target = box.name;
	IF pipelines IS NOT NULL THEN
		RAISE EXCEPTION 'cannot drop inbox "%": pipelines deliver to it: %', inbox, pipelines
			USING ERRCODE = 'dependent_objects_still_exist',
				  HINT = 'Delete them with tide.relay_delete() first.';
	END IF;
	PERFORM tide._handler_unset(box.name);
	EXECUTE format('DROP TABLE IF EXISTS tide.%I', tide._inbox_relation(box.name));
	EXECUTE format('DROP TABLE IF EXISTS tide.%I', tide._inbox_ledger(box.id));
	DELETE FROM tide.inbox b WHERE b.id = box.id;
END;
$$;

/* Lets a role read, claim and mark the events of one inbox. */
CREATE FUNCTION tide.inbox_grant(inbox text, role regrole) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM tide._inbox_acl(inbox, role, 'GRANT SELECT, UPDATE ON tide.%I TO %s');
	EXECUTE format('GRANT USAGE ON SCHEMA tide TO %s', role);
	EXECUTE format('GRANT EXECUTE ON FUNCTION tide.inbox_claim(text, int, interval), '
				   'tide.inbox_mark_processed(text, text), tide.inbox_mark_processed(text, text[]), '
				   'tide.inbox_mark_failed(text, text, text), '
				   'tide.inbox_release(text, text) TO %s', role);
END;
$$;

CREATE FUNCTION tide.inbox_revoke(inbox text, role regrole) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM tide._inbox_acl(inbox, role, 'REVOKE SELECT, UPDATE ON tide.%I FROM %s');
END;
$$;

/* regrole prints a name quoted where it must be. */
CREATE FUNCTION tide._inbox_acl(inbox text, role regrole, command text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	box tide.inbox := tide._inbox(inbox);
BEGIN
	PERFORM tide._check_role(role);
	EXECUTE format(command, tide._inbox_relation(box.name), role);
END;
$$;

/* ---- arrival ---- */

/*
 * Remembers the highest epoch a sending region's pipeline has shown and
 * refuses lower ones.  Writes only when the epoch rises or ten seconds have
 * passed, so that a busy sender leaves next to no dead tuples.
 */
CREATE FUNCTION tide._inbox_check_peer(region text, pipeline text, epoch bigint) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	known tide.inbox_peer;
BEGIN
	IF pipeline IS NULL OR epoch IS NULL THEN
		RAISE EXCEPTION 'pipeline and epoch of the sending region "%" must not be NULL', region
			USING ERRCODE = 'null_value_not_allowed',
				  HINT = 'The relay passes what tide.relay_acquire() gave it.';
	END IF;
	SELECT p.* INTO known FROM tide.inbox_peer p
		WHERE p.region = _inbox_check_peer.region AND p.pipeline = _inbox_check_peer.pipeline;
	IF NOT FOUND OR epoch > known.epoch OR known.last_seen < clock_timestamp() - interval '10 seconds' THEN
		INSERT INTO tide.inbox_peer AS p (region, pipeline, epoch)
			VALUES (_inbox_check_peer.region, _inbox_check_peer.pipeline, _inbox_check_peer.epoch)
			ON CONFLICT ON CONSTRAINT inbox_peer_pkey DO UPDATE
				SET epoch = greatest(p.epoch, excluded.epoch), last_seen = excluded.last_seen
			RETURNING p.* INTO known;
	END IF;
	IF epoch < known.epoch THEN
		RAISE EXCEPTION 'pipeline "%" of region "%" has a newer owner: epoch % was refused, % is current',
			pipeline, region, epoch, known.epoch
			USING ERRCODE = 'TD001',
				  HINT = 'Another relay has taken the pipeline over. This one must stop working on it.';
	END IF;
END;
$$;

/* The batch as rows, in order and without echoes of this region's own events (inbox.c). */
CREATE FUNCTION tide._inbox_batch(here text, ids text[], origins text[], outboxes text[], entities text[],
								  ops text[], keys text[], payloads jsonb[], headers jsonb[],
								  published_us int8[], committed_us int8[])
RETURNS TABLE (event_id text, origin text, outbox text, entity text, op text, key text, payload jsonb,
			   headers jsonb, published_at timestamptz, committed_at timestamptz)
LANGUAGE c IMMUTABLE ROWS 1000
AS 'MODULE_PATHNAME', 'tide_sql_inbox_batch';

/*
 * Stores one batch.  Array elements with the same index make up one event.
 * An id that is known already, from the table, the ledger or the same batch,
 * counts as a duplicate, whatever its payload: the first one stays.
 *
 * READ COMMITTED only: the second look into the ledger needs a newer snapshot.
 * The INSERT has no join and no sort, so seq follows the order of the arrays.
 */
CREATE FUNCTION tide.inbox_receive(inbox text, pipeline text, epoch bigint, source_region text,
								   ids text[], origins text[], outboxes text[], entities text[],
								   ops text[], keys text[], payloads jsonb[], headers jsonb[],
								   published_us int8[], committed_us int8[], "position" text,
								   OUT stored bigint, OUT duplicates bigint, OUT echoes bigint)
LANGUAGE c SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off	-- its plans are kept: one made while the ledger was empty must not scan it when it is full
SET enable_bitmapscan = off
SET jit = off
AS 'MODULE_PATHNAME', 'tide_sql_inbox_receive';

/*
 * Which of these ids the inbox never had.  Ids that were dead-lettered instead
 * of stored count as had: sending them again would help nobody.
 */
CREATE FUNCTION tide.inbox_missing(inbox text, ids text[]) RETURNS text[]
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	box tide.inbox := tide._inbox(inbox);
	missing text[];
BEGIN
	EXECUTE format($sql$
		SELECT array_agg(u.id) FROM unnest($1) u (id)
		WHERE (SELECT true FROM tide.%I t WHERE t.event_id = u.id) IS NULL
			AND (SELECT true FROM tide.%I l WHERE l.event_id = u.id) IS NULL
			AND NOT EXISTS (SELECT FROM tide.dead_letter d
							WHERE d.inbox = $2 AND d.event_id = u.id AND d.direction = 'inbox')
		$sql$, tide._inbox_relation(box.name), tide._inbox_ledger(box.id))
		INTO missing USING ids, box.name;
	RETURN coalesce(missing, '{}');
END;
$$;

/* ---- working on events (claim.c) ---- */

/*
 * These run with the caller's identity and check it themselves (SET ROLE is
 * respected): members of tide_admin and tide_relay, and roles that hold UPDATE
 * on the inbox's table, which is what inbox_grant() gives.
 */
CREATE FUNCTION tide.inbox_claim(inbox text, max_events int DEFAULT 100,
								 lease interval DEFAULT '30 seconds') RETURNS SETOF tide.inbox_event
LANGUAGE c
AS 'MODULE_PATHNAME', 'tide_sql_inbox_claim';

/* true: marked now; false: was processed before. */
CREATE FUNCTION tide.inbox_mark_processed(inbox text, event_id text) RETURNS boolean
LANGUAGE c
AS 'MODULE_PATHNAME', 'tide_sql_inbox_mark_processed';

/* true: recorded; false: the event was processed or given up before. */
/* The same for many events at once, in less time than one by one.  How many were marked now. */
CREATE FUNCTION tide.inbox_mark_processed(inbox text, event_ids text[]) RETURNS int
LANGUAGE c
AS 'MODULE_PATHNAME', 'tide_sql_inbox_mark_many';

CREATE FUNCTION tide.inbox_mark_failed(inbox text, event_id text, error text) RETURNS boolean
LANGUAGE c
AS 'MODULE_PATHNAME', 'tide_sql_inbox_mark_failed';

/* Gives a lease back as if the event had not been claimed.  true: it was leased. */
CREATE FUNCTION tide.inbox_release(inbox text, event_id text) RETURNS boolean
LANGUAGE c
AS 'MODULE_PATHNAME', 'tide_sql_inbox_release';

/*
 * Records that an attempt at an event failed: back-off, or the dead letters
 * once the attempts are used up.  An attempt that began with a lease was
 * counted then.  A transient failure (deadlock, disk full) never uses up the
 * last attempt: it says nothing about the event.
 * Returns 'retry', 'dead', 'done' (nothing to record) or NULL (no such event).
 */
CREATE FUNCTION tide._inbox_fail(inbox text, event text, error text, code text, is_transient boolean,
								 pipeline text) RETURNS text
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	box tide.inbox := tide._inbox(inbox);
	rel name := tide._inbox_relation(inbox);
	tried int;
	ev record;
	why text := left(coalesce(nullif(error, ''), 'no reason was given'), 8000);
BEGIN
	EXECUTE format('SELECT t.* FROM tide.%I t WHERE t.event_id = $1 FOR NO KEY UPDATE', rel)
		INTO ev USING event;
	IF ev.event_id IS NULL THEN
		RETURN NULL;
	ELSIF ev.processed_at IS NOT NULL OR ev.dead_at IS NOT NULL THEN
		RETURN 'done';
	END IF;
	tried := ev.attempts + CASE WHEN ev.lease_until IS NULL THEN 1 ELSE 0 END;
	IF is_transient THEN
		tried := least(tried, box.max_attempts - 1);
	END IF;
	EXECUTE format('UPDATE tide.%I t SET attempts = $2, last_error = $3, lease_until = NULL,
						next_attempt_at = CASE WHEN $2 < $4 THEN clock_timestamp() + $5 END,
						dead_at = CASE WHEN $2 < $4 THEN NULL ELSE clock_timestamp() END
					WHERE t.event_id = $1', rel)
		USING event, tried, why, box.max_attempts,
			  tide._backoff(tried, box.backoff_base, box.backoff_max);
	IF tried < box.max_attempts THEN
		RETURN 'retry';
	END IF;
	INSERT INTO tide.dead_letter (direction, pipeline, inbox, outbox, event_id, origin, entity, op, key,
								  payload, headers, code, error, attempts)
		VALUES (CASE WHEN pipeline IS NULL THEN 'worker' ELSE 'handler' END, pipeline, box.name,
				ev.outbox, ev.event_id, ev.origin, ev.entity, ev.op, ev.key, ev.payload, ev.headers,
				code, why, tried);
	RETURN 'dead';
END;
$$;

/* Doubles with every attempt up to the maximum; a random quarter is taken off, so that crowds disperse. */
CREATE FUNCTION tide._backoff(attempts int, base interval, maximum interval) RETURNS interval
LANGUAGE sql VOLATILE
RETURN least(maximum, base * pg_catalog.power(2, least(greatest(attempts - 1, 0), 30)))
	   * (1 - 0.25 * pg_catalog.random());

/* ---- seen from outside ---- */

CREATE FUNCTION tide.inbox_status(inbox text DEFAULT NULL)
RETURNS TABLE (name text, pending bigint, leased bigint, retrying bigint, dead bigint,
			   oldest_pending timestamptz, handler text, handler_role text, max_attempts int,
			   retention interval, ledger_retention interval)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	box tide.inbox;
BEGIN
	IF inbox IS NOT NULL THEN
		PERFORM tide._inbox(inbox);
	END IF;
	FOR box IN SELECT b.* FROM tide.inbox b
		WHERE inbox_status.inbox IS NULL OR b.name = inbox_status.inbox ORDER BY b.name
	LOOP
		EXECUTE format('SELECT count(*), count(*) FILTER (WHERE t.lease_until > clock_timestamp()),
							count(*) FILTER (WHERE t.next_attempt_at > clock_timestamp()),
							min(t.received_at)
						FROM tide.%I t WHERE t.processed_at IS NULL AND t.dead_at IS NULL',
					   tide._inbox_relation(box.name))
			INTO pending, leased, retrying, oldest_pending;
		SELECT count(*) INTO dead FROM tide.dead_letter d
			WHERE d.inbox = box.name AND d.resolved_at IS NULL;
		name := box.name;
		handler := box.handler;
		handler_role := box.handler_role;
		max_attempts := box.max_attempts;
		retention := box.retention;
		ledger_retention := box.ledger_retention;
		RETURN NEXT;
	END LOOP;
END;
$$;

/* When did the oldest event that still waits to be worked on arrive?  NULL: none waits. */
CREATE FUNCTION tide._inbox_oldest_pending(inbox text) RETURNS timestamptz
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	oldest timestamptz;
BEGIN
	EXECUTE format('SELECT t.received_at FROM tide.%I t
					WHERE t.processed_at IS NULL AND t.dead_at IS NULL ORDER BY t.seq LIMIT 1',
				   tide._inbox_relation(inbox)) INTO oldest;
	RETURN oldest;
END;
$$;

/* ---- pruning ---- */

/*
 * Removes processed rows past the retention (their ids go to the ledger by
 * trigger) and ledger entries past theirs, at most max_rows of each per inbox,
 * so that one call is short; the next call goes on.  Rows somebody has locked
 * are left for later.
 */
CREATE FUNCTION tide._maintain_inboxes(max_rows int DEFAULT 20000) RETURNS jsonb
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	box tide.inbox;
	n bigint;
	purged bigint := 0;
	forgotten bigint := 0;
BEGIN
	FOR box IN SELECT b.* FROM tide.inbox b ORDER BY b.id
	LOOP
		EXECUTE format('DELETE FROM tide.%1$I t WHERE t.event_id = ANY (ARRAY(
							SELECT o.event_id FROM tide.%1$I o
							WHERE o.processed_at < clock_timestamp() - $1
							ORDER BY o.processed_at LIMIT $2 FOR UPDATE SKIP LOCKED))',
					   tide._inbox_relation(box.name))
			USING box.retention, max_rows;
		GET DIAGNOSTICS n = ROW_COUNT;
		purged := purged + n;
		EXECUTE format('DELETE FROM tide.%1$I l WHERE l.event_id = ANY (ARRAY(
							SELECT o.event_id FROM tide.%1$I o
							WHERE o.removed_at < clock_timestamp() - $1
							ORDER BY o.removed_at LIMIT $2 FOR UPDATE SKIP LOCKED))',
					   tide._inbox_ledger(box.id))
			USING box.ledger_retention, max_rows;
		GET DIAGNOSTICS n = ROW_COUNT;
		forgotten := forgotten + n;
	END LOOP;
	RETURN jsonb_build_object('inbox_rows_purged', purged, 'ledger_ids_forgotten', forgotten);
END;
$$;

/* ---- rights: the last file takes everything from PUBLIC ---- */

GRANT EXECUTE ON FUNCTION
	tide.inbox_create(text, int, interval, interval),
	tide.inbox_alter(text, int, interval, interval, interval, interval),
	tide.inbox_drop(text),
	tide.inbox_grant(text, regrole),
	tide.inbox_revoke(text, regrole)
	TO tide_admin;
GRANT EXECUTE ON FUNCTION
	tide.inbox_claim(text, int, interval),
	tide.inbox_mark_processed(text, text),
	tide.inbox_mark_processed(text, text[]),
	tide.inbox_mark_failed(text, text, text),
	tide.inbox_release(text, text)
	TO tide_admin, tide_relay;
GRANT EXECUTE ON FUNCTION
	tide.inbox_receive(text, text, bigint, text, text[], text[], text[], text[], text[], text[],
					   jsonb[], jsonb[], int8[], int8[], text),
	tide.inbox_missing(text, text[])
	TO tide_relay;
GRANT EXECUTE ON FUNCTION tide.inbox_status(text) TO tide_admin, tide_relay, tide_reader;
GRANT SELECT ON tide.inbox, tide.inbox_peer TO tide_admin, tide_relay, tide_reader;
