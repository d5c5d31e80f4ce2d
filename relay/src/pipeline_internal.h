/*
 * pipeline_internal.h
 *		What the parts of a pipeline's thread share; nobody else includes it.
 */
#ifndef TIDE_PIPELINE_INTERNAL_H
#define TIDE_PIPELINE_INTERNAL_H

#include <pthread.h>

#include "connector.h"
#include "pipeline.h"

typedef struct TideConfirmation TideConfirmation;

struct TidePipeline
{
	TidePipelineSpec spec; /* own copies */
	const TidePipelineEnv *env;
	pthread_t thread;
	TideStop *drain; /* take nothing new */
	TideStop *abort; /* leave everything */

	/* Shared with the coordinator. */
	pthread_mutex_t lock; /* protects the next three */
	TidePipelineState state;
	TideError error;
	bool news;
	atomic_bool finished;
	atomic_bool was_open;

	/* The thread's own. */
	TidePipelineInfo source_info;
	TidePipelineInfo sink_info;
	const TideSourceOps *source_ops;
	const TideSinkOps *sink_ops;
	TideSource *source;
	TideSink *sink;
	TidePg *home; /* for what is rare; see tide_pipeline_home */
	TideBatch *current;
	TideBatch *next;
	TideConfirmation *confirmation; /* NULL: the sink's acceptance is a commit */
	bool progressed; /* something was delivered since the source and sink were opened */
};

/* The one place where a pipeline's state changes. */
extern void
tide_pipeline_set_state(TidePipeline *pipeline, TidePipelineState state, const TideError *error);

/* Everything is open: running. */
extern void tide_pipeline_opened(TidePipeline *pipeline);

/* Shows an error that does not stop the pipeline; its state stays. */
extern void tide_pipeline_note_error(TidePipeline *pipeline, const TideError *error);

/* Opens pipeline->home, a connection for what is rare, if it is not open yet. */
extern bool tide_pipeline_home(TidePipeline *pipeline, TideError *err);

/* handler.c: runs an inbox's handler until asked to drain, or until it fails. */
extern bool tide_handler_run(TidePipeline *pipeline, TideError *err);

/*
 * deliver.c: brings a batch to the sink, dead-letters what can't be stored, and
 * confirms the rest to the source.  Between start and finish the caller may
 * read ahead.  After a failure the batch has to be read again.
 */
extern bool tide_deliver_start(TidePipeline *pipeline, TideBatch *batch, TideError *err);
extern bool tide_deliver_finish(TidePipeline *pipeline, TideBatch *batch, TideError *err);

/* As both, but without confirming: for events that are sent again. */
extern bool tide_deliver_again(TidePipeline *pipeline, TideBatch *batch, TideError *err);

/* confirm.c: one step of asking destinations what they have; never waits long. */
extern bool
tide_confirmation_open(TidePipeline *pipeline, TideConfirmation **confirmation, TideError *err);
extern void tide_confirmation_free(TideConfirmation *confirmation);
extern bool tide_confirmation_step(TidePipeline *pipeline, TideError *err);

#endif /* TIDE_PIPELINE_INTERNAL_H */
