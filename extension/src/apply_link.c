/*
 * apply_link.c
 *		Which link a session applies for, whether it still may, and how far it has come.
 *
 * Owns: looking a link up, the epoch check, the row of tide.link_progress.  Does
 * not own: what happens to rows, the rest of the catalog (SQL does that).
 *
 * This runs for every frame, and a frame is often one small transaction: so what
 * does not change is remembered, and the two rows that must be read and the one that
 * is written are reached through their primary keys without SPI.  A lock on the link
 * (not on its row: that would write) keeps two sessions from working for the
 * same link at a time: after a take-over the new owner waits until the old one's
 * transaction has ended, and then reads the position that one left.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/pg_lsn.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "apply.h"
#include "inbox.h"
#include "pg_tide.h"
#include "compat.h"

/* A column of tide.pipeline (extension/sql/30_pipeline.sql); its first is the key, as in all of these. */
#define PIPELINE_EPOCH 8

/* Columns of tide.link_progress (extension/sql/70_rows.sql). */
enum
{
	PROGRESS_LINK_ID = 1,
	PROGRESS_POSITION,
	PROGRESS_SYSTEM_ID,
	PROGRESS_TIMELINE,
	PROGRESS_SOURCE_END,
	PROGRESS_COMMIT_END,
	PROGRESS_COMMIT_AT,
	PROGRESS_HEARTBEAT_AT,
	PROGRESS_HEARTBEAT_SEEN_AT,
	PROGRESS_TRANSACTIONS,
	PROGRESS_CHANGES,
	PROGRESS_UPDATED_AT,
	PROGRESS_NATTS = PROGRESS_UPDATED_AT
};

static TideApplyLink current; /* the link this session works for */
static bool current_valid = false;
static MemoryContext current_context = NULL;

/* One of our tables, and where the row of the current link was last seen in it. */
typedef struct Place
{
	const char *relname;
	Oid relid; /* InvalidOid: not looked up */
	ItemPointerData tid;
} Place;

static Place link_place = {"link"};
static Place pipeline_place = {"pipeline"};
static Place progress_place = {"link_progress"};
static Place *const places[] = {&link_place, &pipeline_place, &progress_place};

/* ---- looking a link up ---- */

Oid
tide_catalog(const char *relname)
{
	Oid relid = get_relname_relid(relname, get_namespace_oid(TIDE_SCHEMA, false));

	if (!OidIsValid(relid))
		elog(ERROR, "relation %s.%s does not exist", TIDE_SCHEMA, relname);
	return relid;
}

Oid
tide_catalog_owner(void)
{
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(tide_catalog("link")));
	Oid owner;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for relation %s.link", TIDE_SCHEMA);
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

static void
forget_places(void)
{
	for (int i = 0; i < (int) lengthof(places); i++)
		ItemPointerSetInvalid(&places[i]->tid);
}

/* Something about our tables changed: their contents (tide.link says so), or where rows are. */
static void
forget_link(Datum arg, Oid relid)
{
	for (int i = 0; i < (int) lengthof(places); i++)
	{
		if (OidIsValid(relid) && relid != places[i]->relid)
			continue;
		places[i]->relid = InvalidOid;
		ItemPointerSetInvalid(&places[i]->tid);
		if (places[i] == &link_place)
			current_valid = false;
	}
}

static Oid
place_relid(Place *place)
{
	if (!OidIsValid(place->relid))
		place->relid = tide_catalog(place->relname);
	return place->relid;
}

/*
 * The row of one of our tables whose first column, the key, has that value; copied, NULL if there
 * is none.  Where it was last time comes first: the index leads to the oldest version of
 * a row that is updated with every frame, and from there through all of them.
 */
static HeapTuple
read_place(Place *place, Relation rel, int key_value)
{
	Snapshot snapshot = GetLatestSnapshot();
	HeapTupleData at_tid = {.t_self = place->tid};
	HeapTuple tuple = NULL;
	Buffer buffer;
	bool isnull;

	if (ItemPointerIsValid(&place->tid) &&
		ItemPointerGetBlockNumber(&place->tid) < RelationGetNumberOfBlocks(rel) &&
		heap_fetch(rel, snapshot, &at_tid, &buffer, false))
	{
		if (DatumGetInt32(heap_getattr(&at_tid, 1, RelationGetDescr(rel), &isnull)) == key_value)
			tuple = heap_copytuple(&at_tid);
		/* Nobody else looks at the page: so it is up to us to clear dead versions away. */
		if (PageGetHeapFreeSpace(BufferGetPage(buffer)) < BLCKSZ / 4)
			heap_page_prune_opt(rel, buffer);
		ReleaseBuffer(buffer);
	}
	if (tuple == NULL)
	{
		SysScanDesc scan;
		ScanKeyData key;

		snapshot = RegisterSnapshot(snapshot);
		ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(key_value));
		scan = systable_beginscan(rel, tide_primary_key(rel), true, snapshot, 1, &key);
		tuple = systable_getnext(scan);
		if (tuple != NULL)
			tuple = heap_copytuple(tuple);
		systable_endscan(scan);
		UnregisterSnapshot(snapshot);
	}
	if (tuple != NULL)
		place->tid = tuple->t_self;
	return tuple;
}

static char *
column_text(HeapTuple row, TupleDesc desc, int column)
{
	char *value = SPI_getvalue(row, desc, column);

	return MemoryContextStrdup(current_context, value);
}

static int
column_int(HeapTuple row, TupleDesc desc, int column)
{
	bool isnull;

	return DatumGetInt32(SPI_getbinval(row, desc, column, &isnull));
}

/* Fills current from the row of a query with the columns below; false if there is none. */
#define LINK_COLUMNS "p.name, p.id, l.id, l.region, l.copy"
#define LINK_TABLES "tide.pipeline p JOIN tide.link l ON l.pipeline = p.name"

static bool
load_link(const char *sql, Oid arg_type, Datum arg)
{
	TideIdentity self;
	TupleDesc desc;
	HeapTuple row;
	bool isnull;
	bool found;

	if (current_context == NULL)
	{
		current_context = AllocSetContextCreate(TopMemoryContext, "pg_tide link",
												ALLOCSET_SMALL_SIZES);
		CacheRegisterRelcacheCallback(forget_link, (Datum) 0);
	}
	(void) place_relid(&link_place);
	forget_places();
	tide_act_as(tide_catalog_owner(), "pg_catalog, pg_temp", &self);
	SPI_connect();
	if (SPI_execute_with_args(sql, 1, &arg_type, &arg, NULL, false, 1) != SPI_OK_SELECT)
		elog(ERROR, "link lookup failed");
	found = SPI_processed > 0;
	if (found)
	{
		row = SPI_tuptable->vals[0];
		desc = SPI_tuptable->tupdesc;
		MemoryContextReset(current_context);
		current.pipeline = column_text(row, desc, 1);
		current.pipeline_id = column_int(row, desc, 2);
		current.id = column_int(row, desc, 3);
		current.region = column_text(row, desc, 4);
		current.sender = tide_region_id(current.region, strlen(current.region));
		current.copy = DatumGetBool(SPI_getbinval(row, desc, 5, &isnull));
	}
	SPI_finish();
	tide_act_as_self(&self);
	current_valid = found;
	return found;
}

static bool
load_link_by_pipeline(text *pipeline)
{
	return load_link("SELECT " LINK_COLUMNS " FROM " LINK_TABLES
					 " WHERE p.direction = 'link' AND p.name = $1",
					 TEXTOID, PointerGetDatum(pipeline));
}

/* ---- the owner ---- */

/* Reads the current epoch by the pipeline's number; false if there is no such pipeline. */
static bool
read_epoch(int pipeline_id, int64 *epoch)
{
	Relation rel = table_open(place_relid(&pipeline_place), AccessShareLock);
	HeapTuple tuple = read_place(&pipeline_place, rel, pipeline_id);
	bool isnull;

	if (tuple != NULL)
		*epoch = DatumGetInt64(heap_getattr(tuple, PIPELINE_EPOCH, RelationGetDescr(rel), &isnull));
	table_close(rel, NoLock);
	return tuple != NULL;
}

/* Raises TD001, with the words of tide._check_epoch(). */
static void
refuse_owner(text *pipeline, int64 epoch)
{
	TideIdentity self;
	Oid types[] = {TEXTOID, INT8OID};
	Datum values[] = {PointerGetDatum(pipeline), Int64GetDatum(epoch)};

	tide_act_as(tide_catalog_owner(), "pg_catalog, pg_temp", &self);
	SPI_connect();
	(void) SPI_execute_with_args("SELECT tide._check_epoch($1, $2)", 2, types, values, NULL, false,
								 1);
	SPI_finish();
	tide_act_as_self(&self);
	ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
					errmsg("pipeline \"%s\" is not a link", text_to_cstring(pipeline)),
					errhint("tide.link_add() makes links.")));
}

static bool
is_current(text *pipeline)
{
	return current_valid && strlen(current.pipeline) == VARSIZE_ANY_EXHDR(pipeline) &&
		   memcmp(current.pipeline, VARDATA_ANY(pipeline), VARSIZE_ANY_EXHDR(pipeline)) == 0;
}

static const TideApplyLink *
find_link(text *pipeline, int64 epoch, LOCKMODE lock)
{
	bool known = is_current(pipeline);
	int64 now;

	for (;;)
	{
		if (!known && !load_link_by_pipeline(pipeline))
			break;
		if (lock != NoLock)
			LockDatabaseObject(place_relid(&link_place), (Oid) current.id, 0, lock);
		if (current_valid && read_epoch(current.pipeline_id, &now) && now == epoch)
		{
			current.epoch = epoch;
			return &current;
		}
		/* What changed while we waited for the lock says nothing of the pipeline. */
		if (!known && current_valid)
			break;
		known = false; /* the pipeline may have been made anew */
	}
	refuse_owner(pipeline, epoch);
	return NULL;
}

const TideApplyLink *
tide_link_own(text *pipeline, int64 epoch)
{
	return find_link(pipeline, epoch, ExclusiveLock);
}

const TideApplyLink *
tide_link_share(text *pipeline, int64 epoch)
{
	return find_link(pipeline, epoch, NoLock);
}

const TideApplyLink *
tide_link_own_by_id(int link_id)
{
	if (!load_link("SELECT " LINK_COLUMNS " FROM " LINK_TABLES
				   " WHERE p.direction = 'link' AND l.id = $1",
				   INT4OID, Int32GetDatum(link_id)))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
						errmsg("link %d does not exist any more", link_id)));
	LockDatabaseObject(place_relid(&link_place), (Oid) link_id, 0, ExclusiveLock);
	return &current;
}

/* ---- progress ---- */

static void
fill_progress(HeapTuple tuple, TupleDesc desc, TideProgress *progress)
{
	bool isnull;

	progress->position = DatumGetLSN(heap_getattr(tuple, PROGRESS_POSITION, desc, &isnull));
	progress->system_id = (uint64) DatumGetInt64(
		heap_getattr(tuple, PROGRESS_SYSTEM_ID, desc, &isnull));
	progress->timeline = (uint32) DatumGetInt32(
		heap_getattr(tuple, PROGRESS_TIMELINE, desc, &isnull));
	progress->durable = !TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetXmin(tuple->t_data));
	progress->tuple = tuple;
}

void
tide_progress_read(const TideApplyLink *link, TideProgress *progress)
{
	Relation rel = table_open(place_relid(&progress_place), RowExclusiveLock);
	HeapTuple tuple = read_place(&progress_place, rel, link->id);

	if (RelationGetDescr(rel)->natts != PROGRESS_NATTS)
		elog(ERROR, "%s.link_progress does not have the columns of this version", TIDE_SCHEMA);
	if (tuple == NULL)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("the link to region \"%s\" has no position yet", link->region),
						errhint("The relay writes the first one with tide.relay_link_begin().")));
	fill_progress(tuple, RelationGetDescr(rel), progress);
	table_close(rel, NoLock);
}

void
tide_progress_write(const TideProgress *progress, const TideProgressStep *step)
{
	Relation rel = table_open(place_relid(&progress_place), RowExclusiveLock);
	TupleDesc desc = RelationGetDescr(rel);
	Datum values[PROGRESS_NATTS] = {0};
	bool nulls[PROGRESS_NATTS] = {0};
	bool replace[PROGRESS_NATTS] = {0};
	TimestampTz now = GetCurrentTimestamp();
	HeapTuple tuple;
	bool isnull;

#define SET(column, value) (values[(column) -1] = (value), replace[(column) -1] = true)
#define ADD(column, more)                                                                     \
	SET(column,                                                                               \
		Int64GetDatum(DatumGetInt64(heap_getattr(progress->tuple, (column), desc, &isnull)) + \
					  (more)))
	SET(PROGRESS_POSITION, LSNGetDatum(step->position));
	SET(PROGRESS_SOURCE_END, LSNGetDatum(step->source_end));
	SET(PROGRESS_UPDATED_AT, TimestampTzGetDatum(now));
	ADD(PROGRESS_TRANSACTIONS, step->transactions);
	ADD(PROGRESS_CHANGES, step->changes);
	if (step->commit_at != 0)
	{
		SET(PROGRESS_COMMIT_END, LSNGetDatum(step->commit_end));
		SET(PROGRESS_COMMIT_AT, TimestampTzGetDatum(step->commit_at));
	}
	if (step->heartbeat_at != 0)
	{
		SET(PROGRESS_HEARTBEAT_AT, TimestampTzGetDatum(step->heartbeat_at));
		SET(PROGRESS_HEARTBEAT_SEEN_AT, TimestampTzGetDatum(now));
	}
#undef SET
#undef ADD
	tuple = heap_modify_tuple(progress->tuple, desc, values, nulls, replace);
	CatalogTupleUpdate(rel, &tuple->t_self, tuple);
	progress_place.tid = tuple->t_self;
	table_close(rel, NoLock);
	CommandCounterIncrement();
}
