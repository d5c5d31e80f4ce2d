/*
 * truncate_part.c
 *		TRUNCATE of a single partition of a replicated table.
 *
 * Owns: the trigger that makes it reach other regions.  Does not own: which tables have the trigger
 * (sql/75_truncate.sql); TRUNCATE of the whole table, which the server publishes;
 * applying one (apply_truncate.c).
 *
 * A partitioned table is published as a whole, as others may be partitioned in another way.  So
 * the server tells nobody that one partition alone was truncated.  The trigger deletes the
 * partition's rows first, and their deletes cross like any other.  Nothing fires for them: to
 * whoever is here this is a TRUNCATE.
 *
 * The whole table has the trigger, too, and fires first: then its partitions have nothing to do.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/catalog.h"
#include "catalog/partition.h"
#include "commands/trigger.h"
#include "executor/tuptable.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "pg_tide.h"
#include "compat.h"

PG_FUNCTION_INFO_V1(tide_sql_truncate_part);

/* The whole that is being truncated.  A command that wrote has a number of its own. */
static struct
{
	Oid relid;
	TransactionId xid;
	CommandId cid;
} whole;

static void
note_whole(Oid relid)
{
	whole.relid = relid;
	whole.xid = GetTopTransactionId();
	whole.cid = GetCurrentCommandId(false);
}

/* If in doubt it is not: then rows are deleted that would have gone anyway. */
static bool
whole_goes(Oid part)
{
	return whole.xid == GetTopTransactionId() && whole.cid == GetCurrentCommandId(false) &&
		   list_member_oid(get_partition_ancestors(part), whole.relid);
}

/* TRUNCATE has locked out everybody else, so no row can be changed under our hands. */
static void
delete_rows(Relation rel)
{
	Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
	TableScanDesc scan = table_beginscan(rel, snapshot, 0, NULL);
	TupleTableSlot *slot = table_slot_create(rel, NULL);

	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		CHECK_FOR_INTERRUPTS();
		simple_table_tuple_delete(rel, &slot->tts_tid, snapshot);
	}
	ExecDropSingleTupleTableSlot(slot);
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
}

/* tide._truncate_part(): trigger BEFORE TRUNCATE of a partitioned table and its partitions. */
Datum
tide_sql_truncate_part(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	Relation rel;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_BEFORE(trigger->tg_event) ||
		!TRIGGER_FIRED_BY_TRUNCATE(trigger->tg_event))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("tide._truncate_part() must be fired BEFORE TRUNCATE"),
						errhint("tide.table_add() makes the trigger.")));
	rel = trigger->tg_relation;
	if (rel->rd_rel->relkind == RELKIND_PARTITIONED_TABLE && !rel->rd_rel->relispartition)
		note_whole(RelationGetRelid(rel));
	else if (rel->rd_rel->relispartition && rel->rd_rel->relkind == RELKIND_RELATION &&
			 RelationIsLogicallyLogged(rel) && !whole_goes(RelationGetRelid(rel)))
		delete_rows(rel);
	PG_RETURN_POINTER(NULL);
}
