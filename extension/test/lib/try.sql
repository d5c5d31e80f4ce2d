/*
 * try.sql
 *		Runs a statement, and says what became of it: ok, or code, message, detail and hint, a line each.
 *
 * Numbers within names (those of tables, in the names of indexes) are not the same twice: N.
 */
CREATE FUNCTION try(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	message text;
	detail text;
	hint text;
BEGIN
	EXECUTE statement;
	RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	RETURN regexp_replace(concat_ws(E'\n', sqlstate || ' ' || message, nullif(detail, ''), nullif(hint, '')), '_\d+_', '_N_', 'g');
END
$$;
