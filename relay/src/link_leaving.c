/*
 * link_leaving.c
 *		A link's part in moving rows: telling the origin which of the rows it may not keep are here.
 *
 * Owns: going round from one question to the next.  Does not own: which rows, and removing them
 * (79_residency_leaving.sql), the connections and whose turn it is (link_watch.c).
 *
 * Each round takes a piece of what the origin has noted, so that nothing here grows with it.
 */
#include <stdlib.h>
#include <string.h>

#include "link_internal.h"
#include "link_leaving.h"
#include "log.h"
#include "mem.h"
#include "queries.h"

#define LEAVING_MS 2000	 /* until it is asked again from the beginning ... */
#define PIECE_MS 250	 /* ... for the next piece, if of this one nothing is here */
#define TROUBLE_MS 30000 /* pause after trouble */
#define OLDER_MS 300000	 /* an origin with an older extension */

typedef enum Step
{
	REST,	 /* until at */
	ASKING,	 /* the origin: rows_leaving */
	FOUND,	 /* it has named some */
	LOOKING, /* here: relay_link_leaving */
	HELD,	 /* some of them are here */
	TELLING	 /* the origin: rows_gone */
} Step;

struct TideLinkLeaving
{
	TideLink *link;
	Step step;
	long long at;	 /* when the next round is due */
	char *rows;		 /* named by the origin (FOUND), or held here (HELD); else NULL */
	int64_t after;	 /* the last of the origin's notes in this round */
	bool more;		 /* it has noted more behind it */
	char number[24]; /* as a parameter */
};

TideLinkLeaving *
tide_link_leaving_new(TideLink *link)
{
	TideLinkLeaving *leaving = tide_zalloc(sizeof(*leaving));

	leaving->link = link;
	leaving->at = tide_monotonic_ms() + LEAVING_MS;
	return leaving;
}

void
tide_link_leaving_free(TideLinkLeaving *leaving)
{
	if (leaving == NULL)
		return;
	free(leaving->rows);
	free(leaving);
}

static void
set_step(TideLinkLeaving *leaving, Step step, const char *rows)
{
	free(leaving->rows);
	leaving->rows = rows != NULL ? tide_strdup(rows) : NULL;
	leaving->step = step;
}

static void
rest(TideLinkLeaving *leaving, long long ms)
{
	set_step(leaving, REST, NULL);
	leaving->at = tide_monotonic_ms() + ms;
}

static void
rest_before_next(TideLinkLeaving *leaving)
{
	rest(leaving, leaving->more ? PIECE_MS : LEAVING_MS);
}

/* ---- the origin ---- */

/* Only main lanes of links for this region alone have tables with residency. */
bool
tide_link_leaving_due_there(const TideLinkLeaving *leaving)
{
	const TideLink *link = leaving->link;

	return tide_link_destination(link) != NULL && strstr(link->spec.lanes, "main") != NULL &&
		   (leaving->step == HELD || (leaving->step == REST && tide_monotonic_ms() >= leaving->at));
}

bool
tide_link_leaving_ask_there(TideLinkLeaving *leaving, TideError *err)
{
	const char *values[2] = {tide_link_destination(leaving->link), leaving->number};
	bool ok;

	if (leaving->step == HELD)
	{
		values[1] = leaving->rows;
		ok = tide_pg_send(leaving->link->control, tide_q_rows_gone, 2, values, NULL, NULL, err);
		set_step(leaving, TELLING, NULL);
		return ok;
	}
	snprintf(leaving->number, sizeof(leaving->number), "%lld", (long long) leaving->after);
	leaving->step = ASKING;
	return tide_pg_send(leaving->link->control, tide_q_rows_leaving, 2, values, NULL, NULL, err);
}

void
tide_link_leaving_heard_there(TideLinkLeaving *leaving, const PGresult *res)
{
	if (leaving->step == TELLING)
	{
		/* None: somebody has them locked. */
		if (tide_pg_int64(res, 0, 0) > 0)
			rest(leaving, 0);
		else
			rest_before_next(leaving);
		return;
	}
	leaving->more = !PQgetisnull(res, 0, 1);
	leaving->after = leaving->more ? tide_pg_int64(res, 0, 1) : 0;
	if (PQgetisnull(res, 0, 0))
		rest_before_next(leaving);
	else
		set_step(leaving, FOUND, PQgetvalue(res, 0, 0));
}

void
tide_link_leaving_lost_there(TideLinkLeaving *leaving)
{
	if (leaving->step == ASKING || leaving->step == TELLING)
		rest_before_next(leaving);
}

/* ---- our own database ---- */

bool
tide_link_leaving_due_here(const TideLinkLeaving *leaving)
{
	return leaving->step == FOUND;
}

bool
tide_link_leaving_ask_here(TideLinkLeaving *leaving, TideError *err)
{
	const TidePipeline *pipeline = leaving->link->pipeline;
	const char *values[3] = {pipeline->spec.name, leaving->number, leaving->rows};

	snprintf(leaving->number, sizeof(leaving->number), "%lld", (long long) pipeline->spec.epoch);
	leaving->step = LOOKING;
	return tide_pg_send(leaving->link->reports, tide_q_relay_link_leaving, 3, values, NULL, NULL,
						err);
}

bool
tide_link_leaving_busy_here(const TideLinkLeaving *leaving)
{
	return leaving->step == LOOKING;
}

void
tide_link_leaving_heard_here(TideLinkLeaving *leaving, const PGresult *res)
{
	if (PQgetisnull(res, 0, 0))
		rest_before_next(leaving);
	else
		set_step(leaving, HELD, PQgetvalue(res, 0, 0));
}

/* A lock that somebody holds, and the like: rows flow on, and it is tried again. */
bool
tide_link_leaving_refused(TideLinkLeaving *leaving, TideError *err)
{
	bool older = strcmp(err->code, "42883") == 0;

	if (leaving->step == REST || err->code[0] == '\0' || err->class == TIDE_ERR_STOPPED ||
		strncmp(err->code, "TD", 2) == 0 || strncmp(err->code, "57P", 3) == 0)
		return false;
	tide_log_error(older ? TIDE_LOG_DEBUG : TIDE_LOG_WARN, err,
				   "rows that the origin may not keep could not be looked for");
	tide_error_clear(err);
	leaving->after = 0;
	rest(leaving, older ? OLDER_MS : TROUBLE_MS);
	return true;
}
