-- queries.sql: every statement that the program sends to a database.
--
-- sql2c.pl makes a C string of each: "-- name: x" becomes tide_q_x.  Parameters
-- carry casts, so that their types do not depend on what a function's
-- overloads happen to be.  What the functions do: ARCHITECTURE.md, "Between the
-- relay and its database".

-- First in every session.

-- name: session
SELECT pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', false);

-- The coordinator.

-- name: relay_poll
SELECT id, name, direction, target, config, enabled, version, state, holder_pid, holder_idle_ms
FROM tide.relay_poll();

-- name: relay_acquire
SELECT tide.relay_acquire($1::text, $2::text);

-- name: relay_release
SELECT tide.relay_release($1::text);

-- name: relay_evict
SELECT tide.relay_evict($1::text, $2::int);

-- name: relay_set_state
SELECT tide.relay_set_state($1::text, $2::bigint, $3::text, $4::text, $5::text);

-- name: relay_region
SELECT tide.relay_region();

-- name: relay_alive
SELECT 1;

-- name: maintain
SELECT tide.maintain();

-- In microseconds.
-- name: lags
SELECT name, (EXTRACT(epoch FROM lag) * 1000000)::bigint
FROM tide.pipelines
WHERE enabled AND lag IS NOT NULL;

-- Pipelines.

-- name: position_get
SELECT sent, confirmed FROM tide.position_get($1::text);

-- name: position_save
SELECT tide.position_save($1::text, $2::bigint, $3::text, $4::text);

-- name: outbox_fetch
SELECT seq, event_id, published_us, committed_us, entity, op, key, payload, headers,
       window_end, more, generation
FROM tide.outbox_fetch($1::text, $2::bigint, $3::text, $4::text, $5::text, $6::bigint, $7::int,
                       $8::int);

-- The session of a source may lose its last commits: positions, saved again soon.
-- name: outbox_session
SELECT pg_catalog.set_config('synchronous_commit', 'off', false),
       pg_catalog.set_config('work_mem', '32MB', false);

-- An event that was given up (a dead letter not retried) has an empty id: nobody is asked for it.
-- name: outbox_unconfirmed
SELECT CASE WHEN event_id IN (SELECT d.event_id FROM tide.dead_letter d
                              WHERE d.direction = 'outbox' AND d.retried_at IS NULL)
            THEN '' ELSE event_id END,
       seq, window_end, more
FROM tide.outbox_unconfirmed($1::text, $2::text, $3::text, $4::text, $5::bigint, $6::int);

-- name: relay_destinations
SELECT * FROM tide.relay_destinations($1::text);

-- name: relay_add_destination
SELECT tide.relay_add_destination($1::text, $2::bigint, $3::text);

-- name: relay_store
SELECT tide.relay_store($1::text, $2::bigint, $3::text);

-- name: outbox_reread
SELECT seq, event_id, published_us, committed_us, entity, op, key, payload, headers
FROM tide.outbox_fetch(NULL, NULL, $1::text, $2::text, $3::text, NULL, 2147483647, 2147483647)
WHERE event_id = ANY ($4::text[]);

-- name: wake_wait
CALL tide.wake_wait($1::text, $2::text, $3::bigint, $4::int);

-- name: inbox_receive
SELECT stored, duplicates, echoes
FROM tide.inbox_receive($1::text, $2::text, $3::bigint, $4::text, $5::text[], $6::text[],
                        $7::text[], $8::text[], $9::text[], $10::text[], $11::jsonb[],
                        $12::jsonb[], $13::int8[], $14::int8[], $15::text);

-- name: inbox_missing
SELECT id FROM unnest(tide.inbox_missing($1::text, $2::text[])) AS id;

-- name: inbox_run_handler
CALL tide.inbox_run_handler($1::text, $2::text, $3::bigint, $4::int, NULL, NULL, NULL, NULL);

-- name: dead_letter_add
SELECT tide.dead_letter_add($1::text, $2::bigint, $3::text, $4::text, $5::text, $6::text, $7::text,
                            $8::text, $9::bytea, $10::jsonb, $11::text, $12::text);

-- Looking from outside: pg_tide status and pg_tide doctor.

-- One document with everything "status" shows; --json prints it as it is.
-- name: status
SELECT pg_catalog.jsonb_build_object(
    'database', pg_catalog.current_database(),
    'region', tide.region_name(),
    'region_named', EXISTS (SELECT FROM tide.local_region),
    'server_version', pg_catalog.current_setting('server_version'),
    'extension_version', tide.version(),
    'preloaded', tide.preloaded(),
    'pipelines', (SELECT coalesce(pg_catalog.jsonb_agg(
                             pg_catalog.to_jsonb(p) || pg_catalog.jsonb_build_object(
                                 'lag_seconds', extract(epoch FROM p.lag))
                             ORDER BY p.direction, p.name), '[]')
                  FROM tide.pipelines p),
    'outboxes', (SELECT coalesce(pg_catalog.jsonb_agg(tide.outbox_status(o.name) ORDER BY o.name),
                                 '[]')
                 FROM tide.outbox o),
    'inboxes', (SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.to_jsonb(i) ORDER BY i.name), '[]')
                FROM tide.inbox_status() i),
    'dead_letters', (SELECT pg_catalog.count(*) FROM tide.dead_letters d)
)::text;

-- What can be asked of any server, with or without the extension.
-- name: doctor_server
SELECT pg_catalog.jsonb_build_object(
    'database', pg_catalog.current_database(),
    'role', current_user,
    'in_recovery', pg_catalog.pg_is_in_recovery(),
    'clock_us', (extract(epoch FROM pg_catalog.clock_timestamp()) * 1000000)::bigint,
    'extension_version', (SELECT e.extversion FROM pg_catalog.pg_extension e
                          WHERE e.extname = 'pg_tide'),
    'available_version', (SELECT a.default_version FROM pg_catalog.pg_available_extensions a
                          WHERE a.name = 'pg_tide'),
    'relay_member', (SELECT pg_catalog.pg_has_role(r.oid, 'USAGE') FROM pg_catalog.pg_roles r
                     WHERE r.rolname = 'tide_relay'),
    'settings', (SELECT pg_catalog.jsonb_object_agg(s.name, s.setting) FROM pg_catalog.pg_settings s
                 WHERE s.name IN ('fsync', 'full_page_writes', 'synchronous_commit',
                                  'idle_session_timeout', 'statement_timeout'))
)::text;

-- Every pipeline with its configuration, and who works on it.
-- name: doctor_pipelines
SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.to_jsonb(p) ORDER BY p.direction, p.name), '[]')::text
FROM tide.relay_poll() p;

-- Segments that are past their retention for a while and still there.
-- name: doctor_outboxes
SELECT o.name, pg_catalog.count(n) FILTER (
           WHERE n <> o.segment
               AND o.closed_at[n + 1] + o.retention < pg_catalog.now() - interval '10 minutes'),
       o.retention
FROM tide.outbox o, pg_catalog.generate_series(0, 2) n
GROUP BY o.id, o.name, o.retention ORDER BY o.name;

-- Rows.

-- First on a connection in replication mode: values as text look the same everywhere, an exported
-- snapshot lives as long as it is needed.  Answers with the server's patience in milliseconds.
-- name: wal_session
SELECT s.setting, pg_catalog.set_config('DateStyle', 'ISO, MDY', false),
       pg_catalog.set_config('IntervalStyle', 'postgres', false),
       pg_catalog.set_config('extra_float_digits', '3', false),
       pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', false),
       pg_catalog.set_config('statement_timeout', '0', false),
       pg_catalog.set_config('idle_in_transaction_session_timeout', '0', false)
FROM pg_catalog.pg_settings s WHERE s.name = 'wal_sender_timeout';
