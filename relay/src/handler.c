/*
 * handler.c
 *		A pipeline of direction "handler": running an inbox's handler function.
 *
 * Owns: calling tide.inbox_run_handler whenever there may be something to do.
 * Does not own: claiming, order, one transaction per event, back-off; all that
 * happens inside the database (extension/sql/50_handler.sql).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mem.h"
#include "pipeline_internal.h"
#include "queries.h"

#define EVENTS_PER_CALL "50" /* how many events until drains and new settings are looked at */
#define WAIT_MS "400"		 /* also how soon an event whose back-off ended is noticed */
#define WAIT_SLICE_MS 50
#define FIRST_POLL_MS 5
#define MAX_POLL_MS 250

/* What one call to the handler left behind. */
typedef struct HandlerRound
{
	bool more;			 /* something can be done right now */
	char generation[24]; /* "" when the server can't wake us */
} HandlerRound;

static bool
call_handler(TidePipeline *pipeline, TidePg *pg, HandlerRound *round, TideError *err)
{
	char epoch[24];
	const char *values[4] = {pipeline->spec.target, pipeline->spec.name, epoch, EVENTS_PER_CALL};
	PGresult *res;
	const char *generation;
	uint64_t done;

	snprintf(epoch, sizeof(epoch), "%lld", (long long) pipeline->spec.epoch);
	if (!tide_pg_exec(pg, tide_q_inbox_run_handler, 4, values, &res, err))
		return false;
	done = (uint64_t) tide_pg_int64(res, 0, 0);
	tide_count(pipeline->spec.metrics, TIDE_EVENTS_READ,
			   done + (uint64_t) tide_pg_int64(res, 0, 1));
	tide_count(pipeline->spec.metrics, TIDE_EVENTS_DELIVERED, done);
	tide_count(pipeline->spec.metrics, TIDE_EVENTS_FAILED, (uint64_t) tide_pg_int64(res, 0, 1));
	if (done > 0)
		tide_gauge(pipeline->spec.metrics, TIDE_G_LAST_DELIVERY_US, tide_wall_us());
	round->more = strcmp(PQgetvalue(res, 0, 2), "t") == 0;
	generation = tide_pg_value(res, 0, 3);
	snprintf(round->generation, sizeof(round->generation), "%s", generation ? generation : "");
	PQclear(res);
	return true;
}

/* Sleeps until something arrives in the inbox, a back-off may have ended, or a drain. */
static bool
wait_for_work(TidePipeline *pipeline, TidePg *pg, const HandlerRound *round, int *poll_ms,
			  TideError *err)
{
	const char *values[4] = {"inbox", pipeline->spec.target, round->generation, WAIT_MS};

	if (round->generation[0] == '\0')
	{
		(void) tide_stop_sleep(pipeline->drain, *poll_ms);
		*poll_ms = *poll_ms * 2 < MAX_POLL_MS ? *poll_ms * 2 : MAX_POLL_MS;
		return true;
	}
	if (!tide_pg_start(pg, tide_q_wake_wait, 4, values, NULL, NULL, err))
		return false;
	while (!tide_pg_finish(pg, WAIT_SLICE_MS, NULL, err))
	{
		if (err->class != TIDE_ERR_TIMEOUT)
			return false;
		tide_error_clear(err);
		if (tide_stop_requested(pipeline->drain))
			return true; /* the connection is closed next, which ends the wait */
	}
	return true;
}

static bool
serve(TidePipeline *pipeline, TidePg *pg, TideError *err)
{
	int poll_ms = FIRST_POLL_MS;

	while (!tide_stop_requested(pipeline->drain))
	{
		HandlerRound round;

		if (!call_handler(pipeline, pg, &round, err))
			return false;
		pipeline->progressed = true;
		if (round.more)
			poll_ms = FIRST_POLL_MS;
		else if (!wait_for_work(pipeline, pg, &round, &poll_ms, err))
			return false;
	}
	return true;
}

bool
tide_handler_run(TidePipeline *pipeline, TideError *err)
{
	TidePg *pg = NULL;
	bool ok;

	if (!tide_pg_open(pipeline->env->conninfo, pipeline->spec.name, pipeline->abort, &pg, err))
		return false;
	ok = tide_pg_prepare(pg, tide_q_inbox_run_handler, err) &&
		 tide_pg_prepare(pg, tide_q_wake_wait, err);
	if (ok)
	{
		tide_pipeline_opened(pipeline);
		ok = serve(pipeline, pg, err);
	}
	tide_pg_close(pg);
	return ok;
}
