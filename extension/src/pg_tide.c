/*
 * pg_tide.c
 *		Entry point of the extension: start-up only.
 *
 * Owns: _PG_init and functions about the installation itself.  Does not own:
 * any behaviour; each module registers its own hooks from its init function.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "catalog/namespace.h"
#include "common/hashfn.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "apply.h"
#include "pg_tide.h"
#include "compat.h"

PG_MODULE_MAGIC;

PGDLLEXPORT void _PG_init(void);

PG_FUNCTION_INFO_V1(tide_sql_system_identifier);
PG_FUNCTION_INFO_V1(tide_sql_default_region);

void
_PG_init(void)
{
	tide_outbox_cache_init();
	tide_wakeup_init();
	tide_stamp_init();
	tide_session_init();
	tide_map_init();
	tide_durability_init();
}

/* Identifies the cluster: the same after a restart, another after a dump and restore. */
Datum
tide_sql_system_identifier(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64((int64) GetSystemIdentifier());
}

/*
 * The region's name until somebody gives it one: made from what distinguishes
 * this database from every other, so that two regions that were never named
 * still tell their own events from each other's.
 */
Datum
tide_sql_default_region(PG_FUNCTION_ARGS)
{
	uint64 seed[2] = {GetSystemIdentifier(), (uint64) MyDatabaseId};
	uint64 hash = hash_bytes_extended((const unsigned char *) seed, sizeof(seed), 0);

	PG_RETURN_TEXT_P(cstring_to_text(psprintf("db-%08x", (uint32) (hash ^ (hash >> 32)))));
}
