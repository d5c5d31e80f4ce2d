/*
 * nats_home.c
 *		What the source "nats" asks its home database, on a connection of its own.
 *
 * Owns: see nats_home.h.
 */
#include "nats_home.h"

#include <string.h>

#include "queries.h"

static bool
home_position(TidePg *pg, const char *pipeline, TideArena *arena, const char **text, TideError *err)
{
	const char *values[] = {pipeline};
	const char *sent;
	PGresult *res = NULL;

	*text = NULL;
	if (!tide_pg_exec(pg, tide_q_position_get, 1, values, &res, err))
		return false;
	sent = PQntuples(res) > 0 ? tide_pg_value(res, 0, 0) : NULL;
	if (sent != NULL)
		*text = tide_arena_strdup(arena, sent);
	PQclear(res);
	return true;
}

static bool
home_missing(TidePg *pg, const char *inbox, const TideSlice *ids, size_t n_ids, TideArena *arena,
			 TideSlice **missing, size_t *n_missing, TideError *err)
{
	TideArray *array = tide_array_new(TIDE_ARRAY_TEXT, n_ids);
	PGresult *res = NULL;
	const char *values[2] = {inbox, NULL};
	int lengths[2] = {0, 0};
	const int formats[2] = {0, 1};
	bool ok;

	for (size_t i = 0; i < n_ids; i++)
		tide_array_add(array, ids[i].ptr, ids[i].len);
	values[1] = tide_array_data(array, &lengths[1]);
	ok = tide_pg_start(pg, tide_q_inbox_missing, 2, values, lengths, formats, err) &&
		 tide_pg_finish(pg, -1, &res, err);
	tide_array_free(array);
	if (!ok)
		return false;
	*n_missing = (size_t) PQntuples(res);
	*missing = tide_arena_alloc(arena, (*n_missing + 1) * sizeof(TideSlice));
	for (size_t i = 0; i < *n_missing; i++)
	{
		const char *id = PQgetvalue(res, (int) i, 0);

		(*missing)[i] = (TideSlice){tide_arena_strdup(arena, id), strlen(id)};
	}
	PQclear(res);
	return true;
}

static const TideHomeOps home_ops = {
	.open = tide_pg_open,
	.position = home_position,
	.missing = home_missing,
	.close = tide_pg_close,
};

const TideHomeOps *tide_home = &home_ops;
