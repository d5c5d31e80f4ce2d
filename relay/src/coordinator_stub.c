/*
 * coordinator_stub.c
 *		Stands in for coordinator.c until it exists; the makefile leaves it out then.
 */
#include "coordinator.h"

#include <stdlib.h>

#include "mem.h"
#include "metrics.h"
#include "pg.h"
#include "stop.h"

struct TideCoordinator
{
	const TideCoordinatorOptions *opts;
	TideStop   *stop;
};

TideCoordinator *
tide_coordinator_new(const TideCoordinatorOptions *opts, TideError *err)
{
	TideCoordinator *coord = tide_zalloc(sizeof(TideCoordinator));

	(void) err;
	coord->opts = opts;
	coord->stop = tide_stop_new();
	return coord;
}

bool
tide_coordinator_run(TideCoordinator *coord, TideError *err)
{
	TidePg	   *pg;

	if (!tide_pg_open(coord->opts->conninfo, "relay", coord->stop, &pg, err))
		return false;
	while (tide_stop_sleep(coord->stop, 1000))
		;
	tide_pg_close(pg);
	return true;
}

void
tide_coordinator_free(TideCoordinator *coord)
{
	if (coord == NULL)
		return;
	tide_stop_free(coord->stop);
	free(coord);
}

void
tide_coordinator_stop(TideCoordinator *coord)
{
	tide_stop_request(coord->stop);
}

void
tide_coordinator_reload(TideCoordinator *coord)
{
	(void) coord;
}

void
tide_coordinator_metrics(TideCoordinator *coord, FILE *out)
{
	(void) coord;
	tide_metrics_write(out, NULL, 0, "nowhere", TIDE_VERSION);
}

bool
tide_coordinator_live(TideCoordinator *coord)
{
	(void) coord;
	return true;
}

bool
tide_coordinator_ready(TideCoordinator *coord, FILE *out)
{
	(void) coord;
	fputs("{\"ready\": true, \"pipelines\": []}\n", out);
	return true;
}
