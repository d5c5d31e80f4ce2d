/*
 * window.c
 *		Reading an outbox without gaps: by snapshot windows, in sequence order.
 *
 * Owns: tide.outbox_fetch and what else asks which events lie between two
 * snapshots.  Does not own: who has confirmed what (tide.position_*), and the
 * pipelines that call it.
 *
 * A window is what became visible between two snapshots A and B: events whose
 * transaction is visible in B and not in A.  Windows follow each other without
 * gap or overlap whatever the order in which transactions started, took their
 * sequence numbers or committed.  Inside a window events are ordered by their
 * sequence number: if a change to a row had to wait for another transaction to
 * commit, its event has the higher number, or lies in a later window.
 * (Not by transaction id: a transaction can take its id early and write late.
 * Not by sequence number alone: a low number can become visible late.)
 *
 * The idea of reading a queue between two snapshots is PgQ's ("ticks").  Here
 * publishers record the ticks: every so many events one carries its snapshot,
 * so that a backlog is read in pieces although nobody was there to tick.
 *
 * A window's transactions are found by two kinds of index scan on xid: the
 * range [A.xmax, B.xmax), and each transaction that was in progress in A and is
 * not in B.  The scan yields (sequence number, place) pairs, which are sorted
 * and kept for as long as the same window is read on; rows are never updated,
 * and if a segment is rewritten (VACUUM FULL, CLUSTER) its file number changes
 * and the pairs are made again.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/relscan.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "access/xact.h"
#include "access/commit_ts.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"
#include "utils/xid8.h"

#include "pg_tide.h"
#include "tide_snapshot.h"
#include "tide_uuid.h"
#include "compat.h"

/* Before everything: nothing is visible in it. */
#define EMPTY_SNAPSHOT "1:1:"

#define UNIX_US(ts) ((ts) + ((int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE)) * USECS_PER_DAY)

PG_FUNCTION_INFO_V1(tide_sql_outbox_fetch);
PG_FUNCTION_INFO_V1(tide_sql_outbox_oldest_unsent);
PG_FUNCTION_INFO_V1(tide_sql_outbox_unconfirmed);

/* Where one event of the window is. */
typedef struct WindowItem
{
	int64 seq;
	ItemPointerData tid;
	uint16 segment;
} WindowItem;

/* The window this session reads at the moment. */
typedef struct Window
{
	MemoryContext context; /* everything below; NULL: no window */
	int outbox_id;
	char *from; /* snapshots as text, to recognise a continued read */
	char *to;
	Oid files[TIDE_OUTBOX_SEGMENTS];
	WindowItem *items;
	size_t n_items;
	size_t max_items;
	size_t next;   /* first item not yet handed out */
	bool complete; /* built to the end; an error on the way leaves it false */
} Window;

static Window window;

/* The segments of an outbox, open for reading. */
typedef struct OpenSegments
{
	const TideOutbox *outbox;
	Relation heaps[TIDE_OUTBOX_SEGMENTS];
	Relation xid_indexes[TIDE_OUTBOX_SEGMENTS];
	Relation tick_indexes[TIDE_OUTBOX_SEGMENTS];
} OpenSegments;

/* ---- snapshots ---- */

static void
parse_snapshot(const char *text, TideSnapshot *snapshot)
{
	size_t len = strlen(text);
	size_t max_xip = tide_snapshot_max_xip(text, len);
	uint64 *xip = palloc_extended(sizeof(uint64) * (max_xip + 1), MCXT_ALLOC_HUGE);

	if (!tide_snapshot_parse(text, len, xip, max_xip, snapshot))
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("\"%s\" is not a snapshot", text),
			 errhint("A snapshot reads xmin:xmax:xip_list, as pg_current_snapshot() prints it.")));
}

/* Writes a snapshot with one more transaction in progress. */
static char *
snapshot_without(const TideSnapshot *snapshot, uint64 xid)
{
	StringInfoData buf;
	size_t before = 0;

	while (before < snapshot->n_xip && snapshot->xip[before] < xid)
		before++;
	initStringInfo(&buf);
	appendStringInfo(&buf, UINT64_FORMAT ":" UINT64_FORMAT ":", (uint64) snapshot->xmin,
					 (uint64) snapshot->xmax);
	for (size_t i = 0; i < before; i++)
		appendStringInfo(&buf, UINT64_FORMAT ",", (uint64) snapshot->xip[i]);
	appendStringInfo(&buf, UINT64_FORMAT, xid);
	for (size_t i = before; i < snapshot->n_xip; i++)
		appendStringInfo(&buf, "," UINT64_FORMAT, (uint64) snapshot->xip[i]);
	return buf.data;
}

/*
 * The server leaves the session's own transaction out of the list of those in
 * progress, as if it had finished.  For others it has not.
 */
char *
tide_current_snapshot(void)
{
	char *text = DatumGetCString(
		DirectFunctionCall1(pg_snapshot_out, DirectFunctionCall1(pg_current_snapshot, (Datum) 0)));
	FullTransactionId own = GetTopFullTransactionIdIfAny();
	TideSnapshot snapshot;

	if (!FullTransactionIdIsValid(own))
		return text;
	parse_snapshot(text, &snapshot);
	if (!tide_snapshot_visible(&snapshot, U64FromFullTransactionId(own)))
		return text;
	return snapshot_without(&snapshot, U64FromFullTransactionId(own));
}

/* ---- segments ---- */

/* Indexes are told apart by their column, not by name: REINDEX CONCURRENTLY makes new ones. */
static Relation
open_index_on(Relation heap, AttrNumber column)
{
	ListCell *lc;

	foreach (lc, RelationGetIndexList(heap))
	{
		Relation index = index_open(lfirst_oid(lc), AccessShareLock);

		if (index->rd_index->indisvalid && index->rd_index->indkey.values[0] == column)
			return index;
		index_close(index, AccessShareLock);
	}
	ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
					errmsg("outbox segment \"%s\" has no valid index on column %d",
						   RelationGetRelationName(heap), column),
					errhint("REINDEX TABLE tide.%s, or create the index again.",
							RelationGetRelationName(heap))));
}

static void
open_segments(const TideOutbox *outbox, OpenSegments *segments)
{
	segments->outbox = outbox;
	for (int i = 0; i < TIDE_OUTBOX_SEGMENTS; i++)
	{
		segments->heaps[i] = table_open(outbox->segments[i], AccessShareLock);
		segments->xid_indexes[i] = open_index_on(segments->heaps[i], SEG_XID);
		segments->tick_indexes[i] = open_index_on(segments->heaps[i], SEG_TICK_XMAX);
	}
}

/* Locks go at once: a lingering reader would keep maintenance from truncating. */
static void
close_segments(OpenSegments *segments)
{
	for (int i = 0; i < TIDE_OUTBOX_SEGMENTS; i++)
	{
		index_close(segments->tick_indexes[i], AccessShareLock);
		index_close(segments->xid_indexes[i], AccessShareLock);
		table_close(segments->heaps[i], AccessShareLock);
	}
}

static Datum
slot_attr(TupleTableSlot *slot, int attnum)
{
	bool isnull;

	return slot_getattr(slot, attnum, &isnull);
}

/* Called for each visible row of an index range; returns false to stop the scan. */
typedef bool (*RowVisitor)(TupleTableSlot *slot, int segment, void *arg);

/* Visits the rows of a segment with low <= column < high, in index order. */
static void
scan_range(Relation heap, Relation index, int segment, uint64 low, uint64 high, RowVisitor visit,
		   void *arg)
{
	ScanKeyData keys[2];
	IndexScanDesc scan;
	TupleTableSlot *slot = table_slot_create(heap, NULL);

	ScanKeyInit(&keys[0], 1, BTGreaterEqualStrategyNumber, F_XID8GE,
				FullTransactionIdGetDatum(FullTransactionIdFromU64(low)));
	ScanKeyInit(&keys[1], 1, BTLessStrategyNumber, F_XID8LT,
				FullTransactionIdGetDatum(FullTransactionIdFromU64(high)));
	scan = tide_index_beginscan(heap, index, GetActiveSnapshot(), 2);
	index_rescan(scan, keys, 2, NULL, 0);
	while (index_getnext_slot(scan, ForwardScanDirection, slot))
	{
		CHECK_FOR_INTERRUPTS();
		if (!visit(slot, segment, arg))
			break;
	}
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
}

/* Visits every row whose transaction was not visible in "from" and has an id below high. */
static void
scan_since(const OpenSegments *segments, const TideSnapshot *from, uint64 high, RowVisitor visit,
		   void *arg)
{
	for (int i = 0; i < TIDE_OUTBOX_SEGMENTS; i++)
	{
		if (from->xmax < high)
			scan_range(segments->heaps[i], segments->xid_indexes[i], i, from->xmax, high, visit,
					   arg);
		for (size_t k = 0; k < from->n_xip; k++)
			scan_range(segments->heaps[i], segments->xid_indexes[i], i, from->xip[k],
					   from->xip[k] + 1, visit, arg);
	}
}

/* ---- where a window ends ---- */

typedef struct TickSearch
{
	TideSnapshot earliest;
	char *text; /* NULL: none found yet */
} TickSearch;

/* The first visible row in index order is the segment's earliest tick of the range. */
static bool
visit_tick(TupleTableSlot *slot, int segment, void *arg)
{
	TickSearch *search = arg;
	char *tick_text = TextDatumGetCString(slot_attr(slot, SEG_TICK));
	TideSnapshot tick;

	parse_snapshot(tick_text, &tick);
	if (search->text == NULL || tide_snapshot_compare(&tick, &search->earliest) < 0)
	{
		search->earliest = tick;
		search->text = tick_text;
	}
	return false;
}

/*
 * The end of the window that starts at "from": the earliest recorded snapshot
 * after it, so that a backlog comes in pieces; else "latest".
 */
static char *
choose_end(const OpenSegments *segments, const TideSnapshot *from, char *latest)
{
	TickSearch search = {.text = NULL};
	TideSnapshot last;

	parse_snapshot(latest, &last);
	for (int i = 0; i < TIDE_OUTBOX_SEGMENTS; i++)
		scan_range(segments->heaps[i], segments->tick_indexes[i], i, from->xmax + 1, last.xmax + 1,
				   visit_tick, &search);
	if (search.text != NULL && tide_snapshot_compare(&search.earliest, &last) < 0)
		return search.text;
	return latest;
}

/* ---- building a window ---- */

static bool
visit_item(TupleTableSlot *slot, int segment, void *arg)
{
	const TideSnapshot *to = arg;
	uint64 xid = U64FromFullTransactionId(DatumGetFullTransactionId(slot_attr(slot, SEG_XID)));
	WindowItem *item;

	if (!tide_snapshot_visible(to, xid))
		return true;
	if (window.n_items == window.max_items)
	{
		window.max_items = Max(window.max_items * 2, 4096);
		window.items = repalloc_huge(window.items, window.max_items * sizeof(WindowItem));
	}
	item = &window.items[window.n_items++];
	item->seq = DatumGetInt64(slot_attr(slot, SEG_SEQ));
	item->tid = slot->tts_tid;
	item->segment = (uint16) segment;
	return true;
}

static int
compare_items(const void *a, const void *b)
{
	int64 x = ((const WindowItem *) a)->seq;
	int64 y = ((const WindowItem *) b)->seq;

	return (x > y) - (x < y);
}

static void
forget_window(void)
{
	if (window.context != NULL)
		MemoryContextDelete(window.context);
	memset(&window, 0, sizeof(window));
}

static void
build_window(const OpenSegments *segments, const char *from_text, const TideSnapshot *from,
			 const char *to_text)
{
	TideSnapshot to;
	MemoryContext old;

	forget_window();
	parse_snapshot(to_text, &to);
	window.context = AllocSetContextCreate(TopMemoryContext, "pg_tide window",
										   ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(window.context);
	window.outbox_id = segments->outbox->id;
	window.from = pstrdup(from_text);
	window.to = pstrdup(to_text);
	window.max_items = 64;
	window.items = palloc(window.max_items * sizeof(WindowItem));
	MemoryContextSwitchTo(old);
	for (int i = 0; i < TIDE_OUTBOX_SEGMENTS; i++)
		window.files[i] = tide_relation_file(segments->heaps[i]);

	scan_since(segments, from, to.xmax, visit_item, &to);
	qsort(window.items, window.n_items, sizeof(WindowItem), compare_items);
	window.complete = true;
}

static bool
window_is(const OpenSegments *segments, const char *from, const char *to)
{
	if (!window.complete || window.outbox_id != segments->outbox->id ||
		strcmp(window.from, from) != 0 || strcmp(window.to, to) != 0)
		return false;
	for (int i = 0; i < TIDE_OUTBOX_SEGMENTS; i++)
	{
		if (window.files[i] != tide_relation_file(segments->heaps[i]))
			return false;
	}
	return true;
}

/* Positions the window after sequence number "after". */
static void
seek_window(int64 after)
{
	size_t low = 0;
	size_t high = window.n_items;

	if (window.next > 0 && window.next <= window.n_items &&
		window.items[window.next - 1].seq == after)
		return; /* the usual case: read on */
	while (low < high)
	{
		size_t mid = low + (high - low) / 2;

		if (window.items[mid].seq <= after)
			low = mid + 1;
		else
			high = mid;
	}
	window.next = low;
}

/* ---- handing rows out ---- */

enum
{
	OUT_SEQ,
	OUT_EVENT_ID,
	OUT_PUBLISHED,
	OUT_COMMITTED,
	OUT_ENTITY,
	OUT_OP,
	OUT_KEY,
	OUT_PAYLOAD,
	OUT_HEADERS,
	OUT_WINDOW_END,
	OUT_MORE,
	OUT_GENERATION,
	OUT_NATTS
};

/* Microseconds since 1970; 0 if the server does not remember when it committed. */
static int64
commit_time_us(FullTransactionId xid)
{
	TimestampTz at;

	if (tide_commit_time(xid, &at))
		return UNIX_US(at);
	if (track_commit_timestamp && TransactionIdIsNormal(XidFromFullTransactionId(xid)) &&
		TransactionIdGetCommitTsData(XidFromFullTransactionId(xid), &at, NULL))
		return UNIX_US(at);
	return 0;
}

static Datum
jsonb_text(Datum value, size_t *bytes)
{
	Jsonb *jsonb = DatumGetJsonbP(value);
	StringInfoData buf;

	initStringInfo(&buf);
	JsonbToCString(&buf, &jsonb->root, VARSIZE(jsonb));
	*bytes += buf.len;
	return PointerGetDatum(cstring_to_text_with_len(buf.data, buf.len));
}

/* Fills one output row from a stored one; returns its size in bytes for the batch limit. */
typedef size_t (*RowFiller)(TupleTableSlot *slot, Datum *values, bool *nulls);

static size_t
fill_event(TupleTableSlot *slot, Datum *values, bool *nulls)
{
	char id[TIDE_UUID_TEXT + 1];
	size_t bytes = 128;
	FullTransactionId xid;

	slot_getallattrs(slot);
	xid = DatumGetFullTransactionId(slot->tts_values[SEG_XID - 1]);
	tide_uuid_format(id, DatumGetUUIDP(slot->tts_values[SEG_EVENT_ID - 1])->data);
	values[OUT_SEQ] = slot->tts_values[SEG_SEQ - 1];
	values[OUT_EVENT_ID] = PointerGetDatum(cstring_to_text(id));
	values[OUT_PUBLISHED] = Int64GetDatum(
		UNIX_US(DatumGetTimestampTz(slot->tts_values[SEG_PUBLISHED_AT - 1])));
	values[OUT_COMMITTED] = Int64GetDatum(commit_time_us(xid));
	values[OUT_ENTITY] = slot->tts_values[SEG_ENTITY - 1];
	values[OUT_OP] = slot->tts_values[SEG_OP - 1];
	values[OUT_KEY] = slot->tts_values[SEG_KEY - 1];
	nulls[OUT_KEY] = slot->tts_isnull[SEG_KEY - 1];
	values[OUT_PAYLOAD] = jsonb_text(slot->tts_values[SEG_PAYLOAD - 1], &bytes);
	values[OUT_HEADERS] = jsonb_text(slot->tts_values[SEG_HEADERS - 1], &bytes);
	nulls[OUT_WINDOW_END] = nulls[OUT_MORE] = nulls[OUT_GENERATION] = true;
	return bytes;
}

/* Columns of outbox_unconfirmed. */
enum
{
	ID_EVENT_ID,
	ID_SEQ,
	ID_WINDOW_END,
	ID_MORE,
	ID_NATTS
};

static size_t
fill_id(TupleTableSlot *slot, Datum *values, bool *nulls)
{
	char id[TIDE_UUID_TEXT + 1];

	tide_uuid_format(id, DatumGetUUIDP(slot_attr(slot, SEG_EVENT_ID))->data);
	values[ID_EVENT_ID] = PointerGetDatum(cstring_to_text(id));
	values[ID_SEQ] = slot_attr(slot, SEG_SEQ);
	nulls[ID_WINDOW_END] = nulls[ID_MORE] = true;
	return sizeof(pg_uuid_t);
}

static void
put_trailer(ReturnSetInfo *rsinfo, const char *end, bool more, bool preloaded, uint64 generation)
{
	Datum values[OUT_NATTS] = {0};
	bool nulls[OUT_NATTS];

	memset(nulls, true, sizeof(nulls));
	nulls[OUT_WINDOW_END] = nulls[OUT_MORE] = false;
	nulls[OUT_GENERATION] = !preloaded;
	values[OUT_WINDOW_END] = CStringGetTextDatum(end);
	values[OUT_MORE] = BoolGetDatum(more);
	values[OUT_GENERATION] = Int64GetDatum((int64) generation);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

static void
put_events(ReturnSetInfo *rsinfo, const OpenSegments *segments, int max_events, size_t max_bytes,
		   RowFiller fill)
{
	TupleTableSlot *slots[TIDE_OUTBOX_SEGMENTS];
	MemoryContext row_context = AllocSetContextCreate(CurrentMemoryContext, "pg_tide event",
													  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(row_context);
	size_t bytes = 0;

	for (int i = 0; i < TIDE_OUTBOX_SEGMENTS; i++)
	{
		MemoryContextSwitchTo(old);
		slots[i] = table_slot_create(segments->heaps[i], NULL);
	}
	MemoryContextSwitchTo(row_context);
	for (int n = 0; n < max_events && bytes < max_bytes && window.next < window.n_items; n++)
	{
		WindowItem *item = &window.items[window.next++];
		TupleTableSlot *slot = slots[item->segment];
		Datum values[OUT_NATTS] = {0};
		bool nulls[OUT_NATTS] = {0};

		CHECK_FOR_INTERRUPTS();
		if (!table_tuple_fetch_row_version(segments->heaps[item->segment], &item->tid,
										   GetActiveSnapshot(), slot))
			ereport(ERROR,
					(errcode(ERRCODE_DATA_CORRUPTED),
					 errmsg("event %lld of outbox \"%s\" vanished while it was read",
							(long long) item->seq, NameStr(segments->outbox->name)),
					 errhint("Rows of outbox segments must not be deleted or updated by hand.")));
		bytes += fill(slot, values, nulls);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
		MemoryContextReset(row_context);
	}
	MemoryContextSwitchTo(old);
	for (int i = 0; i < TIDE_OUTBOX_SEGMENTS; i++)
		ExecDropSingleTupleTableSlot(slots[i]);
	MemoryContextDelete(row_context);
}

/* ---- checks ---- */

static void
check_epoch(text *pipeline, int64 epoch)
{
	static SPIPlanPtr plan = NULL;
	Datum args[1] = {PointerGetDatum(pipeline)};
	bool isnull = true;
	int64 current = 0;

	SPI_connect();
	if (plan == NULL)
	{
		Oid types[1] = {TEXTOID};

		plan = SPI_prepare("SELECT epoch FROM tide.pipeline WHERE name OPERATOR(pg_catalog.=) $1",
						   1, types);
		SPI_keepplan(plan);
	}
	if (SPI_execute_plan(plan, args, NULL, true, 1) == SPI_OK_SELECT && SPI_processed == 1)
		current = DatumGetInt64(
			SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	SPI_finish();
	if (isnull || current != epoch)
		ereport(ERROR, (errcode(ERRCODE_TIDE_STALE_OWNER),
						errmsg("pipeline \"%s\" is no longer owned with epoch %lld",
							   text_to_cstring(pipeline), (long long) epoch),
						errhint("Another relay has taken it over.")));
}

static void
check_readable(const TideOutbox *outbox)
{
	if (pg_class_aclcheck(outbox->view, GetUserId(), ACL_SELECT) != ACLCHECK_OK)
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("permission denied to read outbox \"%s\"", NameStr(outbox->name)),
						errhint("The relay's role must be a member of tide_relay.")));
	if (outbox->restored)
		ereport(ERROR,
				(errcode(ERRCODE_TIDE_RESTORED),
				 errmsg("outbox \"%s\" was copied here from another database cluster",
						NameStr(outbox->name)),
				 errhint("If this database replaces that one, SELECT tide.outbox_rebase('%s'): "
						 "what it still holds is sent again, and inboxes drop what they have.",
						 NameStr(outbox->name))));
}

/* A position from the future means that the server went back in time. */
static void
check_not_ahead(const TideOutbox *outbox, const TideSnapshot *from)
{
	TideSnapshot current;

	parse_snapshot(tide_current_snapshot(), &current);
	if (from->xmax <= current.xmax)
		return;
	ereport(
		ERROR,
		(errcode(ERRCODE_TIDE_TIME_TRAVEL),
		 errmsg("outbox \"%s\" was read up to transaction %llu, but this server is only at %llu",
				NameStr(outbox->name), (unsigned long long) from->xmax,
				(unsigned long long) current.xmax),
		 errhint("The server was restored to an earlier state. SELECT tide.outbox_rebase('%s') "
				 "sends again what the outbox still holds; inboxes drop what they have.",
				 NameStr(outbox->name))));
}

/* ---- entry points ---- */

static text *
required_text(FunctionCallInfo fcinfo, int arg, const char *what)
{
	if (PG_ARGISNULL(arg))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("%s must not be null", what),
				 errhint("Only the snapshots where reading starts and ends may be left out.")));
	return PG_GETARG_TEXT_PP(arg);
}

static char *
optional_text(FunctionCallInfo fcinfo, int arg)
{
	return PG_ARGISNULL(arg) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(arg));
}

/*
 * outbox_fetch(pipeline text, epoch bigint, outbox text, from_snapshot text,
 *				to_snapshot text, after_seq bigint, max_events int, max_bytes int)
 *
 * The generation in the trailer was read after this statement's snapshot was
 * taken, so it may already count a commit that this fetch does not show.  Who
 * wants to sleep after an empty fetch waits with the generation of the fetch
 * before: that one is older than this snapshot, and nothing is missed.
 */
Datum
tide_sql_outbox_fetch(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	TideOutbox *outbox;
	OpenSegments segments;
	TideSnapshot from;
	char *from_text = optional_text(fcinfo, 3);
	char *to_text = optional_text(fcinfo, 4);
	uint64 generation = 0;
	bool preloaded;

	InitMaterializedSRF(fcinfo, 0);
	if (!PG_ARGISNULL(0))
		check_epoch(PG_GETARG_TEXT_PP(0), PG_GETARG_INT64(1));
	outbox = tide_outbox_lookup(required_text(fcinfo, 2, "the outbox's name"));
	preloaded = tide_wake_generation(outbox->wake_slot, &generation);
	check_readable(outbox);
	if (from_text == NULL)
		from_text = EMPTY_SNAPSHOT;
	parse_snapshot(from_text, &from);
	check_not_ahead(outbox, &from);

	open_segments(outbox, &segments);
	if (to_text == NULL)
		to_text = choose_end(&segments, &from, tide_current_snapshot());
	if (!window_is(&segments, from_text, to_text))
		build_window(&segments, from_text, &from, to_text);
	seek_window(PG_ARGISNULL(5) ? PG_INT64_MIN : PG_GETARG_INT64(5));
	put_events(rsinfo, &segments, Max(PG_GETARG_INT32(6), 1), Max(PG_GETARG_INT32(7), 1),
			   fill_event);
	put_trailer(rsinfo, to_text, window.next < window.n_items, preloaded, generation);
	close_segments(&segments);
	return (Datum) 0;
}

/*
 * outbox_unconfirmed(outbox text, confirmed text, sent text, to_snapshot text,
 *					  after_seq bigint, max_events int)
 *
 * Ids of the first window after "confirmed" that does not reach past "sent",
 * and a last row with its end: what to ask destinations about next.
 */
Datum
tide_sql_outbox_unconfirmed(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	TideOutbox *outbox = tide_outbox_lookup(required_text(fcinfo, 0, "the outbox's name"));
	OpenSegments segments;
	TideSnapshot from;
	char *from_text = optional_text(fcinfo, 1);
	char *to_text = optional_text(fcinfo, 3);
	Datum trailer[ID_NATTS] = {0};
	bool nulls[ID_NATTS] = {true, true, false, false};

	InitMaterializedSRF(fcinfo, 0);
	check_readable(outbox);
	if (from_text == NULL)
		from_text = EMPTY_SNAPSHOT;
	parse_snapshot(from_text, &from);
	open_segments(outbox, &segments);
	if (to_text == NULL)
		to_text = choose_end(&segments, &from,
							 text_to_cstring(required_text(fcinfo, 2, "the snapshot sent up to")));
	if (!window_is(&segments, from_text, to_text))
		build_window(&segments, from_text, &from, to_text);
	seek_window(PG_ARGISNULL(4) ? PG_INT64_MIN : PG_GETARG_INT64(4));
	put_events(rsinfo, &segments, Max(PG_GETARG_INT32(5), 1), SIZE_MAX, fill_id);
	trailer[ID_WINDOW_END] = CStringGetTextDatum(to_text);
	trailer[ID_MORE] = BoolGetDatum(window.next < window.n_items);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, trailer, nulls);
	close_segments(&segments);
	return (Datum) 0;
}

typedef struct OldestSearch
{
	TimestampTz oldest;
	bool found;
} OldestSearch;

/* Index order is transaction order: the first row of a range is about its oldest. */
static bool
visit_oldest(TupleTableSlot *slot, int segment, void *arg)
{
	OldestSearch *search = arg;
	TimestampTz at = DatumGetTimestampTz(slot_attr(slot, SEG_PUBLISHED_AT));

	if (!search->found || at < search->oldest)
		search->oldest = at;
	search->found = true;
	return false;
}

/* _outbox_oldest_unsent(outbox text, sent_snapshot text): when was it published?  NULL: none. */
Datum
tide_sql_outbox_oldest_unsent(PG_FUNCTION_ARGS)
{
	TideOutbox *outbox = tide_outbox_lookup(required_text(fcinfo, 0, "the outbox's name"));
	char *from_text = optional_text(fcinfo, 1);
	OpenSegments segments;
	TideSnapshot from;
	OldestSearch search = {0};

	parse_snapshot(from_text ? from_text : EMPTY_SNAPSHOT, &from);
	open_segments(outbox, &segments);
	scan_since(&segments, &from, PG_UINT64_MAX, visit_oldest, &search);
	close_segments(&segments);
	if (!search.found)
		PG_RETURN_NULL();
	PG_RETURN_TIMESTAMPTZ(search.oldest);
}
