/*
 * sync_metrics.c
 *		See sync_metrics.h.  One series a class; a region without synchronous classes has none.
 */
#include "sync_metrics.h"

#include <pthread.h>
#include <stdlib.h>

#include "mem.h"
#include "queries.h"

#define N_ELEMENTS(a) (sizeof(a) / sizeof((a)[0]))

/* Columns of the statement, behind class and peer. */
static const struct
{
	const char *name;
	const char *type;
	const char *help;
} families[] = {
	{"sync_waits_total", "counter", "Commits that waited for another region."},
	{"sync_wait_seconds_total", "counter", "How long they did, in all."},
	{"sync_waits_ended_total", "counter",
	 "Waits that ended without the other region's answer: the commit stands, and may be here alone."},
	{"sync_waiting", "gauge", "Commits of this database that wait now."},
	{"sync_peer_listed", "gauge",
	 "1 if the server waits for that region; if not, writes of the class are refused."},
	{"sync_peer_connected", "gauge", "1 if that region's relay streams from here."},
};

struct TideSyncMetrics
{
	pthread_mutex_t lock;
	PGresult *last;
};

TideSyncMetrics *
tide_sync_metrics_new(void)
{
	TideSyncMetrics *metrics = tide_zalloc(sizeof(*metrics));

	(void) pthread_mutex_init(&metrics->lock, NULL);
	return metrics;
}

void
tide_sync_metrics_free(TideSyncMetrics *metrics)
{
	if (metrics == NULL)
		return;
	PQclear(metrics->last);
	(void) pthread_mutex_destroy(&metrics->lock);
	free(metrics);
}

bool
tide_sync_metrics_read(TideSyncMetrics *metrics, TidePg *pg, TideError *err)
{
	PGresult *res;

	if (!tide_pg_exec(pg, tide_q_sync_metrics, 0, NULL, &res, err))
		return false;
	pthread_mutex_lock(&metrics->lock);
	PQclear(metrics->last);
	metrics->last = res;
	pthread_mutex_unlock(&metrics->lock);
	return true;
}

/* Names of classes and regions have nothing in them that a label would have to escape. */
void
tide_sync_metrics_write(TideSyncMetrics *metrics, FILE *out)
{
	int rows;

	pthread_mutex_lock(&metrics->lock);
	rows = metrics->last != NULL ? PQntuples(metrics->last) : 0;
	for (size_t f = 0; f < N_ELEMENTS(families) && rows > 0; f++)
	{
		fprintf(out, "# HELP pg_tide_%s %s\n# TYPE pg_tide_%s %s\n", families[f].name,
				families[f].help, families[f].name, families[f].type);
		for (int row = 0; row < rows; row++)
			fprintf(out, "pg_tide_%s{class=\"%s\",peer=\"%s\"} %s\n", families[f].name,
					PQgetvalue(metrics->last, row, 0), PQgetvalue(metrics->last, row, 1),
					PQgetvalue(metrics->last, row, (int) f + 2));
	}
	pthread_mutex_unlock(&metrics->lock);
}
