/*
 * pipeline.c
 *		A pipeline's thread: open, move events, fail, pause, and again.
 *
 * Owns: states and their legal transitions, what follows from each class of
 * error, pauses with jitter.  Everything it knows about progress is in the
 * database; a pipeline can be dropped at any point and started anywhere else.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "link.h"
#include "log.h"
#include "mem.h"
#include "pipeline_internal.h"
#include "rows_publish.h"

#define WAIT_MS 500 /* how long the loop waits for events before it looks around */
#define FIRST_PAUSE_MS 100
#define MAX_PAUSE_MS 3000		  /* after failures that pass by themselves */
#define MAX_FAILED_PAUSE_MS 15000 /* after those that need somebody */

static const char *const state_names[TIDE_N_STATES] = {
	[TIDE_STARTING] = "starting", [TIDE_RUNNING] = "running", [TIDE_RETRYING] = "retrying",
	[TIDE_FAILED] = "failed",	  [TIDE_STOPPED] = "stopped",
};

/* Which state may follow which.  One that fails is called so until an attempt has opened everything. */
#define TO(state) (1u << (state))
static const unsigned transitions[TIDE_N_STATES] = {
	[TIDE_STARTING] = TO(TIDE_RUNNING) | TO(TIDE_RETRYING) | TO(TIDE_FAILED) | TO(TIDE_STOPPED),
	[TIDE_RUNNING] = TO(TIDE_RETRYING) | TO(TIDE_FAILED) | TO(TIDE_STOPPED),
	[TIDE_RETRYING] = TO(TIDE_RUNNING) | TO(TIDE_RETRYING) | TO(TIDE_FAILED) | TO(TIDE_STOPPED),
	[TIDE_FAILED] = TO(TIDE_RUNNING) | TO(TIDE_RETRYING) | TO(TIDE_FAILED) | TO(TIDE_STOPPED),
	[TIDE_STOPPED] = 0,
};

const char *
tide_pipeline_state_name(TidePipelineState state)
{
	return state_names[state];
}

void
tide_pipeline_set_state(TidePipeline *pipeline, TidePipelineState state, const TideError *error)
{
	pthread_mutex_lock(&pipeline->lock);
	if (transitions[pipeline->state] & TO(state))
	{
		pipeline->state = state;
		if (error != NULL)
			pipeline->error = *error;
		else
			tide_error_clear(&pipeline->error);
		pipeline->news = true;
		tide_gauge(pipeline->spec.metrics, TIDE_G_STATE, state);
	}
	pthread_mutex_unlock(&pipeline->lock);
}

void
tide_pipeline_opened(TidePipeline *pipeline)
{
	atomic_store(&pipeline->was_open, true);
	tide_pipeline_set_state(pipeline, TIDE_RUNNING, NULL);
}

void
tide_pipeline_note_error(TidePipeline *pipeline, const TideError *error)
{
	pthread_mutex_lock(&pipeline->lock);
	pipeline->error = *error;
	pipeline->news = true;
	pthread_mutex_unlock(&pipeline->lock);
}

TidePipelineState
tide_pipeline_state(const TidePipeline *pipeline)
{
	return (TidePipelineState) atomic_load(&pipeline->spec.metrics->gauges[TIDE_G_STATE]);
}

bool
tide_pipeline_news(TidePipeline *pipeline, TidePipelineState *state, TideError *error)
{
	bool news;

	pthread_mutex_lock(&pipeline->lock);
	news = pipeline->news;
	pipeline->news = false;
	*state = pipeline->state;
	*error = pipeline->error;
	pthread_mutex_unlock(&pipeline->lock);
	return news;
}

bool
tide_pipeline_was_open(const TidePipeline *pipeline)
{
	return atomic_load(&pipeline->was_open);
}

bool
tide_pipeline_finished(const TidePipeline *pipeline)
{
	return atomic_load(&pipeline->finished);
}

void
tide_pipeline_set_lag(TidePipeline *pipeline, int64_t lag_us)
{
	tide_gauge(pipeline->spec.metrics, TIDE_G_OLDEST_UNSENT_US, lag_us);
}

const TidePipelineSpec *
tide_pipeline_spec(const TidePipeline *pipeline)
{
	return &pipeline->spec;
}

/* ---- opening and closing ---- */

bool
tide_pipeline_home(TidePipeline *pipeline, TideError *err)
{
	return pipeline->home != NULL || tide_pg_open(pipeline->env->conninfo, pipeline->spec.name,
												  pipeline->abort, &pipeline->home, err);
}

static bool
find_connectors(TidePipeline *pipeline, TideError *err)
{
	bool outbound = strcmp(pipeline->spec.direction, "outbox") == 0;
	const char *key = outbound ? "sink_type" : "source_type";
	const char *type = json_string_value(json_object_get(pipeline->spec.config, key));

	pipeline->source_ops = tide_source_by_type(outbound ? "outbox" : (type ? type : ""));
	pipeline->sink_ops = tide_sink_by_type(outbound ? (type ? type : "") : "inbox");
	if (pipeline->source_ops != NULL && pipeline->sink_ops != NULL)
		return true;
	return tide_error(err, TIDE_ERR_CONFIG, "", "pipeline \"%s\": this relay knows no %s \"%s\"",
					  pipeline->spec.name, key, type ? type : "");
}

static bool
open_connectors(TidePipeline *pipeline, TideError *err)
{
	if (!find_connectors(pipeline, err) ||
		!pipeline->source_ops->open(&pipeline->source_info, &pipeline->source, err) ||
		!pipeline->sink_ops->open(&pipeline->sink_info, &pipeline->sink, err))
		return false;
	if (pipeline->sink_ops->ask != NULL && pipeline->source_ops->unconfirmed != NULL &&
		!tide_confirmation_open(pipeline, &pipeline->confirmation, err))
		return false;
	pipeline->current = tide_batch_new();
	pipeline->next = tide_batch_new();
	return true;
}

static void
close_connectors(TidePipeline *pipeline)
{
	if (pipeline->sink != NULL)
		pipeline->sink_ops->close(pipeline->sink);
	if (pipeline->source != NULL)
		pipeline->source_ops->close(pipeline->source);
	tide_pg_close(pipeline->home);
	tide_batch_free(pipeline->current);
	tide_batch_free(pipeline->next);
	tide_confirmation_free(pipeline->confirmation);
	pipeline->sink = NULL;
	pipeline->source = NULL;
	pipeline->home = NULL;
	pipeline->current = pipeline->next = NULL;
	pipeline->confirmation = NULL;
}

/* ---- moving events ---- */

static void
swap_batches(TidePipeline *pipeline)
{
	TideBatch *batch = pipeline->current;

	pipeline->current = pipeline->next;
	pipeline->next = batch;
}

/*
 * One turn.  While the sink works on the current batch the source reads the
 * next one, so that both ends are busy at the same time.
 */
static bool
move_batch(TidePipeline *pipeline, TideError *err)
{
	tide_batch_reset(pipeline->current);
	if (!pipeline->source_ops->start(pipeline->source, err) ||
		!pipeline->source_ops->finish(pipeline->source, pipeline->current, WAIT_MS, err))
		return false;
	if (pipeline->current->n_events == 0)
		return true;
	if (!tide_deliver_start(pipeline, pipeline->current, err) ||
		!pipeline->source_ops->start(pipeline->source, err) ||
		!tide_deliver_finish(pipeline, pipeline->current, err))
		return false;
	pipeline->progressed = true;
	swap_batches(pipeline);
	return true;
}

static bool
move_events(TidePipeline *pipeline, TideError *err)
{
	while (!tide_stop_requested(pipeline->drain))
	{
		if (!move_batch(pipeline, err))
			return false;
		if (pipeline->confirmation != NULL && !tide_confirmation_step(pipeline, err))
			return false;
	}
	return true;
}

static bool
run_connectors(TidePipeline *pipeline, TideError *err)
{
	bool ok = open_connectors(pipeline, err);

	if (ok)
	{
		tide_pipeline_opened(pipeline);
		ok = move_events(pipeline, err);
	}
	close_connectors(pipeline);
	return ok;
}

/* What a pipeline of each direction does, until it is asked to stop or fails. */
static const struct
{
	const char *direction;
	bool (*run)(TidePipeline *pipeline, TideError *err);
} runs[] = {
	{"outbox", run_connectors}, {"inbox", run_connectors},		 {"handler", tide_handler_run},
	{"link", tide_link_run},	{"rows", tide_rows_publish_run},
};

static bool
run_once(TidePipeline *pipeline, TideError *err)
{
	pipeline->progressed = false;
	for (size_t i = 0; i < sizeof(runs) / sizeof(runs[0]); i++)
	{
		if (strcmp(pipeline->spec.direction, runs[i].direction) == 0)
			return runs[i].run(pipeline, err);
	}
	return tide_error(err, TIDE_ERR_CONFIG, "",
					  "pipeline \"%s\": this relay knows no direction \"%s\"", pipeline->spec.name,
					  pipeline->spec.direction);
}

/* ---- the thread ---- */

/* Up to a quarter more or less, so that many pipelines don't come back together. */
static int
jitter(int ms, unsigned *seed)
{
	return ms - ms / 4 + rand_r(seed) % (ms / 2 + 1);
}

static void
report_failure(TidePipeline *pipeline, const TideError *err, bool retryable, bool repeated)
{
	tide_count(pipeline->spec.metrics, TIDE_RETRIES, 1);
	tide_pipeline_set_state(pipeline, retryable ? TIDE_RETRYING : TIDE_FAILED, err);
	tide_log_error(repeated	   ? TIDE_LOG_DEBUG
				   : retryable ? TIDE_LOG_WARN
							   : TIDE_LOG_ERROR,
				   err,
				   retryable ? "the pipeline is interrupted; trying again"
							 : "the pipeline can't go on without a change");
}

static bool
same_failure(const TideError *a, const TideError *b)
{
	return a->class == b->class && strcmp(a->message, b->message) == 0;
}

static void
run_until_stopped(TidePipeline *pipeline)
{
	unsigned seed = (unsigned) time(NULL) ^ (unsigned) (uintptr_t) pipeline;
	int pause = FIRST_PAUSE_MS;
	TideError previous = {0};

	while (!tide_stop_requested(pipeline->drain))
	{
		TideError err = {0};
		bool retryable;

		if (run_once(pipeline, &err) || err.class == TIDE_ERR_STOPPED)
			break;
		if (err.class == TIDE_ERR_STALE)
		{
			tide_log_error(TIDE_LOG_WARN, &err, "another relay has taken the pipeline over");
			break;
		}
		retryable = tide_error_retryable(&err);
		if (pipeline->progressed)
			pause = FIRST_PAUSE_MS;
		report_failure(pipeline, &err, retryable, same_failure(&err, &previous));
		previous = err;
		(void) tide_stop_sleep(pipeline->drain, jitter(pause, &seed));
		pause = pause * 2 < (retryable ? MAX_PAUSE_MS : MAX_FAILED_PAUSE_MS)
					? pause * 2
					: (retryable ? MAX_PAUSE_MS : MAX_FAILED_PAUSE_MS);
	}
}

static void *
pipeline_thread(void *arg)
{
	TidePipeline *pipeline = arg;

	tide_log_set_pipeline(pipeline->spec.name);
	tide_log(TIDE_LOG_INFO, "pipeline starts (epoch %lld)", (long long) pipeline->spec.epoch);
	run_until_stopped(pipeline);
	tide_pipeline_set_state(pipeline, TIDE_STOPPED, NULL);
	tide_log(TIDE_LOG_INFO, "pipeline stopped");
	atomic_store(&pipeline->finished, true);
	return NULL;
}

/*
 * Our word to the database is good for a while.  A process that was stopped
 * and woke up finds that its own is too old, whatever it was about to do.
 */
static bool
lease_fresh(const TidePipelineInfo *info)
{
	const TidePipelineEnv *env = info->lease_arg;

	return tide_monotonic_ms() - atomic_load(env->heartbeat_ms) < TIDE_LEASE_MS;
}

static void
fill_info(TidePipeline *pipeline, TidePipelineInfo *info, TideStop *stop)
{
	info->name = pipeline->spec.name;
	info->region = pipeline->env->region;
	info->target = pipeline->spec.target;
	info->config = pipeline->spec.config;
	info->epoch = pipeline->spec.epoch;
	info->conninfo = pipeline->env->conninfo;
	info->stop = stop;
	info->hard_stop = pipeline->abort;
	info->metrics = pipeline->spec.metrics;
	info->lease_fresh = lease_fresh;
	info->lease_arg = (void *) pipeline->env;
}

static void
free_parts(TidePipeline *pipeline)
{
	tide_stop_free(pipeline->drain);
	tide_stop_free(pipeline->abort);
	pthread_mutex_destroy(&pipeline->lock);
	free((char *) pipeline->spec.name);
	free((char *) pipeline->spec.direction);
	free((char *) pipeline->spec.target);
	json_decref(pipeline->spec.config);
	free(pipeline);
}

TidePipeline *
tide_pipeline_start(const TidePipelineSpec *spec, const TidePipelineEnv *env, TideError *err)
{
	TidePipeline *pipeline = tide_zalloc(sizeof(*pipeline));
	int rc = EMFILE;

	pipeline->spec = *spec;
	pipeline->spec.name = tide_strdup(spec->name);
	pipeline->spec.direction = tide_strdup(spec->direction);
	pipeline->spec.target = tide_strdup(spec->target);
	json_incref(pipeline->spec.config);
	pipeline->env = env;
	pipeline->drain = tide_stop_new();
	pipeline->abort = tide_stop_new();
	pipeline->news = true;
	pthread_mutex_init(&pipeline->lock, NULL);
	fill_info(pipeline, &pipeline->source_info, pipeline->drain);
	fill_info(pipeline, &pipeline->sink_info, pipeline->abort);
	if (pipeline->drain != NULL && pipeline->abort != NULL)
		rc = pthread_create(&pipeline->thread, NULL, pipeline_thread, pipeline);
	if (rc == 0)
		return pipeline;
	tide_error(err, TIDE_ERR_UNAVAILABLE, "", "could not start a thread for pipeline \"%s\": %s",
			   spec->name, strerror(rc));
	free_parts(pipeline);
	return NULL;
}

void
tide_pipeline_drain(TidePipeline *pipeline)
{
	tide_stop_request(pipeline->drain);
}

void
tide_pipeline_abort(TidePipeline *pipeline)
{
	tide_stop_request(pipeline->drain);
	tide_stop_request(pipeline->abort);
}

void
tide_pipeline_free(TidePipeline *pipeline)
{
	if (pipeline == NULL)
		return;
	tide_pipeline_abort(pipeline);
	pthread_join(pipeline->thread, NULL);
	tide_gauges_reset(pipeline->spec.metrics);
	free_parts(pipeline);
}
