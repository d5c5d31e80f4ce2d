/*
 * apply_retry.c
 *		tide.pending_retry: applying what is parked, once its cause is gone.
 *
 * Owns: the order in which the changes of a row, or of a whole table, are tried
 * again, and what is remembered of those that are refused again.  Does not own: parking
 * (apply_park.c).
 *
 * The changes of a row are applied in their order; the first that is refused
 * ends it.  When a whole table waits, all of its changes are tried; a row
 * that is refused then waits by itself, with those of its changes that follow, and the others go
 * on, unless the reason is the table's.
 *
 * Rights are those that tide_relay has, since it is the relay's work that is
 * done: who may retry needs none on the table.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/pg_lsn.h"
#include "utils/timestamp.h"

#include "apply.h"
#include "inbox.h"
#include "pg_tide.h"
#include "compat.h"

PG_FUNCTION_INFO_V1(tide_sql_pending_retry);
PG_FUNCTION_INFO_V1(tide_sql_link_retry);
PG_FUNCTION_INFO_V1(tide_sql_parked_fits);
PG_FUNCTION_INFO_V1(tide_sql_link_lock);

#define BATCH 500

/* A row of tide.parked_change. */
typedef struct Parked
{
	int64 id;
	char *key; /* NULL: the whole table waits */
	TideCursor relation;
	TideChange change;
	uint64 commit_lsn;
	int64 commit_us;
} Parked;

typedef struct Blocked
{
	char *key;
	struct Blocked *next;
} Blocked;

typedef struct Retry
{
	int64 id;
	int link_id;
	char *schema;
	char *table;
	char *key;
	int64 last_id; /* tried so far */
	int64 max;	   /* so many at most; 0: all */
	bool stopped;
	Blocked *blocked; /* rows of a table that were refused again */
	int64 applied;
	char *code;
	char *reason;
	Parked batch[BATCH];
	int n;
} Retry;

/* ---- the catalog ---- */

/* Runs a query on our own tables; what it returns is in SPI_tuptable until end_query(). */
static uint64
begin_query(TideIdentity *self, const char *sql, int n_args, Oid *types, Datum *values,
			const char *nulls)
{
	tide_act_as(tide_catalog_owner(), "pg_catalog, pg_temp", self);
	SPI_connect();
	if (SPI_execute_with_args(sql, n_args, types, values, nulls, false, 0) < 0)
		elog(ERROR, "a query of parked changes failed");
	return SPI_processed;
}

static void
end_query(const TideIdentity *self)
{
	SPI_finish();
	tide_act_as_self(self);
}

static void
run_query(const char *sql, int n_args, Oid *types, Datum *values, const char *nulls)
{
	TideIdentity self;

	(void) begin_query(&self, sql, n_args, types, values, nulls);
	end_query(&self);
}

static char *
text_column(MemoryContext context, int row, int column)
{
	char *value = SPI_getvalue(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column);

	return value == NULL ? NULL : MemoryContextStrdup(context, value);
}

static Datum
column(int row, int n)
{
	bool isnull;

	return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, n, &isnull);
}

/* Which row, or table, the change is of; false if there is no such change. */
static bool
find_parked(TideApply *apply, Retry *retry)
{
	Oid types[] = {INT8OID};
	Datum values[] = {Int64GetDatum(retry->id)};
	TideIdentity self;
	bool found = begin_query(&self,
							 "SELECT c.link_id, c.schema_name, c.table_name, c.key"
							 " FROM tide.parked_change c WHERE c.id = $1",
							 1, types, values, NULL) > 0;

	if (found)
	{
		retry->link_id = DatumGetInt32(column(0, 1));
		retry->schema = text_column(apply->context, 0, 2);
		retry->table = text_column(apply->context, 0, 3);
		retry->key = text_column(apply->context, 0, 4);
	}
	end_query(&self);
	return found;
}

static TideCursor
bytes_column(MemoryContext context, int row, int n)
{
	bytea *value = DatumGetByteaPP(column(row, n));
	size_t len = VARSIZE_ANY_EXHDR(value);
	char *copy = MemoryContextAlloc(context, len + 1);
	TideCursor cursor;

	memcpy(copy, VARDATA_ANY(value), len);
	tide_cursor_init(&cursor, copy, len);
	return cursor;
}

static void
read_parked(MemoryContext context, int row, Parked *parked)
{
	TideCursor change = bytes_column(context, row, 4);

	parked->id = DatumGetInt64(column(row, 1));
	parked->key = text_column(context, row, 2);
	parked->relation = bytes_column(context, row, 3);
	parked->change.type = (char) tide_read_u8(&change);
	parked->change.record = change;
	if (parked->change.type != 'T')
		parked->change.relid = tide_read_u32(&change);
	parked->change.payload = change;
	parked->commit_lsn = DatumGetLSN(column(row, 5));
	parked->commit_us = DatumGetTimestampTz(column(row, 6)) + TIDE_EPOCH_OFFSET_US;
}

/* The next of the changes that wait; false: there are no more. */
static bool
read_batch(Retry *retry, MemoryContext context)
{
	Oid types[] = {INT4OID, TEXTOID, TEXTOID, TEXTOID, INT8OID, INT4OID};
	Datum values[] = {Int32GetDatum(retry->link_id),
					  CStringGetTextDatum(retry->schema),
					  CStringGetTextDatum(retry->table),
					  retry->key == NULL ? (Datum) 0 : CStringGetTextDatum(retry->key),
					  Int64GetDatum(retry->last_id),
					  Int32GetDatum(retry->max > 0 ? Min(retry->max, BATCH) : BATCH)};
	const char *nulls = retry->key == NULL ? "   n  " : NULL;
	TideIdentity self;

	retry->n = (int) begin_query(
		&self,
		"SELECT c.id, c.key, c.relation, c.change, c.commit_lsn, c.commit_at"
		" FROM tide.parked_change c WHERE c.link_id = $1"
		" AND c.schema_name = $2 AND c.table_name = $3"
		" AND (c.key = $4 OR $4 IS NULL) AND c.id > $5"
		" ORDER BY c.id LIMIT $6",
		lengthof(types), types, values, nulls);
	for (int i = 0; i < retry->n; i++)
		read_parked(context, i, &retry->batch[i]);
	end_query(&self);
	return retry->n > 0;
}

static void
delete_parked(int64 id)
{
	Oid types[] = {INT8OID};
	Datum values[] = {Int64GetDatum(id)};

	run_query("DELETE FROM tide.parked_change c WHERE c.id = $1", 1, types, values, NULL);
}

/* By number: whatever else is parked meanwhile stays. */
static void
delete_batch(const Retry *retry)
{
	Datum ids[BATCH];
	Oid types[] = {INT8ARRAYOID};
	Datum values[1];

	for (int i = 0; i < retry->n; i++)
		ids[i] = Int64GetDatum(retry->batch[i].id);
	values[0] = PointerGetDatum(
		construct_array(ids, retry->n, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	run_query("DELETE FROM tide.parked_change c WHERE c.id = ANY ($1)", 1, types, values, NULL);
}

/* It stays, under that key (NULL: of the table), for that reason. */
static void
keep_parked(int64 id, const char *key, int code, const char *reason, int attempts)
{
	Oid types[] = {INT8OID, TEXTOID, TEXTOID, TEXTOID, INT4OID};
	Datum values[] = {Int64GetDatum(id), key == NULL ? (Datum) 0 : CStringGetTextDatum(key),
					  CStringGetTextDatum(unpack_sql_state(code)), CStringGetTextDatum(reason),
					  Int32GetDatum(attempts)};

	run_query("UPDATE tide.parked_change c SET key = $2, code = $3, reason = $4,"
			  " attempts = c.attempts + $5, touched = (SELECT v.touched"
			  " FROM tide.table_version v WHERE v.schema_name = c.schema_name"
			  " AND v.table_name = c.table_name) WHERE c.id = $1",
			  lengthof(types), types, values, key == NULL ? " n   " : NULL);
}

static int64
count_waiting(const Retry *retry)
{
	Oid types[] = {INT4OID, TEXTOID, TEXTOID, TEXTOID};
	Datum values[] = {Int32GetDatum(retry->link_id), CStringGetTextDatum(retry->schema),
					  CStringGetTextDatum(retry->table),
					  retry->key == NULL ? (Datum) 0 : CStringGetTextDatum(retry->key)};
	TideIdentity self;
	int64 waiting;

	(void) begin_query(&self,
					   "SELECT count(*) FROM tide.parked_change c WHERE c.link_id = $1"
					   " AND c.schema_name = $2 AND c.table_name = $3"
					   " AND (c.key = $4 OR $4 IS NULL)",
					   lengthof(types), types, values, retry->key == NULL ? "   n" : NULL);
	waiting = DatumGetInt64(column(0, 1));
	end_query(&self);
	return waiting;
}

/* ---- trying ---- */

static void
attempt_parked(TideApply *apply, void *arg)
{
	Parked *parked = arg;
	TideCursor relation = parked->relation;
	TideFrameRelation *described;

	tide_apply_define(apply, parked->relation);
	described = tide_apply_relation(apply, tide_read_u32(&relation));
	if (described->log)
	{
		TideSchemaEntry entry;

		tide_schema_read(parked->relation, parked->change.payload, &entry);
		tide_ddl_run(apply, &entry);
		return;
	}
	(void) tide_apply_find_map(apply, described);
	if (described->map == NULL)
		ereport(ERROR, (errcode(ERRCODE_TIDE_NO_TARGET),
						errmsg("the table is not replicated here any more")));
	if (parked->change.type == 'T')
		tide_apply_truncate(apply, parked->change.record, false);
	else
		tide_apply_change(apply, &parked->change);
}

/* What attempt_key works with. */
typedef struct KeyOf
{
	Parked *parked;
	TideKeys keys;
} KeyOf;

static void
attempt_key(TideApply *apply, void *arg)
{
	KeyOf *of = arg;
	TideTarget *target;

	tide_apply_define(apply, of->parked->relation);
	target = tide_apply_target(apply, tide_apply_relation(apply, of->parked->change.relid));
	if (target == NULL)
		return;
	tide_apply_act_as(apply, target->owner);
	tide_row_keys(apply, target, of->parked->change.type, of->parked->change.payload, &of->keys);
}

static bool
is_blocked(const Retry *retry, const char *key)
{
	for (const Blocked *blocked = retry->blocked; key != NULL && blocked != NULL;
		 blocked = blocked->next)
	{
		if (strcmp(blocked->key, key) == 0)
			return true;
	}
	return false;
}

static void
block(TideApply *apply, Retry *retry, const char *key)
{
	Blocked *blocked = MemoryContextAlloc(apply->context, sizeof(Blocked));

	blocked->key = MemoryContextStrdup(apply->context, key);
	blocked->next = retry->blocked;
	retry->blocked = blocked;
}

static void
note_refusal(TideApply *apply, Retry *retry, Parked *parked, const char *key, ErrorData *error)
{
	const char *reason = tide_reason(error);

	keep_parked(parked->id, key, error->sqlerrcode, reason, 1);
	retry->code = MemoryContextStrdup(apply->context, unpack_sql_state(error->sqlerrcode));
	retry->reason = MemoryContextStrdup(apply->context, reason);
}

/* A change of a table that waits as a whole: does its row wait by itself meanwhile? */
static bool
follows_blocked(TideApply *apply, Retry *retry, Parked *parked)
{
	KeyOf of = {.parked = parked};

	if (retry->blocked == NULL || parked->change.type == 'T')
		return false;
	if (parked->key != NULL)
		return is_blocked(retry, parked->key);
	if (tide_attempt(apply, attempt_key, &of) != NULL)
		return false; /* applying it says why */
	if (!is_blocked(retry, of.keys.key) && !is_blocked(retry, of.keys.old_key))
		return false;
	if (of.keys.moved)
		retry->stopped = true; /* it is of two rows: the table waits on */
	else
		keep_parked(parked->id, of.keys.key, ERRCODE_TIDE_PARKED,
					"waits behind an earlier change of its row", 0);
	return true;
}

/* After a refusal: goes it on with other rows? */
static void
after_refusal(TideApply *apply, Retry *retry, Parked *parked, ErrorData *error)
{
	KeyOf of = {.parked = parked};

	of.keys.key = parked->key;
	if (retry->key == NULL && parked->key == NULL && parked->change.type != 'T' &&
		!tide_is_about_table(error->sqlerrcode))
		(void) tide_attempt(apply, attempt_key, &of);
	note_refusal(apply, retry, parked, of.keys.moved ? NULL : of.keys.key, error);
	if (retry->key != NULL || of.keys.key == NULL || of.keys.moved)
		retry->stopped = true;
	else
		block(apply, retry, of.keys.key);
}

static void
begin_change(TideApply *apply, const Parked *parked)
{
	CHECK_FOR_INTERRUPTS();
	apply->commit_lsn = parked->commit_lsn;
	apply->commit_us = parked->commit_us;
	apply->parked_id = parked->id;
}

static void
try_parked(TideApply *apply, Retry *retry, Parked *parked)
{
	ErrorData *error;

	retry->last_id = parked->id;
	if (follows_blocked(apply, retry, parked))
		return;
	begin_change(apply, parked);
	error = tide_attempt(apply, attempt_parked, parked);
	if (error == NULL)
	{
		delete_parked(parked->id);
		retry->applied++;
		return;
	}
	after_refusal(apply, retry, parked, error);
	FreeErrorData(error);
}

static void
attempt_batch(TideApply *apply, void *arg)
{
	Retry *retry = arg;

	for (int i = 0; i < retry->n; i++)
	{
		begin_change(apply, &retry->batch[i]);
		attempt_parked(apply, &retry->batch[i]);
	}
}

/* All of them at once, which is quicker; false: one is refused, and nothing was done. */
static bool
try_batch(TideApply *apply, Retry *retry)
{
	ErrorData *error;

	if (retry->n < 2 || retry->blocked != NULL)
		return false;
	error = tide_attempt(apply, attempt_batch, retry);
	if (error != NULL)
	{
		FreeErrorData(error);
		return false;
	}
	delete_batch(retry);
	retry->applied += retry->n;
	retry->last_id = retry->batch[retry->n - 1].id;
	return true;
}

static bool
has_enough(const Retry *retry)
{
	return retry->max > 0 && retry->applied >= retry->max;
}

static void
try_all(TideApply *apply, void *arg)
{
	Retry *retry = arg;
	MemoryContext batch = AllocSetContextCreate(apply->context, "pg_tide parked batch",
												ALLOCSET_DEFAULT_SIZES);

	while (!retry->stopped && !has_enough(retry) && read_batch(retry, batch))
	{
		bool done = try_batch(apply, retry);

		for (int i = 0; i < retry->n && !done && !retry->stopped && !has_enough(retry); i++)
			try_parked(apply, retry, &retry->batch[i]);
		MemoryContextReset(batch);
	}
}

/* ---- pending_retry ---- */

/* Has there ever been a change of this number? */
static bool
was_parked(int64 id)
{
	Oid types[] = {INT8OID};
	Datum values[] = {Int64GetDatum(id)};
	TideIdentity self;
	bool was = begin_query(&self,
						   "SELECT FROM pg_sequence_last_value(pg_get_serial_sequence("
						   "'tide.parked_change', 'id')::regclass) AS s (last)"
						   " WHERE $1 BETWEEN 1 AND s.last",
						   1, types, values, NULL) > 0;

	end_query(&self);
	return was;
}

/*
 * Whoever retries all of tide.pending_changes meets changes that went on behind an earlier one,
 * or that the relay was quicker with: that must not undo the rest.
 */
static void
not_waiting(int64 id)
{
	if (!was_parked(id))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
						errmsg("no change " INT64_FORMAT " is waiting", id),
						errhint("tide.pending_changes shows those that are.")));
	ereport(NOTICE, (errmsg("change " INT64_FORMAT " is not waiting any more", id)));
}

static Datum
make_result(FunctionCallInfo fcinfo, const Retry *retry)
{
	TupleDesc desc;
	Datum values[] = {Int64GetDatum(retry->applied), Int64GetDatum(count_waiting(retry)),
					  retry->code == NULL ? (Datum) 0 : CStringGetTextDatum(retry->code),
					  retry->reason == NULL ? (Datum) 0 : CStringGetTextDatum(retry->reason)};
	bool nulls[] = {false, false, retry->code == NULL, retry->reason == NULL};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

static Datum
nothing_done(FunctionCallInfo fcinfo, Retry *retry)
{
	retry->schema = retry->table = "";
	return make_result(fcinfo, retry);
}

/* The link is locked, and the change was looked for again. */
static Datum
retry_parked(FunctionCallInfo fcinfo, TideApply *apply, Retry *retry)
{
	apply->here = tide_stamp_region();
	apply->rights_of = get_role_oid("tide_relay", false);
	tide_session_begin_copy();
	tide_apply_run(apply, try_all, retry);
	tide_parked_tell();
	return make_result(fcinfo, retry);
}

/* pending_retry(id bigint) -> (applied bigint, waiting bigint, code text, reason text) */
Datum
tide_sql_pending_retry(PG_FUNCTION_ARGS)
{
	TideApply apply;
	Retry *retry;

	tide_apply_begin(&apply, fcinfo);
	retry = MemoryContextAllocZero(apply.context, sizeof(Retry));
	retry->id = PG_GETARG_INT64(0);
	/* Again under the link's lock. */
	if (find_parked(&apply, retry))
	{
		apply.link = tide_link_own_by_id(retry->link_id);
		if (find_parked(&apply, retry))
			return retry_parked(fcinfo, &apply, retry);
	}
	not_waiting(retry->id);
	return nothing_done(fcinfo, retry);
}

/*
 * relay_link_retry(pipeline text, epoch bigint, id bigint, max_changes int): the same for the
 * link's relay, in pieces.  A change that somebody else was quicker with is none to speak of.
 */
Datum
tide_sql_link_retry(PG_FUNCTION_ARGS)
{
	TideApply apply;
	Retry *retry;

	tide_apply_begin(&apply, fcinfo);
	retry = MemoryContextAllocZero(apply.context, sizeof(Retry));
	retry->id = PG_GETARG_INT64(2);
	retry->max = Max(PG_GETARG_INT32(3), 1);
	apply.link = tide_link_own(PG_GETARG_TEXT_PP(0), PG_GETARG_INT64(1));
	if (!find_parked(&apply, retry) || retry->link_id != apply.link->id)
		return nothing_done(fcinfo, retry);
	return retry_parked(fcinfo, &apply, retry);
}

/* ---- would it be worth while? ---- */

static void
attempt_fits(TideApply *apply, void *arg)
{
	Parked *parked = arg;
	TideCursor relation = parked->relation;
	TideFrameRelation *described;
	Relation rel;

	tide_apply_define(apply, parked->relation);
	described = tide_apply_relation(apply, tide_read_u32(&relation));
	(void) tide_apply_find_map(apply, described);
	if (described->map == NULL)
		ereport(ERROR, (errcode(ERRCODE_TIDE_NO_TARGET),
						errmsg("the table is not replicated here any more")));
	rel = table_open(described->map->relid, AccessShareLock);
	tide_map_check_target(apply, described->map, rel);
	table_close(rel, AccessShareLock);
}

/* _parked_fits(id bigint): false too if the change is gone, or a statement. */
Datum
tide_sql_parked_fits(PG_FUNCTION_ARGS)
{
	TideApply apply;
	Retry *retry;
	bool fits;

	tide_apply_begin(&apply, fcinfo);
	retry = MemoryContextAllocZero(apply.context, sizeof(Retry));
	retry->id = PG_GETARG_INT64(0);
	if (!find_parked(&apply, retry))
		PG_RETURN_BOOL(false);
	apply.link = tide_link_own_by_id(retry->link_id);
	apply.rights_of = get_role_oid("tide_relay", false);
	apply.parked_id = retry->id;
	retry->last_id = retry->id - 1;
	retry->max = 1;
	fits = read_batch(retry, apply.context) && retry->batch[0].id == retry->id &&
		   tide_attempt(&apply, attempt_fits, &retry->batch[0]) == NULL;
	MemoryContextDelete(apply.context);
	PG_RETURN_BOOL(fits);
}

/* _link_lock(link_id int): nobody applies, retries or drops changes of the link until this transaction ends. */
Datum
tide_sql_link_lock(PG_FUNCTION_ARGS)
{
	LockDatabaseObject(tide_catalog("link"), (Oid) PG_GETARG_INT32(0), 0, ExclusiveLock);
	PG_RETURN_VOID();
}
