/*
 * large_value.c
 *		A value of hundreds of megabytes that the relay hands over in parts.
 *
 * Owns: tide.relay_part, what has come so far.  Does not own: what the value means
 * (apply.c, copy_in.c).
 *
 * Why in parts: relay/src/parts.h.  They are put together here, and whoever is then called with
 * an empty value takes the whole.  It is of the session: parts may be statements of their own,
 * without a transaction around them.  An abort throws it away.
 */
#include "postgres.h"

#include "access/xact.h"
#include "fmgr.h"
#include "utils/memutils.h"

#include "apply.h"
#include "pg_tide.h"
#include "compat.h"

PG_FUNCTION_INFO_V1(tide_sql_relay_part);

static bytea *value = NULL; /* NULL: none */
static Size filled = 0;		/* bytes of it that have come */

void
tide_large_forget(void)
{
	if (value != NULL)
		pfree(value);
	value = NULL;
	filled = 0;
}

static void
at_transaction_end(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_ABORT)
		tide_large_forget();
}

static void
begin_value(int64 total)
{
	static bool registered = false;

	tide_large_forget();
	if (total <= 0 || total > (int64) (MaxAllocSize - VARHDRSZ))
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("a value of " INT64_FORMAT " bytes cannot be handed over", total),
						errhint("It must have between 1 and %zu bytes.", MaxAllocSize - VARHDRSZ)));
	if (!registered)
		RegisterXactCallback(at_transaction_end, NULL);
	registered = true;
	value = MemoryContextAlloc(TopMemoryContext, VARHDRSZ + total);
	SET_VARSIZE(value, VARHDRSZ + total);
}

/* relay_part(total bigint, at bigint, part bytea): at: how many bytes came before; 0 begins anew. */
Datum
tide_sql_relay_part(PG_FUNCTION_ARGS)
{
	int64 total = PG_GETARG_INT64(0);
	int64 at = PG_GETARG_INT64(1);
	bytea *part = PG_GETARG_BYTEA_PP(2);
	Size len = VARSIZE_ANY_EXHDR(part);

	if (at == 0)
		begin_value(total);
	if (value == NULL || at != (int64) filled || total != (int64) (VARSIZE(value) - VARHDRSZ) ||
		len > VARSIZE(value) - VARHDRSZ - filled)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("the part of a large value does not follow the one before it"),
						errhint("Begin again with the first part, at 0.")));
	memcpy(VARDATA(value) + filled, VARDATA_ANY(part), len);
	filled += len;
	PG_RETURN_VOID();
}

bytea *
tide_large_value(bytea *given)
{
	bool whole = value != NULL && filled == VARSIZE(value) - VARHDRSZ;

	return whole && VARSIZE_ANY_EXHDR(given) == 0 ? value : given;
}
