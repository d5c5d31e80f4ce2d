/*
 * apply.c
 *		tide.apply: one frame of another region's rows.
 *
 * Owns: taking a frame apart, source transactions (whole ones, or one in several frames),
 * what is skipped because it is here already, the result.  Does not own: what
 * a change does (apply_row.c), the other parts listed in apply.h.
 *
 * A frame is applied in one transaction of this database, together with the
 * link's progress row; so whatever comes again is skipped by position.  A source
 * transaction that is larger than a frame comes in several calls inside one
 * database transaction, which the relay opens; what joins them is remembered by
 * apply_session.c, and its commit is refused before the last one.
 *
 * session_replication_role is 'replica' during the call: only triggers that are meant to
 * fire then do, and foreign keys were checked at the origin.  The variable is set,
 * not the setting: that would throw away every plan of the session, twice a
 * call.  (Plans depend on it only through rewrite rules other than views.)
 *
 * Rights are those of the caller; work is done as the table's owner, in a
 * security-restricted operation, since its triggers, defaults, domains and index
 * expressions are the owner's code.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/pg_lsn.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "apply.h"
#include "inbox.h"
#include "pg_tide.h"
#include "compat.h"

PG_FUNCTION_INFO_V1(tide_sql_apply);
PG_FUNCTION_INFO_V1(tide_sql_apply_flushed);

static bool applying = false; /* a trigger must not call tide.apply again */

/* ---- messages ---- */

void
tide_apply_malformed(const char *what)
{
	ereport(ERROR, (errcode(ERRCODE_TIDE_DAMAGED_FRAME), errmsg("damaged frame: %s", what)));
}

static void
add_context(void *arg)
{
	TideApply *apply = arg;
	const TideFrameRelation *relation = apply->last;
	const TideTarget *target = relation == NULL ? NULL : relation->target;

	if (apply->operation == NULL || relation == NULL)
		return;
	if (target != NULL && target->working_column > 0)
		errcontext(
			"column \"%s\"",
			NameStr(TupleDescAttr(target->rel->rd_att, target->working_column - 1)->attname));
	errcontext("%s of table \"%.*s.%.*s\" from region \"%s\", committed at %X/%X", apply->operation,
			   (int) relation->schema.len, relation->schema.data, (int) relation->name.len,
			   relation->name.data, apply->link->region, LSN_FORMAT_ARGS(apply->commit_lsn));
}

/* ---- identity ---- */

void
tide_apply_act_as(TideApply *apply, Oid role)
{
	if (apply->acting == role)
		return;
	apply->acting = role;
	if (!OidIsValid(role))
		SetUserIdAndSecContext(apply->caller, apply->sec_context);
	else
		SetUserIdAndSecContext(role, apply->sec_context | SECURITY_RESTRICTED_OPERATION |
										 SECURITY_LOCAL_USERID_CHANGE);
}

/* ---- frames ---- */

void
tide_apply_read_frame(TideApply *apply, bytea *data, TideFrameHeader *header, TideCursor *records)
{
	const uint8_t *body;
	uint8_t *raw;
	const char *wrong;

	data = tide_large_value(data);
	wrong = tide_frame_open(VARDATA_ANY(data), VARSIZE_ANY_EXHDR(data), header, &body);
	if (wrong != NULL)
		tide_apply_malformed(wrong);
	if ((header->flags & TIDE_FRAME_ZSTD) == 0)
	{
		tide_cursor_init(records, body, header->raw_len);
		return;
	}
	raw = MemoryContextAllocHuge(apply->context, header->raw_len + 1);
	wrong = tide_frame_unpack(header, body, raw);
	if (wrong != NULL)
		tide_apply_malformed(wrong);
	tide_cursor_init(records, raw, header->raw_len);
}

void
tide_apply_check_region(const TideApply *apply, const TideFrameHeader *header)
{
	if (header->origin_len != strlen(apply->link->region) ||
		memcmp(header->origin, apply->link->region, header->origin_len) != 0)
		ereport(ERROR, (errcode(ERRCODE_TIDE_OTHER_ORIGIN),
						errmsg("the frame is of region \"%.*s\", the link's is \"%s\"",
							   (int) header->origin_len, header->origin, apply->link->region)));
}

/* Is it from where the link's rows come from, and does it follow what is here? */
static void
check_frame(TideApply *apply, TideApplyFrame *frame)
{
	const TideFrameHeader *header = &frame->header;
	const TideProgress *progress = &frame->progress;

	tide_apply_check_region(apply, header);
	if (header->system_id != progress->system_id || header->timeline != progress->timeline)
		ereport(
			ERROR,
			(errcode(ERRCODE_TIDE_OTHER_ORIGIN),
			 errmsg("the frame is of another server, or of another history of it"),
			 errdetail("The frame's system identifier is " UINT64_FORMAT
					   ", timeline %u; until now it was " UINT64_FORMAT ", timeline %u.",
					   header->system_id, header->timeline, progress->system_id,
					   progress->timeline),
			 errhint("Region \"%s\" was restored or replaced. SELECT tide.link_resync(%s) copies "
					 "its rows again.",
					 apply->link->region, quote_literal_cstr(apply->link->region))));
	if (header->start > progress->position)
		ereport(ERROR,
				(errcode(ERRCODE_TIDE_GAP),
				 errmsg("the frame begins at %X/%X, but everything is here only up to %X/%X",
						LSN_FORMAT_ARGS(header->start), LSN_FORMAT_ARGS(progress->position))));
}

/* Does the frame go on where the call before in this transaction ended? */
static void
check_continuity(const TideApplyFrame *frame)
{
	bool continues = (frame->header.flags & TIDE_FRAME_CONTINUES) != 0;

	if (continues != frame->transaction->open)
		ereport(ERROR, (errcode(ERRCODE_TIDE_GAP),
						errmsg(continues ? "the frame goes on with a transaction whose beginning "
										   "did not come in this one"
										 : "the frame does not go on with the open transaction"),
						errhint("Begin again at the position of the link.")));
	if ((frame->header.flags & TIDE_FRAME_OPEN) != 0 && !IsTransactionBlock())
		ereport(ERROR, (errcode(ERRCODE_NO_ACTIVE_SQL_TRANSACTION),
						errmsg("a frame with a part of a transaction must be applied in a "
							   "transaction block")));
}

static void
check_end(const TideApplyFrame *frame)
{
	bool open = (frame->header.flags & TIDE_FRAME_OPEN) != 0;

	/* One that is open without a change yet is nothing to continue. */
	if (open != frame->transaction->open && !(open && frame->records.at == frame->records.end))
		tide_apply_malformed(open ? "it says that it is open and is not"
								  : "it ends inside a transaction");
}

/* Once a second, so it need not be quick. */
static void
note_lag(const TideApplyLink *link, TimestampTz heartbeat_at)
{
	Oid types[] = {INT4OID, INTERVALOID};
	Interval late = {.time = Max(GetCurrentTimestamp() - heartbeat_at, 0)};
	Datum values[] = {Int32GetDatum(link->id), IntervalPGetDatum(&late)};
	TideIdentity self;

	tide_act_as(tide_catalog_owner(), "pg_catalog, pg_temp", &self);
	SPI_connect();
	(void) SPI_execute_with_args("SELECT tide._lag_note($1, $2)", lengthof(types), types, values,
								 NULL, false, 1);
	SPI_finish();
	tide_act_as_self(&self);
}

static void
save_progress(TideApply *apply, TideApplyFrame *frame)
{
	TideProgressStep *step = &frame->step;

	step->position = Max(frame->progress.position,
						 frame->stopped ? step->commit_end : frame->header.end);
	step->source_end = frame->header.wal_end;
	step->transactions = apply->counts.transactions;
	step->changes = frame->transaction->changes + apply->counts.changes;
	if ((frame->header.flags & TIDE_FRAME_OPEN) != 0)
	{
		frame->transaction->changes = step->changes;
		tide_session_left_open();
		return;
	}
	frame->transaction->changes = 0;
	/* Somebody waits for the answer: to the disk with it, and not when the WAL writer comes by. */
	if ((frame->header.flags & TIDE_FRAME_SYNC) != 0)
		ForceSyncCommit();
	if (step->position == frame->progress.position && step->transactions == 0)
		return; /* nothing that was not known */
	tide_progress_write(&frame->progress, step);
	tide_session_reached(apply->link, step->position);
	if (step->heartbeat_at != 0)
		note_lag(apply->link, step->heartbeat_at);
}

/* ---- a call ---- */

static void
check_call(FunctionCallInfo fcinfo)
{
	for (int i = 0; i < PG_NARGS(); i++)
	{
		if (PG_ARGISNULL(i))
			ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
							errmsg("argument %d must not be null", i + 1),
							errhint("Pass a value for each argument.")));
	}
	if (IsolationUsesXactSnapshot())
		ereport(ERROR, (errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
						errmsg("rows must be applied in READ COMMITTED"),
						errhint("Applying has to see what others commit while it runs.")));
	if (applying)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_IN_USE),
						errmsg("rows cannot be applied while rows are being applied")));
}

void
tide_apply_begin(TideApply *apply, FunctionCallInfo fcinfo)
{
	check_call(fcinfo);
	memset(apply, 0, sizeof(*apply));
	GetUserIdAndSecContext(&apply->caller, &apply->sec_context);
	apply->rights_of = apply->caller;
	apply->latest_clock = GetCurrentTimestamp() + TIDE_EPOCH_OFFSET_US +
						  TIDE_MAX_AHEAD_S * USECS_PER_SEC;
	apply->context = AllocSetContextCreate(CurrentMemoryContext, "pg_tide apply",
										   ALLOCSET_DEFAULT_SIZES);
	apply->target_context = apply->context;
	apply->row_context = AllocSetContextCreate(apply->context, "pg_tide row",
											   ALLOCSET_DEFAULT_SIZES);
}

/* The session's settings that code of table owners may see, or change. */
static void
fix_settings(void)
{
	/* The relay sets both when it connects, so this costs nothing then. */
	if (pg_get_client_encoding() != PG_UTF8)
		(void) set_config_option("client_encoding", "UTF8", PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
	if (strcmp(namespace_search_path, "pg_catalog, pg_temp") != 0)
		(void) set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
}

/*
 * A type's function that finds a value too short speaks of the protocol, which a
 * client would take for trouble with the connection.
 */
static void
rethrow(void)
{
	ErrorData *error;

	if (geterrcode() != ERRCODE_PROTOCOL_VIOLATION)
		PG_RE_THROW();
	MemoryContextSwitchTo(TopTransactionContext);
	error = CopyErrorData();
	FlushErrorState();
	error->sqlerrcode = ERRCODE_INVALID_BINARY_REPRESENTATION;
	ReThrowError(error);
}

void
tide_apply_run(TideApply *apply, void (*work)(TideApply *apply, void *arg), void *arg)
{
	int saved_role = SessionReplicationRole;
	int guc_level = NewGUCNestLevel();
	ErrorContextCallback context = {
		.callback = add_context, .arg = apply, .previous = error_context_stack};

	fix_settings();
	error_context_stack = &context;
	applying = true;
	SessionReplicationRole = SESSION_REPLICATION_ROLE_REPLICA;
	PG_TRY();
	{
		work(apply, arg);
		tide_targets_close(apply);
	}
	PG_CATCH();
	{
		SessionReplicationRole = saved_role;
		applying = false;
		rethrow();
	}
	PG_END_TRY();
	SessionReplicationRole = saved_role;
	applying = false;
	error_context_stack = context.previous;
	tide_apply_act_as(apply, InvalidOid);
	AtEOXact_GUC(false, guc_level);
	if (apply->max_clock > 0)
		tide_stamp_seen(apply->max_clock);
}

static void
apply_frame(TideApply *apply, void *arg)
{
	TideApplyFrame *frame = arg;

	tide_apply_records(apply, frame);
	check_end(frame);
}

static Datum
make_result(FunctionCallInfo fcinfo, const TideApply *apply, const TideApplyFrame *frame)
{
	TupleDesc desc;
	XLogRecPtr flushed = tide_session_flushed(apply->link, &frame->progress);
	const TideCounts *counts = &apply->counts;
	Datum values[] = {LSNGetDatum(frame->step.position),   LSNGetDatum(flushed),
					  Int64GetDatum(counts->transactions), Int64GetDatum(counts->changes),
					  Int64GetDatum(counts->kept),		   Int64GetDatum(counts->skipped),
					  Int64GetDatum(counts->parked)};
	bool nulls[lengthof(values)] = {false};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

/* apply(pipeline text, epoch bigint, frame bytea, careful boolean): see ARCHITECTURE.md */
Datum
tide_sql_apply(PG_FUNCTION_ARGS)
{
	TideApply apply;
	TideApplyFrame frame = {.transaction = tide_session_transaction()};

	tide_apply_begin(&apply, fcinfo);
	apply.link = tide_link_own(PG_GETARG_TEXT_PP(0), PG_GETARG_INT64(1));
	apply.here = tide_stamp_region();
	apply.careful = PG_GETARG_BOOL(3);
	apply.hopeful = !apply.careful;
	tide_progress_read(apply.link, &frame.progress);
	tide_apply_read_frame(&apply, PG_GETARG_BYTEA_PP(2), &frame.header, &frame.records);
	check_frame(&apply, &frame);
	check_continuity(&frame);
	tide_session_begin(apply.link);
	tide_parked_load(&apply);
	tide_apply_run(&apply, apply_frame, &frame);
	save_progress(&apply, &frame);
	MemoryContextDelete(apply.context);
	tide_large_forget();
	return make_result(fcinfo, &apply, &frame);
}

/* apply_flushed(pipeline text, epoch bigint) */
Datum
tide_sql_apply_flushed(PG_FUNCTION_ARGS)
{
	const TideApplyLink *link;
	TideProgress progress;

	check_call(fcinfo);
	link = tide_link_own(PG_GETARG_TEXT_PP(0), PG_GETARG_INT64(1));
	tide_progress_read(link, &progress);
	PG_RETURN_LSN(tide_session_flushed(link, &progress));
}
