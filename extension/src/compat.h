/*
 * compat.h
 *		The only place that knows which server version we are built for.
 *
 * Owns: differences between PostgreSQL 15 and 18.  Included last, after the
 * server's own headers.
 */
#ifndef TIDE_COMPAT_H
#define TIDE_COMPAT_H

#if PG_VERSION_NUM < 150000
#error "pg_tide needs PostgreSQL 15 or newer"
#endif

/* 16 moved what knows about varlena out of postgres.h. */
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

/* 18 lets a scan count its index searches. */
#if PG_VERSION_NUM >= 180000
#define tide_index_beginscan(heap, index, snapshot, nkeys) \
	index_beginscan((heap), (index), (snapshot), NULL, (nkeys), 0)
#else
#define tide_index_beginscan(heap, index, snapshot, nkeys) \
	index_beginscan((heap), (index), (snapshot), (nkeys), 0)
#endif

/* 16 renamed relation file nodes. */
#if PG_VERSION_NUM >= 160000
#define tide_relation_file(rel) ((rel)->rd_locator.relNumber)
#else
#define tide_relation_file(rel) ((rel)->rd_node.relNode)
#endif

/* 16 has one function for the privileges on any kind of object. */
#if PG_VERSION_NUM >= 160000
#define tide_proc_aclcheck(proc, role, mode) \
	object_aclcheck(ProcedureRelationId, (proc), (role), (mode))
#else
#define tide_proc_aclcheck(proc, role, mode) pg_proc_aclcheck((proc), (role), (mode))
#endif

/* 17 lets extensions name their wait events. */
#if PG_VERSION_NUM >= 170000
#define tide_wait_event_new(name) WaitEventExtensionNew(name)
#else
#define tide_wait_event_new(name) PG_WAIT_EXTENSION
#endif

/* 16 lets other processes share an origin; we never do. */
#if PG_VERSION_NUM >= 160000
#define tide_replorigin_setup(id) replorigin_session_setup((id), 0)
#else
#define tide_replorigin_setup(id) replorigin_session_setup((id))
#endif

/* 18 asks whether a deferrable key will do; before, none did. */
#if PG_VERSION_NUM >= 180000
#define tide_primary_key(rel) RelationGetPrimaryKeyIndex((rel), false)
#else
#define tide_primary_key(rel) RelationGetPrimaryKeyIndex((rel))
#endif

/* 16 took privileges out of range table entries, 18 wants to know what was not pruned. */
#if PG_VERSION_NUM >= 180000
#define tide_init_range_table(estate, rte, perms) \
	ExecInitRangeTable((estate), list_make1(rte), (perms), bms_make_singleton(1))
#elif PG_VERSION_NUM >= 160000
#define tide_init_range_table(estate, rte, perms) \
	ExecInitRangeTable((estate), list_make1(rte), (perms))
#else
#define tide_init_range_table(estate, rte, perms) ExecInitRangeTable((estate), list_make1(rte))
#endif
#if PG_VERSION_NUM >= 160000
#define tide_set_updated(perms, rte, columns) \
	(addRTEPermissionInfo((perms), (rte))->updatedCols = (columns))
#else
#define tide_set_updated(perms, rte, columns) ((void) (perms), (rte)->updatedCols = (columns))
#endif

/* 16 can truncate as each table's owner; we are that already. */
#if PG_VERSION_NUM >= 160000
#define tide_execute_truncate(rels, relids, logged, behavior, restart) \
	ExecuteTruncateGuts((rels), (relids), (logged), (behavior), (restart), false)
#else
#define tide_execute_truncate(rels, relids, logged, behavior, restart) \
	ExecuteTruncateGuts((rels), (relids), (logged), (behavior), (restart))
#endif

/* 16 can return errors in a node. */
#if PG_VERSION_NUM >= 160000
#define tide_parse_type(text, oid, typmod) ((void) parseTypeString((text), (oid), (typmod), NULL))
#else
#define tide_parse_type(text, oid, typmod) parseTypeString((text), (oid), (typmod), false)
#endif

/* 16 gave it a list of result relations. */
#if PG_VERSION_NUM >= 160000
#define tide_init_epq(epq, estate) EvalPlanQualInit((epq), (estate), NULL, NIL, -1, NIL)
#else
#define tide_init_epq(epq, estate) EvalPlanQualInit((epq), (estate), NULL, NIL, -1)
#endif

/* 16 can leave out indexes that only summarize; a new row is in all of them. */
#if PG_VERSION_NUM >= 160000
#define tide_insert_index_tuples(rri, slot, estate) \
	ExecInsertIndexTuples((rri), (slot), (estate), false, false, NULL, NIL, false)
#else
#define tide_insert_index_tuples(rri, slot, estate) \
	ExecInsertIndexTuples((rri), (slot), (estate), false, false, NULL, NIL)
#endif

/* 16 makes the map to a partition's columns when it is asked for. */
#if PG_VERSION_NUM >= 160000
#define tide_partition_map(rri, estate) ExecGetRootToChildMap((rri), (estate))
#else
#define tide_partition_map(rri, estate) ((rri)->ri_RootToPartitionMap)
#endif

/* 17 can flush a logical message at once. */
#if PG_VERSION_NUM >= 170000
#define tide_log_message(prefix, data, size) \
	LogLogicalMessage((prefix), (data), (size), true, false)
#else
#define tide_log_message(prefix, data, size) LogLogicalMessage((prefix), (data), (size), true)
#endif

/* From 16 on modules are built with hidden symbols; _PG_init needs its mark on 15 too. */
#ifndef PGDLLEXPORT
#define PGDLLEXPORT
#endif

#endif /* TIDE_COMPAT_H */
