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

/* 16 has one function for the privileges on every kind of object. */
#if PG_VERSION_NUM >= 160000
#define tide_proc_aclcheck(proc, role, mode) \
	object_aclcheck(ProcedureRelationId, (proc), (role), (mode))
#else
#define tide_proc_aclcheck(proc, role, mode) pg_proc_aclcheck((proc), (role), (mode))
#endif

/* From 16 on modules are built with hidden symbols; _PG_init needs its mark on 15 too. */
#ifndef PGDLLEXPORT
#define PGDLLEXPORT
#endif

#endif /* TIDE_COMPAT_H */
