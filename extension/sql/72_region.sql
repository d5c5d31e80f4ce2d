/*
 * 72_region.sql
 *		The other regions.
 *
 * Owns: adding and removing them.  Does not own: this region's name
 * (00_schema.sql), the links to them (76_link.sql).
 */

/* Error unless it is a connection string without a secret in clear, or a reference.  See config.c. */
CREATE FUNCTION tide._check_conninfo(conninfo text) RETURNS void
LANGUAGE c IMMUTABLE
AS 'MODULE_PATHNAME', 'tide_sql_check_conninfo';

/* Names that look alike to a stamp would mix up who wrote a row: one number, one region. */
CREATE FUNCTION tide._check_region_id(region text) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	other text;
BEGIN
	SELECT r.name INTO other
		FROM (SELECT l.name FROM tide.local_region l UNION ALL SELECT t.name FROM tide.region t) r
		WHERE r.name <> region AND tide.region_id(r.name) = tide.region_id(region);
	IF FOUND THEN
		RAISE EXCEPTION 'region "%" would have the same number as region "%"', region, other
			USING ERRCODE = 'unique_violation',
				  HINT = 'A region''s number is made from its name and goes into every row it writes: choose another name.';
	END IF;
END;
$$;

/* The region's row, or an error that says what to do. */
CREATE FUNCTION tide._region(region text) RETURNS tide.region
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	result tide.region;
BEGIN
	SELECT r.* INTO result FROM tide.region r WHERE r.name = _region.region;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'region "%" is not known here', coalesce(region, 'NULL')
			USING ERRCODE = 'undefined_object',
				  HINT = coalesce('Regions known here: '
								  || (SELECT string_agg(r.name, ', ' ORDER BY r.name) FROM tide.region r)
								  || '. ', '')
						 || 'SELECT tide.region_add(''name'', ''conninfo'') makes one known.';
	END IF;
	RETURN result;
END;
$$;

/* This region's name, once it has one: rows carry it, so a made-up one will not do. */
CREATE FUNCTION tide._own_region() RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	result text;
BEGIN
	SELECT l.name INTO result FROM tide.local_region l;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'this database''s region has no name'
			USING ERRCODE = 'object_not_in_prerequisite_state',
				  HINT = 'Name it with SELECT tide.region_init(''name'').';
	END IF;
	RETURN result;
END;
$$;

/* Makes a region known, or changes how it is reached. */
CREATE FUNCTION tide.region_add(name text, conninfo text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM tide._check_name('region', name);
	PERFORM tide._check_conninfo(conninfo);
	IF name = tide.region_name() THEN
		RAISE EXCEPTION 'region "%" is this database''s own', name
			USING ERRCODE = 'invalid_parameter_value',
				  HINT = 'tide.region_add() is for the other regions.';
	END IF;
	PERFORM tide._check_region_id(name);
	IF NOT EXISTS (SELECT FROM tide.region r WHERE r.name = region_add.name) THEN
		PERFORM tide._check_node(name, tide._default_node(name));
	END IF;
	INSERT INTO tide.region AS r (name, region_id, conninfo)
		VALUES (region_add.name, tide.region_id(region_add.name), region_add.conninfo)
		ON CONFLICT ON CONSTRAINT region_pkey DO UPDATE SET conninfo = excluded.conninfo
			WHERE r.conninfo <> excluded.conninfo;
	PERFORM tide._residency_add_destination(name);
	PERFORM tide._link_configure(l) FROM tide.link l WHERE l.region = region_add.name;
END;
$$;

CREATE FUNCTION tide.region_remove(name text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	known tide.region := tide._region(name);
BEGIN
	IF EXISTS (SELECT FROM tide.link l WHERE l.region = known.name) THEN
		RAISE EXCEPTION 'rows are still taken from region "%"', known.name
			USING ERRCODE = 'dependent_objects_still_exist',
				  HINT = format('End that first with SELECT tide.link_remove(%L), and wait until tide.links no longer shows it.',
								known.name);
	END IF;
	DELETE FROM tide.region r WHERE r.name = known.name;
	PERFORM tide._residency_drop_destination(known.name);
END;
$$;

/* ---- rights ---- */

GRANT EXECUTE ON FUNCTION tide.region_add(text, text), tide.region_remove(text) TO tide_admin;
GRANT SELECT ON tide.region TO tide_admin, tide_relay, tide_reader;
