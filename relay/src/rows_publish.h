/*
 * rows_publish.h
 *		The pipeline "rows:publish": this region's rows, once, on a broker for everybody.
 *
 * Owns: one attempt, from opening until it is asked to stop or fails.  Does not
 * own: states and pauses between attempts (pipeline.c), who reads (link_nats.c).
 */
#ifndef TIDE_ROWS_PUBLISH_H
#define TIDE_ROWS_PUBLISH_H

#include "pipeline_internal.h"

extern bool tide_rows_publish_run(TidePipeline *pipeline, TideError *err);

#endif /* TIDE_ROWS_PUBLISH_H */
