/*
 * claim.c
 *		Handing out events of an inbox to workers, and taking their reports.
 *
 * Owns: the order in which events may be worked on, leases, marks.  Does not
 * own: failures (tide._inbox_fail, 20_inbox.sql), handlers (handler.c).
 *
 * Order.  Events with equal (entity, key) are worked on in the order they
 * arrived; events without a key are independent.  A claim walks the pending
 * rows by seq and stops when it has enough.  An event that is leased, waits for
 * its next attempt, or is locked by somebody blocks its key: later events of the
 * key are passed over.  Events given up (dead) block nothing.
 *
 * Two claims at once.  Candidates are found with a snapshot, then locked with
 * SKIP LOCKED, which also looks at each row as it is now.  A row that can't be
 * locked or is no longer free blocks its key like any other, and candidates
 * are decided in order; so nobody gets an event before an earlier one of its
 * key is done with.
 *
 * Cost: rows walked are those handed out plus those passed over.  Blocked keys
 * are a hash table, so many of them make a walk longer, never quadratic.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "inbox.h"
#include "pg_tide.h"
#include "compat.h"

PG_FUNCTION_INFO_V1(tide_sql_inbox_claim);
PG_FUNCTION_INFO_V1(tide_sql_inbox_mark_processed);
PG_FUNCTION_INFO_V1(tide_sql_inbox_mark_many);
PG_FUNCTION_INFO_V1(tide_sql_inbox_mark_failed);
PG_FUNCTION_INFO_V1(tide_sql_inbox_release);

/* ---- blocked keys ---- */

typedef struct KeyEntry
{
	const char *data; /* these two are the hash key */
	int64 len;
	int64 from; /* the first event that blocks; earlier ones don't wait for it */
} KeyEntry;

static uint32
key_hash(const void *key, Size size)
{
	const KeyEntry *entry = key;

	return hash_bytes((const unsigned char *) entry->data, (int) entry->len);
}

static int
key_match(const void *a, const void *b, Size size)
{
	const KeyEntry *x = a;
	const KeyEntry *y = b;

	return x->len == y->len && memcmp(x->data, y->data, x->len) == 0 ? 0 : 1;
}

static HTAB *
key_table(MemoryContext context)
{
	HASHCTL ctl = {.keysize = offsetof(KeyEntry, from),
				   .entrysize = sizeof(KeyEntry),
				   .hash = key_hash,
				   .match = key_match,
				   .hcxt = context};

	return hash_create("pg_tide blocked keys", 64, &ctl,
					   HASH_ELEM | HASH_FUNCTION | HASH_COMPARE | HASH_CONTEXT);
}

bool
tide_key_blocked(const TideScan *scan, const TideCandidate *candidate)
{
	KeyEntry entry = {.data = candidate->key, .len = candidate->key_len};
	const KeyEntry *found = NULL;

	if (candidate->key != NULL)
		found = hash_search(scan->blocked, &entry, HASH_FIND, NULL);
	return found != NULL && found->from < candidate->place;
}

void
tide_key_block(TideScan *scan, const TideCandidate *candidate)
{
	KeyEntry entry = {.data = candidate->key, .len = candidate->key_len};
	KeyEntry *blocked;
	bool known;

	if (candidate->key == NULL)
		return;
	blocked = hash_search(scan->blocked, &entry, HASH_ENTER, &known);
	blocked->from = known ? Min(blocked->from, candidate->place) : candidate->place;
}

/* ---- the scan ---- */

void
tide_scan_begin(TideScan *scan, const TideInbox *inbox, MemoryContext context)
{
	memset(scan, 0, sizeof(*scan));
	scan->inbox = inbox;
	scan->context = context;
	scan->blocked = key_table(context);
	scan->portal = SPI_cursor_open(NULL, tide_inbox_plan(inbox, TIDE_PLAN_SCAN), NULL, NULL, false);
	initStringInfo(&scan->key);
}

void
tide_scan_end(TideScan *scan)
{
	SPI_freetuptable(scan->rows);
	SPI_cursor_close(scan->portal);
	pfree(scan->key.data);
	scan->rows = NULL;
	scan->portal = NULL;
}

static void
append_text(StringInfo buf, Datum value)
{
	text *t = DatumGetTextPP(value);

	appendBinaryStringInfo(buf, VARDATA_ANY(t), VARSIZE_ANY_EXHDR(t));
}

/*
 * Entity and key as one string; a NULL entity is unlike an empty one.  In the
 * scan's buffer: most rows that are walked over need no copy of their own.
 */
static void
read_key(TideScan *scan, HeapTuple row, TideCandidate *candidate)
{
	TupleDesc desc = scan->rows->tupdesc;
	bool no_entity;
	bool no_key;
	Datum entity = SPI_getbinval(row, desc, 2, &no_entity);
	Datum key = SPI_getbinval(row, desc, 3, &no_key);

	candidate->key = NULL;
	candidate->key_len = 0;
	if (no_key)
		return;
	resetStringInfo(&scan->key);
	appendStringInfoChar(&scan->key, no_entity ? 'n' : 'e');
	if (!no_entity)
		append_text(&scan->key, entity);
	appendStringInfoChar(&scan->key, '\0');
	append_text(&scan->key, key);
	candidate->key = scan->key.data;
	candidate->key_len = scan->key.len;
}

static void
keep_key(const TideScan *scan, TideCandidate *candidate)
{
	if (candidate->key != NULL)
		candidate->key = memcpy(MemoryContextAlloc(scan->context, candidate->key_len),
								candidate->key, candidate->key_len);
}

/* Looks at one row; true: *candidate is one, false: its key is blocked (now). */
static bool
read_candidate(TideScan *scan, HeapTuple row, TideCandidate *candidate)
{
	TupleDesc desc = scan->rows->tupdesc;
	MemoryContext previous;
	bool isnull;

	memset(candidate, 0, sizeof(*candidate));
	candidate->place = scan->places++;
	read_key(scan, row, candidate);
	if (tide_key_blocked(scan, candidate))
		return false;
	if (DatumGetBool(SPI_getbinval(row, desc, 4, &isnull)))
	{
		keep_key(scan, candidate);
		tide_key_block(scan, candidate);
		return false;
	}
	keep_key(scan, candidate);
	previous = MemoryContextSwitchTo(scan->context);
	candidate->event_id = PointerGetDatum(DatumGetTextPCopy(SPI_getbinval(row, desc, 1, &isnull)));
	candidate->attempts = DatumGetInt32(SPI_getbinval(row, desc, 5, &isnull));
	MemoryContextSwitchTo(previous);
	return true;
}

/* More rows with every fetch: the first ones are usually enough. */
static bool
fetch_rows(TideScan *scan, int wanted)
{
	if (scan->at_end)
		return false;
	CHECK_FOR_INTERRUPTS();
	scan->fetch_size = Min(Max(scan->fetch_size * 2, Max(wanted, 32)), TIDE_SCAN_ROUND);
	SPI_freetuptable(scan->rows);
	SPI_cursor_fetch(scan->portal, true, scan->fetch_size);
	scan->rows = SPI_tuptable;
	scan->n_rows = (int) SPI_processed;
	scan->next_row = 0;
	scan->at_end = scan->n_rows < scan->fetch_size;
	return scan->n_rows > 0;
}

int
tide_scan_next(TideScan *scan, TideCandidate *candidates, int max)
{
	int n = 0;

	while (n < max)
	{
		if (scan->next_row >= scan->n_rows && (n > 0 || !fetch_rows(scan, max)))
			break;
		if (read_candidate(scan, scan->rows->vals[scan->next_row++], &candidates[n]))
			n++;
	}
	return n;
}

bool
tide_scan_done(const TideScan *scan)
{
	return scan->at_end && scan->next_row >= scan->n_rows;
}

/* ---- claiming ---- */

static Datum
id_array(const TideCandidate *candidates, int n)
{
	Datum *ids = palloc(sizeof(Datum) * Max(n, 1));

	for (int i = 0; i < n; i++)
		ids[i] = candidates[i].event_id;
	return PointerGetDatum(construct_array(ids, n, TEXTOID, -1, false, TYPALIGN_INT));
}

static void
lock_candidates(TideScan *scan, TideCandidate *candidates, int n)
{
	Datum values[] = {id_array(candidates, n)};

	tide_spi_run(tide_inbox_plan(scan->inbox, TIDE_PLAN_LOCK), values, NULL);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool isnull;
		int which = DatumGetInt32(
			SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));

		candidates[which - 1].locked = true;
	}
	SPI_freetuptable(SPI_tuptable);
}

/*
 * Was it handed out as often as allowed without any report?  Whatever works on
 * it seems to die of it, so it goes to the dead letters like a failed one.
 */
static bool
give_up(const TideInbox *inbox, const TideCandidate *candidate)
{
	if (candidate->attempts < inbox->max_attempts)
		return false;
	tide_inbox_fail(inbox, candidate->event_id, "its lease ran out every time, without any report",
					"lease_expired", false, NULL);
	return true;
}

/* Finds and locks up to max events that may be worked on; returns how many. */
static int
take_events(const TideInbox *inbox, TideCandidate **result, int max)
{
	TideScan scan;
	TideCandidate *round = palloc(sizeof(TideCandidate) * TIDE_SCAN_ROUND);
	TideCandidate *taken = NULL;
	int size = Min(max, TIDE_SCAN_ROUND);
	int n_taken = 0;

	tide_scan_begin(&scan, inbox, CurrentMemoryContext);
	while (n_taken < max)
	{
		int n = tide_scan_next(&scan, round, size);

		if (n == 0)
			break;
		lock_candidates(&scan, round, n);
		taken = taken == NULL ? palloc(sizeof(TideCandidate) * n)
							  : repalloc(taken, sizeof(TideCandidate) * (n_taken + n));
		for (int i = 0; i < n && n_taken < max; i++)
		{
			if (tide_key_blocked(&scan, &round[i]))
				continue;
			if (!round[i].locked)
				tide_key_block(&scan, &round[i]);
			else if (!give_up(inbox, &round[i]))
				taken[n_taken++] = round[i];
		}
		/* the first round locks no more than was asked for; after that we are among others */
		size = Min(size * 2, TIDE_SCAN_ROUND);
	}
	tide_scan_end(&scan);
	*result = taken;
	return n_taken;
}

static void
lease_events(const TideInbox *inbox, const TideCandidate *taken, int n, Datum lease,
			 ReturnSetInfo *result)
{
	Datum values[] = {id_array(taken, n), lease};
	int n_columns = result->setDesc->natts;
	Datum *columns = palloc(sizeof(Datum) * n_columns);
	bool *nulls = palloc(sizeof(bool) * n_columns);

	tide_spi_run(tide_inbox_plan(inbox, TIDE_PLAN_LEASE), values, NULL);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		heap_deform_tuple(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, columns, nulls);
		tuplestore_putvalues(result->setResult, result->setDesc, columns, nulls);
	}
	SPI_freetuptable(SPI_tuptable);
}

static void
check_claim_arguments(FunctionCallInfo fcinfo)
{
	static const char *const names[] = {"inbox", "max_events", "lease"};
	Interval zero = {0};

	for (int i = 0; i < 3; i++)
	{
		if (PG_ARGISNULL(i))
			ereport(
				ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("%s must not be NULL", names[i]),
				 errhint(
					 "Call tide.inbox_claim('inbox', max_events => 100, lease => '30 seconds').")));
	}
	if (PG_GETARG_INT32(1) < 1)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("max_events must be at least 1, not %d", PG_GETARG_INT32(1)),
						errhint("Ask for as many events as you can work on within the lease.")));
	if (!DatumGetBool(
			DirectFunctionCall2(interval_gt, PG_GETARG_DATUM(2), IntervalPGetDatum(&zero))))
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("lease must be longer than nothing"),
			 errhint(
				 "Give the time in which the events will be worked on, such as '30 seconds'.")));
}

/* inbox_claim(inbox text, max_events int, lease interval) -> setof tide.inbox_event */
Datum
tide_sql_inbox_claim(PG_FUNCTION_ARGS)
{
	Oid caller = GetUserId();
	TideIdentity self;
	TideInbox *inbox;
	TideCandidate *taken;
	int n;

	check_claim_arguments(fcinfo);
	InitMaterializedSRF(fcinfo, 0);
	SPI_connect();
	tide_act_as_owner(fcinfo, &self);
	inbox = tide_inbox_open(PG_GETARG_TEXT_PP(0));
	tide_inbox_check_access(inbox, caller);

	n = take_events(inbox, &taken, PG_GETARG_INT32(1));
	if (n > 0)
		lease_events(inbox, taken, n, PG_GETARG_DATUM(2), (ReturnSetInfo *) fcinfo->resultinfo);

	tide_act_as_self(&self);
	SPI_finish();
	return (Datum) 0;
}

/* ---- reports ---- */

bool
tide_inbox_mark(const TideInbox *inbox, Datum event_id)
{
	Datum values[] = {event_id};
	bool isnull;
	bool was_dead;

	if (tide_spi_run(tide_inbox_plan(inbox, TIDE_PLAN_MARK), values, NULL) == 0)
		return false;
	was_dead = DatumGetBool(
		SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	SPI_freetuptable(SPI_tuptable);
	if (was_dead)
	{
		Oid types[] = {TEXTOID, TEXTOID};
		Datum args[] = {CStringGetTextDatum(inbox->name), event_id};

		SPI_execute_with_args("SELECT tide._dead_letter_settle($1, $2)", 2, types, args, NULL,
							  false, 0);
	}
	return true;
}

char
tide_inbox_fail(const TideInbox *inbox, Datum event_id, const char *error, const char *code,
				bool transient, const char *pipeline)
{
	Oid types[] = {TEXTOID, TEXTOID, TEXTOID, TEXTOID, BOOLOID, TEXTOID};
	Datum values[6] = {CStringGetTextDatum(inbox->name), event_id};
	char nulls[] = "      ";
	char *outcome;

	nulls[2] = error == NULL ? 'n' : ' ';
	nulls[3] = code == NULL ? 'n' : ' ';
	nulls[5] = pipeline == NULL ? 'n' : ' ';
	values[2] = error == NULL ? (Datum) 0 : CStringGetTextDatum(error);
	values[3] = code == NULL ? (Datum) 0 : CStringGetTextDatum(code);
	values[4] = BoolGetDatum(transient);
	values[5] = pipeline == NULL ? (Datum) 0 : CStringGetTextDatum(pipeline);
	if (SPI_execute_with_args("SELECT tide._inbox_fail($1, $2, $3, $4, $5, $6)", 6, types, values,
							  nulls, false, 0) != SPI_OK_SELECT ||
		SPI_processed != 1)
		elog(ERROR, "tide._inbox_fail returned nothing");
	outcome = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	SPI_freetuptable(SPI_tuptable);
	if (outcome == NULL)
		return 0;
	return strcmp(outcome, "done") == 0 ? 'n' : outcome[0];
}

/* An event whose row is gone but whose id is known has been dealt with; any other is a mistake. */
static void
check_known(const TideInbox *inbox, Datum event_id)
{
	Oid types[] = {TEXTOID, TEXTARRAYOID};
	TideCandidate one = {.event_id = event_id};
	Datum values[] = {CStringGetTextDatum(inbox->name), id_array(&one, 1)};

	if (SPI_execute_with_args("SELECT 1 WHERE cardinality(tide.inbox_missing($1, $2)) = 0", 2,
							  types, values, NULL, false, 0) == SPI_OK_SELECT &&
		SPI_processed == 1)
		return;
	ereport(ERROR, (errcode(ERRCODE_NO_DATA_FOUND),
					errmsg("event \"%s\" is not in inbox \"%s\"", TextDatumGetCString(event_id),
						   inbox->name),
					errhint("Pass an event_id that tide.inbox_claim() returned for this inbox.")));
}

static void
check_id_given(bool isnull)
{
	if (isnull)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("the event's id must not be NULL"),
				 errhint("Pass an event_id that tide.inbox_claim() returned for this inbox.")));
}

typedef bool (*ReportFunc)(const TideInbox *inbox, Datum event_id, FunctionCallInfo fcinfo);

/* What all reports have in common: arguments, rights, identity, unknown events. */
static Datum
report(FunctionCallInfo fcinfo, ReportFunc func)
{
	Oid caller = GetUserId();
	TideIdentity self;
	TideInbox *inbox;
	bool result;

	SPI_connect();
	tide_act_as_owner(fcinfo, &self);
	inbox = tide_inbox_open(PG_ARGISNULL(0) ? NULL : PG_GETARG_TEXT_PP(0));
	tide_inbox_check_access(inbox, caller);
	check_id_given(PG_ARGISNULL(1));
	result = func(inbox, PG_GETARG_DATUM(1), fcinfo);
	if (!result)
		check_known(inbox, PG_GETARG_DATUM(1));
	tide_act_as_self(&self);
	SPI_finish();
	PG_RETURN_BOOL(result);
}

static bool
report_processed(const TideInbox *inbox, Datum event_id, FunctionCallInfo fcinfo)
{
	return tide_inbox_mark(inbox, event_id);
}

static bool
report_failed(const TideInbox *inbox, Datum event_id, FunctionCallInfo fcinfo)
{
	char *error = PG_ARGISNULL(2) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(2));
	char outcome = tide_inbox_fail(inbox, event_id, error, NULL, false, NULL);

	return outcome == 'r' || outcome == 'd';
}

static bool
report_released(const TideInbox *inbox, Datum event_id, FunctionCallInfo fcinfo)
{
	Datum values[] = {event_id};

	if (tide_spi_run(tide_inbox_plan(inbox, TIDE_PLAN_RELEASE), values, NULL) == 0)
		return false;
	tide_wake_at_commit(tide_wake_slot("inbox", inbox->name, strlen(inbox->name)));
	return true;
}

Datum
tide_sql_inbox_mark_processed(PG_FUNCTION_ARGS)
{
	return report(fcinfo, report_processed);
}

/* inbox_mark_processed(inbox text, event_ids text[]) -> how many were not processed before */
Datum
tide_sql_inbox_mark_many(PG_FUNCTION_ARGS)
{
	Oid caller = GetUserId();
	TideIdentity self;
	TideInbox *inbox;
	Datum *ids = NULL;
	bool *nulls = NULL;
	int n = 0;
	int marked = 0;

	SPI_connect();
	tide_act_as_owner(fcinfo, &self);
	inbox = tide_inbox_open(PG_ARGISNULL(0) ? NULL : PG_GETARG_TEXT_PP(0));
	tide_inbox_check_access(inbox, caller);
	if (!PG_ARGISNULL(1))
		deconstruct_array(PG_GETARG_ARRAYTYPE_P(1), TEXTOID, -1, false, TYPALIGN_INT, &ids, &nulls,
						  &n);
	for (int i = 0; i < n; i++)
	{
		check_id_given(nulls[i]);
		if (tide_inbox_mark(inbox, ids[i]))
			marked++;
		else
			check_known(inbox, ids[i]);
	}
	tide_act_as_self(&self);
	SPI_finish();
	PG_RETURN_INT32(marked);
}

Datum
tide_sql_inbox_mark_failed(PG_FUNCTION_ARGS)
{
	return report(fcinfo, report_failed);
}

Datum
tide_sql_inbox_release(PG_FUNCTION_ARGS)
{
	return report(fcinfo, report_released);
}
