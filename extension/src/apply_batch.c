/*
 * apply_batch.c
 *		New rows of one table, stored many at a time.
 *
 * Owns: rows that wait to be stored, storing them page by page with their index entries.  Does
 * not own: which rows those are (apply_row.c, copy_store.c).
 *
 * A page that takes many rows at once is locked, and written to the WAL, once.  Rows that wait are not
 * in the table yet, so they are stored before anybody may look there: before a row is looked for,
 * before another table (or partition) gets rows, before targets are closed.  If a row of them is
 * refused, so is the call, as without waiting; the careful repetition stores row by row.  Rows of
 * tables with triggers don't wait: a trigger may look.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "executor/executor.h"
#include "executor/nodeModifyTable.h"
#include "utils/rel.h"

#include "apply.h"
#include "pg_tide.h"
#include "compat.h"

void
tide_rows_check(ResultRelInfo *rri, EState *estate, TupleTableSlot *slot)
{
	Relation rel = rri->ri_RelationDesc;

	slot->tts_tableOid = RelationGetRelid(rel);
	if (rel->rd_att->constr != NULL)
		ExecConstraints(rri, slot, estate);
	if (rel->rd_rel->relispartition)
		(void) ExecPartitionCheck(rri, slot, estate, true);
}

void
tide_rows_store(ResultRelInfo *rri, EState *estate, TupleTableSlot **slots, int n,
				BulkInsertState bulk)
{
	table_multi_insert(rri->ri_RelationDesc, slots, n, estate->es_output_cid, 0, bulk);
	for (int i = 0; i < n; i++)
	{
		if (rri->ri_NumIndices > 0)
			list_free(tide_insert_index_tuples(rri, slots[i], estate));
		ExecClearTuple(slots[i]);
	}
}

bool
tide_batch_may(const TideApply *apply, const TideTarget *target)
{
	return apply->hopeful && target->map->look_up == 0 && !target->triggers;
}

static TupleTableSlot *
next_slot(TideBatch *batch)
{
	TideLeaf *leaf = batch->leaf;
	EState *estate = batch->target->estate;

	if (leaf->waiting == NULL)
		leaf->waiting = MemoryContextAlloc(estate->es_query_cxt,
										   sizeof(*leaf->waiting) * TIDE_BATCH_ROWS);
	if (leaf->n_waiting == batch->n)
	{
		MemoryContext old = MemoryContextSwitchTo(estate->es_query_cxt);

		leaf->waiting[leaf->n_waiting++] = table_slot_create(leaf->rri->ri_RelationDesc,
															 &estate->es_tupleTable);
		MemoryContextSwitchTo(old);
	}
	return leaf->waiting[batch->n];
}

void
tide_batch_add(TideApply *apply, TideTarget *target, TideLeaf *leaf, TupleTableSlot *row)
{
	TideBatch *batch = &apply->batch;
	const TupleConstr *constr = leaf->rri->ri_RelationDesc->rd_att->constr;

	Assert(batch->n == 0 || batch->leaf == leaf);
	tide_apply_act_as(apply, leaf->owner);
	if (constr != NULL && constr->has_generated_stored)
		ExecComputeStoredGenerated(leaf->rri, target->estate, row, CMD_INSERT);
	tide_rows_check(leaf->rri, target->estate, row);
	batch->target = target;
	batch->leaf = leaf;
	batch->relation = apply->last;
	ExecCopySlot(next_slot(batch), row);
	if (++batch->n == TIDE_BATCH_ROWS)
		tide_batch_store(apply);
}

void
tide_batch_store(TideApply *apply)
{
	TideBatch batch = apply->batch;
	const char *operation = apply->operation;
	EState *estate;
	MemoryContext old;

	if (batch.n == 0)
		return;
	apply->batch.n = 0;
	apply->last = batch.relation;
	apply->operation = tide_operation_name('I');
	tide_apply_act_as(apply, batch.leaf->owner);
	estate = batch.target->estate;
	estate->es_output_cid = GetCurrentCommandId(true);
	old = MemoryContextSwitchTo(apply->row_context);
	tide_rows_store(batch.leaf->rri, estate, batch.leaf->waiting, batch.n, NULL);
	MemoryContextSwitchTo(old);
	CommandCounterIncrement();
	apply->operation = operation;
}
