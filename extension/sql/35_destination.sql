/*
 * 35_destination.sql
 *		Which regions confirm a pipeline's events.
 *
 * Owns: the list of regions that ever answered "I have committed these" for an
 * outbox pipeline that goes through a broker.  Does not own: asking (the
 * relay), or positions.
 *
 * An event counts as confirmed when every region of the list has it.  The list
 * is kept here because a relay forgets: one that restarts while a region is
 * away must still wait for that region.  A region that is gone for good is
 * taken off with tide.relay_forget_destination().
 */

CREATE TABLE tide.pipeline_destination
(
	pipeline_id		int NOT NULL REFERENCES tide.pipeline ON DELETE CASCADE,
	region			text COLLATE "C" NOT NULL,
	first_answer_at	timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	PRIMARY KEY (pipeline_id, region)
);

CREATE VIEW tide.destinations AS
	SELECT p.name AS pipeline, d.region, d.first_answer_at
	FROM tide.pipeline_destination d JOIN tide.pipeline p ON p.id = d.pipeline_id;
COMMENT ON VIEW tide.destinations IS 'regions that confirm what a pipeline sends through a broker';

CREATE FUNCTION tide.relay_destinations(pipeline text) RETURNS SETOF text
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT d.region FROM tide.destinations d WHERE d.pipeline = relay_destinations.pipeline ORDER BY 1;
$$;

CREATE FUNCTION tide.relay_add_destination(pipeline text, epoch bigint, region text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	INSERT INTO tide.pipeline_destination (pipeline_id, region)
		VALUES (tide._check_epoch(pipeline, epoch), region)
		ON CONFLICT DO NOTHING;
END;
$$;

/* The pipeline's version rises, so that a running relay reads the list again. */
CREATE FUNCTION tide.relay_forget_destination(pipeline text, region text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	pipe tide.pipeline := tide._pipeline(pipeline);
BEGIN
	DELETE FROM tide.pipeline_destination d
		WHERE d.pipeline_id = pipe.id AND d.region = relay_forget_destination.region;
	IF NOT FOUND THEN
		RETURN false;
	END IF;
	UPDATE tide.pipeline p SET version = nextval('tide.pipeline_version') WHERE p.id = pipe.id;
	RETURN true;
END;
$$;
COMMENT ON FUNCTION tide.relay_forget_destination(text, text) IS
	'stops waiting for a region that is gone for good; false: it was not waited for';

/*
 * What keeps a pipeline's accepted events until destinations have them: a
 * stream, and when it was created.  Called with another name than the one
 * remembered, relay_store() answers with that one and remembers nothing yet:
 * the relay goes back to what is confirmed and calls again, which settles it.
 * So a relay that dies in between finds the same answer.
 */
CREATE TABLE tide.pipeline_store
(
	pipeline_id	int PRIMARY KEY REFERENCES tide.pipeline ON DELETE CASCADE,
	store		text NOT NULL,
	pending		text			-- the new one that was answered about
);

CREATE FUNCTION tide.relay_store(pipeline text, epoch bigint, store text) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	pipe_id int := tide._check_epoch(pipeline, epoch);
	known tide.pipeline_store;
BEGIN
	SELECT s.* INTO known FROM tide.pipeline_store s WHERE s.pipeline_id = pipe_id;
	IF known.store = relay_store.store THEN
		RETURN NULL;
	END IF;
	IF known.store IS NULL OR known.pending = relay_store.store || ' ' || epoch THEN
		INSERT INTO tide.pipeline_store AS s (pipeline_id, store) VALUES (pipe_id, relay_store.store)
			ON CONFLICT (pipeline_id) DO UPDATE SET store = excluded.store, pending = NULL;
		RETURN NULL;
	END IF;
	UPDATE tide.pipeline_store s SET pending = relay_store.store || ' ' || relay_store.epoch
		WHERE s.pipeline_id = pipe_id;
	RETURN known.store;
END;
$$;

GRANT EXECUTE ON FUNCTION tide.relay_store(text, bigint, text) TO tide_relay;
GRANT EXECUTE ON FUNCTION tide.relay_destinations(text), tide.relay_add_destination(text, bigint, text) TO tide_relay;
GRANT EXECUTE ON FUNCTION tide.relay_forget_destination(text, text) TO tide_admin;
GRANT SELECT ON tide.destinations TO tide_admin, tide_relay, tide_reader;
