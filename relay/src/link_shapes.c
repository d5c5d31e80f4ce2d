/*
 * link_shapes.c
 *		A link's eye on shapes: the origin's, and changes that waited for one to fit.
 *
 * Owns: what is asked of either side about shapes, saying what is new in the log, when waiting
 * changes are tried again.  Does not own: the connections and whose turn it is
 * (link_watch.c), comparing and trying (tide.relay_link_shapes, tide.relay_link_retry).
 *
 * Trying again goes in pieces: while one is applied the stream waits, as they share a lock.
 */
#include <stdlib.h>
#include <string.h>

#include "link_internal.h"
#include "link_shapes.h"
#include "log.h"
#include "mem.h"
#include "pg_json.h"
#include "queries.h"

#define SHAPES_MS 2000
#define PIECE "1000"		 /* changes tried again at a time */
#define TROUBLE_MS 1000		 /* pause after trouble, at first ... */
#define MAX_TROUBLE_MS 30000 /* ... and at most */

typedef enum Step
{
	IDLE,
	LOOKING, /* relay_link_shapes is under way */
	TRYING	 /* relay_link_retry is */
} Step;

struct TideLinkShapes
{
	TideLink *link;
	long long there_at; /* when each is due */
	long long here_at;
	char *digest; /* of what the origin said last and is stored here; NULL: nothing */
	char *heard;  /* digest of news that is not stored yet */
	char *news;	  /* NULL: none */
	bool sent;	  /* ... is in the question under way */
	Step step;
	int trouble_ms;
	json_t *resumable; /* numbers of changes that can be tried again; NULL: none */
	size_t next;
	int64_t applied; /* changes that waited, and have not been spoken of */
	char epoch[24];
	char id[24];
};

TideLinkShapes *
tide_link_shapes_new(TideLink *link)
{
	TideLinkShapes *shapes = tide_zalloc(sizeof(*shapes));

	shapes->link = link;
	snprintf(shapes->epoch, sizeof(shapes->epoch), "%lld", (long long) link->pipeline->spec.epoch);
	return shapes;
}

void
tide_link_shapes_free(TideLinkShapes *shapes)
{
	if (shapes == NULL)
		return;
	free(shapes->digest);
	free(shapes->heard);
	free(shapes->news);
	json_decref(shapes->resumable);
	free(shapes);
}

/* ---- the origin ---- */

bool
tide_link_shapes_due_there(const TideLinkShapes *shapes)
{
	return shapes->news == NULL && tide_monotonic_ms() >= shapes->there_at;
}

bool
tide_link_shapes_ask_there(TideLinkShapes *shapes, TideError *err)
{
	const char *values[2] = {shapes->digest, tide_link_destination(shapes->link)};

	shapes->there_at = tide_monotonic_ms() + SHAPES_MS;
	return tide_pg_send(shapes->link->control, tide_q_rows_shapes, 2, values, NULL, NULL, err);
}

long long *
tide_link_shapes_next(TideLinkShapes *shapes)
{
	return &shapes->there_at;
}

void
tide_link_shapes_heard_there(TideLinkShapes *shapes, const PGresult *res)
{
	if (PQntuples(res) != 1 || PQgetisnull(res, 0, 1))
		return;
	free(shapes->heard);
	shapes->heard = tide_strdup(PQgetvalue(res, 0, 0));
	shapes->news = tide_strdup(PQgetvalue(res, 0, 1));
	shapes->here_at = 0;
}

/* ---- our own database ---- */

bool
tide_link_shapes_busy(const TideLinkShapes *shapes)
{
	return shapes->step != IDLE;
}

bool
tide_link_shapes_due_here(const TideLinkShapes *shapes)
{
	return shapes->resumable != NULL || tide_monotonic_ms() >= shapes->here_at;
}

bool
tide_link_shapes_ask_here(TideLinkShapes *shapes, TideError *err)
{
	const char *pipeline = shapes->link->pipeline->spec.name;
	const char *look[3] = {pipeline, shapes->epoch, shapes->news};
	const char *again[4] = {pipeline, shapes->epoch, shapes->id, PIECE};

	if (shapes->resumable == NULL)
	{
		shapes->step = LOOKING;
		shapes->sent = shapes->news != NULL;
		return tide_pg_send(shapes->link->reports, tide_q_relay_link_shapes, 3, look, NULL, NULL,
							err);
	}
	shapes->step = TRYING;
	snprintf(shapes->id, sizeof(shapes->id), "%lld",
			 (long long) json_integer_value(json_array_get(shapes->resumable, shapes->next)));
	return tide_pg_send(shapes->link->reports, tide_q_relay_link_retry, 4, again, NULL, NULL, err);
}

/* What is new: each said once. */
static void
say(const char *text)
{
	json_t *said = json_loads(text, 0, NULL);

	for (size_t i = 0; i < json_array_size(said); i++)
	{
		const json_t *one = json_array_get(said, i);

		tide_log(tide_json_bool(one, "bad") ? TIDE_LOG_WARN : TIDE_LOG_INFO, "%s",
				 tide_json_text(one, "message"));
	}
	json_decref(said);
}

static void
heard_look(TideLinkShapes *shapes, const PGresult *res)
{
	if (shapes->sent)
	{
		free(shapes->news);
		free(shapes->digest);
		shapes->digest = shapes->heard;
		shapes->news = shapes->heard = NULL;
	}
	shapes->here_at = shapes->news != NULL ? 0 : tide_monotonic_ms() + SHAPES_MS;
	if (PQntuples(res) != 1)
		return;
	tide_gauge(shapes->link->pipeline->spec.metrics, TIDE_G_TABLES_DRIFTED,
			   tide_pg_int64(res, 0, 0));
	if (!PQgetisnull(res, 0, 1))
		shapes->resumable = json_loads(PQgetvalue(res, 0, 1), 0, NULL);
	shapes->next = 0;
	say(PQgetvalue(res, 0, 2));
}

/* More may wait where this piece ended: what comes first then is asked anew. */
static void
heard_retry(TideLinkShapes *shapes, const PGresult *res)
{
	int64_t applied = PQntuples(res) == 1 ? tide_pg_int64(res, 0, 0) : 0;

	if (applied > 0)
		shapes->here_at = 0;
	shapes->applied += applied;
	if (shapes->applied > 0 && (applied == 0 || tide_pg_int64(res, 0, 1) == 0))
	{
		tide_log(TIDE_LOG_INFO, "%lld change(s) that waited were applied",
				 (long long) shapes->applied);
		shapes->applied = 0;
	}
	if (++shapes->next < json_array_size(shapes->resumable))
		return;
	json_decref(shapes->resumable);
	shapes->resumable = NULL;
}

void
tide_link_shapes_heard_here(TideLinkShapes *shapes, const PGresult *res)
{
	Step step = shapes->step;

	shapes->step = IDLE;
	if (step == LOOKING)
		heard_look(shapes, res);
	else
		heard_retry(shapes, res);
	if (step == TRYING || shapes->resumable == NULL)
		shapes->trouble_ms = 0;
}

/* Deadlocks and the like: rows flow on, and it is tried again. */
bool
tide_link_shapes_refused(TideLinkShapes *shapes, TideError *err)
{
	if (err->code[0] == '\0' || err->class == TIDE_ERR_STOPPED || strncmp(err->code, "TD", 2) == 0)
		return false;
	tide_log_error(TIDE_LOG_WARN, err,
				   "shapes could not be compared, or waiting changes not tried");
	tide_error_clear(err);
	json_decref(shapes->resumable);
	shapes->resumable = NULL;
	shapes->step = IDLE;
	shapes->trouble_ms = shapes->trouble_ms == 0				   ? TROUBLE_MS
						 : shapes->trouble_ms * 2 < MAX_TROUBLE_MS ? shapes->trouble_ms * 2
																   : MAX_TROUBLE_MS;
	shapes->here_at = tide_monotonic_ms() + shapes->trouble_ms;
	return true;
}
