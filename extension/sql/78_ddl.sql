/*
 * 78_ddl.sql
 *		Statements that change the schema, here and, in stream order, in the other regions.
 *
 * Owns: tide.ddl(), how a statement is written into and read from tide.schema_log (78_schema.sql).
 * Does not own: which statements may travel (src/ddl.c), running them elsewhere (src/apply_ddl.c).
 */

/* Runs as the caller; see ddl.c. */
CREATE FUNCTION tide.ddl(sql text) RETURNS void
LANGUAGE c VOLATILE
AS 'MODULE_PATHNAME', 'tide_sql_ddl';

/* What decides what a statement means: 'timestamptz' of a timestamp, a default '01/02/2026', a float as text. */
CREATE FUNCTION tide._ddl_settings() RETURNS text[]
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT '{TimeZone,DateStyle,IntervalStyle,extra_float_digits,bytea_output,standard_conforming_strings,
			 transform_null_equals,array_nulls,xmlbinary,xmloption}'::text[]
$$;

/* Called by ddl() as the extension's owner: nobody else can say who wants what. */
CREATE FUNCTION tide._ddl_log(role text, path text, sql text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM tide._own_region();
	INSERT INTO tide.schema_log (kind, body)
		VALUES ('ddl', json_build_object('role', role, 'path', path, 'sql', sql, 'settings',
			(SELECT json_object_agg(n, current_setting(n)) FROM unnest(tide._ddl_settings()) n))::text);
END;
$$;

/* What an entry says, and what the link's options say to it. */
CREATE FUNCTION tide._ddl_read(link_id int, body jsonb, OUT role text, OUT path text, OUT sql text,
							   OUT wanted boolean, OUT superuser boolean, OUT settings text[])
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT body ->> 'role', body ->> 'path', body ->> 'sql',
		coalesce((l.options ->> 'ddl')::boolean, true), coalesce((l.options ->> 'ddl_superuser')::boolean, l.by_superuser),
		/* Names and values in turn.  Others than those would be somebody else's idea. */
		ARRAY(SELECT unnest(ARRAY[n, body -> 'settings' ->> n]) FROM unnest(tide._ddl_settings()) n
			  WHERE body -> 'settings' ->> n IS NOT NULL)
	FROM tide.link l WHERE l.id = _ddl_read.link_id
$$;

/* ---- rights ---- */

GRANT EXECUTE ON FUNCTION tide.ddl(text) TO tide_admin;
