/*
 * maintenance.c
 *		See maintenance.h.  What is to be done is decided in the database.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "maintenance.h"
#include "mem.h"
#include "pg.h"
#include "queries.h"

#define INTERVAL_MS 2000
#define MAX_PAUSE_MS 30000

struct TideMaintenance
{
	const char *conninfo;
	TideGauges *gauges;
	TideLagReport report;
	void *arg;
	TideStop *stop;
	pthread_t thread;
};

static bool
report_lags(TideMaintenance *maintenance, TidePg *pg, TideError *err)
{
	PGresult *res;

	if (!tide_pg_exec(pg, tide_q_lags, 0, NULL, &res, err))
		return false;
	for (int row = 0; row < PQntuples(res); row++)
		maintenance->report(maintenance->arg, PQgetvalue(res, row, 0), tide_pg_int64(res, row, 1));
	PQclear(res);
	return true;
}

/* Looking for the oldest of a million undelivered events takes its time: a tenth of ours at most. */
static int
pause_after(long long took_ms)
{
	if (took_ms * 9 < INTERVAL_MS)
		return INTERVAL_MS;
	return took_ms * 9 < MAX_PAUSE_MS ? (int) took_ms * 9 : MAX_PAUSE_MS;
}

static bool
maintain_until_stopped(TideMaintenance *maintenance, TideError *err)
{
	TidePg *pg;
	long long took;
	bool ok;

	if (!tide_pg_open(maintenance->conninfo, "maintenance", maintenance->stop, &pg, err))
		return false;
	ok = tide_pg_exec(pg, tide_q_own_session, 0, NULL, NULL, err);
	while (ok)
	{
		long long start = tide_monotonic_ms();

		ok = tide_pg_exec(pg, tide_q_maintain, 0, NULL, NULL, err) &&
			 report_lags(maintenance, pg, err) &&
			 tide_pg_exec(pg, tide_q_relay_residency, 0, NULL, NULL, err) &&
			 tide_gauges_read(maintenance->gauges, pg, err);
		took = tide_monotonic_ms() - start;
		if (!ok || !tide_stop_sleep(maintenance->stop, pause_after(took)))
			break;
	}
	tide_gauges_forget(maintenance->gauges);
	tide_pg_close(pg);
	return ok;
}

static void *
maintenance_thread(void *arg)
{
	TideMaintenance *maintenance = arg;
	char last[sizeof(((TideError *) 0)->message)] = "";

	while (!tide_stop_requested(maintenance->stop))
	{
		TideError err = {0};

		if (!maintain_until_stopped(maintenance, &err) && err.class != TIDE_ERR_STOPPED)
		{
			/* The same trouble is told once. */
			tide_log_error(strcmp(last, err.message) == 0 ? TIDE_LOG_DEBUG : TIDE_LOG_WARN, &err,
						   "clean-up did not run");
			memcpy(last, err.message, sizeof(last));
			(void) tide_stop_sleep(maintenance->stop, INTERVAL_MS);
		}
	}
	return NULL;
}

TideMaintenance *
tide_maintenance_start(const char *conninfo, TideGauges *gauges, TideLagReport report, void *arg)
{
	TideMaintenance *maintenance = tide_zalloc(sizeof(*maintenance));

	maintenance->conninfo = conninfo;
	maintenance->gauges = gauges;
	maintenance->report = report;
	maintenance->arg = arg;
	maintenance->stop = tide_stop_new();
	if (pthread_create(&maintenance->thread, NULL, maintenance_thread, maintenance) == 0)
		return maintenance;
	tide_log(TIDE_LOG_ERROR, "could not start the maintenance thread");
	tide_stop_free(maintenance->stop);
	free(maintenance);
	return NULL;
}

void
tide_maintenance_stop(TideMaintenance *maintenance)
{
	if (maintenance == NULL)
		return;
	tide_stop_request(maintenance->stop);
	pthread_join(maintenance->thread, NULL);
	tide_stop_free(maintenance->stop);
	free(maintenance);
}
