/*
 * 73_global_id.sql
 *		Numbers that no two regions give twice.
 *
 * Owns: tide.global_id() and what reads one, each region's node number.  Does not own: how numbers
 * are given out (src/global_id.c), names of regions (00_schema.sql, 72_region.sql).
 *
 * An id is a positive bigint: 41 bits of milliseconds since 2020-01-01 00:00 UTC (until 2089), 10 bits
 * of the region's node number, 12 bits that count within the millisecond.
 */

/* Milliseconds and count of the last block that was given out: ms * 4096 + count.  Never goes back. */
CREATE SEQUENCE tide.global_id_seq AS bigint MINVALUE 0 START 0;

/* A region's number in ids until it is told another one. */
CREATE FUNCTION tide._default_node(region text) RETURNS int
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT (tide.region_id(region) % 1024)::int $$;

/* This region's; NULL: it has no name yet. */
CREATE FUNCTION tide._own_node() RETURNS int
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT coalesce(l.node, tide._default_node(l.name)) FROM tide.local_region l $$;

/* Another known region whose ids would be the same as those of this node; NULL: none. */
CREATE FUNCTION tide._node_taken(node int, except_region text) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT min(r.name)
	FROM (SELECT l.name, tide._own_node() FROM tide.local_region l
		  UNION ALL SELECT o.name, coalesce(o.node, tide._default_node(o.name)) FROM tide.region o) r (name, node)
	WHERE r.node = _node_taken.node AND r.name <> except_region
$$;

/* Refuses a region that would give the same ids as one that is known. */
CREATE FUNCTION tide._check_node(region text, node int) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	other text := tide._node_taken(node, region);
BEGIN
	IF other IS NOT NULL THEN
		RAISE EXCEPTION 'region "%" would have the same node number in ids as region "%": %', region, other, node
			USING ERRCODE = 'unique_violation',
				  HINT = format('Give this region a number that is free, here: SELECT tide.region_set_node(%s).',
								(SELECT min(n) FROM generate_series(0, 1023) n WHERE tide._node_taken(n, '') IS NULL));
	END IF;
END;
$$;

/* Chooses this region's number in ids, from now on; other regions hear of it by their links. */
CREATE FUNCTION tide.region_set_node(node int) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	region text := tide._own_region();
BEGIN
	IF node IS NULL OR node NOT BETWEEN 0 AND 1023 THEN
		RAISE EXCEPTION 'a node number is from 0 to 1023, not %', coalesce(node::text, 'NULL')
			USING ERRCODE = 'invalid_parameter_value', HINT = 'Choose one that no other region has.';
	END IF;
	PERFORM tide._check_node(region, node);
	UPDATE tide.local_region SET node = region_set_node.node;
END;
$$;

/* What the relay heard of another region; one that is taken is kept, too: the doctor says so. */
CREATE FUNCTION tide._region_node_note(region text, node int) RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
	UPDATE tide.region r SET node = _region_node_note.node
	WHERE r.name = _region_node_note.region AND _region_node_note.node <> coalesce(r.node, tide._default_node(r.name))
$$;

CREATE FUNCTION tide.global_id() RETURNS bigint
LANGUAGE c VOLATILE
AS 'MODULE_PATHNAME', 'tide_sql_global_id';

CREATE FUNCTION tide.global_id_time(id bigint) RETURNS timestamptz
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT '2020-01-01 00:00:00+00'::timestamptz + (id >> 22) * interval '1 millisecond' $$;

CREATE FUNCTION tide.global_id_node(id bigint) RETURNS int
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT ((id >> 12) & 1023)::int $$;

/* The region that has that number now; NULL if none that is known. */
CREATE FUNCTION tide.global_id_region(id bigint) RETURNS text
LANGUAGE sql STABLE STRICT SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$ SELECT tide._node_taken(tide.global_id_node(id), '') $$;

SELECT pg_catalog.pg_extension_config_dump('tide.global_id_seq', '');

/* ---- rights ---- */

GRANT EXECUTE ON FUNCTION
	tide.global_id(),
	tide.global_id_time(bigint),
	tide.global_id_node(bigint),
	tide.global_id_region(bigint)
	TO tide_admin, tide_publisher;
GRANT EXECUTE ON FUNCTION tide.region_set_node(int) TO tide_admin;
