/*
 * 40_dead_letter.sql
 *		Dead letters: events that could not be delivered, each with its reason.
 *
 * Owns: tide.dead_letter, redelivery, discarding.  Does not own: the decision
 * that an event is dead (the relay, inbox_mark_failed and handlers decide).
 *
 * Four kinds, by direction:
 *   outbox		could not be sent: redelivery publishes it again under its old id
 *   inbox		came, but could not be stored: redelivery stores it
 *   handler	its handler failed too often: redelivery makes it pending again
 *   worker		the same, reported by a worker (inbox_mark_failed)
 */

CREATE TABLE tide.dead_letter
(
	id			bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	at			timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	direction	text NOT NULL CHECK (direction IN ('outbox', 'inbox', 'handler', 'worker')),
	pipeline	text COLLATE "C",
	inbox		text COLLATE "C",
	outbox		text COLLATE "C",
	event_id	text COLLATE "C",
	origin		text,
	entity		text,
	op			text,
	key			text,
	payload		jsonb,
	payload_raw	bytea,			-- what came, if it is not JSON that jsonb can hold
	headers		jsonb,
	code		text,
	error		text NOT NULL,
	attempts	int NOT NULL DEFAULT 1,
	retried_at	timestamptz,
	resolved_at	timestamptz		-- redelivered, discarded or processed after all
);

/* A relay that died after writing a dead letter and before its position writes it again: once is enough. */
CREATE UNIQUE INDEX dead_letter_open ON tide.dead_letter (direction, pipeline, event_id)
	WHERE resolved_at IS NULL AND direction IN ('outbox', 'inbox');
CREATE INDEX dead_letter_inbox ON tide.dead_letter (inbox, event_id) WHERE inbox IS NOT NULL;
CREATE INDEX dead_letter_resolved ON tide.dead_letter (resolved_at) WHERE resolved_at IS NOT NULL;

SELECT pg_catalog.pg_extension_config_dump('tide.dead_letter', '');
SELECT pg_catalog.pg_extension_config_dump('tide.dead_letter_id_seq', '');

CREATE VIEW tide.dead_letters AS
	SELECT d.id, d.at, d.direction, d.pipeline, d.inbox, d.outbox, d.event_id, d.origin, d.entity, d.op, d.key,
		d.code, d.error, d.attempts, d.payload, d.payload_raw, d.headers, d.retried_at
	FROM tide.dead_letter d
	WHERE d.resolved_at IS NULL;

/* Bytes as jsonb, or NULL if they are not UTF-8, not JSON, or hold what jsonb can't (\u0000). */
CREATE FUNCTION tide._try_jsonb(raw bytea) RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN convert_from(raw, 'UTF8')::jsonb;
EXCEPTION WHEN data_exception OR program_limit_exceeded OR statement_too_complex THEN
	RETURN NULL;
END;
$$;

CREATE FUNCTION tide.dead_letter_add(pipeline text, epoch bigint, event_id text, origin text, outbox text,
									 entity text, op text, key text, payload bytea, headers jsonb,
									 code text, error text) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	pipe tide.pipeline;
	parsed jsonb := tide._try_jsonb(dead_letter_add.payload);
	letter_id bigint;
BEGIN
	PERFORM tide._check_epoch(dead_letter_add.pipeline, dead_letter_add.epoch);
	SELECT p.* INTO pipe FROM tide.pipeline p WHERE p.name = dead_letter_add.pipeline;
	INSERT INTO tide.dead_letter AS d
		(direction, pipeline, inbox, outbox, event_id, origin, entity, op, key, payload, payload_raw, headers,
		 code, error)
		VALUES (pipe.direction, pipe.name,
				CASE WHEN pipe.direction <> 'outbox' THEN pipe.target END,
				coalesce(dead_letter_add.outbox, CASE WHEN pipe.direction = 'outbox' THEN pipe.target END),
				dead_letter_add.event_id, dead_letter_add.origin, dead_letter_add.entity, dead_letter_add.op,
				dead_letter_add.key, parsed, CASE WHEN parsed IS NULL THEN dead_letter_add.payload END,
				dead_letter_add.headers, dead_letter_add.code,
				coalesce(dead_letter_add.error, 'no reason was given'))
		ON CONFLICT (direction, pipeline, event_id)
			WHERE resolved_at IS NULL AND direction IN ('outbox', 'inbox')
		DO UPDATE SET at = excluded.at, code = excluded.code, error = excluded.error,
			attempts = d.attempts + 1
		RETURNING d.id INTO letter_id;
	RETURN letter_id;
END;
$$;

/* The open dead letter, locked, or an error that says what to do. */
CREATE FUNCTION tide._dead_letter_open(id bigint) RETURNS tide.dead_letter
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	letter tide.dead_letter;
BEGIN
	SELECT d.* INTO letter FROM tide.dead_letter d WHERE d.id = _dead_letter_open.id FOR UPDATE;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'dead letter % does not exist', coalesce(id::text, 'NULL')
			USING ERRCODE = 'no_data_found', HINT = 'tide.dead_letters lists the open ones.';
	ELSIF letter.resolved_at IS NOT NULL THEN
		RAISE EXCEPTION 'dead letter % is resolved already', id
			USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'tide.dead_letters lists the open ones.';
	END IF;
	RETURN letter;
END;
$$;

/* Really delivers the event again; the letter is closed only if that worked. */
CREATE FUNCTION tide.dead_letter_retry(id bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	letter tide.dead_letter := tide._dead_letter_open(id);
BEGIN
	CASE letter.direction
		WHEN 'outbox' THEN PERFORM tide._dead_letter_publish(letter);
		WHEN 'inbox' THEN PERFORM tide._dead_letter_store(letter);
		ELSE PERFORM tide._dead_letter_revive(letter);
	END CASE;
	UPDATE tide.dead_letter d SET retried_at = clock_timestamp(), resolved_at = clock_timestamp()
		WHERE d.id = letter.id;
END;
$$;

/* The same event, under the same id, at the end of its outbox.  A UUIDv7 tells when it was published. */
CREATE FUNCTION tide._dead_letter_publish(letter tide.dead_letter) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	published_us bigint := extract(epoch FROM letter.at) * 1000000;
BEGIN
	IF letter.payload IS NULL THEN
		RAISE EXCEPTION 'dead letter % cannot be sent again: its payload is not JSON', letter.id
			USING ERRCODE = 'invalid_text_representation',
				  HINT = 'Publish a corrected event, then close this one with tide.dead_letter_discard().';
	END IF;
	IF letter.event_id ~ '^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-' THEN
		published_us := ('x' || left(replace(letter.event_id, '-', ''), 12))::bit(48)::bigint * 1000;
	END IF;
	PERFORM tide._outbox_republish(letter.outbox, letter.event_id, published_us, letter.entity, letter.op,
								   letter.key, letter.payload, letter.headers);
END;
$$;

/* A message that could not be stored in its inbox: store it now, or say why that is still impossible. */
CREATE FUNCTION tide._dead_letter_store(letter tide.dead_letter) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	box tide.inbox := tide._inbox(letter.inbox);
	parsed jsonb := coalesce(letter.payload, tide._try_jsonb(letter.payload_raw));
BEGIN
	IF parsed IS NULL AND letter.payload_raw IS NOT NULL THEN
		RAISE EXCEPTION 'dead letter % cannot be stored in inbox "%": its payload is not JSON that jsonb can hold',
			letter.id, letter.inbox
			USING ERRCODE = 'invalid_text_representation',
				  HINT = 'Have the sender publish a corrected event, '
						 'then close this one with tide.dead_letter_discard().';
	END IF;
	EXECUTE format('DELETE FROM tide.%I l WHERE l.event_id = $1', tide._inbox_ledger(box.id))
		USING letter.event_id;
	EXECUTE format('INSERT INTO tide.%I (event_id, origin, outbox, entity, op, key, payload, headers)
					VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (event_id) DO NOTHING',
				   tide._inbox_relation(box.name))
		USING letter.event_id, letter.origin, letter.outbox, letter.entity, letter.op, letter.key, parsed,
			  letter.headers;
	PERFORM tide._wake('inbox', box.name);
END;
$$;

/* An event whose attempts were used up: pending again, from the first attempt on. */
CREATE FUNCTION tide._dead_letter_revive(letter tide.dead_letter) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	box tide.inbox := tide._inbox(letter.inbox);
	n bigint;
BEGIN
	EXECUTE format('UPDATE tide.%I t SET dead_at = NULL, attempts = 0, next_attempt_at = NULL, lease_until = NULL
					WHERE t.event_id = $1', tide._inbox_relation(box.name))
		USING letter.event_id;
	GET DIAGNOSTICS n = ROW_COUNT;
	IF n = 0 THEN
		PERFORM tide._dead_letter_store(letter);	/* somebody removed the row: the letter has it all */
	END IF;
	PERFORM tide._wake('inbox', box.name);
END;
$$;

/* Gives an event up for good.  Its id stays known, so that a late copy of it is still a duplicate. */
CREATE FUNCTION tide.dead_letter_discard(id bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	letter tide.dead_letter := tide._dead_letter_open(id);
BEGIN
	IF letter.direction IN ('handler', 'worker')
		AND EXISTS (SELECT FROM tide.inbox b WHERE b.name = letter.inbox)
	THEN
		EXECUTE format('DELETE FROM tide.%I t WHERE t.event_id = $1 AND t.processed_at IS NULL',
					   tide._inbox_relation(letter.inbox))
			USING letter.event_id;
	END IF;
	UPDATE tide.dead_letter d SET resolved_at = clock_timestamp() WHERE d.id = letter.id;
END;
$$;

/* An event that was given up has been processed after all (see inbox_mark_processed). */
CREATE FUNCTION tide._dead_letter_settle(inbox text, event_id text) RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
	UPDATE tide.dead_letter d SET resolved_at = clock_timestamp()
	WHERE d.inbox = _dead_letter_settle.inbox AND d.event_id = _dead_letter_settle.event_id
		AND d.direction IN ('handler', 'worker') AND d.resolved_at IS NULL
$$;

/* Resolved letters are forgotten after 30 days. */
CREATE FUNCTION tide._maintain_dead_letters() RETURNS jsonb
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	n bigint;
BEGIN
	DELETE FROM tide.dead_letter d WHERE d.resolved_at < clock_timestamp() - interval '30 days';
	GET DIAGNOSTICS n = ROW_COUNT;
	RETURN jsonb_build_object('dead_letters_forgotten', n);
END;
$$;

/* ---- rights ---- */

GRANT EXECUTE ON FUNCTION tide.dead_letter_retry(bigint), tide.dead_letter_discard(bigint) TO tide_admin;
GRANT EXECUTE ON FUNCTION
	tide.dead_letter_add(text, bigint, text, text, text, text, text, text, bytea, jsonb, text, text)
	TO tide_relay;
GRANT SELECT ON tide.dead_letter, tide.dead_letters TO tide_admin, tide_relay, tide_reader;
