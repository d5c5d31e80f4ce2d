--
-- Pipelines: configuration and its errors, ownership, states, positions.
--
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_tide;
RESET client_min_messages;

CREATE FUNCTION pg_temp.try(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	message text;
	hint text;
BEGIN
	EXECUTE statement;
	RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
	RETURN concat_ws(E'\n', sqlstate || ' ' || message, nullif(hint, ''));
END
$$;

SELECT tide.outbox_create('po'), tide.outbox_create('po2'), tide.inbox_create('pi');

-- The tutorial's two pipelines
SELECT tide.relay_set_outbox(
'us-orders-publish',
'po',
'{
"sink_type": "nats",
"url": "nats://nats-us:4222",
"subject_template": "orders.{op}.us-east",
"stream": "ORDERS"
}'::jsonb
);
SELECT tide.relay_set_inbox(
'eu-orders-subscribe',
'pi',
'{
"source_type": "nats",
"url": "nats://nats-us:4222",
"subject": "orders.*.eu-west",
"stream": "ORDERS",
"consumer_group": "us-east-replica",
"durable_name": "us-east-replica"
}'::jsonb
);
SELECT name, direction, target, enabled, state, owner, epoch, lag, last_error FROM tide.pipelines
	WHERE name IN ('us-orders-publish', 'eu-orders-subscribe');

-- Unknown targets and names
SELECT pg_temp.try($$SELECT tide.relay_set_outbox('p', 'nope', '{}')$$) ~ '^42704 outbox "nope" does not exist';
SELECT pg_temp.try($$SELECT tide.relay_set_outbox('p', NULL, '{}')$$) ~ '^22004 the name of the outbox must not be NULL';
SELECT pg_temp.try($$SELECT tide.relay_set_inbox('p', 'nope', '{}')$$) ~ '^42704 inbox "nope" does not exist';
SELECT pg_temp.try($$SELECT tide.relay_set_outbox('handler:x', 'po', '{}')$$);
SELECT pg_temp.try($$SELECT tide.relay_set_outbox(NULL, 'po', '{}')$$);
SELECT split_part(pg_temp.try(format('SELECT tide.%s(%L)', f, 'no''such')), E'\n', 1)
	FROM unnest(ARRAY['relay_enable', 'relay_disable', 'relay_delete', 'position_get']) f;

-- Configuration: what is wrong is named, and nothing is stored
CREATE FUNCTION pg_temp.sink(config jsonb) RETURNS text LANGUAGE sql AS
	$$ SELECT pg_temp.try(format('SELECT tide.relay_set_outbox(%L, %L, %L)', 'bad', 'po', config)) $$;
CREATE FUNCTION pg_temp.source(config jsonb) RETURNS text LANGUAGE sql AS
	$$ SELECT pg_temp.try(format('SELECT tide.relay_set_inbox(%L, %L, %L)', 'bad', 'pi', config)) $$;
\set sink '{"sink_type": "nats", "url": "nats://h:4222", "subject_template": "a.{op}", "stream": "S"}'
\set source '{"source_type": "nats", "url": "nats://h:4222", "subject": "a.*", "stream": "S", "durable_name": "d"}'
SELECT pg_temp.sink(NULL);
SELECT pg_temp.sink('[]');
SELECT pg_temp.sink('"nats"');
SELECT pg_temp.sink('{}');
SELECT pg_temp.sink('{"sink_type": "carrier-pigeon"}');
SELECT pg_temp.sink('{"sink_type": 1}');
SELECT pg_temp.sink(:'source');
SELECT split_part(pg_temp.sink(:'sink'::jsonb || '{"colour": "red"}'), E'\n', 1);
SELECT pg_temp.sink(:'sink'::jsonb || '{"subject_templat": "x"}');
SELECT pg_temp.sink(:'sink'::jsonb - 'url');
SELECT pg_temp.sink(:'sink'::jsonb || '{"url": 4222}');
SELECT pg_temp.sink(:'sink'::jsonb || '{"url": ["nats://h"]}');
SELECT pg_temp.sink(:'sink'::jsonb || '{"url": null}');
SELECT pg_temp.sink(:'sink'::jsonb || '{"url": {"host": "h"}}');
SELECT split_part(pg_temp.sink(:'sink'::jsonb || '{"url": "http://h"}'), E'\n', 1);
SELECT split_part(pg_temp.sink(:'sink'::jsonb || '{"subject_template": "a.{colour}"}'), E'\n', 1);
SELECT split_part(pg_temp.sink(:'sink'::jsonb || '{"batch_size": 0}'), E'\n', 1);
SELECT split_part(pg_temp.sink(:'sink'::jsonb || '{"batch_size": "many"}'), E'\n', 1);
SELECT split_part(pg_temp.sink(:'sink'::jsonb || '{"batch_size": 1e300}'), E'\n', 1);
-- a secret in clear: the message names the key and never shows the secret
SELECT split_part(m, E'\n', 1) AS message, m ~ 'hunter2' AS shown
	FROM pg_temp.sink(:'sink'::jsonb || '{"token": "hunter2"}') m;
SELECT m ~ '^22023 ' AS refused, m ~ 'hunter2' AS shown
	FROM pg_temp.sink(:'sink'::jsonb || '{"url": "nats://me:hunter2@h:4222"}') m;
SELECT m ~ '^22023 ' AS refused, m ~ 'hunter2' AS shown
	FROM pg_temp.sink('{"sink_type": "inbox", "conninfo": "host=h password=hunter2", "inbox": "x"}') m;
SELECT pg_temp.source('{}');
SELECT split_part(pg_temp.source(:'source'::jsonb || '{"subject": "a..b"}'), E'\n', 1);
SELECT split_part(pg_temp.source(:'source'::jsonb - 'stream'), E'\n', 1);
SELECT count(*) FROM tide.pipeline WHERE name = 'bad';

-- Replacing: the same changes nothing; another configuration raises the version and enables
SELECT tide.relay_set_outbox('p1', 'po', :'sink');
SELECT id AS p1_id, version AS v FROM tide.pipeline WHERE name = 'p1' \gset
SELECT tide.relay_set_outbox('p1', 'po', :'sink');
SELECT version - :v AS raised FROM tide.pipeline WHERE name = 'p1';
SELECT tide.relay_disable('p1');
SELECT version > :v AS raised, enabled FROM tide.pipeline WHERE name = 'p1';
SELECT name, enabled, state FROM tide.pipelines WHERE name = 'p1';
SELECT tide.relay_set_outbox('p1', 'po', :'sink'::jsonb || '{"stream": "T"}');
SELECT id = :p1_id AS same_id, enabled, config ->> 'stream' AS stream FROM tide.pipeline WHERE name = 'p1';
SELECT tide.relay_disable('p1'), tide.relay_enable('p1');
SELECT pg_temp.try(format('SELECT tide.relay_set_inbox(%L, %L, %L)', 'p1', 'pi', :'source'));

-- Ownership: the lock is the session's, every acquisition raises the epoch
SELECT tide.relay_acquire('p1', 'relay one');
SELECT tide.relay_acquire('p1', 'relay one');
SELECT state, holder_pid = pg_backend_pid() AS mine, holder_idle_ms FROM tide.relay_poll() WHERE name = 'p1';
SELECT state, owner, owner_pid = pg_backend_pid() AS mine FROM tide.pipelines WHERE name = 'p1';
SELECT tide.relay_release('p1'), tide.relay_release('p1');
SELECT holder_pid, holder_idle_ms FROM tide.relay_poll() WHERE name = 'p1';
SELECT pg_temp.try($$SELECT tide.relay_acquire('nope', 'me')$$) ~ '^42704 pipeline "nope" does not exist';
SELECT tide.relay_evict('p1', pg_backend_pid());
SELECT tide.relay_acquire('p1', 'relay two') AS epoch \gset

-- States: written on change only; the last error stays
SELECT xmin AS x FROM tide.pipeline WHERE name = 'p1' \gset
SELECT tide.relay_set_state('p1', :epoch, 'starting', NULL, NULL);
SELECT xmin = :'x' AS untouched FROM tide.pipeline WHERE name = 'p1';
SELECT tide.relay_set_state('p1', :epoch, 'retrying', '08006', 'connection to nats://h:4222 refused');
SELECT xmin AS x FROM tide.pipeline WHERE name = 'p1' \gset
SELECT tide.relay_set_state('p1', :epoch, 'retrying', '08006', 'connection to nats://h:4222 refused');
SELECT xmin = :'x' AS untouched FROM tide.pipeline WHERE name = 'p1';
SELECT tide.relay_set_state('p1', :epoch, 'running', NULL, NULL);
SELECT state, last_error, last_error_code, last_error_at IS NOT NULL AS dated FROM tide.pipelines WHERE name = 'p1';
SELECT pg_temp.try(format('SELECT tide.relay_set_state(%L, %s, %L, NULL, NULL)', 'p1', :epoch, 'dancing'));
SELECT pg_temp.try(format('SELECT tide.relay_set_state(%L, %s, %L, NULL, NULL)', 'p1', 1, 'running'));
SELECT pg_temp.try($$SELECT tide.relay_set_state('nope', 1, 'running', NULL, NULL)$$);

-- Positions: NULL keeps what is there; a stale epoch is refused
SELECT * FROM tide.position_get('p1');
SELECT tide.position_save('p1', :epoch, '10:20:', NULL);
SELECT * FROM tide.position_get('p1');
SELECT tide.position_save('p1', :epoch, NULL, '10:15:');
SELECT tide.position_save('p1', :epoch, '20:30:', NULL);
SELECT * FROM tide.position_get('p1');
SELECT pg_temp.try(format('SELECT tide.position_save(%L, %s, %L, NULL)', 'p1', 1, 'old'));
SELECT pg_temp.try(format('SELECT tide.position_save(%L, NULL, %L, NULL)', 'p1', 'old'))
	~ 'TD001 pipeline "p1" has a newer owner: epoch NULL was refused';
SELECT sent, confirmed FROM tide.pipelines WHERE name = 'p1';

-- A position of an older epoch that commits late does not count
INSERT INTO tide.position_0 (pipeline_id, epoch, n, sent) VALUES (:p1_id, 1, nextval('tide.position_n'), 'late');
SELECT * FROM tide.position_get('p1');

-- The log turns: whatever the step, the position stays
SELECT tide._maintain_positions(0) - 'x';
SELECT (SELECT count(*) FROM tide.position_0 WHERE pipeline_id = :p1_id)
	+ (SELECT count(*) FROM tide.position_1 WHERE pipeline_id = :p1_id) AS rows;
SELECT * FROM tide.position_get('p1');
SELECT tide.position_save('p1', :epoch, '40:40:', NULL);
SELECT * FROM tide.position_get('p1');
SELECT tide._maintain_positions(0) -> 'positions_turned';
SELECT * FROM tide.position_get('p1');
SELECT tide.position_save('p1', :epoch, NULL, '41:41:');
SELECT * FROM tide.position_get('p1');
SELECT tide._maintain_positions(1000000000);
-- written to the resting table by somebody who was slow: still the latest
CREATE FUNCTION pg_temp.write_to_resting(pipeline_id int, epoch bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('INSERT INTO tide.position_%s (pipeline_id, epoch, n, sent) VALUES (%s, %s, nextval(%L), %L)',
				   (SELECT (last_value + 1) % 2 FROM tide.position_turn), pipeline_id, epoch, 'tide.position_n', 'slow');
END
$$;
SELECT pg_temp.write_to_resting(:p1_id, :epoch);
SELECT * FROM tide.position_get('p1');
SELECT tide._maintain_positions(1000000000);
SELECT * FROM tide.position_get('p1');
-- no dead tuples by saving
SELECT count(tide.position_save('p1', :epoch, i || '::', NULL)) FROM generate_series(1, 500) i;
SELECT pg_stat_force_next_flush();
SELECT sum(n_tup_upd) + sum(n_tup_del) AS changed FROM pg_stat_user_tables WHERE relname IN ('position_0', 'position_1');

-- Another target: the position is forgotten, and the owner must ask again
SELECT tide.relay_set_outbox('p1', 'po2', :'sink'::jsonb || '{"stream": "T"}');
SELECT * FROM tide.position_get('p1');
SELECT pg_temp.try(format('SELECT tide.position_save(%L, %s, %L, NULL)', 'p1', :epoch, 'x')) ~ '^TD001';
SELECT tide.relay_acquire('p1', 'relay two') > :epoch AS newer;

-- An inbox's own pipeline: position and events in one transaction
SELECT tide.relay_acquire('eu-orders-subscribe', 'me') AS epoch \gset
SELECT stored FROM tide.inbox_receive('pi', 'eu-orders-subscribe', :epoch, NULL, '{i1}', '{eu}', '{o}', '{e}', '{i}', '{k}', '{1}', '{null}', '{1}', '{1}', 'seq 17');
SELECT * FROM tide.position_get('eu-orders-subscribe');
SELECT pg_temp.try($$SELECT tide.inbox_receive('pi', 'eu-orders-subscribe', 0, NULL, '{i2}', '{eu}', '{o}', '{e}', '{i}', '{k}', '{1}', '{null}', '{1}', '{1}', 'seq 18')$$) ~ '^TD001';
SELECT * FROM tide.position_get('eu-orders-subscribe');
SELECT event_id FROM tide.pi_inbox;

-- Deleting
SELECT tide.relay_delete('p1'), tide.relay_delete('us-orders-publish'), tide.relay_delete('eu-orders-subscribe');
SELECT pg_temp.try($$SELECT tide.position_save('p1', 1, 'x', NULL)$$);
SELECT count(*) FROM tide.pipelines WHERE name IN ('p1', 'us-orders-publish', 'eu-orders-subscribe');
SELECT tide.outbox_drop('po'), tide.outbox_drop('po2'), tide.inbox_drop('pi');
SELECT tide.maintain() ? 'errors' AS errors;
SELECT pg_advisory_unlock_all();
