/*
 * 77_settings.sql
 *		The server's settings that rows depend on, for the doctor.
 *
 * Owns: which those are.  Does not own: what they should be (the relay's
 * doctor_rows.c).  A function, because some of them are shown to superusers only.
 */

CREATE FUNCTION tide.rows_settings() RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT jsonb_object_agg(s.name, s.setting) FROM pg_settings s
	WHERE s.name IN ('wal_level', 'max_wal_senders', 'max_replication_slots', 'max_slot_wal_keep_size',
					 'output_plugin_libraries', 'idle_replication_slot_timeout')
$$;

/* ---- rights ---- */

GRANT EXECUTE ON FUNCTION tide.rows_settings() TO tide_relay;
