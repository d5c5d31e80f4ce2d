/*
 * pg.h
 *		libpq with stop requests, time limits and the relay's error type.
 *
 * Owns: connecting, sending a statement and waiting for its result without
 * ever blocking past a stop request.  Does not own: what the statements mean.
 * One connection belongs to one thread.
 */
#ifndef TIDE_PG_H
#define TIDE_PG_H

#include <libpq-fe.h>
#include <stdint.h>

#include "error.h"
#include "stop.h"

typedef struct TidePg TidePg;

/* false if it is malformed, which no waiting mends; tide_pg_open() checks it, too. */
extern bool tide_pg_check_conninfo(const char *conninfo, TideError *err);

/*
 * Connects.  conninfo is any libpq string or URI; what it leaves open comes
 * from defaults that suit a daemon (keepalives, tcp_user_timeout,
 * application_name = "pg_tide " || what).  stop may be NULL.
 */
extern bool tide_pg_open(const char *conninfo, const char *what, const TideStop *stop, TidePg **pg,
						 TideError *err);
/*
 * The same as a walsender: replication commands, and statements by
 * tide_pg_command.  Everything else here needs a connection of the first kind.
 */
extern bool tide_pg_open_replication(const char *conninfo, const char *what, const TideStop *stop,
									 TidePg **pg, TideError *err);
extern void tide_pg_close(TidePg *pg);
extern PGconn *tide_pg_conn(TidePg *pg);

/*
 * By the simple protocol: no parameters, sql may be a command of a walsender.
 * timeout_ms as for tide_pg_finish.
 */
extern bool
tide_pg_command(TidePg *pg, const char *sql, int timeout_ms, PGresult **res, TideError *err);

/* Text parameters and results.  *res is the caller's to PQclear; may be NULL if not wanted. */
extern bool tide_pg_exec(TidePg *pg, const char *sql, int n_params, const char *const *values,
						 PGresult **res, TideError *err);

/*
 * The two halves of tide_pg_exec.  lengths/formats may be NULL (text).
 * tide_pg_finish with timeout_ms >= 0: false with TIDE_ERR_TIMEOUT if nothing
 * came; the statement goes on and finish may be called again.  On a stop
 * request the statement is cancelled and TIDE_ERR_STOPPED returned.
 * A connection that broke answers TIDE_ERR_UNAVAILABLE from then on: close it.
 */
extern bool tide_pg_start(TidePg *pg, const char *sql, int n_params, const char *const *values,
						  const int *lengths, const int *formats, TideError *err);
extern bool tide_pg_finish(TidePg *pg, int timeout_ms, PGresult **res, TideError *err);
extern int tide_pg_pending(const TidePg *pg); /* started and not finished: how many */

/*
 * Has a notification come since this was last asked, or is there something that the next statement
 * will read, as the end of the connection?  Waits for nothing, and may be true once too often.
 */
extern bool tide_pg_notified(TidePg *pg);

/*
 * A pipeline: statements are started while others are under way, so the server never waits for
 * us; each is finished in its turn by tide_pg_finish.  After an error the rest fails, too, and the
 * connection is to be closed.  To be used inside a transaction.
 */
extern bool tide_pg_pipeline_begin(TidePg *pg, TideError *err);
extern bool
tide_pg_pipeline_start(TidePg *pg, const char *sql, int n_params, const char *const *values,
					   const int *lengths, const int *formats, TideError *err);
extern bool tide_pg_pipeline_end(TidePg *pg, TideError *err); /* all are finished */

/*
 * Ends the statement under way, whatever its outcome.  If the server ends it
 * soon the connection stays usable; otherwise it is broken.
 */
extern void tide_pg_cancel(TidePg *pg);

/*
 * As tide_pg_start, but returns before all is on its way; tide_pg_finish sends
 * the rest.  tide_pg_poll_events: what to poll PQsocket for meanwhile.
 */
extern bool tide_pg_send(TidePg *pg, const char *sql, int n_params, const char *const *values,
						 const int *lengths, const int *formats, TideError *err);
extern short tide_pg_poll_events(const TidePg *pg);

/*
 * Copying out of the server: COPY ... TO STDOUT, or a walsender's stream, by
 * the simple protocol.  start waits until it begins, next never waits.  data is
 * what the server sent as one message (a row, for COPY), until the next call.
 */
typedef enum TideCopyStep
{
	TIDE_COPY_DATA,
	TIDE_COPY_WAIT, /* nothing more here now: poll, or tide_pg_copy_wait */
	TIDE_COPY_END
} TideCopyStep;

extern bool tide_pg_copy_start(TidePg *pg, const char *sql, TideError *err);
extern bool
tide_pg_copy_next(TidePg *pg, TideCopyStep *step, const char **data, size_t *len, TideError *err);
/* Frees what the last one gave, before the next does. */
extern void tide_pg_copy_release(TidePg *pg);
extern bool tide_pg_copy_wait(TidePg *pg, TideError *err);
/* Into a walsender's stream; never waits. */
extern bool tide_pg_copy_put(TidePg *pg, const char *data, size_t len, TideError *err);

/*
 * From now on this connection parses and plans the statement no more.  For the
 * few that run for every batch; sql is recognised by its address, a second time does nothing.
 */
extern bool tide_pg_prepare(TidePg *pg, const char *sql, TideError *err);

/* Fills err from a failed result or connection: class from SQLSTATE, message, hint. */
extern void tide_pg_error(TidePg *pg, const PGresult *res, TideError *err);

/* Convenience for results: NULL for SQL NULL. */
extern const char *tide_pg_value(const PGresult *res, int row, int col);
extern int64_t tide_pg_int64(const PGresult *res, int row, int col); /* 0 for NULL */
extern uint64_t tide_pg_lsn(const PGresult *res, int row, int col);	 /* 0 for NULL */
extern bool tide_pg_bool(const PGresult *res, int row, int col);	 /* false for NULL */

/* LSNs as text, "16/B374D848"; parse answers 0 for what is none. */
#define TIDE_LSN_TEXT 20
extern void tide_lsn_format(uint64_t lsn, char text[TIDE_LSN_TEXT]);
extern uint64_t tide_lsn_parse(const char *text);

/*
 * Builds a one-dimensional array in PostgreSQL's binary format, for use as a
 * binary parameter: no quoting, any bytes.  Types: text[], jsonb[], int8[].
 */
typedef struct TideArray TideArray;
typedef enum TideArrayType
{
	TIDE_ARRAY_TEXT,
	TIDE_ARRAY_JSONB,
	TIDE_ARRAY_INT8
} TideArrayType;

extern TideArray *tide_array_new(TideArrayType type, size_t expected);
extern void tide_array_free(TideArray *array);
extern void tide_array_reset(TideArray *array);
extern void
tide_array_add(TideArray *array, const char *data, size_t len); /* data NULL: SQL NULL */
extern void tide_array_add_int8(TideArray *array, int64_t value);
extern const char *tide_array_data(TideArray *array, int *len); /* completes the header */

#endif /* TIDE_PG_H */
