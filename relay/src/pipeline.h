/*
 * pipeline.h
 *		A pipeline: one thread, straight blocking code, and the state it is in.
 *
 * Owns: the thread's life, the table of states, pauses between attempts.  Does
 * not own: who may run it (coordinator.c), moving events (deliver.c), asking
 * destinations (confirm.c), running handlers (handler.c).
 */
#ifndef TIDE_PIPELINE_H
#define TIDE_PIPELINE_H

#include <jansson.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "error.h"
#include "metrics.h"

typedef enum TidePipelineState
{
	TIDE_STARTING, /* opening source and sink for the first time */
	TIDE_RUNNING,
	TIDE_RETRYING, /* failed in a way that may pass; tried again until it runs */
	TIDE_FAILED,   /* needs somebody's action; tried again now and then */
	TIDE_STOPPED,  /* the thread is done */
	TIDE_N_STATES
} TidePipelineState;

extern const char *tide_pipeline_state_name(TidePipelineState state);

/* What a pipeline is, as the database has it.  Copied by tide_pipeline_start. */
typedef struct TidePipelineSpec
{
	const char *name;
	const char *direction; /* "outbox", "inbox", "handler", "link" or "rows" */
	const char *target;	   /* local outbox or inbox; region of a link */
	json_t *config;		   /* borrowed; a reference is taken */
	int64_t version;	   /* of the configuration */
	int64_t epoch;		   /* of our ownership */
	TideMetrics
		*metrics; /* borrowed; counted on from what is there; gauges are 0 once it is freed */
} TidePipelineSpec;

/* What it runs in.  Borrowed; outlives the pipeline. */
typedef struct TidePipelineEnv
{
	const char *conninfo;
	const char *region;
	/* When the database last heard from us, CLOCK_MONOTONIC ms, taken before we asked. */
	const _Atomic long long *heartbeat_ms;
} TidePipelineEnv;

typedef struct TidePipeline TidePipeline;

extern TidePipeline *
tide_pipeline_start(const TidePipelineSpec *spec, const TidePipelineEnv *env, TideError *err);

/* Bring what is in flight to an end, then stop.  Returns at once. */
extern void tide_pipeline_drain(TidePipeline *pipeline);

/* Stop now: what is in flight comes again later. */
extern void tide_pipeline_abort(TidePipeline *pipeline);
extern bool tide_pipeline_finished(const TidePipeline *pipeline);

/* Joins the thread; only after it finished, or it waits for it. */
extern void tide_pipeline_free(TidePipeline *pipeline);

extern TidePipelineState tide_pipeline_state(const TidePipeline *pipeline);
extern bool tide_pipeline_was_open(const TidePipeline *pipeline);
/* For its metrics: how old the oldest event is that it has not delivered.  From any thread. */
extern void tide_pipeline_set_lag(TidePipeline *pipeline, int64_t lag_us);
extern const TidePipelineSpec *tide_pipeline_spec(const TidePipeline *pipeline);

/*
 * Has the state or error changed since the last call?  Fills both if so; the
 * error is of class TIDE_ERR_NONE when there is none to tell.
 */
extern bool tide_pipeline_news(TidePipeline *pipeline, TidePipelineState *state, TideError *error);

/* How long our word to the database counts; a spare may take over soon after. */
#define TIDE_LEASE_MS 1200

#endif /* TIDE_PIPELINE_H */
