/*
 * 79_classes.sql
 *		What each class derives, and whether every region declares it alike.
 *
 * Owns: telling other regions what is declared here, remembering what they declare,
 * comparing, the view tide.classes.  Does not own: classes (74_class.sql), asking (the relay's link_watch.c).
 */

/* All that regions should say alike of a class: what the options mean, however they were written. */
CREATE FUNCTION tide._class_facts(class tide.class) RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
SET intervalstyle = postgres
AS $$ SELECT jsonb_strip_nulls(to_jsonb(class) - '{name,options,created_at}'::text[]) $$;

/* For regions that take rows from here: classes by name, each with its tables. */
CREATE FUNCTION tide.rows_classes() RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT coalesce(jsonb_object_agg(c.name, jsonb_build_object('facts', tide._class_facts(c), 'tables', t.names)), '{}')
	FROM tide.class c
		CROSS JOIN LATERAL (SELECT coalesce(jsonb_agg(format('%I.%I', n.nspname, r.relname) ORDER BY n.nspname, r.relname), '[]')
							FROM tide.replicated_table t JOIN pg_class r ON r.oid = t.relid
								JOIN pg_namespace n ON n.oid = r.relnamespace
							WHERE t.class = c.name) t (names)
$$;

/* What stays in a region need not be declared in another. */
CREATE FUNCTION tide._class_stays(class jsonb) RETURNS boolean
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT class #>> '{facts,scope}' = 'regional' $$;

/*
 * How one class differs, in words; here or there is NULL where it is not declared.  kind: one
 * region lacks it, declares a fact otherwise, or has other tables in it.  Regions whose commits
 * wait for each other name different peers, and agree.
 */
CREATE FUNCTION tide._class_compare(region text, here jsonb, there jsonb) RETURNS TABLE (kind text, difference text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT 'lacks', format('declared in region "%s", not here', region) WHERE here IS NULL AND NOT tide._class_stays(there)
	UNION ALL
	SELECT 'lacks', format('declared here, not in region "%s"', region) WHERE there IS NULL AND NOT tide._class_stays(here)
	UNION ALL
	SELECT 'fact', format('%s is %s here, %s in region "%s"', k.key, coalesce(here -> 'facts' ->> k.key, 'not set'),
						  coalesce(there -> 'facts' ->> k.key, 'not set'), region)
	FROM (SELECT jsonb_object_keys(here -> 'facts') UNION SELECT jsonb_object_keys(there -> 'facts')) k (key)
	WHERE here IS NOT NULL AND there IS NOT NULL AND here -> 'facts' -> k.key IS DISTINCT FROM there -> 'facts' -> k.key
		AND NOT (k.key = 'sync_peer' AND coalesce(here -> 'facts' ->> k.key = region AND there -> 'facts' ->> k.key = tide.region_name(), false))
	UNION ALL
	SELECT 'table', format('table %s is in it here, not in region "%s"', t.name, region)
	FROM jsonb_array_elements_text(here -> 'tables') t (name)
	WHERE there IS NOT NULL AND NOT tide._class_stays(here) AND NOT there -> 'tables' ? t.name
	UNION ALL
	SELECT 'table', format('table %s is in it in region "%s", not here', t.name, region)
	FROM jsonb_array_elements_text(there -> 'tables') t (name)
	WHERE here IS NOT NULL AND NOT tide._class_stays(there) AND NOT here -> 'tables' ? t.name
$$;

/* Each class that differs from what a region declares. */
CREATE FUNCTION tide._classes_compare(region text, there jsonb) RETURNS TABLE (class text, kind text, difference text)
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT n.name, d.kind, d.difference
	FROM (SELECT tide.rows_classes()) h (classes)
		CROSS JOIN LATERAL (SELECT jsonb_object_keys(h.classes) UNION SELECT jsonb_object_keys(there)) n (name)
		CROSS JOIN LATERAL tide._class_compare(region, h.classes -> n.name, there -> n.name) d
	ORDER BY n.name, d.difference
$$;

/* The relay has asked the origin; the answer says what differs, NULL: nothing. */
CREATE FUNCTION tide.relay_link_classes(pipeline text, epoch bigint, classes jsonb) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	link tide.link := tide._link_of(pipeline, epoch);
BEGIN
	IF NOT EXISTS (SELECT FROM tide.link_classes c WHERE c.link_id = link.id AND c.classes = relay_link_classes.classes) THEN
		INSERT INTO tide.link_classes (link_id, classes) VALUES (link.id, relay_link_classes.classes)
			ON CONFLICT ON CONSTRAINT link_classes_pkey DO UPDATE
				SET classes = excluded.classes, changed_at = clock_timestamp();
	END IF;
	RETURN (SELECT string_agg(format('class "%s": %s', d.class, d.difference), '; ')
			FROM tide._classes_compare(link.region, classes) d);
END;
$$;

/* The tables' publications and triggers that are there because of the class. */
CREATE FUNCTION tide._class_publications(class text) RETURNS text[]
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT array_agg(DISTINCT p.pubname::text ORDER BY p.pubname::text)
	FROM tide.replicated_table t JOIN pg_publication_rel r ON r.prrelid = t.relid JOIN pg_publication p ON p.oid = r.prpubid
	WHERE t.class = _class_publications.class AND p.pubname LIKE 'tide\_%'
$$;

CREATE FUNCTION tide._class_triggers(class text) RETURNS text[]
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT array_agg(DISTINCT g.tgname::text ORDER BY g.tgname::text)
	FROM tide.replicated_table t JOIN pg_trigger g ON g.tgrelid = t.relid
	WHERE t.class = _class_triggers.class AND g.tgname LIKE 'tide\_%'
$$;

/* NULL in agrees: no other region has been heard of. */
CREATE FUNCTION tide._classes()
RETURNS TABLE (class text, declared boolean, differences text[], heard_of bigint)
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
	WITH different AS (
		SELECT d.class, l.region, d.difference
		FROM tide.link_classes s JOIN tide.link l ON l.id = s.link_id
			CROSS JOIN LATERAL tide._classes_compare(l.region, s.classes) d
	)
	SELECT n.class, c.name IS NOT NULL,
		(SELECT coalesce(array_agg(d.difference ORDER BY d.region, d.difference), '{}') FROM different d WHERE d.class = n.class),
		(SELECT count(*) FROM tide.link_classes)
	FROM (SELECT k.name FROM tide.class k UNION SELECT d.class FROM different d) n (class)
		LEFT JOIN tide.class c ON c.name = n.class
$$;

CREATE VIEW tide.classes AS
	SELECT n.class, c.scope, CASE WHEN n.declared THEN tide._class_writer(c) END AS written, c.conflict, c.durability, c.slo AS objective, c.priority,
		c.options,
		(SELECT coalesce(pg_catalog.array_agg(t.relid::text ORDER BY t.relid::text), '{}')
		 FROM tide.replicated_table t WHERE t.class = n.class) AS tables,
		coalesce(tide._class_publications(n.class), '{}') AS publications,
		coalesce(tide._class_triggers(n.class), '{}') AS triggers,
		CASE WHEN n.heard_of > 0 THEN n.differences = '{}' END AS agrees, n.differences
	FROM tide._classes() n LEFT JOIN tide.class c ON c.name = n.class
	ORDER BY n.class;

/* ---- rights ---- */

GRANT EXECUTE ON FUNCTION tide.rows_classes(), tide.relay_link_classes(text, bigint, jsonb), tide._classes_compare(text, jsonb)
	TO tide_relay;
GRANT EXECUTE ON FUNCTION tide._classes(), tide._class_publications(text), tide._class_triggers(text), tide._class_writer(tide.class)
	TO tide_admin, tide_relay, tide_reader;
GRANT SELECT ON tide.classes, tide.link_classes TO tide_admin, tide_relay, tide_reader;
