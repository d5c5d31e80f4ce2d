/*
 * apply_park.c
 *		Changes that could not be applied, and those that wait behind them.
 *
 * Owns: attempts (a subtransaction whose failure is kept), tide.parked_change, what a
 * backend remembers of it, retrying.  Does not own: when a change is parked
 * (apply_records.c), how its key is written (apply_key.c).
 *
 * While nothing is parked for a link that costs nothing: a backend remembers which
 * keys are, for the link and epoch it works with, and is told when somebody else changes
 * that.  Nobody does so while it applies: applying, retrying and dropping all
 * hold the link's lock.  A table copy only adds, and says so.
 *
 * A key that is NULL stands for the whole table.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/pg_lsn.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#include "apply.h"
#include "inbox.h"
#include "pg_tide.h"
#include "compat.h"

/* ---- attempts ---- */

/* May a change that failed so be put aside, or is it worth trying again as it is? */
static bool
is_of_the_data(int code)
{
	switch (ERRCODE_TO_CATEGORY(code))
	{
		case ERRCODE_CONNECTION_EXCEPTION:
			return code ==
				   ERRCODE_PROTOCOL_VIOLATION; /* how functions of types say that a value is short */
		case ERRCODE_INVALID_TRANSACTION_STATE: /* a read-only server, say */
		case ERRCODE_TRANSACTION_ROLLBACK:
		case ERRCODE_INSUFFICIENT_RESOURCES:
		case ERRCODE_OPERATOR_INTERVENTION:
		case ERRCODE_SYSTEM_ERROR:
			return false;
		default:
			return code != ERRCODE_LOCK_NOT_AVAILABLE && code != ERRCODE_TIDE_DAMAGED_FRAME;
	}
}

static void
begin_attempt(TideApply *apply)
{
	tide_targets_close(apply);
	tide_apply_forget_targets(apply);
	tide_apply_act_as(apply, InvalidOid);
	apply->target_context = AllocSetContextCreate(apply->context, "pg_tide attempt",
												  ALLOCSET_DEFAULT_SIZES);
}

/* outer: of an attempt that this one is a part of, or of the call. */
static void
end_attempt(TideApply *apply, MemoryContext outer)
{
	tide_apply_forget_targets(apply);
	apply->operation = NULL;
	MemoryContextReset(apply->row_context);
	MemoryContextDelete(apply->target_context);
	apply->target_context = outer;
}

ErrorData *
tide_attempt(TideApply *apply, void (*work)(TideApply *apply, void *arg), void *arg)
{
	MemoryContext context = CurrentMemoryContext;
	MemoryContext targets = apply->target_context;
	ResourceOwner owner = CurrentResourceOwner;
	TideCounts counts = apply->counts;
	ErrorData *volatile error = NULL;

	begin_attempt(apply);
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		work(apply, arg);
		tide_targets_close(apply);
		tide_apply_act_as(apply, InvalidOid);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(apply->context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		apply->acting = InvalidOid; /* as the abort has set it */
		apply->counts = counts;
		tide_parked_undone(apply);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	end_attempt(apply, targets);
	if (error != NULL && !is_of_the_data(error->sqlerrcode))
		ReThrowError(error);
	return error;
}

const char *
tide_reason(const ErrorData *error)
{
	const char *message = error->message == NULL ? "unknown error" : error->message;

	if (error->detail == NULL)
		return message;
	return psprintf("%s (%s)", message, error->detail);
}

/* ---- what is parked ---- */

typedef struct ParkedName
{
	NameData schema;
	NameData table;
} ParkedName;

struct TideParkedTable
{
	ParkedName name; /* hash key */
	bool whole;
	HTAB *keys; /* of char *; NULL: none */
};

static struct
{
	bool valid;
	bool changed; /* by this transaction */
	int link_id;
	int64 epoch;
	Oid relid;
	int n;
	MemoryContext context;
	HTAB *tables;
} parked;

static uint32
hash_key(const void *key, Size size)
{
	const char *text = *(const char *const *) key;

	return hash_bytes((const unsigned char *) text, strlen(text));
}

static int
compare_keys(const void *a, const void *b, Size size)
{
	return strcmp(*(const char *const *) a, *(const char *const *) b);
}

static void
parked_elsewhere(Datum arg, Oid relid)
{
	if (!OidIsValid(relid) || relid == parked.relid)
		parked.valid = false;
}

void
tide_parked_transaction_end(bool committed)
{
	if (parked.changed && !committed)
		parked.valid = false;
	parked.changed = false;
}

static void
remember_parked(const char *schema, const char *table, const char *key)
{
	ParkedName name = {0};
	TideParkedTable *entry;
	MemoryContext old = MemoryContextSwitchTo(parked.context);
	bool found;

	namestrcpy(&name.schema, schema);
	namestrcpy(&name.table, table);
	entry = hash_search(parked.tables, &name, HASH_ENTER, &found);
	if (!found)
	{
		entry->whole = false;
		entry->keys = NULL;
	}
	if (key == NULL)
		entry->whole = true;
	else
	{
		if (entry->keys == NULL)
		{
			HASHCTL ctl = {.keysize = sizeof(char *),
						   .entrysize = sizeof(char *),
						   .hash = hash_key,
						   .match = compare_keys,
						   .hcxt = parked.context};

			entry->keys = hash_create("pg_tide parked keys", 64, &ctl,
									  HASH_ELEM | HASH_FUNCTION | HASH_COMPARE | HASH_CONTEXT);
		}
		if (hash_search(entry->keys, &key, HASH_FIND, NULL) == NULL)
		{
			key = pstrdup(key);
			(void) hash_search(entry->keys, &key, HASH_ENTER, NULL);
		}
	}
	parked.n++;
	MemoryContextSwitchTo(old);
}

static void
empty_memory(void)
{
	HASHCTL ctl = {.keysize = sizeof(ParkedName), .entrysize = sizeof(TideParkedTable)};

	if (parked.context == NULL)
	{
		parked.context = AllocSetContextCreate(TopMemoryContext, "pg_tide parked",
											   ALLOCSET_SMALL_SIZES);
		CacheRegisterRelcacheCallback(parked_elsewhere, (Datum) 0);
	}
	MemoryContextReset(parked.context);
	ctl.hcxt = parked.context;
	parked.tables = hash_create("pg_tide parked", 16, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	parked.n = 0;
}

static void
read_parked(const TideApplyLink *link)
{
	Oid types[] = {INT4OID};
	Datum values[] = {Int32GetDatum(link->id)};
	TideIdentity self;

	parked.relid = tide_catalog("parked_change");
	empty_memory();
	parked.valid = true;
	tide_act_as(tide_catalog_owner(), "pg_catalog, pg_temp", &self);
	SPI_connect();
	if (SPI_execute_with_args("SELECT DISTINCT c.schema_name, c.table_name, c.key"
							  " FROM tide.parked_change c WHERE c.link_id = $1",
							  lengthof(types), types, values, NULL, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "reading what is parked failed");
	for (uint64 i = 0; i < SPI_processed; i++)
		remember_parked(SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1),
						SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2),
						SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 3));
	SPI_finish();
	tide_act_as_self(&self);
	parked.link_id = link->id;
	parked.epoch = link->epoch;
}

void
tide_parked_load(TideApply *apply)
{
	while (!parked.valid || parked.link_id != apply->link->id || parked.epoch != apply->link->epoch)
		read_parked(apply->link);
	apply->n_parked = parked.n;
}

void
tide_parked_undone(TideApply *apply)
{
	if (!parked.changed)
		return;
	parked.valid = false;
	tide_parked_load(apply);
}

TideParkedTable *
tide_parked_table(TideApply *apply, const TideFrameRelation *relation)
{
	ParkedName name = {0};

	if (parked.n == 0)
		return NULL;
	namestrcpy(&name.schema, tide_local_name(relation->schema));
	namestrcpy(&name.table, tide_local_name(relation->name));
	return hash_search(parked.tables, &name, HASH_FIND, NULL);
}

bool
tide_parked_whole(const TideParkedTable *table)
{
	return table->whole;
}

bool
tide_parked_key(const TideParkedTable *table, const char *key)
{
	return key != NULL && table->keys != NULL &&
		   hash_search(table->keys, &key, HASH_FIND, NULL) != NULL;
}

/* ---- parking ---- */

static bytea *
bytes_of(const char *prefix, TideCursor cursor)
{
	size_t prefix_len = prefix == NULL ? 0 : 1;
	size_t len = cursor.end - cursor.at;
	bytea *result = palloc(VARHDRSZ + prefix_len + len);

	SET_VARSIZE(result, VARHDRSZ + prefix_len + len);
	if (prefix_len > 0)
		*VARDATA(result) = *prefix;
	memcpy(VARDATA(result) + prefix_len, cursor.at, len);
	return result;
}

void
tide_parked_tell(void)
{
	CacheInvalidateRelcacheByRelid(tide_catalog("parked_change"));
}

void
tide_parked_superseded(TideApply *apply, const TideFrameRelation *relation)
{
	Oid types[] = {INT4OID, TEXTOID, TEXTOID, INT8OID};
	Datum values[] = {
		Int32GetDatum(apply->link->id), CStringGetTextDatum(tide_local_name(relation->schema)),
		CStringGetTextDatum(tide_local_name(relation->name)), Int64GetDatum(apply->parked_id)};
	TideIdentity self;
	uint64 n;

	if (apply->n_parked == 0 && apply->parked_id == 0)
		return;
	tide_apply_act_as(apply, InvalidOid);
	tide_act_as(tide_catalog_owner(), "pg_catalog, pg_temp", &self);
	SPI_connect();
	if (SPI_execute_with_args("DELETE FROM tide.parked_change c WHERE c.link_id = $1"
							  " AND c.schema_name = $2 AND c.table_name = $3"
							  " AND (c.id < $4 OR $4 = 0)",
							  lengthof(types), types, values, NULL, false, 0) != SPI_OK_DELETE)
		elog(ERROR, "forgetting what was parked failed");
	n = SPI_processed;
	SPI_finish();
	tide_act_as_self(&self);
	if (n == 0)
		return;
	ereport(LOG, (errmsg("pg_tide: " UINT64_FORMAT " parked changes of table \"%.*s.%.*s\" from "
						 "region \"%s\" are over: the table was truncated",
						 n, (int) relation->schema.len, relation->schema.data,
						 (int) relation->name.len, relation->name.data, apply->link->region)));
	if (apply->parked_id != 0)
		return;
	parked.valid = false;
	parked.changed = true;
	tide_parked_load(apply);
}

void
tide_park(TideApply *apply, const TideFrameRelation *relation, const TideChange *change,
		  const char *key, int code, const char *reason)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {INT4OID,  TEXTOID, TEXTOID,		   TEXTOID, TEXTOID, BYTEAOID,
								BYTEAOID, LSNOID,  TIMESTAMPTZOID, TEXTOID, TEXTOID};
	TideIdentity self;
	const char *schema = tide_local_name(relation->schema);
	const char *table = tide_local_name(relation->name);
	Datum values[lengthof(types)];
	char nulls[lengthof(types) + 1] = "           ";

	values[0] = Int32GetDatum(apply->link->id);
	values[1] = CStringGetTextDatum(schema);
	values[2] = CStringGetTextDatum(table);
	values[3] = key == NULL ? (Datum) 0 : CStringGetTextDatum(key);
	nulls[3] = key == NULL ? 'n' : ' ';
	values[4] = CStringGetTextDatum(relation->log ? "ddl" : tide_operation_name(change->type));
	values[5] = PointerGetDatum(bytes_of(NULL, relation->record));
	values[6] = PointerGetDatum(bytes_of(&change->type, change->record));
	values[7] = LSNGetDatum(apply->commit_lsn);
	values[8] = TimestampTzGetDatum(apply->commit_us - TIDE_EPOCH_OFFSET_US);
	values[9] = CStringGetTextDatum(unpack_sql_state(code));
	values[10] = CStringGetTextDatum(reason);
	tide_apply_act_as(apply, InvalidOid);
	tide_act_as(tide_catalog_owner(), "pg_catalog, pg_temp", &self);
	SPI_connect();
	if (plan == NULL)
		plan = tide_spi_prepare(
			"INSERT INTO tide.parked_change (link_id, schema_name, table_name, key, op,"
			" relation, change, commit_lsn, commit_at, code, reason, touched)"
			" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11,"
			" (SELECT v.touched FROM tide.table_version v"
			" WHERE v.schema_name = $2::name AND v.table_name = $3::name))",
			lengthof(types), types);
	(void) tide_spi_run(plan, values, nulls);
	SPI_finish();
	tide_act_as_self(&self);
	if (apply->copying)
		tide_parked_tell();
	else
	{
		remember_parked(schema, table, key);
		parked.changed = true;
		apply->n_parked = parked.n;
	}
	apply->counts.parked++;
}
