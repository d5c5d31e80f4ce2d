/*
 * gauges.c
 *		See gauges.h.  Every family is a row of a table here and a part of the query.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "gauges.h"
#include "mem.h"
#include "queries.h"

#define N_ELEMENTS(a) (sizeof(a) / sizeof((a)[0]))

struct TideGauges
{
	pthread_mutex_t lock;
	PGresult *last; /* NULL: none */
};

/* region: what the query's column of that name is called as a label. */
static const struct
{
	const char *name;
	const char *help;
	const char *type;
	const char *region;
} families[] = {
	{"class_lag_seconds", "How late rows of a class from a region are, by heartbeats.", "gauge",
	 "region"},
	{"class_held", "1 while a class from a region is held back for more important ones.", "gauge",
	 "region"},
	{"class_objective_seconds", "How late rows of a class may be: its slo.", "gauge", "region"},
	{"class_slo_met_share", "Share of the last day's heartbeats that met the class's slo.", "gauge",
	 "region"},
	{"class_residency_overdue_seconds",
	 "How long rows of a class that may not be here have waited to go; 0: none are known.", "gauge",
	 "region"},
	{"sync_waits_total", "Commits that waited for another region.", "counter", "peer"},
	{"sync_wait_seconds_total", "How long they did, in all.", "counter", "peer"},
	{"sync_waits_ended_total",
	 "Waits that ended without the other region's answer: the commit stands, perhaps here alone.",
	 "counter", "peer"},
	{"sync_waiting", "Commits of this database that wait now.", "gauge", "peer"},
	{"sync_peer_listed",
	 "1 if the server waits for that region; if not, writes of the class are refused.", "gauge",
	 "peer"},
	{"sync_peer_connected", "1 if that region's relay streams from here.", "gauge", "peer"},
	{"wal_retained_bytes", "WAL that a slot for another region keeps here.", "gauge", "region"},
	{"wal_seconds_to_full",
	 "Time until the disk is full or the slot lost, if what it keeps goes on growing as it does.",
	 "gauge", "region"},
	{"wal_slot_lost", "1 if the slot has lost WAL that it needs.", "gauge", "region"},
	{"wal_free_bytes", "Free room on the disk that the WAL is on.", "gauge", "region"},
	{"oldest_transaction_seconds", "How long the oldest open transaction here has been open.",
	 "gauge", "region"},
};

/* Columns of the query. */
enum
{
	FAMILY,
	REGION,
	CLASS,
	SLOT,
	VALUE
};

TideGauges *
tide_gauges_new(void)
{
	TideGauges *gauges = tide_zalloc(sizeof(*gauges));

	pthread_mutex_init(&gauges->lock, NULL);
	return gauges;
}

void
tide_gauges_free(TideGauges *gauges)
{
	if (gauges == NULL)
		return;
	PQclear(gauges->last);
	pthread_mutex_destroy(&gauges->lock);
	free(gauges);
}

static void
replace(TideGauges *gauges, PGresult *res)
{
	pthread_mutex_lock(&gauges->lock);
	PQclear(gauges->last);
	gauges->last = res;
	pthread_mutex_unlock(&gauges->lock);
}

bool
tide_gauges_read(TideGauges *gauges, TidePg *pg, TideError *err)
{
	PGresult *res;

	if (!tide_pg_exec(pg, tide_q_gauges, 0, NULL, &res, err))
		return false;
	replace(gauges, res);
	return true;
}

void
tide_gauges_forget(TideGauges *gauges)
{
	replace(gauges, NULL);
}

/* Names of regions, classes and slots: letters, digits, "_" and "-"; several have ", " between them. */
static void
write_sample(FILE *out, const PGresult *res, int row, const char *region)
{
	const char *const labels[] = {[REGION] = region, [CLASS] = "class", [SLOT] = "slot"};
	const char *between = "{";

	fprintf(out, "pg_tide_%s", PQgetvalue(res, row, FAMILY));
	for (int col = REGION; col <= SLOT; col++)
	{
		if (PQgetisnull(res, row, col))
			continue;
		fprintf(out, "%s%s=\"%s\"", between, labels[col], PQgetvalue(res, row, col));
		between = ",";
	}
	fprintf(out, "%s %s\n", *between == ',' ? "}" : "", PQgetvalue(res, row, VALUE));
}

void
tide_gauges_write(TideGauges *gauges, FILE *out)
{
	pthread_mutex_lock(&gauges->lock);
	for (size_t f = 0; f < N_ELEMENTS(families); f++)
	{
		fprintf(out, "# HELP pg_tide_%s %s\n# TYPE pg_tide_%s %s\n", families[f].name,
				families[f].help, families[f].name, families[f].type);
		for (int row = 0; gauges->last != NULL && row < PQntuples(gauges->last); row++)
		{
			if (strcmp(PQgetvalue(gauges->last, row, FAMILY), families[f].name) == 0)
				write_sample(out, gauges->last, row, families[f].region);
		}
	}
	pthread_mutex_unlock(&gauges->lock);
}
