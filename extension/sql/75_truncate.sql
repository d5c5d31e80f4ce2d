/*
 * 75_truncate.sql
 *		TRUNCATE of a single partition of a replicated table crosses, too.
 *
 * Owns: which tables have the trigger for that, also when partitions come and go.  Does not own: what
 * it does (truncate_part.c).
 */

CREATE FUNCTION tide._truncate_part() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'tide_sql_truncate_part';

/* Those that should have the trigger: the whole and its leaves, if their deletes are published. */
CREATE FUNCTION tide._table_truncated(tbl regclass) RETURNS SETOF regclass
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT p.relid
	FROM tide.replicated_table t JOIN tide.class k ON k.name = t.class, pg_partition_tree(tbl) p
	WHERE t.relid = tbl AND k.scope <> 'regional' AND NOT t.insert_only AND (p.isleaf OR p.level = 0)
		AND (SELECT c.relkind FROM pg_class c WHERE c.oid = tbl) = 'p'
$$;

CREATE FUNCTION tide._table_make_truncate(tbl regclass) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	rel regclass;
BEGIN
	FOR rel IN SELECT w FROM tide._table_truncated(tbl) w
		WHERE NOT EXISTS (SELECT FROM pg_trigger g WHERE g.tgrelid = w AND g.tgenabled = 'O'
							  AND g.tgname = 'tide_truncate' AND g.tgfoid = 'tide._truncate_part()'::regprocedure)
	LOOP
		EXECUTE format('CREATE OR REPLACE TRIGGER tide_truncate BEFORE TRUNCATE ON %s '
					   'FOR EACH STATEMENT EXECUTE FUNCTION tide._truncate_part()', rel);
	END LOOP;
	/* Also of what was a partition once. */
	FOR rel IN SELECT g.tgrelid FROM pg_trigger g JOIN pg_class c ON c.oid = g.tgrelid
		WHERE g.tgname = 'tide_truncate' AND g.tgfoid = 'tide._truncate_part()'::regprocedure
			AND ((c.relkind <> 'p' AND NOT c.relispartition) OR coalesce(pg_partition_root(c.oid), c.oid) = tbl)
			AND g.tgrelid NOT IN (SELECT w FROM tide._table_truncated(tbl) w)
	LOOP
		EXECUTE format('DROP TRIGGER tide_truncate ON %s', rel);
	END LOOP;
END;
$$;

/* Partitions come and go. */
CREATE FUNCTION tide._rows_partitioned() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF to_regclass('tide.replicated_table') IS NULL OR tide._restoring() THEN
		RETURN;	/* the extension comes or goes; a dump has the triggers, too */
	END IF;
	PERFORM tide._table_make_truncate(t.relid)
		FROM tide.replicated_table t JOIN pg_class c ON c.oid = t.relid
		WHERE c.relkind = 'p'
			AND t.relid IN (SELECT coalesce(pg_partition_root(d.objid), d.objid) FROM pg_event_trigger_ddl_commands() d
							WHERE d.classid = 'pg_class'::regclass);
END;
$$;
CREATE EVENT TRIGGER tide_rows_partitioned ON ddl_command_end WHEN TAG IN ('CREATE TABLE', 'ALTER TABLE')
	EXECUTE FUNCTION tide._rows_partitioned();
