--
-- Keeping and forgetting events: rotation, truncation, and what a restore makes of an outbox.
--
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_tide;
RESET client_min_messages;

-- Only the first line of an error: code and message.
CREATE FUNCTION pg_temp.try(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE statement;
	RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
	RETURN sqlstate || ' ' || regexp_replace(sqlerrm, '\d{3,}', '#', 'g');
END
$$;
-- Events in each segment, the one written to in brackets.
CREATE FUNCTION pg_temp.segments(box text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	o tide.outbox := (SELECT b FROM tide.outbox b WHERE name = box);
	n int;
	result text;
BEGIN
	FOR k IN 0..2 LOOP
		EXECUTE format('SELECT count(*) FROM tide.outbox_%s_%s', o.id, k) INTO n;
		result := concat_ws(' ', result, CASE WHEN k = o.segment THEN format('[%s]', n) ELSE n::text END);
	END LOOP;
	RETURN result;
END
$$;
-- As a relay goes through it: one batch of everything, then the position.
CREATE FUNCTION pg_temp.deliver(pipe text, box text, confirm boolean) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	at text := (SELECT sent FROM tide.position_get(pipe));
	e bigint := (SELECT epoch FROM tide.pipeline WHERE name = pipe);
	total bigint := 0;
	row record;
BEGIN
	LOOP
		FOR row IN SELECT * FROM tide.outbox_fetch(pipe, e, box, at, pg_current_snapshot()::text, NULL, 100000, 1000000000) LOOP
			total := total + (row.event_id IS NOT NULL)::int;
		END LOOP;
		EXIT WHEN at = row.window_end;
		at := row.window_end;
	END LOOP;
	PERFORM tide.position_save(pipe, e, at, CASE WHEN confirm THEN at END);
	RETURN total;
END
$$;
CREATE FUNCTION pg_temp.publish(box text, n int) RETURNS bigint LANGUAGE sql AS
	$$ SELECT count(tide.outbox_publish(box, 'e', to_jsonb(i))) FROM generate_series(1, n) i $$;

-- ---- without a pipeline ----
SELECT tide.outbox_create('keep', '0');
SELECT tide._maintain_outboxes();
SELECT pg_temp.segments('keep');
SELECT pg_temp.publish('keep', 3);
SELECT tide._maintain_outboxes(), pg_temp.segments('keep');
SELECT pg_temp.publish('keep', 2);
SELECT tide._maintain_outboxes();
SELECT pg_temp.segments('keep');
SELECT pg_temp.publish('keep', 4);
SELECT tide._maintain_outboxes();
SELECT pg_temp.segments('keep');
SELECT payload FROM tide.keep_outbox ORDER BY seq;
-- A retention that is not over keeps everything.
SELECT tide.outbox_set_retention('keep', '1 hour');
SELECT tide._maintain_outboxes();
SELECT tide._maintain_outboxes();
SELECT pg_temp.segments('keep');
SELECT tide.outbox_drop('keep');

-- ---- nothing that a pipeline still needs goes ----
SELECT tide.outbox_create('held', '0');
SELECT tide.inbox_create('held');
SELECT tide.relay_set_outbox('held-1', 'held', '{"sink_type": "inbox", "conninfo": "host=nowhere", "inbox": "held"}');
SELECT tide.relay_set_outbox('held-2', 'held', '{"sink_type": "inbox", "conninfo": "host=nowhere", "inbox": "held"}');
SELECT tide.relay_acquire('held-1', 'regress') IS NOT NULL AS acquired, tide.relay_acquire('held-2', 'regress') IS NOT NULL AS acquired;
SELECT pg_temp.try('SELECT tide.outbox_drop(''held'')');
SELECT pg_temp.publish('held', 3);
SELECT tide._maintain_outboxes();
SELECT tide._maintain_outboxes();
SELECT pg_temp.segments('held');
-- One of two has everything.
SELECT pg_temp.deliver('held-1', 'held', true);
SELECT tide._maintain_outboxes();
SELECT pg_temp.segments('held');
-- The other one sent it, but its destination has confirmed only what came before.
SELECT tide.position_save('held-2', (SELECT epoch FROM tide.pipeline WHERE name = 'held-2'), '1:1:', '1:1:');
SELECT pg_temp.deliver('held-2', 'held', false);
SELECT tide._maintain_outboxes();
SELECT pg_temp.segments('held');
SELECT pg_temp.publish('held', 5);
SELECT tide._maintain_outboxes();
SELECT tide._maintain_outboxes();
SELECT pg_temp.segments('held');
-- Now all is confirmed but what came since; a position in the middle of a segment keeps all of it.
SELECT pg_temp.deliver('held-2', 'held', true);
SELECT tide._maintain_outboxes();
SELECT tide._maintain_outboxes();
SELECT pg_temp.segments('held');
SELECT pg_temp.deliver('held-1', 'held', true);
SELECT tide._maintain_outboxes();
SELECT pg_temp.segments('held');
-- What is published while all segments are in use stays where it is: nothing turns until one is free.
SELECT pg_temp.publish('held', 1);
SELECT tide._maintain_outboxes();
SELECT pg_temp.publish('held', 1);
SELECT tide._maintain_outboxes();
SELECT pg_temp.publish('held', 1);
SELECT tide._maintain_outboxes();
SELECT pg_temp.publish('held', 1);
SELECT tide._maintain_outboxes();
SELECT pg_temp.segments('held');
SELECT pg_temp.deliver('held-1', 'held', true), pg_temp.deliver('held-2', 'held', true);
SELECT tide._maintain_outboxes();
SELECT pg_temp.segments('held');
SELECT tide._maintain_outboxes();
SELECT pg_temp.segments('held');

-- ---- no dead rows, though somebody holds a snapshot ----
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgstattuple;
CREATE EXTENSION IF NOT EXISTS dblink;
RESET client_min_messages;
SELECT dblink_connect('regress_holder', format('host=%s port=%s user=%s dbname=%s', split_part(current_setting('unix_socket_directories'), ',', 1),
											   current_setting('port'), current_user, current_database()));
SELECT dblink_exec('regress_holder', 'BEGIN ISOLATION LEVEL REPEATABLE READ');
SELECT n FROM dblink('regress_holder', 'SELECT 1') AS t (n int);
DO $$
BEGIN
	FOR i IN 1..60 LOOP
		PERFORM pg_temp.publish('held', 20);
		COMMIT;
		PERFORM pg_temp.deliver('held-1', 'held', true), pg_temp.deliver('held-2', 'held', true);
		COMMIT;
		IF i % 5 = 0 THEN
			PERFORM tide._maintain_outboxes();
			COMMIT;
		END IF;
	END LOOP;
END
$$;
SELECT count(*) AS tables, sum(s.dead_tuple_count) AS dead_rows, sum(s.tuple_count) < 700 AS few_rows_left
  FROM tide.outbox o, generate_series(0, 2) k, LATERAL pgstattuple(format('tide.outbox_%s_%s', o.id, k)::regclass) s WHERE o.name = 'held';
SELECT sum(dead_tuple_count) AS dead_rows FROM (SELECT (pgstattuple(r)).* FROM unnest(ARRAY['tide.position_0', 'tide.position_1']::regclass[]) r) s;
SELECT dblink_exec('regress_holder', 'COMMIT');
SELECT dblink_disconnect('regress_holder');

-- ---- owners that are stale ----
SELECT epoch AS epoch FROM tide.pipeline WHERE name = 'held-1' \gset
SELECT pg_temp.try(format('SELECT * FROM tide.outbox_fetch(%L, %s, ''held'', NULL, NULL, NULL, 1, 1)', p, e))
  FROM (VALUES ('held-1', :epoch), ('held-1', :epoch - 1), ('held-1', :epoch + 1), ('nowhere', 1)) AS t (p, e);
SELECT pg_temp.try('SELECT * FROM tide.outbox_fetch(''held-1'', NULL, ''held'', NULL, NULL, NULL, 1, 1)');

-- ---- restored from elsewhere ----
SELECT pg_temp.publish('held', 4);
SELECT pg_temp.deliver('held-1', 'held', true);
SELECT count(*) AS stored FROM tide.held_outbox \gset
-- As after a dump and restore: made by another cluster.
UPDATE tide.outbox SET system_identifier = 1 WHERE name = 'held';
SELECT pg_temp.try(format('SELECT * FROM tide.outbox_fetch(''held-1'', %s, ''held'', NULL, NULL, NULL, 1, 1)', :epoch));
SELECT pg_temp.try('SELECT * FROM tide.outbox_unconfirmed(''held'', NULL, ''1:1:'', NULL, NULL, 1)');
SELECT tide.outbox_publish('held', 'e', '"after the restore"') IS NOT NULL AS published;
-- Positions and transaction ids do not belong together: nothing is emptied, whatever they look like.
SELECT tide.position_save('held-1', :epoch, '1000000000:1000000000:', '1000000000:1000000000:');
SELECT tide.position_save('held-2', (SELECT epoch FROM tide.pipeline WHERE name = 'held-2'), '1000000000:1000000000:', '1000000000:1000000000:');
SELECT tide._maintain_outboxes();
SELECT tide._maintain_outboxes();
SELECT tide.outbox_rebase('held') - 1 = :stored AS all_of_them;
-- The owner must begin anew; then everything comes again, in the same order.
SELECT pg_temp.try(format('SELECT * FROM tide.outbox_fetch(''held-1'', %s, ''held'', NULL, NULL, NULL, 1, 1)', :epoch));
SELECT sent, confirmed FROM tide.position_get('held-1');
SELECT tide.relay_acquire('held-1', 'regress') IS NOT NULL AS acquired;
SELECT string_agg(payload, ' ' ORDER BY seq) = (SELECT string_agg(payload::text, ' ' ORDER BY seq) FROM tide.held_outbox) AS all_in_order
  FROM tide.outbox_fetch(NULL, NULL, 'held', NULL, NULL, NULL, 10000, 10000000) WHERE event_id IS NOT NULL;
SELECT pg_temp.deliver('held-1', 'held', true) - 1 = :stored AS all_of_them;
SELECT pg_temp.publish('held', 2);
SELECT pg_temp.deliver('held-1', 'held', true);

SELECT tide.relay_release('held-1'), tide.relay_release('held-2');
SELECT tide.relay_delete('held-1');
SELECT tide.relay_delete('held-2');
SELECT tide.outbox_drop('held');
SELECT tide.inbox_drop('held');
DROP EXTENSION pgstattuple;
DROP EXTENSION dblink;
