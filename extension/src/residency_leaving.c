/*
 * residency_leaving.c
 *		What SQL can't do, or not fast enough, for rows that are handed over.
 *
 * Owns: the trigger that notes rows, and making it; writing a row anew with this region's stamp.  Does not
 * own: which rows, and when (79_residency_leaving.sql), stamps (stamp_row.c).
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/partition.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "nodes/parsenodes.h"
#include "parser/parser.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "apply.h"
#include "pg_tide.h"
#include "compat.h"

PG_FUNCTION_INFO_V1(tide_sql_residency_trigger);
PG_FUNCTION_INFO_V1(tide_sql_residency_leaving);
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

/* ---- noting ---- */

/* A column of the table's key, as it is in the relation that fired. */
typedef struct KeyColumn
{
	char *name;
	AttrNumber attnum;
	FmgrInfo output;
} KeyColumn;

/* What a statement's trigger remembers between rows. */
typedef struct Noted
{
	Oid table; /* the root of a partition */
	AttrNumber stamp;
	int n_keys;
	KeyColumn keys[FLEXIBLE_ARRAY_MEMBER];
} Noted;

static void
init_key_column(KeyColumn *key, Relation rel, const char *name, MemoryContext context)
{
	Oid output;
	bool varlena;

	key->name = MemoryContextStrdup(context, name);
	key->attnum = get_attnum(RelationGetRelid(rel), name);
	getTypeOutputInfo(TupleDescAttr(RelationGetDescr(rel), key->attnum - 1)->atttypid, &output,
					  &varlena);
	fmgr_info_cxt(output, &key->output, context);
}

/* fn_extra lasts for one statement and one relation. */
static Noted *
remember(FmgrInfo *flinfo, Relation rel)
{
	Oid root = rel->rd_rel->relispartition
				   ? llast_oid(get_partition_ancestors(RelationGetRelid(rel)))
				   : RelationGetRelid(rel);
	Relation table = table_open(root, AccessShareLock);
	Relation index = index_open(tide_map_key_index(table), AccessShareLock);
	int n_keys = IndexRelationGetNumberOfKeyAttributes(index);
	Noted *noted = MemoryContextAlloc(flinfo->fn_mcxt,
									  offsetof(Noted, keys) + n_keys * sizeof(KeyColumn));

	noted->table = root;
	noted->stamp = get_attnum(RelationGetRelid(rel), TIDE_STAMP_COLUMN);
	noted->n_keys = n_keys;
	for (int i = 0; i < n_keys; i++)
		init_key_column(&noted->keys[i], rel,
						get_attname(root, index->rd_index->indkey.values[i], false),
						flinfo->fn_mcxt);
	index_close(index, NoLock);
	table_close(table, NoLock);
	return noted;
}

static JsonbValue
json_string(char *text)
{
	JsonbValue value = {.type = jbvString};

	value.val.string.val = text;
	value.val.string.len = strlen(text);
	return value;
}

/* The row's key: an object of texts, by the types' own output, as a cast may be a user's function. */
static Jsonb *
key_of(Noted *noted, TupleDesc desc, HeapTuple row)
{
	JsonbParseState *state = NULL;

	(void) pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	for (int i = 0; i < noted->n_keys; i++)
	{
		KeyColumn *key = &noted->keys[i];
		bool isnull;
		Datum datum = heap_getattr(row, key->attnum, desc, &isnull);
		JsonbValue name = json_string(key->name);
		JsonbValue value = json_string(OutputFunctionCall(&key->output, datum));

		(void) pushJsonbValue(&state, WJB_KEY, &name);
		(void) pushJsonbValue(&state, WJB_VALUE, &value);
	}
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

/* The stamp as text: its type may be another one the next time, if the extension was made anew. */
static void
insert_note(Oid table, Jsonb *key, TideStamp stamp)
{
	static SPIPlanPtr plan = NULL;
	Oid types[] = {OIDOID, JSONBOID, TEXTOID};
	char text[TIDE_STAMP_TEXT];
	Datum values[3];

	tide_stamp_format(stamp, text);
	values[0] = ObjectIdGetDatum(table);
	values[1] = JsonbPGetDatum(key);
	values[2] = CStringGetTextDatum(text);
	SPI_connect();
	if (plan == NULL)
	{
		plan = SPI_prepare("INSERT INTO tide.residency_leaving (relid, key, stamp) "
						   "VALUES ($1, $2, $3::tide.stamp)",
						   3, types);
		if (plan == NULL || SPI_keepplan(plan) != 0)
			elog(ERROR, "preparing to note a row failed");
	}
	if (SPI_execute_plan(plan, values, NULL, false, 0) != SPI_OK_INSERT)
		elog(ERROR, "noting a row failed");
	SPI_finish();
}

/*
 * tide._residency_leaving(): trigger AFTER INSERT OR UPDATE, FOR EACH ROW, made by the function above for rows
 * that don't meet a filter.  Notes the row's version.
 */
Datum
tide_sql_residency_leaving(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	TupleDesc desc;
	HeapTuple row;
	Noted *noted;
	Datum stamp;
	bool isnull;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_AFTER(trigger->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(trigger->tg_event) || TRIGGER_FIRED_BY_DELETE(trigger->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("tide._residency_leaving() is the function of pg_tide's own triggers only"),
				 errhint("tide.table_add() makes them.")));
	if (fcinfo->flinfo->fn_extra == NULL)
		fcinfo->flinfo->fn_extra = remember(fcinfo->flinfo, trigger->tg_relation);
	noted = fcinfo->flinfo->fn_extra;
	desc = RelationGetDescr(trigger->tg_relation);
	row = TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) ? trigger->tg_newtuple : trigger->tg_trigtuple;
	stamp = heap_getattr(row, noted->stamp, desc, &isnull);
	if (!isnull)
		insert_note(noted->table, key_of(noted, desc, row), tide_stamp_of(stamp));
	return PointerGetDatum(NULL);
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
