/*
 * gauges.h
 *		Metrics that the database knows: by class, of commits that wait, of the WAL kept here for other regions.
 *
 * Owns: the last answer to queries.sql's "gauges", and its text for /metrics.  Read by one
 * thread (maintenance), written out by others.
 */
#ifndef TIDE_GAUGES_H
#define TIDE_GAUGES_H

#include <stdio.h>

#include "pg.h"

typedef struct TideGauges TideGauges;

extern TideGauges *tide_gauges_new(void);
extern void tide_gauges_free(TideGauges *gauges); /* NULL is fine */
extern bool tide_gauges_read(TideGauges *gauges, TidePg *pg, TideError *err);

/* No answer to go by any more: nothing is shown rather than something old. */
extern void tide_gauges_forget(TideGauges *gauges);

extern void tide_gauges_write(TideGauges *gauges, FILE *out);

#endif /* TIDE_GAUGES_H */
