/*
 * 75_table.sql
 *		Which tables are replicated.
 *
 * Owns: adding and removing tables: the column tide_stamp, the triggers, the
 * publications, the relay's privileges; what happens when somebody drops or
 * renames such a table.  Does not own: the triggers' functions (stamp_row.c, scope.c).
 *
 * A table is published by core's own means, in the publication tide_global, or
 * tide_global_insert if it is insert-only (of a class with a low priority: tide_low,
 * tide_low_insert); one of a regional class in none.
 * Partitioned tables are published by root: regions may partition differently.
 *
 * The functions that change the set take a SHARE ROW EXCLUSIVE lock on
 * tide.replicated_table first, so that they follow one another.
 */

/*
 * The index of a table's key.  If its replica identity is our own (73_residency.sql), which has more columns
 * behind the key's, it is the unique index that those begin with.  As tide_map_key_index() has it.
 */
CREATE FUNCTION tide._key_index(tbl oid) RETURNS oid
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE WHEN x.relname LIKE 'tide\_residency\_%' THEN
			(SELECT k.indexrelid FROM pg_index k
			 WHERE k.indrelid = tbl AND k.indisunique AND k.indisvalid AND k.indimmediate
				 AND k.indpred IS NULL AND k.indnkeyatts < i.indnkeyatts
				 AND (k.indkey::int2[])[0:k.indnkeyatts - 1] = (i.indkey::int2[])[0:k.indnkeyatts - 1]
			 ORDER BY k.indisprimary DESC, k.indnkeyatts DESC, k.indexrelid LIMIT 1)
		ELSE i.indexrelid END
	FROM pg_class c
		JOIN pg_index i ON i.indrelid = c.oid
		JOIN pg_class x ON x.oid = coalesce(pg_partition_root(i.indexrelid), i.indexrelid)
	WHERE c.oid = tbl AND i.indisvalid AND i.indimmediate
		AND CASE c.relreplident WHEN 'i' THEN i.indisreplident WHEN 'n' THEN false ELSE i.indisprimary END
$$;

/* The columns that identify a row for others, in order; NULL: there are none. */
CREATE FUNCTION tide._table_key(tbl oid) RETURNS text[]
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT array_agg(a.attname::text ORDER BY k.n)
	FROM pg_index i
		CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY k (attnum, n)
		JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
	WHERE i.indexrelid = tide._key_index(tbl) AND k.n <= i.indnkeyatts
$$;

/* A leaf: the table itself, or each of its partitions that has rows of its own. */
CREATE FUNCTION tide._table_leaves(tbl oid) RETURNS SETOF oid
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT tbl FROM pg_class c WHERE c.oid = tbl AND c.relkind <> 'p'
	UNION ALL
	SELECT p.relid::oid FROM pg_class c, pg_partition_tree(tbl) p WHERE c.oid = tbl AND c.relkind = 'p' AND p.isleaf
$$;

/* Refuses what is no ordinary table, or not the caller's. */
CREATE FUNCTION tide._table_check(tbl regclass, caller oid) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	rel pg_class;
	schema text;
BEGIN
	IF tbl IS NULL THEN
		RAISE EXCEPTION 'the table must not be NULL'
			USING ERRCODE = 'null_value_not_allowed', HINT = 'Pass its name, such as ''public.orders''.';
	END IF;
	SELECT c.* INTO rel FROM pg_class c WHERE c.oid = tbl;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'table % does not exist', tbl::oid
			USING ERRCODE = 'undefined_table', HINT = 'Pass its name, such as ''public.orders''.';
	END IF;
	SELECT n.nspname INTO schema FROM pg_namespace n WHERE n.oid = rel.relnamespace;
	IF rel.relkind NOT IN ('r', 'p') THEN
		RAISE EXCEPTION '"%" is not a table', rel.relname
			USING ERRCODE = 'wrong_object_type', HINT = 'Only tables are replicated, partitioned ones too.';
	ELSIF rel.oid < 16384 OR schema IN ('pg_catalog', 'information_schema', 'tide') THEN
		RAISE EXCEPTION 'table % belongs to the server or to pg_tide', tbl
			USING ERRCODE = 'wrong_object_type', HINT = 'Tables of your own can be replicated.';
	ELSIF rel.relpersistence <> 'p' THEN
		RAISE EXCEPTION 'table % is temporary or unlogged', tbl
			USING ERRCODE = 'wrong_object_type',
				  HINT = 'What is not in the WAL can''t be replicated. ALTER TABLE ... SET LOGGED changes an unlogged table.';
	ELSIF rel.relispartition THEN
		RAISE EXCEPTION 'table % is a partition', tbl
			USING ERRCODE = 'wrong_object_type',
				  HINT = format('Add the partitioned table: %s.', pg_partition_root(tbl));
	ELSIF rel.reloftype <> 0 THEN
		RAISE EXCEPTION 'table % is made of a type', tbl
			USING ERRCODE = 'wrong_object_type',
				  HINT = format('It needs a column of its own, "tide_stamp": ALTER TABLE %s NOT OF makes it an ordinary table.', tbl);
	ELSIF NOT pg_has_role(caller, rel.relowner, 'USAGE') THEN
		RAISE EXCEPTION 'must be owner of table %', tbl
			USING ERRCODE = 'insufficient_privilege', HINT = 'Only its owner, or a superuser, can have it replicated.';
	END IF;
END;
$$;

/* Every row needs a key that others find it by. */
CREATE FUNCTION tide._table_check_key(tbl regclass) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	hint text := 'Add a primary key (not deferrable), or name a unique index with ALTER TABLE ... REPLICA IDENTITY USING INDEX. '
		'If rows are only ever added, pass {"insert_only": true}.';
	leaf regclass;
BEGIN
	IF tide._table_key(tbl) IS NULL THEN
		RAISE EXCEPTION 'table % has no key', tbl
			USING ERRCODE = 'object_not_in_prerequisite_state', HINT = hint,
				  DETAIL = (SELECT CASE c.relreplident WHEN 'n' THEN 'Its replica identity is NOTHING.'
									WHEN 'f' THEN 'Its replica identity is FULL, which finds no row for certain.'
									WHEN 'i' THEN 'The index of its replica identity is gone.'
									ELSE 'It has no primary key that can be its replica identity.' END
							FROM pg_class c WHERE c.oid = tbl);
	END IF;
	SELECT l INTO leaf FROM tide._table_leaves(tbl) l WHERE tide._table_key(l) IS NULL LIMIT 1;
	IF FOUND THEN
		RAISE EXCEPTION 'partition % of table % has no key', leaf, tbl
			USING ERRCODE = 'object_not_in_prerequisite_state', HINT = hint;
	END IF;
END;
$$;

CREATE FUNCTION tide._table_check_leaves(tbl regclass) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	leaf regclass;
BEGIN
	SELECT c.oid INTO leaf FROM tide._table_leaves(tbl) l JOIN pg_class c ON c.oid = l
		WHERE c.relkind <> 'r' OR c.relpersistence <> 'p' LIMIT 1;
	IF FOUND THEN
		RAISE EXCEPTION 'partition % of table % is foreign or unlogged', leaf, tbl
			USING ERRCODE = 'wrong_object_type', HINT = 'What is not in the WAL here can''t be replicated. Detach it.';
	END IF;
END;
$$;

/*
 * Values that name objects by numbers of this database mean nothing elsewhere: _binary_portable() has more.
 * Bytes of no encoding can't be read out of the WAL at all.
 */
CREATE FUNCTION tide._table_warn_types(tbl regclass) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	col text;
	type regtype;
BEGIN
	IF current_setting('server_encoding') = 'SQL_ASCII' THEN
		RAISE WARNING 'this database does not say which encoding its text has (SQL_ASCII)'
			USING HINT = 'Rows travel as UTF-8: the first value that is no UTF-8 stops every link from here. Use a database with an encoding.';
	END IF;
	FOR col, type IN SELECT a.attname, a.atttypid FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
		WHERE a.attrelid = tbl AND a.attnum > 0 AND NOT a.attisdropped
			AND t.typname ~ '^_?reg' AND t.typnamespace = 'pg_catalog'::regnamespace
		ORDER BY a.attnum
	LOOP
		RAISE WARNING 'column "%" of table % is of type %', col, tbl, type
			USING HINT = 'It holds numbers of this database: changes of rows with a value there are parked in other regions. Use text.';
	END LOOP;
END;
$$;

/* What table_add was given: {"insert_only", "columns"}. */
CREATE FUNCTION tide._table_check_options(tbl regclass, options jsonb) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	what text := format('table %s', tbl);
	col text;
	rule jsonb;
BEGIN
	PERFORM tide._check_keys(what, options, '{"insert_only": "boolean", "columns": "object"}');
	FOR col, rule IN SELECT e.key, e.value FROM jsonb_each(coalesce(options -> 'columns', '{}')) e ORDER BY e.key
	LOOP
		IF NOT EXISTS (SELECT FROM pg_attribute a
					   WHERE a.attrelid = tbl AND a.attname = col AND a.attnum > 0 AND NOT a.attisdropped) THEN
			RAISE EXCEPTION 'column "%" of table % does not exist', col, tbl
				USING ERRCODE = 'undefined_column', HINT = 'Name columns of the table under "columns".';
		ELSIF jsonb_typeof(rule) NOT IN ('string', 'object') THEN
			RAISE EXCEPTION 'the rule of column "%" of table % must be a string or an object', col, tbl
				USING ERRCODE = 'invalid_parameter_value', HINT = 'For example "lww".';
		END IF;
		IF jsonb_typeof(rule) = 'object' THEN
			rule := coalesce(rule -> 'merge', '"null"');
		END IF;
		PERFORM tide._check_choice(what, 'columns.' || col, regexp_replace(rule #>> '{}', '^function:.+', 'function:NAME'),
								   '{lww}', '{max,min,counter,bounded,set,json,function:NAME}');
	END LOOP;
END;
$$;

/* The column: rows that are there count as written here, before every clock.  One that is there is kept. */
CREATE FUNCTION tide._table_make_column(tbl regclass, region text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	type oid;
BEGIN
	SELECT a.atttypid INTO type FROM pg_attribute a
		WHERE a.attrelid = tbl AND a.attname = 'tide_stamp' AND NOT a.attisdropped;
	IF type = 'tide.stamp'::regtype THEN
		RETURN;
	ELSIF type IS NOT NULL THEN
		RAISE EXCEPTION 'table % has a column "tide_stamp" that is not ours', tbl
			USING ERRCODE = 'duplicate_column', HINT = 'Rename it: pg_tide needs the name for the versions of rows.';
	END IF;
	IF (SELECT c.relnatts FROM pg_class c WHERE c.oid = tbl) >= 1600 THEN
		RAISE EXCEPTION 'table % has no room for the column "tide_stamp"', tbl
			USING ERRCODE = 'too_many_columns',
				  DETAIL = 'A table can have 1600 columns, dropped ones included.',
				  HINT = 'Split the table, or make it anew without its dropped columns.';
	END IF;
	EXECUTE format('ALTER TABLE %s ADD COLUMN tide_stamp tide.stamp DEFAULT %L', tbl, tide._stamp_before(region)::text);
	EXECUTE format('ALTER TABLE %s ALTER COLUMN tide_stamp DROP DEFAULT', tbl);
END;
$$;

CREATE FUNCTION tide._table_make_trigger(tbl regclass) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	trig pg_trigger;
BEGIN
	SELECT t.* INTO trig FROM pg_trigger t WHERE t.tgrelid = tbl AND t.tgname = 'tide_stamp';
	IF NOT FOUND THEN
		EXECUTE format('CREATE TRIGGER tide_stamp BEFORE INSERT OR UPDATE ON %s '
					   'FOR EACH ROW EXECUTE FUNCTION tide._stamp_row()', tbl);
	ELSIF trig.tgfoid <> 'tide._stamp_row()'::regprocedure THEN
		RAISE EXCEPTION 'table % has a trigger "tide_stamp" that is not ours', tbl
			USING ERRCODE = 'duplicate_object', HINT = 'Rename it: pg_tide needs the name.';
	ELSIF trig.tgenabled <> 'O' THEN
		EXECUTE format('ALTER TABLE %s ENABLE TRIGGER tide_stamp', tbl);
	END IF;
END;
$$;

CREATE FUNCTION tide._scope_row() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'tide_sql_scope_row';

/*
 * The triggers that refuse writes which belong to another region, as the class says; see scope.c.  In its
 * primary a table needs none.  Row triggers are cloned to partitions, also those that come;
 * TRUNCATE of a partition by its own name asks the partition.
 */
CREATE FUNCTION tide._table_make_scope(tbl regclass, class tide.class) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	call text := CASE class.scope WHEN 'home' THEN format('tide._scope_row(%L, %L)', 'home', class.home_column)
				 WHEN 'primary' THEN format('tide._scope_row(%L, %L)', 'primary', class.primary_region) END;
	col pg_attribute;
	rel regclass;
	trig name;
BEGIN
	IF class.primary_region = tide._own_region() THEN
		call := NULL;
	END IF;
	IF class.scope = 'home' THEN
		SELECT a.* INTO col FROM pg_attribute a
			WHERE a.attrelid = tbl AND a.attname = class.home_column AND a.attnum > 0 AND NOT a.attisdropped;
		IF NOT FOUND THEN
			RAISE EXCEPTION 'table % has no column "%", which names a row''s home', tbl, class.home_column
				USING ERRCODE = 'undefined_column',
					  HINT = 'Add it, of type text (rows get this region by themselves), or name another column in the class: {"home": "column"}.';
		END IF;
	END IF;
	IF call IS NOT NULL THEN
		EXECUTE format('CREATE OR REPLACE TRIGGER tide_scope BEFORE INSERT OR UPDATE OR DELETE ON %s '
					   'FOR EACH ROW EXECUTE FUNCTION %s', tbl, call);
		FOR rel IN SELECT tbl UNION SELECT p.relid FROM pg_partition_tree(tbl) p
		LOOP
			EXECUTE format('CREATE OR REPLACE TRIGGER tide_scope_truncate BEFORE TRUNCATE ON %s '
						   'FOR EACH STATEMENT EXECUTE FUNCTION %s', rel, call);
		END LOOP;
		RETURN;
	END IF;
	FOR rel, trig IN SELECT t.tgrelid, t.tgname FROM pg_trigger t
		WHERE t.tgfoid = 'tide._scope_row()'::regprocedure AND t.tgparentid = 0
			AND (t.tgrelid = tbl OR t.tgrelid IN (SELECT p.relid FROM pg_partition_tree(tbl) p))
	LOOP
		EXECUTE format('DROP TRIGGER %I ON %s', trig, rel);
	END LOOP;
END;
$$;

/* Reading rows for a copy, writing those that come. */
CREATE FUNCTION tide._table_grant(tbl regclass) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	schema oid := (SELECT c.relnamespace FROM pg_class c WHERE c.oid = tbl);
BEGIN
	IF NOT has_schema_privilege('tide_relay', schema, 'USAGE') THEN
		EXECUTE format('GRANT USAGE ON SCHEMA %s TO tide_relay', schema::regnamespace);
	END IF;
	EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON %s TO tide_relay', tbl);
	IF (SELECT c.relrowsecurity FROM pg_class c WHERE c.oid = tbl) THEN
		RAISE WARNING 'table % has row security', tbl
			USING HINT = 'A relay''s role is subject to it: its rows are neither copied nor applied, unless that role has BYPASSRLS.';
	END IF;
END;
$$;

/* The publication, made when it is needed and put right when somebody changed it. */
CREATE FUNCTION tide._publication_make(name text, publish text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	pub pg_publication;
	options text := format('publish = %L, publish_via_partition_root = true', publish);
BEGIN
	SELECT p.* INTO pub FROM pg_publication p WHERE p.pubname = name;
	IF NOT FOUND THEN
		EXECUTE format('CREATE PUBLICATION %I WITH (%s)', name, options);
	ELSIF pub.puballtables THEN
		RAISE EXCEPTION 'publication "%" publishes all tables', name
			USING ERRCODE = 'object_not_in_prerequisite_state',
				  HINT = 'The name is pg_tide''s, which publishes what tide.table_add() was told. Rename or drop the publication.';
	ELSIF NOT pub.pubviaroot OR NOT pub.pubinsert
		OR (pub.pubupdate, pub.pubdelete, pub.pubtruncate) IS DISTINCT FROM
			(publish ~ 'update', publish ~ 'delete', publish ~ 'truncate')
	THEN
		EXECUTE format('ALTER PUBLICATION %I SET (%s)', name, options);
	END IF;
END;
$$;

/* What other regions are told of the schema travels with the rows, in their order; see 78_schema.sql. */
CREATE FUNCTION tide._publication_log() RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF NOT EXISTS (SELECT FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid
				   WHERE p.pubname = 'tide_global_insert' AND r.prrelid = 'tide.schema_log'::regclass) THEN
		ALTER PUBLICATION tide_global_insert ADD TABLE ONLY tide.schema_log;
	END IF;
END;
$$;

/*
 * All, before anybody reads the WAL: a stream that begins before a publication
 * was made can't name it, not even when it has come past that point.
 */
CREATE FUNCTION tide._publications_make() RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	/* A class of its own: under 1953064038 relays hold the numbers of their links. */
	PERFORM pg_advisory_xact_lock(1953064039, 1);
	PERFORM tide._publication_make('tide_global', 'insert, update, delete, truncate'),
		tide._publication_make('tide_global_insert', 'insert'),
		tide._publication_make('tide_low', 'insert, update, delete, truncate'),
		tide._publication_make('tide_low_insert', 'insert');
	PERFORM tide._publication_log();
END;
$$;

CREATE FUNCTION tide._publication_lane(publication text) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT CASE WHEN publication IN ('tide_low', 'tide_low_insert') THEN 'low' WHEN publication IS NOT NULL THEN 'main' END $$;

/*
 * Puts the table into the publication where it belongs, and into no other of ours; NULL: into none.
 * Remembers since when: who reads one lane has not seen what the table's changes were in another.
 */
CREATE FUNCTION tide._publication_choose(tbl regclass, wanted text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	pub text;
	member boolean;
	before text;	/* the lane that it was in; NULL: in none */
BEGIN
	IF wanted IS NOT NULL THEN
		PERFORM tide._publications_make();
	END IF;
	FOREACH pub IN ARRAY '{tide_global,tide_global_insert,tide_low,tide_low_insert}'::text[]
	LOOP
		member := EXISTS (SELECT FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid
						  WHERE p.pubname = pub AND r.prrelid = tbl);
		before := CASE WHEN member THEN tide._publication_lane(pub) ELSE before END;
		IF member AND pub IS DISTINCT FROM wanted THEN
			EXECUTE format('ALTER PUBLICATION %I DROP TABLE ONLY %s', pub, tbl);
		ELSIF pub = wanted AND NOT member THEN
			EXECUTE format('ALTER PUBLICATION %I ADD TABLE ONLY %s', pub, tbl);
		END IF;
	END LOOP;
	IF before IS DISTINCT FROM tide._publication_lane(wanted) THEN
		UPDATE tide.replicated_table t SET
			published_since = CASE WHEN wanted IS NULL THEN NULL
							  WHEN before IS NULL THEN pg_current_wal_insert_lsn() ELSE t.published_since END,
			lane_since = CASE WHEN wanted IS NOT NULL THEN pg_current_wal_insert_lsn() END
			WHERE t.relid = tbl;
	END IF;
END;
$$;

CREATE FUNCTION tide._table_publish(tbl regclass) RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT tide._publication_choose(tbl, CASE WHEN c.residency IS NOT NULL THEN NULL
											  WHEN tide._class_lane(c) = 'main' THEN 'tide_global'
											  WHEN tide._class_lane(c) = 'low' THEN 'tide_low' END
										 || CASE WHEN t.insert_only THEN '_insert' ELSE '' END)
	FROM tide.replicated_table t JOIN tide.class c ON c.name = t.class
	WHERE t.relid = tbl;
	/* Published for each region by itself: 73_residency.sql. */
	UPDATE tide.replicated_table t SET published_since = pg_current_wal_insert_lsn(), lane_since = pg_current_wal_insert_lsn()
		FROM tide.class c
		WHERE t.relid = tbl AND c.name = t.class AND c.residency IS NOT NULL AND t.published_since IS NULL;
$$;

/* Everything that a table has because of its class: made, changed or taken away. */
CREATE FUNCTION tide._table_derive(tbl regclass, class tide.class) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM tide._table_make_scope(tbl, class);
	PERFORM tide._table_make_durability(tbl, class);
	PERFORM tide._table_publish(tbl);
	PERFORM tide._table_make_truncate(tbl);
	PERFORM tide._residency_derive(tbl, class);
	IF class.residency IS NOT NULL THEN
		PERFORM tide._residency_warn();
	END IF;
END;
$$;

/* Called by table_add() as the extension's owner; caller is who called that. */
CREATE FUNCTION tide._table_add(tbl regclass, class text, options jsonb, caller oid) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	region text := tide._own_region();
	insert_only boolean;
	known tide.class;
	present tide.replicated_table;
BEGIN
	PERFORM tide._table_check(tbl, caller);
	PERFORM tide._set_up_lock();
	known := tide._class(class);
	PERFORM tide._table_check_options(tbl, options);
	insert_only := coalesce((options ->> 'insert_only')::boolean, false);
	PERFORM tide._table_check_leaves(tbl);
	IF NOT insert_only THEN
		PERFORM tide._table_check_key(tbl);
	END IF;
	SELECT t.* INTO present FROM tide.replicated_table t WHERE t.relid = tbl;
	IF present.class <> known.name THEN
		RAISE EXCEPTION 'table % is in class "%"', tbl, present.class
			USING ERRCODE = 'duplicate_object',
				  HINT = format('Move it in one transaction, so that nothing is written in between: BEGIN; SELECT tide.table_remove(%1$L); '
								'SELECT tide.table_add(%1$L, %2$L); COMMIT. Regions that take rows from here copy it again.', tbl, known.name);
	END IF;
	PERFORM tide._table_warn_types(tbl);
	PERFORM tide._table_make_column(tbl, region);
	PERFORM tide._table_make_trigger(tbl);
	PERFORM tide._table_grant(tbl);
	INSERT INTO tide.replicated_table AS t (relid, class, options, insert_only)
		VALUES (tbl, known.name, _table_add.options, insert_only)
		ON CONFLICT ON CONSTRAINT replicated_table_pkey DO UPDATE
			SET options = excluded.options, insert_only = excluded.insert_only
			WHERE t.options <> excluded.options;
	PERFORM tide._table_derive(tbl, known);
	PERFORM tide._lanes_make();
END;
$$;

CREATE FUNCTION tide._table_remove(tbl regclass, drop_column boolean, caller oid) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM tide._table_check(tbl, caller);
	PERFORM tide._set_up_lock();
	/* Before anything that the end of a first copy waits for: that has the table. */
	EXECUTE format('LOCK TABLE ONLY %s IN ACCESS EXCLUSIVE MODE', tbl);
	DELETE FROM tide.replicated_table t WHERE t.relid = tbl;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'table % is not replicated', tbl
			USING ERRCODE = 'undefined_object',
				  HINT = 'tide.tables shows what is. tide.table_add() adds a table.';
	END IF;
	PERFORM tide._publication_choose(tbl, NULL), tide._residency_leave(tbl), tide._residency_note_own(tbl);
	IF EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = tbl AND t.tgfoid = 'tide._stamp_row()'::regprocedure) THEN
		EXECUTE format('DROP TRIGGER tide_stamp ON %s', tbl);
	END IF;
	PERFORM tide._table_make_scope(tbl, NULL);
	PERFORM tide._table_make_durability(tbl, NULL), tide._table_make_truncate(tbl);
	IF drop_column THEN
		EXECUTE format('ALTER TABLE %s DROP COLUMN IF EXISTS tide_stamp', tbl);
	END IF;
	EXECUTE format('REVOKE SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON %s FROM tide_relay', tbl);
	PERFORM tide._link_tables_clean(), tide._lanes_make();
END;
$$;

/*
 * These two know who called (a SECURITY DEFINER function in SQL would not), and
 * do the rest as the extension's owner.  See table.c.
 */
CREATE FUNCTION tide.table_add(tbl regclass, class text, options jsonb DEFAULT '{}') RETURNS void
LANGUAGE c AS 'MODULE_PATHNAME', 'tide_sql_table_add';

CREATE FUNCTION tide.table_remove(tbl regclass, drop_column boolean DEFAULT false) RETURNS void
LANGUAGE c AS 'MODULE_PATHNAME', 'tide_sql_table_remove';

/* ---- when somebody else changes a replicated table ---- */

/* A table that is gone is forgotten; its stamps and its trigger go only with tide.table_remove(). */
CREATE FUNCTION tide._rows_dropped() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	gone record;
BEGIN
	IF to_regclass('tide.replicated_table') IS NULL OR to_regclass('tide.link_table') IS NULL THEN
		RETURN;	/* the extension goes */
	END IF;
	DELETE FROM tide.replicated_table t USING pg_event_trigger_dropped_objects() o
		WHERE o.classid = 'pg_class'::regclass AND o.objsubid = 0 AND o.objid = t.relid;
	IF FOUND THEN
		PERFORM tide._link_tables_clean(), tide._lanes_make();
	END IF;
	SELECT o.object_type, t.relid INTO gone
		FROM pg_event_trigger_dropped_objects() o JOIN tide.replicated_table t
			ON t.relid = to_regclass(format('%I.%I', o.address_names[1], o.address_names[2]))
		WHERE o.object_type IN ('table column', 'trigger') AND o.address_names[3] = 'tide_stamp'
		LIMIT 1;
	IF FOUND THEN
		RAISE EXCEPTION 'the % "tide_stamp" belongs to replicated table %', replace(gone.object_type, 'table ', ''), gone.relid
			USING ERRCODE = 'dependent_objects_still_exist',
				  HINT = format('SELECT tide.table_remove(%L, drop_column => true) ends its replication first.', gone.relid);
	END IF;
END;
$$;
CREATE EVENT TRIGGER tide_rows_dropped ON sql_drop EXECUTE FUNCTION tide._rows_dropped();

/* A table that has another name is another table to the other regions: it is copied again. */
CREATE FUNCTION tide._rows_renamed() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF to_regclass('tide.link_table') IS NOT NULL THEN
		PERFORM tide._link_tables_clean();
	END IF;
END;
$$;
CREATE EVENT TRIGGER tide_rows_renamed ON ddl_command_end WHEN TAG IN ('ALTER TABLE', 'ALTER SCHEMA')
	EXECUTE FUNCTION tide._rows_renamed();

/* ---- rights ---- */

GRANT EXECUTE ON FUNCTION tide.table_add(regclass, text, jsonb), tide.table_remove(regclass, boolean) TO tide_admin;
GRANT EXECUTE ON FUNCTION tide._publication_lane(text) TO tide_relay;
GRANT SELECT ON tide.replicated_table TO tide_admin, tide_relay, tide_reader;
