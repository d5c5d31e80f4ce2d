/*
 * outbox.c
 *		Publishing: one heap insert and one narrow index entry in the caller's transaction.
 *
 * Owns: tide.outbox_publish in both call forms.  Does not own: where segments
 * are (outbox_cache.c), reading (window.c), waking readers (wakeup.c).
 *
 * Invariants:
 *	- seq comes from a sequence without cache, so that of two events of which
 *	  the second was published after the first one's transaction ended (a row
 *	  lock was waited for, say) the second has the higher seq.
 *	- xid is the top-level transaction: it is what snapshots know.
 *	- every TICK_EVERY-th event carries the snapshot it was published under.
 *	  Any real snapshot is a clean cut through history; readers that are far
 *	  behind use them to read a backlog in pieces.
 *
 * Who may publish is the INSERT privilege on the outbox's view, checked for the
 * current role, so that SET ROLE counts and per-outbox grants are plain GRANTs.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "commands/sequence.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "parser/parse_relation.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"
#include "utils/xid8.h"

#include "pg_tide.h"
#include "tide_uuid.h"
#include "compat.h"

/* How many events lie between two recorded snapshots: the size of a piece of backlog. */
#define TICK_EVERY 2048

/* Random bytes fetched at once; a multiple of what an event id takes. */
#define RANDOM_POOL 1024

/* Longer names than these are a mistake, and would not fit a broker's subject. */
#define MAX_LABEL_LENGTH 1024

PG_FUNCTION_INFO_V1(tide_sql_outbox_publish);
PG_FUNCTION_INFO_V1(tide_sql_outbox_publish_jsonb);

/* One event as given, before it has an identity. */
typedef struct PublishArgs
{
	text *outbox;
	text *entity;
	text *op;
	text *key; /* NULL: no order asked for */
	Datum payload;
	Datum headers;
} PublishArgs;

static void
check_privilege(const TideOutbox *outbox)
{
	AclResult result = pg_class_aclcheck(outbox->view, GetUserId(), ACL_INSERT);

	if (result == ACLCHECK_OK)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("permission denied to publish to outbox \"%s\"", NameStr(outbox->name)),
			 errhint("Ask an administrator for SELECT tide.outbox_grant_publish('%s', '%s').",
					 NameStr(outbox->name), GetUserNameFromId(GetUserId(), false))));
}

static void
check_label(const char *what, text *value)
{
	int len = VARSIZE_ANY_EXHDR(value);

	if (len > MAX_LABEL_LENGTH)
		ereport(ERROR, (errcode(ERRCODE_STRING_DATA_RIGHT_TRUNCATION),
						errmsg("%s of an event is %d bytes long; %d are allowed", what, len,
							   MAX_LABEL_LENGTH),
						errhint("Long values belong into the payload.")));
}

/*
 * The older call form has the payload where this one has the entity.  A call
 * without casts lands here; what looks like JSON was meant for the other form,
 * and guessing would swap payload and headers.
 */
static void
check_entity(text *entity)
{
	const char *data = VARDATA_ANY(entity);
	int len = VARSIZE_ANY_EXHDR(entity);
	int i = 0;

	while (i < len && (data[i] == ' ' || data[i] == '\t' || data[i] == '\n'))
		i++;
	if (i < len && (data[i] == '{' || data[i] == '['))
		ereport(
			ERROR,
			(errcode(ERRCODE_AMBIGUOUS_FUNCTION),
			 errmsg(
				 "the second argument of tide.outbox_publish looks like a payload, not like an entity"),
			 errhint(
				 "Name the entity: outbox_publish(outbox, 'orders', payload), "
				 "or cast for the older form: outbox_publish(outbox, payload::jsonb, headers::jsonb).")));
	if (i == len)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("the entity of an event must not be empty"),
						errhint("Name what the event is about, for example 'orders'.")));
	check_label("entity", entity);
}

static void
reject_null(const char *what, const char *hint)
{
	ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					errmsg("%s of an event must not be null", what), errhint("%s", hint)));
}

static void
check_args(const PublishArgs *args)
{
	check_entity(args->entity);
	check_label("op", args->op);
	if (VARSIZE_ANY_EXHDR(args->op) == 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("the op of an event must not be empty"),
						errhint("Use 'insert', 'update', 'delete' or a name of your own.")));
	if (args->key != NULL)
		check_label("key", args->key);
	if (!JB_ROOT_IS_OBJECT(DatumGetJsonbP(args->headers)))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("headers of an event must be a JSON object"),
						errhint("For example '{\"trace\": \"abc\"}'.")));
}

/*
 * Asking for a few random bytes takes as long as for many, and was a fifth of
 * publishing.  The pool is this backend's own: the postmaster, from which
 * backends inherit, never publishes.
 */
static void
take_random(uint8 *out, size_t n)
{
	static uint8 pool[RANDOM_POOL];
	static size_t left = 0;

	if (left < n)
	{
		if (!pg_strong_random(pool, sizeof(pool)))
			ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR),
							errmsg("could not generate random bytes for an event id")));
		left = sizeof(pool);
	}
	left -= n;
	memcpy(out, pool + left, n);
}

/* Identity: a UUIDv7, unique whatever is restored, promoted or cloned. */
static pg_uuid_t *
new_event_id(TimestampTz now)
{
	pg_uuid_t *id = palloc(sizeof(pg_uuid_t));
	uint8 random[8];
	int64 unix_us = now + ((int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE)) * USECS_PER_DAY;

	take_random(random, sizeof(random));
	tide_uuid7(id->data, unix_us, random);
	return id;
}

/* Adds the current snapshot to every TICK_EVERY-th event. */
static void
add_tick(int64 seq, Datum *values, bool *nulls)
{
	char *snapshot;
	uint64 xmax;

	nulls[SEG_TICK - 1] = nulls[SEG_TICK_XMAX - 1] = (seq % TICK_EVERY) != 0;
	if (nulls[SEG_TICK - 1])
		return;
	snapshot = tide_current_snapshot();
	xmax = strtoull(strchr(snapshot, ':') + 1, NULL, 10);
	values[SEG_TICK_XMAX - 1] = FullTransactionIdGetDatum(FullTransactionIdFromU64(xmax));
	values[SEG_TICK - 1] = CStringGetTextDatum(snapshot);
}

static void
insert_row(Relation rel, Datum *values, bool *nulls)
{
	EState *estate = CreateExecutorState();
	ResultRelInfo *rri = makeNode(ResultRelInfo);
	TupleTableSlot *slot = table_slot_create(rel, NULL);

	InitResultRelInfo(rri, rel, 1, NULL, 0);
	ExecOpenIndices(rri, false);
	memcpy(slot->tts_values, values, sizeof(Datum) * SEG_NATTS);
	memcpy(slot->tts_isnull, nulls, sizeof(bool) * SEG_NATTS);
	ExecStoreVirtualTuple(slot);
	ExecSimpleRelationInsert(rri, estate, slot);
	ExecCloseIndices(rri);
	ExecDropSingleTupleTableSlot(slot);
	FreeExecutorState(estate);
}

static pg_uuid_t *
publish(const PublishArgs *args)
{
	TideOutbox *outbox;
	Relation rel;
	Datum values[SEG_NATTS] = {0};
	bool nulls[SEG_NATTS] = {0};
	TimestampTz now = GetCurrentTimestamp();
	pg_uuid_t *id = new_event_id(now);
	int64 seq;

	PreventCommandIfReadOnly("tide.outbox_publish()");
	PreventCommandIfParallelMode("tide.outbox_publish()");
	check_args(args);

	rel = tide_outbox_open_current(args->outbox, &outbox);
	check_privilege(outbox);
	if (!outbox->enabled)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("outbox \"%s\" is disabled", NameStr(outbox->name)),
						errhint("Enable it with SELECT tide.outbox_enable('%s').",
								NameStr(outbox->name))));

	values[SEG_XID - 1] = FullTransactionIdGetDatum(GetTopFullTransactionId());
	seq = nextval_internal(outbox->sequence, false);
	values[SEG_SEQ - 1] = Int64GetDatum(seq);
	values[SEG_PUBLISHED_AT - 1] = TimestampTzGetDatum(now);
	values[SEG_EVENT_ID - 1] = UUIDPGetDatum(id);
	values[SEG_ENTITY - 1] = PointerGetDatum(args->entity);
	values[SEG_OP - 1] = PointerGetDatum(args->op);
	values[SEG_KEY - 1] = PointerGetDatum(args->key);
	nulls[SEG_KEY - 1] = (args->key == NULL);
	values[SEG_PAYLOAD - 1] = args->payload;
	values[SEG_HEADERS - 1] = args->headers;
	add_tick(seq, values, nulls);

	insert_row(rel, values, nulls);
	tide_wake_at_commit(outbox->wake_slot);
	table_close(rel, NoLock); /* the lock stays: no truncation before we end */
	return id;
}

static Datum
publish_returning_text(const PublishArgs *args)
{
	pg_uuid_t *id = publish(args);
	char buf[TIDE_UUID_TEXT + 1];

	tide_uuid_format(buf, id->data);
	PG_RETURN_TEXT_P(cstring_to_text(buf));
}

/* outbox_publish(outbox text, entity text, payload jsonb, headers jsonb, key text, op text) */
Datum
tide_sql_outbox_publish(PG_FUNCTION_ARGS)
{
	PublishArgs args;

	if (PG_ARGISNULL(0))
		reject_null("the outbox", "Give the name of the outbox as first argument.");
	if (PG_ARGISNULL(1))
		reject_null("the entity", "Name what the event is about, for example 'orders'.");
	if (PG_ARGISNULL(2))
		reject_null("the payload", "Publish 'null'::jsonb if the event has no content.");
	if (PG_ARGISNULL(3))
		reject_null("headers", "Leave them out, or give an empty object '{}'.");
	if (PG_ARGISNULL(5))
		reject_null("the op", "Leave it out for 'insert'.");

	args.outbox = PG_GETARG_TEXT_PP(0);
	args.entity = PG_GETARG_TEXT_PP(1);
	args.payload = PG_GETARG_DATUM(2);
	args.headers = PG_GETARG_DATUM(3);
	args.key = PG_ARGISNULL(4) ? NULL : PG_GETARG_TEXT_PP(4);
	args.op = PG_GETARG_TEXT_PP(5);
	return publish_returning_text(&args);
}

/*
 * The older form, outbox_publish(outbox text, payload jsonb, headers jsonb):
 * it names no entity, so the outbox's name stands in.
 */
Datum
tide_sql_outbox_publish_jsonb(PG_FUNCTION_ARGS)
{
	PublishArgs args;

	if (PG_ARGISNULL(0))
		reject_null("the outbox", "Give the name of the outbox as first argument.");
	if (PG_ARGISNULL(1))
		reject_null("the payload", "Publish 'null'::jsonb if the event has no content.");
	if (PG_ARGISNULL(2))
		reject_null("headers", "Leave them out, or give an empty object '{}'.");

	args.outbox = args.entity = PG_GETARG_TEXT_PP(0);
	args.payload = PG_GETARG_DATUM(1);
	args.headers = PG_GETARG_DATUM(2);
	args.key = NULL;
	args.op = cstring_to_text("insert");
	return publish_returning_text(&args);
}
