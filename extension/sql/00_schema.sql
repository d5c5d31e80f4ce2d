-- 00_schema.sql: the schema, its roles, and the name of this database's region.
\echo Use "CREATE EXTENSION pg_tide" to load this file. \quit

CREATE SCHEMA tide;
COMMENT ON SCHEMA tide IS 'pg_tide: events and rows between PostgreSQL databases in different regions';

-- Roles are of the whole cluster: created if absent, kept when the extension goes.
DO $$
DECLARE
	role text;
BEGIN
	FOREACH role IN ARRAY ARRAY['tide_admin', 'tide_publisher', 'tide_relay', 'tide_reader'] LOOP
		IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.rolname OPERATOR(pg_catalog.=) role) THEN
			EXECUTE pg_catalog.format('CREATE ROLE %I NOLOGIN', role);
		END IF;
	END LOOP;
END
$$;

-- ---- installation facts ----

CREATE FUNCTION tide._system_identifier() RETURNS bigint
	STABLE STRICT PARALLEL SAFE
	LANGUAGE c AS 'MODULE_PATHNAME', 'tide_sql_system_identifier';

CREATE FUNCTION tide._default_region() RETURNS text
	STABLE STRICT PARALLEL SAFE
	LANGUAGE c AS 'MODULE_PATHNAME', 'tide_sql_default_region';

CREATE FUNCTION tide.preloaded() RETURNS boolean
	STABLE STRICT PARALLEL RESTRICTED
	LANGUAGE c AS 'MODULE_PATHNAME', 'tide_sql_preloaded';
COMMENT ON FUNCTION tide.preloaded() IS
	'is pg_tide in shared_preload_libraries, so that relays are woken at commit instead of polling?';

CREATE FUNCTION tide.version() RETURNS text
	STABLE STRICT PARALLEL SAFE
	LANGUAGE sql
	SET search_path = pg_catalog, pg_temp
	AS $$ SELECT extversion FROM pg_catalog.pg_extension WHERE extname = 'pg_tide' $$;

-- ---- names ----

-- Region, outbox, inbox and pipeline names all follow one rule.
CREATE FUNCTION tide._check_name(what text, name text) RETURNS void
	IMMUTABLE PARALLEL SAFE
	LANGUAGE plpgsql
	SET search_path = pg_catalog, pg_temp
	AS $$
BEGIN
	IF name IS NULL THEN
		RAISE null_value_not_allowed USING
			MESSAGE = format('the name of the %s must not be null', what),
			HINT = 'Use letters (a to z), digits, "_" and "-"; at most 63 bytes.';
	END IF;
	IF name COLLATE "C" !~ '^[A-Za-z0-9_-]+$' OR octet_length(name) > 63 THEN
		RAISE invalid_name USING
			MESSAGE = format('"%s" is not a valid name for the %s', name, what),
			HINT = 'Use letters (a to z), digits, "_" and "-"; at most 63 bytes.';
	END IF;
END
$$;

-- A regrole may be null, or the number of a role that is gone.
CREATE FUNCTION tide._check_role(role regrole) RETURNS void
	STABLE
	LANGUAGE plpgsql
	SET search_path = pg_catalog, pg_temp
	AS $$
BEGIN
	IF role IS NULL OR NOT EXISTS (SELECT FROM pg_roles r WHERE r.oid = role) THEN
		RAISE undefined_object USING
			MESSAGE = format('role %s does not exist', coalesce(role::text, 'NULL')),
			HINT = 'Name an existing role.';
	END IF;
END
$$;

-- Is a dump being restored?  pg_dump has such sessions begin with these settings.  It brings everything in
-- pieces, also what event triggers would make.
CREATE FUNCTION tide._restoring() RETURNS boolean
	STABLE
	LANGUAGE sql
	SET search_path = pg_catalog, pg_temp
	AS $$ SELECT current_setting('row_security') = 'off' AND current_setting('check_function_bodies') = 'off' $$;

-- ---- the region's name ----

CREATE TABLE tide.local_region (
	singleton	boolean PRIMARY KEY DEFAULT true CHECK (singleton),
	name		text NOT NULL,
	named_at	timestamptz NOT NULL DEFAULT now(),
	node		int										-- in ids, see 73_global_id.sql; null: made from the name
);
COMMENT ON TABLE tide.local_region IS 'the name of this database''s region, once given';

CREATE FUNCTION tide.region_name() RETURNS text
	STABLE PARALLEL SAFE SECURITY DEFINER
	LANGUAGE sql
	SET search_path = pg_catalog, pg_temp
	AS $$ SELECT coalesce((SELECT name FROM tide.local_region), tide._default_region()) $$;
COMMENT ON FUNCTION tide.region_name() IS
	'the region''s name; made from the system identifier until tide.region_init() gives one';

CREATE FUNCTION tide.region_init(name text) RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	known text;
BEGIN
	PERFORM tide._check_name('region', name);
	INSERT INTO tide.local_region (name) VALUES (region_init.name) ON CONFLICT DO NOTHING;
	SELECT r.name INTO known FROM tide.local_region r;
	IF known <> region_init.name THEN
		RAISE object_not_in_prerequisite_state USING
			MESSAGE = format('this database''s region is already named "%s"', known),
			HINT = 'A region is named once: its events and rows carry the name everywhere.';
	END IF;
	IF EXISTS (SELECT FROM tide.region r WHERE r.name = region_init.name) THEN
		RAISE invalid_parameter_value USING
			MESSAGE = format('region "%s" was added as another one', name),
			HINT = format('Take it off with SELECT tide.region_remove(%L), or choose another name.', name);
	END IF;
	PERFORM tide._check_region_id(name);
END
$$;
COMMENT ON FUNCTION tide.region_init(text) IS 'names this database''s region, once';

CREATE FUNCTION tide.relay_region() RETURNS text
	STABLE
	LANGUAGE sql
	SET search_path = pg_catalog, pg_temp
	AS $$ SELECT tide.region_name() $$;

-- ---- waking readers (wakeup.c) ----

CREATE PROCEDURE tide.wake_wait(kind text, name text, generation bigint, timeout_ms int)
	LANGUAGE c AS 'MODULE_PATHNAME', 'tide_sql_wake_wait';
COMMENT ON PROCEDURE tide.wake_wait(text, text, bigint, int) IS
	'waits, holding no snapshot, until something was committed to that outbox or inbox since generation';

CREATE FUNCTION tide._wake(kind text, name text) RETURNS void
	VOLATILE STRICT
	LANGUAGE c AS 'MODULE_PATHNAME', 'tide_sql_wake';

CREATE FUNCTION tide._wake_generation(kind text, name text) RETURNS bigint
	VOLATILE STRICT
	LANGUAGE c AS 'MODULE_PATHNAME', 'tide_sql_wake_generation';

SELECT pg_catalog.pg_extension_config_dump('tide.local_region', '');
