/*
 * pg.c
 *		libpq with stop requests, time limits and the relay's error type.
 *
 * Every wait is a poll on the connection's socket and the stop request's
 * eventfd.  What libpq 15 still does without asking: name resolution while
 * connecting, and (before libpq 17) PQcancel.  Both are bounded: the resolver
 * by resolv.conf, PQcancel by the connection's tcp_user_timeout.
 *
 * Errors are in pg_error.c, binary arrays in pg_array.c.
 */
#include "pg.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "mem.h"
#include "pg_internal.h"
#include "queries.h"

#define DEFAULT_CONNECT_TIMEOUT_MS 5000
#define TCP_USER_TIMEOUT_MS 10000

/* How long a cancelled statement may take to end before the connection is given up. */
#define CANCEL_WAIT_MS 2000

/* Settings that suit a daemon.  Anything the user says, in whatever way libpq knows, wins. */
static const struct
{
	const char *keyword;
	const char *value;
} daemon_defaults[] = {
	{"keepalives_idle", "5"},
	{"keepalives_interval", "2"},
	{"keepalives_count", "3"},
	{"tcp_user_timeout", "10000"},
};

#define N_DAEMON_DEFAULTS (sizeof(daemon_defaults) / sizeof(daemon_defaults[0]))

static void
notice_to_log(void *arg, const char *message)
{
	(void) arg;
	tide_log(TIDE_LOG_DEBUG, "server notice: %.*s", (int) strcspn(message, "\n"), message);
}

/* libpq's own rule for what is a connection string and what a database's name. */
static bool
is_conninfo(const char *text)
{
	return strncmp(text, "postgresql://", 13) == 0 || strncmp(text, "postgres://", 11) == 0 ||
		   strchr(text, '=') != NULL;
}

/*
 * Checks the string before libpq connects, because libpq's message about a
 * malformed one quotes it, password included.
 */
static bool
check_conninfo(const char *conninfo, bool *has_service, TideError *err)
{
	PQconninfoOption *options;
	char *message = NULL;

	*has_service = getenv("PGSERVICE") != NULL;
	if (!is_conninfo(conninfo))
		return true;
	options = PQconninfoParse(conninfo, &message);
	if (options == NULL)
	{
		tide_pg_conninfo_error(message, err);
		PQfreemem(message);
		return false;
	}
	for (PQconninfoOption *option = options; option->keyword != NULL; option++)
	{
		if (strcmp(option->keyword, "service") == 0 && option->val != NULL)
			*has_service = true;
	}
	PQconninfoFree(options);
	return true;
}

bool
tide_pg_check_conninfo(const char *conninfo, TideError *err)
{
	bool has_service;

	return check_conninfo(conninfo, &has_service, err);
}

/*
 * Later entries win over earlier ones, so what stands before dbname is a
 * default and what stands behind it is fixed.  A service file is read only for
 * what is still missing then: with one, our defaults stay away.
 */
static PGconn *
start_connection(const char *conninfo, const char *what, bool replication, bool has_service)
{
	const char *keywords[N_DAEMON_DEFAULTS + 5];
	const char *values[N_DAEMON_DEFAULTS + 5];
	char *name = tide_printf("pg_tide %s", what);
	size_t n = 0;
	PGconn *conn;

	for (size_t i = 0; i < N_DAEMON_DEFAULTS && !has_service; i++)
	{
		keywords[n] = daemon_defaults[i].keyword;
		values[n++] = daemon_defaults[i].value;
	}
	keywords[n] = "fallback_application_name";
	values[n++] = name;
	keywords[n] = "dbname";
	values[n++] = conninfo;
	keywords[n] = "client_encoding"; /* everything the relay handles is UTF-8 */
	values[n++] = "UTF8";
	if (replication)
	{
		keywords[n] = "replication";
		values[n++] = "database";
	}
	keywords[n] = NULL;
	values[n] = NULL;

	conn = PQconnectStartParams(keywords, values, 1);
	free(name);
	if (conn == NULL)
		tide_out_of_memory(0);
	return conn;
}

/*
 * connect_timeout is libpq's only in its blocking calls, so it is kept here.
 * With several hosts, one that swallows packets is given up by the kernel
 * (tcp_user_timeout) and libpq then tries the next: there is time for all.
 */
static int
connect_limit_ms(PGconn *conn)
{
	PQconninfoOption *options = PQconninfo(conn);
	int limit = DEFAULT_CONNECT_TIMEOUT_MS;
	int n_hosts = 1;

	if (options == NULL)
		return limit;
	for (PQconninfoOption *option = options; option->keyword != NULL; option++)
	{
		if (option->val == NULL)
			continue;
		if (strcmp(option->keyword, "connect_timeout") == 0)
		{
			long seconds = strtol(option->val, NULL, 10);

			if (seconds > 0)
				limit = (int) (seconds > 3600 ? 3600 : seconds) * 1000;
		}
		else if (strcmp(option->keyword, "host") == 0 || strcmp(option->keyword, "hostaddr") == 0)
		{
			int commas = 0;

			for (const char *s = option->val; *s != '\0'; s++)
				commas += (*s == ',');
			if (commas + 1 > n_hosts)
				n_hosts = commas + 1;
		}
	}
	PQconninfoFree(options);
	if (n_hosts > 1 && limit < TCP_USER_TIMEOUT_MS)
		limit = TCP_USER_TIMEOUT_MS;
	return limit * n_hosts;
}

/*
 * Waits until the socket is ready, stop is requested or the deadline passes.
 * Returns true if it is worth looking at the socket again.
 */
bool
tide_pg_wait_socket(const TidePg *pg, short events, long long deadline, TideError *err)
{
	for (;;)
	{
		struct pollfd fds[2] = {
			{.fd = PQsocket(pg->conn), .events = events},
			{.fd = tide_stop_fd(pg->stop), .events = POLLIN},
		};
		long long left = deadline < 0 ? -1 : deadline - tide_monotonic_ms();
		int n;

		if (deadline >= 0 && left < 0)
			left = 0;
		n = poll(fds, 2, (int) left);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return tide_error(err, TIDE_ERR_INTERNAL, "", "poll: %s", strerror(errno));
		if (fds[0].revents != 0)
			return true;
		if (fds[1].revents != 0)
			return tide_error(err, TIDE_ERR_STOPPED, "", "asked to stop");
		if (n == 0)
			return tide_error(err, TIDE_ERR_TIMEOUT, "", "no answer within the time limit");
	}
}

static bool
poll_connection(TidePg *pg, TideError *err)
{
	int limit = connect_limit_ms(pg->conn);
	long long deadline = tide_monotonic_ms() + limit;
	PostgresPollingStatusType status = PGRES_POLLING_WRITING;

	if (PQstatus(pg->conn) == CONNECTION_BAD)
		return tide_pg_connect_error(pg->conn, err);
	while (status != PGRES_POLLING_OK)
	{
		short events = status == PGRES_POLLING_READING ? POLLIN : POLLOUT;

		if (!tide_pg_wait_socket(pg, events, deadline, err))
		{
			if (err != NULL && err->class == TIDE_ERR_TIMEOUT)
				tide_error(err, TIDE_ERR_TIMEOUT, "", "could not connect to %s within %d ms",
						   pg->where, limit);
			return false;
		}
		status = PQconnectPoll(pg->conn);
		if (status == PGRES_POLLING_FAILED)
			return tide_pg_connect_error(pg->conn, err);
	}
	return true;
}

static char *
describe_peer(PGconn *conn)
{
	const char *host = PQhost(conn);
	const char *port = PQport(conn);
	const char *database = PQdb(conn);

	return tide_printf("database \"%s\" at %s port %s", database != NULL ? database : "",
					   host != NULL && host[0] != '\0' ? host : "localhost",
					   port != NULL ? port : "");
}

static bool
open_connection(const char *conninfo, const char *what, bool replication, const TideStop *stop,
				TidePg **out, TideError *err)
{
	TidePg *pg;
	bool has_service;
	TideError local;

	if (err == NULL)
		err = &local;
	*out = NULL;
	if (conninfo == NULL)
		conninfo = "";
	if (!check_conninfo(conninfo, &has_service, err))
		return false;

	pg = tide_zalloc(sizeof(TidePg));
	pg->stop = stop;
	pg->conn = start_connection(conninfo, what, replication, has_service);
	pg->where = describe_peer(pg->conn);
	PQsetNoticeProcessor(pg->conn, notice_to_log, NULL);

	/* While connecting, libpq gives the SQLSTATE only inside a verbose message. */
	PQsetErrorVerbosity(pg->conn, PQERRORS_VERBOSE);
	if (!poll_connection(pg, err))
	{
		tide_pg_close(pg);
		return false;
	}
	PQsetErrorVerbosity(pg->conn, PQERRORS_DEFAULT);
	free(pg->where); /* of several hosts one has been chosen */
	pg->where = describe_peer(pg->conn);
	if (PQsetnonblocking(pg->conn, 1) != 0)
	{
		tide_pg_error(pg, NULL, err);
		tide_pg_close(pg);
		return false;
	}
	*out = pg;
	return true;
}

bool
tide_pg_open(const char *conninfo, const char *what, const TideStop *stop, TidePg **out,
			 TideError *err)
{
	if (!open_connection(conninfo, what, false, stop, out, err))
		return false;
	/* Whatever path the role or database has: nobody's operators come before the server's own. */
	if (tide_pg_exec(*out, tide_q_session, 0, NULL, NULL, err))
		return true;
	tide_pg_close(*out);
	*out = NULL;
	return false;
}

bool
tide_pg_open_replication(const char *conninfo, const char *what, const TideStop *stop, TidePg **out,
						 TideError *err)
{
	return open_connection(conninfo, what, true, stop, out, err);
}

void
tide_pg_close(TidePg *pg)
{
	if (pg == NULL)
		return;
	PQclear(pg->result);
	PQfreemem(pg->copied);
	PQfinish(pg->conn);
	free(pg->where);
	free(pg);
}

PGconn *
tide_pg_conn(TidePg *pg)
{
	return pg->conn;
}

int
tide_pg_pending(const TidePg *pg)
{
	return pg->pending;
}

bool
tide_pg_notified(TidePg *pg)
{
	struct pollfd fd = {.fd = PQsocket(pg->conn), .events = POLLIN};
	/* Not read here: it may be why the connection ends, which a statement can say and we can't. */
	bool notified = poll(&fd, 1, 0) > 0;
	PGnotify *notification;

	while ((notification = PQnotifies(pg->conn)) != NULL)
	{
		notified = true;
		PQfreemem(notification);
	}
	return notified;
}

/*
 * Sends what libpq has buffered, all of it: a statement's second half must not
 * lie here while its caller waits for something else.  The server reads while
 * we write, and what it says meanwhile is read too, so neither side can block
 * the other.
 */
static bool
flush_output(TidePg *pg, TideError *err)
{
	for (;;)
	{
		int left = PQflush(pg->conn);

		if (left == 0)
			return true;
		if (left < 0)
		{
			tide_pg_error(pg, NULL, err);
			return false;
		}
		if (!tide_pg_wait_socket(pg, POLLIN | POLLOUT, -1, err))
			return false;
		if (!PQconsumeInput(pg->conn))
		{
			tide_pg_error(pg, NULL, err);
			return false;
		}
	}
}

bool
tide_pg_push(TidePg *pg, TideError *err)
{
	int left = PQflush(pg->conn);

	pg->unsent = left > 0;
	if (left >= 0)
		return true;
	tide_pg_error(pg, NULL, err);
	pg->broken = true;
	return false;
}

short
tide_pg_poll_events(const TidePg *pg)
{
	return pg->unsent ? POLLIN | POLLOUT : POLLIN;
}

/* The number under which sql is prepared, or -1. */
static int
prepared_number(const TidePg *pg, const char *sql)
{
	for (int i = 0; i < pg->n_prepared; i++)
	{
		if (pg->prepared[i] == sql)
			return i;
	}
	return -1;
}

static bool
send_statement(TidePg *pg, const char *sql, int n_params, const char *const *values,
			   const int *lengths, const int *formats)
{
	int number = prepared_number(pg, sql);
	char name[16];

	if (number < 0)
		return PQsendQueryParams(pg->conn, sql, n_params, NULL, values, lengths, formats, 0) == 1;
	snprintf(name, sizeof(name), "tide_%d", number);
	return PQsendQueryPrepared(pg->conn, name, n_params, values, lengths, formats, 0) == 1;
}

/* Can something be said now? */
static bool
check_idle(const TidePg *pg, TideError *err)
{
	if (pg->broken)
		return tide_error(err, TIDE_ERR_UNAVAILABLE, "", "connection to %s is broken", pg->where);
	if (pg->pending > 0 && PQpipelineStatus(pg->conn) == PQ_PIPELINE_OFF)
		return tide_error(err, TIDE_ERR_INTERNAL, "", "a statement is already under way");
	return true;
}

/* Something was given to libpq, or not (said); sends all of it. */
static bool
begin_statement(TidePg *pg, bool said, TideError *err)
{
	if (!said)
	{
		tide_pg_error(pg, NULL, err);
		return false;
	}
	pg->pending++;
	if (!flush_output(pg, err))
	{
		/* Half a statement is in the socket: nothing else can be said on it. */
		pg->broken = true;
		return false;
	}
	return true;
}

bool
tide_pg_start(TidePg *pg, const char *sql, int n_params, const char *const *values,
			  const int *lengths, const int *formats, TideError *err)
{
	return check_idle(pg, err) &&
		   begin_statement(pg, send_statement(pg, sql, n_params, values, lengths, formats), err);
}

bool
tide_pg_send(TidePg *pg, const char *sql, int n_params, const char *const *values,
			 const int *lengths, const int *formats, TideError *err)
{
	if (!check_idle(pg, err))
		return false;
	if (!send_statement(pg, sql, n_params, values, lengths, formats))
	{
		tide_pg_error(pg, NULL, err);
		return false;
	}
	pg->pending++;
	return tide_pg_push(pg, err);
}

/*
 * Takes the results that are there.  Keeps the last one, or the first error.
 * Returns true when the statement is over.
 */
static bool
take_results(TidePg *pg)
{
	while (!PQisBusy(pg->conn))
	{
		PGresult *res = PQgetResult(pg->conn);

		if (res == NULL)
			return true;
		if (pg->result != NULL && PQresultStatus(pg->result) == PGRES_FATAL_ERROR)
			PQclear(res);
		else
		{
			PQclear(pg->result);
			pg->result = res;
		}
	}
	return false;
}

/* Waits for the end of the statement; see tide_pg_wait_socket for the ways this can fail. */
static bool
wait_results(TidePg *pg, long long deadline, TideError *err)
{
	for (;;)
	{
		if (pg->unsent && !tide_pg_push(pg, err))
			return false;
		if (!PQconsumeInput(pg->conn))
		{
			tide_pg_error(pg, NULL, err);
			pg->broken = true;
			return false;
		}
		if (take_results(pg))
			return true;
		/* What goes on taking a bit more of a long statement must not keep those who can't wait. */
		if (pg->unsent && deadline >= 0 && tide_monotonic_ms() >= deadline)
			return tide_error(err, TIDE_ERR_TIMEOUT, "", "no answer within the time limit");
		if (!tide_pg_wait_socket(pg, tide_pg_poll_events(pg), deadline, err))
			return false;
	}
}

#ifdef LIBPQ_HAS_ASYNC_CANCEL
static void
send_cancel(TidePg *pg)
{
	PGcancelConn *cancel = PQcancelCreate(pg->conn);
	long long deadline = tide_monotonic_ms() + CANCEL_WAIT_MS;
	PostgresPollingStatusType status = PGRES_POLLING_WRITING;

	if (cancel == NULL || !PQcancelStart(cancel))
		status = PGRES_POLLING_FAILED;
	while (status == PGRES_POLLING_READING || status == PGRES_POLLING_WRITING)
	{
		struct pollfd pfd = {
			.fd = PQcancelSocket(cancel),
			.events = status == PGRES_POLLING_READING ? POLLIN : POLLOUT,
		};
		long long left = deadline - tide_monotonic_ms();

		if (left <= 0 || poll(&pfd, 1, (int) left) == 0)
			break;
		status = PQcancelPoll(cancel);
	}
	PQcancelFinish(cancel);
}
#else
static void
send_cancel(TidePg *pg)
{
	PGcancel *cancel = PQgetCancel(pg->conn);
	char message[256];

	if (cancel == NULL)
		return;
	if (!PQcancel(cancel, message, sizeof(message)))
		tide_log(TIDE_LOG_DEBUG, "could not cancel a statement: %s", message);
	PQfreeCancel(cancel);
}
#endif

void
tide_pg_cancel(TidePg *pg)
{
	const TideStop *stop = pg->stop;
	TideError ignored;

	if (pg->pending == 0)
		return;
	send_cancel(pg);
	if (PQpipelineStatus(pg->conn) != PQ_PIPELINE_OFF)
	{
		pg->broken = true; /* more may be on its way */
		return;
	}
	pg->stop = NULL; /* may be requested already: it would end the wait at once */
	if (wait_results(pg, tide_monotonic_ms() + CANCEL_WAIT_MS, &ignored))
		pg->pending = 0;
	else
		pg->broken = true;
	pg->stop = stop;
	PQclear(pg->result);
	pg->result = NULL;
}

/* Hands the finished statement's result to the caller, or its error. */
static bool
deliver_result(TidePg *pg, PGresult **res, TideError *err)
{
	PGresult *result = pg->result;
	ExecStatusType status = PQresultStatus(result); /* a fatal error if there is none */

	pg->result = NULL;
	pg->pending--;
	if (status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK || status == PGRES_EMPTY_QUERY ||
		status == PGRES_PIPELINE_SYNC)
	{
		if (res != NULL)
			*res = result;
		else
			PQclear(result);
		return true;
	}
	tide_pg_error(pg, result, err);
	PQclear(result);
	if (PQstatus(pg->conn) == CONNECTION_BAD)
		pg->broken = true;
	return false;
}

bool
tide_pg_finish(TidePg *pg, int timeout_ms, PGresult **res, TideError *err)
{
	long long deadline = timeout_ms < 0 ? -1 : tide_monotonic_ms() + timeout_ms;
	TideError local;

	if (err == NULL)
		err = &local;
	if (res != NULL)
		*res = NULL;
	if (pg->broken)
		return tide_error(err, TIDE_ERR_UNAVAILABLE, "", "connection to %s is broken", pg->where);
	if (pg->pending == 0)
		return tide_error(err, TIDE_ERR_INTERNAL, "", "no statement is under way");

	if (wait_results(pg, deadline, err))
		return deliver_result(pg, res, err);
	if (err->class == TIDE_ERR_STOPPED)
	{
		tide_pg_cancel(pg);
		tide_error(err, TIDE_ERR_STOPPED, "", "asked to stop while a statement was running");
	}
	return false;
}

bool
tide_pg_pipeline_begin(TidePg *pg, TideError *err)
{
	if (!check_idle(pg, err))
		return false;
	if (PQenterPipelineMode(pg->conn) == 1)
		return true;
	tide_pg_error(pg, NULL, err);
	return false;
}

bool
tide_pg_pipeline_start(TidePg *pg, const char *sql, int n_params, const char *const *values,
					   const int *lengths, const int *formats, TideError *err)
{
	return check_idle(pg, err) &&
		   begin_statement(pg,
						   send_statement(pg, sql, n_params, values, lengths, formats) &&
							   PQsendFlushRequest(pg->conn) == 1,
						   err);
}

bool
tide_pg_pipeline_end(TidePg *pg, TideError *err)
{
	if (!check_idle(pg, err) || !begin_statement(pg, PQpipelineSync(pg->conn) == 1, err) ||
		!tide_pg_finish(pg, -1, NULL, err))
		return false;
	if (PQexitPipelineMode(pg->conn) == 1)
		return true;
	tide_pg_error(pg, NULL, err);
	pg->broken = true;
	return false;
}

bool
tide_pg_exec(TidePg *pg, const char *sql, int n_params, const char *const *values, PGresult **res,
			 TideError *err)
{
	if (res != NULL)
		*res = NULL;
	return tide_pg_start(pg, sql, n_params, values, NULL, NULL, err) &&
		   tide_pg_finish(pg, -1, res, err);
}

bool
tide_pg_command(TidePg *pg, const char *sql, int timeout_ms, PGresult **res, TideError *err)
{
	if (res != NULL)
		*res = NULL;
	return check_idle(pg, err) && begin_statement(pg, PQsendQuery(pg->conn, sql) == 1, err) &&
		   tide_pg_finish(pg, timeout_ms, res, err);
}

bool
tide_pg_prepare(TidePg *pg, const char *sql, TideError *err)
{
	char name[16];

	if (prepared_number(pg, sql) >= 0)
		return true;
	if (pg->n_prepared == TIDE_PG_MAX_PREPARED || pg->broken || pg->pending)
		return tide_error(err, TIDE_ERR_INTERNAL, "", "a statement can't be prepared now");
	snprintf(name, sizeof(name), "tide_%d", pg->n_prepared);
	if (!begin_statement(pg, PQsendPrepare(pg->conn, name, sql, 0, NULL) == 1, err) ||
		!tide_pg_finish(pg, -1, NULL, err))
		return false;
	pg->prepared[pg->n_prepared++] = sql;
	return true;
}

const char *
tide_pg_value(const PGresult *res, int row, int col)
{
	return PQgetisnull(res, row, col) ? NULL : PQgetvalue(res, row, col);
}

int64_t
tide_pg_int64(const PGresult *res, int row, int col)
{
	return PQgetisnull(res, row, col) ? 0 : (int64_t) strtoll(PQgetvalue(res, row, col), NULL, 10);
}

uint64_t
tide_pg_lsn(const PGresult *res, int row, int col)
{
	return tide_lsn_parse(tide_pg_value(res, row, col));
}

bool
tide_pg_bool(const PGresult *res, int row, int col)
{
	return strcmp(PQgetvalue(res, row, col), "t") == 0;
}

void
tide_lsn_format(uint64_t lsn, char text[TIDE_LSN_TEXT])
{
	snprintf(text, TIDE_LSN_TEXT, "%X/%X", (unsigned) (lsn >> 32), (unsigned) lsn);
}

uint64_t
tide_lsn_parse(const char *text)
{
	char *end;
	uint64_t high;
	uint64_t low;

	if (text == NULL)
		return 0;
	high = strtoull(text, &end, 16);
	if (end == text || *end != '/' || high > UINT32_MAX)
		return 0;
	text = end + 1;
	low = strtoull(text, &end, 16);
	return end == text || *end != '\0' || low > UINT32_MAX ? 0 : high << 32 | low;
}
