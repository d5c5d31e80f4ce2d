/*
 * inbox.c
 *		Inboxes as the C code sees them: looking up, rights, saved plans.
 *
 * Owns: TideInbox, the statements that work on an inbox's rows, and acting as
 * the extension's owner.  Does not own: what is done with them (claim.c,
 * handler.c) or storing events (extension/sql/20_inbox.sql).
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "parser/scansup.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "inbox.h"
#include "pg_tide.h"
#include "compat.h"

PG_FUNCTION_INFO_V1(tide_sql_from_us);

/*
 * Operators need no schema here: every statement is analysed and run with
 * search_path pg_catalog (tide_act_as_owner, or the SQL function's SET).
 * Times are clock_timestamp(): a lease must be able to end inside a long
 * transaction.
 */
#define EVENT_COLUMNS \
	"i.event_id, i.seq, i.origin, i.outbox, i.entity, i.op, i.key, i.payload, i.headers, " \
	"i.published_at, i.committed_at, i.received_at, i.attempts, i.last_error, i.lease_until"
#define PENDING "i.processed_at IS NULL AND i.dead_at IS NULL"
#define FREE \
	PENDING " AND (i.lease_until IS NULL OR i.lease_until <= clock_timestamp())" \
	" AND (i.next_attempt_at IS NULL OR i.next_attempt_at <= clock_timestamp())"

typedef struct PlanText
{
	const char *sql;			/* %s: the inbox's relation */
	int			n_args;
	Oid			args[2];
} PlanText;

static const PlanText plan_texts[TIDE_N_PLANS] = {
	[TIDE_PLAN_SCAN] = {"SELECT i.event_id, i.entity, i.key, NOT (" FREE "), i.attempts"
						" FROM tide.%s i WHERE " PENDING " ORDER BY i.seq"},
	/* the row is looked at again as it is after waiting writers: what changed meanwhile falls out */
	[TIDE_PLAN_LOCK] = {"SELECT u.n::int FROM unnest($1) WITH ORDINALITY u (id, n)"
						" JOIN tide.%s i ON i.event_id = u.id WHERE " FREE
						" FOR NO KEY UPDATE OF i SKIP LOCKED", 1, {TEXTARRAYOID}},
	[TIDE_PLAN_LEASE] = {"WITH taken AS (UPDATE tide.%s i SET lease_until = clock_timestamp() + $2,"
						 " next_attempt_at = NULL, attempts = i.attempts + 1 WHERE i.event_id = ANY ($1)"
						 " RETURNING " EVENT_COLUMNS ") SELECT * FROM taken ORDER BY seq",
						 2, {TEXTARRAYOID, INTERVALOID}},
	[TIDE_PLAN_MARK] = {"UPDATE tide.%s i SET processed_at = clock_timestamp(), lease_until = NULL,"
						" next_attempt_at = NULL WHERE i.event_id = $1 AND i.processed_at IS NULL"
						" RETURNING i.dead_at IS NOT NULL", 1, {TEXTOID}},
	[TIDE_PLAN_RELEASE] = {"UPDATE tide.%s i SET lease_until = NULL, attempts = greatest(i.attempts - 1, 0)"
						   " WHERE i.event_id = $1 AND i.lease_until IS NOT NULL AND " PENDING, 1, {TEXTOID}},
	/* columns in the order of handler.c's table of fields, then the two composite forms */
	[TIDE_PLAN_TAKE] = {"SELECT i.event_id, i.seq, i.origin, i.outbox, i.entity, i.op, i.key, i.payload,"
						" i.headers, i.published_at, i.committed_at, i.received_at, i.attempts + 1, i,"
						" ROW(" EVENT_COLUMNS ")::tide.inbox_event"
						" FROM tide.%s i WHERE i.event_id = $1 AND " FREE
						" FOR NO KEY UPDATE SKIP LOCKED", 1, {TEXTOID}},
};

typedef struct PlanSet
{
	char		relname[NAMEDATALEN];	/* hash key */
	SPIPlanPtr	plans[TIDE_N_PLANS];
} PlanSet;

static HTAB *plan_sets = NULL;

/*
 * Rows are found by primary key or by walking the index of pending rows in
 * order, stopping early.  No statistics may talk the planner out of that: a
 * full queue with stale statistics is exactly when it matters.
 */
static const char *const planner_settings[] = {"enable_seqscan", "enable_bitmapscan", "enable_sort"};

static void
set_option(const char *name, const char *value)
{
	(void) set_config_option(name, value, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
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
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(fcinfo->flinfo->fn_oid));
	Oid			owner;

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
	int			rc = SPI_execute_plan(plan, values, nulls, false, 0);

	if (rc < 0)
		elog(ERROR, "SPI_execute_plan failed: %s", SPI_result_code_string(rc));
	return SPI_processed;
}

SPIPlanPtr
tide_spi_prepare(const char *sql, int n_args, const Oid *args)
{
	SPIPlanPtr	plan = SPI_prepare(sql, n_args, (Oid *) args);

	if (plan == NULL || SPI_keepplan(plan) != 0)
		elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
	return plan;
}

/* tide._inbox() raises the error if there is no such inbox. */
static HeapTuple
lookup_row(text *name, TupleDesc *desc)
{
	static SPIPlanPtr plan = NULL;
	static const Oid args[] = {TEXTOID};
	Datum		values[] = {PointerGetDatum(name)};

	if (plan == NULL)
		plan = tide_spi_prepare("SELECT b.id, b.max_attempts, b.handler, b.handler_role::oid, b.handler_path"
							 " FROM tide._inbox($1) b", 1, args);
	if (tide_spi_run(plan, values, name == NULL ? "n" : NULL) != 1)
		elog(ERROR, "inbox lookup returned no row");
	*desc = SPI_tuptable->tupdesc;
	return SPI_tuptable->vals[0];
}

TideInbox *
tide_inbox_open(text *name)
{
	TupleDesc	desc;
	HeapTuple	row = lookup_row(name, &desc);
	TideInbox  *inbox = palloc0(sizeof(TideInbox));
	char	   *relname;
	bool		isnull;

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
	strlcpy(inbox->relname, relname, NAMEDATALEN);
	inbox->relation = pstrdup(quote_identifier(inbox->relname));
	inbox->relid = get_relname_relid(inbox->relname, get_namespace_oid(TIDE_SCHEMA, false));
	if (!OidIsValid(inbox->relid))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("inbox \"%s\" has lost its table tide.%s", inbox->name, inbox->relation),
				 errhint("Somebody dropped it. Drop the inbox with tide.inbox_drop() and create it again.")));
	return inbox;
}

static bool
is_member(Oid role, const char *group)
{
	Oid			group_oid = get_role_oid(group, true);

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
			 errhint("An administrator can allow it with SELECT tide.inbox_grant('%s', '%s').", inbox->name,
					 GetUserNameFromId(role, false))));
}

static PlanSet *
plan_set(const char *relname)
{
	PlanSet    *set;
	bool		found;

	if (plan_sets == NULL)
	{
		HASHCTL		ctl = {.keysize = NAMEDATALEN, .entrysize = sizeof(PlanSet)};

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
	PlanSet    *set = plan_set(inbox->relname);

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

/* See tide._from_us(): what can't be a timestamp must not fail a whole batch. */
Datum
tide_sql_from_us(PG_FUNCTION_ARGS)
{
	const int64 shift = (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY;
	int64		us = PG_GETARG_INT64(0);

	if (us == 0 || us < PG_INT64_MIN + shift || !IS_VALID_TIMESTAMP(us - shift))
		PG_RETURN_NULL();
	PG_RETURN_TIMESTAMPTZ(us - shift);
}
