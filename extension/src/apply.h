/*
 * apply.h
 *		What the files that apply rows share.
 *
 * From the outside in: apply.c takes a frame apart; apply_link.c knows which link it belongs to
 * and how far that has come; apply_session.c what must hold for the transaction (origin,
 * durability); apply_relation.c which local table a relation of the frame is;
 * apply_target.c opens that table for writing; apply_row.c applies one change;
 * apply_batch.c stores new rows, many at a time; apply_former.c finds the row of one that
 * waited while the key changed; apply_types.c makes a value of bytes; apply_park.c keeps
 * what is refused.
 *
 * Memory: a call's things live in TideApply.context, a row's in row_context,
 * which is reset after each row.
 */
#ifndef TIDE_APPLY_H
#define TIDE_APPLY_H

#include "postgres.h"
#include "access/attmap.h"
#include "access/genam.h"
#include "access/heapam.h"
#include "access/skey.h"
#include "access/xlogdefs.h"
#include "commands/copy.h"
#include "executor/execPartition.h"
#include "nodes/execnodes.h"
#include "utils/hsearch.h"
#include "utils/snapshot.h"

#include "tide_frame.h"
#include "tide_merge.h"

#include "pg_tide.h"

#define TIDE_RESIDENCY_INDEX "tide_residency_" /* its name begins so; 73_residency.sql */
#define TIDE_MAX_AHEAD_S 60 /* how far a version may be ahead of this server's clock */

/* Further error codes of our own; listed in ARCHITECTURE.md. */
#define ERRCODE_TIDE_GAP MAKE_SQLSTATE('T', 'D', '0', '1', '1')
#define ERRCODE_TIDE_OTHER_ORIGIN MAKE_SQLSTATE('T', 'D', '0', '1', '2')
#define ERRCODE_TIDE_DAMAGED_FRAME MAKE_SQLSTATE('T', 'D', '0', '1', '3')
#define ERRCODE_TIDE_SHAPE MAKE_SQLSTATE('T', 'D', '0', '1', '4')
#define ERRCODE_TIDE_NO_TARGET MAKE_SQLSTATE('T', 'D', '0', '1', '5')
#define ERRCODE_TIDE_PARKED MAKE_SQLSTATE('T', 'D', '0', '2', '0')

typedef struct TideApply TideApply;
typedef struct TideTarget TideTarget;

/* ---- apply_link.c: the link, its owner, its progress ---- */

#define TIDE_LINK_PREFIX "link:" /* of the names of links' pipelines; region and lane follow */

typedef struct TideApplyLink
{
	char *pipeline;
	int pipeline_id;
	int64 epoch;
	int id;
	char *region;  /* where its rows come from */
	uint32 sender; /* that region's number */
	bool copy;	   /* tables are copied first: what is not copied yet is skipped */
} TideApplyLink;

/* The row of tide.link_progress. */
typedef struct TideProgress
{
	XLogRecPtr position;
	uint64 system_id;
	uint32 timeline;
	bool durable; /* committed before this transaction */
	HeapTuple tuple;
} TideProgress;

/* What a frame adds to it. */
typedef struct TideProgressStep
{
	XLogRecPtr position;
	XLogRecPtr source_end;
	XLogRecPtr commit_end;	  /* of the last transaction */
	TimestampTz commit_at;	  /* 0: no transaction */
	TimestampTz heartbeat_at; /* 0: no heartbeat */
	int64 transactions;
	int64 changes;
} TideProgressStep;

/*
 * The link behind a pipeline; error TD001 unless epoch is the current one.  Until the
 * transaction ends no other session works for this link.  Valid until the next call.
 */
extern const TideApplyLink *tide_link_own(text *pipeline, int64 epoch);

/* As tide_link_own, but beside others: a table's copy. */
extern const TideApplyLink *tide_link_share(text *pipeline, int64 epoch);

/* The link with that number, if nobody else works for it; for retrying what is parked. */
extern const TideApplyLink *tide_link_own_by_id(int link_id);

/* Error 55000 if the link has none yet. */
extern void tide_progress_read(const TideApplyLink *link, TideProgress *progress);
extern void tide_progress_write(const TideProgress *progress, const TideProgressStep *step);

/* A relation of schema tide, and who owns them. */
extern Oid tide_catalog(const char *relname);
extern Oid tide_catalog_owner(void);

/* ---- apply_session.c: what must hold while a transaction applies ---- */

/* The transaction of the origin that open frames are in the middle of. */
typedef struct TideOpenTransaction
{
	bool open;
	bool skipped; /* it is here already */
	uint64 commit_lsn;
	int64 commit_us;
	uint32 xid;
	int64 changes; /* applied by earlier frames */
} TideOpenTransaction;

extern void tide_session_init(void);

/*
 * From here to its end, the transaction's changes are tagged as come by a link, and
 * its commit does not wait for the disk.  An origin can serve one session at a time.
 */
extern void tide_session_begin(const TideApplyLink *link);
extern void tide_session_begin_copy(void);

/* Tagged likewise, in a session that has nothing to do with links: the origin is given back at the end. */
extern void tide_session_begin_local(void);

/* The transaction commits with everything before position; remembered until it is durable. */
extern void tide_session_reached(const TideApplyLink *link, XLogRecPtr position);

/* The position known to be durable here. */
extern XLogRecPtr tide_session_flushed(const TideApplyLink *link, const TideProgress *progress);

/* Of this database transaction; not open at its beginning. */
extern TideOpenTransaction *tide_session_transaction(void);

/* A call ends in the middle of it: it must not be committed so. */
extern void tide_session_left_open(void);

/* ---- apply_relation.c: from a frame's relation to a local table ---- */

typedef struct TideMapColumn
{
	AttrNumber attnum; /* 0: nothing is stored (generated here) */
	bool key;		   /* part of the origin's key: old tuples carry it */
	bool own_key;	   /* part of the key here */
	bool nested;	   /* values contain numbers of types */
	Oid type;
	int32 typmod;
	Oid base;	 /* behind domains */
	Oid widened; /* the origin's type, if it is a smaller number; or InvalidOid */
	Oid former;	 /* the type the origin's column had, if both have another now; or InvalidOid */
	MemoryContext context;
	bool receive; /* the binary function is known */
	bool input;	  /* the text function is known */
	FmgrInfo receive_fn;
	FmgrInfo input_fn;
	Oid receive_param;
	Oid input_param;
} TideMapColumn;

typedef struct TideMapDefault
{
	AttrNumber attnum;
	Expr *expr; /* NULL: the column is null */
} TideMapDefault;

typedef struct TideMap
{
	MemoryContext context;
	uint32 sender;
	char *record; /* what it was made of, after relid */
	size_t record_len;
	Oid relid;
	bool valid;	  /* nothing changed since */
	bool checked; /* rights were looked at elsewhere: a partition */
	bool insert_only;
	XLogRecPtr copied; /* what committed before is in the copy */
	bool copying;	   /* there is no copy yet: everything is skipped */
	int look_up;	   /* so many inserts look first whether there is such a row */
	int n_columns;
	TideMapColumn *columns;
	int n_defaults; /* local columns the origin does not send */
	TideMapDefault *defaults;
	AttrNumber lacks; /* a column that must have a value, has no default and is not sent; 0: none */
	int n_keys;		  /* 0: no key here, rows can only be added */
	AttrNumber *keys;
	bool old_has_key; /* the origin's old tuples have all of it */
	bool former_key;  /* ... they have that of the key it had, and both have another now */
	AttrNumber stamp; /* of the column tide_stamp; 0: none */
	int stamp_column; /* the frame's column of stamps, or -1 */
} TideMap;

extern void tide_map_init(void);

/*
 * The map of a relation's record (its payload).  NULL: the table is not
 * replicated here.  Errors: TD014, TD015.  Stays until the call ends.
 */
extern TideMap *tide_map_find(TideApply *apply, TideCursor payload);

/* The index by which rows are found; InvalidOid: none. */
extern Oid tide_map_key_index(Relation rel);

/* Which of the frame's columns goes into a local one; -1: none. */
extern int tide_map_source(const TideMap *map, AttrNumber attnum);

/* A name of the frame in this server's encoding. */
extern char *tide_local_name(TideStr str);

/* Is it in tide.replicated_table?  If so, insert_only (may be NULL) is filled in. */
extern bool tide_map_is_replicated(Oid relid, bool *insert_only);

/* What a target of changes needs. */
#define TIDE_TARGET_RIGHTS (ACL_SELECT | ACL_INSERT | ACL_UPDATE | ACL_DELETE)

/* May the caller write this table?  Error TD015 if not. */
extern void tide_map_check_rights(const TideApply *apply, Relation rel, AclMode rights);

/* ... and does it take the rows of that map?  Error TD015 or TD014. */
extern void tide_map_check_target(const TideApply *apply, const TideMap *map, Relation rel);

/* ---- apply_types.c: from bytes to values ---- */

/* Does the local column take the origin's values?  NULL, or why not. */
extern bool tide_type_widens(const TideColumn *remote, Oid local, int32 typmod);
/* Would ALTER TABLE, without USING, make the one of the other? */
extern bool tide_type_converts(const TideColumn *remote, Oid local);
extern const char *tide_type_differs(const TideColumn *remote, Oid local, int32 typmod);

/* Fills in what depends on the local type. */
extern void tide_type_prepare(TideMapColumn *column, MemoryContext context);

/* A value of kind 'b' or 't'; in the current context. */
extern Datum tide_type_read(TideMapColumn *column, const TideValue *value);

/* ---- apply_former.c: changes that waited while the key became another one ---- */

/*
 * Which row is meant by the columns that were the key at the origin: if it is here, its key by now is
 * stored in target->old.
 */
extern bool tide_former_key(TideApply *apply, TideTarget *target, const TideValue *values);

/* ---- apply_target.c: tables open for writing ---- */

/* Where rows are stored: the table itself, or a partition. */
typedef struct TideLeaf
{
	Oid relid;
	Oid owner; /* its triggers and index expressions run as */
	ResultRelInfo *rri;
	TupleConversionMap *from_root; /* NULL: the same columns in the same order */
	Relation key_index;			   /* NULL: none */
	IndexScanDesc scan;
	int n_keys;
	AttrNumber *keys;
	ScanKeyData *search;
	AttrNumber stamp;
	TupleTableSlot *found;
	TupleTableSlot *row;	  /* what is written; the target's own if from_root is NULL */
	TupleTableSlot **waiting; /* see apply_batch.c; NULL: none yet */
	int n_waiting;			  /* slots there are */
	struct TideLeaf *next;
} TideLeaf;

struct TideTarget
{
	TideMap *map;
	Relation rel;
	Oid owner;
	EState *estate;
	EPQState epq;
	ResultRelInfo *rri;
	ModifyTableState *mtstate;
	PartitionTupleRouting *routing; /* NULL: not partitioned */
	TideLeaf *leaves;
	TupleTableSlot *incoming; /* the change's row, columns of the (root) table */
	TupleTableSlot *old;	  /* the row before, as far as the change tells */
	ExprState **defaults;
	bool *unchanged; /* by attribute: the value was not sent */
	int n_unchanged;
	bool completed;			   /* what was not sent has been taken from a row that is here */
	AttrNumber working_column; /* being read, for messages */
	bool triggers;			   /* the table or a partition has some */
	TideTarget *next;
};

/* In apply->target_context; acts as the owner from here on. */
extern TideTarget *tide_target_open(TideApply *apply, TideMap *map);
extern void tide_targets_close(TideApply *apply);

/*
 * For writing rows of one table (or partition), which is open and stays so: what ExecSimpleRelation...() want.  An update counts
 * as one of all columns, so that every generated one is computed again.
 */
extern EState *tide_executor_new(Relation rel, ResultRelInfo **rri, EPQState *epq);

/* Where the row in slot belongs. */
extern TideLeaf *tide_target_leaf(TideApply *apply, TideTarget *target, TupleTableSlot *slot);

/* Where a column of the table is in the leaf; 0 for 0. */
extern AttrNumber tide_leaf_column(const TideLeaf *leaf, AttrNumber root);

/* The row in the leaf's columns. */
extern TupleTableSlot *tide_leaf_row(TideTarget *target, TideLeaf *leaf, TupleTableSlot *slot);

/* ---- apply_row.c: one change ---- */

typedef enum TideOutcome
{
	TIDE_OUTCOME_WRITTEN,
	TIDE_OUTCOME_KEPT,	 /* what is here is as new or newer */
	TIDE_OUTCOME_NOTHING /* a delete of what is not here */
} TideOutcome;

/* payload: of an 'I', 'U' or 'D', after relid. */
extern TideOutcome
tide_row_apply(TideApply *apply, TideTarget *target, char type, TideCursor payload);

/* Deletes the rows of a leaf that the link's region wrote last; how many. */
extern int64 tide_rows_delete_origin(TideApply *apply, TideTarget *target);

/* ---- what a call works with ---- */

/* New rows that wait to be stored in one leaf: in its first n slots. */
typedef struct TideBatch
{
	TideTarget *target;
	TideLeaf *leaf;
	struct TideFrameRelation *relation; /* for messages */
	int n;
} TideBatch;

/* A relation as the frame's records name it. */
typedef struct TideFrameRelation
{
	uint32 relid; /* hash key; the origin's number */
	bool mapped;  /* map was looked up */
	TideMap *map; /* NULL: not replicated here */
	TideTarget *target;
	TideCursor record; /* payload of the 'R' */
	TideStr schema;
	TideStr name;
	bool log; /* tide.schema_log: not rows, but what happens to the schema */
} TideFrameRelation;

/* What is counted; undone with what it counts. */
typedef struct TideCounts
{
	int64 transactions;
	int64 changes;
	int64 kept;
	int64 skipped;
	int64 parked;
} TideCounts;

/* A change, wherever it comes from. */
typedef struct TideChange
{
	char type; /* 'I', 'U', 'D', 'T' */
	uint32 relid;
	TideCursor payload; /* behind relid */
	TideCursor record;	/* the record's whole payload */
} TideChange;

struct TideApply
{
	const TideApplyLink *link;
	Oid caller;
	Oid rights_of; /* the role whose rights count: the caller's, or tide_relay's */
	MemoryContext context;
	MemoryContext row_context;
	MemoryContext target_context; /* of the targets that are open */
	HTAB *relations;
	TideFrameRelation *last;
	TideTarget *targets;
	TideBatch batch;
	Snapshot snapshot;
	bool careful;
	bool hopeful;		/* an error is followed by a careful repetition */
	bool copying;		/* rows of a copy: link_table does not count */
	uint32 here;		/* this region's number */
	int64 max_clock;	/* the largest that came */
	int64 latest_clock; /* no version may be later */
	TideValue *values;	/* of the tuples being read; room for max_columns */
	TideValue *old_values;
	int max_columns;
	Oid acting; /* as whom, InvalidOid: the caller */
	int sec_context;
	/* for messages */
	const char *operation;
	/* of the transaction that is being applied */
	uint64 commit_lsn;
	int64 commit_us;
	int n_parked;	 /* 0: nothing is parked for the link */
	int64 parked_id; /* of the parked change that is tried again; 0: none */
	bool ddl;		 /* a statement was run: the transaction ends the call */
	TideCounts counts;
};

/* ---- apply_batch.c: new rows, many at a time ---- */

#define TIDE_BATCH_ROWS 64 /* some pages; their size is bounded by the frame's */

/* May a row that is to be inserted wait for others? */
extern bool tide_batch_may(const TideApply *apply, const TideTarget *target);

/* The row (in the leaf's columns) waits; what waits already is of that leaf. */
extern void
tide_batch_add(TideApply *apply, TideTarget *target, TideLeaf *leaf, TupleTableSlot *row);

/* Stores what waits.  Acts as the owner of where that is, from here on. */
extern void tide_batch_store(TideApply *apply);

/* The table's constraints. */
extern void tide_rows_check(ResultRelInfo *rri, EState *estate, TupleTableSlot *slot);

/* Stores rows that are in slots of the table's own kind, and empties those; bulk may be NULL. */
extern void tide_rows_store(ResultRelInfo *rri, EState *estate, TupleTableSlot **slots, int n,
							BulkInsertState bulk);

/* What a frame is to tide.apply. */
typedef struct TideApplyFrame
{
	TideFrameHeader header;
	TideCursor records;
	TideProgress progress;
	TideProgressStep step;
	TideOpenTransaction *transaction;
	bool stopped; /* at step.commit_end, before the frame's end */
} TideApplyFrame;

/* ---- apply_records.c: the records of a frame ---- */

/* Applies them all; fills in frame->step and the counts. */
extern void tide_apply_records(TideApply *apply, TideApplyFrame *frame);

/* Remembers what an 'R' says. */
extern void tide_apply_define(TideApply *apply, TideCursor payload);
extern TideFrameRelation *tide_apply_relation(TideApply *apply, uint32 relid);

/* The table for the relation's changes; NULL: they are skipped. */
extern TideTarget *tide_apply_target(TideApply *apply, TideFrameRelation *relation);
extern void tide_apply_forget_targets(TideApply *apply);
extern void tide_apply_forget_maps(TideApply *apply);

/* Looks relation->map up; false if its changes are skipped (which need not be for good: the map is there). */
extern bool tide_apply_find_map(TideApply *apply, TideFrameRelation *relation);

/* One change, or an error; one whose row waits is parked. */
extern void tide_apply_change(TideApply *apply, const TideChange *change);

/* What a change's type is called: 'I' insert and so on. */
extern const char *tide_operation_name(char type);

/* A reason that holds for every row of a table? */
extern bool tide_is_about_table(int code);

/* ---- apply_truncate.c ---- */

/* payload: of a 'T'.  Carefully: what is refused is parked. */
extern void tide_apply_truncate(TideApply *apply, TideCursor payload, bool carefully);

/* ---- apply_key.c: keys as text ---- */

typedef struct TideKeys
{
	char *key; /* of the row as it is after the change, or of the one deleted; NULL: it has none */
	char *old_key; /* before an update, if the change tells it */
	bool moved;	   /* the two differ */
} TideKeys;

extern void
tide_row_keys(TideApply *apply, TideTarget *target, char type, TideCursor payload, TideKeys *keys);

/* Takes an update that tells the old row apart: into a delete of that, and an insert. */
extern void
tide_row_split(TideApply *apply, const TideChange *update, int n_columns, TideChange parts[2]);

/* ---- apply_park.c: what is refused ---- */

typedef struct TideParkedTable TideParkedTable;

/*
 * Runs work in a subtransaction.  NULL: done.  Else nothing of it remains, and this is why;
 * in apply->context.  An error that is no fault of the data is raised again.
 */
extern ErrorData *
tide_attempt(TideApply *apply, void (*work)(TideApply *apply, void *arg), void *arg);

/* The error in one line. */
extern const char *tide_reason(const ErrorData *error);

/* Makes sure that what is parked for the link is known. */
extern void tide_parked_load(TideApply *apply);
extern void tide_parked_undone(TideApply *apply);
extern void tide_parked_transaction_end(bool committed);

/* NULL: nothing of the relation is parked. */
extern TideParkedTable *tide_parked_table(TideApply *apply, const TideFrameRelation *relation);
extern bool tide_parked_whole(const TideParkedTable *table);
extern bool tide_parked_key(const TideParkedTable *table, const char *key);

/* Whoever remembers what is parked looks again once this transaction has committed. */
extern void tide_parked_tell(void);

/* The table was truncated: what is parked of its rows is over. */
extern void tide_parked_superseded(TideApply *apply, const TideFrameRelation *relation);

/* key NULL: the whole table waits from here on. */
extern void tide_park(TideApply *apply, const TideFrameRelation *relation, const TideChange *change,
					  const char *key, int code, const char *reason);

/* ---- apply_schema.c: what the stream says of the schema ---- */

/* An entry of the origin's tide.schema_log. */
typedef struct TideSchemaEntry
{
	char *kind; /* 'shape' or 'ddl' */
	char *body; /* JSON */
} TideSchemaEntry;

extern bool tide_schema_is_log(const TideRelation *description);

/* relation: payload of the 'R'; payload: of an 'I', after relid. */
extern void tide_schema_read(TideCursor relation, TideCursor payload, TideSchemaEntry *entry);
extern void
tide_schema_apply(TideApply *apply, const TideFrameRelation *relation, const TideChange *change);

/*
 * What the origin calls that column now, which it had when the record was made: NULL if
 * nobody knows, "" if it has none any more.  For columns that are not here: changes that
 * waited may name them.
 */
extern char *tide_schema_column_now(const TideApply *apply, Relation rel, const char *column);

/* Has the origin's column, by now, a type whose values the local one takes? */
extern bool tide_schema_column_fits(const TideApply *apply, Relation rel, const char *column,
									Oid type, int32 typmod);

/* Has the table, over there, by now the same key as here?  unknown: the answer if nobody said. */
extern bool tide_schema_key_same(const TideApply *apply, Relation rel, bool unknown);

/* ---- apply_ddl.c: statements of other regions ---- */

/* Runs it, or parks it. */
extern void tide_ddl_apply(TideApply *apply, const TideFrameRelation *relation,
						   const TideChange *change, TideSchemaEntry *entry);

/* Runs it, or an error: it was parked, and is tried again. */
extern void tide_ddl_run(TideApply *apply, TideSchemaEntry *entry);

/* ---- apply.c ---- */

/* Error TD014: the table can't take the rows. */
extern _Noreturn void tide_map_refuse_shape(const TideApply *apply, Relation rel, const char *why);

/* Error TD013. */
extern _Noreturn void tide_apply_malformed(const char *what);

/* Checks what every call needs, and fills it in; link, here and the rest are the caller's. */
extern void tide_apply_begin(TideApply *apply, FunctionCallInfo fcinfo);

/* As whom the following runs, restricted; InvalidOid: as the caller again. */
extern void tide_apply_act_as(TideApply *apply, Oid role);

/* Opens a frame (an empty one: of tide_large_value); records lie in it, or unpacked in apply->context. */
extern void
tide_apply_read_frame(TideApply *apply, bytea *data, TideFrameHeader *header, TideCursor *records);

/* Error TD012 unless the frame is of the link's region. */
extern void tide_apply_check_region(const TideApply *apply, const TideFrameHeader *header);

/* Runs work with the settings and rights under which rows are written, and closes all targets. */
extern void tide_apply_run(TideApply *apply, void (*work)(TideApply *apply, void *arg), void *arg);

/* ---- large_value.c: what is too large for one statement ---- */

/* What tide.relay_part put together, if that is whole and given is empty; otherwise given. */
extern bytea *tide_large_value(bytea *given);

/* Frees it: after use. */
extern void tide_large_forget(void);

/* ---- copy_store.c ---- */

/*
 * Stores all the rows that COPY reads; returns how many.  n_columns: columns that state fills
 * itself, not by defaults.
 */
extern int64 tide_copy_store(TideApply *apply, Relation rel, int n_columns, CopyFromState state);

#endif /* TIDE_APPLY_H */
