--
-- Rights: whose count when rows are applied, and as whom the code of table owners runs.
--
SET client_min_messages = warning;
CREATE DATABASE regress_rows_rights;
\c regress_rows_rights
SET client_min_messages = warning;
CREATE EXTENSION pg_tide;
\set QUIET on
\pset format unaligned
\pset tuples_only on
\getenv dir PG_ABS_SRCDIR
\set lib :dir '/lib/frames.sql'
\i :lib
SELECT f.link();

CREATE ROLE regress_rows_relay IN ROLE tide_relay;
CREATE ROLE regress_rows_owner;
CREATE ROLE regress_rows_other;
GRANT USAGE ON SCHEMA f TO regress_rows_relay;
GRANT SELECT ON ALL TABLES IN SCHEMA f TO regress_rows_relay;
GRANT SELECT ON tide.link_progress, tide.pipeline TO regress_rows_relay;
GRANT EXECUTE ON FUNCTION tide._system_identifier() TO regress_rows_relay;
CREATE TABLE log (at serial, who text, what text);
GRANT ALL ON log, log_at_seq TO PUBLIC;
CREATE TABLE secret (x int);
GRANT ALL ON secret TO regress_rows_relay;
GRANT CREATE ON SCHEMA public TO regress_rows_owner;

/* Says as whom it runs, and tries to be more than that. */
SET ROLE regress_rows_owner;
CREATE FUNCTION tell(what text) RETURNS void LANGUAGE sql AS $$ INSERT INTO public.log (who, what) VALUES (current_user, what) $$;
CREATE FUNCTION attempt(statement text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE statement;
	PERFORM public.tell(statement || ': DONE');
EXCEPTION WHEN OTHERS THEN
	PERFORM public.tell(statement || ': ' || sqlerrm);
END$$;
CREATE FUNCTION evil() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM public.tell(concat_ws(' ', tg_name, tg_op, tg_when, 'role', current_setting('session_replication_role'), 'path', current_setting('search_path')));
	IF TG_NARGS > 0 THEN
		PERFORM public.attempt(s) FROM unnest(ARRAY['RESET ROLE', 'SET SESSION AUTHORIZATION regress_rows_relay', 'SET ROLE regress_rows_relay',
			'INSERT INTO public.secret VALUES (1)', 'SET session_replication_role = origin', 'CREATE TEMP TABLE mine (x int)',
			'SELECT tide.apply(''link:us'', 1, '''', false)', 'SELECT count(*) FROM tide.link', 'SET application_name = evil', 'SET search_path = evil']) s;
	END IF;
	RETURN CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
END$$;
CREATE FUNCTION cunning(v int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN PERFORM public.tell('function'); RETURN v; END$$;
RESET ROLE;

CREATE TABLE t (id int PRIMARY KEY, v int);
ALTER TABLE t OWNER TO regress_rows_owner;
SELECT tide.table_add('t', 'shop');
SELECT f.rel('t', '*id integer', 'v integer', 'tide_stamp tide.stamp') AS rel \gset
SET ROLE regress_rows_owner;
CREATE TRIGGER always BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION evil('tries');
CREATE TRIGGER replica AFTER UPDATE OR DELETE ON t FOR EACH ROW EXECUTE FUNCTION evil();
CREATE TRIGGER ordinary BEFORE INSERT OR UPDATE OR DELETE ON t FOR EACH ROW EXECUTE FUNCTION evil();
ALTER TABLE t ENABLE ALWAYS TRIGGER always, ENABLE REPLICA TRIGGER replica;
RESET ROLE;
SET ROLE regress_rows_relay;
SET search_path = f, public;
SELECT f.send(:'rel'::bytea || f.ins('t', '1', '1', NULL));
SELECT current_user;
SHOW application_name;
SHOW search_path;
SELECT f.send(:'rel'::bytea || f.upd('t', '1', '2', f.at('us', 1)) || f.del('t', '1', NULL, NULL));
RESET search_path;
RESET ROLE;
SELECT who, what FROM log ORDER BY at;
TRUNCATE log;

-- Code in defaults, constraints, index expressions and generated columns is the owner's, too
SET ROLE regress_rows_owner;
DROP TRIGGER always ON t;
DROP TRIGGER replica ON t;
ALTER TABLE t ADD d int DEFAULT cunning(5), ADD CHECK (cunning(v) > 0);
CREATE INDEX ON t (cunning(v));
TRUNCATE log;
\c -
\set QUIET on
\pset format unaligned
\pset tuples_only on
SET ROLE regress_rows_relay;
SELECT f.send(:'rel'::bytea || f.ins('t', '1', '1', f.at('us', 2)));
RESET ROLE;
SELECT DISTINCT who, what FROM log;

-- A trigger that would fire later could fire as somebody else
CREATE CONSTRAINT TRIGGER late AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION evil();
ALTER TABLE t ENABLE ALWAYS TRIGGER late;
SET ROLE regress_rows_relay;
SELECT f.try(format('SELECT f.send(%L)', :'rel'::bytea || f.ins('t', '2', '1', NULL)));
RESET ROLE;
DROP TRIGGER late ON t;

-- Partitions of other owners: their code is theirs
CREATE TABLE p (id int PRIMARY KEY, v int) PARTITION BY RANGE (id);
CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10);
CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (10) TO (20);
ALTER TABLE p OWNER TO regress_rows_owner;
ALTER TABLE p2 OWNER TO regress_rows_other;
SELECT tide.table_add('p', 'shop');
CREATE TRIGGER always BEFORE INSERT OR UPDATE ON p1 FOR EACH ROW EXECUTE FUNCTION evil();
CREATE TRIGGER always BEFORE INSERT OR UPDATE ON p2 FOR EACH ROW EXECUTE FUNCTION evil();
ALTER TABLE p1 ENABLE ALWAYS TRIGGER always;
ALTER TABLE p2 ENABLE ALWAYS TRIGGER always;
TRUNCATE log;
SET ROLE regress_rows_relay;
SELECT f.rel('p', '*id integer', 'v integer', 'tide_stamp tide.stamp') AS rel_p \gset
SELECT f.send(:'rel_p'::bytea || f.ins('p', '1', '1', f.at('us', 2)) || f.ins('p', '11', '1', f.at('us', 2))
	|| f.move('p', ARRAY['1', NULL, NULL], '12', '1', f.at('us', 3)));
RESET ROLE;
SELECT who, what FROM log ORDER BY at;
SELECT id FROM p ORDER BY id;

-- What the relay may not, it does not
SELECT has_function_privilege('public', 'tide.apply(text, bigint, bytea, boolean)', 'EXECUTE'),
	has_function_privilege('tide_admin', 'tide.apply(text, bigint, bytea, boolean)', 'EXECUTE'),
	has_function_privilege('tide_relay', 'tide.pending_retry(bigint)', 'EXECUTE'),
	has_function_privilege('tide_reader', 'tide.pending_drop(bigint)', 'EXECUTE');
REVOKE DELETE ON t FROM tide_relay;
SET ROLE regress_rows_relay;
SELECT f.try(format('SELECT f.send(%L)', :'rel'::bytea || f.ins('t', '3', '1', NULL)));
RESET ROLE;
GRANT DELETE ON t TO tide_relay;
ALTER TABLE t ENABLE ROW LEVEL SECURITY;
SET ROLE regress_rows_relay;
SELECT f.try(format('SELECT f.send(%L)', :'rel'::bytea || f.ins('t', '3', '1', NULL)));
RESET ROLE;
ALTER TABLE t DISABLE ROW LEVEL SECURITY;
SET ROLE regress_rows_relay;
SELECT f.send(:'rel'::bytea || f.ins('t', '3', '1', NULL));
RESET ROLE;
INSERT INTO tide.replicated_table (relid, class) VALUES ('tide.link', 'shop'), ('pg_catalog.pg_class', 'shop');
SELECT f.try(format('SELECT f.send(%L)', f.rec('R', f.u32(f.relid('link')) || int8send(9) || f.u8(ascii('d')) || f.str('tide') || f.str('link')
	|| f.u16(1) || f.col('*id integer')) || f.ins('link', '1')));
SELECT f.try(format('SELECT f.send(%L)', f.rec('R', f.u32(f.relid('pg_class')) || int8send(9) || f.u8(ascii('d')) || f.str('pg_catalog') || f.str('pg_class')
	|| f.u16(1) || f.col('*oid oid')) || f.ins('pg_class', '1')));
\c postgres
DROP DATABASE regress_rows_rights;
DROP ROLE regress_rows_relay, regress_rows_owner, regress_rows_other;
