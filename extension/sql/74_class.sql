/*
 * 74_class.sql
 *		Classes: what each kind of data needs.
 *
 * Owns: creating, changing and dropping classes, the check of their options.
 * Does not own: which tables belong to one (75_table.sql).
 */

/* Are these the keys, with values of these JSON types?  known: {"key": "type"}. */
CREATE FUNCTION tide._check_keys(what text, options jsonb, known jsonb) RETURNS void
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	key text;
	value jsonb;
BEGIN
	IF options IS NULL THEN
		RAISE EXCEPTION 'the options of % must not be NULL', what
			USING ERRCODE = 'null_value_not_allowed', HINT = 'Pass a JSON object; ''{}'' for none.';
	ELSIF jsonb_typeof(options) <> 'object' THEN
		RAISE EXCEPTION 'the options of % must be a JSON object', what
			USING ERRCODE = 'invalid_parameter_value', HINT = 'Pass a JSON object; ''{}'' for none.';
	END IF;
	FOR key, value IN SELECT e.key, e.value FROM jsonb_each(options) e ORDER BY e.key
	LOOP
		IF NOT known ? key THEN
			RAISE EXCEPTION 'unknown option "%" for %', key, what
				USING ERRCODE = 'invalid_parameter_value',
					  HINT = format('The options are: %s.',
									(SELECT string_agg(k, ', ' ORDER BY k) FROM jsonb_object_keys(known) k));
		ELSIF jsonb_typeof(value) <> known ->> key AND known ->> key <> 'any' THEN
			RAISE EXCEPTION 'option "%" of % must be of type %, not %', key, what, known ->> key, jsonb_typeof(value)
				USING ERRCODE = 'invalid_parameter_value', HINT = 'Correct the value, or leave the option out.';
		END IF;
	END LOOP;
END;
$$;

/* Refuses a value that is not one of these, and one that is not there yet in another way. */
CREATE FUNCTION tide._check_choice(what text, key text, value text, now text[], later text[]) RETURNS void
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF value = ANY (now) THEN
		RETURN;
	ELSIF value = ANY (later) THEN
		RAISE EXCEPTION 'option "%" of % can''t be "%" yet', key, what, value
			USING ERRCODE = 'feature_not_supported',
				  HINT = format('This version knows: %s.', array_to_string(now, ', '));
	END IF;
	RAISE EXCEPTION 'option "%" of % can''t be "%"', key, what, coalesce(value, 'null')
		USING ERRCODE = 'invalid_parameter_value',
			  HINT = format('It is one of: %s.', array_to_string(now || later, ', '));
END;
$$;

/* A lag objective: an interval as text, or a number of seconds. */
CREATE FUNCTION tide._read_objective(what text, value jsonb) RETURNS interval
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	result interval;
BEGIN
	BEGIN
		result := CASE jsonb_typeof(value) WHEN 'number' THEN make_interval(secs => (value #>> '{}')::float8)
				  WHEN 'string' THEN (value #>> '{}')::interval END;
	EXCEPTION WHEN data_exception THEN
		NULL;	/* said below */
	END;
	IF result IS NULL OR result <= interval '0' THEN
		RAISE EXCEPTION 'option "slo" of % is not a positive time', what
			USING ERRCODE = 'invalid_parameter_value',
				  HINT = 'Write how late rows may be, such as "5 seconds", or a number of seconds.';
	END IF;
	RETURN result;
END;
$$;

/* Who writes: "primary" is for the scope of that name, "home" for the other. */
CREATE FUNCTION tide._class_check_writer(what text, options jsonb) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	key text;
BEGIN
	FOREACH key IN ARRAY '{primary,home}'::text[]
	LOOP
		IF options ? key AND options ->> 'scope' <> key THEN
			RAISE EXCEPTION 'option "%" of % is for the scope "%" only', key, what, key
				USING ERRCODE = 'invalid_parameter_value', HINT = format('Leave it out, or set "scope": "%s".', key);
		END IF;
	END LOOP;
	IF options ->> 'home' = '' THEN
		RAISE EXCEPTION 'option "home" of % is empty', what
			USING ERRCODE = 'invalid_parameter_value', HINT = 'Name the column that says a row''s region; left out, it is "home".';
	ELSIF options ->> 'scope' <> 'primary' THEN
		RETURN;
	ELSIF NOT options ? 'primary' THEN
		RAISE EXCEPTION 'option "primary" is missing for %', what
			USING ERRCODE = 'invalid_parameter_value', HINT = 'Name the region that writes its tables: "primary": "region".';
	ELSIF options ->> 'primary' <> tide._own_region() THEN
		PERFORM tide._region(options ->> 'primary');
	END IF;
END;
$$;

/* Checks the options and says what they mean.  What was not given has the table's default. */
CREATE FUNCTION tide._class_read(name text, options jsonb) RETURNS tide.class
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	what text := format('class "%s"', name);
	given jsonb := options;
	result tide.class;
BEGIN
	PERFORM tide._check_keys(what, options, jsonb_build_object(
		'preset', 'string', 'scope', 'string', 'conflict', 'string', 'slo', 'any', 'durability', 'string', 'peer', 'string', 'wait', 'any',
		'priority', 'number', 'residency', 'object', 'regions', 'array', 'primary', 'string', 'home', 'string'));
	options := tide._preset_options(what, options);
	IF NOT options ? 'scope' THEN
		RAISE EXCEPTION 'option "scope" is missing for %', what
			USING ERRCODE = 'invalid_parameter_value',
				  HINT = 'Add "scope": "regional" for data that stays here, "global" for data that goes to every linked region, '
						 '"primary" if one region alone writes it, "home" if each row has a region that does.';
	END IF;
	result.name := name;
	result.options := given;
	result.scope := options ->> 'scope';
	result.conflict := coalesce(options ->> 'conflict', 'lww');
	result.durability := coalesce(options ->> 'durability', 'async');
	result.slo := CASE WHEN options ? 'slo' THEN tide._read_objective(what, options -> 'slo') ELSE interval '5 seconds' END;
	PERFORM tide._check_choice(what, 'scope', result.scope, '{regional,global,home,primary}', '{}');
	PERFORM tide._class_check_writer(what, options);
	result.primary_region := options ->> 'primary';
	result.home_column := CASE WHEN result.scope = 'home' THEN coalesce(options ->> 'home', 'home') END;
	PERFORM tide._check_choice(what, 'conflict', result.conflict, '{lww}', '{region_priority,version_vector,first}');
	PERFORM tide._check_choice(what, 'durability', result.durability, '{async,sync}', '{}');
	result.sync_peer := tide._read_sync_peer(what, options);
	result.sync_wait := tide._read_sync_wait(what, options);
	PERFORM tide._residency_check(name, result.scope, options -> 'residency');
	result.residency := options -> 'residency';
	IF options ? 'regions' THEN
		RAISE EXCEPTION 'option "regions" of % is not supported yet', what
			USING ERRCODE = 'feature_not_supported', HINT = 'Leave it out.';
	END IF;
	IF (options ->> 'priority')::numeric NOT BETWEEN 0 AND 100 OR (options ->> 'priority')::numeric % 1 <> 0 THEN
		RAISE EXCEPTION 'option "priority" of % must be a whole number from 0 to 100', what
			USING ERRCODE = 'invalid_parameter_value', HINT = 'The default is 50; more is more important.';
	END IF;
	result.priority := coalesce((options ->> 'priority')::int, 50);
	RETURN result;
END;
$$;

/* The class's row, or an error that says what to do. */
CREATE FUNCTION tide._class(class text) RETURNS tide.class
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	result tide.class;
BEGIN
	SELECT c.* INTO result FROM tide.class c WHERE c.name = _class.class;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'class "%" does not exist', coalesce(class, 'NULL')
			USING ERRCODE = 'undefined_object',
				  HINT = coalesce('Classes of this database: '
								  || (SELECT string_agg(c.name, ', ' ORDER BY c.name) FROM tide.class c)
								  || '. ', '')
						 || 'SELECT tide.class_create(''name'', ''{"scope": "global"}'') makes one.';
	END IF;
	RETURN result;
END;
$$;

/* Makes a class, or changes it: its tables are published and guarded, or no longer, as the new scope says. */
CREATE FUNCTION tide.class_create(name text, options jsonb) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	made tide.class;
BEGIN
	PERFORM tide._check_name('class', name);
	made := tide._class_read(name, options);
	PERFORM tide._set_up_lock();
	SELECT c.created_at INTO made.created_at FROM tide.class c WHERE c.name = made.name;
	made.created_at := coalesce(made.created_at, clock_timestamp());
	/* No list of columns to forget one in; said again without a change, the row stays. */
	IF NOT EXISTS (SELECT FROM tide.class c WHERE c.name = made.name) THEN
		INSERT INTO tide.class SELECT made.*;
	ELSIF NOT EXISTS (SELECT FROM tide.class c WHERE c = made) THEN
		EXECUTE (SELECT format('UPDATE tide.class SET (%s) = (SELECT ($1).*) WHERE name = ($1).name',
							   string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum))
				 FROM pg_attribute a WHERE a.attrelid = 'tide.class'::regclass AND a.attnum > 0 AND NOT a.attisdropped)
			USING made;
	END IF;
	PERFORM tide._table_derive(t.relid, made) FROM tide.replicated_table t WHERE t.class = made.name;
	PERFORM tide._lanes_make();
	PERFORM tide._durability_derive(made);
	PERFORM tide._residency_warn_unknown(made);
	PERFORM tide._link_tables_clean();
END;
$$;

/* The stream its tables travel by; NULL: by none.  See 76_lane.sql. */
CREATE FUNCTION tide._class_lane(class tide.class) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	/* Commits wait for the main lane's walsender, and that alone reads what is cut for a region. */
	SELECT CASE WHEN class.scope = 'regional' THEN NULL
		   WHEN class.priority < 50 AND class.durability <> 'sync' AND class.residency IS NULL THEN 'low' ELSE 'main' END
$$;

/* Where rows of such a class may be written, in words. */
CREATE FUNCTION tide._class_writer(class tide.class) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE class.scope WHEN 'primary' THEN format('in region "%s" only', class.primary_region)
		   WHEN 'home' THEN format('each in the region that column "%s" names', class.home_column)
		   ELSE 'anywhere' END
$$;

/* What its commits wait for, in words. */
CREATE FUNCTION tide._class_waits(class tide.class) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE WHEN class.durability <> 'sync' THEN 'commits don''t wait'
		   WHEN class.sync_wait IS NULL THEN format('commits wait for region "%s", as long as it takes', class.sync_peer)
		   ELSE format('commits wait for region "%s", for at most %s ms', class.sync_peer,
					   floor(extract(epoch FROM class.sync_wait) * 1000)) END
$$;

/* What would be different if the class became another: for itself, and for each of its tables. */
CREATE FUNCTION tide._class_differences(old tide.class, new tide.class) RETURNS TABLE (object text, change text)
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT format('class %s', old.name), format('%s: %s, was %s', o.key, n.value, o.value)
	FROM jsonb_each_text(to_jsonb(old) - '{name,options,created_at,primary_region,home_column,durability,sync_peer,sync_wait,residency}'::text[]) o
		JOIN jsonb_each_text(to_jsonb(new)) n ON n.key = o.key AND n.value IS DISTINCT FROM o.value
	UNION ALL
	SELECT format('class %s', old.name), format('%s; was: %s', tide._class_waits(new), tide._class_waits(old))
	WHERE tide._class_waits(new) <> tide._class_waits(old)
	UNION ALL
	SELECT format('table %s', t.relid),
		CASE WHEN new.scope = 'regional' THEN 'is no longer published: other regions keep the rows they have, and get no more'
			 ELSE 'is published: regions that take rows from here copy it, then follow' END
	FROM tide.replicated_table t
	WHERE t.class = old.name AND (old.scope = 'regional') <> (new.scope = 'regional')
	UNION ALL
	SELECT format('table %s', t.relid),
		format('is written %s, was %s', tide._class_writer(new), tide._class_writer(old))
	FROM tide.replicated_table t
	WHERE t.class = old.name AND tide._class_writer(old) <> tide._class_writer(new)
	UNION ALL
	SELECT format('table %s', t.relid),
		format('travels in the %s lane, was in the %s lane: regions that take rows from here copy it again, '
			   'and its changes are late until they have', tide._class_lane(new), tide._class_lane(old))
	FROM tide.replicated_table t
	WHERE t.class = old.name AND tide._class_lane(old) <> tide._class_lane(new)
	UNION ALL
	SELECT d.object, d.change FROM tide._residency_differences(old, new) d
$$;

/*
 * Changes some options of a class, null takes one away, and says what that changes.  dry_run: it is
 * all done and taken back, so that what would be refused is refused here, too.
 */
CREATE FUNCTION tide.class_alter(name text, options jsonb, dry_run boolean DEFAULT false)
RETURNS TABLE (object text, change text)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	old tide.class := tide._class(name);
	new tide.class;
	wanted jsonb;
BEGIN
	IF options IS NULL OR jsonb_typeof(options) <> 'object' THEN
		PERFORM tide._check_keys(format('class "%s"', old.name), options, '{}');
	END IF;
	wanted := (SELECT coalesce(jsonb_object_agg(o.key, o.value), '{}') FROM jsonb_each(old.options || options) o
			   WHERE o.value <> 'null');
	new := tide._class_read(old.name, wanted);
	PERFORM tide._set_up_lock();
	RETURN QUERY SELECT d.object, d.change FROM tide._class_differences(old, new) d ORDER BY d.object, d.change;
	BEGIN
		PERFORM tide.class_create(old.name, wanted);
		IF dry_run IS NOT FALSE THEN
			RAISE EXCEPTION 'only looked' USING ERRCODE = 'TD000';
		END IF;
	EXCEPTION WHEN SQLSTATE 'TD000' THEN
		NULL;
	END;
END;
$$;

CREATE FUNCTION tide.class_drop(name text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	known tide.class := tide._class(name);
	tables text;
BEGIN
	PERFORM tide._set_up_lock();
	SELECT string_agg(t.relid::text, ', ' ORDER BY t.relid::text) INTO tables
		FROM tide.replicated_table t WHERE t.class = known.name;
	IF tables IS NOT NULL THEN
		RAISE EXCEPTION 'class "%" has tables: %', known.name, tables
			USING ERRCODE = 'dependent_objects_still_exist',
				  HINT = 'Take each off first with SELECT tide.table_remove(''name'').';
	END IF;
	DELETE FROM tide.class c WHERE c.name = known.name;
	PERFORM tide._durability_derive(NULL);
END;
$$;

/* ---- rights ---- */

GRANT EXECUTE ON FUNCTION tide.class_create(text, jsonb), tide.class_alter(text, jsonb, boolean), tide.class_drop(text)
	TO tide_admin;
GRANT SELECT ON tide.class TO tide_admin, tide_relay, tide_reader;
