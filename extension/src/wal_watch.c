/*
 * wal_watch.c
 *		How much room the WAL has.
 *
 * Owns: the one question that SQL can't ask: what is free where pg_wal is.  Does not
 * own: what follows from it (extension/sql/77_wal_watch.sql).
 */
#include "postgres.h"

#include <sys/statvfs.h>

#include "access/xlog_internal.h"
#include "fmgr.h"
#include "miscadmin.h"

PG_FUNCTION_INFO_V1(tide_sql_wal_free_bytes);

/*
 * wal_free_bytes(): what others than root may still write there.  NULL where that can't be
 * found out.  A server's working directory is its data directory, and pg_wal may be a link.
 */
Datum
tide_sql_wal_free_bytes(PG_FUNCTION_ARGS)
{
	struct statvfs fs;

	if (statvfs(XLOGDIR, &fs) != 0)
		PG_RETURN_NULL();
	PG_RETURN_INT64((int64) fs.f_bavail * (int64) fs.f_frsize);
}
