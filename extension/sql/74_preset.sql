/*
 * 74_preset.sql
 *		Presets: names for what common kinds of data need.
 *
 * Owns: the table of presets.  Does not own: what the options mean (74_class.sql).
 *
 * docs/classes.md says what each derives, and why.  Options given beside a preset replace its own.
 */

CREATE FUNCTION tide.presets() RETURNS TABLE (preset text, options jsonb, needs text[], meant_for text)
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	VALUES
	('user_profiles', '{"scope": "home", "slo": "5 seconds", "priority": 70}'::jsonb, '{}'::text[],
	 'users in all regions, each written in its home region, read everywhere'),
	('financial_ledger', '{"scope": "primary", "durability": "sync", "slo": "5 seconds", "priority": 90}', '{primary,peer}',
	 'no loss at all: one region writes, commits wait for another'),
	('iot_telemetry', '{"scope": "global", "slo": "60 seconds", "priority": 20}', '{}',
	 'much of it, from everywhere; it may be late'),
	('reference_data', '{"scope": "primary", "slo": "60 seconds", "priority": 50}', '{primary}',
	 'seldom written, in one region; read everywhere'),
	('session_state', '{"scope": "global", "slo": "10 seconds", "priority": 30}', '{}',
	 'used where it is written, elsewhere after a failover; the last seconds may be lost'),
	('trip_data', '{"scope": "regional"}', '{}', 'stays in its region'),
	('driver_location', '{"scope": "regional", "slo": "1 second"}', '{}', 'stays in its region, and is soon old'),
	('rider_profiles', '{"scope": "global", "slo": "5 seconds", "priority": 70}', '{}',
	 'users in all regions, written wherever they are'),
	('fare_config', '{"scope": "global", "slo": "60 seconds", "priority": 50}', '{}', 'settings that every region needs'),
	('surge_zones', '{"scope": "global", "slo": "60 seconds", "priority": 50}', '{}', 'settings that every region needs'),
	('payment_methods', '{"scope": "global", "slo": "5 seconds", "priority": 80}', '{}',
	 'what users may have changed a moment ago, in another region')
$$;

/* The options with the preset's own filled in; "User-Profiles" and "User Profiles (Global Users)" are user_profiles. */
CREATE FUNCTION tide._preset_options(what text, options jsonb) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	wanted text := translate(lower(regexp_replace(options ->> 'preset', '\s*\([^()]*\)$', '') COLLATE "C"), ' -', '__');
	known record;
	key text;
BEGIN
	IF NOT options ? 'preset' THEN
		RETURN options;
	END IF;
	SELECT p.* INTO known FROM tide.presets() p WHERE p.preset = wanted;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'there is no preset "%" for %', coalesce(options ->> 'preset', 'null'), what
			USING ERRCODE = 'invalid_parameter_value',
				  HINT = format('Presets are: %s.', (SELECT string_agg(p.preset, ', ') FROM tide.presets() p));
	END IF;
	FOREACH key IN ARRAY known.needs
	LOOP
		/* Another scope or durability than the preset's may not need it. */
		IF NOT options ? key AND NOT options ?| '{scope,durability}' THEN
			RAISE EXCEPTION 'preset "%" of % needs the option "%"', known.preset, what, key
				USING ERRCODE = 'invalid_parameter_value',
					  HINT = CASE key WHEN 'primary' THEN 'Name the region that writes its tables: "primary": "region".'
							 ELSE 'Name the region that commits wait for: "peer": "region".' END;
		END IF;
	END LOOP;
	RETURN known.options || (options - 'preset');
END;
$$;

/* ---- rights ---- */

GRANT EXECUTE ON FUNCTION tide.presets() TO tide_admin, tide_relay, tide_reader;
