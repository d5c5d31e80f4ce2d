/*
 * 78_apply.sql
 *		Applying rows of other regions: the functions of apply*.c and copy_in.c.
 *
 * Owns: their declarations, what tells backends that something they remember changed.
 * Does not own: the catalog (70_rows.sql), links (76_link.sql), copies (77_copy.sql).
 *
 * None of the functions in C is SECURITY DEFINER: rights on the tables are those of
 * whoever calls; our own tables they reach without asking.  Only EXECUTE protects them.
 */

/* Backends remember what is in these; each tells them that it changed. */
CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON tide.link
	FOR EACH STATEMENT EXECUTE FUNCTION tide._outbox_changed();
CREATE TRIGGER changed AFTER INSERT OR UPDATE OF state, copied_lsn OR DELETE OR TRUNCATE ON tide.link_table
	FOR EACH STATEMENT EXECUTE FUNCTION tide._outbox_changed();
CREATE TRIGGER changed AFTER DELETE OR TRUNCATE ON tide.parked_change
	FOR EACH STATEMENT EXECUTE FUNCTION tide._outbox_changed();
CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON tide.replicated_table
	FOR EACH STATEMENT EXECUTE FUNCTION tide._outbox_changed();

CREATE FUNCTION tide.apply(pipeline text, epoch bigint, frame bytea, careful boolean,
	OUT "position" pg_lsn, OUT flushed pg_lsn, OUT transactions bigint, OUT changes bigint, OUT kept bigint,
	OUT skipped bigint, OUT parked bigint)
LANGUAGE c VOLATILE
AS 'MODULE_PATHNAME', 'tide_sql_apply';

CREATE FUNCTION tide.apply_flushed(pipeline text, epoch bigint) RETURNS pg_lsn
LANGUAGE c VOLATILE
AS 'MODULE_PATHNAME', 'tide_sql_apply_flushed';

CREATE FUNCTION tide.copy_merge(pipeline text, epoch bigint, frame bytea) RETURNS bigint
LANGUAGE c VOLATILE
AS 'MODULE_PATHNAME', 'tide_sql_copy_merge';

/* ---- what is parked ---- */

CREATE FUNCTION tide.pending_retry(id bigint, OUT applied bigint, OUT waiting bigint, OUT code text, OUT reason text)
LANGUAGE c VOLATILE
AS 'MODULE_PATHNAME', 'tide_sql_pending_retry';

/* Nobody applies, retries or drops changes of the link until the transaction ends. */
CREATE FUNCTION tide._link_lock(link_id int) RETURNS void
LANGUAGE c VOLATILE STRICT
AS 'MODULE_PATHNAME', 'tide_sql_link_lock';

CREATE FUNCTION tide.pending_drop(id bigint) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	change tide.parked_change;
	waiting bigint;
	what text;
BEGIN
	PERFORM tide._link_lock(c.link_id) FROM tide.parked_change c WHERE c.id = pending_drop.id;
	DELETE FROM tide.parked_change c WHERE c.id = pending_drop.id RETURNING c.* INTO change;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'no change % is waiting', coalesce(id::text, 'NULL')
			USING ERRCODE = 'undefined_object', HINT = 'tide.pending_changes shows those that are.';
	END IF;
	SELECT count(*) INTO waiting FROM tide.parked_change c
		WHERE c.link_id = change.link_id AND c.schema_name = change.schema_name
			AND c.table_name = change.table_name AND c.key IS NOT DISTINCT FROM change.key;
	what := format('%s of %I.%I%s', change.op, change.schema_name, change.table_name, ' ' || change.key);
	RAISE LOG 'pg_tide: % dropped the parked %, committed at % (%: %)', session_user, what, change.commit_at,
		change.code, change.reason;
	PERFORM tide._audit_note('drop', 'parked change ' || pending_drop.id,
							 to_jsonb(change) - '{relation,change}'::text[]);
	RETURN format('dropped the %s; %s more waiting', what, waiting);
END;
$$;

/* ---- rights ---- */

GRANT EXECUTE ON FUNCTION
	tide.apply(text, bigint, bytea, boolean),
	tide.apply_flushed(text, bigint),
	tide.copy_merge(text, bigint, bytea)
	TO tide_relay;
GRANT EXECUTE ON FUNCTION
	tide.pending_retry(bigint),
	tide.pending_drop(bigint)
	TO tide_admin;
