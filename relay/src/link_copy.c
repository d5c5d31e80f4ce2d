/*
 * link_copy.c
 *		A link's first copy: a snapshot at the origin, tables copied from it in parallel.
 *
 * Owns: the snapshot (a temporary slot exports one at an exact LSN), the
 * threads, sharing the tables out, progress to be seen.  Does not own: one
 * table's way (link_copy_table.c).
 *
 * A table that is refused (its shape differs, a privilege is missing) keeps
 * nobody else: it is told of, left alone for a while, and tried again.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "link_copy.h"
#include "log.h"
#include "mem.h"
#include "queries.h"
#include "secret.h"

#define MAX_WORKERS 32
#define LOOK_MS 100	   /* how soon a request to stop is passed on */
#define REPORT_MS 1000 /* between two reports of progress */
#define TABLE_TRIES 3  /* when our database is in a deadlock with somebody */
#define TABLE_PAUSE_MS 500

/*
 * Transactions that are open at the origin are waited for before a snapshot
 * can be had.  The first time there is nothing else to do; later the stream
 * stands still meanwhile, so it is tried again another time.
 */
#define SNAPSHOT_WAIT_MS 5000

typedef struct Copy Copy;

typedef struct Worker
{
	Copy *copy;
	pthread_t thread;
	TideCopier copier;
	const TideTable *table; /* being copied; under the copy's lock */
} Worker;

struct Copy
{
	TideLink *link;
	TideWal *wal; /* keeps the snapshot */
	TideWalSlot slot;
	char *conninfo;
	TideStop *stop; /* for the workers */
	Worker workers[MAX_WORKERS];
	int n_workers;

	pthread_mutex_t lock; /* protects the rest */
	pthread_cond_t ended;
	const TideTableList *tables;
	size_t next;
	int running;
	size_t n_refused;
	TideError refusal; /* of one table */
	TideError error;   /* that ends it all */
};

/* ---- the snapshot ---- */

/* A name that no other link has. */
static void
name_slot(const TideLink *link, char *name, size_t size)
{
	snprintf(name, size, "tide_copy_%llx_%x", (unsigned long long) tide_wall_us(),
			 (unsigned) (uintptr_t) link & 0xffff);
}

static bool
get_snapshot(Copy *copy, TideError *err)
{
	TideLink *link = copy->link;
	bool first = strcmp(link->spec.phase, "streaming") != 0;
	char name[64];

	if (link->snapshot_wal != NULL)
	{
		copy->wal = link->snapshot_wal;
		copy->slot = link->snapshot;
		link->snapshot_wal = NULL;
		return true;
	}
	name_slot(link, name, sizeof(name));
	if (!tide_link_open_wal(link, &copy->wal, err))
		return false;
	return tide_wal_create_slot(copy->wal, name, true, first ? -1 : SNAPSHOT_WAIT_MS, &copy->slot,
								err) ||
		   tide_link_at_origin(link, err);
}

/* Later than the first time nothing waits for a snapshot for long: the tables do, the stream goes on. */
static bool
put_off(Copy *copy, TideError *err)
{
	TideLink *link = copy->link;

	if (err->class != TIDE_ERR_TIMEOUT || strcmp(link->spec.phase, "streaming") != 0)
		return false;
	for (size_t i = 0; i < copy->tables->n; i++)
		tide_link_refuse(link, &copy->tables->tables[i]);
	tide_error(err, TIDE_ERR_TIMEOUT, "",
			   "region \"%s\": %zu table(s) can't be copied while transactions there stay open",
			   link->spec.region, copy->tables->n);
	tide_error_hint(err, "see pg_stat_activity and pg_prepared_xacts there; it is tried again");
	tide_log_error(TIDE_LOG_WARN, err, "the tables are left out for now");
	tide_pipeline_note_error(link->pipeline, err);
	tide_error_clear(err);
	return true;
}

/* ---- a worker ---- */

static const TideTable *
take_table(Worker *worker)
{
	Copy *copy = worker->copy;

	pthread_mutex_lock(&copy->lock);
	worker->table = copy->next < copy->tables->n && copy->error.class == TIDE_ERR_NONE
						? &copy->tables->tables[copy->next++]
						: NULL;
	pthread_mutex_unlock(&copy->lock);
	return worker->table;
}

/* The table's own fault, or something that every table would meet? */
static bool
is_refusal(const TideError *err)
{
	if (strcmp(err->code, "TD012") == 0 || err->code[0] == '\0')
		return false;
	return err->class == TIDE_ERR_DATA || err->class == TIDE_ERR_CONFIG ||
		   err->class == TIDE_ERR_PERMISSION || err->class == TIDE_ERR_THROTTLED;
}

static void
note_failure(Worker *worker, const TideTable *table, const TideError *err)
{
	Copy *copy = worker->copy;

	pthread_mutex_lock(&copy->lock);
	if (is_refusal(err))
	{
		tide_link_refuse(copy->link, table);
		copy->n_refused++;
		copy->refusal = *err;
		tide_error(&copy->refusal, err->class, err->code, "table %s.%s can't be copied: %s",
				   table->schema, table->name, err->message);
		tide_error_hint(&copy->refusal, "%s", err->hint);
		tide_log_error(TIDE_LOG_ERROR, &copy->refusal, "the table is left out for now");
	}
	else if (copy->error.class == TIDE_ERR_NONE)
		copy->error = *err;
	pthread_mutex_unlock(&copy->lock);
}

/* Deadlocks; and somebody was faster to store a row where there was none: then rows are merged. */
static bool
may_pass(const TideError *err)
{
	return err->class == TIDE_ERR_THROTTLED || strcmp(err->code, "23505") == 0;
}

static void
copy_one(Worker *worker, const TideTable *table)
{
	TideError err = {0};

	tide_log(TIDE_LOG_INFO, "copying table %s.%s (about %lld rows)", table->schema, table->name,
			 (long long) table->rows_estimate);
	for (int n = 1;; n++)
	{
		tide_error_clear(&err);
		if (tide_copy_table(&worker->copier, table, &err))
		{
			tide_log(TIDE_LOG_INFO, "table %s.%s is copied: %lld rows, %lld bytes", table->schema,
					 table->name, (long long) atomic_load(&worker->copier.rows),
					 (long long) atomic_load(&worker->copier.bytes));
			return;
		}
		if (!may_pass(&err) || n == TABLE_TRIES ||
			!tide_stop_sleep(worker->copy->stop, TABLE_PAUSE_MS))
			break;
	}
	note_failure(worker, table, &err);
}

static void *
worker_thread(void *arg)
{
	Worker *worker = arg;
	Copy *copy = worker->copy;
	const TideTable *table;

	tide_log_set_pipeline(copy->link->pipeline->spec.name);
	while ((table = take_table(worker)) != NULL)
		copy_one(worker, table);
	tide_copier_close(&worker->copier);
	pthread_mutex_lock(&copy->lock);
	copy->running--;
	pthread_cond_signal(&copy->ended);
	pthread_mutex_unlock(&copy->lock);
	return NULL;
}

static void
start_workers(Copy *copy)
{
	long long wanted = tide_link_option(copy->link, "copy_workers");

	if (wanted < 1)
		wanted = 1;
	if (wanted > MAX_WORKERS)
		wanted = MAX_WORKERS;
	if (wanted > (long long) copy->tables->n)
		wanted = (long long) copy->tables->n;
	for (int i = 0; i < (int) wanted; i++)
	{
		Worker *worker = &copy->workers[i];

		worker->copy = copy;
		worker->copier.link = copy->link;
		worker->copier.stop = copy->stop;
		worker->copier.conninfo = copy->conninfo;
		worker->copier.snapshot = copy->slot.snapshot;
		worker->copier.position = copy->slot.position;
		pthread_mutex_lock(&copy->lock);
		copy->running++;
		pthread_mutex_unlock(&copy->lock);
		if (pthread_create(&worker->thread, NULL, worker_thread, worker) != 0)
		{
			pthread_mutex_lock(&copy->lock);
			copy->running--;
			tide_error(&copy->error, TIDE_ERR_UNAVAILABLE, "EAGAIN",
					   "could not start a thread for copying");
			pthread_mutex_unlock(&copy->lock);
			break;
		}
		copy->n_workers++;
	}
}

/* ---- watching ---- */

static bool
report(Copy *copy, const TideTable *table, int64_t rows, int64_t bytes, TideError *err)
{
	char rows_done[24];
	char bytes_done[24];
	char rows_total[24];
	const char *values[7] = {NULL,		NULL,		table->schema, table->name,
							 rows_done, bytes_done, rows_total};

	snprintf(rows_done, sizeof(rows_done), "%lld", (long long) rows);
	snprintf(bytes_done, sizeof(bytes_done), "%lld", (long long) bytes);
	snprintf(rows_total, sizeof(rows_total), "%lld", (long long) table->rows_estimate);
	return tide_link_exec(copy->link, copy->link->reports, tide_q_relay_link_copying, 7, values,
						  NULL, err);
}

static bool
report_all(Copy *copy, TideError *err)
{
	for (int i = 0; i < copy->n_workers; i++)
	{
		Worker *worker = &copy->workers[i];
		const TideTable *table;

		pthread_mutex_lock(&copy->lock);
		table = worker->table;
		pthread_mutex_unlock(&copy->lock);
		if (table != NULL && !report(copy, table, atomic_load(&worker->copier.rows),
									 atomic_load(&worker->copier.bytes), err))
			return false;
	}
	return true;
}

/* Waits a moment; false once no worker is left. */
static bool
wait_a_moment(Copy *copy)
{
	struct timespec until;
	bool running;
	size_t waiting;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += LOOK_MS * 1000000L;
	until.tv_sec += until.tv_nsec / 1000000000L;
	until.tv_nsec %= 1000000000L;
	pthread_mutex_lock(&copy->lock);
	if (copy->running > 0)
		(void) pthread_cond_timedwait(&copy->ended, &copy->lock, &until);
	running = copy->running > 0;
	waiting = copy->tables->n - copy->next + (size_t) copy->running;
	if (copy->error.class != TIDE_ERR_NONE)
		tide_stop_request(copy->stop);
	pthread_mutex_unlock(&copy->lock);
	tide_gauge(copy->link->pipeline->spec.metrics, TIDE_G_COPY_TABLES, (int64_t) waiting);
	return running;
}

static void
watch(Copy *copy)
{
	long long report_at = tide_monotonic_ms() + REPORT_MS;

	while (wait_a_moment(copy))
	{
		TideError err = {0};

		if (tide_stop_requested(copy->link->pipeline->drain))
			tide_stop_request(copy->stop);
		if (tide_monotonic_ms() < report_at)
			continue;
		report_at = tide_monotonic_ms() + REPORT_MS;
		/* A report that has to wait for somebody is not worth it. */
		if (report_all(copy, &err) || err.class == TIDE_ERR_THROTTLED)
			continue;
		pthread_mutex_lock(&copy->lock);
		copy->error = err;
		pthread_mutex_unlock(&copy->lock);
	}
	for (int i = 0; i < copy->n_workers; i++)
		pthread_join(copy->workers[i].thread, NULL);
}

/* ---- all of it ---- */

/* The largest first, so that no worker is left alone with one at the end. */
static int
by_size(const void *a, const void *b)
{
	const TideTable *x = a;
	const TideTable *y = b;

	return (x->bytes < y->bytes) - (x->bytes > y->bytes);
}

static bool
conclude(Copy *copy, TideError *err)
{
	TidePipeline *pipeline = copy->link->pipeline;

	if (tide_stop_requested(pipeline->drain))
		return tide_error(err, TIDE_ERR_STOPPED, "", "asked to stop while copying");
	if (copy->error.class != TIDE_ERR_NONE)
	{
		*err = copy->error;
		return false;
	}
	if (copy->n_refused < copy->tables->n)
		pipeline->progressed = true;
	if (copy->n_refused > 0)
		tide_pipeline_note_error(pipeline, &copy->refusal);
	return true;
}

static bool
run_copy(Copy *copy, TideError *err)
{
	TideLink *link = copy->link;
	char lsn[TIDE_LSN_TEXT];

	tide_pipeline_opened(link->pipeline);
	if (!get_snapshot(copy, err))
		return put_off(copy, err);
	tide_lsn_format(copy->slot.position, lsn);
	tide_log(TIDE_LOG_INFO, "copying %zu tables of region \"%s\" as of %s", copy->tables->n,
			 link->spec.region, lsn);
	copy->conninfo = tide_link_conninfo(link, err);
	if (copy->conninfo == NULL || !tide_link_phase(link, "copying", err) ||
		!tide_pg_exec(link->reports, tide_q_copy_reports_session, 0, NULL, NULL, err))
		return false;
	start_workers(copy);
	watch(copy);
	return conclude(copy, err);
}

bool
tide_link_copy(TideLink *link, TideTableList *tables, TideError *err)
{
	Copy *copy = tide_zalloc(sizeof(*copy));
	bool ok = false;

	copy->link = link;
	copy->tables = tables;
	copy->stop = tide_stop_new();
	pthread_mutex_init(&copy->lock, NULL);
	pthread_cond_init(&copy->ended, NULL);
	qsort(tables->tables, tables->n, sizeof(TideTable), by_size);
	if (copy->stop == NULL)
		tide_error(err, TIDE_ERR_UNAVAILABLE, "EMFILE", "no file descriptor is left");
	else
		ok = run_copy(copy, err);
	tide_wal_close(copy->wal);
	tide_secret_free(copy->conninfo);
	tide_stop_free(copy->stop);
	pthread_cond_destroy(&copy->ended);
	pthread_mutex_destroy(&copy->lock);
	free(copy);
	return ok;
}
