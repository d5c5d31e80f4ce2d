/*
 * 73_residency.sql
 *		Residency: which rows and columns of a class may go to which region.
 *
 * Owns: the check of the option, what it means for a table and a region, the publications of each
 * destination, the index that lets them filter.  Does not own: what is here already (78_residency.sql),
 * tables without residency (75_table.sql).
 *
 * Rows and columns are cut by core's publications, when the WAL is read at the origin.  A destination has
 * two: tide_to_ and its number, and the same with _insert for insert-only tables.  A table of
 * a class with residency is in those of the regions that may have something of it, and in no other.
 *
 * A row filter's columns must be in the replica identity.  So the table gets a unique index of its key and
 * those columns, named tide_residency_..., as its identity; the key stays what it was: tide._key_index().
 */

/* Where rows are taken to, as far as it is known: these have publications, or are this region. */
CREATE TABLE tide.residency_destination
(
	region		text COLLATE "C" PRIMARY KEY,
	added_at	timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);

/* What was last derived from the class of a table: for each destination, and for this region. */
CREATE TABLE tide.residency_rule
(
	relid		regclass NOT NULL,
	region		text COLLATE "C" NOT NULL,
	filter		text,								-- as the server writes it; 'true': all rows; NULL: none
	columns		text[],								-- NULL: all, also those that come
	used		text[],								-- columns that filters of the class look at
	PRIMARY KEY (relid, region)
);

/* Tables whose rows here must be looked through, as less is allowed since; see tide.relay_residency(). */
CREATE TABLE tide.residency_due
(
	relid		regclass PRIMARY KEY,
	since		timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	looked_at	timestamptz							-- through them, last
);

SELECT pg_catalog.pg_extension_config_dump('tide.residency_destination', '');
SELECT pg_catalog.pg_extension_config_dump('tide.residency_rule', '');

/* ---- the option ---- */

/* Error unless the text is one expression, and nothing that ends it early.  See residency.c. */
CREATE FUNCTION tide._check_predicate(predicate text) RETURNS void
LANGUAGE c IMMUTABLE
AS 'MODULE_PATHNAME', 'tide_sql_check_predicate';

/* Which rows: yes, no, or a predicate. */
CREATE FUNCTION tide._residency_check_rows(what text, value jsonb) RETURNS void
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF jsonb_typeof(value) = 'string' THEN
		BEGIN
			PERFORM tide._check_predicate(value #>> '{}');
		EXCEPTION WHEN syntax_error THEN
			RAISE EXCEPTION '% has a predicate that can''t be read: %', what, sqlerrm
				USING ERRCODE = 'syntax_error', HINT = 'Write what could stand behind WHERE, such as "country = ''de''".';
		END;
	ELSIF jsonb_typeof(value) <> 'boolean' THEN
		RAISE EXCEPTION '% does not say which rows', what
			USING ERRCODE = 'invalid_parameter_value', HINT = 'Write true, false, or a predicate such as "country = ''de''".';
	END IF;
END;
$$;

CREATE FUNCTION tide._residency_check_columns(what text, value jsonb) RETURNS void
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF EXISTS (SELECT FROM jsonb_array_elements(coalesce(value, '[]')) e WHERE jsonb_typeof(e) <> 'string') THEN
		RAISE EXCEPTION '% lists something that is no column''s name', what
			USING ERRCODE = 'invalid_parameter_value', HINT = 'Write names: ["id", "name"].';
	END IF;
END;
$$;

CREATE FUNCTION tide._residency_check_region(what text, region text, rule jsonb) RETURNS void
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	of text := format('%s, region "%s"', what, region);
BEGIN
	IF region <> '*' THEN
		PERFORM tide._check_name('region', region);
	END IF;
	IF jsonb_typeof(rule) <> 'object' THEN
		PERFORM tide._residency_check_rows(of, rule);
		RETURN;
	END IF;
	PERFORM tide._check_keys(of, rule, '{"rows": "any", "columns": "array", "without": "array"}');
	IF rule ?& '{columns,without}' THEN
		RAISE EXCEPTION '% has both "columns" and "without"', of
			USING ERRCODE = 'invalid_parameter_value', HINT = 'Say which columns go there, or which don''t.';
	END IF;
	IF rule ? 'rows' THEN
		PERFORM tide._residency_check_rows(of, rule -> 'rows');
	END IF;
	PERFORM tide._residency_check_columns(of, rule -> 'columns'), tide._residency_check_columns(of, rule -> 'without');
END;
$$;

/* The option "residency" of a class; NULL is fine. */
CREATE FUNCTION tide._residency_check(class text, scope text, residency jsonb) RETURNS void
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	what text := format('the residency of class "%s"', class);
BEGIN
	IF residency IS NULL THEN
		RETURN;
	END IF;
	PERFORM tide._check_keys(what, residency, '{"column": "string", "regions": "object", "personal": "boolean"}');
	IF coalesce(residency ->> 'column', '') = '' AND coalesce(residency -> 'regions', '{}') = '{}' AND NOT coalesce((residency ->> 'personal')::boolean, false) THEN
		RAISE EXCEPTION '% says nothing', what
			USING ERRCODE = 'invalid_parameter_value',
				  HINT = 'Give "column" (which names a row''s region), "regions" or "personal": true.';
	ELSIF scope = 'regional' THEN
		RAISE EXCEPTION 'class "%" has residency, but its rows never leave', class
			USING ERRCODE = 'invalid_parameter_value', HINT = 'Leave out "residency", or choose another scope.';
	END IF;
	IF residency ->> 'column' = '' THEN
		RAISE EXCEPTION 'option "column" of % is empty', what
			USING ERRCODE = 'invalid_parameter_value', HINT = 'Name the column that says a row''s region, or leave it out.';
	END IF;
	PERFORM tide._residency_check_region(what, r.key, r.value)
		FROM jsonb_each(coalesce(residency -> 'regions', '{}')) r;
END;
$$;

/* A region may be declared before it is added; a name that is misspelt has to be seen. */
CREATE FUNCTION tide._residency_warn_unknown(class tide.class) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	region text;
BEGIN
	FOR region IN SELECT k FROM jsonb_object_keys(coalesce(class.residency -> 'regions', '{}')) k
		WHERE k NOT IN ('*', tide.region_name()) AND NOT EXISTS (SELECT FROM tide.region r WHERE r.name = k)
			AND NOT EXISTS (SELECT FROM tide.residency_destination d WHERE d.region = k) ORDER BY k
	LOOP
		RAISE WARNING 'the residency of class "%" names region "%", which is not known here', class.name, region
			USING HINT = coalesce('Regions known here: ' || (SELECT string_agg(r.name, ', ' ORDER BY r.name) FROM tide.region r) || '. ', '')
						 || 'A misspelt region gets what "*" or "column" says, or nothing.';
	END LOOP;
END;
$$;

/* ---- what it means ---- */

/*
 * What the class says of a region, in its own words: which rows ('true', a predicate, NULL for none), and
 * which columns ("columns" or "without", or neither).
 */
CREATE FUNCTION tide._residency_said(residency jsonb, region text, OUT filter text, OUT columns text[], OUT without text[])
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	rule jsonb := coalesce(residency #> ARRAY['regions', region], residency #> '{regions,*}');
	rows jsonb := CASE WHEN jsonb_typeof(rule) = 'object' THEN rule -> 'rows' ELSE rule END;
BEGIN
	IF rows IS NOT NULL THEN
		filter := nullif(rows #>> '{}', 'false');
	ELSIF residency ? 'column' THEN
		filter := format('%I = %L', residency ->> 'column', region);
	ELSIF rule IS NOT NULL OR NOT residency ? 'regions' THEN
		filter := 'true';
	END IF;
	columns := (SELECT array_agg(c) FROM jsonb_array_elements_text(rule -> 'columns') c);
	without := (SELECT array_agg(c) FROM jsonb_array_elements_text(rule -> 'without') c);
END;
$$;

/* Regions that the class speaks of by name, besides those that are known; '*' stands for all others. */
CREATE FUNCTION tide._residency_regions(residency jsonb) RETURNS SETOF text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT d.region FROM tide.residency_destination d
	UNION SELECT r.name FROM tide.region r
	UNION SELECT l.name FROM tide.local_region l
	UNION SELECT k FROM jsonb_object_keys(coalesce(residency -> 'regions', '{}')) k
$$;

/*
 * Has the server read a filter for a table: how it writes it, and the columns in it.  It accepts what its
 * publications do; what it refuses is told with the table's name.
 */
CREATE FUNCTION tide._residency_probe(tbl regclass, filter text, OUT written text, OUT used text[])
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET client_min_messages = error
AS $$
DECLARE
	message text;
	code text;
BEGIN
	IF filter IS NULL OR filter = 'true' THEN
		written := filter;
		used := '{}';
		RETURN;
	END IF;
	PERFORM tide._check_predicate(filter);	/* again: settings change what a text is */
	CREATE PUBLICATION tide_residency_probe WITH (publish = 'insert', publish_via_partition_root = true);
	BEGIN
		EXECUTE format(E'ALTER PUBLICATION tide_residency_probe ADD TABLE ONLY %s WHERE (%s\n)', tbl, filter);
	EXCEPTION WHEN OTHERS THEN
		GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, code = RETURNED_SQLSTATE;
		RAISE EXCEPTION 'table % can''t be filtered by %: %', tbl, filter, message
			USING ERRCODE = code,
				  HINT = 'A filter has columns of the table and the server''s own immutable functions and operators, as in CREATE PUBLICATION ... WHERE. '
						 'It must fit every table of the class.';
	END;
	SELECT pg_get_expr(r.prqual, r.prrelid),
		(SELECT coalesce(array_agg(a.attname::text ORDER BY a.attname COLLATE "C"), '{}') FROM pg_attribute a
		 WHERE a.attrelid = tbl AND a.attnum IN (
			SELECT d.refobjsubid FROM pg_depend d
			WHERE d.classid = 'pg_publication_rel'::regclass AND d.objid = r.oid
				AND d.refclassid = 'pg_class'::regclass AND d.refobjid = tbl AND d.refobjsubid > 0))
		INTO written, used
		FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid
		WHERE p.pubname = 'tide_residency_probe' AND r.prrelid = tbl;
	DROP PUBLICATION tide_residency_probe;
END;
$$;

/* Each filter of the class, read for this table. */
CREATE FUNCTION tide._residency_filters(tbl regclass, residency jsonb) RETURNS TABLE (filter text, written text, used text[])
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	FOR filter IN SELECT DISTINCT s.filter FROM tide._residency_regions(residency) r, tide._residency_said(residency, r) s
				  WHERE s.filter IS NOT NULL ORDER BY 1
	LOOP
		SELECT p.written, p.used INTO written, used FROM tide._residency_probe(tbl, filter) p;
		RETURN NEXT;
	END LOOP;
END;
$$;

/* Columns that can cross at all. */
CREATE FUNCTION tide._residency_columns(tbl oid) RETURNS text[]
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT array_agg(a.attname::text ORDER BY a.attnum) FROM pg_attribute a
	WHERE a.attrelid = tbl AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
$$;

/*
 * What each region may have of a table, if its class were this one.  Key, filter columns and tide_stamp go
 * wherever anything goes: others find and order rows by them.
 */
CREATE FUNCTION tide._residency_rules(tbl regclass, class tide.class)
RETURNS TABLE (region text, filter text, columns text[], used text[])
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	residency jsonb := class.residency;
	personal boolean := coalesce((residency ->> 'personal')::boolean, false);
	allowed text[] := (SELECT t.allowed FROM tide.replicated_table t WHERE t.relid = tbl);
	every text[] := tide._residency_columns(tbl);
	needed text[] := '{tide_stamp}' || coalesce(tide._table_key(tbl), '{}');
	filters jsonb := '{}';
	all_used text[] := '{}';
	one record;
BEGIN
	FOR one IN SELECT f.* FROM tide._residency_filters(tbl, residency) f
	LOOP
		filters := filters || jsonb_build_object(one.filter, one.written);
		all_used := all_used || one.used;
	END LOOP;
	used := (SELECT coalesce(array_agg(DISTINCT u ORDER BY u), '{}') FROM unnest(all_used) u);
	needed := needed || used;
	FOR one IN SELECT r AS region, s.filter, s.columns, s.without
			   FROM tide._residency_regions(residency) r, tide._residency_said(residency, r) s ORDER BY r
	LOOP
		IF one.without && needed THEN
			RAISE EXCEPTION 'column "%" of table % can''t be kept from region "%"',
				(SELECT w FROM unnest(one.without) w WHERE w = ANY (needed) LIMIT 1), tbl, one.region
				USING ERRCODE = 'invalid_parameter_value',
					  HINT = 'Key, filter columns and tide_stamp go wherever a row goes. Keep the rows from there, or choose another key.';
		END IF;
		region := one.region;
		filter := filters ->> one.filter;
		columns := NULL;
		IF personal OR one.columns IS NOT NULL OR one.without IS NOT NULL THEN
			columns := (SELECT array_agg(e ORDER BY n) FROM unnest(every) WITH ORDINALITY e (e, n)
						WHERE e = ANY (needed)
							OR coalesce(e = ANY (one.columns), true) AND NOT coalesce(e = ANY (one.without), false)
								AND (NOT personal OR coalesce(e = ANY (allowed), allowed IS NULL)));
		END IF;
		RETURN NEXT;
	END LOOP;
END;
$$;

/* ---- identity ---- */

/* Our index of these columns of the table, if it has one; a restored one has another table's number in its name. */
CREATE FUNCTION tide._residency_index(tbl oid, columns text[]) RETURNS oid
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT i.indexrelid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
	WHERE i.indrelid = tbl AND c.relname LIKE 'tide\_residency\_%' AND i.indisunique AND i.indisvalid
		AND columns = (SELECT array_agg(a.attname::text ORDER BY k.n)
					   FROM unnest(i.indkey::int2[]) WITH ORDINALITY k (attnum, n)
						   JOIN pg_attribute a ON a.attrelid = tbl AND a.attnum = k.attnum)
	ORDER BY i.indexrelid LIMIT 1
$$;

CREATE FUNCTION tide._residency_check_not_null(tbl regclass, columns text[]) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	col name;
BEGIN
	SELECT a.attname INTO col FROM pg_attribute a
		WHERE a.attrelid = tbl AND a.attname = ANY (columns) AND NOT a.attnotnull ORDER BY a.attnum LIMIT 1;
	IF FOUND THEN
		RAISE EXCEPTION 'column "%" of table % decides where rows go, and may be NULL', col, tbl
			USING ERRCODE = 'not_null_violation', HINT = format('ALTER TABLE %s ALTER COLUMN %I SET NOT NULL', tbl, col);
	END IF;
END;
$$;

/* Has updates and deletes say the old values of these columns, in the table and its partitions. */
CREATE FUNCTION tide._residency_identify(tbl regclass, used text[]) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	key text[] := tide._table_key(tbl);
	more text[] := (SELECT array_agg(u ORDER BY u) FROM unnest(used) u WHERE NOT u = ANY (key));
	columns text[] := key || more;
	whole oid := tide._residency_index(tbl, columns);
	part record;
BEGIN
	IF more IS NULL THEN
		PERFORM tide._residency_forget_identity(tbl);
		RETURN;
	END IF;
	PERFORM tide._residency_check_not_null(tbl, more);
	IF whole IS NULL THEN
		EXECUTE format('CREATE UNIQUE INDEX %I ON %s (%s)', format('tide_residency_%s_%s', tbl::oid, left(md5(columns::text), 8)),
					   tbl, (SELECT string_agg(quote_ident(c), ', ' ORDER BY n) FROM unnest(columns) WITH ORDINALITY u (c, n)));
		whole := tide._residency_index(tbl, columns);
	END IF;
	FOR part IN
		SELECT i.indrelid::regclass AS rel, c.relname AS index
		FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
		WHERE (i.indexrelid = whole OR i.indexrelid IN (SELECT p.relid FROM pg_partition_tree(whole) p))
			AND NOT i.indisreplident
		ORDER BY i.indrelid
	LOOP
		EXECUTE format('ALTER TABLE ONLY %s REPLICA IDENTITY USING INDEX %I', part.rel, part.index);
	END LOOP;
	PERFORM tide._residency_drop_indexes(tbl, whole);
END;
$$;

/* Drops our indexes of a table but one, NULL: all. */
CREATE FUNCTION tide._residency_drop_indexes(tbl regclass, but oid) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	index regclass;
BEGIN
	FOR index IN SELECT i.indexrelid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
		WHERE i.indrelid = tbl AND c.relname LIKE 'tide\_residency\_%' AND i.indexrelid IS DISTINCT FROM but
	LOOP
		EXECUTE format('DROP INDEX %s', index);
	END LOOP;
END;
$$;

/* The replica identity is the key again. */
CREATE FUNCTION tide._residency_forget_identity(tbl regclass) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	rel regclass;
	key oid;
	name name;
BEGIN
	FOR rel IN SELECT tbl UNION SELECT p.relid FROM pg_partition_tree(tbl) p
	LOOP
		CONTINUE WHEN NOT EXISTS (SELECT FROM pg_index i
			JOIN pg_class c ON c.oid = coalesce(pg_partition_root(i.indexrelid), i.indexrelid)
			WHERE i.indrelid = rel AND i.indisreplident AND c.relname LIKE 'tide\_residency\_%');
		key := tide._key_index(rel);
		SELECT c.relname INTO name FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
			WHERE i.indexrelid = key AND NOT i.indisprimary;
		EXECUTE format('ALTER TABLE ONLY %s REPLICA IDENTITY %s', rel,
					   CASE WHEN FOUND THEN format('USING INDEX %I', name) ELSE 'DEFAULT' END);
	END LOOP;
	PERFORM tide._residency_drop_indexes(tbl, NULL);
END;
$$;

/* ---- publications ---- */

CREATE FUNCTION tide._residency_publication(region text, insert_only boolean) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT 'tide_to_' || lpad(to_hex(tide.region_id(region)), 8, '0') || CASE WHEN insert_only THEN '_insert' ELSE '' END
$$;

CREATE FUNCTION tide._residency_unpublish(tbl regclass, pub text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF EXISTS (SELECT FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid
			   WHERE p.pubname = pub AND r.prrelid = tbl) THEN
		EXECUTE format('ALTER PUBLICATION %I DROP TABLE ONLY %s', pub, tbl);
	END IF;
END;
$$;

/*
 * Does the publication say that, filter and all, and no other of ours say more?  A filter is compared as the
 * server writes it: read again it stays the same.
 */
CREATE FUNCTION tide._residency_published(rule tide.residency_rule, insert_only boolean) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE WHEN rule.filter IS NULL THEN
			NOT EXISTS (SELECT FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid
						WHERE r.prrelid = rule.relid AND p.pubname IN (tide._residency_publication(rule.region, true),
																	   tide._residency_publication(rule.region, false)))
		ELSE
			EXISTS (SELECT FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid
				   WHERE p.pubname = tide._residency_publication(rule.region, insert_only) AND r.prrelid = rule.relid
					   AND p.pubinsert AND p.pubviaroot AND (p.pubupdate AND p.pubdelete AND p.pubtruncate OR insert_only)
					   AND coalesce(pg_get_expr(r.prqual, r.prrelid), 'true') = rule.filter
					   AND (SELECT array_agg(a.attname::text ORDER BY a.attname COLLATE "C") FROM pg_attribute a
							WHERE a.attrelid = rule.relid AND a.attnum = ANY (r.prattrs::int2[]))
						   IS NOT DISTINCT FROM (SELECT array_agg(c ORDER BY c COLLATE "C") FROM unnest(rule.columns) c)) END
		AND NOT EXISTS (SELECT FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid
						WHERE r.prrelid = rule.relid AND p.pubname = ANY ('{tide_global,tide_global_insert,tide_low,tide_low_insert}'))
		AND NOT EXISTS (SELECT FROM pg_publication_namespace n JOIN pg_publication p ON p.oid = n.pnpubid
							JOIN pg_class c ON c.relnamespace = n.pnnspid
						WHERE c.oid = rule.relid AND p.pubname LIKE 'tide\_%')
$$;

/*
 * A table's place in the publications of one destination.  Writers are waited for: one that began before
 * would go on under the rules that were.
 */
CREATE FUNCTION tide._residency_publish(tbl regclass, region text, rule tide.residency_rule, insert_only boolean) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	pub text := tide._residency_publication(region, insert_only);
BEGIN
	EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', tbl);
	PERFORM tide._publication_make(pub, CASE WHEN insert_only THEN 'insert' ELSE 'insert, update, delete, truncate' END);
	PERFORM tide._residency_unpublish(tbl, tide._residency_publication(region, true)),
		tide._residency_unpublish(tbl, tide._residency_publication(region, false));
	IF rule.filter IS NOT NULL THEN
		EXECUTE format('ALTER PUBLICATION %I ADD TABLE ONLY %s%s%s', pub, tbl,
					   (SELECT format(' (%s)', string_agg(quote_ident(c), ', ' ORDER BY n))
						FROM unnest(rule.columns) WITH ORDINALITY u (c, n) HAVING count(*) > 0),
					   CASE WHEN rule.filter <> 'true' THEN format(' WHERE (%s)', rule.filter) ELSE '' END);
	END IF;
END;
$$;

/* ---- a table ---- */

/* Less strict in rows or columns?  Of two predicates nobody knows. */
CREATE FUNCTION tide._residency_looser(old tide.residency_rule, new tide.residency_rule) RETURNS boolean
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT new.filter IS NOT NULL
		AND (new.filter IS DISTINCT FROM old.filter AND old.filter IS DISTINCT FROM 'true'
			 OR coalesce(NOT new.columns <@ old.columns, old.columns IS NOT NULL))
$$;

/* Rows here are to be looked through.  What is removed goes under an origin, which must be there before. */
CREATE FUNCTION tide._residency_note_due(tbl regclass) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM tide._link_origins(NULL);
	INSERT INTO tide.residency_due (relid) VALUES (tbl)
		ON CONFLICT ON CONSTRAINT residency_due_pkey DO UPDATE SET since = clock_timestamp(), looked_at = NULL;
END;
$$;

/*
 * What changes for the rows that are here.  Those that may come now are copied again; those that may not be
 * here any more go, when what was under way has come (78_residency.sql).
 */
CREATE FUNCTION tide._residency_changed_here(tbl regclass, old tide.residency_rule, new tide.residency_rule) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	/* A copy that is under way brings what was allowed when it began: it is not the one that is wanted now. */
	UPDATE tide.link_table t SET state = 'wanted', copied_lsn = NULL, wish = t.wish + 1
		FROM tide.link l, pg_class c, pg_namespace n
		WHERE l.id = t.link_id AND l.copy AND tide._link_for_one(l) AND (t.state <> 'copied' OR tide._residency_looser(old, new))
			AND c.oid = tbl AND n.oid = c.relnamespace AND t.schema_name = n.nspname AND t.table_name = c.relname;
	IF new.filter IS DISTINCT FROM 'true' OR new.columns IS NOT NULL THEN
		PERFORM tide._residency_note_due(tbl);
	ELSE
		DELETE FROM tide.residency_due d WHERE d.relid = tbl;
	END IF;
END;
$$;

/* One region's rule for a table, put into effect; repair: even if it is in effect, but its publication says otherwise. */
CREATE FUNCTION tide._residency_set(tbl regclass, new tide.residency_rule, insert_only boolean, repair boolean) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	here boolean := new.region = tide.region_name();
	old tide.residency_rule;
BEGIN
	SELECT r.* INTO old FROM tide.residency_rule r WHERE r.relid = tbl AND r.region = new.region;
	IF old.relid IS NULL THEN
		old.filter := 'true';	/* it was not restricted */
	END IF;
	IF old.relid IS NULL OR (old.filter, old.columns) IS DISTINCT FROM (new.filter, new.columns) THEN
		INSERT INTO tide.residency_rule SELECT new.*
			ON CONFLICT ON CONSTRAINT residency_rule_pkey DO UPDATE SET filter = excluded.filter, columns = excluded.columns,
				used = excluded.used;
		IF here AND (old.filter, old.columns) IS DISTINCT FROM (new.filter, new.columns) THEN
			PERFORM tide._residency_changed_here(tbl, old, new);
		END IF;
	ELSIF here OR NOT repair OR tide._residency_published(new, insert_only) THEN
		RETURN;
	END IF;
	IF NOT here THEN
		PERFORM tide._residency_publish(tbl, new.region, new, insert_only);
	END IF;
END;
$$;

/* The table is restricted no more. */
CREATE FUNCTION tide._residency_leave(tbl regclass) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	old tide.residency_rule;
	free tide.residency_rule;
BEGIN
	free.filter := 'true';
	FOR old IN DELETE FROM tide.residency_rule r WHERE r.relid = tbl RETURNING r.*
	LOOP
		PERFORM tide._residency_unpublish(tbl, tide._residency_publication(old.region, true)),
			tide._residency_unpublish(tbl, tide._residency_publication(old.region, false));
		IF old.region = tide.region_name() THEN
			PERFORM tide._residency_changed_here(tbl, old, free);
		END IF;
	END LOOP;
	IF FOUND THEN
		PERFORM tide._residency_forget_identity(tbl);
	END IF;
END;
$$;

/* Columns of a table in a class of personal data are allowed if they are there when that begins. */
CREATE FUNCTION tide._residency_allow_present(tbl regclass, personal boolean) RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
	UPDATE tide.replicated_table t SET allowed = CASE WHEN personal THEN tide._residency_columns(tbl) END
		WHERE t.relid = tbl AND (t.allowed IS NOT NULL) <> personal
$$;

/*
 * Everything that a table has because of its class's residency.  What filters use is the same in all rules.
 * tide.deriving keeps our own ALTER TABLE from bringing us here again.
 */
CREATE FUNCTION tide._residency_derive(tbl regclass, class tide.class, repair boolean DEFAULT true) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	here text := tide.region_name();
	insert_only boolean := (SELECT t.insert_only FROM tide.replicated_table t WHERE t.relid = tbl);
	rules jsonb;
	before text := coalesce(current_setting('tide.deriving', true), '');
BEGIN
	PERFORM set_config('tide.deriving', 'on', true);
	PERFORM tide._residency_allow_present(tbl, coalesce((class.residency ->> 'personal')::boolean, false));
	IF class.residency IS NULL THEN
		PERFORM tide._residency_leave(tbl);
	ELSE
		/* Kept as one value: the publications that filters are tried in are gone before others change. */
		SELECT jsonb_agg(to_jsonb(r)) INTO rules FROM tide._residency_rules(tbl, class) r;
		IF NOT insert_only THEN
			PERFORM tide._residency_identify(tbl, (SELECT array_agg(u) FROM jsonb_array_elements_text(rules #> '{0,used}') u));
		END IF;
		PERFORM tide._residency_set(tbl, ROW(tbl, r.region, r.filter, r.columns, r.used)::tide.residency_rule, insert_only, repair)
			FROM jsonb_to_recordset(rules) r (region text, filter text, columns text[], used text[])
			WHERE r.region = here OR r.region IN (SELECT d.region FROM tide.residency_destination d);
	END IF;
	PERFORM tide._residency_note_own(tbl);
	PERFORM set_config('tide.deriving', before, true);
END;
$$;

/* Is what comes by the link made for this region alone?  A broker's stream for all has nothing with residency in it. */
CREATE FUNCTION tide._link_for_one(link tide.link) RETURNS boolean
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT link.transport = 'direct' OR coalesce((link.options ->> 'own_stream')::boolean, false) $$;

CREATE FUNCTION tide._residency_warn() RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	takers text := (SELECT string_agg(d.region, ', ' ORDER BY d.region) FROM tide.rows_destination d
					WHERE d.pipeline = tide._publisher_pipeline());
	origins text := (SELECT string_agg(l.region, ', ' ORDER BY l.region) FROM tide.link l WHERE NOT tide._link_for_one(l));
BEGIN
	IF origins IS NOT NULL THEN
		RAISE WARNING 'tables with residency don''t travel by a stream that other regions read, too: nothing of them comes from %', origins
			USING HINT = 'Add "own_stream": true to the options of tide.link_add(), or use a direct link.';
	END IF;
	IF takers IS NOT NULL THEN
		RAISE WARNING 'tables with residency don''t travel by a stream that other regions read, too: nothing of them goes to %', takers
			USING HINT = 'There, add "own_stream": true to the options of tide.link_add(), or use a direct link.';
	END IF;
END;
$$;

/* ---- destinations ---- */

/*
 * A region may take rows from here: it gets its publications before it has a slot, as a stream that begins
 * before a publication was made can't name it.
 */
CREATE FUNCTION tide._residency_add_destination(region text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET client_min_messages = error
AS $$
DECLARE
	names text[] := ARRAY[tide._residency_publication(region, false), tide._residency_publication(region, true)];
BEGIN
	IF region = tide.region_name() OR EXISTS (SELECT FROM tide.residency_destination d WHERE d.region = _residency_add_destination.region)
		AND (SELECT count(*) = 2 FROM pg_publication p WHERE p.pubname = ANY (names))
	THEN
		RETURN;
	END IF;
	PERFORM tide._check_name('region', region);
	PERFORM tide._set_up_lock();
	PERFORM pg_advisory_xact_lock(1953064039, 1);
	PERFORM tide._publication_make(names[1], 'insert, update, delete, truncate'), tide._publication_make(names[2], 'insert');
	INSERT INTO tide.residency_destination AS d (region) VALUES (_residency_add_destination.region) ON CONFLICT DO NOTHING;
	PERFORM tide._residency_derive(t.relid, k) FROM tide.replicated_table t JOIN tide.class k ON k.name = t.class
		WHERE k.residency IS NOT NULL;
END;
$$;

/* The region is forgotten; what it still reads from stays (its slot's name ends with its number). */
CREATE FUNCTION tide._residency_drop_destination(region text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	pub name;
BEGIN
	IF EXISTS (SELECT FROM pg_replication_slots s
			   WHERE s.slot_name ~ ('^tide_(link|rows)_.*_' || lpad(to_hex(tide.region_id(region)), 8, '0') || '$')) THEN
		RETURN;
	END IF;
	DELETE FROM tide.residency_destination d WHERE d.region = _residency_drop_destination.region;
	DELETE FROM tide.residency_rule r WHERE r.region = _residency_drop_destination.region;
	FOR pub IN SELECT p.pubname FROM pg_publication p
		WHERE p.pubname IN (tide._residency_publication(region, false), tide._residency_publication(region, true))
	LOOP
		EXECUTE format('DROP PUBLICATION %I', pub);
	END LOOP;
END;
$$;

/* ---- columns of personal data ---- */

CREATE FUNCTION tide._residency_permit(tbl regclass, col name, permitted boolean) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	present tide.replicated_table;
	class tide.class;
BEGIN
	PERFORM tide._set_up_lock();
	SELECT t.* INTO present FROM tide.replicated_table t WHERE t.relid = tbl;
	SELECT k.* INTO class FROM tide.class k WHERE k.name = present.class;
	IF coalesce(class.residency ->> 'personal', 'false') <> 'true' THEN
		RAISE EXCEPTION 'table % is in no class of personal data', coalesce(tbl::text, 'NULL')
			USING ERRCODE = 'object_not_in_prerequisite_state',
				  HINT = 'Columns are allowed one by one only where the class says "residency": {"personal": true}.';
	ELSIF NOT coalesce(col = ANY (tide._residency_columns(tbl)), false) THEN
		RAISE EXCEPTION 'column "%" of table % does not exist, or is generated', coalesce(col, 'NULL'), tbl
			USING ERRCODE = 'undefined_column', HINT = 'Name a column of the table.';
	ELSIF NOT permitted AND (col = 'tide_stamp' OR col = ANY (tide._table_key(tbl))
							 OR col IN (SELECT u FROM tide._residency_filters(tbl, class.residency) f, unnest(f.used) u)) THEN
		RAISE EXCEPTION 'column "%" of table % can''t be denied', col, tbl
			USING ERRCODE = 'invalid_parameter_value',
				  HINT = 'Key, filter columns and tide_stamp go wherever a row goes. Keep the rows from there, or choose another key.';
	END IF;
	UPDATE tide.replicated_table t
		SET allowed = array_remove(t.allowed, col::text) || CASE WHEN permitted THEN ARRAY[col::text] ELSE '{}' END
		WHERE t.relid = tbl;
	PERFORM tide._residency_derive(tbl, class);
	IF NOT permitted THEN
		PERFORM tide._residency_note_due(tbl);	/* others may have sent it, though it was denied here all along */
	END IF;
END;
$$;

CREATE FUNCTION tide.residency_allow(tbl regclass, col name) RETURNS void
LANGUAGE sql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$ SELECT tide._residency_permit(tbl, col, true) $$;

CREATE FUNCTION tide.residency_deny(tbl regclass, col name) RETURNS void
LANGUAGE sql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$ SELECT tide._residency_permit(tbl, col, false) $$;

/* ---- when somebody changes a table ---- */

/*
 * Column lists name what was there: a column that comes, or a partition, is seen to at once.  Not while a
 * dump is restored, which brings all that.
 */
CREATE FUNCTION tide._residency_altered() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF current_setting('tide.deriving', true) = 'on' OR to_regclass('tide.residency_rule') IS NULL
		OR tide._restoring()
		OR NOT EXISTS (SELECT FROM tide.class k WHERE k.residency IS NOT NULL)
	THEN
		RETURN;
	END IF;
	PERFORM tide._residency_derive(t.relid, k, false)
		FROM tide.replicated_table t JOIN tide.class k ON k.name = t.class AND k.residency IS NOT NULL
		WHERE t.relid IN (SELECT coalesce(pg_partition_root(c.objid), c.objid) FROM pg_event_trigger_ddl_commands() c
						  WHERE c.classid = 'pg_class'::regclass);
END;
$$;
CREATE EVENT TRIGGER tide_residency_altered ON ddl_command_end WHEN TAG IN ('ALTER TABLE', 'CREATE TABLE')
	EXECUTE FUNCTION tide._residency_altered();

/* ---- what another class would change ---- */

CREATE FUNCTION tide._residency_words(rule tide.residency_rule) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE WHEN rule.filter IS NULL THEN 'nothing'
		   ELSE CASE rule.filter WHEN 'true' THEN 'all rows' ELSE 'rows where ' || rule.filter END
				|| coalesce(', columns ' || array_to_string(rule.columns, ', '), '') END
$$;

CREATE FUNCTION tide._residency_difference(tbl regclass, old tide.residency_rule, new tide.residency_rule, speaks boolean) RETURNS SETOF text
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	here boolean := new.region = tide.region_name();
	held record;
BEGIN
	IF (old.filter, old.columns) IS NOT DISTINCT FROM (new.filter, new.columns) THEN
		RETURN;
	END IF;
	RETURN NEXT format('region %s may have %s; had %s', new.region, tide._residency_words(new), tide._residency_words(old));
	IF here THEN
		IF tide._residency_looser(old, new) THEN
			RETURN NEXT 'is copied here again from every region whose link is direct or has a stream of its own';
		END IF;
		SELECT h.rows - h.own AS rows, h.values, h.own INTO held
			FROM tide._residency_held(tbl, new, speaks) h;
		IF held.rows > 0 OR held.values > 0 THEN
			RETURN NEXT format('%s rows and %s values of other regions are removed here', held.rows, held.values);
		END IF;
		IF held.own > 0 THEN
			RETURN NEXT format('%s rows written here are removed here as other regions have them', held.own);
		END IF;
	END IF;
END;
$$;

/* For each table of the class, and each region: what was, and what would be. */
CREATE FUNCTION tide._residency_differences(old tide.class, new tide.class) RETURNS TABLE (object text, change text)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	tbl regclass;
BEGIN
	IF old.residency IS NOT DISTINCT FROM new.residency THEN
		RETURN;
	END IF;
	RETURN QUERY SELECT format('class %s', old.name),
		format('residency: %s, was %s', coalesce(new.residency::text, 'none'), coalesce(old.residency::text, 'none'));
	FOR tbl IN SELECT t.relid FROM tide.replicated_table t WHERE t.class = old.name
	LOOP
		RETURN QUERY
			SELECT format('table %s', tbl), d
			FROM (SELECT n.region, n.filter, n.columns, n.used FROM tide._residency_rules(tbl, new) n WHERE new.residency IS NOT NULL
				  UNION ALL
				  SELECT r.region, 'true', NULL, NULL FROM tide.residency_rule r WHERE r.relid = tbl AND new.residency IS NULL) n
				LEFT JOIN tide.residency_rule r ON r.relid = tbl AND r.region = n.region,
				tide._residency_difference(tbl, ROW(tbl, n.region, CASE WHEN r.relid IS NULL THEN 'true' ELSE r.filter END,
													r.columns, r.used)::tide.residency_rule,
										   ROW(tbl, n.region, n.filter, n.columns, n.used)::tide.residency_rule,
										   tide._residency_speaks(new, n.region)) d
			WHERE n.region = tide.region_name() OR n.region IN (SELECT d.region FROM tide.residency_destination d);
	END LOOP;
END;
$$;

/* ---- rights ---- */

GRANT EXECUTE ON FUNCTION tide.residency_allow(regclass, name), tide.residency_deny(regclass, name) TO tide_admin;
GRANT SELECT ON tide.residency_destination, tide.residency_rule, tide.residency_due TO tide_admin, tide_relay, tide_reader;
