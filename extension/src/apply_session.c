/*
 * apply_session.c
 *		What must hold for a transaction that applies rows, and what survives it.
 *
 * Owns: the replication origin, synchronous_commit, which positions are durable,
 * the transaction of the origin that open frames are in the middle of.  Does not
 * own: the position itself (apply_link.c).
 *
 * The origin is a tag: whoever decodes this database's WAL sees that the
 * transaction came by a link and lets it lie.  Its LSN stays 0.  (An origin's own
 * LSN can't be the position: from 16 on, an abort moves it.)  A name must have been
 * committed before it is used, or decoders of 15 don't find it: so none is made here,
 * tide._link_origins() makes them when a link begins to work.
 *
 * Durable.  Commits don't wait for the disk; instead the end of each commit is
 * remembered together with the position that it wrote, and a position counts as
 * flushed when WAL is flushed so far.  What an earlier session committed is
 * made durable once, at the first call.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "replication/origin.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "apply.h"
#include "pg_tide.h"
#include "compat.h"

PG_FUNCTION_INFO_V1(tide_sql_flush_wal);

#define ORIGIN_NAME 128
#define COPY_ORIGINS 8 /* tide._link_origins() makes as many */
#define MAX_REMEMBERED 1024

typedef struct Reached
{
	XLogRecPtr position; /* at the origin */
	XLogRecPtr local;	 /* end of the commit that wrote it, here */
} Reached;

/* Of the session. */
static char origin_name[ORIGIN_NAME]; /* "": none is set up */
static bool origin_of_copy = false;
static RepOriginId origin_id = InvalidRepOriginId;
static int remembered_link = 0; /* what follows is of this link */
static XLogRecPtr flushed = InvalidXLogRecPtr;
static Reached remembered[MAX_REMEMBERED];
static int n_remembered = 0;

/* Of the transaction. */
static bool active = false;
static SubTransactionId active_subid = InvalidSubTransactionId; /* the innermost that applied */
static XLogRecPtr reached = InvalidXLogRecPtr;
static TideOpenTransaction open_transaction;
static SubTransactionId open_subid = InvalidSubTransactionId; /* where it began, once in parts */
static bool spoiled = false;   /* a part of it was undone by itself */
static bool give_back = false; /* the origin, when it ends */

/* ---- the end of a transaction ---- */

static void
remember(XLogRecPtr position, XLogRecPtr local)
{
	/* When there is no room, the last entry stands for both: later than necessary, never too early. */
	if (n_remembered == MAX_REMEMBERED)
		n_remembered--;
	remembered[n_remembered++] = (Reached){.position = position, .local = local};
}

static void
release_origin(void)
{
	if (origin_name[0] == '\0')
		return;
	origin_name[0] = '\0';
	origin_of_copy = false;
	origin_id = InvalidRepOriginId;
	replorigin_session_reset();
}

static void
forget_transaction(void)
{
	if (give_back)
		release_origin();
	give_back = false;
	active = false;
	active_subid = InvalidSubTransactionId;
	reached = InvalidXLogRecPtr;
	memset(&open_transaction, 0, sizeof(open_transaction));
	open_subid = InvalidSubTransactionId;
	spoiled = false;
	replorigin_session_origin = InvalidRepOriginId;
	replorigin_session_origin_lsn = InvalidXLogRecPtr;
	replorigin_session_origin_timestamp = 0;
}

static void
at_transaction_end(XactEvent event, void *arg)
{
	if (!active)
		return;
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
			if (open_transaction.open || spoiled)
				ereport(ERROR, (errcode(ERRCODE_INVALID_TRANSACTION_STATE),
								errmsg("a transaction of another region is only partly applied"),
								errhint("Apply the frames up to its end before committing.")));
			break;
		case XACT_EVENT_PRE_PREPARE:
			ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
							errmsg("a transaction that has applied rows cannot be prepared")));
			break;
		case XACT_EVENT_COMMIT:
			if (reached != InvalidXLogRecPtr)
				remember(reached, XactLastCommitEnd);
			tide_parked_transaction_end(true);
			forget_transaction();
			break;
		case XACT_EVENT_ABORT:
			tide_parked_transaction_end(false);
			forget_transaction();
			break;
		default:
			break;
	}
}

/*
 * Something was undone inside the transaction.  If that contains what was applied,
 * nothing is known about it any more; a later call says more.
 */
static void
at_subtransaction_end(SubXactEvent event, SubTransactionId subid, SubTransactionId parent,
					  void *arg)
{
	if (!active || event != SUBXACT_EVENT_ABORT_SUB || subid > active_subid)
		return;
	if (subid <= open_subid)
		open_subid = InvalidSubTransactionId;
	spoiled |= open_subid != InvalidSubTransactionId;
	reached = InvalidXLogRecPtr;
	memset(&open_transaction, 0, sizeof(open_transaction));
	tide_parked_transaction_end(false);
}

void
tide_session_init(void)
{
	RegisterXactCallback(at_transaction_end, NULL);
	RegisterSubXactCallback(at_subtransaction_end, NULL);
}

/* ---- origins ---- */

/* Takes the origin for this session; false if another session has it. */
static bool
try_setup(RepOriginId id)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile bool done = false;

	BeginInternalSubTransaction(NULL);
	PG_TRY();
	{
		tide_replorigin_setup(id);
		ReleaseCurrentSubTransaction();
		done = true;
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		if (error->sqlerrcode != ERRCODE_OBJECT_IN_USE)
			ReThrowError(error);
		FreeErrorData(error);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return done;
}

/* Takes the origin of that name; false if another session has it. */
static bool
take_origin(const char *name)
{
	RepOriginId id;

	if (strcmp(origin_name, name) == 0)
		return true;
	release_origin();
	id = replorigin_by_name(name, true);
	if (id == InvalidRepOriginId)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("replication origin \"%s\" does not exist", name),
						errhint("tide.relay_link() makes it when a relay takes the link up.")));
	if (!try_setup(id))
		return false;
	snprintf(origin_name, sizeof(origin_name), "%s", name);
	origin_id = id;
	return true;
}

static void
tag_transaction(void)
{
	active = true;
	active_subid = Max(active_subid, GetCurrentSubTransactionId());
	replorigin_session_origin = origin_id;
	replorigin_session_origin_lsn = InvalidXLogRecPtr;
	replorigin_session_origin_timestamp = 0;
}

void
tide_session_begin(const TideApplyLink *link)
{
	char name[ORIGIN_NAME];

	/* Each lane has one: tide._link_origins() names them so. */
	snprintf(name, sizeof(name), "tide_%u_%s", MyDatabaseId,
			 link->pipeline + strlen(TIDE_LINK_PREFIX));
	if (!take_origin(name))
		ereport(ERROR, (errcode(ERRCODE_LOCK_NOT_AVAILABLE),
						errmsg("another session is applying rows of region \"%s\"", link->region),
						errhint("It may be that of a relay that is gone; this one tries again.")));
	if (synchronous_commit != SYNCHRONOUS_COMMIT_OFF)
		(void) set_config_option("synchronous_commit", "off", PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_LOCAL, true, 0, false);
	tag_transaction();
}

void
tide_session_begin_copy(void)
{
	char name[ORIGIN_NAME];

	for (int n = 1; !origin_of_copy && n <= COPY_ORIGINS; n++)
	{
		snprintf(name, sizeof(name), "tide_%u#%d", MyDatabaseId, n);
		origin_of_copy = take_origin(name);
	}
	if (!origin_of_copy)
		ereport(ERROR, (errcode(ERRCODE_LOCK_NOT_AVAILABLE),
						errmsg("%d sessions are copying rows already", COPY_ORIGINS),
						errhint("Try again when one of them has finished.")));
	tag_transaction();
}

void
tide_session_begin_local(void)
{
	tide_session_begin_copy();
	give_back = true;
}

void
tide_session_left_open(void)
{
	if (open_subid == InvalidSubTransactionId)
		open_subid = GetCurrentSubTransactionId();
}

TideOpenTransaction *
tide_session_transaction(void)
{
	return &open_transaction;
}

/* ---- what is durable ---- */

static void
switch_link(const TideApplyLink *link)
{
	if (remembered_link == link->id)
		return;
	remembered_link = link->id;
	flushed = InvalidXLogRecPtr;
	n_remembered = 0;
}

void
tide_session_reached(const TideApplyLink *link, XLogRecPtr position)
{
	switch_link(link);
	reached = position;
}

/*
 * The end of what has been inserted.  At the beginning of a page the server's
 * function points behind the page's header, which is not written yet.
 */
static XLogRecPtr
insert_end(void)
{
	XLogRecPtr end = GetXLogInsertRecPtr();

	if (XLogSegmentOffset(end, wal_segment_size) == SizeOfXLogLongPHD)
		return end - SizeOfXLogLongPHD;
	if (end % XLOG_BLCKSZ == SizeOfXLogShortPHD)
		return end - SizeOfXLogShortPHD;
	return end;
}

/* _flush_wal(): what has been committed is on disk. */
Datum
tide_sql_flush_wal(PG_FUNCTION_ARGS)
{
	XLogFlush(insert_end());
	PG_RETURN_VOID();
}

XLogRecPtr
tide_session_flushed(const TideApplyLink *link, const TideProgress *progress)
{
	XLogRecPtr local = GetFlushRecPtr(NULL);
	int done = 0;

	switch_link(link);
	if (progress->position < flushed) /* the link began anew */
	{
		flushed = InvalidXLogRecPtr;
		n_remembered = 0;
	}
	if (flushed == InvalidXLogRecPtr && n_remembered == 0 && progress->durable)
	{
		XLogFlush(insert_end());
		flushed = progress->position;
	}
	for (; done < n_remembered && remembered[done].local <= local; done++)
		flushed = Max(flushed, remembered[done].position);
	n_remembered -= done;
	memmove(remembered, remembered + done, n_remembered * sizeof(Reached));
	return flushed;
}
