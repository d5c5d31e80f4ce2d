/*
 * rows_publish.h
 *		Pipelines of direction "rows": this region's rows on a broker.
 *
 * "rows:publish" publishes them once for everybody; "rows:publish:REGION" for one region alone,
 * what residency lets it have with the rest, in a stream of its own.
 *
 * Owns: one attempt, from opening until it is asked to stop or fails.  Does not
 * own: states and pauses between attempts (pipeline.c), who reads (link_nats.c).
 */
#ifndef TIDE_ROWS_PUBLISH_H
#define TIDE_ROWS_PUBLISH_H

#include "pipeline_internal.h"

extern bool tide_rows_publish_run(TidePipeline *pipeline, TideError *err);

#endif /* TIDE_ROWS_PUBLISH_H */
