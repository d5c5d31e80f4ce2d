-- 90_grants.sql: nothing to PUBLIC; who may do what.  The other files grant
-- what is theirs; this one comes last and closes the door behind them.

REVOKE ALL ON SCHEMA tide FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA tide FROM PUBLIC;
REVOKE ALL ON ALL ROUTINES IN SCHEMA tide FROM PUBLIC;

GRANT USAGE ON SCHEMA tide TO tide_admin, tide_publisher, tide_relay, tide_reader;

GRANT EXECUTE ON FUNCTION
	tide.preloaded(), tide.version(), tide.region_name()
	TO tide_admin, tide_publisher, tide_relay, tide_reader;

GRANT EXECUTE ON FUNCTION
	tide.outbox_publish(text, text, jsonb, jsonb, text, text),
	tide.outbox_publish(text, jsonb, jsonb)
	TO tide_admin, tide_publisher;

GRANT EXECUTE ON FUNCTION
	tide.region_init(text),
	tide.outbox_create(text, interval),
	tide.outbox_drop(text, boolean),
	tide.outbox_enable(text),
	tide.outbox_disable(text),
	tide.outbox_set_retention(text, interval),
	tide.outbox_grant_publish(text, regrole),
	tide.outbox_revoke_publish(text, regrole),
	tide.outbox_rebase(text)
	TO tide_admin;

GRANT EXECUTE ON FUNCTION
	tide.relay_region(),
	tide.outbox_fetch(text, bigint, text, text, text, bigint, int, int),
	tide.outbox_unconfirmed(text, text, text, text, bigint, int),
	tide._wake_generation(text, text)
	TO tide_relay;
GRANT EXECUTE ON PROCEDURE tide.wake_wait(text, text, bigint, int) TO tide_relay;

GRANT EXECUTE ON FUNCTION tide.outbox_status(text) TO tide_admin, tide_relay, tide_reader;
GRANT SELECT ON tide.outbox, tide.local_region TO tide_admin, tide_relay, tide_reader;
GRANT SELECT ON tide.pipeline, tide.dead_letter TO tide_relay;

-- Comparing whole rows (SELECT DISTINCT, UNION) uses these in the name of whoever does it; making a
-- partition of a replicated table gives it the table's triggers in the name of the table's owner.
GRANT EXECUTE ON FUNCTION
	tide._stamp_row(),
	tide._scope_row(),
	tide._durability_note(),
	tide.stamp_cmp(tide.stamp, tide.stamp),
	tide.stamp_lt(tide.stamp, tide.stamp),
	tide.stamp_le(tide.stamp, tide.stamp),
	tide.stamp_eq(tide.stamp, tide.stamp),
	tide.stamp_ne(tide.stamp, tide.stamp),
	tide.stamp_ge(tide.stamp, tide.stamp),
	tide.stamp_gt(tide.stamp, tide.stamp)
	TO PUBLIC;
