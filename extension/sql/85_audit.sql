/*
 * 85_audit.sql
 *		Who changed what was set up, and when.
 *
 * Owns: tide.audit and the triggers that fill it.  Does not own: what is set up.  What relays write
 * (states, positions, phases) is not of interest here.
 *
 * Triggers, so that nothing that changes a row is forgotten, a superuser's own UPDATE included; in the
 * transaction of the change, so that neither is there without the other.
 */

CREATE TABLE tide.audit
(
	id			bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	at			timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	role		text COLLATE "C" NOT NULL,			-- who had logged in
	application	text,
	action		text NOT NULL,						-- create, change or drop
	object		text COLLATE "C" NOT NULL,			-- 'class', 'table', ... and its name
	detail		jsonb NOT NULL						-- the row; of a change: {"column": [before, after]}
);
COMMENT ON TABLE tide.audit IS 'who created, changed or dropped what is set up here, and when; kept for 90 days';

CREATE FUNCTION tide._audit_note(action text, object text, detail jsonb) RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
	INSERT INTO tide.audit (role, application, action, object, detail)
		VALUES (session_user, nullif(current_setting('application_name'), ''), action, object, detail)
$$;

/* Arguments: the kind of object, the column that names it. */
CREATE FUNCTION tide._audit_row() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	before jsonb := CASE WHEN TG_OP <> 'INSERT' THEN to_jsonb(OLD) END;
	after jsonb := CASE WHEN TG_OP <> 'DELETE' THEN to_jsonb(NEW) END;
	object text := format('%s %s', TG_ARGV[0], coalesce(after, before) ->> TG_ARGV[1]);
	changes jsonb;
BEGIN
	IF TG_OP = 'UPDATE' THEN
		SELECT jsonb_object_agg(b.key, jsonb_build_array(b.value, after -> b.key)) INTO changes
			FROM jsonb_each(before) b
			WHERE b.value IS DISTINCT FROM after -> b.key AND b.key NOT IN ('version', 'updated_at');
		IF changes IS NOT NULL THEN
			PERFORM tide._audit_note('change', object, changes);
		END IF;
	ELSE
		PERFORM tide._audit_note(CASE TG_OP WHEN 'INSERT' THEN 'create' ELSE 'drop' END, object, coalesce(after, before));
	END IF;
	RETURN NULL;
END;
$$;

CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON tide.local_region
	FOR EACH ROW EXECUTE FUNCTION tide._audit_row('region', 'name');
CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON tide.region
	FOR EACH ROW EXECUTE FUNCTION tide._audit_row('region', 'name');
CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON tide.class
	FOR EACH ROW EXECUTE FUNCTION tide._audit_row('class', 'name');
CREATE TRIGGER audit AFTER INSERT OR UPDATE OF class, options, insert_only OR DELETE ON tide.replicated_table
	FOR EACH ROW EXECUTE FUNCTION tide._audit_row('table', 'relid');
CREATE TRIGGER audit AFTER INSERT OR UPDATE OF options, copy, removing, resyncs OR DELETE ON tide.link
	FOR EACH ROW EXECUTE FUNCTION tide._audit_row('link', 'region');
CREATE TRIGGER audit AFTER INSERT OR UPDATE OF config, enabled OR DELETE ON tide.pipeline
	FOR EACH ROW EXECUTE FUNCTION tide._audit_row('pipeline', 'name');
CREATE TRIGGER audit AFTER INSERT OR UPDATE OF enabled, retention, name OR DELETE ON tide.outbox
	FOR EACH ROW EXECUTE FUNCTION tide._audit_row('outbox', 'name');
CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON tide.inbox
	FOR EACH ROW EXECUTE FUNCTION tide._audit_row('inbox', 'name');

CREATE FUNCTION tide._maintain_audit() RETURNS jsonb
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	DELETE FROM tide.audit a WHERE a.at < clock_timestamp() - interval '90 days';
	RETURN '{}';
END;
$$;

/* ---- rights ---- */

GRANT SELECT ON tide.audit TO tide_admin, tide_reader;
