/*
 * apply_truncate.c
 *		TRUNCATE of another region's tables.
 *
 * Owns: truncating, and parking it.  Does not own: rows.
 *
 * Tables that the origin truncated together are truncated together; other tables that refer
 * to them here are not (no CASCADE), so they refuse it.  What was parked of single
 * rows is superseded.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/catalog.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "commands/tablecmds.h"
#include "miscadmin.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "tide_bytes.h"

#include "apply.h"
#include "pg_tide.h"
#include "compat.h"

#define FLAG_RESTART 2

typedef struct Truncate
{
	uint8 flags;
	int n;
	TideFrameRelation **relations;
} Truncate;

static void
read_truncate(TideApply *apply, TideCursor payload, Truncate *truncate)
{
	uint32 n;

	truncate->flags = tide_read_u8(&payload);
	n = tide_read_u32(&payload);
	if (payload.bad || (size_t) (payload.end - payload.at) != (size_t) n * sizeof(uint32))
		tide_apply_malformed("a truncate");
	truncate->n = (int) n;
	truncate->relations = MemoryContextAlloc(apply->context,
											 sizeof(TideFrameRelation *) * Max(n, 1));
	for (uint32 i = 0; i < n; i++)
		truncate->relations[i] = tide_apply_relation(apply, tide_read_u32(&payload));
}

/* A record for one of the tables, as it is parked. */
static TideChange
single_change(TideApply *apply, const Truncate *truncate, uint32 relid)
{
	uint8_t *record = MemoryContextAlloc(apply->context, 9);
	TideChange change = {.type = 'T', .relid = relid};

	record[0] = truncate->flags;
	tide_put_u32(record + 1, 1); /* one table */
	tide_put_u32(record + 5, relid);
	tide_cursor_init(&change.record, record, 9);
	change.payload = change.record;
	return change;
}

/* ---- truncating ---- */

typedef struct Tables
{
	List *rels;
	List *relids;
	List *logged;
} Tables;

static void
add_table(Tables *tables, Relation rel)
{
	tables->rels = lappend(tables->rels, rel);
	tables->relids = lappend_oid(tables->relids, RelationGetRelid(rel));
	if (RelationIsLogicallyLogged(rel))
		tables->logged = lappend_oid(tables->logged, RelationGetRelid(rel));
}

static void
add_partitions(Tables *tables, Relation rel)
{
	List *children;
	ListCell *cell;

	if (rel->rd_rel->relkind != RELKIND_PARTITIONED_TABLE)
		return;
	children = find_all_inheritors(RelationGetRelid(rel), AccessExclusiveLock, NULL);
	foreach (cell, children)
	{
		if (!list_member_oid(tables->relids, lfirst_oid(cell)))
			add_table(tables, table_open(lfirst_oid(cell), NoLock));
	}
}

/* The tables of one owner; what is left of the relations is for another round. */
static Oid
collect_tables(TideApply *apply, Truncate *truncate, Tables *tables)
{
	Oid owner = InvalidOid;
	int left = 0;

	for (int i = 0; i < truncate->n; i++)
	{
		TideFrameRelation *relation = truncate->relations[i];
		Relation rel = table_open(relation->map->relid, AccessExclusiveLock);

		if (OidIsValid(owner) && rel->rd_rel->relowner != owner)
		{
			table_close(rel, NoLock);
			truncate->relations[left++] = relation;
			continue;
		}
		owner = rel->rd_rel->relowner;
		tide_map_check_rights(apply, rel, ACL_TRUNCATE);
		add_table(tables, rel);
		add_partitions(tables, rel);
	}
	truncate->n = left;
	return owner;
}

static void
truncate_tables(TideApply *apply, Truncate *truncate)
{
	while (truncate->n > 0)
	{
		Tables tables = {NIL, NIL, NIL};
		Oid owner = collect_tables(apply, truncate, &tables);
		ListCell *cell;

		tide_apply_act_as(apply, owner);
		tide_execute_truncate(tables.rels, tables.relids, tables.logged, DROP_RESTRICT,
							  (truncate->flags & FLAG_RESTART) != 0);
		tide_apply_act_as(apply, InvalidOid);
		foreach (cell, tables.rels)
			table_close((Relation) lfirst(cell), NoLock);
		CommandCounterIncrement();
	}
}

/* ---- one record ---- */

/* Is it to be truncated now?  Not if it is not replicated, newer than the truncate, or waits. */
static bool
is_due(TideApply *apply, const Truncate *truncate, TideFrameRelation *relation)
{
	TideParkedTable *parked = apply->n_parked == 0 ? NULL : tide_parked_table(apply, relation);
	TideChange change;

	if (parked != NULL && tide_parked_whole(parked))
	{
		change = single_change(apply, truncate, relation->relid);
		tide_park(apply, relation, &change, NULL, ERRCODE_TIDE_PARKED,
				  "waits behind an earlier change of its table");
		return false;
	}
	if (!tide_apply_find_map(apply, relation))
	{
		apply->counts.skipped++;
		return false;
	}
	return true;
}

static void
truncate_now(TideApply *apply, TideCursor payload)
{
	Truncate truncate;
	TideFrameRelation **due;
	int n = 0;

	apply->operation = "truncate";
	tide_targets_close(apply); /* a table that is in use can't be truncated */
	tide_apply_forget_targets(apply);
	tide_apply_act_as(apply, InvalidOid);
	read_truncate(apply, payload, &truncate);
	due = MemoryContextAlloc(apply->context, sizeof(*due) * Max(truncate.n, 1));
	for (int i = 0; i < truncate.n; i++)
	{
		if (is_due(apply, &truncate, truncate.relations[i]))
			due[n++] = truncate.relations[i];
	}
	memcpy(truncate.relations, due, sizeof(*due) * n);
	truncate.n = n;
	truncate_tables(apply, &truncate);
	for (int i = 0; i < n; i++)
		tide_parked_superseded(apply, due[i]);
	apply->counts.changes += n;
	apply->operation = NULL;
}

static void
attempt_truncate(TideApply *apply, void *arg)
{
	truncate_now(apply, ((TideChange *) arg)->record);
}

/* One by one: so only those that are refused wait. */
static void
truncate_carefully(TideApply *apply, TideChange *whole)
{
	ErrorData *error = tide_attempt(apply, attempt_truncate, whole);
	Truncate truncate;

	if (error == NULL)
		return;
	read_truncate(apply, whole->record, &truncate);
	for (int i = 0; i < truncate.n; i++)
	{
		TideFrameRelation *relation = truncate.relations[i];
		TideChange change = single_change(apply, &truncate, relation->relid);

		error = tide_attempt(apply, attempt_truncate, &change);
		if (error != NULL)
			tide_park(apply, relation, &change, NULL, error->sqlerrcode, tide_reason(error));
	}
}

void
tide_apply_truncate(TideApply *apply, TideCursor payload, bool carefully)
{
	TideChange change = {.type = 'T', .record = payload};

	if (carefully)
		truncate_carefully(apply, &change);
	else
		truncate_now(apply, payload);
}
