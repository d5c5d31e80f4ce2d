/*
 * residency_leaving.c
 *		What SQL can't do for rows that are handed over: a trigger with a predicate, another region's version made ours.
 *
 * Owns: making the trigger that notes rows, writing a row anew with this region's stamp.  Does not own: which rows, and when
 * (79_residency_leaving.sql), stamps (stamp_row.c).
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "nodes/parsenodes.h"
#include "parser/parser.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "apply.h"
#include "pg_tide.h"
#include "compat.h"

PG_FUNCTION_INFO_V1(tide_sql_residency_trigger);
PG_FUNCTION_INFO_V1(tide_sql_residency_adopt);

/* ---- rows written against a predicate ---- */

/* Columns of a trigger's condition are the new row's. */
static bool
of_new_row(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, ColumnRef))
	{
		ColumnRef *ref = (ColumnRef *) node;

		ref->fields = list_make2(makeString("new"), llast(ref->fields));
		return false;
	}
	return raw_expression_tree_walker(node, of_new_row, context);
}

/* "(predicate) IS NOT TRUE", of the new row. */
static Node *
is_not_met(const char *predicate)
{
	List *parsed = raw_parser(predicate, RAW_PARSE_PLPGSQL_EXPR);
	SelectStmt *select = castNode(SelectStmt, linitial_node(RawStmt, parsed)->stmt);
	BooleanTest *test = makeNode(BooleanTest);

	test->arg = (Expr *) linitial_node(ResTarget, select->targetList)->val;
	test->booltesttype = IS_NOT_TRUE;
	test->location = -1;
	(void) of_new_row((Node *) test->arg, NULL);
	return (Node *) test;
}

/* _residency_trigger(tbl regclass, filter text): the filter is one that the server has written. */
Datum
tide_sql_residency_trigger(PG_FUNCTION_ARGS)
{
	Oid table = PG_GETARG_OID(0);
	char *filter = text_to_cstring(PG_GETARG_TEXT_PP(1));
	CreateTrigStmt *stmt = makeNode(CreateTrigStmt);

	stmt->trigname = "tide_leaving";
	stmt->relation = makeRangeVar(get_namespace_name(get_rel_namespace(table)), get_rel_name(table),
								  -1);
	stmt->funcname = list_make2(makeString("tide"), makeString("_residency_leaving"));
	stmt->args = list_make1(makeString(filter));
	stmt->row = true;
	stmt->timing = TRIGGER_TYPE_AFTER;
	stmt->events = TRIGGER_TYPE_INSERT | TRIGGER_TYPE_UPDATE;
	stmt->whenClause = is_not_met(filter);
	(void) CreateTrigger(stmt, filter, table, InvalidOid, InvalidOid, InvalidOid, InvalidOid,
						 InvalidOid, NULL, false, false);
	CommandCounterIncrement();
	PG_RETURN_VOID();
}

/* ---- another region's version made ours ---- */

typedef struct Rows
{
	Datum *tids;
	int n;
} Rows;

typedef struct Writer
{
	Relation rel;
	EState *estate;
	ResultRelInfo *rri;
	EPQState epq;
	TupleTableSlot *found;
	TupleTableSlot *ours;
} Writer;

static void
adopt_row(Writer *writer, ItemPointer tid)
{
	HeapTuple tuple;
	bool copied;

	/* The caller has it locked: this is the version. */
	if (!table_tuple_fetch_row_version(writer->rel, tid, SnapshotAny, writer->found))
		elog(ERROR, "a row of table \"%s\" that is locked is gone",
			 RelationGetRelationName(writer->rel));
	tuple = ExecFetchSlotHeapTuple(writer->found, false, &copied);
	ExecForceStoreHeapTuple(tide_stamp_adopt(writer->rel, tuple), writer->ours, true);
	if (copied)
		heap_freetuple(tuple);
	writer->estate->es_output_cid = GetCurrentCommandId(true);
	AfterTriggerBeginQuery();
	ExecSimpleRelationUpdate(writer->rri, writer->estate, &writer->epq, writer->found,
							 writer->ours);
	AfterTriggerEndQuery(writer->estate);
	CommandCounterIncrement();
	ResetPerTupleExprContext(writer->estate);
}

static uint64
adopt_rows(Relation rel, const void *arg)
{
	const Rows *rows = arg;
	Writer writer = {.rel = rel};
	EState *estate = tide_executor_new(rel, &writer.rri, &writer.epq);

	writer.estate = estate;
	writer.found = table_slot_create(rel, &estate->es_tupleTable);
	writer.ours = table_slot_create(rel, &estate->es_tupleTable);
	ExecOpenIndices(writer.rri, false);
	for (int i = 0; i < rows->n; i++)
		adopt_row(&writer, (ItemPointer) DatumGetPointer(rows->tids[i]));
	EvalPlanQualEnd(&writer.epq);
	ExecResetTupleTable(estate->es_tupleTable, false);
	ExecCloseResultRelations(estate);
	FreeExecutorState(estate);
	return (uint64) rows->n;
}

/*
 * _residency_adopt(leaf regclass, ctids tid[]): those rows, which the caller has locked and each of which is there
 * once, get this region's stamp, and nothing else.  Written whole: a region that lacks one is told all of it.
 */
Datum
tide_sql_residency_adopt(PG_FUNCTION_ARGS)
{
	Relation rel = table_open(PG_GETARG_OID(0), RowExclusiveLock);
	Rows rows;

	deconstruct_array(PG_GETARG_ARRAYTYPE_P(1), TIDOID, sizeof(ItemPointerData), false,
					  TYPALIGN_SHORT, &rows.tids, NULL, &rows.n);
	(void) tide_write_as_owner(rel, adopt_rows, &rows);
	table_close(rel, NoLock);
	PG_RETURN_INT64(rows.n);
}
