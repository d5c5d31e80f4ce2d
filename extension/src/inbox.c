/*
 * inbox.c
 *		Inboxes as the C code sees them: looking up, rights, saved plans.
 *
 * Owns: TideInbox, the statements that work on an inbox's rows, acting as the
 * extension's owner, and taking a batch apart.  Does not own: what is done with
 * events (claim.c, handler.c) or storing them (extension/sql/20_inbox.sql).
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "parser/scansup.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "inbox.h"
#include "pg_tide.h"
#include "compat.h"

PG_FUNCTION_INFO_V1(tide_sql_inbox_batch);

/*
 * Operators need no schema here: every statement is analysed and run with
 * search_path pg_catalog (tide_act_as_owner, or the SQL function's SET).
 * Times are clock_timestamp(): a lease must be able to end inside a long
 * transaction.
 */
#define CONTENT_COLUMNS                                                                    \
	"i.event_id, i.seq, i.origin, i.outbox, i.entity, i.op, i.key, i.payload, i.headers, " \
	"i.published_at, i.committed_at, i.received_at"
#define PENDING "i.processed_at IS NULL AND i.dead_at IS NULL"

/*
 * The same, in words that do not match the predicate of the index of pending
 * rows: a row looked up by id must be found by the primary key.
 */
#define STILL_PENDING "coalesce(i.processed_at, i.dead_at) IS NULL"
#define FREE                                                                           \
	STILL_PENDING " AND (i.lease_until IS NULL OR i.lease_until <= clock_timestamp())" \
				  " AND (i.next_attempt_at IS NULL OR i.next_attempt_at <= clock_timestamp())"

typedef struct PlanText
{
	const char *sql; /* %s: the inbox's relation */
	int n_args;
	Oid args[2];
} PlanText;

static const PlanText plan_texts[TIDE_N_PLANS] = {
	[TIDE_PLAN_SCAN] = {"SELECT i.event_id, i.entity, i.key, NOT (" FREE "), i.attempts"
						" FROM tide.%s i WHERE " PENDING " ORDER BY i.seq"},
	/* the row is looked at again as it is after waiting writers: what changed meanwhile falls out */
	[TIDE_PLAN_LOCK] = {"SELECT u.n::int FROM unnest($1) WITH ORDINALITY u (id, n), LATERAL"
						" (SELECT 1 FROM tide.%s i WHERE i.event_id = u.id AND " FREE
						" FOR NO KEY UPDATE SKIP LOCKED) locked",
						1,
						{TEXTARRAYOID}},
	[TIDE_PLAN_LEASE] =
		{"WITH taken AS (UPDATE tide.%s i SET lease_until = clock_timestamp() + $2,"
		 " next_attempt_at = NULL, attempts = i.attempts + 1 WHERE i.event_id = ANY ($1)"
		 " RETURNING " CONTENT_COLUMNS
		 ", i.processed_at, i.attempts, i.last_error, i.lease_until) SELECT * FROM taken ORDER BY seq",
		 2,
		 {TEXTARRAYOID, INTERVALOID}},
	/* an attempt that began with a lease was counted then */
	[TIDE_PLAN_MARK] =
		{"UPDATE tide.%s i SET processed_at = clock_timestamp(), next_attempt_at = NULL,"
		 " attempts = i.attempts + (i.lease_until IS NULL)::int, lease_until = NULL"
		 " WHERE i.event_id = $1 AND i.processed_at IS NULL RETURNING i.dead_at IS NOT NULL",
		 1,
		 {TEXTOID}},
	[TIDE_PLAN_RELEASE] =
		{"UPDATE tide.%s i SET lease_until = NULL, attempts = greatest(i.attempts - 1, 0)"
		 " WHERE i.event_id = $1 AND i.lease_until IS NOT NULL AND " STILL_PENDING,
		 1,
		 {TEXTOID}},
	/* columns in the order of handler.c's table of fields, then the two composite forms */
	[TIDE_PLAN_TAKE] = {"SELECT " CONTENT_COLUMNS ", i.attempts + 1, i,"
						" ROW(" CONTENT_COLUMNS
						", NULL, i.attempts + 1, i.last_error, NULL)::tide.inbox_event"
						" FROM tide.%s i WHERE i.event_id = $1 AND " FREE
						" FOR NO KEY UPDATE SKIP LOCKED",
						1,
						{TEXTOID}},
};

typedef struct PlanSet
{
	char relname[NAMEDATALEN]; /* hash key */
	SPIPlanPtr plans[TIDE_N_PLANS];
} PlanSet;

static HTAB *plan_sets = NULL;

/*
 * Rows are found by primary key or by walking the index of pending rows in
 * order, stopping early.  No statistics may talk the planner out of that: a
 * full queue with stale statistics is exactly when it matters.  What is switched
 * off costs a fortune on paper, for which the server would compile the statement.
 */
static const char *const planner_settings[] = {"enable_seqscan", "enable_bitmapscan", "enable_sort",
											   "jit"};

static void
set_option(const char *name, const char *value)
{
	(void) set_config_option(name, value, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0,
							 false);
}

void
tide_act_as(Oid role, const char *search_path, TideIdentity *saved)
{
	GetUserIdAndSecContext(&saved->user, &saved->sec_context);
	saved->guc_level = NewGUCNestLevel();
	SetUserIdAndSecContext(role, saved->sec_context | SECURITY_LOCAL_USERID_CHANGE);
	set_option("search_path", search_path);
}

void
tide_act_as_owner(FunctionCallInfo fcinfo, TideIdentity *saved)
{
	HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(fcinfo->flinfo->fn_oid));
	Oid owner;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for function %u", fcinfo->flinfo->fn_oid);
	owner = ((Form_pg_proc) GETSTRUCT(tuple))->proowner;
	ReleaseSysCache(tuple);

	tide_act_as(owner, "pg_catalog, pg_temp", saved);
	for (int i = 0; i < (int) lengthof(planner_settings); i++)
		set_option(planner_settings[i], "off");
}

void
tide_act_as_self(const TideIdentity *saved)
{
	AtEOXact_GUC(false, saved->guc_level);
	SetUserIdAndSecContext(saved->user, saved->sec_context);
}

uint64
tide_spi_run(SPIPlanPtr plan, Datum *values, const char *nulls)
{
	int rc = SPI_execute_plan(plan, values, nulls, false, 0);

	if (rc < 0)
		elog(ERROR, "SPI_execute_plan failed: %s", SPI_result_code_string(rc));
	return SPI_processed;
}

SPIPlanPtr
tide_spi_prepare(const char *sql, int n_args, const Oid *args)
{
	SPIPlanPtr plan = SPI_prepare(sql, n_args, (Oid *) args);

	if (plan == NULL || SPI_keepplan(plan) != 0)
		elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
	return plan;
}

#define INBOX_COLUMNS "b.id, b.max_attempts, b.handler, b.handler_role::oid, b.handler_path"

/* tide._inbox() raises the error if there is no such inbox. */
static HeapTuple
lookup_row(text *name, TupleDesc *desc)
{
	static SPIPlanPtr plan = NULL;
	static const Oid args[] = {TEXTOID};
	Datum values[] = {PointerGetDatum(name)};
	const char *nulls = name == NULL ? "n" : NULL;

	if (plan == NULL)
		plan = tide_spi_prepare("SELECT " INBOX_COLUMNS " FROM tide.inbox b WHERE b.name = $1", 1,
								args);
	if (tide_spi_run(plan, values, nulls) != 1 &&
		(SPI_execute_with_args("SELECT " INBOX_COLUMNS " FROM tide._inbox($1) b", 1, (Oid *) args,
							   values, nulls, false, 1) != SPI_OK_SELECT ||
		 SPI_processed != 1))
		elog(ERROR, "inbox lookup returned no row");
	*desc = SPI_tuptable->tupdesc;
	return SPI_tuptable->vals[0];
}

TideInbox *
tide_inbox_open(text *name)
{
	TupleDesc desc;
	HeapTuple row = lookup_row(name, &desc);
	TideInbox *inbox = palloc0(sizeof(TideInbox));
	char *relname;
	bool isnull;

	inbox->name = text_to_cstring(name);
	inbox->id = DatumGetInt32(SPI_getbinval(row, desc, 1, &isnull));
	inbox->max_attempts = DatumGetInt32(SPI_getbinval(row, desc, 2, &isnull));
	inbox->handler = SPI_getvalue(row, desc, 3);
	inbox->handler_role = DatumGetObjectId(SPI_getbinval(row, desc, 4, &isnull));
	if (isnull)
		inbox->handler_role = InvalidOid;
	inbox->handler_path = SPI_getvalue(row, desc, 5);
	SPI_freetuptable(SPI_tuptable);

	relname = psprintf("%s_inbox", inbox->name);
	truncate_identifier(relname, strlen(relname), false);
	snprintf(inbox->relname, NAMEDATALEN, "%s", relname);
	inbox->relation = pstrdup(quote_identifier(inbox->relname));
	inbox->relid = get_relname_relid(inbox->relname, get_namespace_oid(TIDE_SCHEMA, false));
	if (!OidIsValid(inbox->relid))
		ereport(
			ERROR,
			(errcode(ERRCODE_UNDEFINED_TABLE),
			 errmsg("inbox \"%s\" has lost its table tide.%s", inbox->name, inbox->relation),
			 errhint(
				 "Somebody dropped it. Drop the inbox with tide.inbox_drop() and create it again.")));
	return inbox;
}

static bool
is_member(Oid role, const char *group)
{
	Oid group_oid = get_role_oid(group, true);

	return OidIsValid(group_oid) && has_privs_of_role(role, group_oid);
}

void
tide_inbox_check_access(const TideInbox *inbox, Oid role)
{
	if (pg_class_aclcheck(inbox->relid, role, ACL_UPDATE) == ACLCHECK_OK ||
		is_member(role, "tide_admin") || is_member(role, "tide_relay"))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("permission denied for inbox \"%s\"", inbox->name),
			 errhint("An administrator can allow it with SELECT tide.inbox_grant('%s', '%s').",
					 inbox->name, GetUserNameFromId(role, false))));
}

static PlanSet *
plan_set(const char *relname)
{
	PlanSet *set;
	bool found;

	if (plan_sets == NULL)
	{
		HASHCTL ctl = {.keysize = NAMEDATALEN, .entrysize = sizeof(PlanSet)};

		plan_sets = hash_create("pg_tide inbox plans", 16, &ctl, HASH_ELEM | HASH_STRINGS);
	}
	set = hash_search(plan_sets, relname, HASH_ENTER, &found);
	if (!found)
		memset(set->plans, 0, sizeof(set->plans));
	return set;
}

/*
 * Plans name the relation, so one outlives dropping the inbox and creating it
 * again: the server analyses it anew when the relation has changed.
 */
SPIPlanPtr
tide_inbox_plan(const TideInbox *inbox, TideInboxPlan which)
{
	PlanSet *set = plan_set(inbox->relname);

	if (set->plans[which] == NULL)
	{
		const PlanText *text = &plan_texts[which];
		StringInfoData sql;
		const char *hole = strstr(text->sql, "%s");

		initStringInfo(&sql);
		appendBinaryStringInfo(&sql, text->sql, hole - text->sql);
		appendStringInfoString(&sql, inbox->relation);
		appendStringInfoString(&sql, hole + 2);
		set->plans[which] = tide_spi_prepare(sql.data, text->n_args, text->args);
		pfree(sql.data);
	}
	return set->plans[which];
}

/* ---- batches that arrive ---- */

/* What inbox_receive() is given: one array per column, one element per event. */
enum
{
	ARG_HERE, /* this region's name: its own events are echoes */
	ARG_IDS,
	ARG_ORIGINS,
	ARG_OUTBOXES,
	ARG_ENTITIES,
	ARG_OPS,
	ARG_KEYS,
	ARG_PAYLOADS,
	ARG_HEADERS,
	ARG_PUBLISHED,
	ARG_COMMITTED,
	ARG_END
};

typedef struct Column
{
	Datum *values;
	bool *nulls;
	int n;
} Column;

/* What can't be a timestamp (0: unknown) must not fail a whole batch: it is NULL. */
static Datum
timestamp_from_us(Datum us, bool *isnull)
{
	const int64 shift = (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY;
	int64 value = *isnull ? 0 : DatumGetInt64(us);

	*isnull = value == 0 || value < PG_INT64_MIN + shift || !IS_VALID_TIMESTAMP(value - shift);
	return *isnull ? (Datum) 0 : TimestampTzGetDatum(value - shift);
}

static bool
bytes_equal(const text *a, const text *b)
{
	return VARSIZE_ANY_EXHDR(a) == VARSIZE_ANY_EXHDR(b) &&
		   memcmp(VARDATA_ANY(a), VARDATA_ANY(b), VARSIZE_ANY_EXHDR(a)) == 0;
}

static void
read_columns(FunctionCallInfo fcinfo, Column *columns)
{
	for (int i = ARG_IDS; i < ARG_END; i++)
	{
		ArrayType *array;
		Oid type;
		int16 len;
		bool byval;
		char align;

		if (!PG_ARGISNULL(i))
		{
			array = PG_GETARG_ARRAYTYPE_P(i);
			type = ARR_ELEMTYPE(array);
			get_typlenbyvalalign(type, &len, &byval, &align);
			deconstruct_array(array, type, len, byval, align, &columns[i].values, &columns[i].nulls,
							  &columns[i].n);
		}
		if (PG_ARGISNULL(i) || columns[i].n != columns[ARG_IDS].n)
			ereport(
				ERROR,
				(errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR),
				 errmsg("the arrays given to tide.inbox_receive() have different lengths"),
				 errdetail("There are %d ids; array number %d has %d elements.", columns[ARG_IDS].n,
						   i, columns[i].n),
				 errhint(
					 "Each event needs one element in every array; use NULL elements for absent "
					 "values.")));
	}
}

/*
 * _inbox_batch(here text, ids text[], origins text[], ...) -> one row per event, without echoes.
 *
 * unnest() of ten arrays would do, but spools each of them on its own, and took
 * a third of the whole time.
 */
Datum
tide_sql_inbox_batch(PG_FUNCTION_ARGS)
{
	Column columns[ARG_END] = {{0}};
	text *here = PG_GETARG_TEXT_PP(ARG_HERE);
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;

	InitMaterializedSRF(fcinfo, 0);
	read_columns(fcinfo, columns);
	for (int n = 0; n < columns[ARG_IDS].n; n++)
	{
		Datum values[ARG_END - ARG_IDS];
		bool nulls[ARG_END - ARG_IDS];

		if (columns[ARG_IDS].nulls[n])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("event number %d of the batch has no id", n + 1),
					 errhint("Give a foreign message an id of its own before it is stored.")));
		if (!columns[ARG_ORIGINS].nulls[n] &&
			bytes_equal(here, DatumGetTextPP(columns[ARG_ORIGINS].values[n])))
			continue;
		for (int i = ARG_IDS; i < ARG_END; i++)
		{
			values[i - ARG_IDS] = columns[i].values[n];
			nulls[i - ARG_IDS] = columns[i].nulls[n];
		}
		for (int i = ARG_PUBLISHED - ARG_IDS; i < ARG_END - ARG_IDS; i++)
			values[i] = timestamp_from_us(values[i], &nulls[i]);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}
