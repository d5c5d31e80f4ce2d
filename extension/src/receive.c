/*
 * receive.c
 *		tide.inbox_receive: storing a batch of events in an inbox, each once.
 *
 * Owns: the order of the steps and their saved plans, because this runs for
 * every batch and a batch is often a single event.  Does not own: taking the
 * arrays apart (inbox.c), epochs and positions (SQL functions, called here).
 *
 * An id is known if it is in the inbox or in its ledger.  The ledger is looked
 * at before the insert, for speed, and again after it with a newer snapshot:
 * a row that somebody deleted in between let the insert pass, but by then its
 * id is in the ledger.  That needs statement snapshots: READ COMMITTED.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"

#include "inbox.h"
#include "pg_tide.h"
#include "compat.h"

PG_FUNCTION_INFO_V1(tide_sql_inbox_receive);

enum
{
	ARG_INBOX,
	ARG_PIPELINE,
	ARG_EPOCH,
	ARG_SOURCE_REGION,
	ARG_IDS,
	ARG_ORIGINS,
	ARG_COMMITTED = ARG_IDS + 9,
	ARG_POSITION
};

#define N_ARRAYS (ARG_COMMITTED - ARG_IDS + 1)

typedef struct ReceivePlans
{
	Oid relid;		   /* hash key: the inbox's table; names and ids may come back for another */
	SPIPlanPtr store;  /* (here, arrays …) -> ids stored */
	SPIPlanPtr late;   /* (ids) -> those that are in the ledger by now, as an array */
	SPIPlanPtr remove; /* (ids); rare, and its triggers cost something even for no row */
} ReceivePlans;

static HTAB *plans_by_inbox = NULL;

static ReceivePlans *
receive_plans(const TideInbox *inbox)
{
	static const Oid store_args[] = {TEXTOID,		TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID,
									 TEXTARRAYOID,	TEXTARRAYOID, TEXTARRAYOID, JSONBARRAYOID,
									 JSONBARRAYOID, INT8ARRAYOID, INT8ARRAYOID};
	static const Oid late_args[] = {TEXTARRAYOID};
	ReceivePlans *plans;
	bool found;

	if (plans_by_inbox == NULL)
	{
		HASHCTL ctl = {.keysize = sizeof(Oid), .entrysize = sizeof(ReceivePlans)};

		plans_by_inbox = hash_create("pg_tide receive plans", 16, &ctl, HASH_ELEM | HASH_BLOBS);
	}
	plans = hash_search(plans_by_inbox, &inbox->relid, HASH_ENTER, &found);
	if (!found)
		plans->store = plans->late = plans->remove = NULL;
	if (plans->store == NULL)
		plans->store = tide_spi_prepare(
			psprintf(
				"WITH stored AS (INSERT INTO tide.%1$s AS t"
				" (event_id, origin, outbox, entity, op, key, payload, headers, published_at, committed_at)"
				" SELECT b.event_id, b.origin, b.outbox, b.entity, b.op, b.key, b.payload, b.headers,"
				" b.published_at, b.committed_at"
				" FROM tide._inbox_batch($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) b"
				" WHERE (SELECT true FROM tide.inbox_%2$d_ledger l WHERE l.event_id = b.event_id) IS NULL"
				" ON CONFLICT (event_id) DO NOTHING RETURNING t.event_id)"
				" SELECT array_agg(s.event_id) FROM stored s",
				inbox->relation, inbox->id),
			lengthof(store_args), store_args);
	if (plans->late == NULL)
		plans->late = tide_spi_prepare(
			psprintf("SELECT array_agg(u.id) FROM unnest($1) u (id)"
					 " WHERE (SELECT true FROM tide.inbox_%d_ledger l WHERE l.event_id = u.id)",
					 inbox->id),
			lengthof(late_args), late_args);
	if (plans->remove == NULL)
		plans->remove = tide_spi_prepare(
			psprintf("DELETE FROM tide.%s t WHERE t.event_id = ANY ($1)", inbox->relation),
			lengthof(late_args), late_args);
	return plans;
}

/* Refuses a relay that has lost its pipeline; the functions raise TD001. */
static void
check_owner(FunctionCallInfo fcinfo)
{
	static SPIPlanPtr own = NULL;
	static SPIPlanPtr peer = NULL;
	static const Oid own_args[] = {TEXTOID, INT8OID};
	static const Oid peer_args[] = {TEXTOID, TEXTOID, INT8OID};
	Datum values[] = {PG_GETARG_DATUM(ARG_SOURCE_REGION), PG_GETARG_DATUM(ARG_PIPELINE),
					  PG_GETARG_DATUM(ARG_EPOCH)};
	char nulls[] = {' ', PG_ARGISNULL(ARG_PIPELINE) ? 'n' : ' ',
					PG_ARGISNULL(ARG_EPOCH) ? 'n' : ' ', '\0'};

	if (own == NULL)
		own = tide_spi_prepare("SELECT tide._check_epoch($1, $2)", lengthof(own_args), own_args);
	if (peer == NULL)
		peer = tide_spi_prepare("SELECT tide._inbox_check_peer($1, $2, $3)", lengthof(peer_args),
								peer_args);
	if (PG_ARGISNULL(ARG_SOURCE_REGION))
		(void) tide_spi_run(own, values + 1, nulls + 1);
	else
		(void) tide_spi_run(peer, values, nulls);
}

static void
check_isolation(void)
{
	if (IsolationUsesXactSnapshot())
		ereport(ERROR, (errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
						errmsg("tide.inbox_receive() must run in READ COMMITTED"),
						errhint("Deduplication has to see what others commit while it runs.")));
}

/* Number of elements; the arrays themselves are checked by tide._inbox_batch(). */
static int64
count_elements(Datum array)
{
	ArrayType *value = DatumGetArrayTypeP(array);

	return ArrayGetNItems(ARR_NDIM(value), ARR_DIMS(value));
}

static int64
count_echoes(Datum origins, text *here)
{
	Datum *values;
	bool *nulls;
	int n;
	int64 echoes = 0;

	deconstruct_array(DatumGetArrayTypeP(origins), TEXTOID, -1, false, TYPALIGN_INT, &values,
					  &nulls, &n);
	for (int i = 0; i < n; i++)
	{
		text *origin = nulls[i] ? NULL : DatumGetTextPP(values[i]);

		if (origin != NULL && VARSIZE_ANY_EXHDR(origin) == VARSIZE_ANY_EXHDR(here) &&
			memcmp(VARDATA_ANY(origin), VARDATA_ANY(here), VARSIZE_ANY_EXHDR(here)) == 0)
			echoes++;
	}
	return echoes;
}

static text *
region_name(void)
{
	static SPIPlanPtr plan = NULL;
	bool isnull;

	if (plan == NULL)
		plan = tide_spi_prepare("SELECT tide.region_name()", 0, NULL);
	(void) tide_spi_run(plan, NULL, NULL);
	return DatumGetTextPP(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
}

/* Runs a plan that returns one array; false if it is NULL. */
static bool
run_for_ids(SPIPlanPtr plan, Datum *values, const char *nulls, Datum *ids)
{
	bool isnull;

	(void) tide_spi_run(plan, values, nulls);
	*ids = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	return !isnull;
}

/* Stores what is new; returns how many events that were. */
static int64
store_batch(FunctionCallInfo fcinfo, const TideInbox *inbox, text *here)
{
	ReceivePlans *plans = receive_plans(inbox);
	Datum values[1 + N_ARRAYS] = {PointerGetDatum(here)};
	char nulls[2 + N_ARRAYS] = {' '};
	Datum ids;
	Datum late;

	for (int i = 0; i < N_ARRAYS; i++)
	{
		values[1 + i] = PG_GETARG_DATUM(ARG_IDS + i);
		nulls[1 + i] = PG_ARGISNULL(ARG_IDS + i) ? 'n' : ' ';
	}
	if (!run_for_ids(plans->store, values, nulls, &ids))
		return 0;
	if (!run_for_ids(plans->late, &ids, NULL, &late))
		return count_elements(ids);
	return count_elements(ids) - (int64) tide_spi_run(plans->remove, &late, NULL);
}

/* What this transaction commits is confirmed as it stands. */
static void
save_position(FunctionCallInfo fcinfo)
{
	static SPIPlanPtr plan = NULL;
	static const Oid args[] = {TEXTOID, INT8OID, TEXTOID};
	Datum values[] = {PG_GETARG_DATUM(ARG_PIPELINE), PG_GETARG_DATUM(ARG_EPOCH),
					  PG_GETARG_DATUM(ARG_POSITION)};

	if (plan == NULL)
		plan = tide_spi_prepare("SELECT tide._position_write($1, $2, $3, $3)", lengthof(args),
								args);
	(void) tide_spi_run(plan, values, NULL);
}

static Datum
make_result(FunctionCallInfo fcinfo, int64 stored, int64 duplicates, int64 echoes)
{
	TupleDesc desc;
	Datum values[] = {Int64GetDatum(stored), Int64GetDatum(duplicates), Int64GetDatum(echoes)};
	bool nulls[] = {false, false, false};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

/* inbox_receive(…): see ARCHITECTURE.md.  Declared SECURITY DEFINER with a safe search_path. */
Datum
tide_sql_inbox_receive(PG_FUNCTION_ARGS)
{
	TideInbox *inbox;
	text *here;
	int64 stored;
	int64 total;
	int64 echoes;

	check_isolation();
	SPI_connect();
	inbox = tide_inbox_open(PG_ARGISNULL(ARG_INBOX) ? NULL : PG_GETARG_TEXT_PP(ARG_INBOX));
	check_owner(fcinfo);
	here = region_name();
	stored = store_batch(fcinfo, inbox, here);
	total = PG_ARGISNULL(ARG_IDS) ? 0 : count_elements(PG_GETARG_DATUM(ARG_IDS));
	echoes = PG_ARGISNULL(ARG_ORIGINS) ? 0 : count_echoes(PG_GETARG_DATUM(ARG_ORIGINS), here);
	if (stored > 0)
		tide_wake_at_commit(tide_wake_slot("inbox", inbox->name, strlen(inbox->name)));
	if (PG_ARGISNULL(ARG_SOURCE_REGION) && !PG_ARGISNULL(ARG_POSITION))
		save_position(fcinfo);
	SPI_finish();
	return make_result(fcinfo, stored, total - echoes - stored, echoes);
}
