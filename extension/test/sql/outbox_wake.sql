--
-- Waiting for events: no snapshot is held meanwhile, and a commit ends the wait at once.
--
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_tide;
CREATE EXTENSION IF NOT EXISTS dblink;
RESET client_min_messages;
SELECT tide.outbox_create('wake');
SELECT tide.outbox_create('wake-other');
SELECT tide.preloaded();

-- Two more sessions: one waits, one publishes.
SELECT dblink_connect(name, format('host=%s port=%s user=%s dbname=%s application_name=%s',
								   split_part(current_setting('unix_socket_directories'), ',', 1),
								   current_setting('port'), current_user, current_database(), name))
  FROM unnest(ARRAY['regress_waiter', 'regress_publisher']) name;

-- Waits (at most ten seconds) until the waiter sleeps; says what it holds.
CREATE FUNCTION pg_temp.sleeper(OUT sleeps boolean, OUT has_snapshot boolean, OUT has_transaction_id boolean, OUT locks bigint)
	LANGUAGE plpgsql AS $$
DECLARE
	sleeper int;
BEGIN
	FOR i IN 1..1000 LOOP
		PERFORM pg_stat_clear_snapshot();
		SELECT a.pid, a.backend_xmin IS NOT NULL, a.backend_xid IS NOT NULL INTO sleeper, has_snapshot, has_transaction_id
		  FROM pg_stat_activity a
		 WHERE a.application_name = 'regress_waiter' AND a.wait_event_type = 'Extension' AND a.query LIKE 'CALL%';
		EXIT WHEN sleeper IS NOT NULL;
		PERFORM pg_sleep(0.01);
	END LOOP;
	sleeps := sleeper IS NOT NULL;
	SELECT count(*) INTO locks FROM pg_locks l WHERE l.pid = sleeper AND l.locktype IN ('relation', 'transactionid');
END
$$;
CREATE FUNCTION pg_temp.publish(outbox text) RETURNS text LANGUAGE sql AS $$
	SELECT p FROM dblink('regress_publisher', format('SELECT tide.outbox_publish(%L, ''e'', ''1'') IS NOT NULL', outbox)) AS t (p text) $$;
-- Has the waiter's call returned, within ten seconds of the thirty it asked for?
CREATE FUNCTION pg_temp.woken() RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1..1000 LOOP
		IF dblink_is_busy('regress_waiter') = 0 THEN
			PERFORM * FROM dblink_get_result('regress_waiter') AS t (x text);
			PERFORM * FROM dblink_get_result('regress_waiter') AS t (x text);
			RETURN true;
		END IF;
		PERFORM pg_sleep(0.01);
	END LOOP;
	RETURN false;
END
$$;

-- ---- woken by a commit ----
SELECT dblink_send_query('regress_waiter', $$CALL tide.wake_wait('outbox', 'wake', tide._wake_generation('outbox', 'wake'), 30000)$$);
SELECT * FROM pg_temp.sleeper();
SELECT pg_temp.publish('wake');
SELECT pg_temp.woken();
-- ... not by what is open, rolled back, or goes elsewhere.
SELECT dblink_send_query('regress_waiter', $$CALL tide.wake_wait('outbox', 'wake', tide._wake_generation('outbox', 'wake'), 30000)$$);
SELECT * FROM pg_temp.sleeper();
SELECT dblink_exec('regress_publisher', 'BEGIN');
SELECT pg_temp.publish('wake');
SELECT * FROM pg_temp.sleeper();
SELECT dblink_exec('regress_publisher', 'ROLLBACK');
SELECT pg_temp.publish('wake-other');
SELECT * FROM pg_temp.sleeper();
SELECT dblink_exec('regress_publisher', 'BEGIN');
SELECT pg_temp.publish('wake');
SELECT dblink_exec('regress_publisher', 'COMMIT');
SELECT pg_temp.woken();
-- A waiter can be cancelled.
SELECT dblink_send_query('regress_waiter', $$CALL tide.wake_wait('outbox', 'wake', tide._wake_generation('outbox', 'wake'), 30000)$$);
SELECT sleeps FROM pg_temp.sleeper();
SELECT dblink_cancel_query('regress_waiter');
SELECT * FROM dblink_get_result('regress_waiter') AS t (x text);
SELECT * FROM dblink_get_result('regress_waiter', false) AS t (x text);

-- ---- generations ----
SELECT tide._wake_generation('outbox', 'wake') AS before \gset
BEGIN;
SELECT tide.outbox_publish('wake', 'e', '1') IS NOT NULL AS published;
SELECT tide.outbox_publish('wake', 'e', '2') IS NOT NULL AS published;
SELECT tide._wake_generation('outbox', 'wake') - :before AS commits;
COMMIT;
SELECT tide._wake_generation('outbox', 'wake') - :before AS commits;
SELECT tide.outbox_publish('wake-other', 'e', '1') IS NOT NULL AS published;
SELECT tide._wake_generation('outbox', 'wake') - :before AS commits;
SELECT tide._wake_generation('inbox', 'wake') IS NOT NULL AS known;
-- More outboxes in one transaction than a session remembers singly: all are woken.
SELECT tide.outbox_create('wake' || i) FROM generate_series(1, 12) i;
CREATE TEMP TABLE generation AS SELECT i, tide._wake_generation('outbox', 'wake' || i) AS g FROM generate_series(1, 12) i;
SELECT count(tide.outbox_publish('wake' || i, 'e', '1')) FROM generate_series(1, 12) i;
SELECT count(*) FROM generation WHERE tide._wake_generation('outbox', 'wake' || i) > g;
-- The last row of a fetch has it.
SELECT generation = tide._wake_generation('outbox', 'wake') AS same
  FROM tide.outbox_fetch(NULL, NULL, 'wake', NULL, NULL, NULL, 10, 100000) WHERE event_id IS NULL;

-- ---- limits and errors ----
SELECT clock_timestamp() AS start \gset
CALL tide.wake_wait('outbox', 'wake', :before, 30000);
SELECT clock_timestamp() - :'start' < '10 seconds' AS at_once;
CALL tide.wake_wait('outbox', 'wake', tide._wake_generation('outbox', 'wake'), 20);
CALL tide.wake_wait('outbox', 'wake', tide._wake_generation('outbox', 'wake'), 0);
CALL tide.wake_wait('outbox', 'wake', tide._wake_generation('outbox', 'wake'), -1);
CALL tide.wake_wait('nothing', '', 0, 10);
BEGIN;
CALL tide.wake_wait('outbox', 'wake', 0, 10);
ROLLBACK;
DO $$ BEGIN CALL tide.wake_wait('outbox', 'wake', 0, 10); END $$;
CALL tide.wake_wait(NULL, 'wake', 0, 10);
CALL tide.wake_wait('outbox', NULL, 0, 10);
CALL tide.wake_wait('outbox', 'wake', NULL, 10);
CALL tide.wake_wait('outbox', 'wake', 0, NULL);

SELECT dblink_disconnect(name) FROM unnest(ARRAY['regress_waiter', 'regress_publisher']) name;
SELECT tide.outbox_drop(name) FROM tide.outbox WHERE name LIKE 'wake%';
DROP EXTENSION dblink;
