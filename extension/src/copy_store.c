/*
 * copy_store.c
 *		Storing the rows of a first copy, many at a time.
 *
 * Owns: rows on their way from COPY's parser into one table.  Does not own: which
 * rows those are (copy_in.c), parsing them (the server's COPY).
 *
 * The server's COPY stores row by row as soon as a table has a trigger for rows to be
 * inserted, even one that stays silent; every replicated table has one (stamp_row.c).
 * Page by page, as it does without, is half as much work.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/tableam.h"
#include "commands/copy.h"
#include "executor/executor.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "apply.h"
#include "pg_tide.h"
#include "compat.h"

/* As the server's COPY: enough for several pages, not too much for the processor's caches. */
#define ROWS_AT_ONCE 1000
#define BYTES_AT_ONCE 65535

typedef struct Store
{
	TideTarget *target;
	BulkInsertState bulk;
	TupleDesc desc;		   /* a copy: that of the table would count each slot */
	MemoryContext context; /* the rows' values, until they are stored */
	TupleTableSlot *slots[ROWS_AT_ONCE];
	int made; /* slots there are */
	int n;	  /* rows in them */
	Size bytes;
	int64 rows;
} Store;

/* Some columns are filled by defaults: those may look into the table. */
static bool
all_columns_come(Relation rel, int n_columns)
{
	int columns = 0;

	for (int i = 0; i < RelationGetDescr(rel)->natts; i++)
		columns += !TupleDescAttr(RelationGetDescr(rel), i)->attisdropped;
	return columns == n_columns;
}

static void
flush(Store *store)
{
	TideTarget *target = store->target;
	MemoryContext old = MemoryContextSwitchTo(store->context);

	tide_rows_store(target->rri, target->estate, store->slots, store->n, store->bulk);
	ResetPerTupleExprContext(target->estate);
	MemoryContextSwitchTo(old);
	MemoryContextReset(store->context);
	store->rows += store->n;
	store->n = 0;
	store->bytes = 0;
}

/* Takes the next row from COPY; false: there is none. */
static bool
take_row(Store *store, CopyFromState state)
{
	ErrorContextCallback callback = {
		.callback = CopyFromErrorCallback, .arg = state, .previous = error_context_stack};
	TupleTableSlot *slot;
	MemoryContext old;
	bool more;

	if (store->n == store->made)
		store->slots[store->made++] = table_slot_create(store->target->rel,
														&store->target->estate->es_tupleTable);
	slot = store->slots[store->n];
	old = MemoryContextSwitchTo(store->context);
	error_context_stack = &callback; /* says which column of which row */
	more = NextCopyFrom(state, NULL, slot->tts_values, slot->tts_isnull);
	if (more)
	{
		ExecStoreVirtualTuple(slot);
		tide_rows_check(store->target->rri, store->target->estate, slot);
		store->n++;
	}
	error_context_stack = callback.previous;
	MemoryContextSwitchTo(old);
	return more;
}

int64
tide_copy_store(TideApply *apply, Relation rel, int n_columns, CopyFromState state)
{
	TideMap map = {.relid = RelationGetRelid(rel), .checked = true};
	TideTarget *target = tide_target_open(apply, &map);
	Store store = {.target = target};

	if (target->routing != NULL || target->triggers || !all_columns_come(rel, n_columns))
	{
		tide_targets_close(apply);
		return (int64) CopyFrom(state);
	}
	store.bulk = GetBulkInsertState();
	store.desc = CreateTupleDescCopy(RelationGetDescr(rel));
	store.context = AllocSetContextCreate(target->estate->es_query_cxt, "pg_tide copied rows",
										  ALLOCSET_DEFAULT_SIZES);
	while (take_row(&store, state))
	{
		store.bytes = MemoryContextMemAllocated(store.context, false);
		if (store.n == ROWS_AT_ONCE || store.bytes >= BYTES_AT_ONCE)
			flush(&store);
	}
	if (store.n > 0)
		flush(&store);
	FreeBulkInsertState(store.bulk);
	tide_targets_close(apply);
	return store.rows;
}
