/*
 * sync_metrics.h
 *		Commits of this region that wait for others, as the database counts them.
 *
 * Owns: the last numbers read, and writing them in Prometheus' text format.  Does not own:
 * counting (extension/src/durability.c).  One thread reads, any may write.
 */
#ifndef TIDE_SYNC_METRICS_H
#define TIDE_SYNC_METRICS_H

#include <stdio.h>

#include "pg.h"

typedef struct TideSyncMetrics TideSyncMetrics;

extern TideSyncMetrics *tide_sync_metrics_new(void);
extern void tide_sync_metrics_free(TideSyncMetrics *metrics); /* NULL is fine */
extern bool tide_sync_metrics_read(TideSyncMetrics *metrics, TidePg *pg, TideError *err);
extern void tide_sync_metrics_write(TideSyncMetrics *metrics, FILE *out);

#endif /* TIDE_SYNC_METRICS_H */
