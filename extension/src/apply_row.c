/*
 * apply_row.c
 *		One change of one row.
 *
 * Owns: reading the change, finding the row that is here and locking it, doing what
 * tide_merge_decide() says.  Does not own: the decision (common/tide_merge.c), tables and
 * their executor state (apply_target.c), what becomes of errors (apply_park.c).
 *
 * A row is looked up with a snapshot of this moment and then locked, following
 * updates.  One that was deleted, or got another key meanwhile, is looked up again.  (The
 * server's own RelationFindReplTupleByIndex() looks with a dirty snapshot, and can miss a row
 * that is being moved while it looks.)  A row that somebody else inserts after
 * our look-up makes the insert fail on the key; the careful repetition then finds it.
 *
 * A change of the key is a delete of the old and a write of the new one, since elsewhere
 * both may meet other versions.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/relscan.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "apply.h"
#include "pg_tide.h"
#include "compat.h"

#define LOOK_UP_INSERTS 10000

/* ---- reading ---- */

/* Into apply->values or apply->old_values; both grow here. */
static void
read_tuple(TideApply *apply, const TideMap *map, TideCursor *payload, TideValue **values)
{
	if (apply->max_columns < map->n_columns)
	{
		MemoryContext old = MemoryContextSwitchTo(apply->context);

		apply->max_columns = Max(map->n_columns, 32);
		apply->values = palloc(sizeof(TideValue) * apply->max_columns);
		apply->old_values = palloc(sizeof(TideValue) * apply->max_columns);
		MemoryContextSwitchTo(old);
	}
	if (tide_read_tuple(payload, *values, map->n_columns) != map->n_columns)
		tide_apply_malformed("a row");
}

static void
store_row(TideTarget *target, TupleTableSlot *slot, const TideValue *values)
{
	TideMap *map = target->map;
	int natts = slot->tts_tupleDescriptor->natts;

	ExecClearTuple(slot);
	memset(slot->tts_isnull, true, sizeof(bool) * natts);
	if (target->n_unchanged > 0)
		memset(target->unchanged, false, sizeof(bool) * natts);
	target->n_unchanged = 0;
	target->completed = false;
	for (int i = 0; i < map->n_columns; i++)
	{
		TideMapColumn *column = &map->columns[i];
		int at = column->attnum - 1;

		if (at < 0 || values[i].kind == 'n')
			continue;
		if (values[i].kind == 'u')
		{
			target->unchanged[at] = true;
			target->n_unchanged++;
			continue;
		}
		target->working_column = column->attnum;
		slot->tts_values[at] = tide_type_read(column, &values[i]);
		slot->tts_isnull[at] = false;
	}
	target->working_column = 0;
	ExecStoreVirtualTuple(slot);
}

/* A row that was never stamped is as old as can be, and its origin is the sender. */
static void
complete_stamp(const TideApply *apply, TideTarget *target)
{
	TupleTableSlot *slot = target->incoming;
	int at = target->map->stamp - 1;
	bytea *value;

	if (at < 0 || !slot->tts_isnull[at] || target->unchanged[at])
		return;
	value = palloc(VARHDRSZ + TIDE_STAMP_LEN);
	SET_VARSIZE(value, VARHDRSZ + TIDE_STAMP_LEN);
	tide_stamp_encode((TideStamp){.clock = 0, .origin = apply->link->sender},
					  (uint8_t *) VARDATA(value));
	slot->tts_values[at] = PointerGetDatum(value);
	slot->tts_isnull[at] = false;
}

/* ---- finding ---- */

static bool
has_key(TideLeaf *leaf, TupleTableSlot *slot)
{
	for (int i = 0; i < leaf->n_keys; i++)
	{
		bool isnull;
		Datum value = slot_getattr(slot, leaf->keys[i], &isnull);

		if (isnull ||
			!DatumGetBool(FunctionCall2Coll(&leaf->search[i].sk_func, leaf->search[i].sk_collation,
											value, leaf->search[i].sk_argument)))
			return false;
	}
	return true;
}

static void
set_key(TideLeaf *leaf, TupleTableSlot *row)
{
	for (int i = 0; i < leaf->n_keys; i++)
	{
		bool isnull;

		leaf->search[i].sk_argument = slot_getattr(row, leaf->keys[i], &isnull);
		if (isnull)
			ereport(ERROR, (errcode(ERRCODE_NOT_NULL_VIOLATION),
							errmsg("the change has no value for a column of the key")));
	}
}

static bool
fetch_row(TideTarget *target, TideLeaf *leaf)
{
	/* The access method allocates what it keeps between calls in the current context. */
	MemoryContext old = MemoryContextSwitchTo(target->estate->es_query_cxt);
	bool found;

	leaf->scan->xs_snapshot = GetLatestSnapshot();
	index_rescan(leaf->scan, leaf->search, leaf->n_keys, NULL, 0);
	found = index_getnext_slot(leaf->scan, ForwardScanDirection, leaf->found);
	MemoryContextSwitchTo(old);
	return found;
}

/* Finds the row with that key (in the leaf's columns) and locks it; it is in leaf->found then. */
static bool
find_row(TideApply *apply, TideTarget *target, TideLeaf *leaf, TupleTableSlot *row,
		 LockTupleMode mode)
{
	tide_batch_store(apply);
	if (leaf->scan == NULL)
		return false;
	tide_apply_act_as(apply, leaf->owner);
	set_key(leaf, row);
	while (fetch_row(target, leaf))
	{
		TM_FailureData failure;
		TM_Result result;

		result = table_tuple_lock(leaf->rri->ri_RelationDesc, &leaf->found->tts_tid,
								  leaf->scan->xs_snapshot, leaf->found, GetCurrentCommandId(false),
								  mode, LockWaitBlock, TUPLE_LOCK_FLAG_FIND_LAST_VERSION, &failure);
		if (result == TM_Ok && (!failure.traversed || has_key(leaf, leaf->found)))
			return true;
		if (result != TM_Ok && result != TM_Updated && result != TM_Deleted)
			elog(ERROR, "unexpected result %d of locking a row", (int) result);
		CHECK_FOR_INTERRUPTS();
	}
	return false;
}

/* ---- deciding ---- */

static bool
stamp_in(TupleTableSlot *slot, AttrNumber column, TideStamp *stamp)
{
	Datum value;
	bool isnull = true;

	if (column > 0)
		value = slot_getattr(slot, column, &isnull);
	if (!isnull)
		*stamp = tide_stamp_of(value);
	return !isnull;
}

/* A version from the future would win over everything until then, so a wrong clock must not make one. */
static void
note_clock(TideApply *apply, int64 clock)
{
	if (clock > apply->latest_clock)
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_FIELD_OVERFLOW),
				 errmsg("the row's version is " INT64_FORMAT " s ahead of this server's clock",
						(clock - apply->latest_clock) / USECS_PER_SEC + TIDE_MAX_AHEAD_S),
				 errhint("Set the clocks of region \"%s\" and of this server right, then SELECT "
						 "tide.pending_retry(id) for what waits in tide.pending_changes.",
						 apply->link->region)));
	apply->max_clock = Max(apply->max_clock, clock);
}

static TideMergeAction
decide(TideApply *apply, TideTarget *target, TideLeaf *leaf, bool present)
{
	TideMergeInput input = {.kind = TIDE_CHANGE_UPDATE,
							.local_present = present,
							.here = apply->here,
							.sender = apply->link->sender};

	if (present)
		input.local_stamped = stamp_in(leaf->found, leaf->stamp, &input.local);
	input.remote_stamped = stamp_in(target->incoming, target->map->stamp, &input.remote);
	if (input.remote_stamped)
		note_clock(apply, input.remote.clock);
	return tide_merge_decide(&input);
}

/* ---- writing ---- */

static void
before_write(TideApply *apply, TideTarget *target, TideLeaf *leaf)
{
	tide_apply_act_as(apply, leaf->owner);
	target->estate->es_output_cid = GetCurrentCommandId(true);
	if (target->triggers)
		AfterTriggerBeginQuery();
}

static void
after_write(TideTarget *target)
{
	if (target->triggers)
		AfterTriggerEndQuery(target->estate);
	CommandCounterIncrement();
}

static void
fill_defaults(TideTarget *target)
{
	ExprContext *econtext = GetPerTupleExprContext(target->estate);
	TupleTableSlot *slot = target->incoming;

	for (int i = 0; i < target->map->n_defaults; i++)
	{
		int at = target->map->defaults[i].attnum - 1;

		slot->tts_isnull[at] = true;
		if (target->defaults[i] != NULL)
			slot->tts_values[at] = ExecEvalExprSwitchContext(target->defaults[i], econtext,
															 &slot->tts_isnull[at]);
	}
}

static void
refuse_unchanged(TideTarget *target)
{
	for (int i = 0; i < target->rel->rd_att->natts; i++)
	{
		if (target->unchanged[i])
			ereport(ERROR,
					(errcode(ERRCODE_DATA_EXCEPTION),
					 errmsg("the row is not here, and the origin did not send column \"%s\", which "
							"it had not changed",
							NameStr(TupleDescAttr(target->rel->rd_att, i)->attname)),
					 errhint("Update the row at the origin: it is then sent whole.")));
	}
}

static void
insert_row(TideApply *apply, TideTarget *target, TideLeaf *leaf)
{
	TupleTableSlot *row;

	if (target->n_unchanged > 0)
		refuse_unchanged(target);
	if (apply->batch.leaf != leaf)
		tide_batch_store(apply);
	if (!target->completed)
	{
		tide_apply_act_as(apply, target->owner);
		fill_defaults(target);
	}
	row = tide_leaf_row(target, leaf, target->incoming);
	if (tide_batch_may(apply, target))
	{
		tide_batch_add(apply, target, leaf, row);
		return;
	}
	before_write(apply, target, leaf);
	ExecSimpleRelationInsert(leaf->rri, target->estate, row);
	after_write(target);
}

static void
keep_value(TideTarget *target, TideLeaf *leaf, AttrNumber column)
{
	TupleTableSlot *slot = target->incoming;

	slot->tts_values[column - 1] = slot_getattr(leaf->found, tide_leaf_column(leaf, column),
												&slot->tts_isnull[column - 1]);
}

/* What the origin does not have or did not send stays as it is in the row found in leaf. */
static void
keep_values(TideTarget *target, TideLeaf *leaf)
{
	for (int i = 0; i < target->map->n_defaults; i++)
		keep_value(target, leaf, target->map->defaults[i].attnum);
	for (int i = 0; target->n_unchanged > 0 && i < target->rel->rd_att->natts; i++)
	{
		if (!target->unchanged[i])
			continue;
		keep_value(target, leaf, i + 1);
		target->unchanged[i] = false;
		target->n_unchanged--;
	}
	target->completed = true;
}

static void
update_row(TideApply *apply, TideTarget *target, TideLeaf *leaf)
{
	keep_values(target, leaf);
	before_write(apply, target, leaf);
	ExecSimpleRelationUpdate(leaf->rri, target->estate, &target->epq, leaf->found,
							 tide_leaf_row(target, leaf, target->incoming));
	after_write(target);
}

static void
delete_row(TideApply *apply, TideTarget *target, TideLeaf *leaf)
{
	before_write(apply, target, leaf);
	ExecSimpleRelationDelete(leaf->rri, target->estate, &target->epq, leaf->found);
	after_write(target);
}

/* ---- changes ---- */

static TideOutcome
put_row_over(TideApply *apply, TideTarget *target, TideLeaf *leaf, bool present)
{
	switch (decide(apply, target, leaf, present))
	{
		case TIDE_MERGE_INSERT:
			insert_row(apply, target, leaf);
			return TIDE_OUTCOME_WRITTEN;
		case TIDE_MERGE_UPDATE:
			update_row(apply, target, leaf);
			return TIDE_OUTCOME_WRITTEN;
		default:
			return TIDE_OUTCOME_KEPT;
	}
}

/* An insert or update whose key did not change: the row in target->incoming. */
static TideOutcome
put_row(TideApply *apply, TideTarget *target)
{
	TideLeaf *leaf = tide_target_leaf(apply, target, target->incoming);

	return put_row_over(apply, target, leaf,
						find_row(apply, target, leaf, tide_leaf_row(target, leaf, target->incoming),
								 LockTupleNoKeyExclusive));
}

/*
 * What was inserted there is rarely here already, and looking for it costs as
 * much as putting it into the index.  So it is not looked for; if it is here the
 * key refuses it, and the careful repetition finds it.  Where that happened the
 * next ones are looked for, as others are likely to follow (two regions' rows merge).
 */
static TideOutcome
put_new_row(TideApply *apply, TideTarget *target)
{
	TideMap *map = target->map;
	TideLeaf *leaf = tide_target_leaf(apply, target, target->incoming);
	bool present = false;

	if (!apply->hopeful || map->look_up > 0)
	{
		present = find_row(apply, target, leaf, tide_leaf_row(target, leaf, target->incoming),
						   LockTupleNoKeyExclusive);
		if (present)
			map->look_up = LOOK_UP_INSERTS;
		else if (map->look_up > 0)
			map->look_up--;
	}
	return put_row_over(apply, target, leaf, present);
}

/* The key went from that of target->old to that of target->incoming. */
static TideOutcome
move_row(TideApply *apply, TideTarget *target)
{
	TideLeaf *from = tide_target_leaf(apply, target, target->old);
	TideLeaf *to = tide_target_leaf(apply, target, target->incoming);

	if (from == to &&
		!find_row(apply, target, to, tide_leaf_row(target, to, target->incoming),
				  LockTupleExclusive) &&
		find_row(apply, target, from, tide_leaf_row(target, from, target->old), LockTupleExclusive))
	{
		(void) decide(apply, target, to, false); /* notes the clock */
		update_row(apply, target, to);
		return TIDE_OUTCOME_WRITTEN;
	}
	if (find_row(apply, target, from, tide_leaf_row(target, from, target->old), LockTupleExclusive))
	{
		keep_values(target, from);
		/* What is kept must outlive the slot it is in. */
		ExecMaterializeSlot(target->incoming);
		slot_getallattrs(target->incoming);
		delete_row(apply, target, from);
	}
	return put_row(apply, target);
}

/* Do both tuples have the same key?  Compares bytes, which is enough to say yes. */
static bool
same_key_bytes(const TideMap *map, const TideValue *old, const TideValue *new)
{
	for (int i = 0; i < map->n_columns; i++)
	{
		if (!map->columns[i].own_key || new[i].kind == 'u')
			continue;
		if (old[i].kind != new[i].kind || old[i].len != new[i].len ||
			(old[i].len > 0 && memcmp(old[i].data, new[i].data, old[i].len) != 0))
			return false;
	}
	return true;
}

/* Different bytes can be equal values: numeric 1.0 and 1.00. */
static bool
same_key_values(TideApply *apply, TideTarget *target)
{
	TideLeaf *from = tide_target_leaf(apply, target, target->old);

	if (from->scan == NULL || from != tide_target_leaf(apply, target, target->incoming))
		return false;
	set_key(from, tide_leaf_row(target, from, target->old));
	return has_key(from, tide_leaf_row(target, from, target->incoming));
}

/* A key that was not sent again is in the old tuple. */
static void
complete_key(const TideMap *map, const TideValue *old, TideValue *new)
{
	for (int i = 0; i < map->n_columns; i++)
	{
		if (new[i].kind == 'u' && map->columns[i].key && old[i].kind != 'n')
			new[i] = old[i];
	}
}

static void
need_old_key(TideTarget *target)
{
	if (target->map->n_keys > 0 && target->map->old_has_key)
		return;
	ereport(ERROR, (errcode(ERRCODE_TIDE_SHAPE),
					errmsg("the key of table \"%s\" differs from that at its origin",
						   RelationGetRelationName(target->rel)),
					errhint("Give both the same primary key or replica identity.")));
}

static TideOutcome
apply_update(TideApply *apply, TideTarget *target, TideCursor payload)
{
	TideMap *map = target->map;
	char kind = (char) tide_read_u8(&payload);
	TideValue *old = NULL;
	TideValue *new;
	bool moved = false;

	if (kind != 0)
	{
		read_tuple(apply, map, &payload, &apply->old_values);
		old = apply->old_values;
	}
	read_tuple(apply, map, &payload, &apply->values);
	new = apply->values;
	if (payload.at != payload.end)
		tide_apply_malformed("an update");
	if (map->n_keys == 0)
		need_old_key(target);
	if (old != NULL)
	{
		complete_key(map, old, new);
		moved = !same_key_bytes(map, old, new);
	}
	if (map->former_key)
		moved = tide_former_key(apply, target, old != NULL ? old : new);
	else if (moved)
	{
		need_old_key(target);
		store_row(target, target->old, old);
	}
	store_row(target, target->incoming, new);
	complete_stamp(apply, target);
	if (moved && !same_key_values(apply, target))
		return move_row(apply, target);
	return put_row(apply, target);
}

static TideOutcome
apply_insert(TideApply *apply, TideTarget *target, TideCursor payload)
{
	read_tuple(apply, target->map, &payload, &apply->values);
	if (payload.at != payload.end)
		tide_apply_malformed("an insert");
	store_row(target, target->incoming, apply->values);
	complete_stamp(apply, target);
	return put_new_row(apply, target);
}

static TideOutcome
apply_delete(TideApply *apply, TideTarget *target, TideCursor payload)
{
	TideMergeInput input = {
		.kind = TIDE_CHANGE_DELETE, .here = apply->here, .sender = apply->link->sender};
	char kind = (char) tide_read_u8(&payload);
	TideLeaf *leaf;

	if (kind != 0)
		read_tuple(apply, target->map, &payload, &apply->old_values);
	if (kind == 0 || payload.at != payload.end)
		tide_apply_malformed("a delete");
	if (!target->map->former_key)
	{
		need_old_key(target);
		store_row(target, target->old, apply->old_values);
	}
	else if (!tide_former_key(apply, target, apply->old_values))
		return TIDE_OUTCOME_NOTHING;
	leaf = tide_target_leaf(apply, target, target->old);
	input.local_present = find_row(apply, target, leaf, tide_leaf_row(target, leaf, target->old),
								   LockTupleExclusive);
	if (input.local_present)
		input.local_stamped = stamp_in(leaf->found, leaf->stamp, &input.local);
	switch (tide_merge_decide(&input))
	{
		case TIDE_MERGE_DELETE:
			delete_row(apply, target, leaf);
			return TIDE_OUTCOME_WRITTEN;
		case TIDE_MERGE_NOTHING:
			return TIDE_OUTCOME_NOTHING;
		default:
			return TIDE_OUTCOME_KEPT;
	}
}

/* Nothing of the row may be held on to: pins, and memory that is about to go. */
static void
forget_row(TideApply *apply, TideTarget *target)
{
	ExecClearTuple(target->incoming);
	ExecClearTuple(target->old);
	for (TideLeaf *leaf = target->leaves; leaf != NULL; leaf = leaf->next)
	{
		ExecClearTuple(leaf->found);
		ExecClearTuple(leaf->row);
	}
	ResetPerTupleExprContext(target->estate);
	MemoryContextReset(apply->row_context);
}

TideOutcome
tide_row_apply(TideApply *apply, TideTarget *target, char type, TideCursor payload)
{
	MemoryContext old = MemoryContextSwitchTo(apply->row_context);
	TideOutcome outcome;

	if (type == 'I')
		outcome = apply_insert(apply, target, payload);
	else if (type == 'U')
		outcome = apply_update(apply, target, payload);
	else
		outcome = apply_delete(apply, target, payload);
	MemoryContextSwitchTo(old);
	forget_row(apply, target);
	return outcome;
}

/* Is the row in the leaf's found slot the link's region's? */
static bool
is_of_origin(const TideApply *apply, const TideLeaf *leaf)
{
	TideStamp stamp;

	return stamp_in(leaf->found, leaf->stamp, &stamp) && stamp.origin == apply->link->sender;
}

int64
tide_rows_delete_origin(TideApply *apply, TideTarget *target)
{
	TideLeaf *leaf = target->leaves;
	Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
	TableScanDesc scan = table_beginscan(target->rel, snapshot, 0, NULL);
	TupleTableSlot *slot = table_slot_create(target->rel, NULL);
	int64 deleted = 0;

	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		MemoryContext old = MemoryContextSwitchTo(apply->row_context);
		TM_FailureData failure;

		CHECK_FOR_INTERRUPTS();
		ExecCopySlot(leaf->found, slot);
		if (is_of_origin(apply, leaf) &&
			table_tuple_lock(target->rel, &slot->tts_tid, snapshot, leaf->found,
							 GetCurrentCommandId(false), LockTupleExclusive, LockWaitBlock,
							 TUPLE_LOCK_FLAG_FIND_LAST_VERSION, &failure) == TM_Ok &&
			is_of_origin(apply, leaf))
		{
			delete_row(apply, target, leaf);
			deleted++;
		}
		MemoryContextSwitchTo(old);
		forget_row(apply, target);
	}
	ExecDropSingleTupleTableSlot(slot);
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	return deleted;
}
