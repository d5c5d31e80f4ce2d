/*
 * coordinator.h
 *		Runs every pipeline of one database that this relay can get.
 *
 * Owns: reading the configuration, acquiring and giving up pipelines, starting
 * and draining their threads.  Does not own: signals, HTTP and options (the
 * relay command), nor what happens inside a pipeline (pipeline.h).
 *
 * One thread calls new, run and free.  The other functions may be called from
 * any thread between new and free, also while run is busy; none of them waits
 * for a database or broker.
 */
#ifndef TIDE_COORDINATOR_H
#define TIDE_COORDINATOR_H

#include <stdbool.h>
#include <stdio.h>

#include "error.h"

typedef struct TideCoordinatorOptions
{
	const char *conninfo;	/* the home database; "" leaves all to libpq's environment */
	const char *relay_name; /* names this process in tide.pipelines */
	int drain_timeout_ms;	/* how long a stop waits for what is in flight */
} TideCoordinatorOptions;

typedef struct TideCoordinator TideCoordinator;

/* opts and its strings are borrowed until free. */
extern TideCoordinator *tide_coordinator_new(const TideCoordinatorOptions *opts, TideError *err);

/*
 * Returns true when it was asked to stop and everything in flight was
 * finished; false with TIDE_ERR_TIMEOUT if the drain ran out of time, or with
 * another class if it can't go on without somebody's action.  A database that
 * is away is waited for.
 */
extern bool tide_coordinator_run(TideCoordinator *coord, TideError *err);
extern void tide_coordinator_free(TideCoordinator *coord);

extern void tide_coordinator_stop(TideCoordinator *coord);	 /* drain, then run returns */
extern void tide_coordinator_reload(TideCoordinator *coord); /* look at the configuration now */

/* Writes the exposition (tide_metrics_write). */
extern void tide_coordinator_metrics(TideCoordinator *coord, FILE *out);

/* Has the loop turned within the last 10 s? */
extern bool tide_coordinator_live(TideCoordinator *coord);

/*
 * Connected to the database, and every owned, enabled pipeline was open at
 * least once?  Writes a JSON object that says so for each pipeline: a failing
 * pipeline is told there and does not make the process unready.
 */
extern bool tide_coordinator_ready(TideCoordinator *coord, FILE *out);

#endif /* TIDE_COORDINATOR_H */
