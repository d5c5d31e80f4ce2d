/*
 * 78_residency.sql
 *		What is here, against what may be: audit and removal.
 *
 * Owns: counting and removing what this region may not hold any more, what a change of a class would do.
 * Does not own: the rules (73_residency.sql), removing as such (residency.c).
 *
 * Versions that others wrote go at once; what this region wrote itself must be elsewhere before
 * (79_residency_leaving.sql).  What is removed is removed here: it goes under a replication origin, like what
 * comes by a link, so that nobody takes it for a delete.
 */

/* ---- looking ---- */

/* Which rows of others must not be here, as a condition; NULL: there are none. */
CREATE FUNCTION tide._residency_foreign(filter text) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT format('tide.stamp_origin(tide_stamp) <> %s AND (%s) IS NOT TRUE', tide.region_id(tide.region_name()),
				  coalesce(filter, 'false'))
	WHERE filter IS DISTINCT FROM 'true'
$$;

/*
 * Columns of a table that must be empty here (columns NULL: none), and what stands for empty: a default that is a constant, as
 * rows that come without the column get that; else NULL, if the column may be.  None of both: it can't be told.
 */
CREATE FUNCTION tide._residency_denied(tbl regclass, columns text[]) RETURNS TABLE (col name, empty text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT a.attname,
		CASE WHEN d.oid IS NOT NULL AND NOT EXISTS (SELECT FROM regexp_matches(d.adbin::text, '\{([A-Z]+)', 'g') m
													WHERE m[1] NOT IN ('CONST', 'RELABELTYPE'))
			 THEN pg_get_expr(d.adbin, d.adrelid)
			 WHEN NOT a.attnotnull THEN 'NULL' END
	FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
	WHERE a.attrelid = tbl AND a.attname = ANY (tide._residency_columns(tbl)) AND a.attname <> ALL (columns)
	ORDER BY a.attnum
$$;

/*
 * A filter is run here as the extension's owner.  It was read for types of the server's own; where no
 * publication has it, which would keep their types, the table's owner can give its columns others since.
 */
CREATE FUNCTION tide._residency_check_types(tbl regclass, used text[]) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	col name;
BEGIN
	SELECT a.attname INTO col FROM pg_attribute a
		WHERE a.attrelid = tbl AND a.attname = ANY (used) AND a.atttypid >= 16384 AND NOT a.attisdropped LIMIT 1;
	IF FOUND THEN
		RAISE EXCEPTION 'column "%" of table % decides where rows go, and has another type now', col, tbl
			USING ERRCODE = 'object_not_in_prerequisite_state',
				  HINT = 'Give it a type of the server''s own, or another residency to the class.';
	END IF;
END;
$$;

/* Is something in the column?  By the type's own output: a cast may be a user's function. */
CREATE FUNCTION tide._residency_filled(col name, empty text) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE WHEN empty = 'NULL' THEN format('num_nulls(%I) = 0', col)
		   ELSE format('(num_nulls(%1$I) = 1 OR format(''%%s'', %1$I) <> format(''%%s'', %2$s))', col, empty) END
$$;

/*
 * How many rows must not be here, those of them that this region wrote (none if the class does not speak of it), and values
 * of others in denied columns of the other rows.
 */
CREATE FUNCTION tide._residency_held(tbl regclass, rule tide.residency_rule, speaks boolean,
									 OUT rows bigint, OUT own bigint, OUT "values" bigint)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	foreign_rows text := format('tide.stamp_origin(tide_stamp) <> %s', tide.region_id(tide.region_name()));
	wrong text := CASE rule.filter WHEN 'true' THEN 'false' ELSE format('(%s) IS NOT TRUE', coalesce(rule.filter, 'false')) END;
	filled text := (SELECT string_agg(format('(%s)::int', tide._residency_filled(d.col, d.empty)), ' + ')
					FROM tide._residency_denied(tbl, rule.columns) d WHERE d.empty IS NOT NULL);
BEGIN
	PERFORM tide._residency_check_types(tbl, rule.used);
	rows := 0;
	own := 0;
	"values" := 0;
	IF wrong = 'false' AND filled IS NULL THEN
		RETURN;
	END IF;
	EXECUTE format('SELECT count(*) FILTER (WHERE %1$s), count(*) FILTER (WHERE %1$s AND NOT %2$s), '
				   'coalesce(sum(%3$s) FILTER (WHERE NOT (%1$s) AND %2$s), 0)::bigint FROM %4$s WHERE %2$s OR %5$L',
				   wrong, foreign_rows, coalesce(filled, '0'), tbl, speaks)
		INTO rows, own, "values";
END;
$$;

CREATE FUNCTION tide.residency_audit()
RETURNS TABLE (region text, "table" text, class text, rows text, columns text[], denied text[], sent text, rows_against bigint,
			   values_against bigint, rows_own bigint, own_since timestamptz)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	here text := tide.region_name();
	rule tide.residency_rule;
	speaks boolean;
	tbl regclass;
BEGIN
	FOR tbl, class, speaks IN SELECT t.relid, t.class, NOT t.insert_only AND tide._residency_speaks(k, here)
					  FROM tide.replicated_table t JOIN tide.class k ON k.name = t.class
					  WHERE k.residency IS NOT NULL ORDER BY t.relid::text COLLATE "C"
	LOOP
		FOR rule IN SELECT r.* FROM tide.residency_rule r WHERE r.relid = tbl ORDER BY r.region <> here, r.region
		LOOP
			region := rule.region;
			"table" := tbl::text;
			rows := CASE rule.filter WHEN 'true' THEN 'all' ELSE coalesce(rule.filter, 'none') END;
			columns := coalesce(rule.columns, tide._residency_columns(tbl));
			denied := (SELECT array_agg(c ORDER BY n) FROM unnest(tide._residency_columns(tbl)) WITH ORDINALITY u (c, n)
					   WHERE c <> ALL (columns));
			sent := tide._residency_sent(tbl, rule);
			rows_against := NULL;
			values_against := NULL;
			rows_own := NULL;
			own_since := NULL;
			IF region = here THEN
				SELECT h.rows, h.values, h.own INTO rows_against, values_against, rows_own
					FROM tide._residency_held(tbl, rule, speaks) h;
				own_since := (SELECT min(l.noted_at) FROM tide.residency_leaving l WHERE l.relid = tbl AND rows_own > 0);
			END IF;
			RETURN NEXT;
		END LOOP;
	END LOOP;
END;
$$;

/* How a region's part gets there. */
CREATE FUNCTION tide._residency_sent(tbl regclass, rule tide.residency_rule) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE WHEN rule.region = tide.region_name() THEN
					coalesce((SELECT 'not taken from ' || string_agg(l.region, ', ' ORDER BY l.region)
									 || ': residency needs "own_stream": true, or a direct link'
							  FROM tide.link l WHERE NOT tide._link_for_one(l) HAVING count(*) > 0), 'this region')
				WHEN NOT tide._residency_published(rule, t.insert_only)
					THEN 'not as it should be: its publication was changed; call tide.table_add() again'
				WHEN rule.filter IS NULL THEN 'nothing'
				WHEN p.pipeline = tide._publisher_pipeline() THEN 'not sent: residency needs "own_stream": true, or a direct link'
				WHEN p.pipeline IS NOT NULL THEN 'own stream'
				ELSE 'direct' END
	FROM tide.replicated_table t LEFT JOIN tide.rows_destination p ON p.region = rule.region
	WHERE t.relid = tbl
$$;

/* ---- removing ---- */

CREATE FUNCTION tide._residency_begin() RETURNS void
LANGUAGE c AS 'MODULE_PATHNAME', 'tide_sql_residency_begin';

CREATE FUNCTION tide._residency_write(rel regclass, statement text, ctids tid[]) RETURNS bigint
LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'tide_sql_residency_write';

/* Does that with all rows of one leaf that meet the condition; how many. */
CREATE FUNCTION tide._residency_sweep(leaf regclass, condition text, statement text) RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	ctids tid[] := '{}';
	one tid;
	done bigint := 0;
BEGIN
	FOR one IN EXECUTE format('SELECT ctid FROM ONLY %s WHERE %s FOR UPDATE', leaf, condition)
	LOOP
		ctids := ctids || one;
		IF cardinality(ctids) >= 1000 THEN
			done := done + tide._residency_write(leaf, statement, ctids);
			ctids := '{}';
		END IF;
	END LOOP;
	IF cardinality(ctids) > 0 THEN
		done := done + tide._residency_write(leaf, statement, ctids);
	END IF;
	RETURN done;
END;
$$;

/* Removes what one table must not hold. */
CREATE FUNCTION tide._residency_purge(tbl regclass, rule tide.residency_rule, OUT rows bigint, OUT "values" bigint)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	here bigint := tide.region_id(tide.region_name());
	wrong text := tide._residency_foreign(rule.filter);
	leaf regclass;
	denied record;
BEGIN
	PERFORM tide._residency_check_types(tbl, rule.used);
	PERFORM tide._residency_find_own(tbl);
	rows := 0;
	"values" := 0;
	FOR leaf IN SELECT l FROM tide._table_leaves(tbl) l
	LOOP
		IF wrong IS NOT NULL THEN
			rows := rows + tide._residency_sweep(leaf, wrong, format('DELETE FROM ONLY %s WHERE ctid = ANY ($1)', leaf));
		END IF;
		FOR denied IN SELECT d.* FROM tide._residency_denied(tbl, rule.columns) d
					  WHERE d.empty IS NOT NULL
		LOOP
			"values" := "values" + tide._residency_sweep(leaf,
				format('tide.stamp_origin(tide_stamp) <> %s AND %s', here, tide._residency_filled(denied.col, denied.empty)),
				format('UPDATE ONLY %s SET %I = %s WHERE ctid = ANY ($1)', leaf, denied.col, denied.empty));
		END LOOP;
	END LOOP;
END;
$$;

/* Of these tables; NULL: of all. */
CREATE FUNCTION tide._residency_purge_all(tables regclass[]) RETURNS TABLE ("table" text, rows bigint, "values" bigint)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	rule tide.residency_rule;
BEGIN
	FOR rule IN SELECT r.* FROM tide.residency_rule r JOIN pg_class c ON c.oid = r.relid
				WHERE r.region = tide.region_name() AND (tables IS NULL OR r.relid = ANY (tables))
				ORDER BY r.relid::text COLLATE "C"
	LOOP
		SELECT p.rows, p.values INTO rows, "values" FROM tide._residency_purge(rule.relid, rule) p;
		"table" := rule.relid::text;
		IF rows > 0 OR "values" > 0 THEN
			RAISE LOG 'pg_tide: removed % rows and % values of table % that may not be in region "%"',
				rows, "values", "table", rule.region;
			RETURN NEXT;
		END IF;
	END LOOP;
END;
$$;

/* Removes what others wrote and this region may not hold; dry_run: says it only. */
CREATE FUNCTION tide.residency_purge(dry_run boolean DEFAULT false)
RETURNS TABLE ("table" text, rows bigint, "values" bigint)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF NOT EXISTS (SELECT FROM tide.residency_rule) THEN
		RETURN;
	ELSIF NOT coalesce(dry_run, false) THEN
		PERFORM tide._residency_begin();
		RETURN QUERY SELECT * FROM tide._residency_purge_all(NULL);
		RETURN;
	END IF;
	RETURN QUERY SELECT a."table", a.rows_against - a.rows_own, a.values_against FROM tide.residency_audit() a
		WHERE a.rows_against > a.rows_own OR a.values_against > 0;
END;
$$;

/* Tables to be looked through: has any link still to come past the moment, and is there anything new to see? */
CREATE FUNCTION tide._residency_due() RETURNS TABLE (relid regclass, since timestamptz, waiting boolean)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT d.relid, d.since, coalesce(w.waiting, false)
	FROM tide.residency_due d CROSS JOIN LATERAL (
		SELECT bool_or(true) AS waiting, bool_or(p.updated_at > d.looked_at) AS moved
		FROM tide.link l LEFT JOIN tide.link_progress p ON p.link_id = l.id
		WHERE tide._link_for_one(l) AND coalesce(p.heartbeat_at, '-infinity') <= d.since + interval '5 seconds') w
	WHERE w.waiting IS NULL OR d.looked_at IS NULL OR w.moved
$$;

/*
 * Called by relays again and again.  What was on its way when less became allowed comes after that: a
 * table is looked through until every link has come past the moment, by its origin's clock.
 */
CREATE FUNCTION tide.relay_residency() RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '1s'
AS $$
DECLARE
	began timestamptz := clock_timestamp();
	due jsonb;
	removed bigint;
BEGIN
	IF NOT EXISTS (SELECT FROM tide.residency_due) OR NOT pg_try_advisory_xact_lock(1953064039, 2) THEN
		RETURN 0;
	END IF;
	/* Before the rows are looked at: what links have come past by now is here. */
	SELECT jsonb_agg(to_jsonb(d)) INTO due FROM tide._residency_due() d;
	IF due IS NULL THEN
		RETURN 0;
	END IF;
	PERFORM tide._residency_begin();
	SELECT coalesce(sum(p.rows + p.values), 0) INTO removed
		FROM tide._residency_purge_all(ARRAY(SELECT d.relid FROM jsonb_to_recordset(due) d (relid regclass))) p;
	UPDATE tide.residency_due u SET looked_at = began
		FROM jsonb_to_recordset(due) d (relid regclass, since timestamptz, waiting boolean)
		WHERE u.relid = d.relid AND u.since = d.since AND d.waiting;
	DELETE FROM tide.residency_due u
		USING jsonb_to_recordset(due) d (relid regclass, since timestamptz, waiting boolean)
		WHERE u.relid = d.relid AND u.since = d.since AND NOT d.waiting;
	RETURN removed;
END;
$$;

/* ---- rights ---- */

GRANT EXECUTE ON FUNCTION tide.residency_purge(boolean) TO tide_admin;
GRANT EXECUTE ON FUNCTION tide.residency_audit() TO tide_admin, tide_relay, tide_reader;
GRANT EXECUTE ON FUNCTION tide.relay_residency() TO tide_relay;
