/*
 * pg_copy.c
 *		Copying out of a server: COPY ... TO STDOUT, and a walsender's stream.
 *
 * Apart from pg.c because libpq answers differently while a copy runs: its
 * results never end then (PQgetResult says COPY_OUT again and again), and data
 * comes by PQgetCopyData.
 */
#include <poll.h>
#include <string.h>

#include "pg_internal.h"

/*
 * How often the socket is read before "nothing here" is believed.  A TLS record
 * can be larger than what libpq takes at once, and what TLS has buffered no
 * poll() announces.
 */
#define READS_TLS 3

static bool
lost(TidePg *pg, TideError *err)
{
	tide_pg_error(pg, NULL, err);
	pg->broken = true;
	return false;
}

/* Waits for the statement's first result. */
static bool
first_result(TidePg *pg, PGresult **res, TideError *err)
{
	for (;;)
	{
		if (!PQconsumeInput(pg->conn))
			return lost(pg, err);
		if (!PQisBusy(pg->conn))
		{
			*res = PQgetResult(pg->conn);
			return true;
		}
		if (!tide_pg_wait_socket(pg, POLLIN, -1, err))
		{
			pg->broken = true; /* the statement may have begun: nothing else can be said */
			return false;
		}
	}
}

bool
tide_pg_copy_start(TidePg *pg, const char *sql, TideError *err)
{
	PGresult *res;
	ExecStatusType status;

	if (pg->broken || pg->pending)
		return tide_error(err, TIDE_ERR_INTERNAL, "", "a copy can't begin on %s now", pg->where);
	if (!PQsendQuery(pg->conn, sql) || !tide_pg_push(pg, err))
		return lost(pg, err);
	while (pg->unsent)
	{
		if (!tide_pg_wait_socket(pg, POLLOUT, -1, err) || !tide_pg_push(pg, err))
		{
			pg->broken = true;
			return false;
		}
	}
	if (!first_result(pg, &res, err))
		return false;
	status = PQresultStatus(res);
	if (status == PGRES_COPY_OUT || status == PGRES_COPY_BOTH)
	{
		PQclear(res);
		pg->pending = 1;
		return true;
	}
	tide_pg_error(pg, res, err);
	PQclear(res);
	/* What follows an error is the end of the statement. */
	if (first_result(pg, &res, NULL) && res != NULL)
	{
		PQclear(res);
		pg->broken = true;
	}
	return false;
}

/* No more data: the statement's end, or why it ended. */
static bool
end_copy(TidePg *pg, TideError *err)
{
	bool ok = true;
	PGresult *res;

	pg->pending = 0;
	do
	{
		if (!first_result(pg, &res, err))
			return false;
		if (res == NULL)
			break;
		switch (PQresultStatus(res))
		{
			case PGRES_COMMAND_OK:
			case PGRES_TUPLES_OK:
				break;
			case PGRES_COPY_IN: /* a stream ended by the server: our side of it is of no use */
			case PGRES_COPY_BOTH:
				pg->broken = true;
				PQclear(res);
				return true;
			default:
				if (ok)
					tide_pg_error(pg, res, err);
				ok = false;
		}
		PQclear(res);
	}
	while (true);
	return ok;
}

void
tide_pg_copy_release(TidePg *pg)
{
	PQfreemem(pg->copied);
	pg->copied = NULL;
}

bool
tide_pg_copy_next(TidePg *pg, TideCopyStep *step, const char **data, size_t *len, TideError *err)
{
	int reads = PQsslInUse(pg->conn) ? READS_TLS : 1;
	int n;

	tide_pg_copy_release(pg);
	*data = NULL;
	*len = 0;
	while ((n = PQgetCopyData(pg->conn, &pg->copied, 1)) == 0)
	{
		if (reads-- == 0)
		{
			*step = TIDE_COPY_WAIT;
			return true;
		}
		if (!PQconsumeInput(pg->conn))
			return lost(pg, err);
	}
	if (n > 0)
	{
		*step = TIDE_COPY_DATA;
		*data = pg->copied;
		*len = (size_t) n;
		return true;
	}
	*step = TIDE_COPY_END;
	return n == -1 ? end_copy(pg, err) : lost(pg, err);
}

bool
tide_pg_copy_wait(TidePg *pg, TideError *err)
{
	return tide_pg_wait_socket(pg, POLLIN, -1, err);
}

bool
tide_pg_copy_put(TidePg *pg, const char *data, size_t len, TideError *err)
{
	if (pg->broken)
		return tide_error(err, TIDE_ERR_UNAVAILABLE, "", "connection to %s is broken", pg->where);
	if (PQputCopyData(pg->conn, data, (int) len) < 0)
		return lost(pg, err);
	return tide_pg_push(pg, err);
}
