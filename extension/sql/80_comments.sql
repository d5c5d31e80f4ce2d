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
