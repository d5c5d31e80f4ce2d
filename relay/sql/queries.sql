-- queries.sql: every statement that the program sends to a database.
--
-- sql2c.pl makes a C string of each: "-- name: x" becomes tide_q_x.  Parameters
-- carry casts, so that their types do not depend on what a function's
-- overloads happen to be.  What the functions do: ARCHITECTURE.md, "Between the
-- relay and its database".

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

-- name: maintain
SELECT tide.maintain();

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
