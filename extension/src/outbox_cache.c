/*
 * outbox_cache.c
 *		What a backend remembers of each outbox, so that publishing reads no catalog.
 *
 * Owns: a hash table by outbox name, filled from tide.outbox on first use and
 * forgotten whenever tide.outbox changes.  Does not own: writing or reading
 * events.
 *
 * Invalidation: a statement trigger on tide.outbox (tide_sql_outbox_changed)
 * sends a relcache invalidation of that table at commit.  Every publish takes
 * a lock on its segment, which processes pending invalidations; an entry that
 * became invalid on the way is looked up again.  A backend that still writes
 * to the previous segment does no harm: readers read all segments, and a
 * segment is truncated only under a lock that excludes writers.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xlog.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "parser/scansup.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "pg_tide.h"
#include "compat.h"

/* Columns of tide.outbox that matter here (extension/sql/10_outbox.sql). */
enum
{
	OUTBOX_ID = 1,
	OUTBOX_NAME,
	OUTBOX_CURRENT,
	OUTBOX_ENABLED,
	OUTBOX_SYSTEM
};

static HTAB *cache = NULL;
static Oid catalog_relid = InvalidOid;
static uint64 n_changes = 0; /* invalidations seen; tells a reader that it read too early */

PG_FUNCTION_INFO_V1(tide_sql_outbox_changed);

static void
forget_all(Datum arg, Oid relid)
{
	HASH_SEQ_STATUS status;
	TideOutbox *outbox;

	if (cache == NULL || (OidIsValid(relid) && relid != catalog_relid))
		return;
	n_changes++;
	hash_seq_init(&status, cache);
	while ((outbox = hash_seq_search(&status)) != NULL)
		outbox->valid = false;
	if (!OidIsValid(relid))
		catalog_relid = InvalidOid;
}

void
tide_outbox_cache_init(void)
{
	CacheRegisterRelcacheCallback(forget_all, (Datum) 0);
}

/* Trigger on tide.outbox, AFTER … FOR EACH STATEMENT: every backend forgets what it knew. */
Datum
tide_sql_outbox_changed(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("tide._outbox_changed() can only be called as a trigger")));
	CacheInvalidateRelcache(((TriggerData *) fcinfo->context)->tg_relation);
	PG_RETURN_POINTER(NULL);
}

static Oid
tide_relation(const char *relname)
{
	Oid schema = get_namespace_oid(TIDE_SCHEMA, false);
	Oid relid = get_relname_relid(relname, schema);

	if (!OidIsValid(relid))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE),
						errmsg("relation \"%s.%s\" does not exist", TIDE_SCHEMA, relname),
						errhint("The extension pg_tide owns this relation; "
								"drop the outbox with tide.outbox_drop() and create it again.")));
	return relid;
}

/* As tide._outbox_view() names it. */
static Oid
outbox_view(const char *name, int id)
{
	char *relname = psprintf("%s_outbox", name);

	return tide_relation(strlen(relname) < NAMEDATALEN ? relname
													   : psprintf("outbox_%d_events", id));
}

static void
fill_entry(TideOutbox *outbox, HeapTuple tuple, TupleDesc desc)
{
	bool isnull;
	const char *name = NameStr(outbox->name);

	outbox->id = DatumGetInt32(heap_getattr(tuple, OUTBOX_ID, desc, &isnull));
	outbox->current = DatumGetInt32(heap_getattr(tuple, OUTBOX_CURRENT, desc, &isnull));
	outbox->enabled = DatumGetBool(heap_getattr(tuple, OUTBOX_ENABLED, desc, &isnull));
	outbox->restored = (uint64) DatumGetInt64(heap_getattr(tuple, OUTBOX_SYSTEM, desc, &isnull)) !=
					   GetSystemIdentifier();
	for (int i = 0; i < TIDE_OUTBOX_SEGMENTS; i++)
		outbox->segments[i] = tide_relation(psprintf("outbox_%d_%d", outbox->id, i));
	outbox->sequence = tide_relation(psprintf("outbox_%d_seq", outbox->id));
	outbox->view = outbox_view(name, outbox->id);
	outbox->wake_slot = tide_wake_slot("outbox", name, strlen(name));
}

/*
 * Reads the outbox's row.  With the latest snapshot, not the transaction's: a
 * repeatable read transaction must not cache what was true long ago.  Outboxes
 * are few and this runs once per backend and change, so a plain scan will do.
 */
static bool
load_entry(TideOutbox *outbox)
{
	Relation catalog;
	Snapshot snapshot;
	SysScanDesc scan;
	HeapTuple tuple;
	bool found = false;
	uint64 changes_before = n_changes;

	catalog_relid = tide_relation("outbox");
	catalog = table_open(catalog_relid, AccessShareLock);
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	scan = systable_beginscan(catalog, InvalidOid, false, snapshot, 0, NULL);
	while (!found && HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		bool isnull;
		Datum name = heap_getattr(tuple, OUTBOX_NAME, RelationGetDescr(catalog), &isnull);

		if (strcmp(TextDatumGetCString(name), NameStr(outbox->name)) != 0)
			continue;
		fill_entry(outbox, tuple, RelationGetDescr(catalog));
		outbox->valid = (n_changes == changes_before);
		found = true;
	}
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(catalog, AccessShareLock);
	return found;
}

static void
create_cache(void)
{
	HASHCTL ctl = {.keysize = NAMEDATALEN, .entrysize = sizeof(TideOutbox)};

	cache = hash_create("pg_tide outboxes", 16, &ctl, HASH_ELEM | HASH_STRINGS);
}

static void
no_such_outbox(text *name)
{
	ereport(
		ERROR,
		(errcode(ERRCODE_UNDEFINED_OBJECT),
		 errmsg("outbox \"%s\" does not exist", text_to_cstring(name)),
		 errhint(
			 "Create it with SELECT tide.outbox_create('name'), or see tide.outbox for what exists.")));
}

TideOutbox *
tide_outbox_lookup(text *name)
{
	char key[NAMEDATALEN] = {0};
	int len = VARSIZE_ANY_EXHDR(name);
	TideOutbox *outbox;
	bool found;

	if (len == 0 || len >= NAMEDATALEN)
		no_such_outbox(name);
	memcpy(key, VARDATA_ANY(name), len);
	if (cache == NULL)
		create_cache();

	outbox = hash_search(cache, key, HASH_ENTER, &found);
	if (!found)
		outbox->valid = false;
	while (!outbox->valid)
	{
		if (!load_entry(outbox))
		{
			hash_search(cache, key, HASH_REMOVE, NULL);
			no_such_outbox(name);
		}
	}
	return outbox;
}

Relation
tide_outbox_open_current(text *name, TideOutbox **outbox)
{
	for (;;)
	{
		TideOutbox *entry = tide_outbox_lookup(name);
		Relation rel = try_table_open(entry->segments[entry->current], RowExclusiveLock);

		/* Taking the lock may have told us that the outbox changed: look again. */
		if (rel != NULL && entry->valid)
		{
			*outbox = entry;
			return rel;
		}
		if (rel != NULL)
			table_close(rel, RowExclusiveLock);
		entry->valid = false;
	}
}
