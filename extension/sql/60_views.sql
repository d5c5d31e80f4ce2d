/*
 * 60_views.sql
 *		What a person looks at, and the call that keeps house.
 *
 * Owns: tide.pipelines, tide.maintain().
 */

/* How late a pipeline is: the age of the oldest event it has not delivered; NULL where that is not known here. */
CREATE FUNCTION tide._pipeline_lag(direction text, target text, sent text) RETURNS interval
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	oldest timestamptz;
BEGIN
	IF direction NOT IN ('outbox', 'handler') THEN
		RETURN NULL;
	ELSIF direction = 'outbox' THEN
		oldest := tide._outbox_oldest_unsent(target, sent);
	ELSE
		oldest := tide._inbox_oldest_pending(target);
	END IF;
	RETURN coalesce(greatest(clock_timestamp() - oldest, interval '0'), interval '0');
EXCEPTION WHEN OTHERS THEN
	RETURN NULL;	/* the view must show the other pipelines whatever is wrong with this one */
END;
$$;

/* All but links, which tide.links shows.  Runs as the extension's owner, as readers may not look into other sessions. */
CREATE FUNCTION tide._pipelines()
RETURNS TABLE (name text, direction text, target text, enabled boolean, state text, owner text, owner_pid int,
			   epoch bigint, lag interval, last_error text, last_error_code text, last_error_at timestamptz,
			   sent text, confirmed text, position_at timestamptz, config jsonb, changed_at timestamptz)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN QUERY
		SELECT p.name, p.direction, p.target, p.enabled,
			CASE WHEN NOT p.enabled THEN 'disabled' WHEN h.pid IS NULL THEN 'waiting' ELSE p.state END,
			CASE WHEN h.pid IS NOT NULL THEN coalesce(p.owner, a.application_name) END, h.pid,
			p.epoch, tide._pipeline_lag(p.direction, p.target, s.sent),
			p.last_error, p.state_code, p.last_error_at, s.sent, s.confirmed, s.at, p.config, p.changed_at
		FROM tide.pipeline p
			LEFT JOIN tide._pipeline_holders() h ON h.pipeline_id = p.id
			LEFT JOIN pg_stat_activity a ON a.pid = h.pid
			LEFT JOIN tide._positions() s ON s.id = p.id
		WHERE p.direction <> 'link'
		ORDER BY p.name;
END;
$$;

CREATE VIEW tide.pipelines AS
	SELECT p.name, p.direction, p.target, p.enabled, p.state, p.owner, p.owner_pid, p.epoch, p.lag, p.last_error,
		p.last_error_code, p.last_error_at, p.sent, p.confirmed, p.position_at, p.config, p.changed_at
	FROM tide._pipelines() p;

/*
 * Keeps house.  Every relay calls it now and then; one session at a time
 * works, the others return at once with {"busy": true}.  A part that fails is
 * reported and does not keep the others from their work.  Exclusive locks are
 * taken last, as they last until the end of the transaction.  Whatever somebody
 * else has locked is left for the next time: waiting for it, with what is locked
 * here, could end in a deadlock, and the other one might be the victim.
 */
CREATE FUNCTION tide.maintain() RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '100ms'
AS $$
DECLARE
	part text;
	outcome jsonb;
	result jsonb := '{}';
BEGIN
	IF NOT pg_try_advisory_xact_lock(1953064037, 0) THEN
		RETURN jsonb_build_object('busy', true);
	END IF;
	FOREACH part IN ARRAY ARRAY['inboxes', 'dead_letters', 'rows', 'wal', 'audit', 'outboxes', 'positions']
	LOOP
		BEGIN
			EXECUTE format('SELECT tide.%I()', '_maintain_' || part) INTO outcome;
			result := result || coalesce(outcome, '{}');
		EXCEPTION WHEN OTHERS THEN
			result := jsonb_set(result, '{errors}', coalesce(result -> 'errors', '[]')
								|| to_jsonb(format('%s: %s (%s)', part, sqlerrm, sqlstate)));
		END;
	END LOOP;
	RETURN result;
END;
$$;

/* ---- rights ---- */

GRANT EXECUTE ON FUNCTION tide.maintain() TO tide_admin, tide_relay;
GRANT EXECUTE ON FUNCTION tide._pipelines() TO tide_admin, tide_relay, tide_reader;
GRANT SELECT ON tide.pipelines TO tide_admin, tide_relay, tide_reader;
