/*
 * 78_schema.sql
 *		Shapes of tables: this region's, versioned; those of other regions; how they differ.
 *
 * Owns: tide.table_version and the event triggers that keep it, tide.schema_log (what of the
 * schema travels in the stream), tide.link_shape, comparing, which waiting changes can go on.
 * Does not own: running DDL that comes from elsewhere (78_ddl.sql, apply_ddl.c), whether a
 * change fits (apply_relation.c, which decides alone; what is said here is for people).
 *
 * What travels is an insert into tide.schema_log, which is in the publication tide_global_insert.
 * Not a logical message: anybody who may log in can write one of those, with any content, and a
 * statement in one would be run elsewhere in the name of somebody else.
 */

/* The shape of a replicated table, and how often it changed.  Stays when the table goes: versions never go back. */
CREATE TABLE tide.table_version
(
	schema_name	name NOT NULL,
	table_name	name NOT NULL,
	relid		oid,								-- null: not replicated any more
	version		int NOT NULL DEFAULT 1,
	fingerprint	text NOT NULL,
	shape		jsonb NOT NULL,						-- see tide._shape()
	since		timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	touched		int NOT NULL DEFAULT 0,				-- how often it was altered here: what it refused may fit now
	PRIMARY KEY (schema_name, table_name)
);

/* What other regions are told of the schema, in stream order.  Old rows go with tide.maintain(). */
CREATE TABLE tide.schema_log
(
	id			bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	at			timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	kind		text NOT NULL CHECK (kind IN ('shape', 'ddl')),
	body		text NOT NULL						-- a JSON object
);

/* Shapes that tables have, and had, in the regions that rows are taken from. */
CREATE TABLE tide.link_shape
(
	link_id		int NOT NULL REFERENCES tide.link ON DELETE CASCADE,
	schema_name	name NOT NULL,
	table_name	name NOT NULL,
	version		int NOT NULL,
	fingerprint	text NOT NULL,
	shape		jsonb NOT NULL,
	seen_at		timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	PRIMARY KEY (link_id, schema_name, table_name, version)
);

/* Tables that can't take a region's rows as they are, as last said in the log. */
CREATE TABLE tide.link_drift
(
	link_id		int NOT NULL REFERENCES tide.link ON DELETE CASCADE,
	schema_name	name NOT NULL,
	table_name	name NOT NULL,
	told		text NOT NULL,
	since		timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	PRIMARY KEY (link_id, schema_name, table_name)
);

/* ---- this region's shapes ---- */

/* The type whose values travel: the one behind a domain. */
CREATE FUNCTION tide._base_type(type oid) RETURNS oid
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	WITH RECURSIVE base (oid, next) AS (
		SELECT t.oid, t.typbasetype FROM pg_type t WHERE t.oid = type
		UNION ALL
		SELECT t.oid, t.typbasetype FROM base JOIN pg_type t ON t.oid = base.next)
	SELECT b.oid FROM base b WHERE b.next = 0
$$;

/*
 * What a table looks like to others: {"columns": [...], "key": [...]}, columns by name.  num tells a
 * column that was renamed from another one; type_oid is 0 for types that each server numbers itself.
 */
CREATE FUNCTION tide._shape(tbl oid) RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT jsonb_build_object(
		'columns', coalesce((SELECT jsonb_agg(jsonb_strip_nulls(jsonb_build_object(
				'name', a.attname, 'num', a.attnum, 'type', format_type(a.atttypid, a.atttypmod),
				'base', format('%I.%I', n.nspname, b.typname), 'base_schema', n.nspname, 'base_name', b.typname,
				'type_oid', CASE WHEN b.oid < 10000 THEN b.oid::bigint ELSE 0 END, 'typmod', a.atttypmod,
				'not_null', a.attnotnull, 'required', a.attnotnull AND NOT a.atthasdef AND a.attidentity = '',
				'generated', a.attgenerated <> '',
				'labels', (SELECT jsonb_agg(e.enumlabel ORDER BY e.enumsortorder) FROM pg_enum e WHERE e.enumtypid = b.oid),
				'extension', (SELECT x.extname FROM pg_depend d JOIN pg_extension x ON x.oid = d.refobjid
							  WHERE d.classid = 'pg_type'::regclass AND d.objid = b.oid AND d.deptype = 'e'
								  AND d.refclassid = 'pg_extension'::regclass)))
				ORDER BY a.attname COLLATE "C")
			FROM pg_attribute a
				JOIN pg_type b ON b.oid = tide._base_type(a.atttypid)
				JOIN pg_namespace n ON n.oid = b.typnamespace
			WHERE a.attrelid = tbl AND a.attnum > 0 AND NOT a.attisdropped), '[]'),
		'key', to_jsonb(tide._table_key(tbl)))
$$;

/* The same shape has the same fingerprint in every region, whatever the order and numbers of its columns. */
CREATE FUNCTION tide._fingerprint(shape jsonb) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT md5(jsonb_build_array(shape -> 'key',
								 (SELECT jsonb_agg(c.value - '{num}'::text[] ORDER BY c.n)
								  FROM jsonb_array_elements(shape -> 'columns') WITH ORDINALITY c (value, n)))::text)
$$;

/* It has none of that name any more (but for the one it is called now); others are told. */
CREATE FUNCTION tide._shape_gone(tbl oid, class text, new_schema name DEFAULT NULL, new_name name DEFAULT NULL) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	gone record;
BEGIN
	UPDATE tide.table_version v SET relid = NULL
		WHERE v.relid = tbl AND (v.schema_name, v.table_name) IS DISTINCT FROM (new_schema, new_name)
		RETURNING v.schema_name, v.table_name INTO gone;
	INSERT INTO tide.schema_log (kind, body)
		SELECT 'shape', json_build_object('schema_name', gone.schema_name, 'table_name', gone.table_name, 'gone', true)::text
		FROM tide.class c
		WHERE gone.table_name IS NOT NULL AND c.name = _shape_gone.class AND c.scope <> 'regional' AND c.residency IS NULL;
END;
$$;

/* Has the table another shape than we know?  Then it gets a new version, and others are told. */
CREATE FUNCTION tide._shape_note(tbl oid, wait boolean DEFAULT true) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	seen tide.table_version;
BEGIN
	/* What is looked at must not be older than what another transaction is about to say. */
	IF wait THEN
		PERFORM pg_advisory_xact_lock(1953064040, tbl::int);
	ELSIF NOT pg_try_advisory_xact_lock(1953064040, tbl::int) THEN
		RETURN;
	END IF;
	SELECT n.nspname, c.relname, c.oid, 1, tide._fingerprint(s.shape), s.shape, clock_timestamp(), 0 INTO seen
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace CROSS JOIN LATERAL tide._shape(c.oid) s (shape)
		WHERE c.oid = tbl;
	IF NOT FOUND OR EXISTS (SELECT FROM tide.table_version v
							WHERE v.schema_name = seen.schema_name AND v.table_name = seen.table_name
								AND v.relid = seen.relid AND v.shape = seen.shape) THEN
		RETURN;
	END IF;
	PERFORM tide._shape_gone(tbl, t.class, seen.schema_name, seen.table_name)
		FROM tide.replicated_table t WHERE t.relid = tbl;
	INSERT INTO tide.table_version AS v SELECT seen.*
		ON CONFLICT ON CONSTRAINT table_version_pkey DO UPDATE
			SET relid = excluded.relid, version = v.version + 1, fingerprint = excluded.fingerprint,
				shape = excluded.shape, since = excluded.since
		RETURNING v.* INTO seen;
	INSERT INTO tide.schema_log (kind, body)
		SELECT 'shape', (to_jsonb(seen) - '{relid,since,touched}'::text[])::text
		FROM tide.replicated_table t JOIN tide.class c ON c.name = t.class
		/* With residency each region sees another shape, and asks for it. */
		WHERE t.relid = tbl AND c.scope <> 'regional' AND c.residency IS NULL;
END;
$$;

/* A table is replicated from now on, or no longer. */
CREATE FUNCTION tide._shape_of_table() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF TG_OP = 'INSERT' THEN
		PERFORM tide._shape_note(new.relid);
	ELSE
		PERFORM tide._shape_gone(old.relid, old.class);
	END IF;
	RETURN NULL;
END;
$$;
CREATE TRIGGER shape AFTER INSERT OR DELETE ON tide.replicated_table
	FOR EACH ROW EXECUTE FUNCTION tide._shape_of_table();

/* DDL: of a table it concerns that table; of types and the like, any that has such a column. */
CREATE FUNCTION tide._schema_changed() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF to_regclass('tide.table_version') IS NULL OR to_regclass('tide.replicated_table') IS NULL THEN
		RETURN;	/* the extension comes or goes */
	END IF;
	PERFORM tide._shape_note(t.relid) FROM tide.replicated_table t
		WHERE TG_TAG <> 'ALTER TABLE' OR t.relid IN (SELECT c.objid FROM pg_event_trigger_ddl_commands() c);
END;
$$;
CREATE EVENT TRIGGER tide_schema_changed ON ddl_command_end
	WHEN TAG IN ('ALTER TABLE', 'ALTER TYPE', 'ALTER DOMAIN', 'ALTER SCHEMA', 'ALTER EXTENSION',
				 'DROP TYPE', 'DROP DOMAIN', 'DROP SCHEMA', 'DROP EXTENSION', 'DROP OWNED')
	EXECUTE FUNCTION tide._schema_changed();

/*
 * What waits for a row of a table is tried again when that may have changed which rows it takes: its
 * constraints, indexes, triggers, partitions.  Of an index that is gone nothing tells whose it was.
 */
CREATE FUNCTION tide._schema_touched() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF to_regclass('tide.table_version') IS NULL OR to_regclass('tide.parked_change') IS NULL THEN
		RETURN;	/* the extension comes or goes */
	END IF;
	IF TG_TAG IN ('ALTER TABLE', 'CREATE TABLE') THEN
		UPDATE tide.table_version v SET touched = v.touched + 1
			WHERE v.relid IN (SELECT coalesce(pg_partition_root(c.objid)::oid, c.objid)
							  FROM pg_event_trigger_ddl_commands() c WHERE c.classid = 'pg_class'::regclass);
	ELSE
		UPDATE tide.table_version v SET touched = v.touched + 1
			WHERE EXISTS (SELECT FROM tide.parked_change c
						  WHERE c.schema_name = v.schema_name AND c.table_name = v.table_name);
	END IF;
END;
$$;
CREATE EVENT TRIGGER tide_schema_touched ON ddl_command_end
	WHEN TAG IN ('ALTER TABLE', 'CREATE TABLE', 'DROP INDEX', 'DROP TRIGGER', 'ALTER DOMAIN', 'ALTER TYPE')
	EXECUTE FUNCTION tide._schema_touched();

/* The shape of a replicated table here, with its version. */
CREATE FUNCTION tide.table_shape(tbl regclass)
RETURNS TABLE (version int, fingerprint text, columns text[], types text[], since timestamptz)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF NOT EXISTS (SELECT FROM tide.replicated_table t WHERE t.relid = tbl) THEN
		RAISE EXCEPTION 'table % is not replicated', coalesce(tbl::text, 'NULL')
			USING ERRCODE = 'undefined_object', HINT = 'tide.tables shows what is. tide.table_add() adds a table.';
	END IF;
	PERFORM tide._shape_note(tbl, false);
	RETURN QUERY
		SELECT v.version, v.fingerprint,
			(SELECT array_agg(c ->> 'name' ORDER BY (c ->> 'num')::int) FROM jsonb_array_elements(v.shape -> 'columns') c),
			(SELECT array_agg(c ->> 'type' ORDER BY (c ->> 'num')::int) FROM jsonb_array_elements(v.shape -> 'columns') c),
			v.since
		FROM tide.table_version v WHERE v.relid = tbl;
END;
$$;

/* ---- told to the relays of others ---- */

/* What a destination sees of a shape, if only these columns go there. */
CREATE FUNCTION tide._shape_cut(shape jsonb, columns text[]) RETURNS jsonb
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE WHEN columns IS NULL THEN shape
		   ELSE jsonb_set(shape, '{columns}', (SELECT coalesce(jsonb_agg(c.value ORDER BY c.n), '[]')
											   FROM jsonb_array_elements(shape -> 'columns') WITH ORDINALITY c (value, n)
											   WHERE c.value ->> 'name' = ANY (columns))) END
$$;

/* The shapes of what is published, as the destination sees them; only the digest if that is known. */
CREATE FUNCTION tide.rows_shapes(known text, destination text, OUT digest text, OUT shapes jsonb)
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
	WITH published AS (
		SELECT v.schema_name, v.table_name, v.version, tide._fingerprint(s.shape) AS fingerprint, s.shape
		FROM tide.table_version v
			JOIN tide.replicated_table t ON t.relid = v.relid
			JOIN tide.class c ON c.name = t.class AND c.scope <> 'regional'
			LEFT JOIN tide.residency_rule r ON r.relid = t.relid AND r.region = destination
			CROSS JOIN LATERAL (SELECT tide._shape_cut(v.shape, r.columns)) s (shape)
		WHERE c.residency IS NULL OR r.filter IS NOT NULL),
	summed (digest) AS (
		SELECT md5(coalesce(string_agg(format('%s.%s:%s:%s', p.schema_name, p.table_name, p.version, p.fingerprint), ','
									   ORDER BY p.schema_name, p.table_name), '') || coalesce(tide._own_node(), -1))
		FROM published p)
	SELECT s.digest,
		CASE WHEN s.digest IS DISTINCT FROM known THEN
			jsonb_build_object('node', tide._own_node(),
							   'tables', coalesce((SELECT jsonb_agg(to_jsonb(p)) FROM published p), '[]')) END
	FROM summed s
$$;

/*
 * For the doctor: the node number in ids, the sequences behind columns of tables that several regions
 * write, the collations of keys, with the version that indexes were made with.
 */
CREATE FUNCTION tide.rows_schema() RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT jsonb_build_object('node', tide._own_node(),
		'sequences', (SELECT coalesce(jsonb_agg(jsonb_build_object(
				'schema', n.nspname, 'table', c.relname, 'column', a.attname, 'sequence', q.seqrelid::regclass::text,
				'start', q.seqstart, 'increment', q.seqincrement, 'min', q.seqmin, 'max', q.seqmax)), '[]')
			FROM tide.replicated_table t
				JOIN tide.class k ON k.name = t.class AND k.scope IN ('global', 'home')
				JOIN pg_class c ON c.oid = t.relid
				JOIN pg_namespace n ON n.oid = c.relnamespace
				JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
				CROSS JOIN LATERAL (
					SELECT d.objid FROM pg_depend d
					WHERE d.classid = 'pg_class'::regclass AND d.deptype = 'i' AND d.refclassid = 'pg_class'::regclass
						AND d.refobjid = c.oid AND d.refobjsubid = a.attnum
					UNION
					SELECT d.refobjid FROM pg_attrdef f
						JOIN pg_depend d ON d.classid = 'pg_attrdef'::regclass AND d.objid = f.oid AND d.refclassid = 'pg_class'::regclass
					WHERE f.adrelid = c.oid AND f.adnum = a.attnum) s (sequence)
				JOIN pg_sequence q ON q.seqrelid = s.sequence),
		'collations', (SELECT coalesce(jsonb_agg(jsonb_build_object(
				'schema', n.nspname, 'table', c.relname, 'column', a.attname, 'collation',
				CASE WHEN l.collprovider = 'd' THEN format('%s version %s', b.datcollate, coalesce(b.datcollversion, 'none'))
					 ELSE format('%s version %s', coalesce(to_jsonb(l) ->> 'colliculocale', to_jsonb(l) ->> 'colllocale', l.collcollate),
								 coalesce(l.collversion, 'none')) END)), '[]')
			FROM tide.replicated_table t
				JOIN tide.class k ON k.name = t.class AND k.scope <> 'regional'
				JOIN pg_class c ON c.oid = t.relid
				JOIN pg_namespace n ON n.oid = c.relnamespace
				CROSS JOIN LATERAL unnest(tide._table_key(t.relid)) key (name)
				JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = key.name
				JOIN pg_collation l ON l.oid = a.attcollation
				JOIN pg_database b ON b.datname = current_database()))
$$;

/* ---- comparing ---- */

/* Does the local column take the values of such a one?  NULL, or why not.  See apply_types.c. */
CREATE FUNCTION tide._column_differs(type oid, typmod int, type_schema text, type_name text, local oid, local_typmod int)
RETURNS text
LANGUAGE c STABLE STRICT
AS 'MODULE_PATHNAME', 'tide_sql_column_differs';

/* How a table here differs from that shape; blocking: changes there can't all be applied here. */
CREATE FUNCTION tide._shape_differences(tbl oid, here jsonb, there jsonb) RETURNS TABLE (difference text, blocking boolean)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	WITH t AS (
		SELECT * FROM jsonb_to_recordset(there -> 'columns') AS c (name text, type text, base text, base_schema text,
			base_name text, type_oid oid, typmod int, not_null boolean, generated boolean, labels jsonb, extension text)
		WHERE NOT c.generated),
	h AS (
		SELECT c.*, a.atttypid, a.atttypmod
		FROM jsonb_to_recordset(here -> 'columns') AS c (name text, num int, type text, type_oid oid, typmod int,
				not_null boolean, required boolean, generated boolean, labels jsonb)
			JOIN pg_attribute a ON a.attrelid = tbl AND a.attnum = c.num)
	SELECT format('column "%s" (%s) is missing here', t.name, t.type), true
	FROM t LEFT JOIN h USING (name) WHERE h.name IS NULL
	UNION ALL
	SELECT format('column "%s" is %s here, %s there', t.name, h.type, t.type), true
	FROM t JOIN h USING (name)
	WHERE NOT h.generated
		AND tide._column_differs(t.type_oid, t.typmod, CASE WHEN t.type_oid = 0 THEN t.base_schema ELSE '' END,
								 CASE WHEN t.type_oid = 0 THEN t.base_name ELSE '' END, h.atttypid, h.atttypmod) IS NOT NULL
	UNION ALL
	/* Strings: the longer ones are refused one by one. */
	SELECT format('column "%s" is %s here, %s there', t.name, h.type, t.type), true
	FROM t JOIN h USING (name)
	WHERE NOT h.generated AND h.type_oid IN ('varchar'::regtype, 'bpchar'::regtype, 'bit'::regtype, 'varbit'::regtype)
		AND h.typmod >= 0 AND (t.typmod < 0 OR t.typmod > h.typmod)
	UNION ALL
	SELECT DISTINCT format('type %s%s is missing here', t.base, ' (extension ' || t.extension || ')'), true
	FROM t WHERE to_regtype(t.base) IS NULL
	UNION ALL
	SELECT DISTINCT format('value %L of type %s is missing here', l.label, t.base), true
	FROM t JOIN h USING (name) CROSS JOIN LATERAL jsonb_array_elements_text(t.labels) l (label)
	WHERE h.labels IS NOT NULL AND NOT h.labels ? l.label
	UNION ALL
	SELECT format('column "%s" is NOT NULL here, may be null there', h.name), true
	FROM t JOIN h USING (name) WHERE h.not_null AND NOT t.not_null AND NOT h.generated
	UNION ALL
	SELECT CASE WHEN h.required THEN format('column "%s" is NOT NULL without a default here, and is not sent', h.name)
		   ELSE format('column "%s" is here only', h.name) END, h.required
	FROM h LEFT JOIN t USING (name) WHERE t.name IS NULL AND NOT h.generated AND h.name <> 'tide_stamp'
	UNION ALL
	SELECT format('the key is %s here, %s there', coalesce(here ->> 'key', 'missing'), coalesce(there ->> 'key', 'missing')),
		/* What is only added has no key to agree on, but there must be a value for one that is here. */
		CASE WHEN there -> 'key' = 'null' OR EXISTS (SELECT FROM tide.replicated_table r WHERE r.relid = tbl AND r.insert_only) THEN
				EXISTS (SELECT FROM jsonb_array_elements_text(nullif(here -> 'key', 'null')) k WHERE k NOT IN (SELECT t.name FROM t))
			WHEN here -> 'key' = 'null' THEN true
			ELSE NOT (here -> 'key' <@ (there -> 'key') AND there -> 'key' <@ (here -> 'key')) END
	WHERE here -> 'key' IS DISTINCT FROM there -> 'key'
$$;

/* The shape that a table has over there, as far as it is known here. */
CREATE FUNCTION tide._link_shapes(link_id int) RETURNS SETOF tide.link_shape
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT DISTINCT ON (s.schema_name, s.table_name) s.* FROM tide.link_shape s
	WHERE s.link_id = _link_shapes.link_id ORDER BY s.schema_name, s.table_name, s.version DESC
$$;

/*
 * What a column that a table over there had is called now: '' if it is gone, NULL if that can't be known.
 * By the number it has there: so a renamed one is told from one that was dropped.
 */
CREATE FUNCTION tide._link_column_now(link_id int, schema_name name, table_name name, name text) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	WITH had AS (
		SELECT s.version, c ->> 'name' AS name, c -> 'num' AS num
		FROM tide.link_shape s CROSS JOIN LATERAL jsonb_array_elements(s.shape -> 'columns') c
		WHERE s.link_id = _link_column_now.link_id AND s.schema_name = _link_column_now.schema_name
			AND s.table_name = _link_column_now.table_name),
	newest (version) AS (SELECT max(h.version) FROM had h),
	this AS (SELECT h.* FROM had h WHERE h.name = _link_column_now.name ORDER BY h.version DESC LIMIT 1)
	SELECT coalesce((SELECT h.name FROM had h, newest n WHERE h.version = n.version AND h.num = t.num), '')
	FROM this t
$$;

/* Has that column by now, over there, a type whose values the local one takes? */
CREATE FUNCTION tide._link_column_fits(link_id int, schema_name name, table_name name, name text, local oid, local_typmod int)
RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT tide._column_differs(t.type_oid, t.typmod, CASE WHEN t.type_oid = 0 THEN t.base_schema ELSE '' END,
								CASE WHEN t.type_oid = 0 THEN t.base_name ELSE '' END, local, local_typmod) IS NULL
	FROM (SELECT s.shape FROM tide.link_shape s
		  WHERE s.link_id = _link_column_fits.link_id AND s.schema_name = _link_column_fits.schema_name
			  AND s.table_name = _link_column_fits.table_name
		  ORDER BY s.version DESC LIMIT 1) s
		CROSS JOIN LATERAL jsonb_to_recordset(s.shape -> 'columns')
			AS t (name text, base_schema text, base_name text, type_oid oid, typmod int)
	WHERE t.name = _link_column_fits.name
$$;

/* Are its rows found there by the same columns, in whatever order, as here?  NULL: not known. */
CREATE FUNCTION tide._link_key_same(link_id int, schema_name name, table_name name, tbl oid) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT (SELECT array_agg(k ORDER BY k) FROM unnest(tide._table_key(tbl)) k)
		= (SELECT array_agg(k ORDER BY k) FROM jsonb_array_elements_text(nullif(s.shape -> 'key', 'null')) k)
	FROM tide._link_shapes(_link_key_same.link_id) s
	WHERE s.schema_name = _link_key_same.schema_name AND s.table_name = _link_key_same.table_name
$$;

/* Of that link, or of all. */
CREATE FUNCTION tide._schema_drift(only_link int DEFAULT NULL)
RETURNS TABLE (link_id int, region text, schema_name name, table_name name, version int, difference text,
			   blocking boolean, seen_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
	/* Apart, as what follows would have shapes compared again and again. */
	WITH found AS MATERIALIZED (
		SELECT l.id AS link_id, l.region, s.schema_name, s.table_name, s.version, d.difference, d.blocking, s.seen_at
		FROM tide.link l
			CROSS JOIN LATERAL tide._link_shapes(l.id) s
			JOIN tide.table_version v ON v.schema_name = s.schema_name AND v.table_name = s.table_name
				AND v.fingerprint <> s.fingerprint
			JOIN tide.replicated_table t ON t.relid = v.relid
			JOIN tide.class c ON c.name = t.class AND c.scope <> 'regional'
			CROSS JOIN LATERAL tide._shape_differences(v.relid, v.shape, s.shape) d
		WHERE coalesce(l.id = only_link, true)
		UNION ALL
		/* It was replicated here, and was not taken off but dropped, or has another name by now. */
		SELECT l.id, l.region, s.schema_name, s.table_name, s.version, 'the table is missing here', true, s.seen_at
		FROM tide.link l
			CROSS JOIN LATERAL tide._link_shapes(l.id) s
			JOIN tide.table_version v ON v.schema_name = s.schema_name AND v.table_name = s.table_name AND v.relid IS NULL
		WHERE coalesce(l.id = only_link, true) AND to_regclass(format('%I.%I', s.schema_name, s.table_name)) IS NULL)
	SELECT f.* FROM found f JOIN tide.link l ON l.id = f.link_id
		LEFT JOIN tide.link_table k ON k.link_id = l.id AND k.schema_name = f.schema_name AND k.table_name = f.table_name
	WHERE coalesce(k.origin_lane, 'main') = ANY (tide._lanes_of(l))
$$;

CREATE VIEW tide.schema_drift AS
	SELECT d.region, pg_catalog.format('%I.%I', d.schema_name, d.table_name) AS "table", d.version, d.difference, d.blocking,
		(SELECT pg_catalog.count(*) FROM tide.parked_change p
		 WHERE p.link_id = d.link_id AND p.schema_name = d.schema_name AND p.table_name = d.table_name) AS waiting_changes,
		coalesce(k.since, d.seen_at) AS since
	FROM tide._schema_drift() d
		LEFT JOIN tide.link_drift k ON k.link_id = d.link_id AND k.schema_name = d.schema_name AND k.table_name = d.table_name
	ORDER BY d.region, d.schema_name, d.table_name, d.blocking DESC, d.difference;

/* ---- the relay's side, where rows are taken ---- */

/* One shape, by the stream or asked for. */
CREATE FUNCTION tide._link_shape_note(link_id int, shape jsonb) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF (shape ->> 'gone')::boolean THEN
		DELETE FROM tide.link_shape s WHERE s.link_id = _link_shape_note.link_id
			AND s.schema_name = shape ->> 'schema_name' AND s.table_name = shape ->> 'table_name';
		RETURN;
	END IF;
	INSERT INTO tide.link_shape AS s (link_id, schema_name, table_name, version, fingerprint, shape)
		VALUES (_link_shape_note.link_id, shape ->> 'schema_name', shape ->> 'table_name', (shape ->> 'version')::int,
				shape ->> 'fingerprint', shape -> 'shape')
		ON CONFLICT ON CONSTRAINT link_shape_pkey DO UPDATE
			SET fingerprint = excluded.fingerprint, shape = excluded.shape, seen_at = clock_timestamp()
			WHERE s.shape <> excluded.shape;
END;
$$;

/* What there is to say about shapes since the last time, and remembers it as said. */
CREATE FUNCTION tide._link_drift_tell(link tide.link) RETURNS jsonb
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	found record;
	said jsonb := '[]';
BEGIN
	FOR found IN
		SELECT coalesce(d.schema_name, k.schema_name) AS schema_name, coalesce(d.table_name, k.table_name) AS table_name,
			d.now, k.told
		FROM (SELECT d.schema_name, d.table_name, string_agg(d.difference, '; ' ORDER BY d.difference) AS now
			  FROM tide._schema_drift(link.id) d WHERE d.blocking
			  GROUP BY d.schema_name, d.table_name) d
			FULL JOIN (SELECT k.* FROM tide.link_drift k WHERE k.link_id = link.id) k
				ON k.schema_name = d.schema_name AND k.table_name = d.table_name
		WHERE d.now IS DISTINCT FROM k.told
	LOOP
		DELETE FROM tide.link_drift k WHERE k.link_id = link.id AND k.schema_name = found.schema_name
			AND k.table_name = found.table_name AND found.now IS NULL;
		IF found.now IS NOT NULL THEN
			INSERT INTO tide.link_drift (link_id, schema_name, table_name, told)
				VALUES (link.id, found.schema_name, found.table_name, found.now)
				ON CONFLICT ON CONSTRAINT link_drift_pkey DO UPDATE SET told = excluded.told;
		END IF;
		said := said || jsonb_build_object(
			'bad', found.now IS NOT NULL,
			'message', format('table %I.%I %s', found.schema_name, found.table_name,
							  CASE WHEN found.now IS NULL THEN format('takes the rows of region "%s" again', link.region)
								   ELSE format('can''t take all rows of region "%s": %s', link.region, found.now) END));
	END LOOP;
	RETURN said;
END;
$$;

/* Is there nothing any more that keeps the parked change's table from being written?  See apply_retry.c. */
CREATE FUNCTION tide._parked_fits(id bigint) RETURNS boolean
LANGUAGE c VOLATILE STRICT
AS 'MODULE_PATHNAME', 'tide_sql_parked_fits';

/*
 * Of what waits, the first change of each table, or row, that can be tried again: tables that wait as a
 * whole and would take it now; rows whose table was altered since they were refused.
 */
CREATE FUNCTION tide._link_resumable(link tide.link) RETURNS bigint[]
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT array_agg(w.id ORDER BY w.id)
	FROM (SELECT min(c.id) AS id, true AS whole FROM tide.parked_change c
		  WHERE c.link_id = link.id AND c.key IS NULL GROUP BY c.schema_name, c.table_name
		  UNION ALL
		  SELECT min(c.id), false
		  FROM tide.parked_change c JOIN tide.table_version v
			  ON v.schema_name = c.schema_name AND v.table_name = c.table_name AND v.touched <> c.touched
		  WHERE c.link_id = link.id AND c.key IS NOT NULL AND c.code <> 'TD020'
		  GROUP BY c.schema_name, c.table_name, c.key) w
	WHERE CASE WHEN w.whole THEN tide._parked_fits(w.id) ELSE true END
$$;

/* Every few seconds: what the origin says of its shapes (NULL: as before), and what follows from it here. */
CREATE FUNCTION tide.relay_link_shapes(pipeline text, epoch bigint, shapes jsonb,
									   OUT drifted int, OUT resumable bigint[], OUT said jsonb)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	link tide.link := tide._link_of(pipeline, epoch);
BEGIN
	IF shapes IS NOT NULL THEN
		/* Before any of its rows: who applies takes them in this order. */
		PERFORM tide._link_lock(link.id);
		/* What the origin has taken back, as it was restored, or does not publish any more. */
		DELETE FROM tide.link_shape s WHERE s.link_id = link.id AND NOT EXISTS (
			SELECT FROM jsonb_to_recordset(shapes -> 'tables') AS p (schema_name name, table_name name, version int)
			WHERE p.schema_name = s.schema_name AND p.table_name = s.table_name AND p.version >= s.version);
		PERFORM tide._link_shape_note(link.id, p) FROM jsonb_array_elements(shapes -> 'tables') p;
		PERFORM tide._region_node_note(link.region, (shapes ->> 'node')::int);
	END IF;
	said := tide._link_drift_tell(link);
	drifted := (SELECT count(*) FROM tide.link_drift k WHERE k.link_id = link.id);
	resumable := tide._link_resumable(link);
END;
$$;

/* Applies up to so many changes that wait, from that one on; as tide.pending_retry() does. */
CREATE FUNCTION tide.relay_link_retry(pipeline text, epoch bigint, id bigint, max_changes int,
									  OUT applied bigint, OUT waiting bigint, OUT code text, OUT reason text)
LANGUAGE c VOLATILE STRICT
AS 'MODULE_PATHNAME', 'tide_sql_link_retry';

/* ---- rights ---- */

GRANT EXECUTE ON FUNCTION tide.table_shape(regclass) TO tide_admin;
GRANT EXECUTE ON FUNCTION tide._schema_drift(int) TO tide_admin, tide_relay, tide_reader;
GRANT EXECUTE ON FUNCTION
	tide.rows_shapes(text, text),
	tide.rows_schema(),
	tide.relay_link_shapes(text, bigint, jsonb),
	tide.relay_link_retry(text, bigint, bigint, int)
	TO tide_relay;
GRANT SELECT ON tide.table_version, tide.link_shape, tide.link_drift, tide.schema_drift TO tide_admin, tide_relay, tide_reader;
