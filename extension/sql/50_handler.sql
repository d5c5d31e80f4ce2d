/*
 * 50_handler.sql
 *		Handlers: a function that the relay runs once per event of an inbox.
 *
 * Owns: registering and unregistering handlers, the pipeline behind each.
 * Does not own: running them (handler.c), failures (20), the relay's loop.
 */

/*
 * Registers a function or procedure.  It runs with the privileges and the
 * search_path of the role that registers it, in one transaction with the
 * event's mark.  How its parameters are bound is said in handler.c.
 */
CREATE FUNCTION tide.inbox_set_handler(inbox text, handler regprocedure) RETURNS void
LANGUAGE c
AS 'MODULE_PATHNAME', 'tide_sql_inbox_set_handler';

/* Called by the function above, as the extension's owner: role and path are the caller's. */
CREATE FUNCTION tide._handler_store(inbox text, handler text, role oid, path text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	box tide.inbox := tide._inbox(inbox);
BEGIN
	UPDATE tide.inbox b SET handler = _handler_store.handler, handler_role = role::regrole, handler_path = path
		WHERE b.id = box.id;
	PERFORM tide._pipeline_set('handler:' || box.name, 'handler', box.name,
							   jsonb_build_object('handler', handler, 'role', role::regrole::text,
												  'search_path', path));
END;
$$;

CREATE FUNCTION tide._handler_unset(inbox text) RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	UPDATE tide.inbox b SET handler = NULL, handler_role = NULL, handler_path = NULL
		WHERE b.name = _handler_unset.inbox AND b.handler IS NOT NULL;
	DELETE FROM tide.pipeline p WHERE p.name = 'handler:' || _handler_unset.inbox;
	RETURN FOUND;
END;
$$;

/* Events that wait stay in the inbox.  false: there was no handler. */
CREATE FUNCTION tide.inbox_unset_handler(inbox text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM tide._inbox(inbox);
	RETURN tide._handler_unset(inbox);
END;
$$;

/*
 * Runs the handler for up to max_events events, one transaction each, so it
 * can't be called inside a transaction.  done and failed count events; more
 * says whether others can be worked on now; generation goes to wake_wait().
 */
CREATE PROCEDURE tide.inbox_run_handler(inbox text, pipeline text, epoch bigint, max_events int,
										INOUT done int, INOUT failed int, INOUT more boolean,
										INOUT generation bigint)
LANGUAGE c
AS 'MODULE_PATHNAME', 'tide_sql_inbox_run_handler';

/* ---- rights ---- */

GRANT EXECUTE ON FUNCTION tide.inbox_set_handler(text, regprocedure), tide.inbox_unset_handler(text) TO tide_admin;
GRANT EXECUTE ON PROCEDURE tide.inbox_run_handler(text, text, bigint, int, int, int, boolean, bigint) TO tide_relay;
