/*
 * apply_records.c
 *		The records of a frame, one after the other.
 *
 * Owns: which relation a change is of, source transactions, counting; applying carefully, that
 * is, so that a change which is refused does not keep the others.  Does not own:
 * what a change does (apply_row.c, apply_truncate.c), what is kept of one that is
 * refused (apply_park.c).
 *
 * Carefully means: each source transaction in a subtransaction; if that fails, each of
 * its changes in one; those that fail are parked.  While changes of a row are
 * parked, later ones of it are parked behind them, careful or not.  An update that
 * changes the key is then taken apart into a delete and an insert, each of
 * which waits for its own row only.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "apply.h"
#include "pg_tide.h"
#include "compat.h"

#define MAX_TRIES 3 /* when somebody else is quicker to insert a row */

/* ---- relations ---- */

TideFrameRelation *
tide_apply_relation(TideApply *apply, uint32 relid)
{
	if (apply->last != NULL && apply->last->relid == relid)
		return apply->last;
	apply->last = apply->relations == NULL ? NULL
										   : hash_search(apply->relations, &relid, HASH_FIND, NULL);
	if (apply->last == NULL)
		tide_apply_malformed("a change of a relation that was not described");
	return apply->last;
}

void
tide_apply_define(TideApply *apply, TideCursor payload)
{
	TideCursor record = payload;
	uint32 relid = tide_read_u32(&payload);
	TideFrameRelation *relation;
	TideRelation description;
	bool found;

	if (!tide_read_relation(record, &description))
		tide_apply_malformed("a relation's description");
	if (apply->relations == NULL)
	{
		HASHCTL ctl = {.keysize = sizeof(uint32),
					   .entrysize = sizeof(TideFrameRelation),
					   .hcxt = apply->context};

		apply->relations = hash_create("pg_tide relations of a frame", 16, &ctl,
									   HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	relation = hash_search(apply->relations, &relid, HASH_ENTER, &found);
	memset(relation, 0, sizeof(*relation));
	relation->relid = relid;
	relation->record = record;
	relation->schema = description.schema;
	relation->name = description.name;
	relation->log = tide_schema_is_log(&description);
	apply->last = NULL;
}

bool
tide_apply_find_map(TideApply *apply, TideFrameRelation *relation)
{
	TideMap *map = relation->map;

	if (!relation->mapped)
	{
		tide_apply_act_as(apply, InvalidOid);
		map = relation->map = tide_map_find(apply, relation->record);
		relation->mapped = true;
	}
	return map != NULL && (apply->copying || (!map->copying && apply->commit_lsn >= map->copied));
}

TideTarget *
tide_apply_target(TideApply *apply, TideFrameRelation *relation)
{
	TideMap *map;

	/* Without a target we may not have the lock any more that kept the map true. */
	if (relation->target == NULL && relation->map != NULL)
		relation->mapped = false;
	if (!tide_apply_find_map(apply, relation))
		return NULL;
	map = relation->map;
	for (TideTarget *target = apply->targets; relation->target == NULL && target != NULL;
		 target = target->next)
	{
		if (target->map == map)
			relation->target = target;
	}
	if (relation->target == NULL)
	{
		tide_apply_act_as(apply, InvalidOid);
		relation->target = tide_target_open(apply, map);
	}
	return relation->target;
}

/* Tables may be other ones than before, or look otherwise. */
void
tide_apply_forget_maps(TideApply *apply)
{
	HASH_SEQ_STATUS status;
	TideFrameRelation *relation;

	if (apply->relations == NULL)
		return;
	hash_seq_init(&status, apply->relations);
	while ((relation = hash_seq_search(&status)) != NULL)
	{
		relation->mapped = false;
		relation->map = NULL;
	}
}

/* The targets are closed or gone. */
void
tide_apply_forget_targets(TideApply *apply)
{
	HASH_SEQ_STATUS status;
	TideFrameRelation *relation;

	apply->targets = NULL;
	if (apply->relations == NULL)
		return;
	hash_seq_init(&status, apply->relations);
	while ((relation = hash_seq_search(&status)) != NULL)
		relation->target = NULL;
}

/* ---- one change ---- */

const char *
tide_operation_name(char type)
{
	switch (type)
	{
		case 'I':
			return "insert";
		case 'U':
			return "update";
		case 'D':
			return "delete";
		default:
			return "truncate";
	}
}

static void
count_outcome(TideApply *apply, TideOutcome outcome)
{
	apply->counts.changes++;
	if (outcome == TIDE_OUTCOME_KEPT)
		apply->counts.kept++;
}

static void apply_parts(TideApply *apply, TideFrameRelation *relation, const TideChange *change,
						void (*each)(TideApply *apply, const TideChange *change));

/* Waits the row, or the whole table, behind a parked change?  Then so does this one. */
static bool
queue_change(TideApply *apply, TideFrameRelation *relation, const TideChange *change)
{
	TideParkedTable *parked = tide_parked_table(apply, relation);
	TideKeys keys = {0};

	if (parked == NULL)
		return false;
	if (!tide_parked_whole(parked))
	{
		TideTarget *target = tide_apply_target(apply, relation);

		if (target == NULL)
			return false;
		tide_apply_act_as(apply, target->owner);
		tide_row_keys(apply, target, change->type, change->payload, &keys);
		if (!tide_parked_key(parked, keys.key) &&
			!(keys.moved && tide_parked_key(parked, keys.old_key)))
			return false;
		if (keys.moved)
		{
			apply_parts(apply, relation, change, tide_apply_change);
			return true;
		}
	}
	tide_park(apply, relation, change, keys.key, ERRCODE_TIDE_PARKED,
			  keys.key == NULL ? "waits behind an earlier change of its table"
							   : "waits behind an earlier change of its row");
	return true;
}

void
tide_apply_change(TideApply *apply, const TideChange *change)
{
	TideFrameRelation *relation = tide_apply_relation(apply, change->relid);
	TideTarget *target;

	apply->operation = tide_operation_name(change->type);
	if (apply->n_parked == 0 || !queue_change(apply, relation, change))
	{
		target = tide_apply_target(apply, relation);
		if (target == NULL)
			apply->counts.skipped++;
		else
		{
			tide_apply_act_as(apply, target->owner);
			count_outcome(apply, tide_row_apply(apply, target, change->type, change->payload));
		}
	}
	apply->operation = NULL;
}

/* An update that changes the key, as the delete and the insert that it comes to. */
static void
apply_parts(TideApply *apply, TideFrameRelation *relation, const TideChange *change,
			void (*each)(TideApply *apply, const TideChange *change))
{
	TideChange parts[2];

	tide_row_split(apply, change, relation->map->n_columns, parts);
	each(apply, &parts[0]);
	each(apply, &parts[1]);
}

/* ---- carefully ---- */

static void
attempt_change(TideApply *apply, void *arg)
{
	tide_apply_change(apply, arg);
}

/* What attempt_keys finds. */
typedef struct KeysOf
{
	const TideChange *change;
	TideKeys keys;
} KeysOf;

static void
attempt_keys(TideApply *apply, void *arg)
{
	KeysOf *of = arg;
	TideTarget *target = tide_apply_target(apply, tide_apply_relation(apply, of->change->relid));

	if (target == NULL)
		return;
	tide_apply_act_as(apply, target->owner);
	tide_row_keys(apply, target, of->change->type, of->change->payload, &of->keys);
}

bool
tide_is_about_table(int code)
{
	return code == ERRCODE_TIDE_SHAPE || code == ERRCODE_TIDE_NO_TARGET;
}

/* A row for which there is no partition is not here: its delete has nothing to do. */
static bool
is_nowhere(const TideChange *change, const ErrorData *error)
{
	return change->type == 'D' && error->sqlerrcode == ERRCODE_CHECK_VIOLATION &&
		   error->table_name != NULL && error->constraint_name == NULL;
}

static void
apply_change_carefully(TideApply *apply, const TideChange *change)
{
	TideFrameRelation *relation;
	KeysOf of = {.change = change};
	ErrorData *error;
	ErrorData *key_error;
	int tries = 0;

	do
	{
		error = tide_attempt(apply, attempt_change, (void *) change);
		if (error == NULL)
			return;
	}
	while (error->sqlerrcode == ERRCODE_UNIQUE_VIOLATION && ++tries < MAX_TRIES);
	if (is_nowhere(change, error))
	{
		apply->counts.changes++;
		return;
	}
	relation = tide_apply_relation(apply, change->relid);
	if (!tide_is_about_table(error->sqlerrcode))
	{
		key_error = tide_attempt(apply, attempt_keys, &of);
		if (key_error == NULL && of.keys.moved)
		{
			apply_parts(apply, relation, change, apply_change_carefully);
			return;
		}
	}
	tide_park(apply, relation, change, of.keys.key, error->sqlerrcode, tide_reason(error));
	FreeErrorData(error);
}

/* ---- transactions ---- */

static void
begin_transaction(TideApply *apply, TideApplyFrame *frame, TideCursor payload)
{
	TideOpenTransaction *transaction = frame->transaction;
	uint64 commit_lsn = tide_read_u64(&payload);
	int64 commit_us = (int64) tide_read_u64(&payload);
	uint32 xid = tide_read_u32(&payload);

	if (payload.bad)
		tide_apply_malformed("the beginning of a transaction");
	if (transaction->open)
	{
		/* Each frame of a transaction in several frames repeats it. */
		if (transaction->commit_lsn != commit_lsn || transaction->xid != xid)
			tide_apply_malformed("a transaction begins inside another");
		return;
	}
	transaction->open = true;
	transaction->skipped = commit_lsn < frame->progress.position;
	transaction->commit_lsn = apply->commit_lsn = commit_lsn;
	transaction->commit_us = apply->commit_us = commit_us;
	transaction->xid = xid;
}

static void
end_transaction(TideApply *apply, TideApplyFrame *frame, TideCursor payload)
{
	TideOpenTransaction *transaction = frame->transaction;
	XLogRecPtr end;

	if (!transaction->open)
		tide_apply_malformed("a transaction ends that did not begin");
	end = tide_read_u64(&payload);
	if (payload.bad)
		tide_apply_malformed("the end of a transaction");
	if (!transaction->skipped)
	{
		apply->counts.transactions++;
		frame->step.commit_end = end;
		frame->step.commit_at = transaction->commit_us - TIDE_EPOCH_OFFSET_US;
	}
	transaction->open = false;
}

static void
note_heartbeat(TideApplyFrame *frame, TideCursor payload)
{
	int64 source_us = (int64) tide_read_u64(&payload);

	if (payload.bad)
		tide_apply_malformed("a heartbeat");
	frame->step.heartbeat_at = source_us - TIDE_EPOCH_OFFSET_US;
}

/* ---- records ---- */

static void
apply_change_record(TideApply *apply, const TideRecord *record, bool carefully)
{
	TideChange change = {.type = record->type, .record = record->payload};

	if (record->type == 'T')
	{
		tide_apply_truncate(apply, record->payload, carefully);
		return;
	}
	change.payload = record->payload;
	change.relid = tide_read_u32(&change.payload);
	if (tide_apply_relation(apply, change.relid)->log)
		tide_schema_apply(apply, apply->last, &change);
	else if (carefully)
		apply_change_carefully(apply, &change);
	else
		tide_apply_change(apply, &change);
}

static void
apply_record(TideApply *apply, TideApplyFrame *frame, const TideRecord *record, bool carefully)
{
	switch (record->type)
	{
		case 'R':
			tide_apply_define(apply, record->payload);
			return;
		case 'B':
			begin_transaction(apply, frame, record->payload);
			return;
		case 'C':
			end_transaction(apply, frame, record->payload);
			return;
		case 'I':
		case 'U':
		case 'D':
		case 'T':
		case 'H':
			break;
		default:
			tide_apply_malformed("a record of a kind that is not known here");
	}
	if (!frame->transaction->open)
		tide_apply_malformed("a change outside of a transaction");
	if (apply->copying && record->type != 'I')
		tide_apply_malformed("a copy that has more than inserts");
	if (frame->transaction->skipped)
		apply->counts.skipped += record->type != 'H';
	else if (record->type == 'H')
		note_heartbeat(frame, record->payload);
	else
		apply_change_record(apply, record, carefully);
}

/* The records of one transaction, or what the frame has of it. */
typedef struct Part
{
	TideApplyFrame *frame;
	TideCursor records;
} Part;

static void
apply_part(TideApply *apply, const Part *part, bool carefully)
{
	TideCursor records = part->records;
	TideRecord record;

	while (!part->frame->stopped && tide_record_next(&records, &record))
	{
		CHECK_FOR_INTERRUPTS();
		apply_record(apply, part->frame, &record, carefully);
		/* What a statement made must be committed before it is used; see apply_ddl.c. */
		part->frame->stopped = apply->ddl && record.type == 'C';
	}
	if (part->frame->stopped)
		return;
	if (records.bad || records.at != records.end)
		tide_apply_malformed("a record is longer than the frame");
}

static void
attempt_part(TideApply *apply, void *arg)
{
	apply_part(apply, arg, false);
}

/* Cuts off the records up to the end of the transaction. */
static Part
next_part(TideApplyFrame *frame, TideCursor *records)
{
	Part part = {.frame = frame, .records = *records};
	TideRecord record = {0};

	while (record.type != 'C' && tide_record_next(records, &record))
		;
	if (records->bad)
		tide_apply_malformed("a record is longer than the frame");
	part.records.end = records->at;
	return part;
}

static void
apply_part_carefully(TideApply *apply, Part *part)
{
	TideOpenTransaction transaction = *part->frame->transaction;
	TideProgressStep step = part->frame->step;
	ErrorData *error = tide_attempt(apply, attempt_part, part);

	if (error == NULL)
		return;
	FreeErrorData(error);
	*part->frame->transaction = transaction;
	part->frame->step = step;
	part->frame->stopped = false;
	apply->ddl = false;
	apply_part(apply, part, true);
}

void
tide_apply_records(TideApply *apply, TideApplyFrame *frame)
{
	TideCursor records = frame->records;
	Part whole = {.frame = frame, .records = records};

	apply->commit_lsn = frame->transaction->commit_lsn;
	apply->commit_us = frame->transaction->commit_us;
	if (!apply->careful)
	{
		apply_part(apply, &whole, false);
		return;
	}
	while (records.at != records.end && !frame->stopped)
	{
		Part part = next_part(frame, &records);

		apply_part_carefully(apply, &part);
	}
}
