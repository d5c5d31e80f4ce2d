/*
 * apply_ddl.c
 *		Statements that tide.ddl() ran in another region, run here.
 *
 * Owns: as whom and with which settings, whether it may be, what counts as done already.  Does not own: which
 * statements may travel (ddl.c), parking (apply_park.c).
 *
 * A statement runs at its place in the stream, in the transaction that applies, tagged as come
 * by the link: so it goes no further.  It runs as the role of the same name, in a
 * security-restricted operation, if that is a member of tide_admin here.  Not as a superuser,
 * unless the link says so: whoever can write frames could be one here then.
 *
 * Two regions that do the same at the same time both succeed: what is there already, or gone
 * already, counts as done.  If tables then differ all the same, tide.schema_drift says so.
 *
 * After the transaction tide.apply stops, so that it is committed before what follows: a value
 * that was added to an enum can't be used before.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "apply.h"
#include "ddl.h"
#include "inbox.h"
#include "pg_tide.h"
#include "compat.h"

typedef struct Statement
{
	char *role;
	char *path;
	char *sql;
	Datum *settings; /* names and values in turn, as text */
	int n_settings;
	bool wanted;	/* by the link's options */
	bool superuser; /* ... also as a superuser */
} Statement;

/* ---- what it is ---- */

static char *
field(MemoryContext context, int column)
{
	char *value = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column);

	if (value == NULL)
		tide_apply_malformed("a statement");
	return MemoryContextStrdup(context, value);
}

static void
read_settings(MemoryContext context, int column, Statement *statement)
{
	bool isnull;
	Datum settings = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column, &isnull);
	MemoryContext old = MemoryContextSwitchTo(context);

	deconstruct_array(DatumGetArrayTypePCopy(settings), TEXTOID, -1, false, TYPALIGN_INT,
					  &statement->settings, NULL, &statement->n_settings);
	MemoryContextSwitchTo(old);
}

static void
read_statement(const TideApply *apply, const TideSchemaEntry *entry, Statement *statement)
{
	MemoryContext context = CurrentMemoryContext;
	Oid types[] = {INT4OID, TEXTOID};
	Datum values[] = {Int32GetDatum(apply->link->id), CStringGetTextDatum(entry->body)};
	TideIdentity self;

	tide_act_as(tide_catalog_owner(), "pg_catalog, pg_temp", &self);
	SPI_connect();
	if (SPI_execute_with_args("SELECT * FROM tide._ddl_read($1, $2::jsonb)", lengthof(types), types,
							  values, NULL, false, 1) != SPI_OK_SELECT ||
		SPI_processed != 1)
		tide_apply_malformed("a statement");
	statement->role = field(context, 1);
	statement->path = field(context, 2);
	statement->sql = field(context, 3);
	statement->wanted = field(context, 4)[0] == 't';
	statement->superuser = field(context, 5)[0] == 't';
	read_settings(context, 6, statement);
	SPI_finish();
	tide_act_as_self(&self);
}

/* ---- may it run? ---- */

static void
refuse(const char *message, const char *detail)
{
	ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("%s", message),
					errdetail("%s", detail)));
}

static Oid
role_for(const TideApply *apply, const Statement *statement)
{
	Oid role = get_role_oid(statement->role, true);

	if (!statement->wanted)
		refuse(psprintf("statements of region \"%s\" are not run here", apply->link->region),
			   "The link's option \"ddl\" is false.");
	if (!OidIsValid(role))
		refuse(psprintf("role \"%s\" does not exist here", statement->role),
			   "A statement runs as the role of the same name.");
	if (superuser_arg(role) && !statement->superuser)
		refuse(psprintf("role \"%s\" is a superuser here", statement->role),
			   "The link was not made by a superuser, or its option \"ddl_superuser\" is false.");
	if (!has_privs_of_role(role, get_role_oid("tide_admin", false)))
		refuse(psprintf("role \"%s\" is not a member of tide_admin here", statement->role),
			   "Only such roles' statements are run.");
	return role;
}

/* ---- done already? ---- */

static bool
only_drops(const AlterTableStmt *alter)
{
	ListCell *cell;

	foreach (cell, alter->cmds)
	{
		AlterTableType kind = lfirst_node(AlterTableCmd, cell)->subtype;

		if (kind != AT_DropColumn && kind != AT_DropConstraint)
			return false;
	}
	return true;
}

static bool
is_done(const Node *statement, int code)
{
	bool takes_away = IsA(statement, DropStmt) || IsA(statement, RenameStmt) ||
					  (IsA(statement, AlterTableStmt) &&
					   only_drops((const AlterTableStmt *) statement));

	switch (code)
	{
		case ERRCODE_DUPLICATE_COLUMN:
		case ERRCODE_DUPLICATE_TABLE:
		case ERRCODE_DUPLICATE_OBJECT:
		case ERRCODE_DUPLICATE_SCHEMA:
			return true;
		case ERRCODE_UNDEFINED_COLUMN:
		case ERRCODE_UNDEFINED_TABLE:
		case ERRCODE_UNDEFINED_OBJECT:
		case ERRCODE_INVALID_SCHEMA_NAME:
			return takes_away;
		default:
			return false;
	}
}

/* ---- running ---- */

/* In a subtransaction of its own: what fails because it is done is undone, and no error. */
static void
run_one(const TideApply *apply, const char *sql, const Node *statement)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		tide_ddl_execute(sql);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		if (!is_done(statement, error->sqlerrcode))
			ReThrowError(error);
		ereport(LOG, (errmsg("pg_tide: a statement of region \"%s\" counts as done: %s",
							 apply->link->region, error->message),
					  errdetail("%s", sql)));
		FreeErrorData(error);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
}

static void
run_all(const TideApply *apply, const Statement *statement)
{
	List *statements = tide_ddl_parse(statement->sql);
	ListCell *cell;

	foreach (cell, statements)
	{
		RawStmt *raw = lfirst_node(RawStmt, cell);

		run_one(apply, tide_ddl_text(statement->sql, raw), raw->stmt);
		CommandCounterIncrement();
	}
}

/* As where it came from, until we are ourselves again. */
static void
use_settings(const Statement *statement)
{
	for (int i = 0; i + 1 < statement->n_settings; i += 2)
		(void) set_config_option(TextDatumGetCString(statement->settings[i]),
								 TextDatumGetCString(statement->settings[i + 1]), PGC_USERSET,
								 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
}

static void
run_as(const TideApply *apply, const Statement *statement, Oid role)
{
	int replication_role = SessionReplicationRole;
	TideIdentity self;

	tide_act_as(role, statement->path, &self);
	SetUserIdAndSecContext(role, self.sec_context | SECURITY_LOCAL_USERID_CHANGE |
									 SECURITY_RESTRICTED_OPERATION);
	use_settings(statement);
	SPI_connect();
	/* Event triggers fire as they would for anybody: ours see tables change and go. */
	SessionReplicationRole = SESSION_REPLICATION_ROLE_ORIGIN;
	PG_TRY();
	{
		run_all(apply, statement);
	}
	PG_FINALLY();
	{
		SessionReplicationRole = replication_role;
	}
	PG_END_TRY();
	SPI_finish();
	tide_act_as_self(&self);
}

void
tide_ddl_run(TideApply *apply, TideSchemaEntry *entry)
{
	Statement statement;

	tide_apply_act_as(apply, InvalidOid);
	read_statement(apply, entry, &statement);
	run_as(apply, &statement, role_for(apply, &statement));
}

static void
attempt_ddl(TideApply *apply, void *arg)
{
	tide_ddl_run(apply, arg);
}

/* What can't be read has no key of its own, and no text. */
static void
park_statement(TideApply *apply, const TideFrameRelation *relation, const TideChange *change,
			   const TideSchemaEntry *entry, const ErrorData *error)
{
	const char *key = psprintf("%X/%X", LSN_FORMAT_ARGS(apply->commit_lsn));

	tide_park(apply, relation, change, key, error->sqlerrcode,
			  psprintf("%s; it says: %s", tide_reason(error), entry->body));
}

void
tide_ddl_apply(TideApply *apply, const TideFrameRelation *relation, const TideChange *change,
			   TideSchemaEntry *entry)
{
	ErrorData *error = tide_attempt(apply, attempt_ddl, entry);

	tide_apply_forget_maps(apply);
	apply->ddl = true;
	if (error == NULL)
		return;
	ereport(LOG, (errmsg("pg_tide: a statement of region \"%s\" was not run: %s",
						 apply->link->region, tide_reason(error)),
				  errdetail("%s", entry->body),
				  errhint("See tide.pending_changes; tide.pending_retry(id) runs it again.")));
	park_statement(apply, relation, change, entry, error);
	FreeErrorData(error);
}
