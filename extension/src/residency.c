/*
 * residency.c
 *		What SQL can't do for residency: reading a predicate, removing rows that must not be here.
 *
 * Owns: the check that a predicate is one expression, writing as a table's owner, writing that stays in this region.
 * Does not own: what may be where (73_residency.sql), which rows go (78_residency.sql), rows that are handed over
 * (residency_leaving.c).
 *
 * A predicate is put between parentheses in a statement that runs as the extension's owner.  So it must be
 * an expression by itself, before it gets there; what may be in it, the server checks.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "parser/parser.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "apply.h"
#include "pg_tide.h"
#include "compat.h"

PG_FUNCTION_INFO_V1(tide_sql_check_predicate);
PG_FUNCTION_INFO_V1(tide_sql_residency_begin);
PG_FUNCTION_INFO_V1(tide_sql_residency_write);

/* ---- predicates ---- */

/* Nothing of a SELECT but one value. */
static bool
is_one_value(const SelectStmt *select)
{
	ResTarget *target;

	if (list_length(select->targetList) != 1 || select->op != SETOP_NONE ||
		select->distinctClause != NIL || select->fromClause != NIL || select->whereClause != NULL ||
		select->groupClause != NIL || select->havingClause != NULL || select->windowClause != NIL ||
		select->sortClause != NIL || select->limitOffset != NULL || select->limitCount != NULL ||
		select->lockingClause != NIL || select->withClause != NULL || select->valuesLists != NIL)
		return false;
	target = linitial_node(ResTarget, select->targetList);
	if (IsA(target->val, ColumnRef) && IsA(llast(castNode(ColumnRef, target->val)->fields), A_Star))
		return false;
	return target->name == NULL && target->indirection == NIL;
}

/* _check_predicate(predicate text) */
Datum
tide_sql_check_predicate(PG_FUNCTION_ARGS)
{
	char *predicate;
	List *parsed;
	Node *statement;

	if (PG_ARGISNULL(0))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("the predicate must not be null")));
	predicate = text_to_cstring(PG_GETARG_TEXT_PP(0));
	parsed = raw_parser(predicate, RAW_PARSE_PLPGSQL_EXPR);
	statement = list_length(parsed) == 1 ? linitial_node(RawStmt, parsed)->stmt : NULL;
	if (statement == NULL || !IsA(statement, SelectStmt) ||
		!is_one_value(castNode(SelectStmt, statement)))
		ereport(ERROR,
				(errcode(ERRCODE_SYNTAX_ERROR), errmsg("\"%s\" is not one expression", predicate),
				 errhint("Write what could stand behind WHERE, such as \"country = 'de'\".")));
	PG_RETURN_VOID();
}

/* ---- removing ---- */

/*
 * _residency_begin(): from here on the transaction's changes stay here.  All of them, so it must have
 * none of its own.
 */
Datum
tide_sql_residency_begin(PG_FUNCTION_ARGS)
{
	if (IsTransactionBlock() || TransactionIdIsValid(GetTopTransactionIdIfAny()))
		ereport(
			ERROR,
			(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
			 errmsg("rows are removed for residency in a transaction of their own only"),
			 errdetail("Nothing that this transaction writes would go to other regions."),
			 errhint("Call tide.residency_purge() by itself, outside of a transaction block.")));
	tide_session_begin_local();
	PG_RETURN_VOID();
}

uint64
tide_write_as_owner(Relation rel, TideOwnerWork work, const void *arg)
{
	volatile int saved_role = SessionReplicationRole;
	uint64 rows = 0;
	Oid user;
	int sec_context;

	GetUserIdAndSecContext(&user, &sec_context);
	PG_TRY();
	{
		/* Defaults and triggers that it comes upon are the owner's code. */
		SessionReplicationRole = SESSION_REPLICATION_ROLE_REPLICA;
		SetUserIdAndSecContext(rel->rd_rel->relowner, sec_context | SECURITY_RESTRICTED_OPERATION |
														  SECURITY_LOCAL_USERID_CHANGE);
		rows = work(rel, arg);
	}
	PG_FINALLY();
	{
		SessionReplicationRole = saved_role;
	}
	PG_END_TRY();
	SetUserIdAndSecContext(user, sec_context);
	return rows;
}

typedef struct Statement
{
	const char *text;
	Datum ctids;
} Statement;

static uint64
run_statement(Relation rel, const void *arg)
{
	const Statement *statement = arg;
	Oid types[] = {get_array_type(TIDOID)};
	Datum ctids = statement->ctids;
	int rc = SPI_execute_with_args(statement->text, 1, types, &ctids, NULL, false, 0);

	if (rc != SPI_OK_DELETE && rc != SPI_OK_UPDATE)
		elog(ERROR, "SPI_execute_with_args failed: %s", SPI_result_code_string(rc));
	return SPI_processed;
}

/*
 * _residency_write(rel regclass, statement text, ctids tid[]): a DELETE or UPDATE of those rows, which
 * the caller has locked.
 */
Datum
tide_sql_residency_write(PG_FUNCTION_ARGS)
{
	Relation rel = table_open(PG_GETARG_OID(0), RowExclusiveLock);
	Statement statement = {text_to_cstring(PG_GETARG_TEXT_PP(1)), PG_GETARG_DATUM(2)};
	uint64 rows;

	SPI_connect();
	rows = tide_write_as_owner(rel, run_statement, &statement);
	SPI_finish();
	table_close(rel, NoLock);
	PG_RETURN_INT64((int64) rows);
}
