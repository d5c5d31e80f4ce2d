/*
 * 71_stamp.sql
 *		Stamps: the type of the column tide_stamp, and the trigger that sets it.
 *
 * Owns: tide.stamp with its order and what can be asked of one, the trigger
 * function.  Does not own: which tables have the column (75_table.sql).
 */

CREATE TYPE tide.stamp;

CREATE FUNCTION tide.stamp_in(cstring) RETURNS tide.stamp
IMMUTABLE STRICT PARALLEL SAFE LANGUAGE c AS 'MODULE_PATHNAME', 'tide_sql_stamp_in';
CREATE FUNCTION tide.stamp_out(tide.stamp) RETURNS cstring
IMMUTABLE STRICT PARALLEL SAFE LANGUAGE c AS 'MODULE_PATHNAME', 'tide_sql_stamp_out';
CREATE FUNCTION tide.stamp_recv(internal) RETURNS tide.stamp
IMMUTABLE STRICT PARALLEL SAFE LANGUAGE c AS 'MODULE_PATHNAME', 'tide_sql_stamp_recv';
CREATE FUNCTION tide.stamp_send(tide.stamp) RETURNS bytea
IMMUTABLE STRICT PARALLEL SAFE LANGUAGE c AS 'MODULE_PATHNAME', 'tide_sql_stamp_send';

CREATE TYPE tide.stamp
(
	INPUT = tide.stamp_in,
	OUTPUT = tide.stamp_out,
	RECEIVE = tide.stamp_recv,
	SEND = tide.stamp_send,
	INTERNALLENGTH = VARIABLE,
	ALIGNMENT = int4,
	STORAGE = extended
);

CREATE FUNCTION tide.stamp_cmp(tide.stamp, tide.stamp) RETURNS int
IMMUTABLE STRICT PARALLEL SAFE LANGUAGE c AS 'MODULE_PATHNAME', 'tide_sql_stamp_cmp';
CREATE FUNCTION tide.stamp_lt(tide.stamp, tide.stamp) RETURNS boolean
IMMUTABLE STRICT PARALLEL SAFE LANGUAGE c AS 'MODULE_PATHNAME', 'tide_sql_stamp_lt';
CREATE FUNCTION tide.stamp_le(tide.stamp, tide.stamp) RETURNS boolean
IMMUTABLE STRICT PARALLEL SAFE LANGUAGE c AS 'MODULE_PATHNAME', 'tide_sql_stamp_le';
CREATE FUNCTION tide.stamp_eq(tide.stamp, tide.stamp) RETURNS boolean
IMMUTABLE STRICT PARALLEL SAFE LANGUAGE c AS 'MODULE_PATHNAME', 'tide_sql_stamp_eq';
CREATE FUNCTION tide.stamp_ne(tide.stamp, tide.stamp) RETURNS boolean
IMMUTABLE STRICT PARALLEL SAFE LANGUAGE c AS 'MODULE_PATHNAME', 'tide_sql_stamp_ne';
CREATE FUNCTION tide.stamp_ge(tide.stamp, tide.stamp) RETURNS boolean
IMMUTABLE STRICT PARALLEL SAFE LANGUAGE c AS 'MODULE_PATHNAME', 'tide_sql_stamp_ge';
CREATE FUNCTION tide.stamp_gt(tide.stamp, tide.stamp) RETURNS boolean
IMMUTABLE STRICT PARALLEL SAFE LANGUAGE c AS 'MODULE_PATHNAME', 'tide_sql_stamp_gt';

CREATE OPERATOR tide.< (LEFTARG = tide.stamp, RIGHTARG = tide.stamp, FUNCTION = tide.stamp_lt,
	COMMUTATOR = OPERATOR(tide.>), NEGATOR = OPERATOR(tide.>=), RESTRICT = scalarltsel, JOIN = scalarltjoinsel);
CREATE OPERATOR tide.<= (LEFTARG = tide.stamp, RIGHTARG = tide.stamp, FUNCTION = tide.stamp_le,
	COMMUTATOR = OPERATOR(tide.>=), NEGATOR = OPERATOR(tide.>), RESTRICT = scalarlesel, JOIN = scalarlejoinsel);
CREATE OPERATOR tide.= (LEFTARG = tide.stamp, RIGHTARG = tide.stamp, FUNCTION = tide.stamp_eq,
	COMMUTATOR = OPERATOR(tide.=), NEGATOR = OPERATOR(tide.<>), RESTRICT = eqsel, JOIN = eqjoinsel, MERGES);
CREATE OPERATOR tide.<> (LEFTARG = tide.stamp, RIGHTARG = tide.stamp, FUNCTION = tide.stamp_ne,
	COMMUTATOR = OPERATOR(tide.<>), NEGATOR = OPERATOR(tide.=), RESTRICT = neqsel, JOIN = neqjoinsel);
CREATE OPERATOR tide.>= (LEFTARG = tide.stamp, RIGHTARG = tide.stamp, FUNCTION = tide.stamp_ge,
	COMMUTATOR = OPERATOR(tide.<=), NEGATOR = OPERATOR(tide.<), RESTRICT = scalargesel, JOIN = scalargejoinsel);
CREATE OPERATOR tide.> (LEFTARG = tide.stamp, RIGHTARG = tide.stamp, FUNCTION = tide.stamp_gt,
	COMMUTATOR = OPERATOR(tide.<), NEGATOR = OPERATOR(tide.<=), RESTRICT = scalargtsel, JOIN = scalargtjoinsel);

CREATE OPERATOR CLASS tide.stamp_ops DEFAULT FOR TYPE tide.stamp USING btree AS
	OPERATOR 1 tide.<, OPERATOR 2 tide.<=, OPERATOR 3 tide.=, OPERATOR 4 tide.>=, OPERATOR 5 tide.>,
	FUNCTION 1 tide.stamp_cmp(tide.stamp, tide.stamp);

/* ---- what a stamp says ---- */

CREATE FUNCTION tide.region_id(region text) RETURNS bigint
IMMUTABLE STRICT PARALLEL SAFE LANGUAGE c AS 'MODULE_PATHNAME', 'tide_sql_region_id';

CREATE FUNCTION tide.stamp_origin(stamp tide.stamp) RETURNS bigint
IMMUTABLE STRICT PARALLEL SAFE LANGUAGE c AS 'MODULE_PATHNAME', 'tide_sql_stamp_origin';

CREATE FUNCTION tide.stamp_time(stamp tide.stamp) RETURNS timestamptz
IMMUTABLE STRICT PARALLEL SAFE LANGUAGE c AS 'MODULE_PATHNAME', 'tide_sql_stamp_time';

/* The name behind a stamp's number; NULL if no region that is known here has it. */
CREATE FUNCTION tide.stamp_region(stamp tide.stamp) RETURNS text
LANGUAGE sql STABLE STRICT SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT r.name FROM tide.region r WHERE r.region_id = tide.stamp_origin(stamp)
	UNION ALL
	SELECT l.name FROM tide.local_region l WHERE tide.region_id(l.name) = tide.stamp_origin(stamp)
	LIMIT 1
$$;

/* The stamp of rows that were there before their table was replicated. */
CREATE FUNCTION tide._stamp_before(region text) RETURNS tide.stamp
LANGUAGE sql STABLE STRICT
SET search_path = pg_catalog, pg_temp
AS $$ SELECT ('0@' || lpad(to_hex(tide.region_id(region)), 8, '0'))::tide.stamp $$;

/* ---- setting it (stamp_row.c) ---- */

CREATE FUNCTION tide._stamp_row() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'tide_sql_stamp_row';

/* Backends remember the region's number; this tells them that it changed. */
CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON tide.local_region
	FOR EACH STATEMENT EXECUTE FUNCTION tide._outbox_changed();

/* ---- rights ---- */

GRANT EXECUTE ON FUNCTION
	tide.region_id(text),
	tide.stamp_origin(tide.stamp),
	tide.stamp_time(tide.stamp),
	tide.stamp_region(tide.stamp)
	TO tide_admin, tide_publisher, tide_relay, tide_reader;
