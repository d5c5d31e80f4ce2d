/*
 * copy_in.c
 *		A table's first copy: making room for it, and storing COPY data.
 *
 * Owns: copy_begin (shape, rights, rows of an earlier copy) and copy_in.  Does not
 * own: reading the rows and the transaction around (relay/src/link_copy.c), merging
 * them with rows that are here (copy_merge, apply.c), what is remembered of the
 * copy (tide.link_table, extension/sql/77_copy.sql).
 *
 * The relay's session may write a table only through here and tide.apply: everything
 * that runs code of the table's owner (triggers, defaults, index expressions) runs as
 * the owner, in a security-restricted operation.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "commands/copy.h"
#include "commands/defrem.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "parser/parse_node.h"
#include "parser/parse_relation.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "apply.h"
#include "inbox.h"
#include "pg_tide.h"
#include "compat.h"

/* COPY's binary form: signature, flags, no extension; and its end. */
static const char binary_header[] = "PGCOPY\n\377\r\n\0\0\0\0\0\0\0\0\0";
#define BINARY_HEADER_LEN 19
static const char binary_trailer[] = "\377\377";
#define BINARY_TRAILER_LEN 2

/* What the server's COPY reads; it takes a function without an argument, hence a static. */
typedef struct CopyPart
{
	const char *data;
	size_t len;
} CopyPart;

static CopyPart parts[3];

static int
read_parts(void *out, int min_read, int max_read)
{
	size_t done = 0;

	for (int i = 0; i < (int) lengthof(parts) && done < (size_t) max_read; i++)
	{
		size_t take = Min(parts[i].len, (size_t) max_read - done);

		memcpy((char *) out + done, parts[i].data, take);
		parts[i].data += take;
		parts[i].len -= take;
		done += take;
	}
	return (int) done;
}

/* ---- the table ---- */

/* Opens it for writing, if the caller may write it and it is replicated here. */
static Relation
open_target(text *schema, text *name, AclMode rights)
{
	char *schema_name = text_to_cstring(schema);
	char *table_name = text_to_cstring(name);
	Oid namespace = get_namespace_oid(schema_name, true);
	Oid relid = OidIsValid(namespace) ? get_relname_relid(table_name, namespace) : InvalidOid;
	TideApply caller = {.caller = GetUserId()};
	Relation rel;

	if (!OidIsValid(relid))
		ereport(ERROR, (errcode(ERRCODE_TIDE_SHAPE),
						errmsg("table \"%s.%s\" does not exist here", schema_name, table_name),
						errhint("Create it, and add it with tide.table_add().")));
	rel = table_open(relid, RowExclusiveLock);
	if (rel->rd_rel->relkind != RELKIND_RELATION &&
		rel->rd_rel->relkind != RELKIND_PARTITIONED_TABLE)
		ereport(ERROR, (errcode(ERRCODE_TIDE_SHAPE),
						errmsg("\"%s.%s\" is not a table here", schema_name, table_name),
						errhint("Rows are copied into tables only.")));
	tide_map_check_rights(&caller, rel, rights);
	return rel;
}

/* From here to tide_act_as_self(): as the table's owner, with its ordinary triggers silent. */
static void
act_as_table_owner(Relation rel, TideIdentity *self)
{
	Oid user;
	int context;

	tide_act_as(rel->rd_rel->relowner, "pg_catalog, pg_temp", self);
	GetUserIdAndSecContext(&user, &context);
	SetUserIdAndSecContext(user, context | SECURITY_RESTRICTED_OPERATION);
	(void) set_config_option("session_replication_role", "replica", PGC_SUSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
}

/* ---- copy_begin ---- */

/* Is it added here, and does every column exist with the same kind of values? */
static const char shape_query[] =
	"SELECT CASE WHEN c.name IS NULL THEN 'the table is not added here'"
	"            WHEN a.attnum IS NULL THEN pg_catalog.format('column \"%s\" does not exist here', c.name)"
	"            WHEN a.attgenerated <> '' THEN pg_catalog.format('column \"%s\" is generated here', c.name)"
	"            ELSE pg_catalog.format('column \"%s\" is %s here and %s there', c.name,"
	"                                   pg_catalog.format_type(a.atttypid, a.atttypmod), c.type) END"
	"  FROM (SELECT u.name, u.type FROM pg_catalog.unnest($2, $3) u(name, type)"
	"        UNION ALL SELECT NULL, NULL"
	"         WHERE NOT EXISTS (SELECT FROM tide.replicated_table t WHERE t.relid = $1)) c"
	"  LEFT JOIN pg_catalog.pg_attribute a"
	"    ON a.attrelid = $1 AND a.attname = c.name AND a.attnum > 0 AND NOT a.attisdropped"
	" WHERE a.attnum IS NULL OR a.attgenerated <> ''"
	"    OR tide._type_family(pg_catalog.format_type(a.atttypid, NULL)) <> tide._type_family(c.type)"
	" LIMIT 1";

static void
check_shape(Relation rel, Datum columns, Datum types)
{
	Oid arg_types[] = {REGCLASSOID, TEXTARRAYOID, TEXTARRAYOID};
	Datum args[] = {ObjectIdGetDatum(RelationGetRelid(rel)), columns, types};
	TideIdentity self;

	tide_act_as(tide_catalog_owner(), "pg_catalog, pg_temp", &self);
	SPI_connect();
	if (SPI_execute_with_args(shape_query, 3, arg_types, args, NULL, true, 1) != SPI_OK_SELECT)
		elog(ERROR, "the shape of \"%s\" could not be looked up", RelationGetRelationName(rel));
	if (SPI_processed > 0)
		ereport(
			ERROR,
			(errcode(ERRCODE_TIDE_SHAPE),
			 errmsg("table \"%s.%s\" can't take the copy: %s",
					get_namespace_name(RelationGetNamespace(rel)), RelationGetRelationName(rel),
					SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1)),
			 errhint(
				 "Make the tables alike, or add it with tide.table_add(); the copy begins again.")));
	SPI_finish();
	tide_act_as_self(&self);
}

static const char *
qualified_name(Relation rel)
{
	return quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)),
									  RelationGetRelationName(rel));
}

static bool
has_rows(Relation rel)
{
	char *sql = psprintf("SELECT FROM %s LIMIT 1", qualified_name(rel));

	if (SPI_execute(sql, false, 1) != SPI_OK_SELECT)
		elog(ERROR, "\"%s\" could not be read", RelationGetRelationName(rel));
	return SPI_processed > 0;
}

/* What came from there before comes again.  Rows that others wrote last stay. */
static void
delete_earlier(Relation rel, uint32 sender)
{
	char *sql = psprintf("DELETE FROM %s WHERE tide.stamp_origin(tide_stamp) = %u::bigint",
						 qualified_name(rel), sender);

	if (SPI_execute(sql, false, 0) != SPI_OK_DELETE)
		elog(ERROR, "rows of \"%s\" could not be deleted", RelationGetRelationName(rel));
}

PG_FUNCTION_INFO_V1(tide_sql_copy_begin);

/* (pipeline, epoch, schema_name, table_name, snapshot_lsn, columns text[], types text[]) -> text */
Datum
tide_sql_copy_begin(PG_FUNCTION_ARGS)
{
	const TideApplyLink *link = tide_link_share(PG_GETARG_TEXT_PP(0), PG_GETARG_INT64(1));
	uint32 sender = link->sender;
	TideIdentity self;
	Relation rel;
	bool empty;

	tide_session_begin_copy();
	rel = open_target(PG_GETARG_TEXT_PP(2), PG_GETARG_TEXT_PP(3),
					  ACL_SELECT | ACL_INSERT | ACL_UPDATE | ACL_DELETE);
	check_shape(rel, PG_GETARG_DATUM(5), PG_GETARG_DATUM(6));

	act_as_table_owner(rel, &self);
	SPI_connect();
	empty = !has_rows(rel);
	if (!empty)
	{
		delete_earlier(rel, sender);
		empty = !has_rows(rel);
	}
	SPI_finish();
	tide_act_as_self(&self);
	table_close(rel, NoLock);
	PG_RETURN_TEXT_P(cstring_to_text(empty ? "empty" : "merge"));
}

/* ---- copy_in ---- */

static List *
column_names(ArrayType *columns)
{
	List *names = NIL;
	Datum *values;
	int n;

	deconstruct_array(columns, TEXTOID, -1, false, TYPALIGN_INT, &values, NULL, &n);
	for (int i = 0; i < n; i++)
		names = lappend(names, makeString(TextDatumGetCString(values[i])));
	return names;
}

static void
set_parts(const bytea *data, bool binary)
{
	parts[0] = (CopyPart){binary_header, binary ? BINARY_HEADER_LEN : 0};
	parts[1] = (CopyPart){VARDATA_ANY(data), VARSIZE_ANY_EXHDR(data)};
	parts[2] = (CopyPart){binary_trailer, binary ? BINARY_TRAILER_LEN : 0};
}

static uint64
copy_rows(Relation rel, ArrayType *columns, char *format)
{
	ParseState *pstate = make_parsestate(NULL);
	List *options = list_make1(makeDefElem("format", (Node *) makeString(format), -1));
	CopyFromState state;
	uint64 rows;

	(void) addRangeTableEntryForRelation(pstate, rel, RowExclusiveLock, NULL, false, false);
	state = BeginCopyFrom(pstate, rel, NULL, NULL, false, read_parts, column_names(columns),
						  options);
	rows = CopyFrom(state);
	EndCopyFrom(state);
	free_parsestate(pstate);
	return rows;
}

PG_FUNCTION_INFO_V1(tide_sql_copy_in);

/* (pipeline, epoch, schema_name, table_name, columns text[], format text, data bytea) -> bigint */
Datum
tide_sql_copy_in(PG_FUNCTION_ARGS)
{
	ArrayType *columns = PG_GETARG_ARRAYTYPE_P(4);
	char *format = text_to_cstring(PG_GETARG_TEXT_PP(5));
	bytea *data = PG_GETARG_BYTEA_PP(6);
	TideIdentity self;
	Relation rel;
	uint64 rows;

	(void) tide_link_share(PG_GETARG_TEXT_PP(0), PG_GETARG_INT64(1));
	if (strcmp(format, "binary") != 0 && strcmp(format, "text") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("format \"%s\" is not known", format), errhint("Use binary or text.")));
	tide_session_begin_copy();
	rel = open_target(PG_GETARG_TEXT_PP(2), PG_GETARG_TEXT_PP(3), ACL_INSERT);

	act_as_table_owner(rel, &self);
	set_parts(data, format[0] == 'b');
	rows = copy_rows(rel, columns, format);
	tide_act_as_self(&self);
	table_close(rel, NoLock);
	PG_RETURN_INT64((int64) rows);
}
