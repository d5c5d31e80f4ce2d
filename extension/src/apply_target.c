/*
 * apply_target.c
 *		Tables open for writing: executor state, indexes, partitions.
 *
 * Owns: what is set up once for all the rows that a call writes into a table, and
 * taken down at its end.  Does not own: what is written (apply_row.c).
 *
 * A target has one or more leaves, where rows are really stored: the table
 * itself, or those of its partitions that rows were found to belong to.  Each leaf keeps
 * an index scan ready with which a row is looked up by its key.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/tupconvert.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "parser/parse_relation.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "apply.h"
#include "pg_tide.h"
#include "compat.h"

/* ---- leaves ---- */

AttrNumber
tide_leaf_column(const TideLeaf *leaf, AttrNumber root)
{
	if (root == 0 || leaf->from_root == NULL)
		return root;
	for (int i = 0; i < leaf->from_root->attrMap->maplen; i++)
	{
		if (leaf->from_root->attrMap->attnums[i] == root)
			return i + 1;
	}
	return 0;
}

/*
 * Forgets triggers that stay silent anyway, which is what most are while rows are applied: our own,
 * and those of foreign keys.  The server would lock each row once more to show it to them.
 */
static void
forget_silent_triggers(ResultRelInfo *rri)
{
	const TriggerDesc *triggers = rri->ri_TrigDesc;

	for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
	{
		char enabled = triggers->triggers[i].tgenabled;

		if (enabled == TRIGGER_FIRES_ALWAYS || enabled == TRIGGER_FIRES_ON_REPLICA)
			return;
	}
	rri->ri_TrigDesc = NULL;
}

/* The equality of the key's index, column by column. */
static void
init_search(TideLeaf *leaf)
{
	Relation index = leaf->key_index;

	leaf->n_keys = IndexRelationGetNumberOfKeyAttributes(index);
	leaf->keys = palloc(sizeof(AttrNumber) * leaf->n_keys);
	leaf->search = palloc0(sizeof(ScanKeyData) * leaf->n_keys);
	for (int i = 0; i < leaf->n_keys; i++)
	{
		Oid family = index->rd_opfamily[i];
		Oid type = index->rd_opcintype[i];
		Oid operator= get_opfamily_member(family, type, type, BTEqualStrategyNumber);

		if (!OidIsValid(operator))
			elog(ERROR, "missing operator %d(%u,%u) in opfamily %u", BTEqualStrategyNumber, type,
				 type, family);
		leaf->keys[i] = index->rd_index->indkey.values[i];
		ScanKeyEntryInitialize(&leaf->search[i], 0, i + 1, BTEqualStrategyNumber, InvalidOid,
							   index->rd_indcollation[i], get_opcode(operator), (Datum) 0);
	}
}

/* Does the index find rows by the same columns, in the same order, as the table's key? */
static bool
is_key_of_leaf(const TideLeaf *leaf, const TideMap *map, Relation index)
{
	if (!index->rd_index->indisunique || !index->rd_index->indisvalid ||
		!index->rd_index->indimmediate || RelationGetIndexPredicate(index) != NIL ||
		IndexRelationGetNumberOfKeyAttributes(index) != map->n_keys)
		return false;
	for (int i = 0; i < map->n_keys; i++)
	{
		if (index->rd_index->indkey.values[i] != tide_leaf_column(leaf, map->keys[i]))
			return false;
	}
	return true;
}

/* A partition may have a key of its own beside that of the whole. */
static Relation
open_key_index(const TideLeaf *leaf, const TideMap *map, Relation rel)
{
	List *indexes = RelationGetIndexList(rel);
	ListCell *cell;
	Relation index;

	foreach (cell, indexes)
	{
		index = index_open(lfirst_oid(cell), RowExclusiveLock);
		if (is_key_of_leaf(leaf, map, index))
		{
			list_free(indexes);
			return index;
		}
		index_close(index, NoLock);
	}
	elog(ERROR, "partition \"%s\" has no key", RelationGetRelationName(rel));
	return NULL;
}

static TideLeaf *
add_leaf(TideTarget *target, ResultRelInfo *rri)
{
	Relation rel = rri->ri_RelationDesc;
	MemoryContext old = MemoryContextSwitchTo(target->estate->es_query_cxt);
	TideLeaf *leaf = palloc0(sizeof(TideLeaf));

	leaf->relid = RelationGetRelid(rel);
	leaf->owner = rel->rd_rel->relowner;
	leaf->rri = rri;
	if (rri != target->rri)
		leaf->from_root = tide_partition_map(rri, target->estate);
	leaf->stamp = tide_leaf_column(leaf, target->map->stamp);
	leaf->found = table_slot_create(rel, &target->estate->es_tupleTable);
	leaf->row = ExecInitExtraTupleSlot(target->estate, RelationGetDescr(rel), &TTSOpsVirtual);
	if (target->map->n_keys > 0)
	{
		leaf->key_index = rri == target->rri ? index_open(tide_map_key_index(rel), RowExclusiveLock)
											 : open_key_index(leaf, target->map, rel);
		init_search(leaf);
		leaf->scan = tide_index_beginscan(rel, leaf->key_index, GetActiveSnapshot(), leaf->n_keys);
	}
	forget_silent_triggers(rri);
	target->triggers |= rri->ri_TrigDesc != NULL;
	leaf->next = target->leaves;
	target->leaves = leaf;
	MemoryContextSwitchTo(old);
	return leaf;
}

TideLeaf *
tide_target_leaf(TideApply *apply, TideTarget *target, TupleTableSlot *slot)
{
	MemoryContext old;
	ResultRelInfo *rri;

	if (target->routing == NULL)
		return target->leaves;
	tide_apply_act_as(apply, target->owner);
	old = MemoryContextSwitchTo(GetPerTupleMemoryContext(target->estate));
	rri = ExecFindPartition(target->mtstate, target->rri, target->routing, slot, target->estate);
	MemoryContextSwitchTo(old);
	for (TideLeaf *leaf = target->leaves; leaf != NULL; leaf = leaf->next)
	{
		if (leaf->rri == rri)
			return leaf;
	}
	return add_leaf(target, rri);
}

TupleTableSlot *
tide_leaf_row(TideTarget *target, TideLeaf *leaf, TupleTableSlot *slot)
{
	if (leaf->from_root == NULL)
		return slot;
	return execute_attr_map_slot(leaf->from_root->attrMap, slot, leaf->row);
}

/* ---- targets ---- */

/* An update sets all columns: so every generated one is computed again. */
static Bitmapset *
all_columns(TupleDesc desc)
{
	return bms_add_range(NULL, 1 - FirstLowInvalidHeapAttributeNumber,
						 desc->natts - FirstLowInvalidHeapAttributeNumber);
}

EState *
tide_executor_new(Relation rel, ResultRelInfo **rri, EPQState *epq)
{
	EState *estate = CreateExecutorState();
	MemoryContext old = MemoryContextSwitchTo(estate->es_query_cxt);
	RangeTblEntry *rte = makeNode(RangeTblEntry);
	List *perms = NIL;

	rte->rtekind = RTE_RELATION;
	rte->relid = RelationGetRelid(rel);
	rte->relkind = rel->rd_rel->relkind;
	rte->rellockmode = RowExclusiveLock;
	tide_set_updated(&perms, rte, all_columns(RelationGetDescr(rel)));
	tide_init_range_table(estate, rte, perms);
	*rri = makeNode(ResultRelInfo);
	InitResultRelInfo(*rri, rel, 1, NULL, 0);
	estate->es_opened_result_relations = lappend(NIL, *rri);
	estate->es_snapshot = GetActiveSnapshot();
	estate->es_output_cid = GetCurrentCommandId(true);
	tide_init_epq(epq, estate);
	MemoryContextSwitchTo(old);
	return estate;
}

static void
init_executor(TideTarget *target)
{
	EState *estate = tide_executor_new(target->rel, &target->rri, &target->epq);
	MemoryContext old = MemoryContextSwitchTo(estate->es_query_cxt);
	TupleDesc desc = RelationGetDescr(target->rel);

	target->estate = estate;
	target->incoming = ExecInitExtraTupleSlot(estate, desc, &TTSOpsVirtual);
	target->old = ExecInitExtraTupleSlot(estate, desc, &TTSOpsVirtual);
	target->unchanged = palloc0(sizeof(bool) * desc->natts);
	MemoryContextSwitchTo(old);
}

static void
init_defaults(TideTarget *target)
{
	TideMap *map = target->map;
	MemoryContext old = MemoryContextSwitchTo(target->estate->es_query_cxt);

	target->defaults = palloc0(sizeof(ExprState *) * Max(map->n_defaults, 1));
	for (int i = 0; i < map->n_defaults; i++)
	{
		if (map->defaults[i].expr != NULL)
			target->defaults[i] = ExecInitExpr(map->defaults[i].expr, NULL);
	}
	MemoryContextSwitchTo(old);
}

/* What tuple routing wants to see of a plan. */
static void
init_routing(TideTarget *target)
{
	MemoryContext old = MemoryContextSwitchTo(target->estate->es_query_cxt);

	target->mtstate = makeNode(ModifyTableState);
	target->mtstate->ps.plan = NULL;
	target->mtstate->ps.state = target->estate;
	target->mtstate->operation = CMD_INSERT;
	target->mtstate->resultRelInfo = target->rri;
	target->mtstate->rootResultRelInfo = target->rri;
	target->routing = ExecSetupPartitionTupleRouting(target->estate, target->rel);
	MemoryContextSwitchTo(old);
}

TideTarget *
tide_target_open(TideApply *apply, TideMap *map)
{
	Relation rel = table_open(map->relid, RowExclusiveLock);
	MemoryContext old = MemoryContextSwitchTo(apply->target_context);
	TideTarget *target = palloc0(sizeof(TideTarget));

	tide_map_check_target(apply, map, rel);
	/* Setting up indexes already runs functions in their expressions. */
	tide_apply_act_as(apply, rel->rd_rel->relowner);
	target->map = map;
	target->rel = rel;
	target->owner = rel->rd_rel->relowner;
	init_executor(target);
	init_defaults(target);
	if (rel->rd_rel->relkind == RELKIND_PARTITIONED_TABLE)
		init_routing(target);
	else
	{
		ExecOpenIndices(target->rri, false);
		(void) add_leaf(target, target->rri);
	}
	target->next = apply->targets;
	apply->targets = target;
	MemoryContextSwitchTo(old);
	return target;
}

static void
close_target(TideTarget *target)
{
	for (TideLeaf *leaf = target->leaves; leaf != NULL; leaf = leaf->next)
	{
		if (leaf->scan != NULL)
			index_endscan(leaf->scan);
		if (leaf->key_index != NULL)
			index_close(leaf->key_index, NoLock);
	}
	EvalPlanQualEnd(&target->epq);
	ExecResetTupleTable(target->estate->es_tupleTable, false);
	if (target->routing != NULL)
		ExecCleanupTupleRouting(target->mtstate, target->routing);
	ExecCloseResultRelations(target->estate); /* indexes; what after triggers opened */
	table_close(target->rel, NoLock);
	FreeExecutorState(target->estate);
}

void
tide_targets_close(TideApply *apply)
{
	tide_batch_store(apply);
	while (apply->targets != NULL)
	{
		TideTarget *target = apply->targets;

		apply->targets = target->next;
		close_target(target);
		pfree(target);
	}
}
