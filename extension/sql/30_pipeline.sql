/*
 * 30_pipeline.sql
 *		Pipelines: what is configured, who owns it, how far it has come.
 *
 * Owns: tide.pipeline, the position log, the relay's side of ownership.
 * Does not own: what a position means (the relay's sources do).
 *
 * Ownership.  A relay owns a pipeline while one of its sessions holds the
 * advisory lock (1953064037, pipeline id); taking it raises the epoch, and
 * every function that works for a pipeline refuses an epoch that is not the
 * current one.  A statement of the previous owner that was already running
 * when the epoch rose may still commit.  It does no harm: events are
 * deduplicated by id, and a position counts only under the highest epoch.
 *
 * Positions are written for every batch, so they must not leave dead tuples
 * while somebody holds an old snapshot.  Hence a log: position_save() inserts,
 * the highest (epoch, n) of a pipeline counts.  There are two tables; a
 * sequence says which of them is written now.  _maintain_positions() turns the
 * sequence, and empties the other table after copying what counts.
 *   Safe, because
 *   - readers look into both tables, so it never matters which one a writer
 *     took; a writer that read the sequence just before it turned is fine;
 *   - copying and TRUNCATE are one transaction under ACCESS EXCLUSIVE lock on
 *     the emptied table: no writer is in the middle of it, and a crash undoes
 *     both or neither.  The lock is asked for with NOWAIT: nobody queues
 *     behind us, and if the table is busy the next call tries again;
 *   - a reader first locks both tables and then takes its snapshot.  With an
 *     older snapshot it would find one table truncated and not yet see the
 *     copy in the other;
 *   - the sequence is not transactional and may be set back by a crash; that
 *     only changes which table is written.
 * Positions are not dumped: transaction ids mean nothing in another cluster.
 * A restored database delivers what its outboxes still hold again, and the
 * inboxes drop what they know.
 */

CREATE SEQUENCE tide.pipeline_version;

CREATE TABLE tide.pipeline
(
	id				int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	name			text COLLATE "C" NOT NULL UNIQUE,	-- a handler's is 'handler:' and its inbox
	direction		text NOT NULL CHECK (direction IN ('outbox', 'inbox', 'handler', 'link', 'rows')),
	target			text COLLATE "C" NOT NULL,			-- name of the outbox, inbox or region
	config			jsonb NOT NULL,
	enabled			boolean NOT NULL DEFAULT true,
	version			bigint NOT NULL DEFAULT pg_catalog.nextval('tide.pipeline_version'),
	epoch			bigint NOT NULL DEFAULT 0,
	position_epoch	bigint NOT NULL DEFAULT 0,			-- positions of earlier epochs count no more
	owner			text,								-- what the last owner called itself
	state			text NOT NULL DEFAULT 'waiting',
	state_code		text,
	last_error		text,
	last_error_at	timestamptz,
	changed_at		timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),	-- of state
	created_at		timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	updated_at		timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()	-- of the configuration
) WITH (fillfactor = 50);

/* A restored database takes and publishes rows only when it is told so again: see 70_rows.sql. */
SELECT pg_catalog.pg_extension_config_dump('tide.pipeline', $$WHERE direction NOT IN ('link', 'rows')$$);
SELECT pg_catalog.pg_extension_config_dump('tide.pipeline_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('tide.pipeline_version', '');

/*
 * Relays look for changes several times a second; told of one, they look at once.  Only of what somebody
 * set up: a relay's own notes about its pipelines have no version.
 */
CREATE FUNCTION tide._pipelines_changed() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM pg_notify('tide_pipelines', '');
	RETURN NULL;
END;
$$;
CREATE TRIGGER changed AFTER INSERT OR DELETE OR UPDATE OF version ON tide.pipeline
	FOR EACH STATEMENT EXECUTE FUNCTION tide._pipelines_changed();

CREATE TABLE tide.position_0
(
	pipeline_id	int NOT NULL,
	epoch		bigint NOT NULL,
	n			bigint NOT NULL,
	sent		text COLLATE "C",
	confirmed	text COLLATE "C",
	at			timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	PRIMARY KEY (pipeline_id, epoch, n)
);
CREATE TABLE tide.position_1 (LIKE tide.position_0 INCLUDING ALL);
CREATE SEQUENCE tide.position_n;
CREATE SEQUENCE tide.position_turn MINVALUE 0 START 0;	-- even: position_0 is written

/* ---- configuration ---- */

/* Checks a configuration against common/tide_options.h; direction 'outbox' or 'inbox'.  See config.c. */
CREATE FUNCTION tide._check_config(direction text, config jsonb) RETURNS void
LANGUAGE c IMMUTABLE
AS 'MODULE_PATHNAME', 'tide_sql_check_config';

/* The pipeline's row, or an error that says what to do.  Users can't name a handler's. */
CREATE FUNCTION tide._pipeline(pipeline text) RETURNS tide.pipeline
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	pipe tide.pipeline;
BEGIN
	IF pipeline IS NULL THEN
		RAISE EXCEPTION 'the name of the pipeline must not be NULL'
			USING ERRCODE = 'null_value_not_allowed',
				  HINT = 'Pass the name given to tide.relay_set_outbox() or tide.relay_set_inbox().';
	END IF;
	SELECT p.* INTO pipe FROM tide.pipeline p WHERE p.name = _pipeline.pipeline;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'pipeline "%" does not exist', pipeline
			USING ERRCODE = 'undefined_object',
				  HINT = coalesce('Pipelines of this database: '
								  || (SELECT string_agg(p.name, ', ' ORDER BY p.name) FROM tide.pipeline p)
								  || '. ', '')
						 || 'tide.relay_set_outbox() and tide.relay_set_inbox() make new ones.';
	END IF;
	RETURN pipe;
END;
$$;

/*
 * Makes or replaces a pipeline.  Replacing keeps id and position, unless the
 * target changes: then the epoch rises, so that the position counts no more
 * and whoever works with the old target is refused.  Setting what is set
 * already changes nothing, so that no pipeline is disturbed.
 */
CREATE FUNCTION tide._pipeline_set(pipeline text, direction text, target text, config jsonb) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	pipe tide.pipeline;
BEGIN
	INSERT INTO tide.pipeline AS p (name, direction, target, config)
		VALUES (_pipeline_set.pipeline, _pipeline_set.direction, _pipeline_set.target, _pipeline_set.config)
		ON CONFLICT DO NOTHING;
	IF FOUND THEN
		RETURN;
	END IF;
	SELECT p.* INTO STRICT pipe FROM tide.pipeline p WHERE p.name = _pipeline_set.pipeline FOR UPDATE;
	IF pipe.direction <> direction THEN
		RAISE EXCEPTION 'pipeline "%" is an % pipeline and cannot become an % pipeline',
			pipeline, pipe.direction, direction
			USING ERRCODE = 'invalid_parameter_value',
				  HINT = format('Choose another name, or delete it first with SELECT tide.relay_delete(%L).',
								pipeline);
	END IF;
	IF pipe.target <> target THEN
		PERFORM tide._position_reset(pipe.id);
	END IF;
	UPDATE tide.pipeline p SET
		target = _pipeline_set.target,
		config = _pipeline_set.config,
		enabled = true,
		version = nextval('tide.pipeline_version'),
		updated_at = clock_timestamp()
		WHERE p.id = pipe.id
			AND (p.target, p.config, p.enabled)
				IS DISTINCT FROM (_pipeline_set.target, _pipeline_set.config, true);
END;
$$;

CREATE FUNCTION tide.relay_set_outbox(pipeline text, outbox text, config jsonb) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM tide._check_name('pipeline', pipeline);
	PERFORM tide._outbox(outbox);
	PERFORM tide._check_config('outbox', config);
	PERFORM tide._pipeline_set(pipeline, 'outbox', outbox, config);
END;
$$;

CREATE FUNCTION tide.relay_set_inbox(pipeline text, inbox text, config jsonb) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM tide._check_name('pipeline', pipeline);
	PERFORM tide._inbox(inbox);
	PERFORM tide._check_config('inbox', config);
	PERFORM tide._pipeline_set(pipeline, 'inbox', inbox, config);
END;
$$;

CREATE FUNCTION tide._pipeline_switch(pipeline text, enabled boolean) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	pipe tide.pipeline := tide._pipeline(pipeline);
BEGIN
	UPDATE tide.pipeline p SET
		enabled = _pipeline_switch.enabled,
		version = nextval('tide.pipeline_version'),
		updated_at = clock_timestamp()
		WHERE p.id = pipe.id AND p.enabled <> _pipeline_switch.enabled;
END;
$$;

CREATE FUNCTION tide.relay_enable(pipeline text) RETURNS void
LANGUAGE sql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$ SELECT tide._pipeline_switch(pipeline, true) $$;

CREATE FUNCTION tide.relay_disable(pipeline text) RETURNS void
LANGUAGE sql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$ SELECT tide._pipeline_switch(pipeline, false) $$;

/* Forgets a pipeline and its position.  Its dead letters stay. */
CREATE FUNCTION tide.relay_delete(pipeline text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	pipe tide.pipeline := tide._pipeline(pipeline);
BEGIN
	IF pipe.direction = 'handler' THEN
		RAISE EXCEPTION 'pipeline "%" belongs to the handler of inbox "%"', pipeline, pipe.target
			USING ERRCODE = 'dependent_objects_still_exist',
				  HINT = format('Take the handler away with SELECT tide.inbox_unset_handler(%L).', pipe.target);
	ELSIF pipe.direction = 'link' THEN
		RAISE EXCEPTION 'pipeline "%" belongs to the link from region "%"', pipeline, pipe.target
			USING ERRCODE = 'dependent_objects_still_exist',
				  HINT = format('Remove the link with SELECT tide.link_remove(%L).', pipe.target);
	ELSIF pipe.direction = 'rows' THEN
		RAISE EXCEPTION 'pipeline "%" publishes rows for other regions', pipeline
			USING ERRCODE = 'dependent_objects_still_exist',
				  HINT = 'It goes when the last of them removes its link; tide.rows_destination shows which there are.';
	END IF;
	DELETE FROM tide.pipeline p WHERE p.id = pipe.id;
END;
$$;

/* ---- the relay's side ---- */

/* Which session holds which pipeline.  Key of the lock: ('tide' as ASCII, pipeline id). */
CREATE FUNCTION tide._pipeline_holders() RETURNS TABLE (pipeline_id int, pid int)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT l.objid::int, l.pid
	FROM pg_locks l
	WHERE l.locktype = 'advisory' AND l.classid = 1953064037 AND l.objid > 0 AND l.objsubid = 2 AND l.granted
		AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
$$;

CREATE FUNCTION tide.relay_poll()
RETURNS TABLE (id int, name text, direction text, target text, config jsonb, enabled boolean, version bigint,
			   state text, holder_pid int, holder_idle_ms bigint)
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT p.id, p.name, p.direction, p.target, p.config, p.enabled, p.version, p.state, h.pid,
		CASE WHEN h.pid IS NULL THEN NULL
			 WHEN h.pid = pg_backend_pid() THEN 0
			 ELSE greatest(0, extract(epoch FROM clock_timestamp() - a.state_change) * 1000)::bigint END
	FROM tide.pipeline p
		LEFT JOIN tide._pipeline_holders() h ON h.pipeline_id = p.id
		LEFT JOIN pg_stat_activity a ON a.pid = h.pid
	ORDER BY p.id
$$;

/*
 * The lock belongs to the session, so it outlives this function and ends with
 * the relay's connection.  A session that holds it already (after a change of
 * target, say) gets a new epoch and no second lock.
 */
CREATE FUNCTION tide.relay_acquire(pipeline text, relay text) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	pipe tide.pipeline := tide._pipeline(pipeline);
	new_epoch bigint;
BEGIN
	IF NOT EXISTS (SELECT FROM tide._pipeline_holders() h
				   WHERE h.pipeline_id = pipe.id AND h.pid = pg_backend_pid())
		AND NOT pg_try_advisory_lock(1953064037, pipe.id)
	THEN
		RETURN NULL;
	END IF;
	UPDATE tide.pipeline p SET epoch = p.epoch + 1, owner = relay, state = 'starting', changed_at = clock_timestamp()
		WHERE p.id = pipe.id
		RETURNING p.epoch INTO new_epoch;
	RETURN new_epoch;
END;
$$;

CREATE FUNCTION tide.relay_release(pipeline text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	pipe_id int;
BEGIN
	SELECT p.id INTO pipe_id FROM tide.pipeline p WHERE p.name = relay_release.pipeline;
	RETURN coalesce((SELECT pg_advisory_unlock(1953064037, h.pipeline_id)
					 FROM tide._pipeline_holders() h
					 WHERE h.pipeline_id = pipe_id AND h.pid = pg_backend_pid()), false);
END;
$$;

/*
 * Ends the session that holds a pipeline and has been silent: its process was
 * stopped, or its connection is half dead.  Both facts are looked at again here, as
 * the caller's view of them is half a second old.
 */
CREATE FUNCTION tide.relay_evict(pipeline text, pid int) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	pipe tide.pipeline := tide._pipeline(pipeline);
BEGIN
	RETURN coalesce((SELECT pg_terminate_backend(h.pid, 500)
					 FROM tide._pipeline_holders() h JOIN pg_stat_activity a ON a.pid = h.pid
					 WHERE h.pipeline_id = pipe.id AND h.pid = relay_evict.pid AND h.pid <> pg_backend_pid()
						 AND a.state_change < clock_timestamp() - interval '1.5 seconds'), false);
END;
$$;

/* A stale owner is told so, with TD001; so is the owner of a pipeline that is gone. */
CREATE FUNCTION tide._check_epoch(pipeline text, epoch bigint) RETURNS int
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	pipe_id int;
	current_epoch bigint;
BEGIN
	SELECT p.id, p.epoch INTO pipe_id, current_epoch FROM tide.pipeline p WHERE p.name = _check_epoch.pipeline;
	IF current_epoch IS DISTINCT FROM epoch OR current_epoch IS NULL THEN
		RAISE EXCEPTION USING
			MESSAGE = CASE WHEN current_epoch IS NULL
				THEN format('pipeline "%s" does not exist any more', pipeline)
				ELSE format('pipeline "%s" has a newer owner: epoch %s was refused, %s is current',
							pipeline, coalesce(epoch::text, 'NULL'), current_epoch) END,
			ERRCODE = 'TD001',
			HINT = 'Another relay has taken the pipeline over, or it was changed. This one must stop working on it.';
	END IF;
	RETURN pipe_id;
END;
$$;

/*
 * Written on change only, so that a pipeline that runs well costs no write.  The same error again
 * refreshes its time at most every ten seconds.
 */
CREATE FUNCTION tide.relay_set_state(pipeline text, epoch bigint, state text, code text, error text)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	pipe_id int := tide._check_epoch(pipeline, epoch);
	failing boolean := code IS NOT NULL OR error IS NOT NULL;
BEGIN
	IF state IS NULL OR state NOT IN ('starting', 'running', 'retrying', 'failed', 'stopped') THEN
		RAISE EXCEPTION 'a pipeline has no state "%"', coalesce(state, 'NULL')
			USING ERRCODE = 'invalid_parameter_value',
				  HINT = 'States are starting, running, retrying, failed and stopped.';
	END IF;
	UPDATE tide.pipeline p SET
		state = relay_set_state.state,
		changed_at = CASE WHEN p.state <> relay_set_state.state THEN clock_timestamp() ELSE p.changed_at END,
		state_code = CASE WHEN failing THEN code ELSE p.state_code END,
		last_error = CASE WHEN failing THEN error ELSE p.last_error END,
		last_error_at = CASE WHEN failing THEN clock_timestamp() ELSE p.last_error_at END
		WHERE p.id = pipe_id
			AND (p.state <> relay_set_state.state
				 OR (failing AND ((p.state_code, p.last_error) IS DISTINCT FROM (code, error)
								  OR p.last_error_at < clock_timestamp() - interval '10 seconds')));
END;
$$;

/* ---- positions ---- */

/*
 * The position that counts, of each pipeline or of one.  Locks first, then
 * reads with a newer snapshot: see the head of this file.
 */
CREATE FUNCTION tide._positions(pipeline_id int DEFAULT NULL)
RETURNS TABLE (id int, sent text, confirmed text, at timestamptz)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	LOCK TABLE tide.position_0, tide.position_1 IN ACCESS SHARE MODE;
	RETURN QUERY
		SELECT p.id, last.sent, last.confirmed, last.at
		FROM tide.pipeline p
			CROSS JOIN LATERAL
			(
				SELECT both_logs.*
				FROM ((SELECT a.* FROM tide.position_0 a WHERE a.pipeline_id = p.id
					   ORDER BY a.epoch DESC, a.n DESC LIMIT 1)
					  UNION ALL
					  (SELECT b.* FROM tide.position_1 b WHERE b.pipeline_id = p.id
					   ORDER BY b.epoch DESC, b.n DESC LIMIT 1)) both_logs
				ORDER BY both_logs.epoch DESC, both_logs.n DESC
				LIMIT 1
			) last
		WHERE (p.id = _positions.pipeline_id OR _positions.pipeline_id IS NULL)
			AND last.epoch >= p.position_epoch;
END;
$$;

CREATE FUNCTION tide.position_get(pipeline text, OUT sent text, OUT confirmed text)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	pipe tide.pipeline := tide._pipeline(pipeline);
BEGIN
	SELECT p.sent, p.confirmed INTO sent, confirmed FROM tide._positions(pipe.id) p;
END;
$$;

/* Positions written so far count no more: the pipeline begins anew, and its present owner is refused. */
CREATE FUNCTION tide._position_reset(pipeline_id int) RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
	UPDATE tide.pipeline p SET epoch = p.epoch + 1, position_epoch = p.epoch + 1,
		version = nextval('tide.pipeline_version')
	WHERE p.id = pipeline_id
$$;

CREATE FUNCTION tide._position_write(pipeline text, epoch bigint, sent text, confirmed text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	pipe_id int := tide._check_epoch(pipeline, epoch);
	known record;
	turn bigint;
BEGIN
	IF sent IS NULL OR confirmed IS NULL THEN
		SELECT p.sent, p.confirmed INTO known FROM tide._positions(pipe_id) p;
		sent := coalesce(sent, known.sent);
		confirmed := coalesce(confirmed, known.confirmed);
	END IF;
	SELECT t.last_value INTO turn FROM tide.position_turn t;
	IF turn % 2 = 0 THEN
		INSERT INTO tide.position_0 (pipeline_id, epoch, n, sent, confirmed)
			VALUES (pipe_id, _position_write.epoch, nextval('tide.position_n'),
					_position_write.sent, _position_write.confirmed);
	ELSE
		INSERT INTO tide.position_1 (pipeline_id, epoch, n, sent, confirmed)
			VALUES (pipe_id, _position_write.epoch, nextval('tide.position_n'),
					_position_write.sent, _position_write.confirmed);
	END IF;
END;
$$;

CREATE FUNCTION tide.position_save(pipeline text, epoch bigint, sent text, confirmed text) RETURNS void
LANGUAGE sql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$ SELECT tide._position_write(pipeline, epoch, sent, confirmed) $$;

/*
 * Turns the log when the table being written has grown past max_bytes, and
 * empties the other one.  See the head of this file for why that is safe.
 */
CREATE FUNCTION tide._maintain_positions(max_bytes bigint DEFAULT 1048576) RETURNS jsonb
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	turn bigint;
	active text;
	resting text;
	turned boolean := false;
	emptied boolean := false;
BEGIN
	SELECT t.last_value INTO turn FROM tide.position_turn t;
	active := 'position_' || turn % 2;
	resting := 'position_' || (turn + 1) % 2;
	IF pg_relation_size(format('tide.%I', active)::regclass) > max_bytes
		AND pg_relation_size(format('tide.%I', resting)::regclass) = 0
	THEN
		PERFORM setval('tide.position_turn', turn + 1);
		turned := true;
		SELECT resting, active INTO active, resting;
	END IF;
	FOR attempt IN 1 .. 5
	LOOP
		EXIT WHEN pg_relation_size(format('tide.%I', resting)::regclass) = 0;
		BEGIN
			EXECUTE format('LOCK TABLE tide.%I IN ACCESS EXCLUSIVE MODE NOWAIT', resting);
			EXECUTE format($sql$
				INSERT INTO tide.%1$I (pipeline_id, epoch, n, sent, confirmed, at)
				SELECT last.pipeline_id, last.epoch, last.n, last.sent, last.confirmed, last.at
				FROM tide.pipeline p
					CROSS JOIN LATERAL (SELECT r.* FROM tide.%2$I r WHERE r.pipeline_id = p.id
										ORDER BY r.epoch DESC, r.n DESC LIMIT 1) last
				$sql$, active, resting);
			EXECUTE format('TRUNCATE tide.%I', resting);
			emptied := true;
		EXCEPTION WHEN lock_not_available THEN
			PERFORM pg_sleep(0.005);	/* somebody reads or writes it just now */
		END;
	END LOOP;
	RETURN jsonb_build_object('positions_turned', turned, 'positions_emptied', emptied);
END;
$$;

/* ---- rights ---- */

GRANT EXECUTE ON FUNCTION
	tide.relay_set_outbox(text, text, jsonb),
	tide.relay_set_inbox(text, text, jsonb),
	tide.relay_enable(text),
	tide.relay_disable(text),
	tide.relay_delete(text)
	TO tide_admin;
GRANT EXECUTE ON FUNCTION
	tide.relay_poll(),
	tide.relay_acquire(text, text),
	tide.relay_release(text),
	tide.relay_evict(text, int),
	tide.relay_set_state(text, bigint, text, text, text),
	tide.position_get(text),
	tide.position_save(text, bigint, text, text)
	TO tide_relay;
GRANT SELECT ON tide.pipeline TO tide_admin, tide_relay, tide_reader;
