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

/* ---- rights ---- */

GRANT EXECUTE ON FUNCTION
	tide.apply(text, bigint, bytea, boolean),
	tide.apply_flushed(text, bigint),
	tide.copy_merge(text, bigint, bytea)
	TO tide_relay;
