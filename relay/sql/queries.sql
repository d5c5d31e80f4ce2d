-- queries.sql: every statement that the program sends to a database.
--
-- sql2c.pl makes a C string of each: "-- name: x" becomes tide_q_x.  Parameters
-- carry casts, so that their types do not depend on what a function's
-- overloads happen to be.  What the functions do: ARCHITECTURE.md, "Between the
-- relay and its database".

-- First in every session.

-- tide.relay: what we write is done for other regions, so it must not wait for them (durability.c).
-- jit: what looks dear to the planner here takes milliseconds, compiling it a second.
-- name: session
SELECT pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', false),
       pg_catalog.set_config('jit', 'off', false),
       pg_catalog.set_config('tide.relay', 'on', false);

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

-- What the relay writes for itself waits for no other region: that one may be away.
-- name: own_session
SELECT pg_catalog.set_config('synchronous_commit', 'local', false)
WHERE pg_catalog.current_setting('synchronous_commit') <> 'off';

-- name: relay_listen
LISTEN tide_pipelines;

-- name: relay_alive
SELECT 1;

-- name: maintain
SELECT tide.maintain();

-- name: relay_residency
SELECT tide.relay_residency();

-- In microseconds.
-- name: lags
SELECT name, (EXTRACT(epoch FROM lag) * 1000000)::bigint
FROM tide.pipelines
WHERE enabled AND lag IS NOT NULL;

-- What the database knows better than the relay: numbers by class, and of the WAL kept here.
-- name: gauges
SELECT * FROM (
    WITH lag AS MATERIALIZED (SELECT * FROM tide.lag),
         slo AS MATERIALIZED (SELECT * FROM tide.slo),
         slots AS MATERIALIZED (SELECT * FROM tide.slots)
    SELECT 'class_lag_seconds', l.region, l.class, NULL, l.seconds
        FROM lag l WHERE l.seconds IS NOT NULL
    UNION ALL SELECT 'class_held', l.region, l.class, NULL, l.paused::int FROM lag l
    UNION ALL SELECT 'class_objective_seconds', NULL, s.class, NULL, extract(epoch FROM s.objective)
        FROM slo s
    UNION ALL SELECT 'class_slo_met_share', NULL, s.class, NULL, s.met_share
        FROM slo s WHERE s.met_share IS NOT NULL
    UNION ALL SELECT 'class_residency_overdue_seconds', NULL, k.name, NULL, coalesce((
            SELECT extract(epoch FROM pg_catalog.clock_timestamp() - pg_catalog.min(w.since))
            FROM tide.replicated_table t JOIN (
                SELECT d.relid, d.since FROM tide.residency_due d
                UNION ALL SELECT l.relid, l.noted_at FROM tide.residency_leaving l) w USING (relid)
            WHERE t.class = k.name), 0)
        FROM tide.class k WHERE k.residency IS NOT NULL
    UNION ALL SELECT m.family, d.peer, d.class, NULL, m.value
        FROM tide.durability d, LATERAL (VALUES
            ('sync_waits_total', d.waits::numeric), ('sync_waits_ended_total', d.ended),
            ('sync_wait_seconds_total', extract(epoch FROM d.waited)::numeric(20, 6)),
            ('sync_waiting', d.waiting), ('sync_peer_listed', d.listed::int),
            ('sync_peer_connected', d.connected::int)) m (family, value)
    UNION ALL SELECT 'wal_retained_bytes', s.region, NULL, s.slot, s.retained_bytes
        FROM slots s WHERE s.retained_bytes IS NOT NULL
    UNION ALL SELECT 'wal_seconds_to_full', s.region, NULL, s.slot,
            extract(epoch FROM s.time_to_full)
        FROM slots s WHERE s.time_to_full IS NOT NULL
    UNION ALL SELECT 'wal_slot_lost', s.region, NULL, s.slot, (s.wal_status = 'lost')::int
        FROM slots s WHERE s.wal_status IS NOT NULL
    UNION ALL (SELECT 'wal_free_bytes', NULL, NULL, NULL, s.free_bytes
               FROM slots s WHERE s.free_bytes IS NOT NULL LIMIT 1)
    UNION ALL SELECT 'oldest_transaction_seconds', NULL, NULL, NULL, coalesce(pg_catalog.max(
            extract(epoch FROM t.age)), 0)
        FROM tide.rows_transactions('1 second') t) AS g (family, region, class, slot, value);

-- name: doctor_slots
SELECT s.slot, s.region, pg_catalog.round(extract(epoch FROM s.time_to_full)),
       least(s.free_bytes, s.safe_bytes), s.bytes_per_second,
       s.free_bytes <= coalesce(s.safe_bytes, s.free_bytes)
FROM tide.slots s WHERE s.time_to_full < interval '1 day' ORDER BY s.time_to_full;

-- name: doctor_transactions
SELECT t.who, pg_catalog.round(extract(epoch FROM t.age)), t.writes, t.state
FROM tide.rows_transactions('1 minute') t
WHERE t.writes OR t.age > interval '15 minutes' LIMIT 5;

-- name: doctor_held
SELECT l.region, pg_catalog.array_to_string(l.classes, ', '), l.reason,
       pg_catalog.date_trunc('second', pg_catalog.clock_timestamp() - l.held_since)
FROM tide.lanes l WHERE l.held ORDER BY l.region;

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
    'links', (SELECT coalesce(pg_catalog.jsonb_agg(
                         pg_catalog.to_jsonb(l) || pg_catalog.jsonb_build_object(
                             'lag_seconds', pg_catalog.round(extract(epoch FROM l.lag), 3),
                             'rows', l.changes, 'progress', c.progress,
                             'drift', (SELECT pg_catalog.string_agg(
                                           pg_catalog.format('%s: %s', d."table", d.difference), ', ')
                                       FROM tide.schema_drift d
                                       WHERE d.region = l.region AND d.blocking))
                         ORDER BY l.region), '[]')
              FROM tide.links l, LATERAL (
                  SELECT pg_catalog.jsonb_build_object(
                      'tables', pg_catalog.count(*),
                      'tables_copied', pg_catalog.count(*) FILTER (WHERE t.state = 'copied'),
                      'rows_done', coalesce(pg_catalog.sum(t.rows_done), 0),
                      'rows_total', pg_catalog.sum(greatest(t.rows_total, t.rows_done)),
                      'bytes_done', coalesce(pg_catalog.sum(t.bytes_done), 0),
                      'fraction', CASE
                          WHEN coalesce(pg_catalog.bool_and(t.state = 'copied'), true) THEN 1
                          ELSE least(0.99, pg_catalog.round(
                              pg_catalog.sum(CASE t.state WHEN 'copied' THEN w.weight
                                                 WHEN 'copying' THEN least(t.rows_done, w.weight)
                                                 ELSE 0 END)
                              / pg_catalog.sum(w.weight), 4)) END) AS progress
                  FROM tide._link_tables t,
                      LATERAL (SELECT greatest(t.rows_total, t.rows_done, 1) AS weight) w
                  WHERE t.region = l.region) c),
    'sync', (SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
                        'class', d.class, 'peer', d.peer, 'listed', d.listed,
                        'connected', d.connected, 'lag_bytes', d.lag_bytes, 'waiting', d.waiting,
                        'waits', d.waits, 'waits_ended', d.ended, 'last_ended', d.last_ended)
                        ORDER BY d.class), '[]')
             FROM tide.durability d),
    'lanes', (SELECT coalesce(pg_catalog.jsonb_agg(
                         pg_catalog.to_jsonb(l) || pg_catalog.jsonb_build_object(
                             'lag_seconds', pg_catalog.round(extract(epoch FROM l.lag), 3),
                             'class_list', pg_catalog.array_to_string(l.classes, ', '))
                         ORDER BY l.region, l.lane DESC), '[]')
              FROM tide.lanes l
              WHERE EXISTS (SELECT FROM tide.link o
                            WHERE o.region = l.region AND o.lane <> l.lane)),
    'slots', (SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
                         'slot', s.slot_name,
                         'region', CASE WHEN s.slot_name LIKE 'tide\_rows\_%' THEN t.region
                             ELSE (SELECT r.name FROM tide.region r
                                   WHERE pg_catalog.lpad(pg_catalog.to_hex(r.region_id), 8, '0')
                                       = pg_catalog.right(s.slot_name::text, 8)) END,
                         'active', s.active, 'wal_status', s.wal_status,
                         'retained_bytes', CASE WHEN NOT pg_catalog.pg_is_in_recovery()
                             THEN pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(),
                                                             s.restart_lsn) END,
                         'safe_bytes', s.safe_wal_size,
                         'free_bytes', t.free_bytes,
                         'seconds_to_full', coalesce(
                             pg_catalog.round(extract(epoch FROM t.time_to_full)),
                             (SELECT pg_catalog.round(s.safe_wal_size / w.wal_bytes
                                  * extract(epoch FROM pg_catalog.now() - w.stats_reset))
                              FROM pg_catalog.pg_stat_wal w WHERE w.wal_bytes > 0)))
                         ORDER BY s.slot_name), '[]')
              FROM pg_catalog.pg_replication_slots s LEFT JOIN tide.slots t ON t.slot = s.slot_name
              WHERE s.database = pg_catalog.current_database() AND NOT s.temporary
                  AND (s.slot_name LIKE 'tide\_link\_%' OR s.slot_name LIKE 'tide\_rows\_%')),
    'wal_bytes', CASE WHEN NOT pg_catalog.pg_is_in_recovery()
                     THEN pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), '0/0') END,
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

-- Everything the doctor wants to know of a region's rows.  Sent to this database and to the others'.
-- name: doctor_rows
SELECT pg_catalog.jsonb_build_object(
    'region', tide.region_name(),
    'region_named', EXISTS (SELECT FROM tide.local_region),
    'region_id', tide.region_id(tide.region_name()),
    'extension_version', tide.version(),
    'in_recovery', pg_catalog.pg_is_in_recovery(),
    'clock_us', (extract(epoch FROM pg_catalog.clock_timestamp()) * 1000000)::bigint,
    'role', (SELECT pg_catalog.jsonb_build_object(
                 'name', r.rolname, 'replication', r.rolreplication OR r.rolsuper,
                 'relay', pg_catalog.pg_has_role('tide_relay', 'USAGE'))
             FROM pg_catalog.pg_roles r WHERE r.rolname = current_user),
    'settings', tide.rows_settings(),
    'senders_used', (SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_replication),
    'slots_used', (SELECT pg_catalog.count(*) FROM pg_catalog.pg_replication_slots),
    'slots', (SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
                         'name', s.slot_name, 'plugin', s.plugin, 'active', s.active,
                         'wal_status', s.wal_status, 'safe', s.safe_wal_size,
                         'retained', CASE WHEN NOT pg_catalog.pg_is_in_recovery()
                             THEN pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(),
                                                             s.restart_lsn) END)
                         ORDER BY s.slot_name), '[]')
              FROM pg_catalog.pg_replication_slots s
              WHERE s.database = pg_catalog.current_database() AND NOT s.temporary
                  AND (s.slot_name LIKE 'tide\_link\_%' OR s.slot_name LIKE 'tide\_rows\_%')),
    'tables', (SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
                          'name', t.relid::text, 'schema', n.nspname, 'table', c.relname,
                          'class', k.name, 'scope', k.scope, 'lane', tide._class_lane(k),
                          'options', t.options, 'insert_only', t.insert_only,
                          'replica_identity', c.relreplident,
                          'row_security', pg_catalog.row_security_active(c.oid),
                          'residency', k.residency,
                          'withheld', (SELECT pg_catalog.jsonb_agg(r.region)
                                       FROM tide.residency_rule r
                                       WHERE r.relid = t.relid AND r.filter IS NULL),
                          'key', (SELECT pg_catalog.jsonb_agg(a ORDER BY a)
                                  FROM pg_catalog.unnest(tide._table_key(c.oid)) a),
                          'trigger', (SELECT g.tgenabled FROM pg_catalog.pg_trigger g
                                      WHERE g.tgrelid = c.oid AND g.tgname = 'tide_stamp'),
                          'partitions_off', (SELECT pg_catalog.jsonb_agg(g.tgrelid::regclass::text)
                                             FROM pg_catalog.pg_trigger g,
                                                 pg_catalog.pg_partition_tree(c.oid) p
                                             WHERE g.tgrelid = p.relid AND p.level > 0
                                                 AND g.tgname = 'tide_stamp'
                                                 AND g.tgenabled <> 'O'),
                          'lacks', (SELECT pg_catalog.jsonb_agg(p)
                                    FROM pg_catalog.unnest('{SELECT,INSERT,UPDATE,DELETE,TRUNCATE}'
                                                           ::text[]) p
                                    WHERE NOT pg_catalog.has_table_privilege(c.oid, p)),
                          'publications', (SELECT pg_catalog.jsonb_agg(u.pubname)
                                           FROM pg_catalog.pg_publication u,
                                               pg_catalog.pg_publication_rel r
                                           WHERE r.prpubid = u.oid AND r.prrelid = c.oid
                                               AND u.pubname IN ('tide_global',
                                                                 'tide_global_insert', 'tide_low',
                                                                 'tide_low_insert')),
                          'foreign_publications', (
                              SELECT pg_catalog.jsonb_agg(DISTINCT u.pubname)
                              FROM pg_catalog.pg_publication_tables u
                              WHERE u.pubname NOT LIKE 'tide\_%'
                                  AND (u.schemaname, u.tablename) IN (
                                      SELECT n.nspname, c.relname
                                      UNION ALL
                                      SELECT pn.nspname, pc.relname
                                      FROM pg_catalog.pg_partition_tree(c.oid) p
                                          JOIN pg_catalog.pg_class pc ON pc.oid = p.relid
                                          JOIN pg_catalog.pg_namespace pn
                                              ON pn.oid = pc.relnamespace)),
                          'columns', (SELECT pg_catalog.jsonb_object_agg(
                                          a.attname, pg_catalog.jsonb_build_object(
                                              'type', pg_catalog.format_type(a.atttypid, NULL),
                                              'exact', pg_catalog.format_type(a.atttypid,
                                                                              a.atttypmod),
                                              'generated', a.attgenerated <> '',
                                              'required', a.attnotnull AND NOT a.atthasdef
                                                  AND a.attidentity = ''))
                                      FROM pg_catalog.pg_attribute a
                                      WHERE a.attrelid = c.oid AND a.attnum > 0
                                          AND NOT a.attisdropped))
                          ORDER BY n.nspname, c.relname), '[]')
               FROM tide.replicated_table t JOIN tide.class k ON k.name = t.class
                   LEFT JOIN pg_catalog.pg_class c ON c.oid = t.relid
                   LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace),
    'classes', tide.rows_classes(),
    'regions', (SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
                           'region', r.name, 'region_id', r.region_id, 'conninfo', r.conninfo)
                           ORDER BY r.name), '[]')
                FROM tide.region r),
    'links', (SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.to_jsonb(l) ORDER BY l.region), '[]')
              FROM tide.link l WHERE l.lane = 'main'),
    'lanes', (SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.to_jsonb(l)
                                                   ORDER BY l.region, l.lane DESC), '[]')
              FROM tide.link l),
    'link_tables', (SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
                               'region', l.region, 'phase', l.phase, 'schema', t.schema_name,
                               'table', t.table_name)), '[]')
                    FROM tide.links l JOIN tide._link_tables t ON t.region = l.region
                    WHERE l.copy AND t.state <> 'copied'),
    'publishers', (SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.to_jsonb(p)), '[]')
                   FROM tide.rows_publisher p),
    'destinations', (SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.to_jsonb(d)
                             || pg_catalog.jsonb_build_object('silent',
                                 extract(epoch FROM pg_catalog.clock_timestamp() - d.seen_at)::bigint)
                             ORDER BY d.region), '[]')
                     FROM tide.rows_destination d),
    'publications', (SELECT coalesce(pg_catalog.jsonb_object_agg(
                                p.pubname, pg_catalog.jsonb_build_object(
                                    'insert', p.pubinsert, 'update', p.pubupdate,
                                    'delete', p.pubdelete, 'truncate', p.pubtruncate,
                                    'via_root', p.pubviaroot)), '{}')
                     FROM pg_catalog.pg_publication p
                     WHERE p.pubname IN ('tide_global', 'tide_global_insert', 'tide_low',
                                         'tide_low_insert'))
)::text;

-- How what that region declares differs from what this one does; tables are link.tables' to compare.
-- name: doctor_classes
SELECT class, difference, kind FROM tide._classes_compare($1::text, $2::jsonb) WHERE kind <> 'table';

-- name: doctor_drift
SELECT region, "table", difference, blocking, waiting_changes FROM tide.schema_drift;

-- name: doctor_schema
SELECT tide.rows_schema()::text;

-- The three that compare with what another region says: $1 is its name, $2 its answer.  Two
-- sequences meet if what lies between their starts is a multiple of what their steps have in common.
-- name: doctor_sequences
SELECT q.* FROM (
WITH regions AS (
    SELECT r.here, x.*
    FROM (VALUES (true, tide.rows_schema()), (false, $2::jsonb)) r (here, facts)
        CROSS JOIN LATERAL pg_catalog.jsonb_to_recordset(r.facts -> 'sequences') AS x (
            schema text, "table" text, "column" text, sequence text, start numeric,
            increment numeric, min numeric, max numeric))
SELECT pg_catalog.format('%I.%I', h.schema, h."table"), h."column", h.sequence,
    pg_catalog.format('from %s by %s', h.start, h.increment), t.sequence,
    pg_catalog.format('from %s by %s', t.start, t.increment), $1::text
FROM regions h JOIN regions t USING (schema, "table", "column")
WHERE h.here AND NOT t.here AND h.min <= t.max AND t.min <= h.max
    AND (h.start - t.start) % pg_catalog.gcd(h.increment, t.increment) = 0
ORDER BY 1, 2) q;

-- name: doctor_collations
SELECT q.* FROM (
WITH regions AS (
    SELECT r.here, x.*
    FROM (VALUES (true, tide.rows_schema()), (false, $2::jsonb)) r (here, facts)
        CROSS JOIN LATERAL pg_catalog.jsonb_to_recordset(r.facts -> 'collations') AS x (
            schema text, "table" text, "column" text, "collation" text))
SELECT pg_catalog.format('%I.%I', h.schema, h."table"), h."column", h."collation", t."collation", $1::text
FROM regions h JOIN regions t USING (schema, "table", "column")
WHERE h.here AND NOT t.here AND h."collation" <> t."collation"
ORDER BY 1, 2) q;

-- name: doctor_nodes
SELECT $1::text, $2::jsonb ->> 'node' WHERE $2::jsonb -> 'node' = tide.rows_schema() -> 'node';

-- Which of these tables are there?  With the class that the region that asks has them in.
-- name: doctor_existing
SELECT pg_catalog.format('%I.%I', x.schema, x."table"), x.class, c.oid IS NOT NULL
FROM pg_catalog.jsonb_to_recordset($1::jsonb) AS x (schema text, "table" text, class text)
    LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = x.schema
    LEFT JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = x."table"
        AND c.relkind IN ('r', 'p');

-- name: doctor_residency
SELECT a."table", a.region, a.sent, coalesce(a.rows_against - a.rows_own, 0), coalesce(a.values_against, 0),
       CASE WHEN a.own_since > pg_catalog.now() - interval '1 minute' THEN 0 ELSE coalesce(a.rows_own, 0) END
FROM tide.residency_audit() a;

-- name: doctor_parked
SELECT p.region, p."table", pg_catalog.count(*), (pg_catalog.array_agg(p.reason ORDER BY p.id))[1]
FROM tide.pending_changes p GROUP BY p.region, p."table" ORDER BY p.region, p."table";

-- name: doctor_sync
SELECT d.class, d.peer, d.listed, d.connected, d.ended,
       pg_catalog.date_trunc('second', d.last_ended),
       EXISTS (SELECT FROM tide.rows_destination r WHERE r.region = d.peer) AND NOT d.connected,
       d.line
FROM tide._durability() d ORDER BY d.class;

-- name: doctor_lag
SELECT l.region, l.class, pg_catalog.round(l.seconds::numeric, 1), c.slo
FROM tide.lag l JOIN tide.class c ON c.name = l.class JOIN tide.links k ON k.region = l.region
WHERE k.state = 'streaming' AND NOT l.paused AND l.seconds > extract(epoch FROM c.slo) ORDER BY l.region, l.class;

-- name: tx_begin
BEGIN;

-- name: tx_commit
COMMIT;

-- name: tx_rollback
ROLLBACK;

-- Commits need not wait: only what tide.apply calls flushed is confirmed.  A frame takes the time it
-- takes, and values as text are understood the same everywhere.
-- name: apply_session
SELECT pg_catalog.set_config('synchronous_commit', 'off', false),
       pg_catalog.set_config('statement_timeout', '0', false),
       pg_catalog.set_config('idle_in_transaction_session_timeout', '0', false),
       pg_catalog.set_config('DateStyle', 'ISO, MDY', false),
       pg_catalog.set_config('IntervalStyle', 'postgres', false);

-- name: apply
SELECT "position", flushed, transactions, changes, kept, skipped, parked
FROM tide.apply($1::text, $2::bigint, $3::bytea, $4::boolean);

-- A part of a frame, or of a copy's rows, that is too large for one statement.
-- name: relay_part
SELECT tide.relay_part($1::bigint, $2::bigint, $3::bytea);

-- name: apply_flushed
SELECT tide.apply_flushed($1::text, $2::bigint);

-- name: relay_link_reads
SELECT tide.relay_link_reads($1::text, $2::bigint, $3::text);

-- name: relay_link
SELECT link_id, region, conninfo, transport, slot, copy, phase, removing, "position", system_id,
       timeline, options, commit_end, commit_us, lanes
FROM tide.relay_link($1::text, $2::bigint);

-- name: relay_link_tables
SELECT schema_name, table_name, state, wish
FROM tide.relay_link_tables($1::text, $2::bigint, $3::jsonb, $4::text);

-- name: relay_link_takes
SELECT tide.relay_link_takes($1::text, $2::bigint, $3::text, $4::text);

-- name: relay_link_hold
SELECT tide.relay_link_hold($1::text, $2::bigint);

-- name: relay_link_begin
SELECT tide.relay_link_begin($1::text, $2::bigint, $3::pg_lsn, $4::bigint, $5::int);

-- name: relay_link_phase
SELECT tide.relay_link_phase($1::text, $2::bigint, $3::text);

-- name: relay_link_resync
SELECT tide.relay_link_resync($1::text, $2::bigint, $3::text);

-- name: relay_link_removed
SELECT tide.relay_link_removed($1::text, $2::bigint);

-- The session that applies holds a lock of its own.  Whoever has it when a link is opened lost the link
-- and does not know yet, perhaps in the middle of a transaction: only one session at a time can apply.
-- name: link_evict
SELECT pg_catalog.pg_terminate_backend(a.pid, 2000)
FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.classid = 1953064038 AND l.objid = $1::int AND l.objsubid = 2
    AND l.granted AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d
                                    WHERE d.datname = pg_catalog.current_database())
    AND a.usename = current_user AND a.pid <> pg_catalog.pg_backend_pid();

-- name: link_hold
SELECT pg_catalog.pg_try_advisory_lock(1953064038, $1::int);

-- At the origin.

-- name: rows_identify
SELECT region, system_id, timeline, wal_level, in_recovery, wal_end, version
FROM tide.rows_identify($1::text);

-- name: rows_tables
SELECT schema_name, table_name, insert_only, columns, types, format, copy_sql, rows_estimate, bytes
FROM tide.rows_tables($1::text);

-- As one document: our database reads it.
-- name: rows_lanes
SELECT pg_catalog.jsonb_build_object('tables', tables, 'wal_end', wal_end)::text
FROM tide.rows_lanes();

-- name: rows_shapes
SELECT digest, shapes FROM tide.rows_shapes($1::text, $2::text);

-- name: relay_link_shapes
SELECT drifted, pg_catalog.to_jsonb(resumable), said
FROM tide.relay_link_shapes($1::text, $2::bigint, $3::jsonb);

-- name: relay_link_retry
SELECT applied, waiting FROM tide.relay_link_retry($1::text, $2::bigint, $3::bigint, $4::int);

-- name: rows_slot
SELECT active, plugin, wal_status, confirmed, restart, retained_bytes, safe_bytes
FROM tide.rows_slot($1::text);

-- name: rows_classes
SELECT tide.rows_classes()::text;

-- name: relay_link_classes
SELECT tide.relay_link_classes($1::text, $2::bigint, $3::jsonb);

-- name: rows_leaving
SELECT leaving, next FROM tide.rows_leaving($1::text, $2::bigint);

-- name: relay_link_leaving
SELECT tide.relay_link_leaving($1::text, $2::bigint, $3::jsonb);

-- name: rows_gone
SELECT tide.rows_gone($1::text, $2::jsonb);

-- name: rows_heartbeat
SELECT tide.rows_heartbeat();

-- Those of ours that exist, of these lanes, for everybody and for the destination that asks.
-- name: rows_publications
SELECT pg_catalog.string_agg(p.pubname, ',' ORDER BY p.pubname)
FROM pg_catalog.pg_publication p
WHERE (p.pubname IN ('tide_global', 'tide_global_insert', 'tide_low', 'tide_low_insert')
       OR p.pubname IN (SELECT 'tide_to_'
                            || pg_catalog.lpad(pg_catalog.to_hex(tide.region_id($1::text)), 8, '0') || t
                        FROM pg_catalog.unnest('{"",_insert}'::text[]) t))
    AND tide._publication_lane(p.pubname) = ANY (pg_catalog.string_to_array($2::text, ','));

-- Ends a walsender of ours that has not heard of its relay: others say something every second.
-- name: rows_slot_free
SELECT pg_catalog.pg_terminate_backend(r.pid, 1000)
FROM pg_catalog.pg_replication_slots s JOIN pg_catalog.pg_stat_replication r ON r.pid = s.active_pid
WHERE s.slot_name = $1::name AND r.usename = current_user
    AND coalesce(r.reply_time, r.backend_start)
        < pg_catalog.clock_timestamp() - interval '3 seconds';

-- The first copy.

-- On both sides: it takes the time it takes, but nobody's lock holds up all tables for long; the same
-- text everywhere, and an error where a policy would hide rows.  Parallel workers would only hand every row to
-- the one process that sends it: more work for an origin that has other things to do.
-- name: copy_session
SELECT pg_catalog.set_config('max_parallel_workers_per_gather', '0', false),
       pg_catalog.set_config('statement_timeout', '0', false),
       pg_catalog.set_config('lock_timeout', '30s', false),
       pg_catalog.set_config('idle_in_transaction_session_timeout', '0', false),
       pg_catalog.set_config('row_security', 'off', false),
       pg_catalog.set_config('DateStyle', 'ISO, MDY', false),
       pg_catalog.set_config('IntervalStyle', 'postgres', false),
       pg_catalog.set_config('extra_float_digits', '3', false);

-- name: copy_reports_session
SELECT pg_catalog.set_config('lock_timeout', '300ms', false);

-- name: tx_read
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;

-- name: relay_link_copying
SELECT tide.relay_link_copying($1::text, $2::bigint, $3::text, $4::text, $5::bigint, $6::bigint,
                               $7::bigint);

-- name: copy_begin
SELECT tide.copy_begin($1::text, $2::bigint, $3::text, $4::text, $5::pg_lsn, $6::text[],
                       $7::text[]);

-- name: copy_in
SELECT tide.copy_in($1::text, $2::bigint, $3::text, $4::text, $5::text[], $6::text, $7::bytea);

-- name: copy_merge
SELECT tide.copy_merge($1::text, $2::bigint, $3::bytea);

-- name: copy_end
SELECT tide.copy_end($1::text, $2::bigint, $3::text, $4::text, $5::pg_lsn, $6::bigint, $7::bigint,
                     $8::int);

-- Rows by a broker.  At home, for the publisher.

-- name: relay_rows
SELECT slot, transport, options, "position", pg_catalog.array_to_json(destinations)::text, destination
FROM tide.relay_rows($1::text, $2::bigint);

-- name: relay_rows_confirm
SELECT tide.relay_rows_confirm($1::text, $2::bigint, $3::text, $4::pg_lsn);

-- name: rows_published
SELECT EXISTS (SELECT FROM tide.rows_publisher WHERE pipeline = $1::text);

-- At the origin, for a link.

-- name: rows_announce
SELECT tide.rows_announce($1::text, $2::pg_lsn, $3::text, $4::jsonb);

-- name: rows_leave
SELECT tide.rows_leave($1::text);


-- A table's columns as pgoutput would describe them, in the order asked for; the type's name is
-- that of a domain's base.
-- name: rows_columns
SELECT c.oid::bigint, c.relreplident, a.attname,
       EXISTS (SELECT FROM pg_catalog.pg_index i
               WHERE i.indrelid = c.oid AND (i.indisprimary OR i.indisreplident)
                   AND a.attnum = ANY (i.indkey)),
       a.atttypid::bigint, a.atttypmod, tn.nspname, t.typname
FROM pg_catalog.unnest($3::text[]) WITH ORDINALITY u (name, n)
    JOIN pg_catalog.pg_namespace s ON s.nspname = $1::name
    JOIN pg_catalog.pg_class c ON c.relnamespace = s.oid AND c.relname = $2::name
    JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attname = u.name
        AND NOT a.attisdropped
    CROSS JOIN LATERAL (
        WITH RECURSIVE base (oid, next) AS (
            SELECT b.oid, b.typbasetype FROM pg_catalog.pg_type b WHERE b.oid = a.atttypid
            UNION ALL
            SELECT b.oid, b.typbasetype FROM base JOIN pg_catalog.pg_type b ON b.oid = base.next)
        SELECT base.oid FROM base WHERE base.next = 0) bottom
    JOIN pg_catalog.pg_type t ON t.oid = bottom.oid
    JOIN pg_catalog.pg_namespace tn ON tn.oid = t.typnamespace
ORDER BY u.n;
