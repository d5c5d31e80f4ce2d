/*
 * wakeup.c
 *		Waking readers at commit, without NOTIFY and without polling.
 *
 * Owns: a fixed array of wake slots in shared memory (a generation counter and
 * a condition variable each), a ring of recent commit times, and the procedure
 * that waits.  Does not own: what is read after waking.
 *
 * A slot stands for an outbox or an inbox by hash of its name; two that share
 * a slot wake each other needlessly, nothing worse.  Publishing marks the slot
 * in the backend; the commit callback, which runs after the transaction became
 * visible, raises the generation and wakes the waiters.  NOTIFY would take a
 * lock over the whole instance in every publisher's commit.
 *
 * A wake-up is a hint: COMMIT PREPARED runs no callbacks, and without
 * shared_preload_libraries there is no shared memory at all.  So every waiter
 * has a time limit and reads again after it.
 *
 * The commit-time ring lets readers measure from commit, not from publish: the
 * server keeps commit times only with track_commit_timestamp.
 */
#include "postgres.h"

#include "access/commit_ts.h"
#include "access/xact.h"
#include "common/hashfn.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "nodes/parsenodes.h"
#include "pgstat.h"
#include "port/atomics.h"
#include "storage/condition_variable.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "pg_tide.h"
#include "compat.h"

#define N_SLOTS 1024
#define RING_SIZE 65536 /* commits remembered; a power of two */
#define MAX_MARKED 8	/* slots one transaction can mark singly */
#define MAX_WAIT_MS 60000

typedef struct WakeSlot
{
	pg_atomic_uint64 generation;
	ConditionVariable changed;
} WakeSlot;

/* xid is written last and read first and last: a torn entry is never believed. */
typedef struct CommitEntry
{
	pg_atomic_uint64 xid;
	pg_atomic_uint64 at;
} CommitEntry;

typedef struct WakeShared
{
	WakeSlot slots[N_SLOTS];
	CommitEntry ring[RING_SIZE];
} WakeShared;

static WakeShared *shared = NULL;

/* What this transaction will wake when it commits. */
static uint32 marked[MAX_MARKED];
static int n_marked = 0;
static bool mark_all = false; /* more than fit */
static FullTransactionId marked_xid;

PG_FUNCTION_INFO_V1(tide_sql_wake_wait);
PG_FUNCTION_INFO_V1(tide_sql_wake);
PG_FUNCTION_INFO_V1(tide_sql_wake_generation);
PG_FUNCTION_INFO_V1(tide_sql_preloaded);

uint32
tide_wake_slot(const char *kind, const char *name, int name_len)
{
	uint32 hash = hash_bytes((const unsigned char *) name, name_len);

	return (hash ^ hash_bytes((const unsigned char *) kind, strlen(kind))) % N_SLOTS;
}

void
tide_wake_at_commit(uint32 slot)
{
	if (shared == NULL)
		return;
	marked_xid = GetTopFullTransactionIdIfAny();
	for (int i = 0; i < n_marked; i++)
	{
		if (marked[i] == slot)
			return;
	}
	if (n_marked < MAX_MARKED)
		marked[n_marked++] = slot;
	else
		mark_all = true;
}

static void
raise_slot(uint32 slot)
{
	pg_atomic_fetch_add_u64(&shared->slots[slot].generation, 1);
	ConditionVariableBroadcast(&shared->slots[slot].changed);
}

static void
remember_commit(FullTransactionId xid, TimestampTz at)
{
	CommitEntry *entry = &shared->ring[U64FromFullTransactionId(xid) % RING_SIZE];

	pg_atomic_write_u64(&entry->xid, 0);
	pg_write_barrier();
	pg_atomic_write_u64(&entry->at, (uint64) at);
	pg_write_barrier();
	pg_atomic_write_u64(&entry->xid, U64FromFullTransactionId(xid));
}

bool
tide_commit_time(FullTransactionId xid, TimestampTz *at)
{
	CommitEntry *entry;
	uint64 value = U64FromFullTransactionId(xid);

	if (shared == NULL)
		return false;
	entry = &shared->ring[value % RING_SIZE];
	if (pg_atomic_read_u64(&entry->xid) != value)
		return false;
	pg_read_barrier();
	*at = (TimestampTz) pg_atomic_read_u64(&entry->at);
	pg_read_barrier();
	return pg_atomic_read_u64(&entry->xid) == value;
}

/* After commit: nothing here may fail, allocate or read a catalog. */
static void
at_transaction_end(XactEvent event, void *arg)
{
	if (n_marked == 0)
		return;
	if (event == XACT_EVENT_COMMIT)
	{
		if (FullTransactionIdIsValid(marked_xid))
			remember_commit(marked_xid, GetCurrentTransactionStopTimestamp());
		for (int i = 0; i < n_marked; i++)
			raise_slot(marked[i]);
		for (uint32 slot = 0; mark_all && slot < N_SLOTS; slot++)
			raise_slot(slot);
	}
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
	{
		n_marked = 0;
		mark_all = false;
	}
}

bool
tide_wake_generation(uint32 slot, uint64 *generation)
{
	if (shared == NULL)
		return false;
	*generation = pg_atomic_read_u64(&shared->slots[slot].generation);
	return true;
}

static void
attach(void *place, bool fresh)
{
	shared = place;
	for (int i = 0; fresh && i < N_SLOTS; i++)
	{
		pg_atomic_init_u64(&shared->slots[i].generation, 1);
		ConditionVariableInit(&shared->slots[i].changed);
	}
	for (int i = 0; fresh && i < RING_SIZE; i++)
	{
		pg_atomic_init_u64(&shared->ring[i].xid, 0);
		pg_atomic_init_u64(&shared->ring[i].at, 0);
	}
}

void
tide_wakeup_init(void)
{
	RegisterXactCallback(at_transaction_end, NULL);
	tide_shmem_reserve("pg_tide wake slots", sizeof(WakeShared), attach);
}

static uint32
slot_of(text *kind, text *name)
{
	return tide_wake_slot(text_to_cstring(kind), VARDATA_ANY(name), VARSIZE_ANY_EXHDR(name));
}

static uint32
wait_event(void)
{
	static uint32 event = 0;

	if (event == 0)
		event = tide_wait_event_new("TideWake");
	return event;
}

/* Sleeps until the slot's generation differs from seen, or the time is up. */
static void
wait_for_change(WakeSlot *slot, uint64 seen, int timeout_ms)
{
	TimestampTz end = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), timeout_ms);

	ConditionVariablePrepareToSleep(&slot->changed);
	while (pg_atomic_read_u64(&slot->generation) == seen)
	{
		long left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), end);

		if (left <= 0 || ConditionVariableTimedSleep(&slot->changed, left, wait_event()))
			break;
	}
	ConditionVariableCancelSleep();
}

/*
 * CALL tide.wake_wait(kind, name, generation, timeout_ms)
 *
 * A procedure, because a function would wait with a snapshot and hold back
 * vacuum for as long as it sleeps; committing first lets go of it.
 */
Datum
tide_sql_wake_wait(PG_FUNCTION_ARGS)
{
	CallContext *context = (CallContext *) fcinfo->context;
	uint32 slot;
	uint64 seen;
	int timeout_ms;

	/* A procedure can't be STRICT. */
	for (int i = 0; i < 4; i++)
	{
		if (PG_ARGISNULL(i))
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("arguments of tide.wake_wait must not be null"),
					 errhint("Without a generation there is nothing to wait for: read first.")));
	}
	slot = slot_of(PG_GETARG_TEXT_PP(0), PG_GETARG_TEXT_PP(1));
	seen = (uint64) PG_GETARG_INT64(2);
	timeout_ms = Min(Max(PG_GETARG_INT32(3), 0), MAX_WAIT_MS);
	if (shared == NULL)
		ereport(ERROR, (errcode(ERRCODE_TIDE_NOT_PRELOADED),
						errmsg("waiting for events needs pg_tide in shared_preload_libraries"),
						errhint("Add pg_tide to shared_preload_libraries and restart, or poll.")));
	if (context == NULL || !IsA(context, CallContext) || context->atomic)
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_TRANSACTION_STATE),
			 errmsg("tide.wake_wait cannot run inside a transaction block"),
			 errhint(
				 "CALL it by itself: it commits first, so as to hold no snapshot while it waits.")));

	SPI_connect_ext(SPI_OPT_NONATOMIC);
	SPI_commit();
	wait_for_change(&shared->slots[slot], seen, timeout_ms);
	SPI_finish();
	PG_RETURN_VOID();
}

/* tide._wake(kind, name): whoever waits is woken when this transaction commits. */
Datum
tide_sql_wake(PG_FUNCTION_ARGS)
{
	tide_wake_at_commit(slot_of(PG_GETARG_TEXT_PP(0), PG_GETARG_TEXT_PP(1)));
	PG_RETURN_VOID();
}

/* tide._wake_generation(kind, name): to be read before looking; NULL when not preloaded. */
Datum
tide_sql_wake_generation(PG_FUNCTION_ARGS)
{
	uint64 generation;

	if (!tide_wake_generation(slot_of(PG_GETARG_TEXT_PP(0), PG_GETARG_TEXT_PP(1)), &generation))
		PG_RETURN_NULL();
	PG_RETURN_INT64((int64) generation);
}

Datum
tide_sql_preloaded(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(shared != NULL);
}
