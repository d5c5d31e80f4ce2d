/*
 * 77_copy.sql
 *		A table's copy from another region, as the relay calls it.
 *
 * Owns: the functions around copy_in.c, and what is remembered of a copy.  Does not
 * own: copy_merge, which is applying (78_apply.sql).
 *
 * One table's copy is one transaction: copy_begin, copy_in or copy_merge any
 * number of times, copy_end.  A relay that is killed leaves nothing of it.
 */

/*
 * A value too large for one statement, of total bytes, in parts: at: bytes that came before.  Then apply, copy_in or
 * copy_merge is called with an empty value.
 */
CREATE FUNCTION tide.relay_part(total bigint, at bigint, part bytea) RETURNS void
LANGUAGE c VOLATILE STRICT
AS 'MODULE_PATHNAME', 'tide_sql_relay_part';

CREATE FUNCTION tide.copy_begin(pipeline text, epoch bigint, schema_name text, table_name text,
								snapshot_lsn pg_lsn, columns text[], types text[]) RETURNS text
LANGUAGE c VOLATILE STRICT
AS 'MODULE_PATHNAME', 'tide_sql_copy_begin';

CREATE FUNCTION tide.copy_in(pipeline text, epoch bigint, schema_name text, table_name text,
							 columns text[], format text, data bytea) RETURNS bigint
LANGUAGE c VOLATILE STRICT
AS 'MODULE_PATHNAME', 'tide_sql_copy_in';

/*
 * wish: what relay_link_tables() said of the table before the copy; NULL: not asked.  If it is another one now, what is
 * allowed has changed: the table stays wanted, and what has come is looked through.
 */
CREATE FUNCTION tide.copy_end(pipeline text, epoch bigint, schema_name text, table_name text,
							  snapshot_lsn pg_lsn, rows_done bigint, bytes_done bigint, wish int DEFAULT NULL)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	pipe_id int := tide._check_epoch(pipeline, epoch);
	current_wish int;
BEGIN
	UPDATE tide.link_table t SET
		state = CASE WHEN t.wish = coalesce(copy_end.wish, t.wish) THEN 'copied' ELSE 'wanted' END,
		copied_lsn = CASE WHEN t.wish = coalesce(copy_end.wish, t.wish) THEN snapshot_lsn END,
		rows_done = copy_end.rows_done,
		bytes_done = copy_end.bytes_done,
		finished_at = clock_timestamp()
		FROM tide.link l, tide.pipeline p
		WHERE p.id = pipe_id AND l.pipeline = p.name AND t.link_id = l.id
			/* Of two lanes one takes a table from the other: see relay_link_takes(). */
			AND (t.state = 'copying' OR NOT EXISTS (SELECT FROM tide.link o WHERE o.region = l.region AND o.id <> l.id))
			AND t.schema_name = copy_end.schema_name::name AND t.table_name = copy_end.table_name::name
		RETURNING t.wish INTO current_wish;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'table "%.%" is not of this link', schema_name, table_name
			USING ERRCODE = 'undefined_object',
				  HINT = 'tide.relay_link_tables() lists those that are.';
	ELSIF current_wish <> copy_end.wish THEN
		PERFORM tide._residency_note_due(r.relid) FROM tide.residency_rule r
			WHERE r.relid = to_regclass(format('%I.%I', copy_end.schema_name, copy_end.table_name)) AND r.region = tide.region_name();
	END IF;
END;
$$;

REVOKE ALL ON FUNCTION tide.relay_part(bigint, bigint, bytea) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tide.relay_part(bigint, bigint, bytea) TO tide_relay;
REVOKE ALL ON FUNCTION tide.copy_begin(text, bigint, text, text, pg_lsn, text[], text[]) FROM PUBLIC;
REVOKE ALL ON FUNCTION tide.copy_in(text, bigint, text, text, text[], text, bytea) FROM PUBLIC;
REVOKE ALL ON FUNCTION tide.copy_end(text, bigint, text, text, pg_lsn, bigint, bigint, int) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tide.copy_begin(text, bigint, text, text, pg_lsn, text[], text[]) TO tide_relay;
GRANT EXECUTE ON FUNCTION tide.copy_in(text, bigint, text, text, text[], text, bytea) TO tide_relay;
GRANT EXECUTE ON FUNCTION tide.copy_end(text, bigint, text, text, pg_lsn, bigint, bigint, int) TO tide_relay;
