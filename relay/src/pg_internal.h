/*
 * pg_internal.h
 *		What pg.c and pg_error.c share; nobody else includes it.
 */
#ifndef TIDE_PG_INTERNAL_H
#define TIDE_PG_INTERNAL_H

#include <stdbool.h>

#include "pg.h"

struct TidePg
{
	PGconn	   *conn;
	const TideStop *stop;		/* borrowed; may be NULL */
	char	   *where;			/* database, host and port, for messages */
	PGresult   *result;			/* of the statement under way */
	bool		pending;		/* started and not finished */
	bool		broken;			/* of no use any more, whatever libpq thinks */
};

/* Both return false.  Neither message ever holds a password. */
extern bool tide_pg_connect_error(PGconn *conn, TideError *err);
extern bool tide_pg_conninfo_error(const char *libpq_message, TideError *err);

#endif							/* TIDE_PG_INTERNAL_H */
