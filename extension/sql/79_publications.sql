/*
 * 79_publications.sql
 *		Keeping others from changing what crosses: the publications are pg_tide's own.
 *
 * Owns: refusing CREATE, ALTER and DROP PUBLICATION of ours by hand.  Does not own: the publications
 * (75_table.sql, 73_residency.sql), saying what somebody changed all the same (the audit, the doctor).
 *
 * One statement too many would send what must not leave; and links can't come past some of them ever: the WAL
 * is read with the publications as they were when it was written.
 */

/* Those that there should be. */
CREATE FUNCTION tide._publications() RETURNS SETOF text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT unnest('{tide_global,tide_global_insert,tide_low,tide_low_insert}'::text[])
	WHERE EXISTS (SELECT FROM tide.replicated_table t WHERE t.published_since IS NOT NULL)
	UNION ALL
	SELECT tide._residency_publication(d.region, i) FROM tide.residency_destination d, unnest('{f,t}'::boolean[]) i
$$;

/* Is this the doing of one of our own functions?  A dump that is restored brings what they made. */
CREATE FUNCTION tide._publications_ours() RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	stack text;
BEGIN
	GET DIAGNOSTICS stack = PG_CONTEXT;
	RETURN to_regclass('tide.residency_destination') IS NULL OR stack ~ 'tide\._(publication_|residency_)' OR tide._restoring();
END;
$$;

CREATE FUNCTION tide._publications_refuse(publication text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RAISE EXCEPTION 'publication "%" is pg_tide''s own', publication
		USING ERRCODE = 'object_in_use',
			  DETAIL = 'It says what crosses to other regions; links can stop for good when it is changed by hand.',
			  HINT = 'Say what may cross with tide.class_alter(), tide.table_add() and tide.table_remove(). '
					 'For streams of your own make another publication.';
END;
$$;

/* Also by its objects: tables in it, schemas in it; and when it has another name now. */
CREATE FUNCTION tide._publications_changed() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	found text;
BEGIN
	IF tide._publications_ours() THEN
		RETURN;
	END IF;
	SELECT p.pubname INTO found
		FROM pg_event_trigger_ddl_commands() c
			JOIN pg_publication p ON p.oid = CASE c.classid
				WHEN 'pg_publication'::regclass THEN c.objid
				WHEN 'pg_publication_rel'::regclass THEN (SELECT r.prpubid FROM pg_publication_rel r WHERE r.oid = c.objid)
				WHEN 'pg_publication_namespace'::regclass THEN (SELECT n.pnpubid FROM pg_publication_namespace n WHERE n.oid = c.objid) END
		WHERE p.pubname IN (SELECT o FROM tide._publications() o) LIMIT 1;
	IF found IS NULL AND current_query() ~* 'rename' THEN
		SELECT o INTO found FROM tide._publications() o
			WHERE NOT EXISTS (SELECT FROM pg_publication p WHERE p.pubname = o) LIMIT 1;
	END IF;
	IF found IS NOT NULL THEN
		PERFORM tide._publications_refuse(found);
	END IF;
END;
$$;
CREATE EVENT TRIGGER tide_publications_changed ON ddl_command_end WHEN TAG IN ('ALTER PUBLICATION')
	EXECUTE FUNCTION tide._publications_changed();

/* Of a table that is dropped nothing has to stay in them. */
CREATE FUNCTION tide._publications_dropped() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	found text;
BEGIN
	IF tide._publications_ours() THEN
		RETURN;
	END IF;
	SELECT o INTO found
		FROM pg_event_trigger_dropped_objects() d
			JOIN tide._publications() o ON o = CASE WHEN d.object_type = 'publication' THEN d.object_name ELSE d.address_args[1] END
		WHERE d.object_type IN ('publication', 'publication relation', 'publication namespace') LIMIT 1;
	IF found IS NOT NULL THEN
		PERFORM tide._publications_refuse(found);
	END IF;
END;
$$;
CREATE EVENT TRIGGER tide_publications_dropped ON sql_drop WHEN TAG IN ('ALTER PUBLICATION', 'DROP PUBLICATION')
	EXECUTE FUNCTION tide._publications_dropped();
