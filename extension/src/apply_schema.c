/*
 * apply_schema.c
 *		What the stream says of the origin's schema: rows of its table tide.schema_log.
 *
 * Owns: recognizing and reading them, keeping shapes (tide.link_shape), stale columns of changes
 * that waited.  Does not own: statements (apply_ddl.c), what a shape is (78_schema.sql).
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "apply.h"
#include "inbox.h"
#include "pg_tide.h"
#include "compat.h"

PG_FUNCTION_INFO_V1(tide_sql_column_differs);

#define LOG_TABLE "schema_log"

static bool
is_named(TideStr str, const char *name)
{
	return str.len == strlen(name) && memcmp(str.data, name, str.len) == 0;
}

bool
tide_schema_is_log(const TideRelation *description)
{
	return is_named(description->schema, TIDE_SCHEMA) && is_named(description->name, LOG_TABLE);
}

/* Which of the relation's columns is called so; -1: none. */
static int
column_of(const TideRelation *description, const char *name)
{
	TideCursor columns = description->columns;
	TideColumn column;

	for (int i = 0; i < description->n_columns && tide_read_column(&columns, &column); i++)
	{
		if (is_named(column.name, name))
			return i;
	}
	return -1;
}

/* A column of type text, in this server's encoding. */
static char *
text_of(const TideRelation *description, const TideValue *values, const char *name)
{
	int n = column_of(description, name);
	TideStr text;

	if (n < 0 || (values[n].kind != 'b' && values[n].kind != 't') ||
		memchr(values[n].data, 0, values[n].len) != NULL)
		tide_apply_malformed("an entry of the schema's log");
	text = (TideStr){.data = (const char *) values[n].data, .len = values[n].len};
	return tide_local_name(text);
}

void
tide_schema_read(TideCursor relation, TideCursor payload, TideSchemaEntry *entry)
{
	TideRelation description;
	TideValue *values;

	if (!tide_read_relation(relation, &description))
		tide_apply_malformed("a relation's description");
	values = palloc0(sizeof(TideValue) * Max(description.n_columns, 1));
	if (tide_read_tuple(&payload, values, description.n_columns) != description.n_columns)
		tide_apply_malformed("an entry of the schema's log");
	entry->kind = text_of(&description, values, "kind");
	entry->body = text_of(&description, values, "body");
}

/* ---- shapes ---- */

static void
note_shape(TideApply *apply, void *arg)
{
	const TideSchemaEntry *entry = arg;
	Oid types[] = {INT4OID, TEXTOID};
	Datum values[] = {Int32GetDatum(apply->link->id), CStringGetTextDatum(entry->body)};
	TideIdentity self;

	tide_act_as(tide_catalog_owner(), "pg_catalog, pg_temp", &self);
	SPI_connect();
	(void) SPI_execute_with_args("SELECT tide._link_shape_note($1, $2::jsonb)", lengthof(types),
								 types, values, NULL, false, 1);
	SPI_finish();
	tide_act_as_self(&self);
}

/* A shape that can't be kept is no reason to stop: the relay asks for all of them, too. */
static void
keep_shape(TideApply *apply, TideSchemaEntry *entry)
{
	ErrorData *error = tide_attempt(apply, note_shape, entry);

	if (error == NULL)
		return;
	ereport(LOG, (errmsg("pg_tide: a table's shape from region \"%s\" is of no use: %s",
						 apply->link->region, tide_reason(error))));
	FreeErrorData(error);
}

void
tide_schema_apply(TideApply *apply, const TideFrameRelation *relation, const TideChange *change)
{
	TideSchemaEntry entry;

	if (change->type != 'I')
		return; /* nothing else is published of it */
	tide_schema_read(relation->record, change->payload, &entry);
	if (strcmp(entry.kind, "shape") == 0)
		keep_shape(apply, &entry);
	else if (strcmp(entry.kind, "ddl") == 0)
		tide_ddl_apply(apply, relation, change, &entry);
}

/* Asks about a column of a relation that is being mapped; the answer as text, or NULL. */
static char *
ask_column(const TideApply *apply, Relation rel, const char *sql, const char *column, Oid type,
		   int32 typmod)
{
	MemoryContext context = CurrentMemoryContext;
	Oid types[] = {INT4OID, TEXTOID, TEXTOID, TEXTOID, OIDOID, INT4OID};
	Datum values[] = {Int32GetDatum(apply->link->id),
					  CStringGetTextDatum(get_namespace_name(RelationGetNamespace(rel))),
					  CStringGetTextDatum(RelationGetRelationName(rel)),
					  CStringGetTextDatum(column),
					  ObjectIdGetDatum(type),
					  Int32GetDatum(typmod)};
	TideIdentity self;
	char *answer = NULL;

	tide_act_as(tide_catalog_owner(), "pg_catalog, pg_temp", &self);
	SPI_connect();
	if (SPI_execute_with_args(sql, lengthof(types), types, values, NULL, false, 1) ==
			SPI_OK_SELECT &&
		SPI_processed == 1)
		answer = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	if (answer != NULL)
		answer = MemoryContextStrdup(context, answer);
	SPI_finish();
	tide_act_as_self(&self);
	return answer;
}

char *
tide_schema_column_now(const TideApply *apply, Relation rel, const char *column)
{
	return ask_column(apply, rel,
					  "SELECT tide._link_column_now($1, $2, $3, $4) WHERE $5 = 0 AND $6 = 0",
					  column, InvalidOid, 0);
}

bool
tide_schema_column_fits(const TideApply *apply, Relation rel, const char *column, Oid type,
						int32 typmod)
{
	const char *answer = ask_column(
		apply, rel, "SELECT tide._link_column_fits($1, $2, $3, $4, $5, $6)", column, type, typmod);

	return answer != NULL && answer[0] == 't';
}

bool
tide_schema_key_same(const TideApply *apply, Relation rel, bool unknown)
{
	const char *answer = ask_column(
		apply, rel,
		"SELECT tide._link_key_same($1, $2, $3, $5) WHERE $4 = '' AND $6 = 0", "",
		RelationGetRelid(rel), 0);

	return answer == NULL ? unknown : answer[0] == 't';
}

/* ---- comparing ---- */

/*
 * _column_differs(type oid, typmod int, type_schema text, type_name text, local oid,
 * local_typmod int) -> text
 */
Datum
tide_sql_column_differs(PG_FUNCTION_ARGS)
{
	char *schema = text_to_cstring(PG_GETARG_TEXT_PP(2));
	char *name = text_to_cstring(PG_GETARG_TEXT_PP(3));
	TideColumn remote = {.type = PG_GETARG_OID(0),
						 .typmod = PG_GETARG_INT32(1),
						 .type_schema = {.data = schema, .len = strlen(schema)},
						 .type_name = {.data = name, .len = strlen(name)}};
	const char *why = tide_type_differs(&remote, PG_GETARG_OID(4), PG_GETARG_INT32(5));

	if (why == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(why));
}
