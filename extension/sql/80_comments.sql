-- 80_comments.sql: one sentence on everything a person may call; docs/reference.md is made from these.

COMMENT ON FUNCTION tide.outbox_enable(text) IS 'lets events be published to the outbox again';
COMMENT ON FUNCTION tide.outbox_set_retention(text, interval) IS 'changes how long delivered events are kept at least';
COMMENT ON FUNCTION tide.outbox_revoke_publish(text, regrole) IS 'takes back what outbox_grant_publish gave';
COMMENT ON FUNCTION tide.outbox_status(text) IS 'segments, sizes and pipelines of an outbox';
COMMENT ON FUNCTION tide.version() IS 'the installed version of the extension';

COMMENT ON FUNCTION tide.inbox_create(text, int, interval, interval) IS
	'creates an inbox: the table tide.<name>_inbox; processed events go after the retention, their ids after the ledger''s';
COMMENT ON FUNCTION tide.inbox_alter(text, int, interval, interval, interval, interval) IS
	'changes settings of an inbox; those left NULL stay';
COMMENT ON FUNCTION tide.inbox_drop(text) IS 'drops an inbox with its events and its ledger';
COMMENT ON FUNCTION tide.inbox_claim(text, int, interval) IS
	'leases pending events to the caller, in order per entity and key; what is not marked in time can be claimed again';
COMMENT ON FUNCTION tide.inbox_mark_processed(text, text) IS 'marks an event processed; false: it was before';
COMMENT ON FUNCTION tide.inbox_mark_processed(text, text[]) IS 'the same for many; returns how many were not before';
COMMENT ON FUNCTION tide.inbox_mark_failed(text, text, text) IS
	'records a failed attempt: the event is due again after a growing pause, or a dead letter after max_attempts';
COMMENT ON FUNCTION tide.inbox_release(text, text) IS 'gives a lease back without counting the attempt';
COMMENT ON FUNCTION tide.inbox_set_handler(text, regprocedure) IS
	'has the relay run a function once per event, in one transaction with the event''s mark, as the role that registers it';
COMMENT ON FUNCTION tide.inbox_unset_handler(text) IS 'stops running the handler; events stay pending';
COMMENT ON FUNCTION tide.inbox_grant(text, regrole) IS 'lets a role read, claim and mark the events of this inbox';
COMMENT ON FUNCTION tide.inbox_revoke(text, regrole) IS 'takes back what inbox_grant gave';
COMMENT ON FUNCTION tide.inbox_status(text) IS 'pending, dead and processed events of one inbox, or of all';

COMMENT ON FUNCTION tide.relay_set_outbox(text, text, jsonb) IS
	'makes or replaces a pipeline from an outbox to a sink; docs/configuration.md has the keys';
COMMENT ON FUNCTION tide.relay_set_inbox(text, text, jsonb) IS
	'makes or replaces a pipeline from a source to an inbox; docs/configuration.md has the keys';
COMMENT ON FUNCTION tide.relay_enable(text) IS 'lets relays run the pipeline';
COMMENT ON FUNCTION tide.relay_disable(text) IS 'stops the pipeline; its position stays';
COMMENT ON FUNCTION tide.relay_delete(text) IS 'deletes the pipeline and its position';

COMMENT ON FUNCTION tide.dead_letter_retry(bigint) IS 'really delivers the event again: publishes, stores or handles it';
COMMENT ON FUNCTION tide.dead_letter_discard(bigint) IS 'gives the event up for good';
COMMENT ON FUNCTION tide.maintain() IS
	'rotates, truncates and prunes what is due; relays call it, and one session at a time works';

COMMENT ON VIEW tide.pipelines IS 'every pipeline: direction, state, owner, lag, last error, positions';
COMMENT ON VIEW tide.dead_letters IS 'events that could not be delivered, with everything needed to decide about them';

COMMENT ON TYPE tide.stamp IS 'the version of a replicated row: its clock and the number of the region that wrote it';
COMMENT ON FUNCTION tide.region_id(text) IS 'the number that a region has in stamps';
COMMENT ON FUNCTION tide.stamp_origin(tide.stamp) IS 'the number of the region that wrote this version of the row';
COMMENT ON FUNCTION tide.stamp_region(tide.stamp) IS 'the region that wrote this version of the row; NULL if it is not known here';
COMMENT ON FUNCTION tide.stamp_time(tide.stamp) IS
	'when this version was written; the beginning of 1970: before the table was replicated';

COMMENT ON FUNCTION tide.region_add(text, text) IS
	'makes another region known, or changes how relays here reach its database';
COMMENT ON FUNCTION tide.region_remove(text) IS 'forgets a region; its link must be gone';
COMMENT ON FUNCTION tide.rows_leave(text) IS
	'stops keeping WAL for a region that took rows from here by a broker, and is gone for good';
COMMENT ON FUNCTION tide.class_create(text, jsonb) IS
	'makes or changes a class of tables: {"scope": "global", "regional", "primary" or "home", "slo": "5 seconds", ...}, or {"preset": "name"}';
COMMENT ON FUNCTION tide.class_alter(text, jsonb, boolean) IS
	'changes some options of a class (null takes one away) and says what that changes; dry_run => true says it only';
COMMENT ON FUNCTION tide.presets() IS 'the presets of tide.class_create(), what each stands for, and what it needs besides';
COMMENT ON FUNCTION tide.class_drop(text) IS 'drops a class that has no tables';
COMMENT ON FUNCTION tide.residency_allow(regclass, name) IS
	'lets a column of a table of personal data go where its rows may';
COMMENT ON FUNCTION tide.residency_deny(regclass, name) IS
	'keeps a column of a table of personal data from leaving; where others wrote it, it is emptied';
COMMENT ON FUNCTION tide.residency_audit() IS
	'what each region may receive of each table, how it is sent, and what this region holds against that';
COMMENT ON FUNCTION tide.residency_purge(boolean) IS
	'removes what others wrote and this region may not hold, here only; dry_run => true says it only';
COMMENT ON FUNCTION tide.table_add(regclass, text, jsonb) IS
	'replicates a table as its class says; {"insert_only": true} if it has no key. Adds the column tide_stamp and a trigger';
COMMENT ON FUNCTION tide.table_remove(regclass, boolean) IS
	'ends a table''s replication; its rows and the column tide_stamp stay, unless drop_column';
COMMENT ON FUNCTION tide.link_add(text, jsonb) IS
	'takes rows from that region, or changes how; docs/configuration.md has the options';
COMMENT ON FUNCTION tide.link_remove(text, boolean) IS
	'ends a link once the relay has dropped its slot over there; force: forgets it at once, and leaves the slot';
COMMENT ON FUNCTION tide.link_pause(text) IS 'stops taking rows for now; the other region keeps them';
COMMENT ON FUNCTION tide.link_resume(text) IS 'goes on taking rows';
COMMENT ON FUNCTION tide.link_resync(text) IS 'copies all rows of that region again';

COMMENT ON FUNCTION tide.pending_retry(bigint) IS
	'applies a parked change and those of its row that wait behind it, in order, as far as it goes';
COMMENT ON FUNCTION tide.pending_drop(bigint) IS 'gives a parked change up for good, with a line in the server''s log';

COMMENT ON VIEW tide.tables IS 'every replicated table: its class, whether it leaves this region, its key';
COMMENT ON VIEW tide.classes IS
	'every class: what it declares and derives, whether all regions heard of declare it alike, and what differs';
COMMENT ON VIEW tide.links IS
	'every link: state (copying, streaming, paused, stopped, error), position, lag, last error, progress of the first copy';
COMMENT ON VIEW tide.lanes IS
	'each link''s streams: its classes, state, how far it is, whether and why it is held back for more important ones';
COMMENT ON VIEW tide.slots IS
	'WAL kept here for other regions, by slot: how much, how fast it grows, how long until the disk is full or the slot is lost';
COMMENT ON VIEW tide.lag IS 'how late each region''s rows are here by now, by class: seconds, and bytes of its WAL';
COMMENT ON VIEW tide.slo IS
	'each class''s lag objective, the share of the last day in which it was met, median and 99th percentile of lag';
COMMENT ON VIEW tide.conflicts IS 'what will tell of writes that lost against others; this version records none';
COMMENT ON VIEW tide.pending_changes IS
	'changes from other regions that could not be applied, and later ones of the same rows, which wait behind them';
COMMENT ON VIEW tide.durability IS
	'each class whose commits wait for another region: whether the server does wait for it, whether it is there, how many commits waited, and how many of these waits ended without its answer';

COMMENT ON FUNCTION tide.table_shape(regclass) IS 'a replicated table''s columns and types, its fingerprint and its version';
COMMENT ON VIEW tide.schema_drift IS
	'how tables here differ from those of the regions that rows are taken from; blocking: changes wait until they agree';
COMMENT ON FUNCTION tide.rows_schema() IS 'sequences behind columns, collations of keys, this region''s number in ids: what the doctor compares';
COMMENT ON FUNCTION tide.ddl(text) IS
	'runs statements that change the schema here and, at the same place in the stream, in the regions that take rows from here';
COMMENT ON FUNCTION tide.global_id() IS 'a bigint that no region gives twice, nor two: time, region, count';
COMMENT ON FUNCTION tide.global_id_time(bigint) IS 'when that id was made';
COMMENT ON FUNCTION tide.global_id_node(bigint) IS 'the number of the region that made that id';
COMMENT ON FUNCTION tide.global_id_region(bigint) IS 'the region that made that id; NULL if it is not known here';
COMMENT ON FUNCTION tide.region_set_node(int) IS 'chooses this region''s number in ids, 0 to 1023';
