/*
 * coordinator.c
 *		Which pipelines run here: leases, configuration, starting and draining.
 *
 * Owns: one connection to the home database that holds the advisory lock of
 * every pipeline this relay runs, the list of them, and their counters, which never go
 * back while the relay lives.  Every POLL_MS, and when it is told of a change, it asks for all
 * pipelines; the question is also its sign of life.  Does not own: what happens inside a pipeline.
 *
 * A lock whose session has been silent for EVICT_MS belongs to a relay that is
 * stopped, hung or cut off: its session is ended and the pipeline taken over
 * under a higher epoch.  The other relay, should it wake up, finds its lease
 * stale (pipeline.h) before it sends anything, and its epoch refused.
 *
 * Losing the connection loses all locks, so every pipeline stops at once.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator.h"
#include "gauges.h"
#include "log.h"
#include "maintenance.h"
#include "mem.h"
#include "metrics.h"
#include "pg.h"
#include "pipeline.h"
#include "queries.h"

#define POLL_MS 200
#define LOOK_MS 25			/* within that, what we are told of is seen */
#define EVICT_MS 1500		/* tide.relay_evict() checks the same */
#define EVICTED_WAIT_MS 300 /* how long an ended session may take to let go of its locks */
#define RECONNECT_FIRST_MS 100
#define RECONNECT_MAX_MS 2000
#define START_PAUSE_MS 500
#define START_PAUSE_MOST_MS 10000
#define LIVE_MS 10000
#define DRAIN_POLL_MS 20

/* What the database says of one pipeline. */
typedef struct Row
{
	int id;
	const char *name;
	const char *direction;
	const char *target;
	json_t *config;
	bool enabled;
	int64_t version;
	const char *holder_pid; /* NULL: nobody holds it */
	long long holder_idle_ms;
} Row;

/* One pipeline as this relay knows it. */
typedef struct Slot
{
	int id;
	char *name;
	char *direction;
	int64_t epoch;			/* 0: not ours */
	TidePipeline *pipeline; /* NULL: not running here */
	bool enabled;
	bool seen; /* in the latest answer */
	bool draining;
	int start_pause_ms;	   /* after a start that failed; 0: none did */
	long long start_after; /* not before that */
	TideMetrics metrics;   /* counted on by each pipeline that runs here */
	struct Slot *next;
} Slot;

struct TideCoordinator
{
	const TideCoordinatorOptions *opts;
	TideStop *stop;	 /* asked to stop */
	TideStop *abort; /* given up waiting */
	atomic_bool reload;
	TidePg *pg;
	int backend_pid;
	char *region;
	TidePipelineEnv env;
	_Atomic long long heartbeat_ms;
	_Atomic long long turned_ms;
	atomic_bool connected;
	TideMaintenance *maintenance;
	TideGauges *gauges;
	pthread_mutex_t lock; /* protects the list against the HTTP threads */
	Slot *slots;
};

/* ---- life ---- */

TideCoordinator *
tide_coordinator_new(const TideCoordinatorOptions *opts, TideError *err)
{
	TideCoordinator *coord = tide_zalloc(sizeof(*coord));

	coord->opts = opts;
	coord->gauges = tide_gauges_new();
	coord->stop = tide_stop_new();
	coord->abort = tide_stop_new();
	coord->turned_ms = tide_monotonic_ms();
	pthread_mutex_init(&coord->lock, NULL);
	if (coord->stop != NULL && coord->abort != NULL)
		return coord;
	tide_coordinator_free(coord);
	tide_error(err, TIDE_ERR_UNAVAILABLE, "EMFILE",
			   "no file descriptor is left for the coordinator");
	return NULL;
}

/* Waits for its end if it runs; the caller holds the lock. */
static void
forget_pipeline(Slot *slot)
{
	tide_pipeline_free(slot->pipeline);
	slot->pipeline = NULL;
	slot->epoch = 0;
}

static void
free_slot(Slot *slot)
{
	tide_pipeline_free(slot->pipeline);
	free(slot->name);
	free(slot->direction);
	free(slot);
}

void
tide_coordinator_free(TideCoordinator *coord)
{
	if (coord == NULL)
		return;
	tide_maintenance_stop(coord->maintenance); /* it reports into the slots */
	while (coord->slots != NULL)
	{
		Slot *slot = coord->slots;

		coord->slots = slot->next;
		free_slot(slot);
	}
	tide_gauges_free(coord->gauges);
	tide_pg_close(coord->pg);
	tide_stop_free(coord->stop);
	tide_stop_free(coord->abort);
	pthread_mutex_destroy(&coord->lock);
	free(coord->region);
	free(coord);
}

void
tide_coordinator_stop(TideCoordinator *coord)
{
	tide_stop_request(coord->stop);
}

void
tide_coordinator_reload(TideCoordinator *coord)
{
	atomic_store(&coord->reload, true);
}

/* ---- the home connection ---- */

static bool
read_region(TideCoordinator *coord, TideError *err)
{
	PGresult *res;

	if (!tide_pg_exec(coord->pg, tide_q_relay_region, 0, NULL, &res, err))
		return false;
	free(coord->region);
	coord->region = tide_strdup(PQgetvalue(res, 0, 0));
	PQclear(res);
	return true;
}

static bool
connect_home(TideCoordinator *coord, TideError *err)
{
	TideError ignored;

	if (!tide_pg_open(coord->opts->conninfo, coord->opts->relay_name, coord->abort, &coord->pg,
					  err))
		return false;
	if (!tide_pg_exec(coord->pg, tide_q_own_session, 0, NULL, NULL, err) ||
		!read_region(coord, err))
	{
		tide_pg_close(coord->pg);
		coord->pg = NULL;
		return false;
	}
	/* A hint: without it (in a standby, say) changes are seen a moment later. */
	(void) tide_pg_exec(coord->pg, tide_q_relay_listen, 0, NULL, NULL, &ignored);
	coord->backend_pid = PQbackendPID(tide_pg_conn(coord->pg));
	coord->env.conninfo = coord->opts->conninfo;
	coord->env.region = coord->region;
	coord->env.heartbeat_ms = &coord->heartbeat_ms;
	atomic_store(&coord->heartbeat_ms, tide_monotonic_ms());
	atomic_store(&coord->connected, true);
	tide_log(TIDE_LOG_INFO, "connected to the home database; region \"%s\"", coord->region);
	return true;
}

static bool
stop_slots(TideCoordinator *coord, bool at_once)
{
	bool all_done = true;

	for (Slot *slot = coord->slots; slot != NULL; slot = slot->next)
	{
		if (slot->pipeline == NULL)
			continue;
		if (at_once)
			tide_pipeline_abort(slot->pipeline);
		else
			tide_pipeline_drain(slot->pipeline);
		all_done = all_done && tide_pipeline_finished(slot->pipeline);
	}
	return all_done;
}

static void
drop_pipelines(TideCoordinator *coord)
{
	stop_slots(coord, true);
	pthread_mutex_lock(&coord->lock);
	for (Slot *slot = coord->slots; slot != NULL; slot = slot->next)
		forget_pipeline(slot);
	pthread_mutex_unlock(&coord->lock);
}

/* The connection is gone and all our locks with it. */
static void
disconnect_home(TideCoordinator *coord)
{
	atomic_store(&coord->connected, false);
	atomic_store(&coord->heartbeat_ms, 0);
	drop_pipelines(coord);
	tide_pg_close(coord->pg);
	coord->pg = NULL;
}

/* ---- one pipeline ---- */

static Slot *
find_slot(TideCoordinator *coord, const Row *row)
{
	Slot *slot = coord->slots;

	/* After a failover or a restore the same number may be another pipeline. */
	while (slot != NULL && (slot->id != row->id || strcmp(slot->name, row->name) != 0))
		slot = slot->next;
	if (slot == NULL)
	{
		slot = tide_zalloc(sizeof(*slot));
		slot->id = row->id;
		slot->name = tide_strdup(row->name);
		slot->direction = tide_strdup(row->direction);
		pthread_mutex_lock(&coord->lock);
		slot->next = coord->slots;
		coord->slots = slot;
		pthread_mutex_unlock(&coord->lock);
	}
	return slot;
}

static bool
release(TideCoordinator *coord, Slot *slot, TideError *err)
{
	const char *values[1] = {slot->name};

	if (slot->epoch == 0)
		return true;
	slot->epoch = 0;
	return tide_pg_exec(coord->pg, tide_q_relay_release, 1, values, NULL, err);
}

/* Tries to become the owner; no success is no error. */
static bool
acquire(TideCoordinator *coord, Slot *slot, TideError *err)
{
	const char *values[2] = {slot->name, coord->opts->relay_name};
	PGresult *res;

	if (!tide_pg_exec(coord->pg, tide_q_relay_acquire, 2, values, &res, err))
		return false;
	slot->epoch = tide_pg_int64(res, 0, 0);
	PQclear(res);
	return true;
}

/* Ends the session of an owner that has been silent for too long. */
static bool
evict(TideCoordinator *coord, const Row *row, TideError *err)
{
	const char *values[2] = {row->name, row->holder_pid};

	tide_log(TIDE_LOG_WARN, "the owner of pipeline \"%s\" has been silent for %lld ms; taking over",
			 row->name, row->holder_idle_ms);
	return tide_pg_exec(coord->pg, tide_q_relay_evict, 2, values, NULL, err);
}

static bool
start_pipeline(TideCoordinator *coord, Slot *slot, const Row *row, TideError *err)
{
	TidePipelineSpec spec = {row->name,	   row->direction, row->target,	  row->config,
							 row->version, slot->epoch,	   &slot->metrics};
	TidePipeline *pipeline = tide_pipeline_start(&spec, &coord->env, err);

	if (pipeline == NULL)
		return false;
	pthread_mutex_lock(&coord->lock);
	slot->pipeline = pipeline;
	slot->draining = false;
	pthread_mutex_unlock(&coord->lock);
	return true;
}

/*
 * No thread, no descriptor: that may last.  It is said where people look, another relay may have a try,
 * and this one has it after a growing pause.
 */
static void
could_not_start(TideCoordinator *coord, Slot *slot, const TideError *why)
{
	TideError ignored;
	char epoch[24];
	const char *values[5] = {slot->name, epoch, tide_pipeline_state_name(TIDE_RETRYING),
							 why->code[0] ? why->code : tide_error_class_name(why->class),
							 why->message};

	slot->start_pause_ms = slot->start_pause_ms == 0 ? START_PAUSE_MS : slot->start_pause_ms * 2;
	if (slot->start_pause_ms > START_PAUSE_MOST_MS)
		slot->start_pause_ms = START_PAUSE_MOST_MS;
	slot->start_after = tide_monotonic_ms() + slot->start_pause_ms;
	snprintf(epoch, sizeof(epoch), "%lld", (long long) slot->epoch);
	if (tide_pg_exec(coord->pg, tide_q_relay_set_state, 5, values, NULL, &ignored))
		(void) release(coord, slot, &ignored);
}

/* Becomes the owner as soon as the ended session has let go; another relay may be faster. */
static bool
acquire_evicted(TideCoordinator *coord, Slot *slot, TideError *err)
{
	long long end = tide_monotonic_ms() + EVICTED_WAIT_MS;

	do
	{
		if (!acquire(coord, slot, err))
			return false;
	}
	while (slot->epoch == 0 && tide_monotonic_ms() < end && tide_stop_sleep(coord->stop, 20));
	return true;
}

/* Takes a pipeline that should run and is nobody's, or whose owner is silent. */
static bool
claim(TideCoordinator *coord, Slot *slot, const Row *row, TideError *err)
{
	bool held = row->holder_pid != NULL && strtoll(row->holder_pid, NULL, 10) != coord->backend_pid;
	bool silent = held && row->holder_idle_ms > EVICT_MS;

	if (held && !silent)
		return true;
	if (silent ? !evict(coord, row, err) || !acquire_evicted(coord, slot, err)
			   : !acquire(coord, slot, err))
		return false;
	if (slot->epoch == 0)
		return true;
	if (!start_pipeline(coord, slot, row, err))
	{
		could_not_start(coord, slot, err);
		return false;
	}
	slot->start_pause_ms = 0;
	return true;
}

static bool
write_news(TideCoordinator *coord, Slot *slot, TideError *err)
{
	TidePipelineState state;
	TideError error;
	char epoch[24];
	const char *values[5] = {slot->name, epoch, NULL, NULL, NULL};

	if (!tide_pipeline_news(slot->pipeline, &state, &error))
		return true;
	snprintf(epoch, sizeof(epoch), "%lld", (long long) slot->epoch);
	values[2] = tide_pipeline_state_name(state);
	if (error.class != TIDE_ERR_NONE)
	{
		values[3] = error.code[0] ? error.code : tide_error_class_name(error.class);
		values[4] = error.message;
	}
	if (tide_pg_exec(coord->pg, tide_q_relay_set_state, 5, values, NULL, err))
		return true;
	/* The pipeline was changed under us: it ends, or has ended, and nobody asks for its state. */
	return err->class == TIDE_ERR_STALE;
}

static bool
reap(TideCoordinator *coord, Slot *slot, TideError *err)
{
	TidePipeline *pipeline = slot->pipeline;

	if (!write_news(coord, slot, err))
		return false;
	pthread_mutex_lock(&coord->lock);
	slot->pipeline = NULL;
	pthread_mutex_unlock(&coord->lock);
	tide_pipeline_free(pipeline);
	return release(coord, slot, err);
}

static bool
should_run(const Slot *slot, const Row *row)
{
	return row->enabled &&
		   (slot->pipeline == NULL || tide_pipeline_spec(slot->pipeline)->version == row->version);
}

/* Brings one pipeline a step closer to what the database wants. */
static bool
reconcile(TideCoordinator *coord, Slot *slot, const Row *row, TideError *err)
{
	if (slot->pipeline != NULL && tide_pipeline_finished(slot->pipeline) && !reap(coord, slot, err))
		return false;
	if (slot->pipeline == NULL)
		return !row->enabled || tide_monotonic_ms() < slot->start_after ||
			   claim(coord, slot, row, err);
	if (!should_run(slot, row) && !slot->draining)
	{
		tide_log(TIDE_LOG_INFO, "pipeline \"%s\" was %s", row->name,
				 row->enabled ? "changed" : "disabled");
		slot->draining = true;
		tide_pipeline_drain(slot->pipeline);
	}
	return write_news(coord, slot, err);
}

/* ---- one turn ---- */

static void
read_row(const PGresult *res, int i, Row *row)
{
	row->id = (int) tide_pg_int64(res, i, 0);
	row->name = PQgetvalue(res, i, 1);
	row->direction = PQgetvalue(res, i, 2);
	row->target = PQgetvalue(res, i, 3);
	row->config = json_loads(PQgetisnull(res, i, 4) ? "{}" : PQgetvalue(res, i, 4), 0, NULL);
	row->enabled = strcmp(PQgetvalue(res, i, 5), "t") == 0;
	row->version = tide_pg_int64(res, i, 6);
	row->holder_pid = tide_pg_value(res, i, 8);
	row->holder_idle_ms = tide_pg_int64(res, i, 9);
}

/* One pipeline's trouble must not keep the others: only a lost connection ends the turn. */
static bool
reconcile_rows(TideCoordinator *coord, const PGresult *res, TideError *err)
{
	bool ok = true;

	for (int i = 0; ok && i < PQntuples(res); i++)
	{
		Row row;
		Slot *slot;

		read_row(res, i, &row);
		slot = find_slot(coord, &row);
		slot->seen = true;
		slot->enabled = row.enabled;
		if (!reconcile(coord, slot, &row, err))
		{
			ok = PQstatus(tide_pg_conn(coord->pg)) == CONNECTION_OK;
			if (ok)
				tide_log_error(TIDE_LOG_ERROR, err, "pipeline \"%s\" could not be looked after",
							   row.name);
		}
		json_decref(row.config);
	}
	return ok;
}

/* Pipelines that were deleted: drain, then forget. */
static bool
drop_deleted(TideCoordinator *coord)
{
	Slot **link = &coord->slots;

	while (*link != NULL)
	{
		Slot *slot = *link;

		if (slot->seen)
		{
			link = &slot->next;
			continue;
		}
		if (slot->pipeline != NULL && !tide_pipeline_finished(slot->pipeline))
		{
			tide_pipeline_drain(slot->pipeline);
			link = &slot->next;
			continue;
		}
		pthread_mutex_lock(&coord->lock);
		*link = slot->next;
		pthread_mutex_unlock(&coord->lock);
		free_slot(slot);
	}
	return true;
}

static bool
turn(TideCoordinator *coord, TideError *err)
{
	long long before = tide_monotonic_ms();
	PGresult *res;
	bool ok;

	if (!tide_pg_exec(coord->pg, tide_q_relay_poll, 0, NULL, &res, err))
		return false;
	atomic_store(&coord->heartbeat_ms, before);
	atomic_store(&coord->turned_ms, before);
	for (Slot *slot = coord->slots; slot != NULL; slot = slot->next)
		slot->seen = false;
	ok = reconcile_rows(coord, res, err) && drop_deleted(coord);
	PQclear(res);
	return ok;
}

/* ---- the loop ---- */

static void
pause_between_turns(TideCoordinator *coord)
{
	for (int slept = 0; slept < POLL_MS; slept += LOOK_MS)
	{
		if (!tide_stop_sleep(coord->stop, LOOK_MS) || atomic_exchange(&coord->reload, false) ||
			tide_pg_notified(coord->pg))
			return;
	}
}

/* Waits for the database with growing pauses; false only if nobody but a person can help. */
static bool
serve(TideCoordinator *coord, TideError *err)
{
	int pause = RECONNECT_FIRST_MS;
	char told[sizeof(err->message)] = "";

	while (!tide_stop_requested(coord->stop))
	{
		tide_error_clear(err);
		atomic_store(&coord->turned_ms, tide_monotonic_ms());
		if (coord->pg == NULL && !connect_home(coord, err))
		{
			/* The same trouble is told once. */
			tide_log_error(strcmp(told, err->message) == 0 ? TIDE_LOG_DEBUG : TIDE_LOG_WARN, err,
						   "the home database can't be used; trying again");
			memcpy(told, err->message, sizeof(told));
			(void) tide_stop_sleep(coord->stop, pause);
			pause = pause * 2 < RECONNECT_MAX_MS ? pause * 2 : RECONNECT_MAX_MS;
			continue;
		}
		pause = RECONNECT_FIRST_MS;
		told[0] = '\0';
		if (turn(coord, err))
		{
			pause_between_turns(coord);
			continue;
		}
		tide_log_error(TIDE_LOG_WARN, err,
					   "lost the home database; all pipelines stop until it is back");
		disconnect_home(coord);
	}
	tide_error_clear(err);
	return true;
}

/* Everything in flight is brought to an end while our leases are kept fresh. */
static bool
drain(TideCoordinator *coord, TideError *err)
{
	long long end = tide_monotonic_ms() + coord->opts->drain_timeout_ms;

	while (!stop_slots(coord, false))
	{
		TideError ignored = {0};

		if (tide_monotonic_ms() > end)
		{
			drop_pipelines(coord);
			return tide_error(
				err, TIDE_ERR_TIMEOUT, "",
				"not everything in flight was finished within %d ms; it comes again after a restart",
				coord->opts->drain_timeout_ms);
		}
		if (coord->pg != NULL &&
			tide_pg_exec(coord->pg, tide_q_relay_alive, 0, NULL, NULL, &ignored))
			atomic_store(&coord->heartbeat_ms, tide_monotonic_ms());
		(void) tide_stop_sleep(coord->abort, DRAIN_POLL_MS);
	}
	return true;
}

static void
say_goodbye(TideCoordinator *coord)
{
	TideError ignored;

	for (Slot *slot = coord->slots; slot != NULL && coord->pg != NULL; slot = slot->next)
	{
		if (slot->pipeline != NULL && !reap(coord, slot, &ignored))
			break;
	}
}

/* From the maintenance thread. */
static void
take_lag(void *arg, const char *pipeline, int64_t lag_us)
{
	TideCoordinator *coord = arg;

	pthread_mutex_lock(&coord->lock);
	for (Slot *slot = coord->slots; slot != NULL; slot = slot->next)
	{
		if (slot->pipeline != NULL && strcmp(slot->name, pipeline) == 0)
			tide_pipeline_set_lag(slot->pipeline, lag_us);
	}
	pthread_mutex_unlock(&coord->lock);
}

bool
tide_coordinator_run(TideCoordinator *coord, TideError *err)
{
	bool ok;

	coord->maintenance = tide_maintenance_start(coord->opts->conninfo, coord->gauges, take_lag,
												coord);
	ok = serve(coord, err);
	tide_log(TIDE_LOG_INFO, "stopping: finishing what is in flight");
	ok = drain(coord, err) && ok;
	say_goodbye(coord);
	return ok;
}

/* ---- seen from outside ---- */

bool
tide_coordinator_live(TideCoordinator *coord)
{
	return tide_monotonic_ms() - atomic_load(&coord->turned_ms) < LIVE_MS;
}

/* As tide.pipelines names it: ours as it is, else why it is not. */
static const char *
slot_state(const Slot *slot)
{
	if (slot->pipeline != NULL)
		return tide_pipeline_state_name(tide_pipeline_state(slot->pipeline));
	return slot->enabled ? "waiting" : "disabled";
}

void
tide_coordinator_metrics(TideCoordinator *coord, FILE *out)
{
	TideMetricsEntry *entries;
	size_t n = 0;

	pthread_mutex_lock(&coord->lock);
	for (Slot *slot = coord->slots; slot != NULL; slot = slot->next)
		n++;
	entries = tide_zalloc(sizeof(*entries) * (n + 1));
	n = 0;
	for (Slot *slot = coord->slots; slot != NULL; slot = slot->next)
	{
		TideMetricsEntry *entry = &entries[n++];

		entry->pipeline = slot->name;
		entry->direction = slot->direction;
		entry->owned = slot->pipeline != NULL;
		entry->state = slot_state(slot);
		entry->metrics = &slot->metrics;
	}
	tide_metrics_write(out, entries, n, coord->region ? coord->region : "", TIDE_VERSION);
	pthread_mutex_unlock(&coord->lock);
	free(entries);
	tide_gauges_write(coord->gauges, out);
}

bool
tide_coordinator_ready(TideCoordinator *coord, FILE *out)
{
	json_t *body = json_object();
	json_t *pipelines = json_object();
	bool ready = atomic_load(&coord->connected);

	json_object_set_new(body, "connected", json_boolean(ready));
	pthread_mutex_lock(&coord->lock);
	for (Slot *slot = coord->slots; slot != NULL; slot = slot->next)
	{
		json_object_set_new(pipelines, slot->name, json_string(slot_state(slot)));
		/* Not open yet and not failing either: still on its way. */
		if (slot->pipeline != NULL && !tide_pipeline_was_open(slot->pipeline) &&
			tide_pipeline_state(slot->pipeline) == TIDE_STARTING)
			ready = false;
	}
	pthread_mutex_unlock(&coord->lock);
	json_object_set_new(body, "ready", json_boolean(ready));
	json_object_set_new(body, "pipelines", pipelines);
	json_dumpf(body, out, JSON_INDENT(1));
	json_decref(body);
	return ready;
}
