/*
 * pg_tide.h
 *		What the modules of the extension share.
 *
 * Owns: declarations that cross a file of extension/src.  Memory follows the
 * server's contexts; nothing here calls malloc.
 */
#ifndef PG_TIDE_H
#define PG_TIDE_H

#include "postgres.h"
#include "access/htup.h"
#include "datatype/timestamp.h"
#include "fmgr.h"
#include "access/transam.h"
#include "utils/relcache.h"

#include "tide_stamp.h"

#define TIDE_SCHEMA "tide"
#define TIDE_OUTBOX_SEGMENTS 3

/* Error codes of our own (class TD); listed in ARCHITECTURE.md. */
#define ERRCODE_TIDE_STALE_OWNER MAKE_SQLSTATE('T', 'D', '0', '0', '1')
#define ERRCODE_TIDE_RESTORED MAKE_SQLSTATE('T', 'D', '0', '0', '2')
#define ERRCODE_TIDE_TIME_TRAVEL MAKE_SQLSTATE('T', 'D', '0', '0', '3')
#define ERRCODE_TIDE_NOT_PRELOADED MAKE_SQLSTATE('T', 'D', '0', '0', '4')
#define ERRCODE_TIDE_WRONG_REGION MAKE_SQLSTATE('T', 'D', '0', '2', '1')
#define ERRCODE_TIDE_NO_SYNC_PEER MAKE_SQLSTATE('T', 'D', '0', '2', '2')

/* Columns of an outbox segment (extension/sql/10_outbox.sql creates them). */
enum
{
	SEG_SEQ = 1,
	SEG_XID,
	SEG_PUBLISHED_AT,
	SEG_EVENT_ID,
	SEG_TICK_XMAX,
	SEG_ENTITY,
	SEG_OP,
	SEG_KEY,
	SEG_PAYLOAD,
	SEG_HEADERS,
	SEG_TICK,
	SEG_NATTS = SEG_TICK
};

/* ---- outbox_cache.c: what a backend remembers of an outbox ---- */

typedef struct TideOutbox
{
	NameData name; /* hash key */
	int id;
	Oid segments[TIDE_OUTBOX_SEGMENTS];
	int current; /* index of the segment being written */
	Oid sequence;
	Oid view; /* the relation whose privileges rule who may publish and read */
	uint32 wake_slot;
	bool enabled;
	bool restored; /* made under another system identifier: xids mean nothing here */
	bool valid;
} TideOutbox;

extern void tide_outbox_cache_init(void);

/* Looks an outbox up by name; error 42704 if there is none.  Valid until the next catalog access. */
extern TideOutbox *tide_outbox_lookup(text *name);

/*
 * Opens the segment that is written now and locks it as a writer until the
 * transaction ends, so that it can't be truncated under us.
 */
extern Relation tide_outbox_open_current(text *name, TideOutbox **outbox);

/* ---- window.c: reading by snapshots ---- */

/* pg_current_snapshot() as others see it: with this transaction in progress.  In the current context. */
extern char *tide_current_snapshot(void);

/* ---- wakeup.c: who waits for what, without NOTIFY ---- */

extern void tide_wakeup_init(void);
extern uint32 tide_wake_slot(const char *kind, const char *name, int name_len);

/* Marks a slot: whoever waits on it is woken when this transaction commits. */
extern void tide_wake_at_commit(uint32 slot);

/* Current generation of a slot; false if shared memory is not there (not preloaded). */
extern bool tide_wake_generation(uint32 slot, uint64 *generation);

/* When did this transaction commit?  false if it is no longer (or was never) remembered. */
extern bool tide_commit_time(FullTransactionId xid, TimestampTz *at);

/* ---- shmem.c: what all processes of the server share ---- */

/* In each process that has it: keep the place; fresh: nobody has filled it in yet. */
typedef void (*TideShmemAttach)(void *place, bool fresh);

/* For _PG_init; size in bytes.  Not preloaded, nothing happens. */
extern void tide_shmem_reserve(const char *name, Size size, TideShmemAttach attach);

/* ---- stamp.c, stamp_row.c: versions of rows ---- */

#define TIDE_STAMP_COLUMN "tide_stamp"

/* From the server's epoch (2000) back to that of clocks (1970). */
#define TIDE_EPOCH_OFFSET_US \
	((POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * (int64) SECS_PER_DAY * USECS_PER_SEC)

extern void tide_stamp_init(void);

/* What a value of type tide.stamp says; error XX001 if it is damaged. */
extern TideStamp tide_stamp_of(Datum datum);

/* A stamp's binary form, as the type's function for that reads it. */
extern bytea *tide_stamp_read(const uint8 *data, size_t len);
extern Datum tide_sql_stamp_recv(PG_FUNCTION_ARGS);

/* A clock larger than any this server gave or saw, and larger than seen. */
extern int64 tide_stamp_clock(int64 seen);

/* A clock came from elsewhere: the next one given here is larger. */
extern void tide_stamp_seen(int64 clock);

/* This region's number; error 55000 if the region has no name yet. */
extern uint32 tide_stamp_region(void);

/* That region's name; stays as it is for as long as the region does. */
extern const char *tide_stamp_region_name(void);

/* A row of another region's, as this region's version: its clock is one more.  A new tuple, values out of line in it. */
extern HeapTuple tide_stamp_adopt(Relation rel, HeapTuple tuple);

/* ---- row_size.c: rows too large to leave ---- */

/* Error 54000 if the new version of a row is larger than TIDE_MAX_ROW as a change. */
extern void tide_row_check_size(Relation rel, HeapTuple row);

/* ---- residency.c: writing what nobody here asked for ---- */

typedef uint64 (*TideOwnerWork)(Relation rel, const void *arg);

/*
 * Does the work as the table's owner; as for rows that come, triggers are silent unless they say REPLICA or ALWAYS.
 */
extern uint64 tide_write_as_owner(Relation rel, TideOwnerWork work, const void *arg);

/* ---- durability.c: commits that wait for another region ---- */

extern void tide_durability_init(void);

#endif /* PG_TIDE_H */
