/*
 * handler.c
 *		Handlers: binding a function to an event's fields, and running it once per event.
 *
 * Owns: inbox_set_handler, inbox_run_handler.  Does not own: what happens to an
 * event that fails (tide._inbox_fail), the order of events (claim.c), when to
 * run (the relay).
 *
 * Binding.  Parameters are bound by name (fields[] below; a leading p_ or _
 * does not count).  If there is a parameter that no field is named like, and
 * that has no default, the form decides: one jsonb is the payload; two are
 * payload and headers; one composite of the inbox's row type or of
 * tide.inbox_event is the event.  Anything else is refused.
 *
 * Running.  One transaction per event: the row is locked, the handler runs in a
 * subtransaction as the role that registered it, and the mark commits with its
 * work.  If it fails, the subtransaction goes and the failure is recorded instead.
 * No lease is taken: the lock dies with the session, so a killed relay's event
 * is free at once.  Deferred constraints are made to fail inside the
 * subtransaction, not at the commit.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/plancache.h"
#include "utils/regproc.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "inbox.h"
#include "pg_tide.h"
#include "compat.h"

PG_FUNCTION_INFO_V1(tide_sql_inbox_set_handler);
PG_FUNCTION_INFO_V1(tide_sql_inbox_run_handler);

/* What a parameter can be bound to: columns of TIDE_PLAN_TAKE, in order, then the inbox's name. */
typedef enum Field
{
	FIELD_EVENT_ID,
	FIELD_SEQ,
	FIELD_ORIGIN,
	FIELD_OUTBOX,
	FIELD_ENTITY,
	FIELD_OP,
	FIELD_KEY,
	FIELD_PAYLOAD,
	FIELD_HEADERS,
	FIELD_PUBLISHED_AT,
	FIELD_COMMITTED_AT,
	FIELD_RECEIVED_AT,
	FIELD_ATTEMPTS,
	FIELD_ROW,	 /* composite: the inbox's row type */
	FIELD_EVENT, /* composite: tide.inbox_event */
	FIELD_INBOX,
	N_FIELDS
} Field;

static const struct
{
	const char *name; /* NULL: not bound by name */
	Oid type;		  /* InvalidOid: that of the parameter */
} fields[N_FIELDS] = {
	[FIELD_EVENT_ID] = {"event_id", TEXTOID},
	[FIELD_SEQ] = {"seq", INT8OID},
	[FIELD_ORIGIN] = {"origin", TEXTOID},
	[FIELD_OUTBOX] = {"outbox", TEXTOID},
	[FIELD_ENTITY] = {"entity", TEXTOID},
	[FIELD_OP] = {"op", TEXTOID},
	[FIELD_KEY] = {"key", TEXTOID},
	[FIELD_PAYLOAD] = {"payload", JSONBOID},
	[FIELD_HEADERS] = {"headers", JSONBOID},
	[FIELD_PUBLISHED_AT] = {"published_at", TIMESTAMPTZOID},
	[FIELD_COMMITTED_AT] = {"committed_at", TIMESTAMPTZOID},
	[FIELD_RECEIVED_AT] = {"received_at", TIMESTAMPTZOID},
	[FIELD_ATTEMPTS] = {"attempts", INT4OID},
	[FIELD_ROW] = {NULL, InvalidOid},
	[FIELD_EVENT] = {NULL, InvalidOid},
	[FIELD_INBOX] = {"inbox", TEXTOID},
};

/* A handler ready to be called. */
typedef struct Binding
{
	char *sql;
	int n_args;
	Field args[FUNC_MAX_ARGS];
	Oid types[FUNC_MAX_ARGS];
} Binding;

/* ---- binding ---- */

/* The input parameters of a function. */
typedef struct Parameters
{
	int n;
	int n_required; /* those after the first n_required have defaults */
	Oid types[FUNC_MAX_ARGS];
	const char *names[FUNC_MAX_ARGS]; /* "" if it has none */
	bool odd;						  /* has a kind of parameter that can't be served */
} Parameters;

static void
read_parameters(HeapTuple proc, Parameters *params)
{
	Form_pg_proc form = (Form_pg_proc) GETSTRUCT(proc);
	Oid *types;
	char **names;
	char *modes;
	int n_all = get_func_arg_info(proc, &types, &names, &modes);

	memset(params, 0, sizeof(*params));
	for (int i = 0; i < n_all; i++)
	{
		char mode = modes == NULL ? PROARGMODE_IN : modes[i];

		if (mode == PROARGMODE_OUT || mode == PROARGMODE_TABLE)
		{
			params->odd |= form->prokind == PROKIND_PROCEDURE;
			continue;
		}
		params->odd |= mode == PROARGMODE_VARIADIC ||
					   (mode == PROARGMODE_INOUT && form->prokind == PROKIND_PROCEDURE);
		params->types[params->n] = types[i];
		params->names[params->n++] = names == NULL || names[i] == NULL ? "" : names[i];
	}
	params->n_required = params->n - form->pronargdefaults;
}

static int
field_by_name(const char *name)
{
	if (strncmp(name, "p_", 2) == 0)
		name += 2;
	else if (name[0] == '_')
		name++;
	for (int i = 0; i < N_FIELDS; i++)
	{
		if (fields[i].name != NULL && strcmp(fields[i].name, name) == 0)
			return i;
	}
	return -1;
}

static void
append_argument(StringInfo sql, Binding *binding, Field field, Oid parameter_type, const char *name)
{
	if (binding->n_args > 0)
		appendStringInfoString(sql, ", ");
	if (name != NULL)
		appendStringInfo(sql, "%s => ", quote_identifier(name));
	appendStringInfo(sql, "$%d::%s", binding->n_args + 1,
					 format_type_extended(parameter_type, -1, FORMAT_TYPE_FORCE_QUALIFY));
	binding->types[binding->n_args] = OidIsValid(fields[field].type) ? fields[field].type
																	 : parameter_type;
	binding->args[binding->n_args++] = field;
}

/* Every parameter without a default must be named like a field, and at least one must be. */
static bool
bind_by_name(const Parameters *params, StringInfo sql, Binding *binding)
{
	for (int i = 0; i < params->n_required && i < params->n; i++)
	{
		if (field_by_name(params->names[i]) < 0)
			return false;
	}
	for (int i = 0; i < params->n; i++)
	{
		int field = field_by_name(params->names[i]);

		if (field >= 0)
			append_argument(sql, binding, field, params->types[i], params->names[i]);
	}
	return binding->n_args > 0;
}

static bool
is_json(Oid type)
{
	return type == JSONBOID || type == JSONOID;
}

static bool
bind_by_form(const TideInbox *inbox, const Parameters *params, StringInfo sql, Binding *binding)
{
	Oid schema = get_namespace_oid(TIDE_SCHEMA, false);
	int n = Max(params->n_required, 1);

	if (params->n < n)
		return false;
	if (n == 1 && params->types[0] == get_rel_type_id(inbox->relid))
		append_argument(sql, binding, FIELD_ROW, params->types[0], NULL);
	else if (n == 1 && params->types[0] == GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid,
														   CStringGetDatum("inbox_event"),
														   ObjectIdGetDatum(schema)))
		append_argument(sql, binding, FIELD_EVENT, params->types[0], NULL);
	else if (n <= 2 && is_json(params->types[0]) && (n == 1 || is_json(params->types[1])))
	{
		append_argument(sql, binding, FIELD_PAYLOAD, params->types[0], NULL);
		if (n == 2)
			append_argument(sql, binding, FIELD_HEADERS, params->types[1], NULL);
	}
	return binding->n_args > 0;
}

static void
refuse_handler(Oid function, const char *why)
{
	ereport(
		ERROR,
		(errcode(ERRCODE_INVALID_FUNCTION_DEFINITION),
		 errmsg("%s cannot be a handler: %s", format_procedure(function), why),
		 errhint(
			 "A handler's parameters are named after what they take (inbox, event_id, seq, origin, outbox, "
			 "entity, op, key, payload, headers, published_at, committed_at, received_at, attempts; "
			 "a leading p_ or _ does not count), or it takes one jsonb (the payload), two (payload and "
			 "headers), or one row of the inbox (its row type, or tide.inbox_event).")));
}

static Binding *
bind_handler(const TideInbox *inbox, Oid function)
{
	HeapTuple proc = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Binding *binding = palloc0(sizeof(Binding));
	Form_pg_proc form;
	Parameters params;
	StringInfoData sql;

	if (!HeapTupleIsValid(proc))
		ereport(
			ERROR,
			(errcode(ERRCODE_UNDEFINED_FUNCTION),
			 errmsg("function with OID %u does not exist", function),
			 errhint("Name the function with its argument types, such as 'my_handler(jsonb)'.")));
	form = (Form_pg_proc) GETSTRUCT(proc);
	if (form->prokind != PROKIND_FUNCTION && form->prokind != PROKIND_PROCEDURE)
		refuse_handler(function, "it is neither a function nor a procedure");
	read_parameters(proc, &params);
	if (params.odd)
		refuse_handler(function, "it has VARIADIC or OUT parameters");

	initStringInfo(&sql);
	appendStringInfo(
		&sql, "%s %s(", form->prokind == PROKIND_FUNCTION ? "SELECT" : "CALL",
		quote_qualified_identifier(get_namespace_name(form->pronamespace), NameStr(form->proname)));
	if (!bind_by_name(&params, &sql, binding) && !bind_by_form(inbox, &params, &sql, binding))
		refuse_handler(function, "its parameters can't be matched to an event's fields");
	appendStringInfoChar(&sql, ')');
	binding->sql = sql.data;
	ReleaseSysCache(proc);
	return binding;
}

/* Which function does the statement call, after the parser has chosen among overloads? */
static Oid
called_function(SPIPlanPtr plan)
{
	CachedPlanSource *source = linitial(SPI_plan_get_plan_sources(plan));
	Query *query = linitial_node(Query, source->query_list);
	Node *expr;

	if (query->commandType == CMD_UTILITY)
		expr = (Node *) ((CallStmt *) query->utilityStmt)->funcexpr;
	else
		expr = (Node *) linitial_node(TargetEntry, query->targetList)->expr;
	return expr != NULL && IsA(expr, FuncExpr) ? ((FuncExpr *) expr)->funcid : InvalidOid;
}

/* To be called with the identity and search_path the handler will run with. */
static SPIPlanPtr
prepare_call(const Binding *binding, Oid function)
{
	SPIPlanPtr plan = SPI_prepare(binding->sql, binding->n_args, (Oid *) binding->types);

	if (plan == NULL)
		elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
	if (called_function(plan) != function)
		refuse_handler(function, "another function of that name would be called instead");
	return plan;
}

/* ---- registering ---- */

static void
check_execute(Oid function, Oid role)
{
	AclResult result = tide_proc_aclcheck(function, role, ACL_EXECUTE);

	if (result != ACLCHECK_OK)
		ereport(
			ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("role \"%s\" may not execute %s", GetUserNameFromId(role, false),
					format_procedure(function)),
			 errhint(
				 "A handler runs with the privileges of the role that registers it: GRANT EXECUTE to "
				 "that role.")));
}

static void
store_handler(const TideInbox *inbox, Oid function, Oid role, const char *path)
{
	Oid types[] = {TEXTOID, TEXTOID, OIDOID, TEXTOID};
	Datum values[] = {CStringGetTextDatum(inbox->name),
					  CStringGetTextDatum(format_procedure_qualified(function)),
					  ObjectIdGetDatum(role), CStringGetTextDatum(path)};

	if (SPI_execute_with_args("SELECT tide._handler_store($1, $2, $3, $4)", 4, types, values, NULL,
							  false, 0) != SPI_OK_SELECT)
		elog(ERROR, "tide._handler_store failed");
}

/* inbox_set_handler(inbox text, handler regprocedure) */
Datum
tide_sql_inbox_set_handler(PG_FUNCTION_ARGS)
{
	Oid caller = GetUserId();
	const char *path = pstrdup(GetConfigOption("search_path", false, false));
	TideIdentity self;
	TideInbox *inbox;
	Oid function;

	SPI_connect();
	tide_act_as_owner(fcinfo, &self);
	inbox = tide_inbox_open(PG_ARGISNULL(0) ? NULL : PG_GETARG_TEXT_PP(0));
	tide_act_as_self(&self);
	if (PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("the handler must not be NULL"),
				 errhint("tide.inbox_unset_handler() takes a handler away.")));

	function = PG_GETARG_OID(1);
	(void) prepare_call(bind_handler(inbox, function), function);
	check_execute(function, caller);

	tide_act_as_owner(fcinfo, &self);
	store_handler(inbox, function, caller, path);
	tide_act_as_self(&self);
	SPI_finish();
	PG_RETURN_VOID();
}

/* ---- plans of handlers, kept by the backend ---- */

typedef struct HandlerEntry
{
	char relname[NAMEDATALEN]; /* hash key: the inbox's relation */
	Oid function;			   /* these three tell whether the plan still is the right one */
	Oid role;
	Oid relid;
	char *path;
	SPIPlanPtr plan; /* NULL: nothing here */
	int n_args;
	Field args[FUNC_MAX_ARGS];
} HandlerEntry;

static HTAB *handlers = NULL;

static HandlerEntry *
handler_entry(const char *relname)
{
	HandlerEntry *entry;
	bool found;

	if (handlers == NULL)
	{
		HASHCTL ctl = {.keysize = NAMEDATALEN, .entrysize = sizeof(HandlerEntry)};

		handlers = hash_create("pg_tide handlers", 16, &ctl, HASH_ELEM | HASH_STRINGS);
	}
	entry = hash_search(handlers, relname, HASH_ENTER, &found);
	if (!found)
		entry->plan = NULL;
	return entry;
}

static void
forget_entry(HandlerEntry *entry)
{
	if (entry->plan == NULL)
		return;
	SPI_freeplan(entry->plan);
	entry->plan = NULL;
	pfree(entry->path);
}

/* The function a signature names now; an error that says so if it is gone. */
static Oid
resolve_handler(const TideInbox *inbox)
{
	Oid types[] = {TEXTOID};
	Datum values[1];
	bool isnull = true;
	Datum function = (Datum) 0;

	if (inbox->handler == NULL)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("inbox \"%s\" has no handler", inbox->name),
						errhint("Register one with tide.inbox_set_handler().")));
	values[0] = CStringGetTextDatum(inbox->handler);
	if (SPI_execute_with_args("SELECT to_regprocedure($1)::oid", 1, types, values, NULL, false,
							  1) == SPI_OK_SELECT &&
		SPI_processed == 1)
		function = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	if (isnull)
		ereport(
			ERROR,
			(errcode(ERRCODE_UNDEFINED_FUNCTION),
			 errmsg("handler %s of inbox \"%s\" does not exist any more", inbox->handler,
					inbox->name),
			 errhint("Create it again, or register another one with tide.inbox_set_handler().")));
	return DatumGetObjectId(function);
}

/* Fills the entry anew.  The plan is made as the role that will run it. */
static void
prepare_entry(HandlerEntry *entry, const TideInbox *inbox, Oid function)
{
	Binding *binding = bind_handler(inbox, function);
	TideIdentity self;
	SPIPlanPtr plan;

	tide_act_as(inbox->handler_role, inbox->handler_path, &self);
	plan = prepare_call(binding, function);
	tide_act_as_self(&self);

	entry->path = MemoryContextStrdup(TopMemoryContext, inbox->handler_path);
	entry->function = function;
	entry->role = inbox->handler_role;
	entry->relid = inbox->relid;
	entry->n_args = binding->n_args;
	memcpy(entry->args, binding->args, sizeof(entry->args));
	SPI_keepplan(plan);
	entry->plan = plan;
}

static HandlerEntry *
open_handler(const TideInbox *inbox)
{
	Oid function = resolve_handler(inbox);
	HandlerEntry *entry = handler_entry(inbox->relname);

	if (GetUserNameFromId(inbox->handler_role, true) == NULL)
		ereport(
			ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("the role that registered the handler of inbox \"%s\" does not exist any more",
					inbox->name),
			 errhint("Register the handler again with tide.inbox_set_handler().")));
	check_execute(function, inbox->handler_role);
	if (entry->plan != NULL && entry->function == function && entry->role == inbox->handler_role &&
		entry->relid == inbox->relid && strcmp(entry->path, inbox->handler_path) == 0)
		return entry;
	forget_entry(entry);
	prepare_entry(entry, inbox, function);
	return entry;
}

/* ---- running ---- */

typedef enum Outcome
{
	OUTCOME_PROCESSED,
	OUTCOME_FAILED,
	OUTCOME_TIMED_OUT, /* failed, and the statement's time limit is used up */
	OUTCOME_NOT_FREE   /* somebody else has it, or it changed */
} Outcome;

/* One call of inbox_run_handler. */
typedef struct Run
{
	FunctionCallInfo fcinfo;
	TideInbox *inbox;
	HandlerEntry *handler;
	Datum inbox_name;
	Datum pipeline;
	int64 epoch;
	MemoryContext context; /* of one round of candidates */
	TideScan scan;
	TideCandidate *candidates;
	int n_candidates;
	int next;
	bool exhausted; /* the last round reached the end of what is pending */
	int done;
	int failed;
} Run;

/* Error TD001 if the pipeline has a newer owner; tide._check_epoch() knows the words. */
static void
check_epoch(const Run *run)
{
	static SPIPlanPtr plan = NULL;
	static SPIPlanPtr refuse = NULL;
	static const Oid types[] = {TEXTOID, INT8OID};
	Datum values[] = {run->pipeline, Int64GetDatum(run->epoch)};

	if (plan == NULL)
		plan = tide_spi_prepare("SELECT 1 FROM tide.pipeline p WHERE p.name = $1 AND p.epoch = $2",
								2, types);
	if (refuse == NULL)
		refuse = tide_spi_prepare("SELECT tide._check_epoch($1, $2)", 2, types);
	if (tide_spi_run(plan, values, NULL) == 0)
		tide_spi_run(refuse, values, NULL);
	SPI_freetuptable(SPI_tuptable);
}

/* Locks the event and reads its fields; NULL if somebody else has it or it is no longer free. */
static SPITupleTable *
take_event(const Run *run, const TideCandidate *candidate)
{
	Datum values[] = {candidate->event_id};

	if (tide_spi_run(tide_inbox_plan(run->inbox, TIDE_PLAN_TAKE), values, NULL) == 1)
		return SPI_tuptable;
	SPI_freetuptable(SPI_tuptable);
	return NULL;
}

/* Calls the handler as the role that registered it; whatever it SETs ends with the call. */
static void
call_handler(const Run *run, const SPITupleTable *event)
{
	const HandlerEntry *handler = run->handler;
	Datum values[FUNC_MAX_ARGS];
	char nulls[FUNC_MAX_ARGS];
	TideIdentity self;
	int rc;

	for (int i = 0; i < handler->n_args; i++)
	{
		bool isnull = false;

		if (handler->args[i] == FIELD_INBOX)
			values[i] = run->inbox_name;
		else
			values[i] = SPI_getbinval(event->vals[0], event->tupdesc, handler->args[i] + 1,
									  &isnull);
		nulls[i] = isnull ? 'n' : ' ';
	}
	tide_act_as(handler->role, handler->path, &self);
	rc = SPI_execute_plan(handler->plan, values, nulls, false, 0);
	if (rc < 0)
		elog(ERROR, "SPI_execute_plan failed: %s", SPI_result_code_string(rc));
	SPI_freetuptable(SPI_tuptable);
	SPI_execute("SET CONSTRAINTS ALL IMMEDIATE", false, 0);
	tide_act_as_self(&self);
}

/* Did the statement's own time limit end it?  Others cancel because they want us to stop. */
static bool
is_statement_timeout(const ErrorData *error)
{
	return error->sqlerrcode == ERRCODE_QUERY_CANCELED &&
		   strcmp(error->message, _("canceling statement due to statement timeout")) == 0;
}

/* Failures that say nothing about the event: it may be tried without end. */
static bool
is_transient(const ErrorData *error)
{
	int category = ERRCODE_TO_CATEGORY(error->sqlerrcode);

	return category == ERRCODE_TO_CATEGORY(ERRCODE_T_R_SERIALIZATION_FAILURE) ||
		   category == ERRCODE_TO_CATEGORY(ERRCODE_INSUFFICIENT_RESOURCES) ||
		   error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE;
}

static void
record_failure(const Run *run, const TideCandidate *candidate, const ErrorData *error)
{
	TideIdentity self;
	const char *message = error->message;

	if (error->detail != NULL)
		message = psprintf("%s (%s)", error->message, error->detail);
	tide_act_as_owner(run->fcinfo, &self);
	tide_inbox_fail(run->inbox, candidate->event_id, message, unpack_sql_state(error->sqlerrcode),
					is_transient(error), TextDatumGetCString(run->pipeline));
	tide_act_as_self(&self);
}

/* The handler and the mark in a subtransaction; NULL, or the error that ended it. */
static ErrorData *
try_event(const Run *run, const TideCandidate *candidate, const SPITupleTable *event)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData *volatile error = NULL;
	TideIdentity self;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		call_handler(run, event);
		tide_act_as_owner(run->fcinfo, &self);
		tide_inbox_mark(run->inbox, candidate->event_id);
		tide_act_as_self(&self);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return error;
}

/* One event, up to but not including the commit. */
static Outcome
run_event(Run *run, const TideCandidate *candidate)
{
	TideIdentity self;
	SPITupleTable *event;
	ErrorData *error;

	tide_act_as_owner(run->fcinfo, &self);
	check_epoch(run);
	event = take_event(run, candidate);
	tide_act_as_self(&self);
	if (event == NULL)
		return OUTCOME_NOT_FREE;

	error = try_event(run, candidate, event);
	SPI_freetuptable(event);
	if (error == NULL)
		return OUTCOME_PROCESSED;
	if (error->sqlerrcode == ERRCODE_QUERY_CANCELED && !is_statement_timeout(error))
		ReThrowError(error);
	record_failure(run, candidate, error);
	return is_statement_timeout(error) ? OUTCOME_TIMED_OUT : OUTCOME_FAILED;
}

/*
 * Commits.  What fails only now (a serialization check, say) has undone the
 * handler's work and the mark; SPI_commit has begun a new transaction by then,
 * in which the failure is recorded.  false: it failed.
 */
static bool
commit_event(const Run *run, const TideCandidate *candidate)
{
	MemoryContext context = CurrentMemoryContext;
	ErrorData *volatile error = NULL;

	PG_TRY();
	{
		SPI_commit();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	if (error == NULL)
		return true;
	record_failure(run, candidate, error);
	SPI_commit();
	return false;
}

/* Finds the next round of candidates, unlocked; false if there are none. */
static bool
next_round(Run *run, int wanted)
{
	int size = Min(Max(wanted, 32), TIDE_SCAN_ROUND);
	MemoryContext previous;
	TideIdentity self;

	if (run->exhausted)
		return false;
	MemoryContextReset(run->context);
	previous = MemoryContextSwitchTo(run->context);
	run->candidates = palloc(sizeof(TideCandidate) * size);
	MemoryContextSwitchTo(previous);

	tide_act_as_owner(run->fcinfo, &self);
	tide_scan_begin(&run->scan, run->inbox, run->context);
	run->n_candidates = tide_scan_next(&run->scan, run->candidates, size);
	run->exhausted = tide_scan_done(&run->scan);
	tide_scan_end(&run->scan);
	tide_act_as_self(&self);
	run->next = 0;
	return run->n_candidates > 0;
}

static void
run_events(Run *run, int max_events)
{
	while (run->done + run->failed < max_events)
	{
		const TideCandidate *candidate;
		Outcome outcome;

		if (run->next >= run->n_candidates && !next_round(run, max_events))
			return;
		candidate = &run->candidates[run->next++];
		if (tide_key_blocked(&run->scan, candidate))
			continue;
		CHECK_FOR_INTERRUPTS();
		outcome = run_event(run, candidate);
		if (outcome != OUTCOME_NOT_FREE && !commit_event(run, candidate))
			outcome = OUTCOME_FAILED;
		if (outcome == OUTCOME_PROCESSED)
			run->done++;
		else
		{
			tide_key_block(&run->scan, candidate);
			run->failed += outcome != OUTCOME_NOT_FREE;
		}
		if (outcome == OUTCOME_TIMED_OUT)
			return;
	}
}

/* Looks everything up and checks it, as the owner. */
static void
start_run(Run *run, FunctionCallInfo fcinfo)
{
	TideIdentity self;

	run->fcinfo = fcinfo;
	run->inbox_name = PointerGetDatum(DatumGetTextPCopy(PG_GETARG_DATUM(0)));
	run->pipeline = PointerGetDatum(DatumGetTextPCopy(PG_GETARG_DATUM(1)));
	run->epoch = PG_GETARG_INT64(2);
	run->context = AllocSetContextCreate(CurrentMemoryContext, "pg_tide handler round",
										 ALLOCSET_DEFAULT_SIZES);
	tide_act_as_owner(fcinfo, &self);
	check_epoch(run);
	run->inbox = tide_inbox_open(DatumGetTextPP(run->inbox_name));
	run->handler = open_handler(run->inbox);
	tide_act_as_self(&self);
}

static void
check_run_arguments(FunctionCallInfo fcinfo)
{
	static const char *const names[] = {"inbox", "pipeline", "epoch", "max_events"};

	if (fcinfo->context == NULL || !IsA(fcinfo->context, CallContext) ||
		((CallContext *) fcinfo->context)->atomic)
		ereport(ERROR, (errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
						errmsg("tide.inbox_run_handler() cannot be called inside a transaction"),
						errhint("It commits after every event: CALL it on its own.")));
	for (int i = 0; i < 4; i++)
	{
		if (PG_ARGISNULL(i))
			ereport(
				ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("%s must not be NULL", names[i]),
				 errhint(
					 "The relay passes the pipeline's name and what tide.relay_acquire() gave it.")));
	}
}

/*
 * inbox_run_handler(inbox text, pipeline text, epoch bigint, max_events int,
 *		INOUT done int, INOUT failed int, INOUT more bool, INOUT generation bigint)
 */
Datum
tide_sql_inbox_run_handler(PG_FUNCTION_ARGS)
{
	Run run = {0};
	TupleDesc desc;
	uint64 generation;
	Datum values[4];
	bool nulls[4] = {false};
	HeapTuple result;

	check_run_arguments(fcinfo);
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	desc = BlessTupleDesc(desc);

	/* the generation first: what arrives from now on raises it, so the next wait returns at once */
	nulls[3] = true;
	if (!PG_ARGISNULL(0))
	{
		text *name = PG_GETARG_TEXT_PP(0);

		nulls[3] = !tide_wake_generation(
			tide_wake_slot("inbox", VARDATA_ANY(name), VARSIZE_ANY_EXHDR(name)), &generation);
	}
	SPI_connect_ext(SPI_OPT_NONATOMIC);
	start_run(&run, fcinfo);
	run_events(&run, PG_GETARG_INT32(3));
	SPI_finish();

	values[0] = Int32GetDatum(run.done);
	values[1] = Int32GetDatum(run.failed);
	values[2] = BoolGetDatum(run.next < run.n_candidates || !run.exhausted);
	values[3] = nulls[3] ? (Datum) 0 : Int64GetDatum((int64) generation);
	result = heap_form_tuple(desc, values, nulls);
	PG_RETURN_DATUM(HeapTupleGetDatum(result));
}
