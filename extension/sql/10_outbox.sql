-- 10_outbox.sql: outboxes: creating, publishing, reading by windows, retention.
--
-- An outbox is three segment tables written in turn.  Rows are only ever
-- inserted; what is confirmed and older than the retention goes by TRUNCATE of
-- a whole segment.  So there are no dead tuples, whatever snapshot is held.

CREATE TABLE tide.outbox (
	-- outbox_cache.c reads the first five columns by position
	id			int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	name		text COLLATE "C" NOT NULL UNIQUE,
	segment		int NOT NULL DEFAULT 0 CHECK (segment BETWEEN 0 AND 2),
	enabled		boolean NOT NULL DEFAULT true,
	system_identifier bigint NOT NULL DEFAULT tide._system_identifier(),
	retention	interval NOT NULL CHECK (retention >= '0'),
	opened_at	timestamptz NOT NULL DEFAULT now(),	-- when the current segment began to be written
	closed_at	timestamptz[] NOT NULL DEFAULT ARRAY[NULL, NULL, NULL]::timestamptz[],
	created_at	timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE tide.outbox IS 'outboxes; their events are in tide.outbox_<id>_<0..2>, shown by the view tide.<name>_outbox';
COMMENT ON COLUMN tide.outbox.segment IS 'the segment being written';
COMMENT ON COLUMN tide.outbox.closed_at IS 'per segment (array index 1..3): when it was last written; null: empty or being written';
COMMENT ON COLUMN tide.outbox.system_identifier IS 'cluster in which its transaction ids have a meaning';

CREATE FUNCTION tide._outbox_changed() RETURNS trigger
	LANGUAGE c AS 'MODULE_PATHNAME', 'tide_sql_outbox_changed';
CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE ON tide.outbox
	FOR EACH STATEMENT EXECUTE FUNCTION tide._outbox_changed();
CREATE TRIGGER emptied AFTER TRUNCATE ON tide.outbox
	FOR EACH STATEMENT EXECUTE FUNCTION tide._outbox_changed();

CREATE FUNCTION tide._outbox(name text) RETURNS tide.outbox
	STABLE
	LANGUAGE plpgsql
	SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	found tide.outbox;
BEGIN
	IF name IS NULL THEN
		RAISE null_value_not_allowed USING
			MESSAGE = 'the name of the outbox must not be NULL',
			HINT = 'Pass the name given to tide.outbox_create().';
	END IF;
	SELECT * INTO found FROM tide.outbox o WHERE o.name = _outbox.name;
	IF found.id IS NULL THEN
		RAISE undefined_object USING
			MESSAGE = format('outbox "%s" does not exist', name),
			HINT = coalesce('Outboxes of this database: '
							|| (SELECT string_agg(o.name, ', ' ORDER BY o.name) FROM tide.outbox o)
							|| '. ', '')
				   || 'SELECT tide.outbox_create(''name'') makes a new one.';
	END IF;
	RETURN found;
END
$$;

-- The view on its events.  A name that leaves no room for the suffix is not cut: the view could then have
-- the name of another outbox's, or of the relation of an inbox.  outbox_cache.c knows this rule, too.
CREATE FUNCTION tide._outbox_view(outbox text, id int) RETURNS name
	IMMUTABLE PARALLEL SAFE
	LANGUAGE sql
	SET search_path = pg_catalog, pg_temp
	AS $$
	SELECT CASE WHEN octet_length(outbox) <= 63 - octet_length('_outbox') THEN outbox || '_outbox'
				ELSE format('outbox_%s_events', id) END::name
$$;

CREATE FUNCTION tide._segment_create(outbox_id int, n int) RETURNS void
	LANGUAGE plpgsql
	SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	segment text := format('outbox_%s_%s', outbox_id, n);
BEGIN
	-- Columns in the order of the enum in pg_tide.h: fixed width first, no padding.
	EXECUTE format('CREATE TABLE tide.%I (
			seq bigint NOT NULL,
			xid xid8 NOT NULL,
			published_at timestamptz NOT NULL,
			event_id uuid NOT NULL,
			tick_xmax xid8,
			entity text NOT NULL,
			op text NOT NULL,
			key text,
			payload jsonb NOT NULL,
			headers jsonb NOT NULL,
			tick text
		) WITH (autovacuum_vacuum_insert_threshold = -1)', segment);
	EXECUTE format('CREATE INDEX %I ON tide.%I (xid)', segment || '_xid_idx', segment);
	EXECUTE format('CREATE INDEX %I ON tide.%I (tick_xmax) WHERE tick_xmax IS NOT NULL',
				   segment || '_tick_idx', segment);
END
$$;

CREATE FUNCTION tide._check_retention(outbox text, retention interval) RETURNS void
	IMMUTABLE
	LANGUAGE plpgsql
	SET search_path = pg_catalog, pg_temp
	AS $$
BEGIN
	IF retention IS NULL OR retention < interval '0' THEN
		RAISE invalid_parameter_value USING
			MESSAGE = format('retention of outbox "%s" must be an interval of zero or more', outbox),
			HINT = 'For example ''24 hours''.';
	END IF;
END
$$;

CREATE FUNCTION tide.outbox_create(name text, retention interval DEFAULT '24 hours') RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	new_id int;
	view_name name;
BEGIN
	PERFORM tide._check_name('outbox', name);
	PERFORM tide._check_retention(name, retention);
	INSERT INTO tide.outbox (name, retention) VALUES (outbox_create.name, outbox_create.retention)
		ON CONFLICT DO NOTHING RETURNING id INTO new_id;
	IF new_id IS NULL THEN
		RAISE duplicate_object USING
			MESSAGE = format('outbox "%s" already exists', name),
			HINT = 'Change its retention with tide.outbox_set_retention(), or drop it with tide.outbox_drop().';
	END IF;
	view_name := tide._outbox_view(name, new_id);
	IF to_regclass(format('tide.%I', view_name)) IS NOT NULL THEN
		RAISE duplicate_table USING
			MESSAGE = format('relation "tide.%s" already exists, so outbox "%s" can''t be created',
							 view_name, name),
			HINT = 'Choose another name.';
	END IF;

	EXECUTE format('CREATE SEQUENCE tide.%I CACHE 1', format('outbox_%s_seq', new_id));
	PERFORM tide._segment_create(new_id, n) FROM generate_series(0, 2) n;
	EXECUTE format(
		'CREATE VIEW tide.%I AS SELECT event_id::text AS event_id, published_at, entity, op, key, payload, headers, seq, xid FROM (%s) s',
		view_name,
		(SELECT string_agg(format('SELECT * FROM tide.%I', format('outbox_%s_%s', new_id, n)), ' UNION ALL ')
		   FROM generate_series(0, 2) n));
	-- The view's privileges are the outbox's: INSERT may publish, SELECT may read.
	EXECUTE format('GRANT INSERT ON tide.%I TO tide_publisher', view_name);
	EXECUTE format('GRANT SELECT ON tide.%I TO tide_relay, tide_reader', view_name);
	EXECUTE format('GRANT SELECT, INSERT ON tide.%I TO tide_admin', view_name);
END
$$;
COMMENT ON FUNCTION tide.outbox_create(text, interval) IS
	'creates an outbox; events are kept for at least the retention and until they are delivered';

CREATE FUNCTION tide.outbox_drop(name text, if_exists boolean DEFAULT false) RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	box tide.outbox;
	users text;
BEGIN
	IF if_exists AND NOT EXISTS (SELECT FROM tide.outbox o WHERE o.name = outbox_drop.name) THEN
		RETURN;
	END IF;
	box := tide._outbox(name);
	SELECT string_agg(quote_ident(p.name), ', ' ORDER BY p.name) INTO users
	  FROM tide.pipeline p WHERE p.direction = 'outbox' AND p.target = box.name;
	IF users IS NOT NULL THEN
		RAISE dependent_objects_still_exist USING
			MESSAGE = format('outbox "%s" is used by pipeline %s', name, users),
			HINT = 'Delete the pipeline first with tide.relay_delete().';
	END IF;
	EXECUTE format('DROP VIEW tide.%I', tide._outbox_view(box.name, box.id));
	FOR n IN 0..2 LOOP
		EXECUTE format('DROP TABLE tide.%I', format('outbox_%s_%s', box.id, n));
	END LOOP;
	EXECUTE format('DROP SEQUENCE tide.%I', format('outbox_%s_seq', box.id));
	DELETE FROM tide.outbox o WHERE o.id = box.id;
END
$$;
COMMENT ON FUNCTION tide.outbox_drop(text, boolean) IS 'drops an outbox with all its events';

CREATE FUNCTION tide._outbox_set_enabled(name text, enabled boolean) RETURNS void
	LANGUAGE plpgsql
	SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	box tide.outbox := tide._outbox(name);
BEGIN
	UPDATE tide.outbox o SET enabled = _outbox_set_enabled.enabled WHERE o.id = box.id;
END
$$;

CREATE FUNCTION tide.outbox_enable(name text) RETURNS void
	LANGUAGE sql SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
	AS $$ SELECT tide._outbox_set_enabled(name, true) $$;

CREATE FUNCTION tide.outbox_disable(name text) RETURNS void
	LANGUAGE sql SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
	AS $$ SELECT tide._outbox_set_enabled(name, false) $$;
COMMENT ON FUNCTION tide.outbox_disable(text) IS 'makes publishing to the outbox an error; what it holds is still delivered';

CREATE FUNCTION tide.outbox_set_retention(name text, retention interval) RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	box tide.outbox := tide._outbox(name);
BEGIN
	PERFORM tide._check_retention(name, retention);
	UPDATE tide.outbox o SET retention = outbox_set_retention.retention WHERE o.id = box.id;
END
$$;

-- ---- who may publish ----

CREATE FUNCTION tide.outbox_grant_publish(outbox text, role regrole) RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	box tide.outbox := tide._outbox(outbox);
BEGIN
	PERFORM tide._check_role(role);
	EXECUTE format('GRANT INSERT ON tide.%I TO %s', tide._outbox_view(box.name, box.id), role);
	EXECUTE format('GRANT USAGE ON SCHEMA tide TO %s', role);
	EXECUTE format('GRANT EXECUTE ON FUNCTION tide.outbox_publish(text, text, jsonb, jsonb, text, text), '
				   'tide.outbox_publish(text, jsonb, jsonb) TO %s', role);
END
$$;
COMMENT ON FUNCTION tide.outbox_grant_publish(text, regrole) IS 'lets a role publish to this outbox only; members of tide_publisher may publish to all';

CREATE FUNCTION tide.outbox_revoke_publish(outbox text, role regrole) RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	box tide.outbox := tide._outbox(outbox);
BEGIN
	PERFORM tide._check_role(role);
	EXECUTE format('REVOKE INSERT ON tide.%I FROM %s', tide._outbox_view(box.name, box.id), role);
END
$$;

-- ---- publishing (outbox.c) ----

CREATE FUNCTION tide.outbox_publish(outbox text, entity text, payload jsonb,
									headers jsonb DEFAULT '{}', key text DEFAULT NULL,
									op text DEFAULT 'insert') RETURNS text
	VOLATILE PARALLEL UNSAFE
	LANGUAGE c AS 'MODULE_PATHNAME', 'tide_sql_outbox_publish';
COMMENT ON FUNCTION tide.outbox_publish(text, text, jsonb, jsonb, text, text) IS
	'publishes an event in the current transaction and returns its id';

CREATE FUNCTION tide.outbox_publish(outbox text, payload jsonb, headers jsonb) RETURNS text
	VOLATILE PARALLEL UNSAFE
	LANGUAGE c AS 'MODULE_PATHNAME', 'tide_sql_outbox_publish_jsonb';
COMMENT ON FUNCTION tide.outbox_publish(text, jsonb, jsonb) IS
	'older call form: publishes an event whose entity is the outbox''s name';

-- ---- reading (window.c) ----

CREATE FUNCTION tide.outbox_fetch(pipeline text, epoch bigint, outbox text, from_snapshot text,
								  to_snapshot text, after_seq bigint, max_events int, max_bytes int,
								  OUT seq bigint, OUT event_id text, OUT published_us bigint,
								  OUT committed_us bigint, OUT entity text, OUT op text, OUT key text,
								  OUT payload text, OUT headers text, OUT window_end text,
								  OUT more boolean, OUT generation bigint)
	RETURNS SETOF record
	VOLATILE PARALLEL UNSAFE ROWS 1000
	LANGUAGE c AS 'MODULE_PATHNAME', 'tide_sql_outbox_fetch';
COMMENT ON FUNCTION tide.outbox_fetch(text, bigint, text, text, text, bigint, int, int) IS
	'events that became visible after from_snapshot, in order, and a last row with the position reached';

CREATE FUNCTION tide.outbox_unconfirmed(outbox text, confirmed text, sent text, to_snapshot text,
										after_seq bigint, max_events int,
										OUT event_id text, OUT seq bigint, OUT window_end text,
										OUT more boolean)
	RETURNS SETOF record
	VOLATILE PARALLEL UNSAFE ROWS 1000
	LANGUAGE c AS 'MODULE_PATHNAME', 'tide_sql_outbox_unconfirmed';
COMMENT ON FUNCTION tide.outbox_unconfirmed(text, text, text, text, bigint, int) IS
	'ids of events that were sent and are not confirmed yet, oldest window first';

CREATE FUNCTION tide._outbox_oldest_unsent(outbox text, sent_snapshot text) RETURNS timestamptz
	STABLE
	LANGUAGE c AS 'MODULE_PATHNAME', 'tide_sql_outbox_oldest_unsent';

-- Appends an event again under the id it had: a dead letter that is retried.
CREATE FUNCTION tide._outbox_republish(outbox text, event_id text, published_us bigint, entity text,
									   op text, key text, payload jsonb, headers jsonb) RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	box tide.outbox := tide._outbox(outbox);
BEGIN
	EXECUTE format('INSERT INTO tide.%I (seq, xid, published_at, event_id, entity, op, key, payload, headers)
			VALUES (nextval(%L), pg_current_xact_id(), to_timestamp($1 / 1000000.0), $2::uuid, $3, $4, $5, $6, $7)',
			format('outbox_%s_%s', box.id, box.segment), format('tide.outbox_%s_seq', box.id))
		USING published_us, event_id, entity, op, key, payload, headers;
	PERFORM tide._wake('outbox', box.name);
END
$$;

-- ---- retention ----

-- Has every pipeline of the outbox been through everything in the segment?
-- "confirmed" is what destinations said they committed; NULL: none ever said
-- anything, then what the broker accepted has to do.
CREATE FUNCTION tide._segment_delivered(outbox_name text, segment regclass) RETURNS boolean
	LANGUAGE plpgsql
	SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	pipeline record;
	done pg_snapshot;
	behind boolean;
BEGIN
	FOR pipeline IN SELECT p.name FROM tide.pipeline p WHERE p.direction = 'outbox' AND p.target = outbox_name LOOP
		SELECT coalesce(g.confirmed, g.sent)::pg_snapshot INTO done FROM tide.position_get(pipeline.name) g;
		IF done IS NULL THEN
			EXECUTE format('SELECT EXISTS (SELECT FROM %s)', segment) INTO behind;
		ELSE
			EXECUTE format('SELECT EXISTS (SELECT FROM %1$s WHERE xid >= $1)
								OR EXISTS (SELECT FROM %1$s WHERE xid = ANY ($2))', segment)
				INTO behind
				USING pg_snapshot_xmax(done), ARRAY(SELECT pg_snapshot_xip(done));
		END IF;
		IF behind THEN
			RETURN false;
		END IF;
	END LOOP;
	RETURN true;
END
$$;

-- Empties one closed segment if nobody needs it.  The exclusive lock means that
-- no transaction that wrote to it is still open: what we see in it is all there is.
-- The first look is without the lock, so that a segment that must stay is not
-- locked until the end of this transaction for nothing.
CREATE FUNCTION tide._segment_truncate(box tide.outbox, n int) RETURNS boolean
	LANGUAGE plpgsql
	SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	segment regclass := format('tide.outbox_%s_%s', box.id, n);
BEGIN
	IF NOT tide._segment_delivered(box.name, segment) THEN
		RETURN false;
	END IF;
	EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE NOWAIT', segment);
	IF NOT tide._segment_delivered(box.name, segment) THEN
		RETURN false;
	END IF;
	EXECUTE format('TRUNCATE %s', segment);
	UPDATE tide.outbox o SET closed_at[n + 1] = NULL WHERE o.id = box.id;
	RETURN true;
EXCEPTION WHEN lock_not_available THEN
	RETURN false;				-- somebody reads or writes it: next time
END
$$;

-- Writes go to the next segment, if it is empty, every half retention: so an
-- event is kept for at least the retention and at most one and a half.
CREATE FUNCTION tide._outbox_rotate(box tide.outbox) RETURNS boolean
	LANGUAGE plpgsql
	SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	following int := (box.segment + 1) % 3;
	used boolean;
BEGIN
	EXECUTE format('SELECT EXISTS (SELECT FROM tide.%I)', format('outbox_%s_%s', box.id, box.segment)) INTO used;
	IF NOT used OR box.closed_at[following + 1] IS NOT NULL THEN
		RETURN false;
	END IF;
	UPDATE tide.outbox o
	   SET segment = following, opened_at = clock_timestamp(), closed_at[box.segment + 1] = clock_timestamp()
	 WHERE o.id = box.id AND o.segment = box.segment;
	RETURN true;
END
$$;

CREATE FUNCTION tide._maintain_outboxes() RETURNS jsonb
	LANGUAGE plpgsql SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	box tide.outbox;
	truncated int := 0;
	rotated int := 0;
BEGIN
	-- A snapshot older than the lock on a segment would not show all that is in it.
	IF current_setting('transaction_isolation') <> 'read committed' THEN
		RAISE invalid_transaction_state USING
			MESSAGE = 'outboxes can only be maintained in a read committed transaction',
			HINT = 'SET TRANSACTION ISOLATION LEVEL READ COMMITTED, or call it by itself.';
	END IF;
	-- Transaction ids of a restored outbox say nothing about what is delivered, until outbox_rebase().
	FOR box IN SELECT * FROM tide.outbox WHERE system_identifier = tide._system_identifier() ORDER BY id LOOP
		FOR n IN 0..2 LOOP
			IF n <> box.segment AND box.closed_at[n + 1] + box.retention < clock_timestamp()
				AND tide._segment_truncate(box, n) THEN
				truncated := truncated + 1;
				box.closed_at[n + 1] := NULL;
			END IF;
		END LOOP;
		IF box.opened_at + box.retention / 2 < clock_timestamp() AND tide._outbox_rotate(box) THEN
			rotated := rotated + 1;
		END IF;
	END LOOP;
	RETURN jsonb_build_object('segments_truncated', truncated, 'outboxes_rotated', rotated);
END
$$;

-- After a restore from a dump, or to an earlier state, transaction ids of the
-- stored events mean nothing here.  They get the current one, and every
-- pipeline starts over; inboxes drop what they already have.
CREATE FUNCTION tide.outbox_rebase(name text) RETURNS bigint
	LANGUAGE plpgsql SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	box tide.outbox := tide._outbox(name);
	total bigint := 0;
	n_rows bigint;
BEGIN
	FOR n IN 0..2 LOOP
		EXECUTE format('UPDATE tide.%I SET xid = pg_current_xact_id(), tick_xmax = NULL, tick = NULL',
					   format('outbox_%s_%s', box.id, n));
		GET DIAGNOSTICS n_rows = ROW_COUNT;
		total := total + n_rows;
	END LOOP;
	UPDATE tide.outbox o SET system_identifier = tide._system_identifier() WHERE o.id = box.id;
	PERFORM tide._position_reset(p.id) FROM tide.pipeline p
	  WHERE p.direction = 'outbox' AND p.target = box.name;
	PERFORM tide._wake('outbox', box.name);
	RETURN total;
END
$$;
COMMENT ON FUNCTION tide.outbox_rebase(text) IS
	'after a restore: makes everything the outbox still holds be sent again, and returns how much that is';

CREATE FUNCTION tide.outbox_status(name text) RETURNS jsonb
	STABLE SECURITY DEFINER
	LANGUAGE plpgsql
	SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	box tide.outbox := tide._outbox(name);
BEGIN
	RETURN jsonb_build_object(
		'outbox', box.name,
		'enabled', box.enabled,
		'retention', box.retention,
		'bytes', (SELECT sum(pg_total_relation_size(format('tide.outbox_%s_%s', box.id, n)::regclass))
					FROM generate_series(0, 2) n),
		'segments', (SELECT jsonb_agg(jsonb_build_object(
						'table', format('tide.outbox_%s_%s', box.id, n),
						'current', n = box.segment,
						'bytes', pg_total_relation_size(format('tide.outbox_%s_%s', box.id, n)::regclass),
						'closed_at', box.closed_at[n + 1]) ORDER BY n)
					FROM generate_series(0, 2) n),
		'pipelines', (SELECT coalesce(jsonb_agg(p.name ORDER BY p.name), '[]') FROM tide.pipeline p
					  WHERE p.direction = 'outbox' AND p.target = box.name));
END
$$;

SELECT pg_catalog.pg_extension_config_dump('tide.outbox', '');
SELECT pg_catalog.pg_extension_config_dump(pg_catalog.pg_get_serial_sequence('tide.outbox', 'id')::pg_catalog.regclass, '');
