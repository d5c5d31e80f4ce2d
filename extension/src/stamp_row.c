/*
 * stamp_row.c
 *		Stamping local writes: the clock, this region's number, and the trigger.
 *
 * Owns: the largest clock given or seen (shared memory), what a backend
 * remembers of the region's number, the BEFORE trigger of replicated tables.
 * Does not own: the step of the clock and the encoding (common/tide_stamp.h),
 * stamps of rows that came by a link: those carry their own, and the trigger is
 * silent while they are applied.
 *
 * The trigger runs for every row written to a replicated table.  So it reads no
 * catalog per row, and copies the tuple once.  An update's row also gets its
 * unchanged TOAST values back (still compressed): the server would only log a
 * pointer, and a region that lacks the row could not be told the whole of it.
 *
 * The clock is larger than the one of the version it replaces, because the row is
 * locked when the trigger runs; and larger than every one given before on this
 * server, so that two writes never have the same stamp.  Not preloaded, there is no
 * shared memory: then the latter holds for one backend only, which is enough for rows.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "port/atomics.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "tide_stamp.h"

#include "pg_tide.h"
#include "compat.h"

/* The column of tide.local_region that matters here (extension/sql/00_schema.sql). */
#define LOCAL_REGION_NAME 2

/* A stamp as it is in a tuple. */
#define STAMP_SIZE (VARHDRSZ_SHORT + TIDE_STAMP_LEN)

/* A tuple must fit one allocation; headers and what is not external need some of it. */
#define MAX_INLINE (MaxAllocSize - 1024 * 1024)

static pg_atomic_uint64 own_clock; /* stands in when there is no shared memory */
static pg_atomic_uint64 *last_clock = &own_clock;

static uint32 region = 0; /* 0: not known (any more) */
static char region_name[NAMEDATALEN];
static Oid region_relid = InvalidOid;
static Oid stamp_type = InvalidOid; /* a guess, confirmed when it does not match */

PG_FUNCTION_INFO_V1(tide_sql_stamp_row);

/* ---- the clock ---- */

static void
attach_clock(void *place, bool fresh)
{
	last_clock = place;
	if (fresh)
		pg_atomic_init_u64(last_clock, 0);
}

int64
tide_stamp_clock(int64 seen)
{
	int64 physical = GetCurrentTimestamp() + TIDE_EPOCH_OFFSET_US;
	uint64 last = pg_atomic_read_u64(last_clock);
	int64 next;

	do
	{
		next = tide_clock_next(physical, Max((int64) last, seen));
	}
	while (!pg_atomic_compare_exchange_u64(last_clock, &last, (uint64) next));
	return next;
}

void
tide_stamp_seen(int64 clock)
{
	uint64 last = pg_atomic_read_u64(last_clock);

	while (clock > (int64) last)
	{
		if (pg_atomic_compare_exchange_u64(last_clock, &last, (uint64) clock))
			break;
	}
}

/* ---- this region's number ---- */

static void
forget_region(Datum arg, Oid relid)
{
	if (!OidIsValid(relid) || relid == region_relid)
		region = 0;
}

void
tide_stamp_init(void)
{
	pg_atomic_init_u64(&own_clock, 0);
	CacheRegisterRelcacheCallback(forget_region, (Datum) 0);
	tide_shmem_reserve("pg_tide clock", sizeof(pg_atomic_uint64), attach_clock);
}

/* With the latest snapshot, not the transaction's: what is remembered outlives it. */
static uint32
read_region(void)
{
	Relation catalog;
	Snapshot snapshot;
	SysScanDesc scan;
	HeapTuple tuple;
	uint32 found = 0;

	region_relid = get_relname_relid("local_region", get_namespace_oid(TIDE_SCHEMA, false));
	catalog = table_open(region_relid, AccessShareLock);
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	scan = systable_beginscan(catalog, InvalidOid, false, snapshot, 0, NULL);
	if (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		bool isnull;
		text *name = DatumGetTextPP(
			heap_getattr(tuple, LOCAL_REGION_NAME, RelationGetDescr(catalog), &isnull));

		found = tide_region_id(VARDATA_ANY(name), VARSIZE_ANY_EXHDR(name));
		text_to_cstring_buffer(name, region_name, sizeof(region_name));
	}
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(catalog, AccessShareLock);
	return found;
}

uint32
tide_stamp_region(void)
{
	if (region == 0)
		region = read_region();
	if (region == 0)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("this database's region has no name"),
						errhint("Name it with SELECT tide.region_init('name').")));
	return region;
}

const char *
tide_stamp_region_name(void)
{
	(void) tide_stamp_region();
	return region_name;
}

/* ---- the trigger ---- */

static bool
is_stamp_type(Oid type)
{
	if (type == stamp_type)
		return true;
	stamp_type = GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid, CStringGetDatum("stamp"),
								 ObjectIdGetDatum(get_namespace_oid(TIDE_SCHEMA, false)));
	return type == stamp_type;
}

static AttrNumber
find_column(Relation rel)
{
	TupleDesc desc = RelationGetDescr(rel);

	for (int i = desc->natts - 1; i >= 0; i--)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		if (!att->attisdropped && strcmp(NameStr(att->attname), TIDE_STAMP_COLUMN) == 0 &&
			is_stamp_type(att->atttypid))
			return att->attnum;
	}
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_COLUMN),
			 errmsg("replicated table \"%s\" has no column \"%s\" of type tide.stamp",
					RelationGetRelationName(rel), TIDE_STAMP_COLUMN),
			 errhint("tide.table_add() puts it back, tide.table_remove() ends replication.")));
	return InvalidAttrNumber;
}

/* fn_extra lasts for one statement and one relation, like the descriptor. */
static AttrNumber
stamp_column(FmgrInfo *flinfo, Relation rel)
{
	if (flinfo->fn_extra == NULL)
		flinfo->fn_extra = (void *) (intptr_t) find_column(rel);
	return (AttrNumber) (intptr_t) flinfo->fn_extra;
}

/*
 * Puts values in the place of pointers into the TOAST table, as far as they fit
 * into one tuple together; what does not travels as "unchanged".
 */
static void
fetch_external(TupleDesc desc, Datum *values, const bool *nulls, Size used)
{
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);
		struct varlena *value = (struct varlena *) DatumGetPointer(values[i]);
		struct varatt_external pointer;

		if (nulls[i] || att->attisdropped || att->attlen != -1 || !VARATT_IS_EXTERNAL_ONDISK(value))
			continue;
		VARATT_EXTERNAL_GET_POINTER(pointer, value);
		if (VARATT_EXTERNAL_GET_EXTSIZE(pointer) > MAX_INLINE - used)
			continue;
		used += VARATT_EXTERNAL_GET_EXTSIZE(pointer);
		values[i] = PointerGetDatum(detoast_external_attr(value));
	}
}

static HeapTuple
rewrite_whole(HeapTuple tuple, TupleDesc desc, AttrNumber column, char *stamp)
{
	Datum *values = palloc(sizeof(Datum) * desc->natts);
	bool *nulls = palloc(sizeof(bool) * desc->natts);

	heap_deform_tuple(tuple, desc, values, nulls);
	if (tuple->t_len < MAX_INLINE)
		fetch_external(desc, values, nulls, tuple->t_len);
	values[column - 1] = PointerGetDatum(stamp);
	nulls[column - 1] = false;
	return heap_form_tuple(desc, values, nulls);
}

/* Copies the tuple with other bytes where the stamp is; NULL if it is not of the same length. */
static HeapTuple
replace_in_place(HeapTuple tuple, Datum old, const char *stamp)
{
	char *value = DatumGetPointer(old);
	Size offset;
	HeapTuple copy;

	if (!VARATT_IS_SHORT(value) || VARSIZE_SHORT(value) != VARSIZE_SHORT(stamp))
		return NULL;
	offset = value - (char *) tuple->t_data;
	if (offset >= tuple->t_len)
		return NULL; /* a default that is in the catalog, not in the tuple */
	copy = heap_copytuple(tuple);
	memcpy((char *) copy->t_data + offset, stamp, VARSIZE_SHORT(stamp));
	return copy;
}

static HeapTuple
set_stamp(HeapTuple tuple, TupleDesc desc, AttrNumber column, char *stamp)
{
	HeapTuple result = NULL;
	bool isnull;
	Datum old = heap_getattr(tuple, column, desc, &isnull);
	Datum value = PointerGetDatum(stamp);
	int columns[] = {column};
	bool nulls[] = {false};

	if (!isnull)
		result = replace_in_place(tuple, old, stamp);
	if (result == NULL)
		result = heap_modify_tuple_by_cols(tuple, desc, 1, columns, &value, nulls);
	return result;
}

static void
check_call(FunctionCallInfo fcinfo)
{
	TriggerEvent event;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("tide._stamp_row() can only be called as a trigger")));
	event = ((TriggerData *) fcinfo->context)->tg_event;
	if (!TRIGGER_FIRED_BEFORE(event) || !TRIGGER_FIRED_FOR_ROW(event) ||
		!(TRIGGER_FIRED_BY_INSERT(event) || TRIGGER_FIRED_BY_UPDATE(event)))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("tide._stamp_row() must be fired BEFORE INSERT OR UPDATE, FOR EACH ROW"),
				 errhint("tide.table_add() makes the trigger.")));
}

static void
make_value(char *out, TideStamp stamp)
{
	SET_VARSIZE_SHORT(out, STAMP_SIZE);
	tide_stamp_encode(stamp, (uint8_t *) VARDATA_SHORT(out));
}

/* The stamp that the new version gets; seen: the clock of the one before it. */
static void
make_stamp(char *out, int64 seen)
{
	make_value(out, (TideStamp){.origin = tide_stamp_region(), .clock = tide_stamp_clock(seen)});
}

HeapTuple
tide_stamp_adopt(Relation rel, HeapTuple tuple)
{
	AttrNumber column = find_column(rel);
	bool isnull;
	Datum old = heap_getattr(tuple, column, RelationGetDescr(rel), &isnull);
	int64 clock = tide_clock_next(0, isnull ? 0 : tide_stamp_of(old).clock);
	char stamp[STAMP_SIZE];

	tide_stamp_seen(clock);
	make_value(stamp, (TideStamp){.origin = tide_stamp_region(), .clock = clock});
	return rewrite_whole(tuple, RelationGetDescr(rel), column, stamp);
}

/* tide._stamp_row(): trigger BEFORE INSERT OR UPDATE, FOR EACH ROW, of replicated tables. */
Datum
tide_sql_stamp_row(PG_FUNCTION_ARGS)
{
	TriggerData *trigger;
	TupleDesc desc;
	AttrNumber column;
	char stamp[STAMP_SIZE];
	HeapTuple row;
	bool isnull;
	Datum old;

	check_call(fcinfo);
	trigger = (TriggerData *) fcinfo->context;
	desc = RelationGetDescr(trigger->tg_relation);
	column = stamp_column(fcinfo->flinfo, trigger->tg_relation);
	row = trigger->tg_trigtuple;
	if (TRIGGER_FIRED_BY_INSERT(trigger->tg_event))
	{
		tide_row_check_size(trigger->tg_relation, row);
		make_stamp(stamp, 0);
		PG_RETURN_POINTER(set_stamp(row, desc, column, stamp));
	}
	old = heap_getattr(row, column, desc, &isnull);
	make_stamp(stamp, isnull ? 0 : tide_stamp_of(old).clock);
	row = trigger->tg_newtuple;
	tide_row_check_size(trigger->tg_relation, row);
	if (HeapTupleHasExternal(row))
		PG_RETURN_POINTER(rewrite_whole(row, desc, column, stamp));
	PG_RETURN_POINTER(set_stamp(row, desc, column, stamp));
}
