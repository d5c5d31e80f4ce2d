/*
 * maintenance.h
 *		A thread that calls tide.maintain() now and then, and asks how late pipelines are.
 *
 * Owns: its own connection, so that neither ever delays a sign of life.  Any
 * number of relays may clean up; the database lets one at a time.
 */
#ifndef TIDE_MAINTENANCE_H
#define TIDE_MAINTENANCE_H

#include <stdint.h>

#include "gauges.h"

typedef struct TideMaintenance TideMaintenance;

/* Called from the thread for every pipeline whose lag is known: age of its oldest undelivered event. */
typedef void (*TideLagReport)(void *arg, const char *pipeline, int64_t lag_us);

/* conninfo and gauges (read each time, too) are borrowed.  NULL if no thread could be started (logged). */
extern TideMaintenance *
tide_maintenance_start(const char *conninfo, TideGauges *gauges, TideLagReport report, void *arg);
extern void tide_maintenance_stop(TideMaintenance *maintenance); /* waits; NULL is fine */

#endif /* TIDE_MAINTENANCE_H */
