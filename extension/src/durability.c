/*
 * durability.c
 *		Classes whose commits wait for another region, and those that need not.
 *
 * Owns: the trigger that notes which kind of table a transaction writes; what its commit then
 * waits for, and for how long; counting the waits, and those that ended without an answer.
 * Does not own: which tables have the trigger (74_durability.sql), the waiting itself (core's
 * syncrep.c), how the other region answers (relay/src/link_stream.c).
 *
 * Core makes commits wait for the walsenders that synchronous_standby_names lists; a link's is named
 * like its slot.  So a commit that must wait gets synchronous_commit = on, and one that
 * wrote asynchronous classes alone gets local, for this transaction only.  Others, that wrote no
 * replicated table, are left as they are.
 *
 * By the time core waits the transaction is committed here.  A wait that ends early (a cancel, the end of
 * the server, the class's time limit, no standby listed any more) can't undo that: the commit
 * stands, and what is known to be at the other region is read from what that one has confirmed, never
 * from the fact that the wait is over.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "postmaster/interrupt.h"
#include "replication/message.h"
#include "replication/syncrep.h"
#include "replication/walsender.h"
#include "replication/walsender_private.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "storage/spin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/rel.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "apply.h"
#include "inbox.h"
#include "pg_tide.h"
#include "tide_capture.h"
#include "compat.h"

#define OUR_STANDBYS "tide_link_" /* what the names of links' walsenders begin with */
#define N_COUNTS 256	  /* classes of all databases; the last one is for all that are too many */
#define MAX_NOTED 8		  /* synchronous classes that one transaction remembers */
#define LOOK_AGAIN_MS 100 /* the time limit is up, but the commit does not wait yet */

enum
{
	ARG_CLASS, /* without the others: it does not wait */
	ARG_PEER,
	ARG_STANDBY,
	ARG_WAIT_MS, /* -1: for as long as it takes */
	N_SYNC_ARGS
};

/* Of one class.  An entry that is used stays what it is until the server ends. */
typedef struct SyncCounts
{
	Oid database; /* InvalidOid: free; written last */
	NameData class;
	pg_atomic_uint64 waits;
	pg_atomic_uint64 waited_us;
	pg_atomic_uint64 ended;
	pg_atomic_uint64 last_ended; /* TimestampTz */
} SyncCounts;

typedef struct SyncShared
{
	slock_t mutex; /* for taking an entry */
	SyncCounts counts[N_COUNTS];
} SyncShared;

/* A synchronous class that this transaction has written. */
typedef struct Noted
{
	SyncCounts *counts;
	NameData class;
	NameData peer;
	NameData standby;
	int wait_ms;
} Noted;

static SyncShared *shared = NULL;

/* Of the transaction. */
static Noted noted[MAX_NOTED];
static int n_noted = 0;
static bool wrote_async = false;
static Oid last_trigger = InvalidOid; /* has been noted already */
static bool waits = false;			  /* its commit does */
static TimestampTz waits_since;

/* Of the session. */
static TimeoutId limit = MAX_TIMEOUTS; /* registered when first needed */
static volatile sig_atomic_t limit_hit = false;

PG_FUNCTION_INFO_V1(tide_sql_durability_note);
PG_FUNCTION_INFO_V1(tide_sql_standby_listed);
PG_FUNCTION_INFO_V1(tide_sql_standbys);
PG_FUNCTION_INFO_V1(tide_sql_sync_counts);

/* ---- synchronous_standby_names ---- */

/* Does a commit wait for that one?  For certain only if it waits for every one that is listed. */
static bool
is_listed(const char *standby)
{
	const char *member;
	bool found = false;

	if (SyncRepConfig == NULL || max_wal_senders == 0 ||
		SyncRepConfig->num_sync != SyncRepConfig->nmembers)
		return false;
	member = SyncRepConfig->member_names;
	for (int i = 0; i < SyncRepConfig->nmembers; i++, member += strlen(member) + 1)
	{
		if (strcmp(member, "*") == 0)
			return false;
		found = found || pg_strcasecmp(member, standby) == 0;
	}
	return found;
}

/* Is any link listed?  If not, whatever waits there are have nothing to do with us. */
static bool
links_listed(void)
{
	const char *member;

	if (SyncRepConfig == NULL)
		return false;
	member = SyncRepConfig->member_names;
	for (int i = 0; i < SyncRepConfig->nmembers; i++, member += strlen(member) + 1)
	{
		if (pg_strncasecmp(member, OUR_STANDBYS, strlen(OUR_STANDBYS)) == 0)
			return true;
	}
	return false;
}

/* The line that the server's configuration needs, in the caller's memory. */
static char *
needed_line(void)
{
	MemoryContext caller = CurrentMemoryContext;
	TideIdentity self;
	char *line = NULL;

	tide_act_as(tide_catalog_owner(), "pg_catalog, pg_temp", &self);
	SPI_connect();
	if (SPI_execute("SELECT tide._standby_line()", true, 1) == SPI_OK_SELECT && SPI_processed == 1)
	{
		char *value = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);

		line = value != NULL ? MemoryContextStrdup(caller, value) : NULL;
	}
	SPI_finish();
	tide_act_as_self(&self);
	return line != NULL ? line : "synchronous_standby_names = ...";
}

static void
refuse_unlisted(const char *class, const char *peer, const char *line)
{
	ereport(ERROR, (errcode(ERRCODE_TIDE_NO_SYNC_PEER),
					errmsg("a commit could not wait for region \"%s\", as class \"%s\" demands",
						   peer, class),
					errdetail("The server does not wait for it: see synchronous_standby_names."),
					line == NULL ? 0 : errhint("Set %s and reload.", line)));
}

/* ---- counts ---- */

static SyncCounts *
find_counts(const char *class)
{
	for (int i = 0; i < N_COUNTS - 1; i++)
	{
		SyncCounts *counts = &shared->counts[i];

		if (counts->database == InvalidOid)
			return NULL;
		pg_read_barrier();
		if (counts->database == MyDatabaseId && strcmp(NameStr(counts->class), class) == 0)
			return counts;
	}
	return NULL;
}

/* Anybody may make a trigger of his own with the function; there is no room for what he might write into it. */
static void
check_known(const char *class)
{
	Oid types[] = {TEXTOID};
	Datum values[] = {CStringGetTextDatum(class)};
	TideIdentity self;
	bool known;

	tide_act_as(tide_catalog_owner(), "pg_catalog, pg_temp", &self);
	SPI_connect();
	if (SPI_execute_with_args(
			"SELECT 1 FROM tide.class c WHERE c.name OPERATOR(pg_catalog.=) $1 AND"
			" c.durability OPERATOR(pg_catalog.=) 'sync'",
			1, types, values, NULL, true, 1) != SPI_OK_SELECT)
		elog(ERROR, "looking for class \"%s\" failed", class);
	known = SPI_processed > 0;
	SPI_finish();
	tide_act_as_self(&self);
	if (!known)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
						errmsg("there is no synchronous class \"%s\"", class),
						errhint("Triggers of tide._durability_note() are pg_tide's own:"
								" tide.table_add() makes them.")));
}

static SyncCounts *
take_counts(const char *class)
{
	SyncCounts *counts = find_counts(class);
	int i = 0;

	if (counts != NULL)
		return counts;
	check_known(class);
	SpinLockAcquire(&shared->mutex);
	while (i < N_COUNTS - 1 && shared->counts[i].database != InvalidOid &&
		   (shared->counts[i].database != MyDatabaseId ||
			strcmp(NameStr(shared->counts[i].class), class) != 0))
		i++;
	counts = &shared->counts[i];
	if (i < N_COUNTS - 1 && counts->database == InvalidOid)
	{
		snprintf(NameStr(counts->class), NAMEDATALEN, "%s", class);
		pg_write_barrier();
		counts->database = MyDatabaseId;
	}
	SpinLockRelease(&shared->mutex);
	return counts;
}

/* ---- what the transaction writes ---- */

static void
check_call(FunctionCallInfo fcinfo)
{
	const TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_BEFORE(trigger->tg_event) ||
		(trigger->tg_trigger->tgnargs != 0 && trigger->tg_trigger->tgnargs != N_SYNC_ARGS))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("tide._durability_note() is the function of pg_tide's own triggers"
							   " only"),
						errhint("tide.table_add() makes them.")));
}

static void
note_sync(char **args)
{
	Noted *entry;

	if (shared == NULL)
		ereport(ERROR, (errcode(ERRCODE_TIDE_NOT_PRELOADED),
						errmsg("class \"%s\" is synchronous, which needs pg_tide in "
							   "shared_preload_libraries",
							   args[ARG_CLASS]),
						errhint("Add pg_tide to shared_preload_libraries and restart.")));
	if (!is_listed(args[ARG_STANDBY]))
		refuse_unlisted(args[ARG_CLASS], args[ARG_PEER], needed_line());
	for (int i = 0; i < n_noted; i++)
	{
		if (strcmp(NameStr(noted[i].class), args[ARG_CLASS]) == 0)
			return;
	}
	/* With too many, the last one stands for the others, and waits for as long as it takes. */
	entry = &noted[Min(n_noted, MAX_NOTED - 1)];
	snprintf(NameStr(entry->class), NAMEDATALEN, "%s", args[ARG_CLASS]);
	snprintf(NameStr(entry->peer), NAMEDATALEN, "%s", args[ARG_PEER]);
	snprintf(NameStr(entry->standby), NAMEDATALEN, "%s", args[ARG_STANDBY]);
	entry->wait_ms = n_noted < MAX_NOTED ? pg_strtoint32(args[ARG_WAIT_MS]) : -1;
	entry->counts = take_counts(args[ARG_CLASS]);
	n_noted = Min(n_noted + 1, MAX_NOTED);
}

/* tide._durability_note() or (class, peer, standby, wait_ms): BEFORE any write, of statements or of rows. */
Datum
tide_sql_durability_note(PG_FUNCTION_ARGS)
{
	TriggerData *trigger;

	check_call(fcinfo);
	trigger = (TriggerData *) fcinfo->context;
	if (trigger->tg_trigger->tgoid != last_trigger)
	{
		if (trigger->tg_trigger->tgnargs == 0)
			wrote_async = true;
		else
			note_sync(trigger->tg_trigger->tgargs);
		last_trigger = trigger->tg_trigger->tgoid;
	}
	if (!TRIGGER_FIRED_FOR_ROW(trigger->tg_event))
		PG_RETURN_POINTER(NULL);
	PG_RETURN_POINTER(TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) ? trigger->tg_newtuple
																 : trigger->tg_trigtuple);
}

/* ---- the time limit ---- */

/*
 * In a signal handler.  What core takes for a request to cancel ends its wait; at any other moment it
 * would end something else, so it is made only while core waits.  A request of somebody else's needs no help.
 */
static void
end_wait(void)
{
	if (MyProc == NULL || MyProc->syncRepState != SYNC_REP_WAITING || QueryCancelPending)
		return;
	limit_hit = true;
	QueryCancelPending = true;
	InterruptPending = true;
	SetLatch(MyLatch);
}

/* The longest that any of the classes asks for; -1: no limit. */
static int
longest_wait(void)
{
	int longest = 0;

	for (int i = 0; i < n_noted; i++)
	{
		if (noted[i].wait_ms < 0)
			return -1;
		longest = Max(longest, noted[i].wait_ms);
	}
	return longest;
}

static void
start_limit(int ms)
{
	if (ms < 0)
		return;
	if (limit == MAX_TIMEOUTS)
		limit = RegisterTimeout(USER_TIMEOUT, end_wait);
	limit_hit = false;
	enable_timeout_every(limit, TimestampTzPlusMilliseconds(GetCurrentTimestamp(), ms),
						 LOOK_AGAIN_MS);
}

static void
stop_limit(void)
{
	if (limit != MAX_TIMEOUTS && get_timeout_active(limit))
		disable_timeout(limit, false);
}

/* ---- the commit ---- */

static void
set_level(const char *level)
{
	(void) set_config_option("synchronous_commit", level, PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_LOCAL, true, 0, false);
}

/*
 * What a relay writes is done for other regions, and they wait for it: two regions whose relays
 * waited for each other would wait for ever.
 */
static bool
is_relay(void)
{
	const char *value = GetConfigOption("tide.relay", true, false);

	return value != NULL && strcmp(value, "on") == 0;
}

/* Tells the other region's relay that somebody waits; with that, something of the transaction does go there. */
static void
ask_for_answer(void)
{
	static const char record[] = {'Y', 0, 0, 0, 0};

	(void) tide_log_message(TIDE_MESSAGE_PREFIX, record, sizeof(record));
}

static void
before_commit(void)
{
	if (n_noted == 0)
	{
		if (synchronous_commit > SYNCHRONOUS_COMMIT_LOCAL_FLUSH &&
			TransactionIdIsValid(GetTopTransactionIdIfAny()) && links_listed() &&
			(wrote_async || is_relay()))
			set_level("local");
		return;
	}
	/* Nothing was written after all. */
	if (!TransactionIdIsValid(GetTopTransactionIdIfAny()))
		return;
	/* The list may have changed since. */
	for (int i = 0; i < n_noted; i++)
	{
		if (!is_listed(NameStr(noted[i].standby)))
			refuse_unlisted(NameStr(noted[i].class), NameStr(noted[i].peer), NULL);
	}
	ask_for_answer();
	if (synchronous_commit < SYNCHRONOUS_COMMIT_REMOTE_FLUSH)
		set_level("on");
	start_limit(longest_wait());
	waits_since = GetCurrentTimestamp();
	waits = true;
}

/*
 * COMMIT PREPARED runs in any session and tells nobody which tables it is about, so nothing could
 * promise that it waits.
 */
static void
before_prepare(void)
{
	if (n_noted == 0)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("a transaction that wrote tables of the synchronous class \"%s\" cannot be "
					"prepared",
					NameStr(noted[0].class)),
			 errhint("Commit it in one step, or write them in a transaction of their own.")));
}

/*
 * Has everybody who is listed confirmed up to there?  If the list may have become another one
 * while we waited, it is not known who that was.
 */
static bool
is_confirmed(XLogRecPtr commit)
{
	XLogRecPtr confirmed;

	LWLockAcquire(SyncRepLock, LW_SHARED);
	confirmed = WalSndCtl->lsn[SYNC_REP_WAIT_FLUSH];
	LWLockRelease(SyncRepLock);
	return confirmed >= commit && !ConfigReloadPending;
}

/* The commit stands; what is said about it must be true.  Nothing here may fail. */
static void
after_commit(void)
{
	TimestampTz now = GetCurrentTimestamp();
	bool confirmed;

	stop_limit();
	confirmed = is_confirmed(XactLastCommitEnd);
	/* Ours, and nobody took it: the answer was quicker.  One of somebody else's keeps ours from being made. */
	if (limit_hit && confirmed)
		QueryCancelPending = false;
	for (int i = 0; i < n_noted; i++)
	{
		SyncCounts *counts = noted[i].counts;

		pg_atomic_fetch_add_u64(&counts->waits, 1);
		pg_atomic_fetch_add_u64(&counts->waited_us, (uint64) Max(now - waits_since, 0));
		if (confirmed)
			continue;
		pg_atomic_fetch_add_u64(&counts->ended, 1);
		pg_atomic_write_u64(&counts->last_ended, (uint64) now);
	}
	if (!confirmed)
		ereport(WARNING,
				(errcode(ERRCODE_TIDE_NO_SYNC_PEER),
				 errmsg("committed here, but region \"%s\" has not confirmed it",
						NameStr(noted[0].peer)),
				 limit_hit ? errdetail("Commits of class \"%s\" wait for at most %d ms.",
									   NameStr(noted[0].class), longest_wait())
						   : errdetail("The wait was ended early."),
				 errhint("It goes there as soon as the link comes to it; until then this server "
						 "alone has it. See tide.durability.")));
}

static void
at_transaction_end(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
			before_commit();
			return;
		case XACT_EVENT_PRE_PREPARE:
			before_prepare();
			return;
		case XACT_EVENT_COMMIT:
			if (waits)
				after_commit();
			break;
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			stop_limit();
			break;
		default:
			return;
	}
	n_noted = 0;
	wrote_async = false;
	last_trigger = InvalidOid;
	waits = false;
	limit_hit = false;
}

/* ---- start ---- */

static void
attach(void *place, bool fresh)
{
	shared = place;
	if (!fresh)
		return;
	memset(shared, 0, sizeof(SyncShared));
	SpinLockInit(&shared->mutex);
	for (int i = 0; i < N_COUNTS; i++)
	{
		pg_atomic_init_u64(&shared->counts[i].waits, 0);
		pg_atomic_init_u64(&shared->counts[i].waited_us, 0);
		pg_atomic_init_u64(&shared->counts[i].ended, 0);
		pg_atomic_init_u64(&shared->counts[i].last_ended, 0);
	}
}

void
tide_durability_init(void)
{
	RegisterXactCallback(at_transaction_end, NULL);
	tide_shmem_reserve("pg_tide synchronous classes", sizeof(SyncShared), attach);
}

/* ---- looking ---- */

/* tide._standby_listed(standby): does a commit that waits wait for that one? */
Datum
tide_sql_standby_listed(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(is_listed(text_to_cstring(PG_GETARG_TEXT_PP(0))));
}

/* tide._standbys(): who is listed. */
Datum
tide_sql_standbys(PG_FUNCTION_ARGS)
{
	int n = SyncRepConfig != NULL ? SyncRepConfig->nmembers : 0;
	const char *member = n > 0 ? SyncRepConfig->member_names : "";
	Datum *names = palloc(sizeof(Datum) * Max(n, 1));

	for (int i = 0; i < n; i++, member += strlen(member) + 1)
		names[i] = CStringGetTextDatum(member);
	PG_RETURN_ARRAYTYPE_P(construct_array(names, n, TEXTOID, -1, false, TYPALIGN_INT));
}

/* tide._sync_counts(class): waits, how long in all, how many of them ended early and the last one of those when. */
Datum
tide_sql_sync_counts(PG_FUNCTION_ARGS)
{
	SyncCounts *counts = shared != NULL ? find_counts(text_to_cstring(PG_GETARG_TEXT_PP(0))) : NULL;
	Datum values[4] = {0};
	bool nulls[4] = {false, false, false, true};
	TupleDesc desc;
	uint64 last;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	if (counts != NULL)
	{
		values[0] = Int64GetDatum((int64) pg_atomic_read_u64(&counts->waits));
		values[1] = Int64GetDatum((int64) pg_atomic_read_u64(&counts->waited_us));
		values[2] = Int64GetDatum((int64) pg_atomic_read_u64(&counts->ended));
		last = pg_atomic_read_u64(&counts->last_ended);
		values[3] = TimestampTzGetDatum((TimestampTz) last);
		nulls[3] = last == 0;
	}
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}
