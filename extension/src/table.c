/*
 * table.c
 *		Adding tables to replication and taking them off: who asks, and as whom it is done.
 *
 * Owns: telling the SQL functions behind (75_table.sql), which run as the
 * extension's owner, who the caller is: they check that the table is that role's.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"

#include "inbox.h"
#include "pg_tide.h"
#include "compat.h"

#define MAX_ARGS 4

PG_FUNCTION_INFO_V1(tide_sql_table_add);
PG_FUNCTION_INFO_V1(tide_sql_table_remove);

/* Runs the statement with the function's own n arguments and, last, the caller's role. */
static void
run_as_owner(FunctionCallInfo fcinfo, const char *statement, int n, const Oid *own_types)
{
	Oid types[MAX_ARGS];
	Datum values[MAX_ARGS];
	char nulls[MAX_ARGS];
	TideIdentity self;
	int rc;

	for (int i = 0; i < n; i++)
	{
		types[i] = own_types[i];
		values[i] = PG_GETARG_DATUM(i);
		nulls[i] = PG_ARGISNULL(i) ? 'n' : ' ';
	}
	types[n] = OIDOID;
	values[n] = ObjectIdGetDatum(GetUserId());
	nulls[n] = ' ';

	SPI_connect();
	tide_act_as_owner(fcinfo, &self);
	rc = SPI_execute_with_args(statement, n + 1, types, values, nulls, false, 0);
	if (rc != SPI_OK_SELECT)
		elog(ERROR, "SPI_execute_with_args failed: %s", SPI_result_code_string(rc));
	tide_act_as_self(&self);
	SPI_finish();
}

/* table_add(tbl regclass, class text, options jsonb) */
Datum
tide_sql_table_add(PG_FUNCTION_ARGS)
{
	static const Oid types[] = {REGCLASSOID, TEXTOID, JSONBOID};

	run_as_owner(fcinfo, "SELECT tide._table_add($1, $2, $3, $4)", lengthof(types), types);
	PG_RETURN_VOID();
}

/* table_remove(tbl regclass, drop_column boolean) */
Datum
tide_sql_table_remove(PG_FUNCTION_ARGS)
{
	static const Oid types[] = {REGCLASSOID, BOOLOID};

	run_as_owner(fcinfo, "SELECT tide._table_remove($1, $2, $3)", lengthof(types), types);
	PG_RETURN_VOID();
}
