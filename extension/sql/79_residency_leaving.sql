/*
 * 79_residency_leaving.sql
 *		Rows that this region wrote itself and may not hold: they go when somebody who may has them.
 *
 * Owns: noting them, telling regions which they should have, removing what one of them has.  Does not own:
 * rows that others wrote (78_residency.sql), the rules (73_residency.sql).
 *
 * A trigger notes each version that is written here against this region's rule.  Relays of the regions that may
 * have the row, with all its columns, ask again and again what is noted; each looks whether its database has that
 * version or a later one, makes it its own, and tells; then this version is removed here, and no other.
 * So a row is gone here only when it is elsewhere, on disk, whatever fails in between.
 *
 * To make it its own is an update that changes nothing but the stamp: a copy takes from each region what that one
 * wrote, and the row would be nobody's.  The stamp's clock is one more than it was, so that an update which another region
 * makes meanwhile is the later one, as it was before.
 *
 * A class that says nothing of this region ("regions" without it and without "*") has it keep what it wrote.  So
 * has one whose scope ties rows to where they are written.
 */

CREATE TABLE tide.residency_leaving
(
	id			bigserial PRIMARY KEY,
	relid		regclass NOT NULL,
	key			jsonb NOT NULL,
	stamp		tide.stamp NOT NULL,
	noted_at	timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);

/* ---- which rows ---- */

/* Has the class that region hand over rows that it may not keep? */
CREATE FUNCTION tide._residency_speaks(class tide.class, region text) RETURNS boolean
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT coalesce(class.scope = 'global'
					AND (class.residency ? 'column' OR class.residency -> 'regions' ?| ARRAY[region, '*']), false)
$$;

/* What this region's own rows must meet to stay; NULL: all stay.  Without a key nobody could look one up. */
CREATE FUNCTION tide._residency_stays(tbl regclass) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT coalesce(r.filter, 'false')
	FROM tide.residency_rule r JOIN tide.replicated_table t ON t.relid = r.relid JOIN tide.class k ON k.name = t.class
	WHERE r.relid = tbl AND r.region = tide.region_name() AND r.filter IS DISTINCT FROM 'true' AND NOT t.insert_only
		AND tide._residency_speaks(k, r.region)
$$;

/*
 * A noted key's values, as a list of expressions.  Domains are read as what is beneath them: their checks are users' code.
 */
CREATE FUNCTION tide._key_values(tbl oid) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT string_agg(format('(l.key ->> %1$L)::%2$s AS %1$I', a.attname, format_type(tide._base_type(a.atttypid), -1)), ', ')
	FROM pg_attribute a WHERE a.attrelid = tbl AND a.attname = ANY (tide._table_key(tbl))
$$;

/* Is that alias's row the one whose key is in k?  By the operators of the key's index, wherever they are. */
CREATE FUNCTION tide._key_meets(tbl oid, alias text) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT string_agg(format('%1$I.%2$I OPERATOR(%3$I.%4$s) k.%2$I', alias, a.attname, n.nspname, o.oprname), ' AND ')
	FROM pg_index i CROSS JOIN LATERAL unnest(i.indkey::int2[], i.indclass::oid[]) u (attnum, opclass)
		JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = u.attnum
		JOIN pg_opclass c ON c.oid = u.opclass
		JOIN pg_amop m ON m.amopfamily = c.opcfamily AND m.amoplefttype = c.opcintype AND m.amoprighttype = c.opcintype
			AND m.amopstrategy = 3
		JOIN pg_operator o ON o.oid = m.amopopr
		JOIN pg_namespace n ON n.oid = o.oprnamespace
	WHERE i.indexrelid = tide._key_index(tbl)
$$;

/* ---- noting ---- */

/* The key of a row as the trigger notes it: values as text, by the types' own output. */
CREATE FUNCTION tide._key_note(tbl oid) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT format('jsonb_build_object(%s)', string_agg(format('%L, format(''%%s'', %I)', c, c), ', '))
	FROM unnest(tide._table_key(tbl)) c
$$;

/*
 * Notes the row's version; the argument, the filter, is for tide._residency_note_own().  Settings: keys are read again by
 * somebody else.  See residency_leaving.c.
 */
CREATE FUNCTION tide._residency_leaving() RETURNS trigger
LANGUAGE c SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET datestyle = 'ISO, YMD'
SET intervalstyle = 'postgres'
SET extra_float_digits = 3
AS 'MODULE_PATHNAME', 'tide_sql_residency_leaving';

/* A trigger tide_leaving that fires for rows that don't meet the filter.  See residency_leaving.c. */
CREATE FUNCTION tide._residency_trigger(tbl regclass, filter text) RETURNS void
LANGUAGE c STRICT
AS 'MODULE_PATHNAME', 'tide_sql_residency_trigger';

/* Makes the table's trigger what its rule says. */
CREATE FUNCTION tide._residency_note_own(tbl regclass) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	filter text := tide._residency_stays(tbl);
	trig pg_trigger;
BEGIN
	SELECT g.* INTO trig FROM pg_trigger g WHERE g.tgrelid = tbl AND g.tgname = 'tide_leaving';
	IF trig.tgrelid IS NOT NULL AND trig.tgfoid <> 'tide._residency_leaving()'::regprocedure THEN
		RAISE EXCEPTION 'table % has a trigger "tide_leaving" that is not ours', tbl
			USING ERRCODE = 'duplicate_object', HINT = 'Rename it: pg_tide needs the name.';
	ELSIF trig.tgargs IS NOT DISTINCT FROM convert_to(filter, getdatabaseencoding()) || '\x00' AND coalesce(trig.tgenabled, 'O') = 'O' THEN
		RETURN;
	END IF;
	IF trig.tgrelid IS NOT NULL THEN
		EXECUTE format('DROP TRIGGER tide_leaving ON %s', tbl);
	END IF;
	DELETE FROM tide.residency_leaving l WHERE l.relid = tbl;
	IF filter IS NOT NULL THEN
		PERFORM tide._residency_trigger(tbl, filter), tide._residency_note_due(tbl);
	END IF;
END;
$$;

/* Notes anew what one table holds of such rows. */
CREATE FUNCTION tide._residency_find_own(tbl regclass) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET datestyle = 'ISO, YMD'
SET intervalstyle = 'postgres'
SET extra_float_digits = 3
AS $$
DECLARE
	filter text := tide._residency_stays(tbl);
BEGIN
	IF filter IS NULL THEN
		RETURN;
	END IF;
	PERFORM tide._residency_check_types(tbl, tide._residency_used(tbl));
	DELETE FROM tide.residency_leaving l WHERE l.relid = tbl;
	EXECUTE format('INSERT INTO tide.residency_leaving (relid, key, stamp) SELECT $1, %s, tide_stamp FROM %s '
				   'WHERE tide.stamp_origin(tide_stamp) = %s AND (%s) IS NOT TRUE',
				   tide._key_note(tbl), tbl, tide.region_id(tide.region_name()), filter)
		USING tbl;
END;
$$;

/* ---- asking, by the relay of a region that may have them ---- */

/* Columns that the table's filters look at; the same in all its rules. */
CREATE FUNCTION tide._residency_used(tbl regclass) RETURNS text[]
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT r.used FROM tide.residency_rule r WHERE r.relid = tbl LIMIT 1 $$;

/* May the region hold whole rows of the table, and which? */
CREATE FUNCTION tide._residency_whole(tbl regclass, region text) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT r.filter FROM tide.residency_rule r
	WHERE r.relid = tbl AND r.region = _residency_whole.region
		AND (r.columns IS NULL OR r.columns @> tide._residency_columns(tbl))
$$;

/* Forgets notes of versions that are not there any more. */
CREATE FUNCTION tide._residency_forget_stale(tbl regclass, first bigint, last bigint) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	EXECUTE format('DELETE FROM tide.residency_leaving WHERE id IN (SELECT l.id FROM tide.residency_leaving l '
				   'CROSS JOIN LATERAL (SELECT %s) k WHERE l.relid = $1 AND l.id BETWEEN $2 AND $3 '
				   'AND NOT EXISTS (SELECT FROM %s x WHERE %s AND x.tide_stamp OPERATOR(tide.=) l.stamp) '
				   'FOR UPDATE OF l SKIP LOCKED)',
				   tide._key_values(tbl), tbl, tide._key_meets(tbl, 'x'))
		USING tbl, first, last;
END;
$$;

/*
 * What is noted behind a number and the destination may have: an array of tables, each with its columns and rows
 * (key, stamp, the note's id), or NULL; and where to go on, NULL: from the beginning, later.
 */
CREATE FUNCTION tide.rows_leaving(destination text, after bigint, OUT leaving jsonb, OUT next bigint)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	piece CONSTANT int := 1000;
	tbl record;
	filter text;
	first bigint;
	last bigint;
	found jsonb;
BEGIN
	SELECT min(l.id), max(l.id), CASE WHEN count(*) = piece THEN max(l.id) END INTO first, last, next
		FROM (SELECT l.id FROM tide.residency_leaving l WHERE l.id > after ORDER BY l.id LIMIT piece) l;
	FOR tbl IN SELECT t.relid, n.nspname, c.relname
			   FROM tide.replicated_table t JOIN pg_class c ON c.oid = t.relid JOIN pg_namespace n ON n.oid = c.relnamespace
			   WHERE EXISTS (SELECT FROM tide.residency_leaving l WHERE l.relid = t.relid AND l.id BETWEEN first AND last)
	LOOP
		PERFORM tide._residency_check_types(tbl.relid, tide._residency_used(tbl.relid));
		PERFORM tide._residency_forget_stale(tbl.relid, first, last);
		filter := tide._residency_whole(tbl.relid, destination);
		CONTINUE WHEN filter IS NULL;
		EXECUTE format('SELECT jsonb_agg(jsonb_build_object(''id'', l.id, ''key'', l.key, ''stamp'', l.stamp::text)) '
					   'FROM tide.residency_leaving l CROSS JOIN LATERAL (SELECT %s) k '
					   'WHERE l.relid = $1 AND l.id BETWEEN $2 AND $3 '
					   'AND EXISTS (SELECT FROM %s x WHERE %s AND x.tide_stamp OPERATOR(tide.=) l.stamp AND (%s))',
					   tide._key_values(tbl.relid), tbl.relid::regclass, tide._key_meets(tbl.relid, 'x'), filter)
			INTO found USING tbl.relid, first, last;
		leaving := CASE WHEN found IS NULL THEN leaving
				   ELSE coalesce(leaving, '[]') || jsonb_build_object('schema', tbl.nspname, 'table', tbl.relname,
																	  'columns', tide._residency_columns(tbl.relid), 'rows', found) END;
	END LOOP;
END;
$$;

/* ---- taking them over, where they should be ---- */

CREATE FUNCTION tide._flush_wal() RETURNS void
LANGUAGE c AS 'MODULE_PATHNAME', 'tide_sql_flush_wal';

/* Makes rows of one leaf, which the caller has locked, versions of this region.  See residency_leaving.c. */
CREATE FUNCTION tide._residency_adopt(leaf regclass, ctids tid[]) RETURNS bigint
LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'tide_sql_residency_adopt';

/* Of one table's rows those that are here to stay, in that version or a later one; NULL: none.  Those of the origin become ours. */
CREATE FUNCTION tide._residency_take_over(tbl regclass, origin text, rows jsonb) RETURNS jsonb
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	leaf regclass;
	theirs tid[];
	found jsonb;
	held jsonb;
BEGIN
	FOR leaf, theirs, found IN EXECUTE format(
		'SELECT x.leaf, array_agg(DISTINCT x.ctid) FILTER (WHERE x.origin = $2), jsonb_agg(jsonb_build_object(''id'', l.id, ''stamp'', l.stamp)) '
		'FROM jsonb_to_recordset($1) AS l (id bigint, key jsonb, stamp text) CROSS JOIN LATERAL (SELECT %s) k '
		'CROSS JOIN LATERAL (SELECT x.tableoid::regclass AS leaf, x.ctid, tide.stamp_origin(x.tide_stamp) AS origin FROM %s x '
		'WHERE %s AND x.tide_stamp OPERATOR(tide.>=) l.stamp::tide.stamp AND (%s) FOR UPDATE SKIP LOCKED) x '
		'GROUP BY x.leaf',
		tide._key_values(tbl), tbl, tide._key_meets(tbl, 'x'), tide._residency_whole(tbl, tide.region_name()))
		USING rows, tide.region_id(origin)
	LOOP
		PERFORM tide._residency_adopt(leaf, theirs);
		held := coalesce(held, '[]') || found;
	END LOOP;
	RETURN held;
END;
$$;

/*
 * Which of the rows that the origin named are here to stay, on disk when this is committed: an array of ids and stamps; NULL: none.
 * A table that is to be copied again may lack values that the origin has.
 */
CREATE FUNCTION tide.relay_link_leaving(pipeline text, epoch bigint, leaving jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	link tide.link := tide._link_of(pipeline, epoch);
	tbl record;
	held jsonb;
BEGIN
	FOR tbl IN SELECT t.relid, l.rows
			   FROM jsonb_to_recordset(leaving) l (schema name, "table" name, columns text[], rows jsonb)
				   JOIN tide.replicated_table t ON t.relid = to_regclass(format('%I.%I', l.schema, l."table"))
				   JOIN tide.link_table k ON k.link_id = link.id AND k.schema_name = l.schema AND k.table_name = l."table"
			   WHERE k.state = 'copied' AND l.columns <@ tide._residency_columns(t.relid)
				   AND tide._residency_whole(t.relid, tide.region_name()) IS NOT NULL
	LOOP
		PERFORM tide._residency_check_types(tbl.relid, tide._residency_used(tbl.relid));
		held := CASE WHEN held IS NULL THEN tide._residency_take_over(tbl.relid, link.region, tbl.rows)
				ELSE held || coalesce(tide._residency_take_over(tbl.relid, link.region, tbl.rows), '[]') END;
	END LOOP;
	IF held IS NOT NULL THEN
		PERFORM tide._flush_wal(), set_config('synchronous_commit', 'local', true);
	END IF;
	RETURN held;
END;
$$;

/* ---- and removing ---- */

/* Removes the rows of these notes, and the notes; not those that somebody has locked. */
CREATE FUNCTION tide._residency_remove_own(tbl regclass, notes bigint[]) RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	done bigint := 0;
	leaf regclass;
	ctids tid[];
	gone bigint[];
BEGIN
	FOR leaf, ctids, gone IN EXECUTE format(
		'SELECT x.leaf, array_agg(DISTINCT x.ctid), array_agg(l.id) FROM tide.residency_leaving l CROSS JOIN LATERAL (SELECT %s) k '
		'CROSS JOIN LATERAL (SELECT x.tableoid::regclass AS leaf, x.ctid FROM %s x '
		'WHERE %s AND x.tide_stamp OPERATOR(tide.=) l.stamp AND (%s) IS NOT TRUE FOR UPDATE SKIP LOCKED) x '
		'WHERE l.id = ANY ($1) AND l.relid = $2 GROUP BY x.leaf',
		tide._key_values(tbl), tbl, tide._key_meets(tbl, 'x'), tide._residency_stays(tbl))
		USING notes, tbl
	LOOP
		done := done + tide._residency_write(leaf, format('DELETE FROM ONLY %s WHERE ctid = ANY ($1)', leaf), ctids);
		DELETE FROM tide.residency_leaving l WHERE l.id = ANY (gone);
	END LOOP;
	RETURN done;
END;
$$;

/* The destination has these: they go here.  How many went. */
CREATE FUNCTION tide.rows_gone(destination text, held jsonb) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	notes bigint[] := ARRAY(SELECT l.id FROM jsonb_to_recordset(held) h (id bigint, stamp text)
								JOIN tide.residency_leaving l ON l.id = h.id AND l.stamp::text = h.stamp);
	done bigint := 0;
	tbl regclass;
	removed bigint;
BEGIN
	PERFORM tide._residency_begin();
	FOR tbl IN SELECT DISTINCT l.relid FROM tide.residency_leaving l JOIN tide.replicated_table t ON t.relid = l.relid
			   WHERE l.id = ANY (notes)
	LOOP
		CONTINUE WHEN tide._residency_stays(tbl) IS NULL OR tide._residency_whole(tbl, destination) IS NULL;
		PERFORM tide._residency_check_types(tbl, tide._residency_used(tbl));
		removed := tide._residency_remove_own(tbl, notes);
		IF removed > 0 THEN
			RAISE LOG 'pg_tide: removed % rows of table % that may not be in region "%"; region "%" has them',
				removed, tbl, tide.region_name(), destination;
		END IF;
		done := done + removed;
	END LOOP;
	RETURN done;
END;
$$;

/* ---- rights ---- */

/* Keys may be personal: not for readers. */
GRANT SELECT ON tide.residency_leaving TO tide_admin, tide_relay;
GRANT EXECUTE ON FUNCTION
	tide.rows_leaving(text, bigint),
	tide.relay_link_leaving(text, bigint, jsonb),
	tide.rows_gone(text, jsonb)
	TO tide_relay;
