/*
 * nats_home.h
 *		What the source "nats" asks its home database, on a connection of its own.
 *
 * Owns: where reading goes on, and which events the inbox never had.  Does not
 * own: storing anything (that is the sink's).
 */
#ifndef TIDE_NATS_HOME_H
#define TIDE_NATS_HOME_H

#include "event.h"
#include "pg.h"

/*
 * The functions as a table, so that tests of the source need no database.
 * position(): *text (in arena) is NULL if there is none yet.
 * missing(): which of ids the inbox never had, in arena.
 */
typedef struct TideHomeOps
{
	bool (*open)(const char *conninfo, const char *what, const TideStop *stop, TidePg **pg,
				 TideError *err);
	bool (*position)(TidePg *pg, const char *pipeline, TideArena *arena, const char **text,
					 TideError *err);
	bool (*missing)(TidePg *pg, const char *inbox, const TideSlice *ids, size_t n_ids,
					TideArena *arena, TideSlice **missing, size_t *n_missing, TideError *err);
	void (*close)(TidePg *pg);
} TideHomeOps;

extern const TideHomeOps *tide_home; /* changed by tests only, before any thread */

#endif /* TIDE_NATS_HOME_H */
