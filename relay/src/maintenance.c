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

struct TideMaintenance
{
	const char *conninfo;
	TideStop *stop;
	pthread_t thread;
};

static bool
maintain_until_stopped(TideMaintenance *maintenance, TideError *err)
{
	TidePg *pg;
	bool ok;

	if (!tide_pg_open(maintenance->conninfo, "maintenance", maintenance->stop, &pg, err))
		return false;
	do
		ok = tide_pg_exec(pg, tide_q_maintain, 0, NULL, NULL, err);
	while (ok && tide_stop_sleep(maintenance->stop, INTERVAL_MS));
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
tide_maintenance_start(const char *conninfo)
{
	TideMaintenance *maintenance = tide_zalloc(sizeof(*maintenance));

	maintenance->conninfo = conninfo;
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
