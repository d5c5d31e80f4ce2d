/*
 * apply_former.c
 *		Changes that waited while their table's key became another one, there and here.
 *
 * Owns: finding the row that is meant by the columns that were its key.  Does not own: whether
 * that is so (apply_relation.c), what is done with the row (apply_row.c).
 *
 * There is no index for that, so it is a query, which may use any.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "apply.h"
#include "pg_tide.h"
#include "compat.h"

static const char *
column_name(const TideTarget *target, AttrNumber attnum)
{
	return quote_identifier(get_attname(RelationGetRelid(target->rel), attnum, false));
}

/* SELECT our key FROM the table WHERE the former one.  Fills in types and values; their number. */
static int
make_query(TideTarget *target, const TideValue *values, StringInfo sql, Oid *types, Datum *args)
{
	TideMap *map = target->map;
	int n = 0;

	initStringInfo(sql);
	for (int i = 0; i < map->n_keys; i++)
		appendStringInfo(sql, "%s t.%s", i == 0 ? "SELECT" : ",",
						 column_name(target, map->keys[i]));
	appendStringInfo(sql, " FROM %s t",
					 quote_qualified_identifier(
						 get_namespace_name(RelationGetNamespace(target->rel)),
						 RelationGetRelationName(target->rel)));
	for (int i = 0; i < map->n_columns && n < INDEX_MAX_KEYS; i++)
	{
		TideMapColumn *column = &map->columns[i];

		if (!column->key || column->attnum == 0)
			continue;
		if (values[i].kind == 'n' || values[i].kind == 'u')
			tide_apply_malformed("a key");
		args[n] = tide_type_read(column, &values[i]);
		types[n] = column->type;
		appendStringInfo(sql, " %s t.%s = $%d", n == 0 ? "WHERE" : "AND",
						 column_name(target, column->attnum), n + 1);
		n++;
	}
	appendStringInfoString(sql, " LIMIT 2");
	return n;
}

/* The row that was found, as far as our key goes. */
static void
store_key(TideTarget *target, MemoryContext context)
{
	TupleTableSlot *slot = target->old;
	TupleDesc desc = slot->tts_tupleDescriptor;
	MemoryContext old = MemoryContextSwitchTo(context);

	ExecClearTuple(slot);
	memset(slot->tts_isnull, true, sizeof(bool) * desc->natts);
	for (int i = 0; i < target->map->n_keys; i++)
	{
		int at = target->map->keys[i] - 1;
		Form_pg_attribute attr = TupleDescAttr(desc, at);
		Datum value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, i + 1,
									&slot->tts_isnull[at]);

		if (!slot->tts_isnull[at])
			slot->tts_values[at] = datumCopy(value, attr->attbyval, attr->attlen);
	}
	ExecStoreVirtualTuple(slot);
	MemoryContextSwitchTo(old);
}

bool
tide_former_key(TideApply *apply, TideTarget *target, const TideValue *values)
{
	MemoryContext context = CurrentMemoryContext;
	Oid types[INDEX_MAX_KEYS];
	Datum args[INDEX_MAX_KEYS];
	StringInfoData sql;
	uint64 found;
	int n_args = make_query(target, values, &sql, types, args);

	if (n_args == 0)
		return false; /* a key that is gone names no row */
	tide_apply_act_as(apply, target->owner);
	SPI_connect();
	if (SPI_execute_with_args(sql.data, n_args, types, args, NULL, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "finding a row by its former key failed");
	found = SPI_processed;
	if (found == 1)
		store_key(target, context);
	SPI_finish();
	if (found > 1)
		ereport(ERROR, (errcode(ERRCODE_TIDE_SHAPE),
						errmsg("table \"%s\" has more than one row with the key that the row had "
							   "at its origin",
							   RelationGetRelationName(target->rel)),
						errhint("Delete those that are not meant, or give the change up: "
								"tide.pending_drop(id).")));
	return found > 0;
}
