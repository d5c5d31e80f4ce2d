/*
 * link.h
 *		A pipeline of direction "link": taking rows from another region.
 *
 * Owns: one attempt of a link, from opening until it is asked to stop or
 * fails.  Does not own: states and pauses between attempts (pipeline.c).
 */
#ifndef TIDE_LINK_H
#define TIDE_LINK_H

#include "pipeline_internal.h"

extern bool tide_link_run(TidePipeline *pipeline, TideError *err);

#endif /* TIDE_LINK_H */
