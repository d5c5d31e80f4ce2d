/*
 * scope.c
 *		Where rows may be written: the trigger of tables whose class has the scope home or primary.
 *
 * Owns: refusing what belongs to another region, where it is written.  Does not own: which
 * tables have the trigger, and with which arguments (75_table.sql); rows that come by
 * a link: the trigger is silent for them.
 *
 * Arguments: 'primary' and the one region that writes the table; 'home' and the column that names
 * each row's region.  A row moves when the region that has it changes that column; one without
 * a home gets it from the region that writes it first.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "apply.h"
#include "inbox.h"
#include "pg_tide.h"
#include "compat.h"

PG_FUNCTION_INFO_V1(tide_sql_scope_row);

/* Remembered for one statement and one relation. */
typedef struct Home
{
	AttrNumber column;
	bool is_text;
	FmgrInfo output; /* of types that are no text */
} Home;

/*
 * A row on its way to another region.  If the column is a partition's key, too, the server turns the
 * update into a delete and an insert, and asks the trigger three times, one after the other.
 */
static struct
{
	Oid relid;
	ItemPointerData tid;
	TimestampTz statement;
	SubTransactionId subxact;
	bool deleted;
	char region[NAMEDATALEN];
} moving;

/* ---- refusing ---- */

static void
refuse_table(Relation rel, const char *region)
{
	ereport(ERROR, (errcode(ERRCODE_TIDE_WRONG_REGION),
					errmsg("table \"%s\" is written in region \"%s\" only",
						   RelationGetRelationName(rel), region),
					errdetail("This is region \"%s\".", tide_stamp_region_name()),
					errhint("Write it there; it comes here by itself.")));
}

static void
refuse_row(Relation rel, const char *column, const char *region)
{
	ereport(
		ERROR,
		(errcode(ERRCODE_TIDE_WRONG_REGION),
		 errmsg("this row of table \"%s\" is written in region \"%s\" only",
				RelationGetRelationName(rel), region),
		 errdetail("Column \"%s\" names a row's home; this is region \"%s\".", column,
				   tide_stamp_region_name()),
		 errhint("Write it there, or move the row: UPDATE that column there, then write here.")));
}

static void
refuse_truncate(Relation rel)
{
	ereport(ERROR, (errcode(ERRCODE_TIDE_WRONG_REGION),
					errmsg("table \"%s\" can't be truncated: it has rows of other regions",
						   RelationGetRelationName(rel)),
					errhint("Delete the rows whose home is here.")));
}

/* ---- the home of a row ---- */

static Home *
find_home(FmgrInfo *flinfo, Relation rel, const char *column)
{
	Home *home = flinfo->fn_extra;
	Oid type;
	Oid output;
	bool varlena;

	if (home != NULL)
		return home;
	home = MemoryContextAllocZero(flinfo->fn_mcxt, sizeof(Home));
	home->column = get_attnum(RelationGetRelid(rel), column);
	if (home->column <= 0)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_COLUMN),
						errmsg("column \"%s\" of table \"%s\", which names a row's home, is gone",
							   column, RelationGetRelationName(rel)),
						errhint("Put it back, or change the class with tide.class_create().")));
	type = getBaseType(TupleDescAttr(RelationGetDescr(rel), home->column - 1)->atttypid);
	home->is_text = type == TEXTOID || type == VARCHAROID;
	getTypeOutputInfo(type, &output, &varlena);
	fmgr_info_cxt(output, &home->output, flinfo->fn_mcxt);
	flinfo->fn_extra = home;
	return home;
}

/* The region's name in the caller's memory; NULL if there is none. */
static char *
home_of(Home *home, Relation rel, HeapTuple tuple)
{
	bool isnull;
	Datum value = heap_getattr(tuple, home->column, RelationGetDescr(rel), &isnull);

	if (isnull)
		return NULL;
	return home->is_text ? TextDatumGetCString(value) : OutputFunctionCall(&home->output, value);
}

/* The row with its home here. */
static HeapTuple
at_home(const Home *home, Relation rel, HeapTuple tuple)
{
	TupleDesc desc = RelationGetDescr(rel);
	Form_pg_attribute att = TupleDescAttr(desc, home->column - 1);
	int columns[] = {home->column};
	bool nulls[] = {false};
	Oid input;
	Oid param;
	Datum value;

	getTypeInputInfo(att->atttypid, &input, &param);
	value = OidInputFunctionCall(input, (char *) tide_stamp_region_name(), param, att->atttypmod);
	return heap_modify_tuple_by_cols(tuple, desc, 1, columns, &value, nulls);
}

static bool
is_here(const char *region)
{
	return strcmp(region, tide_stamp_region_name()) == 0;
}

/* A row that moved to a region that isn't there could never be written again. */
static void
check_known(Relation rel, const char *column, const char *region)
{
	Oid types[] = {TEXTOID};
	Datum values[] = {CStringGetTextDatum(region)};
	TideIdentity self;
	bool known;

	tide_act_as(tide_catalog_owner(), "pg_catalog, pg_temp", &self);
	SPI_connect();
	if (SPI_execute_with_args("SELECT 1 FROM tide.region r WHERE r.name OPERATOR(pg_catalog.=) $1",
							  1, types, values, NULL, true, 1) != SPI_OK_SELECT)
		elog(ERROR, "looking for region \"%s\" failed", region);
	known = SPI_processed > 0;
	SPI_finish();
	tide_act_as_self(&self);
	if (!known)
		ereport(
			ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg(
				 "region \"%s\" is not known here: no row of table \"%s\" can have its home there",
				 region, RelationGetRelationName(rel)),
			 errhint("Column \"%s\" takes this region's name and those that "
					 "tide.region_add() made known.",
					 column)));
}

/* ---- moving ---- */

static bool
is_moving(void)
{
	return moving.statement == GetCurrentStatementStartTimestamp() &&
		   moving.subxact == GetCurrentSubTransactionId();
}

static void
note_move(Relation rel, HeapTuple before, const char *region)
{
	moving.relid = RelationGetRelid(rel);
	moving.tid = before->t_self;
	moving.statement = GetCurrentStatementStartTimestamp();
	moving.subxact = GetCurrentSubTransactionId();
	moving.deleted = false;
	snprintf(moving.region, sizeof(moving.region), "%s", region);
}

static void
note_delete(Relation rel, HeapTuple row)
{
	moving.deleted = is_moving() && moving.relid == RelationGetRelid(rel) &&
					 ItemPointerEquals(&moving.tid, &row->t_self);
}

/* Is this the insert that ends a move?  There is one of each. */
static bool
ends_move(const char *region)
{
	bool ends = moving.deleted && is_moving() && strcmp(moving.region, region) == 0;

	moving.deleted = false;
	return ends;
}

/* ---- the check ---- */

/* The row to be written; one without a home gets it where it is written. */
static HeapTuple
check_home(FmgrInfo *flinfo, const TriggerData *trigger, const char *column)
{
	Relation rel = trigger->tg_relation;
	Home *home = find_home(flinfo, rel, column);
	HeapTuple row = trigger->tg_trigtuple; /* to be inserted; of an update the one before */
	char *region = home_of(home, rel, row);

	if (TRIGGER_FIRED_BY_INSERT(trigger->tg_event) && region != NULL && ends_move(region))
		return row;
	if (region != NULL && !is_here(region))
	{
		if (TRIGGER_FIRED_BY_INSERT(trigger->tg_event))
			check_known(rel, column, region);
		refuse_row(rel, column, region);
	}
	if (TRIGGER_FIRED_BY_DELETE(trigger->tg_event))
	{
		note_delete(rel, row);
		return row;
	}
	if (TRIGGER_FIRED_BY_UPDATE(trigger->tg_event))
	{
		row = trigger->tg_newtuple;
		region = home_of(home, rel, row);
	}
	if (region == NULL)
		return at_home(home, rel, row);
	if (!is_here(region))
	{
		check_known(rel, column, region);
		note_move(rel, trigger->tg_trigtuple, region);
	}
	return row;
}

/* ---- the trigger ---- */

static void
check_call(FunctionCallInfo fcinfo)
{
	const TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_BEFORE(trigger->tg_event) ||
		trigger->tg_trigger->tgnargs != 2 ||
		TRIGGER_FIRED_FOR_ROW(trigger->tg_event) == TRIGGER_FIRED_BY_TRUNCATE(trigger->tg_event))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("tide._scope_row() is the function of pg_tide's own triggers only"),
						errhint("tide.table_add() makes them.")));
}

/* tide._scope_row('primary', region) or ('home', column): BEFORE INSERT, UPDATE, DELETE of rows, and TRUNCATE. */
Datum
tide_sql_scope_row(PG_FUNCTION_ARGS)
{
	TriggerData *trigger;
	char **args;

	check_call(fcinfo);
	trigger = (TriggerData *) fcinfo->context;
	args = trigger->tg_trigger->tgargs;
	if (strcmp(args[0], "home") == 0)
	{
		if (TRIGGER_FIRED_BY_TRUNCATE(trigger->tg_event))
			refuse_truncate(trigger->tg_relation);
		PG_RETURN_POINTER(check_home(fcinfo->flinfo, trigger, args[1]));
	}
	if (!is_here(args[1]))
		refuse_table(trigger->tg_relation, args[1]);
	PG_RETURN_POINTER(TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) ? trigger->tg_newtuple
																 : trigger->tg_trigtuple);
}
