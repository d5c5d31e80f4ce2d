/*
 * copy_in.c
 *		A table's first copy: storing what COPY brings from another region.
 *
 * Owns: copy_begin, copy_in, copy_merge.  Does not own: copy_end (SQL), when and what is
 * copied (the relay), how rows are merged (apply_row.c).
 *
 * One table's copy is one transaction: copy_begin, then copy_in or copy_merge any
 * number of times, copy_end.  So a relay that is killed leaves nothing of it.
 *
 * Into an empty table rows go in pieces of whole rows that the server's own COPY reads (copy_store.c).
 * What is not empty takes them one by one, by the rules of merging.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "commands/copy.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "nodes/makefuncs.h"
#include "parser/parse_node.h"
#include "parser/parse_relation.h"
#include "parser/parse_type.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "apply.h"
#include "inbox.h"
#include "pg_tide.h"
#include "compat.h"

PG_FUNCTION_INFO_V1(tide_sql_copy_begin);
PG_FUNCTION_INFO_V1(tide_sql_copy_in);
PG_FUNCTION_INFO_V1(tide_sql_copy_merge);

/* What every function of a copy works with. */
typedef struct Copy
{
	TideApply apply;
	char *schema;
	char *table;
	Relation rel;
	char **columns;
	char **types;
	int n_columns;
	/* copy_begin */
	bool merge; /* COPY can't store these rows */
	/* copy_in */
	bool binary;
	bytea *data;
	int64 rows;
} Copy;

/* ---- arguments ---- */

static char **
text_array(Datum datum, int *n)
{
	Datum *values;
	bool *nulls;
	char **result;

	deconstruct_array(DatumGetArrayTypeP(datum), TEXTOID, -1, false, TYPALIGN_INT, &values, &nulls,
					  n);
	result = palloc(sizeof(char *) * Max(*n, 1));
	for (int i = 0; i < *n; i++)
		result[i] = nulls[i] ? "" : TextDatumGetCString(values[i]);
	return result;
}

static void
begin_call(Copy *copy, FunctionCallInfo fcinfo)
{
	memset(copy, 0, sizeof(*copy));
	tide_apply_begin(&copy->apply, fcinfo);
	copy->apply.link = tide_link_share(PG_GETARG_TEXT_PP(0), PG_GETARG_INT64(1));
	copy->apply.here = tide_stamp_region();
	copy->apply.copying = true;
	tide_session_begin_copy();
}

/* The table of that name, which rows of other regions may be written into. */
static void
open_table(Copy *copy, FunctionCallInfo fcinfo)
{
	Oid relid;

	copy->schema = text_to_cstring(PG_GETARG_TEXT_PP(2));
	copy->table = text_to_cstring(PG_GETARG_TEXT_PP(3));
	relid = RangeVarGetRelid(makeRangeVar(copy->schema, copy->table, -1), RowExclusiveLock, false);
	copy->rel = table_open(relid, NoLock);
	if (!tide_map_is_replicated(relid, NULL))
		ereport(ERROR, (errcode(ERRCODE_TIDE_NO_TARGET),
						errmsg("table \"%s.%s\" is not replicated here", copy->schema, copy->table),
						errhint("Add it with tide.table_add().")));
	tide_map_check_rights(&copy->apply, copy->rel, TIDE_TARGET_RIGHTS);
}

/* ---- shapes ---- */

static Form_pg_attribute
find_attribute(Relation rel, const char *name)
{
	for (int i = 0; i < rel->rd_att->natts; i++)
	{
		Form_pg_attribute attr = TupleDescAttr(rel->rd_att, i);

		if (!attr->attisdropped && strcmp(NameStr(attr->attname), name) == 0)
			return attr;
	}
	return NULL;
}

/* The origin's type as text, seen from here; false if there is no such type. */
static bool
resolve_type(const char *type, Oid *oid, int32 *typmod)
{
	LOCAL_FCINFO(fcinfo, 1);

	InitFunctionCallInfoData(*fcinfo, NULL, 1, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = CStringGetTextDatum(type);
	fcinfo->args[0].isnull = false;
	(void) to_regtype(fcinfo);
	if (fcinfo->isnull)
		return false;
	tide_parse_type(type, oid, typmod);
	return true;
}

static void
check_column(Copy *copy, int n)
{
	Form_pg_attribute attr = find_attribute(copy->rel, copy->columns[n]);
	const char *type = copy->types[n];
	TideColumn remote = {0};
	Oid oid;
	const char *why;

	if (attr == NULL)
		tide_map_refuse_shape(&copy->apply, copy->rel,
							  psprintf("it has no column \"%s\"", copy->columns[n]));
	if (attr->attgenerated != '\0')
	{
		copy->merge = true; /* COPY can't leave out what was sent */
		return;
	}
	if (!resolve_type(type, &oid, &remote.typmod))
		tide_map_refuse_shape(&copy->apply, copy->rel,
							  psprintf("column \"%s\" has type %s there, which does not exist here",
									   copy->columns[n], type));
	remote.type = getBaseType(oid);
	why = tide_type_differs(&remote, attr->atttypid, attr->atttypmod);
	if (why != NULL)
		tide_map_refuse_shape(&copy->apply, copy->rel,
							  psprintf("column \"%s\" has %s", copy->columns[n], why));
	if (tide_type_widens(&remote, attr->atttypid, attr->atttypmod))
		copy->merge = true; /* COPY takes its own type only */
}

static void
check_columns(TideApply *apply, void *arg)
{
	Copy *copy = arg;

	/* Types may be in schemas that mean nothing to the relay, and ours nothing to the table's owner. */
	tide_apply_act_as(apply, tide_catalog_owner());
	for (int i = 0; i < copy->n_columns; i++)
		check_column(copy, i);
	tide_apply_act_as(apply, InvalidOid);
}

/* ---- copy_begin ---- */

/* What was parked of the table is in the copy. */
static void
forget_parked(const Copy *copy)
{
	Oid types[] = {INT4OID, TEXTOID, TEXTOID};
	Datum values[] = {Int32GetDatum(copy->apply.link->id), CStringGetTextDatum(copy->schema),
					  CStringGetTextDatum(copy->table)};
	TideIdentity self;
	uint64 dropped;

	tide_act_as(tide_catalog_owner(), "pg_catalog, pg_temp", &self);
	SPI_connect();
	if (SPI_execute_with_args("DELETE FROM tide.parked_change c WHERE c.link_id = $1"
							  " AND c.schema_name = $2 AND c.table_name = $3",
							  lengthof(types), types, values, NULL, false, 0) != SPI_OK_DELETE)
		elog(ERROR, "forgetting what was parked failed");
	dropped = SPI_processed;
	SPI_finish();
	tide_act_as_self(&self);
	if (dropped > 0)
		ereport(LOG, (errmsg("pg_tide: " UINT64_FORMAT " parked changes of table \"%s.%s\" from "
							 "region \"%s\" are part of its copy",
							 dropped, copy->schema, copy->table, copy->apply.link->region)));
}

/* The table, or its partitions. */
static List *
leaves_of(Relation rel)
{
	List *result = NIL;
	List *all;
	ListCell *cell;

	if (rel->rd_rel->relkind != RELKIND_PARTITIONED_TABLE)
		return list_make1_oid(RelationGetRelid(rel));
	all = find_all_inheritors(RelationGetRelid(rel), RowExclusiveLock, NULL);
	foreach (cell, all)
	{
		if (get_rel_relkind(lfirst_oid(cell)) == RELKIND_RELATION)
			result = lappend_oid(result, lfirst_oid(cell));
	}
	return result;
}

/* What the region wrote before comes again, unless it was deleted there since. */
static void
delete_origin(TideApply *apply, void *arg)
{
	Copy *copy = arg;
	List *leaves = leaves_of(copy->rel);
	ListCell *cell;

	foreach (cell, leaves)
	{
		Oid relid = lfirst_oid(cell);
		TideMap *map = MemoryContextAllocZero(apply->context, sizeof(TideMap));
		TideTarget *target;

		map->relid = relid;
		map->checked = true;
		map->stamp = get_attnum(relid, TIDE_STAMP_COLUMN);
		target = tide_target_open(apply, map);
		tide_apply_act_as(apply, copy->rel->rd_rel->relowner);
		copy->rows += tide_rows_delete_origin(apply, target);
		tide_apply_act_as(apply, InvalidOid);
		tide_targets_close(apply);
	}
}

static bool
is_empty(Relation rel)
{
	List *leaves = leaves_of(rel);
	Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
	ListCell *cell;
	bool empty = true;

	foreach (cell, leaves)
	{
		Relation leaf = table_open(lfirst_oid(cell), RowExclusiveLock);
		TableScanDesc scan = table_beginscan(leaf, snapshot, 0, NULL);
		TupleTableSlot *slot = table_slot_create(leaf, NULL);

		empty = empty && !table_scan_getnextslot(scan, ForwardScanDirection, slot);
		ExecDropSingleTupleTableSlot(slot);
		table_endscan(scan);
		table_close(leaf, NoLock);
	}
	UnregisterSnapshot(snapshot);
	return empty;
}

/*
 * copy_begin(pipeline text, epoch bigint, schema_name text, table_name text, snapshot_lsn pg_lsn,
 * columns text[], types text[]): see ARCHITECTURE.md.
 */
Datum
tide_sql_copy_begin(PG_FUNCTION_ARGS)
{
	Copy copy;
	int n_types;
	bool empty;

	begin_call(&copy, fcinfo);
	open_table(&copy, fcinfo);
	copy.columns = text_array(PG_GETARG_DATUM(5), &copy.n_columns);
	copy.types = text_array(PG_GETARG_DATUM(6), &n_types);
	if (n_types != copy.n_columns)
		ereport(ERROR, (errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR),
						errmsg("there are %d columns and %d types", copy.n_columns, n_types)));
	tide_apply_run(&copy.apply, check_columns, &copy);
	forget_parked(&copy);
	empty = is_empty(copy.rel);
	if (!empty)
		tide_apply_run(&copy.apply, delete_origin, &copy);
	if (copy.rows > 0)
		ereport(LOG, (errmsg("pg_tide: deleted " INT64_FORMAT " rows of region \"%s\" from table "
							 "\"%s.%s\" to copy them again",
							 copy.rows, copy.apply.link->region, copy.schema, copy.table)));
	empty = empty || is_empty(copy.rel);
	table_close(copy.rel, NoLock);
	PG_RETURN_TEXT_P(cstring_to_text(empty && !copy.merge ? "empty" : "merge"));
}

/* ---- copy_in ---- */

/* COPY asks a function without arguments for data. */
static struct
{
	const char *header;
	size_t header_left;
	const char *data;
	size_t data_left;
} source;

static size_t
take(char *out, size_t room, const char **from, size_t *left)
{
	size_t n = Min(room, *left);

	memcpy(out, *from, n);
	*from += n;
	*left -= n;
	return n;
}

static int
read_source(void *out, int at_least, int at_most)
{
	size_t n = take(out, at_most, &source.header, &source.header_left);

	return (int) (n + take((char *) out + n, at_most - n, &source.data, &source.data_left));
}

/* What a file in binary format begins with: signature, flags, length of an extension. */
static const char binary_header[] = "PGCOPY\n\377\r\n\0"
									"\0\0\0\0"
									"\0\0\0\0";

static void
set_source(const Copy *copy)
{
	source.header = binary_header;
	source.header_left = copy->binary ? sizeof(binary_header) - 1 : 0;
	source.data = VARDATA_ANY(copy->data);
	source.data_left = VARSIZE_ANY_EXHDR(copy->data);
}

static void
copy_rows(TideApply *apply, void *arg)
{
	Copy *copy = arg;
	ParseState *pstate = make_parsestate(NULL);
	List *columns = NIL;
	List *options = NIL;
	CopyFromState state;

	for (int i = 0; i < copy->n_columns; i++)
		columns = lappend(columns, makeString(copy->columns[i]));
	if (copy->binary)
		options = list_make1(makeDefElem("format", (Node *) makeString("binary"), -1));
	(void) addRangeTableEntryForRelation(pstate, copy->rel, RowExclusiveLock, NULL, false, false);
	set_source(copy);
	tide_apply_act_as(apply, copy->rel->rd_rel->relowner);
	state = BeginCopyFrom(pstate, copy->rel, NULL, NULL, false, read_source, columns, options);
	copy->rows = tide_copy_store(apply, copy->rel, copy->n_columns, state);
	EndCopyFrom(state);
	free_parsestate(pstate);
	tide_apply_act_as(apply, InvalidOid);
}

/* copy_in(pipeline text, epoch bigint, schema_name text, table_name text, columns text[], format text, data bytea) */
Datum
tide_sql_copy_in(PG_FUNCTION_ARGS)
{
	Copy copy;
	char *format;

	begin_call(&copy, fcinfo);
	open_table(&copy, fcinfo);
	copy.columns = text_array(PG_GETARG_DATUM(4), &copy.n_columns);
	format = text_to_cstring(PG_GETARG_TEXT_PP(5));
	copy.binary = strcmp(format, "binary") == 0;
	if (!copy.binary && strcmp(format, "text") != 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("format \"%s\" is not known", format),
						errhint("Formats are \"binary\" and \"text\".")));
	copy.data = tide_large_value(PG_GETARG_BYTEA_PP(6));
	tide_apply_run(&copy.apply, copy_rows, &copy);
	tide_large_forget();
	table_close(copy.rel, NoLock);
	PG_RETURN_INT64(copy.rows);
}

/* ---- copy_merge ---- */

static void
merge_frame(TideApply *apply, void *arg)
{
	tide_apply_records(apply, arg);
}

static void
merge_rows(TideApply *apply, void *arg)
{
	TideApplyFrame *frame = arg;
	ErrorData *error = tide_attempt(apply, merge_frame, frame);

	if (error == NULL)
		return;
	FreeErrorData(error);
	memset(frame->transaction, 0, sizeof(*frame->transaction));
	apply->careful = true;
	tide_apply_records(apply, frame);
}

/* copy_merge(pipeline text, epoch bigint, frame bytea) */
Datum
tide_sql_copy_merge(PG_FUNCTION_ARGS)
{
	Copy copy;
	TideOpenTransaction transaction = {0};
	TideApplyFrame frame = {.transaction = &transaction};
	int64 rows;

	begin_call(&copy, fcinfo);
	tide_apply_read_frame(&copy.apply, PG_GETARG_BYTEA_PP(2), &frame.header, &frame.records);
	tide_apply_check_region(&copy.apply, &frame.header);
	tide_apply_run(&copy.apply, merge_rows, &frame);
	rows = copy.apply.counts.changes;
	MemoryContextDelete(copy.apply.context);
	tide_large_forget();
	PG_RETURN_INT64(rows);
}
