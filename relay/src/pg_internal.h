/*
 * pg_internal.h
 *		What pg.c and pg_error.c share; nobody else includes it.
 */
#ifndef TIDE_PG_INTERNAL_H
#define TIDE_PG_INTERNAL_H

#include <stdbool.h>

#include "pg.h"

/* Statements one connection can have prepared. */
#define TIDE_PG_MAX_PREPARED 4

struct TidePg
{
	PGconn *conn;
	const TideStop *stop; /* borrowed; may be NULL */
	char *where;		  /* database, host and port, for messages */
	PGresult *result;	  /* of the statement under way */
	int pending;		  /* started and not finished: one, in a pipeline several */
	bool unsent;		  /* libpq still holds a part of what was said */
	char *copied;		  /* the message tide_pg_copy_next gave out last */
	bool broken;		  /* of no use any more, whatever libpq thinks */
	const char *prepared[TIDE_PG_MAX_PREPARED]; /* statement i is prepared as "tide_i" */
	int n_prepared;
};

/* A wait on the connection; see pg.c.  deadline < 0: none. */
extern bool tide_pg_wait_socket(const TidePg *pg, short events, long long deadline, TideError *err);

/* Sends what libpq holds as far as the socket takes it; a failure breaks the connection. */
extern bool tide_pg_push(TidePg *pg, TideError *err);

/* Both return false.  Neither message ever holds a password. */
extern bool tide_pg_connect_error(PGconn *conn, TideError *err);
extern bool tide_pg_conninfo_error(const char *libpq_message, TideError *err);

#endif /* TIDE_PG_INTERNAL_H */
