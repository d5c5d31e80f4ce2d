/*
 * apply_relation.c
 *		From a relation as a frame describes it to the local table.
 *
 * Owns: finding the table, comparing shapes, which column goes where, remembering
 * that until something changes.  Does not own: values (apply_types.c), writing
 * (apply_target.c, apply_row.c).
 *
 * A map is remembered per backend under the origin's number, the link's and the fingerprint
 * of the relation's record; the record itself is kept, too, so that two shapes
 * with the same fingerprint can't be taken for each other.  It is forgotten when
 * the table, tide.replicated_table or tide.link_table changes (the last two have
 * triggers that say so), or a type or schema is renamed.  Only maps that can be
 * used are remembered: what is refused or not replicated is looked at again next time.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/catalog.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "optimizer/optimizer.h"
#include "rewrite/rewriteHandler.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/pg_lsn.h"
#include "utils/rel.h"
#include "utils/rls.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "apply.h"
#include "pg_tide.h"
#include "compat.h"

typedef struct MapKey
{
	uint32 sender;
	int32 link; /* a lane has its own copies; and no padding: the key is hashed as bytes */
	uint64 fingerprint;
} MapKey;

typedef struct MapEntry
{
	MapKey key;
	TideMap *map; /* NULL: being made, or not usable */
} MapEntry;

static HTAB *maps = NULL;
static Oid replicated_relid = InvalidOid;
static Oid link_table_relid = InvalidOid;
static Oid making = InvalidOid; /* the table a map is being made for */
static bool making_again;		/* it changed meanwhile */

/* ---- invalidation ---- */

static void
forget_maps(Oid relid)
{
	HASH_SEQ_STATUS status;
	MapEntry *entry;
	bool all = !OidIsValid(relid) || relid == replicated_relid || relid == link_table_relid;

	making_again |= all || relid == making;
	if (maps == NULL)
		return;
	hash_seq_init(&status, maps);
	while ((entry = hash_seq_search(&status)) != NULL)
	{
		if (entry->map != NULL && (all || entry->map->relid == relid))
			entry->map->valid = false;
	}
}

static void
relation_changed(Datum arg, Oid relid)
{
	forget_maps(relid);
}

static void
name_changed(Datum arg, int cacheid, uint32 hash)
{
	forget_maps(InvalidOid);
}

void
tide_map_init(void)
{
	CacheRegisterRelcacheCallback(relation_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(TYPEOID, name_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(NAMESPACEOID, name_changed, (Datum) 0);
}

/* ---- what the catalog says of a table ---- */

/* The first row of one of our tables that matches; copied, NULL if there is none. */
static HeapTuple
read_row(Relation rel, int n_keys, ScanKeyData *keys)
{
	Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
	SysScanDesc scan = systable_beginscan(rel, tide_primary_key(rel), true, snapshot, n_keys, keys);
	HeapTuple tuple = systable_getnext(scan);

	if (HeapTupleIsValid(tuple))
		tuple = heap_copytuple(tuple);
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	return tuple;
}

bool
tide_map_is_replicated(Oid relid, bool *insert_only)
{
	Relation rel = table_open(tide_catalog("replicated_table"), AccessShareLock);
	TupleDesc desc = RelationGetDescr(rel);
	ScanKeyData key;
	HeapTuple tuple;
	bool isnull;

	replicated_relid = RelationGetRelid(rel);
	ScanKeyInit(&key, get_attnum(replicated_relid, "relid"), BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(relid));
	tuple = read_row(rel, 1, &key);
	if (tuple != NULL && insert_only != NULL)
		*insert_only = DatumGetBool(
			heap_getattr(tuple, get_attnum(replicated_relid, "insert_only"), desc, &isnull));
	table_close(rel, NoLock);
	return tuple != NULL;
}

/* How far the table's copy is; see ARCHITECTURE.md, "First copy". */
static void
read_copied(const TideApply *apply, TideMap *map, Relation target)
{
	Relation rel = table_open(tide_catalog("link_table"), AccessShareLock);
	TupleDesc desc = RelationGetDescr(rel);
	ScanKeyData keys[3];
	NameData schema;
	NameData name;
	HeapTuple tuple;
	Datum lsn;
	bool isnull = true;
	bool copied = false;

	link_table_relid = RelationGetRelid(rel);
	namestrcpy(&schema, get_namespace_name(RelationGetNamespace(target)));
	namestrcpy(&name, RelationGetRelationName(target));
	ScanKeyInit(&keys[0], get_attnum(link_table_relid, "link_id"), BTEqualStrategyNumber, F_INT4EQ,
				Int32GetDatum(apply->link->id));
	ScanKeyInit(&keys[1], get_attnum(link_table_relid, "schema_name"), BTEqualStrategyNumber,
				F_NAMEEQ, NameGetDatum(&schema));
	ScanKeyInit(&keys[2], get_attnum(link_table_relid, "table_name"), BTEqualStrategyNumber,
				F_NAMEEQ, NameGetDatum(&name));
	tuple = read_row(rel, lengthof(keys), keys);
	if (tuple != NULL)
	{
		Datum state = heap_getattr(tuple, get_attnum(link_table_relid, "state"), desc, &isnull);

		copied = strcmp(TextDatumGetCString(state), "copied") == 0;
		lsn = heap_getattr(tuple, get_attnum(link_table_relid, "copied_lsn"), desc, &isnull);
	}
	map->copied = copied && !isnull ? DatumGetLSN(lsn) : InvalidXLogRecPtr;
	map->copying = apply->link->copy && !copied;
	table_close(rel, NoLock);
}

/* ---- rights ---- */

static void
refuse_target(Relation rel, const char *why, const char *hint)
{
	ereport(ERROR, (errcode(ERRCODE_TIDE_NO_TARGET),
					errmsg("table \"%s.%s\" cannot take rows of other regions: %s",
						   get_namespace_name(RelationGetNamespace(rel)),
						   RelationGetRelationName(rel), why),
					errhint("%s", hint)));
}

void
tide_map_check_rights(const TideApply *apply, Relation rel, AclMode rights)
{
	Oid relid = RelationGetRelid(rel);

	if (IsSystemRelation(rel) || RelationGetNamespace(rel) == get_namespace_oid(TIDE_SCHEMA, true))
		refuse_target(rel, "it belongs to the system", "Replicate tables of your own.");
	if (rel->rd_rel->relkind != RELKIND_RELATION &&
		rel->rd_rel->relkind != RELKIND_PARTITIONED_TABLE)
		refuse_target(rel, "it is not a table", "Replicate tables only.");
	if (pg_class_aclmask(relid, apply->rights_of, rights, ACLMASK_ALL) != rights)
		refuse_target(
			rel,
			psprintf("role \"%s\" lacks rights on it", GetUserNameFromId(apply->rights_of, false)),
			"tide.table_add() grants them to tide_relay; GRANT SELECT, INSERT, UPDATE, "
			"DELETE, TRUNCATE on it again.");
	if (check_enable_rls(relid, apply->rights_of, true) == RLS_ENABLED)
		refuse_target(rel, "row security applies to the role that writes them",
					  "Disable row security on the table, or use a role with BYPASSRLS.");
}

void
tide_map_check_target(const TideApply *apply, const TideMap *map, Relation rel)
{
	if (!map->checked)
		tide_map_check_rights(apply, rel, TIDE_TARGET_RIGHTS);
	if (map->lacks > 0)
		tide_map_refuse_shape(
			apply, rel,
			psprintf("column \"%s\" is NOT NULL without a default here, and is not sent",
					 get_attname(RelationGetRelid(rel), map->lacks, false)));
}

/* ---- shapes ---- */

void
tide_map_refuse_shape(const TideApply *apply, Relation rel, const char *why)
{
	ereport(ERROR, (errcode(ERRCODE_TIDE_SHAPE),
					errmsg("table \"%s.%s\" cannot take the rows of region \"%s\": %s",
						   get_namespace_name(RelationGetNamespace(rel)),
						   RelationGetRelationName(rel), apply->link->region, why),
					errhint("Make the table the same here and there; what waits in "
							"tide.pending_changes is then applied by itself.")));
}

char *
tide_local_name(TideStr str)
{
	char *name = pnstrdup(str.data, str.len);

	return pg_any_to_server(name, str.len, PG_UTF8);
}

/* Looks where it would be if the columns were in the same order, then everywhere. */
static Form_pg_attribute
find_column(TupleDesc desc, const char *name, int guess)
{
	for (int i = -1; i < desc->natts; i++)
	{
		int at = i < 0 ? Min(guess, desc->natts - 1) : i;
		Form_pg_attribute attr = at < 0 ? NULL : TupleDescAttr(desc, at);

		if (attr != NULL && !attr->attisdropped && strcmp(NameStr(attr->attname), name) == 0)
			return attr;
	}
	return NULL;
}

/*
 * A column that is not here.  The change may be of a shape that the origin has left behind
 * meanwhile: then its value goes where it is now there; NULL: nowhere.
 */
static Form_pg_attribute
find_moved(const TideApply *apply, Relation rel, const char *name)
{
	/* Only when it has waited: by then what is known of the origin is what it says now. */
	char *now = apply->parked_id == 0 ? NULL : tide_schema_column_now(apply, rel, name);
	Form_pg_attribute attr = NULL;

	if (now != NULL && now[0] == '\0')
		return NULL;
	if (now != NULL)
		attr = find_column(RelationGetDescr(rel), now, 0);
	if (attr == NULL)
		tide_map_refuse_shape(apply, rel, psprintf("it has no column \"%s\"", name));
	return attr;
}

static void
map_column(const TideApply *apply, TideMap *map, Relation rel, const TideColumn *remote, int n)
{
	char *name = tide_local_name(remote->name);
	Form_pg_attribute attr = find_column(RelationGetDescr(rel), name, n);
	TideMapColumn *column = &map->columns[n];
	const char *why;

	if (attr == NULL)
		attr = find_moved(apply, rel, name);
	if (attr == NULL || attr->attgenerated != '\0')
		return; /* gone, or computed here */
	why = tide_type_differs(remote, attr->atttypid, attr->atttypmod);
	if (why != NULL && apply->parked_id != 0 && tide_type_converts(remote, attr->atttypid) &&
		tide_schema_column_fits(apply, rel, NameStr(attr->attname), attr->atttypid,
								attr->atttypmod))
		column->former = remote->type;
	else if (why != NULL)
		tide_map_refuse_shape(apply, rel, psprintf("column \"%s\" has %s", name, why));
	column->attnum = attr->attnum;
	column->key = remote->key;
	column->type = attr->atttypid;
	column->typmod = attr->atttypmod;
	column->widened = tide_type_widens(remote, attr->atttypid, attr->atttypmod) ? remote->type
																				: InvalidOid;
	tide_type_prepare(column, map->context);
	if (strcmp(name, TIDE_STAMP_COLUMN) == 0)
		map->stamp_column = n;
}

static void
map_columns(const TideApply *apply, TideMap *map, Relation rel, const TideRelation *relation)
{
	TideCursor columns = relation->columns;
	Form_pg_attribute stamp = find_column(RelationGetDescr(rel), TIDE_STAMP_COLUMN,
										  RelationGetDescr(rel)->natts - 1);
	TideColumn remote;

	map->stamp = stamp == NULL ? 0 : stamp->attnum;
	map->stamp_column = -1;
	map->n_columns = relation->n_columns;
	map->columns = MemoryContextAllocZero(map->context,
										  sizeof(TideMapColumn) * Max(map->n_columns, 1));
	for (int i = 0; i < relation->n_columns; i++)
	{
		if (!tide_read_column(&columns, &remote))
			tide_apply_malformed("a relation's columns");
		map_column(apply, map, rel, &remote, i);
	}
}

int
tide_map_source(const TideMap *map, AttrNumber attnum)
{
	for (int i = 0; i < map->n_columns; i++)
	{
		if (map->columns[i].attnum == attnum)
			return i;
	}
	return -1;
}

/* Local columns that the origin does not have get their default when a row is new. */
static void
map_defaults(TideMap *map, Relation rel)
{
	TupleDesc desc = RelationGetDescr(rel);
	bool *sent = palloc0(sizeof(bool) * (desc->natts + 1));
	MemoryContext old;

	for (int i = 0; i < map->n_columns; i++)
		sent[map->columns[i].attnum] = true;
	old = MemoryContextSwitchTo(map->context);
	map->defaults = palloc0(sizeof(TideMapDefault) * Max(desc->natts, 1));
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attr = TupleDescAttr(desc, i);
		Node *expr;

		if (attr->attisdropped || attr->attgenerated != '\0' || sent[attr->attnum])
			continue;
		expr = build_column_default(rel, attr->attnum);
		if (expr == NULL && attr->attnotnull)
			map->lacks = attr->attnum;
		map->defaults[map->n_defaults].attnum = attr->attnum;
		if (expr != NULL)
			map->defaults[map->n_defaults].expr = expression_planner((Expr *) expr);
		map->n_defaults++;
	}
	MemoryContextSwitchTo(old);
}

/* Does the key of one index begin with that of the other, and go on? */
static bool
begins_with(const FormData_pg_index *whole, const FormData_pg_index *key)
{
	return key->indnkeyatts < whole->indnkeyatts &&
		   memcmp(whole->indkey.values, key->indkey.values, sizeof(int16) * key->indnkeyatts) == 0;
}

/*
 * The identity is our own index, which has what residency's filters look at behind the key: the
 * key is what it begins with.  As tide._key_index() has it.
 */
static Oid
key_before_filter(Relation rel, Oid identity)
{
	Relation whole = index_open(identity, AccessShareLock);
	List *indexes = RelationGetIndexList(rel);
	ListCell *cell;
	Oid found = InvalidOid;
	int n_found = 0;

	foreach (cell, indexes)
	{
		Relation index = index_open(lfirst_oid(cell), AccessShareLock);
		const FormData_pg_index *form = index->rd_index;
		int n = form->indisprimary ? INDEX_MAX_KEYS + 1 : form->indnkeyatts;

		if (form->indisunique && form->indisvalid && form->indimmediate &&
			RelationGetIndexPredicate(index) == NIL && begins_with(whole->rd_index, form) &&
			n > n_found)
		{
			found = lfirst_oid(cell);
			n_found = n;
		}
		index_close(index, AccessShareLock);
	}
	list_free(indexes);
	index_close(whole, AccessShareLock);
	return found;
}

Oid
tide_map_key_index(Relation rel)
{
	Oid index = RelationGetReplicaIndex(rel);
	const char *name = OidIsValid(index) ? get_rel_name(index) : NULL;

	if (name != NULL && strncmp(name, TIDE_RESIDENCY_INDEX, strlen(TIDE_RESIDENCY_INDEX)) == 0)
		return key_before_filter(rel, index);
	return OidIsValid(index) ? index : tide_primary_key(rel);
}

static char *
key_columns(TideCursor columns, int n_columns)
{
	StringInfoData out;
	TideColumn column;

	initStringInfo(&out);
	for (int i = 0; i < n_columns && tide_read_column(&columns, &column); i++)
	{
		if (column.key)
			appendStringInfo(&out, "%s%s", out.len > 0 ? ", " : "", tide_local_name(column.name));
	}
	return out.data;
}

/*
 * Rows must be found by the same columns there and here: what are two rows there must not be one
 * here, nor the other way round.  More columns in the origin's old tuples are no sign, as those of a
 * row filter are among them.
 */
static void
check_key(const TideApply *apply, TideMap *map, Relation rel, const TideRelation *relation)
{
	int n_sent = 0;

	for (int i = 0; i < map->n_columns; i++)
		n_sent += map->columns[i].key ? 1 : 0;
	if (map->insert_only || n_sent == 0)
		return;
	map->former_key = !map->old_has_key && apply->parked_id != 0 &&
					  tide_schema_key_same(apply, rel, false);
	if (!map->old_has_key ? !map->former_key
						  : n_sent > map->n_keys && !tide_schema_key_same(apply, rel, true))
		tide_map_refuse_shape(apply, rel,
							  psprintf("its key differs from that at its origin: %s",
									   key_columns(relation->columns, relation->n_columns)));
}

static void
map_key(const TideApply *apply, TideMap *map, Relation rel, const TideRelation *relation)
{
	Oid indexid = tide_map_key_index(rel);
	Relation index;

	if (!OidIsValid(indexid))
	{
		if (!map->insert_only)
			tide_map_refuse_shape(apply, rel, "it has no primary key or replica identity index");
		return;
	}
	index = index_open(indexid, AccessShareLock);
	map->n_keys = IndexRelationGetNumberOfKeyAttributes(index);
	map->keys = MemoryContextAlloc(map->context, sizeof(AttrNumber) * map->n_keys);
	map->old_has_key = true;
	for (int i = 0; i < map->n_keys; i++)
	{
		AttrNumber attnum = index->rd_index->indkey.values[i];
		int source = tide_map_source(map, attnum);

		if (source < 0)
			tide_map_refuse_shape(apply, rel,
								  psprintf("the origin does not send column \"%s\" of its key",
										   get_attname(RelationGetRelid(rel), attnum, false)));
		map->keys[i] = attnum;
		map->old_has_key &= map->columns[source].key;
		map->columns[source].own_key = true;
	}
	index_close(index, AccessShareLock);
	check_key(apply, map, rel, relation);
}

/* ---- finding ---- */

static TideMap *
new_map(const TideApply *apply, TideCursor record)
{
	MemoryContext context = AllocSetContextCreate(apply->context, "pg_tide map",
												  ALLOCSET_SMALL_SIZES);
	TideMap *map = MemoryContextAllocZero(context, sizeof(TideMap));

	map->context = context;
	map->sender = apply->link->sender;
	map->record_len = record.end - record.at;
	map->record = MemoryContextAlloc(context, map->record_len);
	memcpy(map->record, record.at, map->record_len);
	map->valid = true;
	return map;
}

/* NULL: not replicated here. */
static TideMap *
make_map(TideApply *apply, TideCursor record, const TideRelation *relation)
{
	RangeVar *name = makeRangeVar(tide_local_name(relation->schema),
								  tide_local_name(relation->name), -1);
	TideMap *map = new_map(apply, record);
	Relation rel;

	map->relid = RangeVarGetRelid(name, RowExclusiveLock, true);
	making = map->relid;
	making_again = false;
	if (!OidIsValid(map->relid) || !tide_map_is_replicated(map->relid, &map->insert_only))
		return NULL;
	rel = table_open(map->relid, NoLock);
	map_columns(apply, map, rel, relation);
	/* Planning an expression already runs what is immutable in it. */
	tide_apply_act_as(apply, rel->rd_rel->relowner);
	map_defaults(map, rel);
	tide_apply_act_as(apply, InvalidOid);
	map_key(apply, map, rel, relation);
	read_copied(apply, map, rel);
	table_close(rel, NoLock);
	return map;
}

static MapEntry *
find_entry(const TideApply *apply, uint64 fingerprint)
{
	MapKey key = {
		.sender = apply->link->sender, .link = apply->link->id, .fingerprint = fingerprint};
	MapEntry *entry;
	bool found;

	if (maps == NULL)
	{
		HASHCTL ctl = {.keysize = sizeof(MapKey), .entrysize = sizeof(MapEntry)};

		maps = hash_create("pg_tide maps", 64, &ctl, HASH_ELEM | HASH_BLOBS);
	}
	entry = hash_search(maps, &key, HASH_ENTER, &found);
	if (!found)
		entry->map = NULL;
	return entry;
}

/* Somebody may still be using the map until the call ends. */
static void
drop_map(const TideApply *apply, MapEntry *entry)
{
	if (entry->map != NULL)
		MemoryContextSetParent(entry->map->context, apply->context);
	entry->map = NULL;
}

/*
 * Only who holds the table's lock knows that: while we wait for it, somebody may give a column
 * another type, or a default that a row would be stored without.
 */
static bool
is_current(const TideMap *map)
{
	if (!map->valid)
		return false;
	LockRelationOid(map->relid, RowExclusiveLock);
	return map->valid;
}

TideMap *
tide_map_find(TideApply *apply, TideCursor payload)
{
	TideCursor record = payload;
	TideRelation relation;
	MapEntry *entry;
	TideMap *map;

	if (!tide_read_relation(payload, &relation))
		tide_apply_malformed("a relation's description");
	(void) tide_read_u32(&record); /* the origin's number may differ */
	entry = find_entry(apply, relation.fingerprint);
	map = entry->map;
	if (map != NULL && map->record_len == (size_t) (record.end - record.at) &&
		memcmp(map->record, record.at, map->record_len) == 0 && is_current(map))
		return map;
	drop_map(apply, entry);
	do
	{
		map = make_map(apply, record, &relation);
		if (map == NULL)
			return NULL;
	}
	while (making_again);
	MemoryContextSetParent(map->context, CacheMemoryContext);
	find_entry(apply, relation.fingerprint)->map = map;
	return map;
}
