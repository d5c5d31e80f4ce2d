/*
 * ddl.c
 *		tide.ddl(): a statement that changes the schema, here and in the other regions.
 *
 * Owns: which statements may travel, running one here and writing it into the schema's log.  Does
 * not own: running it elsewhere (apply_ddl.c), how the log travels (78_schema.sql).
 *
 * The statement runs with the caller's rights, in the caller's transaction.  The log belongs to
 * the extension's owner and is written only here: so the role that it names is the one that called.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "parser/parser.h"
#include "tcop/cmdtag.h"
#include "tcop/tcopprot.h"
#include "tcop/utility.h"
#include "utils/builtins.h"

#include "ddl.h"
#include "inbox.h"
#include "pg_tide.h"
#include "compat.h"

PG_FUNCTION_INFO_V1(tide_sql_ddl);

/* What may travel: objects of schemas, no code, no rights, no data. */
static const CommandTag allowed[] = {
	CMDTAG_ALTER_DOMAIN,	 CMDTAG_ALTER_INDEX,   CMDTAG_ALTER_SCHEMA, CMDTAG_ALTER_SEQUENCE,
	CMDTAG_ALTER_STATISTICS, CMDTAG_ALTER_TABLE,   CMDTAG_ALTER_TYPE,	CMDTAG_ALTER_VIEW,
	CMDTAG_COMMENT,			 CMDTAG_CREATE_DOMAIN, CMDTAG_CREATE_INDEX, CMDTAG_CREATE_SCHEMA,
	CMDTAG_CREATE_SEQUENCE,	 CMDTAG_CREATE_TABLE,  CMDTAG_CREATE_TYPE,	CMDTAG_CREATE_VIEW,
	CMDTAG_DROP_DOMAIN,		 CMDTAG_DROP_INDEX,	   CMDTAG_DROP_SCHEMA,	CMDTAG_DROP_SEQUENCE,
	CMDTAG_DROP_STATISTICS,	 CMDTAG_DROP_TABLE,	   CMDTAG_DROP_TYPE,	CMDTAG_DROP_VIEW,
	CMDTAG_CREATE_STATISTICS};

static bool
is_allowed(CommandTag tag)
{
	for (int i = 0; i < (int) lengthof(allowed); i++)
	{
		if (allowed[i] == tag)
			return true;
	}
	return false;
}

static void
refuse(const char *what, const char *hint)
{
	ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("%s cannot travel", what),
					errhint("%s", hint)));
}

static bool
is_temporary(const Node *statement)
{
	switch (nodeTag(statement))
	{
		case T_CreateStmt:
			return ((const CreateStmt *) statement)->relation->relpersistence ==
				   RELPERSISTENCE_TEMP;
		case T_CreateSeqStmt:
			return ((const CreateSeqStmt *) statement)->sequence->relpersistence ==
				   RELPERSISTENCE_TEMP;
		case T_ViewStmt:
			return ((const ViewStmt *) statement)->view->relpersistence == RELPERSISTENCE_TEMP;
		default:
			return false;
	}
}

static bool
is_concurrent(const Node *statement)
{
	return (IsA(statement, IndexStmt) && ((const IndexStmt *) statement)->concurrent) ||
		   (IsA(statement, DropStmt) && ((const DropStmt *) statement)->concurrent);
}

static void
check_statement(Node *statement)
{
	CommandTag tag = CreateCommandTag(statement);

	if (!is_allowed(tag) || IsA(statement, DefineStmt))
		refuse(
			GetCommandTagName(tag),
			"tide.ddl() takes statements that create, alter, comment on or drop tables, indexes, "
			"views, sequences, types, domains, statistics and schemas. Run others in each region.");
	if (is_concurrent(statement))
		refuse("an index that is made or dropped CONCURRENTLY",
			   "That can't be done in a transaction: run it in each region.");
	if (is_temporary(statement))
		refuse("a temporary object", "It would be gone at once elsewhere.");
	if (IsA(statement, CreateSchemaStmt) && ((CreateSchemaStmt *) statement)->schemaElts != NIL)
		refuse("CREATE SCHEMA with elements", "Create them by statements of their own.");
}

List *
tide_ddl_parse(const char *sql)
{
	List *statements = raw_parser(sql, RAW_PARSE_DEFAULT);
	ListCell *cell;

	if (statements == NIL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("there is no statement"),
						errhint("Pass one, such as 'ALTER TABLE orders ADD COLUMN note text'.")));
	foreach (cell, statements)
		check_statement(lfirst_node(RawStmt, cell)->stmt);
	return statements;
}

char *
tide_ddl_text(const char *sql, const RawStmt *statement)
{
	const char *begin = sql + Max(statement->stmt_location, 0);

	return statement->stmt_len > 0 ? pnstrdup(begin, statement->stmt_len) : pstrdup(begin);
}

void
tide_ddl_execute(const char *statement)
{
	int rc = SPI_execute(statement, false, 0);

	if (rc < 0)
		elog(ERROR, "SPI_execute failed: %s", SPI_result_code_string(rc));
}

/* Before it runs: so elsewhere, too, it comes before what it makes happen. */
static void
write_log(FunctionCallInfo fcinfo, const char *sql)
{
	Oid types[] = {TEXTOID, TEXTOID, TEXTOID};
	Datum values[] = {CStringGetTextDatum(GetUserNameFromId(GetUserId(), false)),
					  CStringGetTextDatum(namespace_search_path), CStringGetTextDatum(sql)};
	TideIdentity self;

	tide_act_as_owner(fcinfo, &self);
	if (SPI_execute_with_args("SELECT tide._ddl_log($1, $2, $3)", lengthof(types), types, values,
							  NULL, false, 1) != SPI_OK_SELECT)
		elog(ERROR, "writing the schema's log failed");
	tide_act_as_self(&self);
}

/* ddl(sql text) */
Datum
tide_sql_ddl(PG_FUNCTION_ARGS)
{
	char *sql;
	List *statements;
	ListCell *cell;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("the statement must not be null"),
				 errhint("Pass one, such as 'ALTER TABLE orders ADD COLUMN note text'.")));
	sql = text_to_cstring(PG_GETARG_TEXT_PP(0));
	statements = tide_ddl_parse(sql);
	SPI_connect();
	write_log(fcinfo, sql);
	foreach (cell, statements)
		tide_ddl_execute(tide_ddl_text(sql, lfirst_node(RawStmt, cell)));
	SPI_finish();
	PG_RETURN_VOID();
}
