/*
 * source_outbox.c
 *		Source "outbox": events of a local outbox, window by window.
 *
 * Owns: where the pipeline is in its outbox (a snapshot, and inside a window a
 * sequence number), sleeping until something is committed, and saving the
 * position.  Does not own: what a window is (extension/src/window.c).
 *
 * Positions are snapshots as text.  "sent" is what the sink accepted,
 * "confirmed" what destinations have committed; both only move forward.  They
 * are saved a little later, together: losing the last ones costs some events
 * sent twice, which destinations drop.
 */
#include <stdlib.h>
#include <string.h>

#include "connector.h"
#include "log.h"
#include "mem.h"
#include "queries.h"
#include "source_outbox.h"
#include "tide_snapshot.h"

#define SAVE_INTERVAL_MS 200 /* how old an unsaved position may get */
#define WAIT_SLICE_MS 50	 /* how soon a drain is noticed while asleep */
#define FIRST_POLL_MS 2		 /* pauses between polls grow from here to poll_interval_ms */
#define MAX_BATCH_BYTES (4 * 1024 * 1024)
#define DEFAULT_BATCH_SIZE 1000
#define DEFAULT_POLL_MS 250

/* Columns of the fetch and ids statements. */
enum
{
	F_SEQ,
	F_EVENT_ID,
	F_PUBLISHED,
	F_COMMITTED,
	F_ENTITY,
	F_OP,
	F_KEY,
	F_PAYLOAD,
	F_HEADERS,
	F_WINDOW_END,
	F_MORE,
	F_GENERATION
};

/* What the connection is busy with. */
typedef enum Pending
{
	NOTHING,
	FETCH,
	WAIT
} Pending;

struct TideSource
{
	const TidePipelineInfo *info;
	TidePg *pg;	 /* fetches and waits */
	TidePg *aux; /* asks about what is unconfirmed; opened on first use */
	Pending pending;
	int batch_size;
	int poll_interval_ms;

	/* Where reading is. */
	char *from;			   /* start of the current window; NULL: the beginning */
	char *to;			   /* its end while it is read in parts; NULL: to be chosen */
	int64_t after_seq;	   /* last one read of the current window, if to is set */
	char *generation;	   /* of the fetch before; NULL: none yet, or polling */
	char *next_generation; /* of the latest fetch */
	bool can_wait;
	int poll_ms; /* next pause between polls */

	/* What is known to be done. */
	char *again_until; /* after going back: how far was sent before; else NULL */
	char *sent;
	char *confirmed;
	bool dirty; /* one of them is not saved yet */
	long long saved_at_ms;

	/* The stretch that is being confirmed. */
	char *stretch_from;	   /* the confirmed snapshot it starts after */
	char *stretch_to;	   /* its window's end while that is asked about in parts; else NULL */
	int64_t stretch_after; /* last sequence number settled of that window */
};

static void
set_text(char **field, const char *value)
{
	char *copy = value ? tide_strdup(value) : NULL;

	free(*field);
	*field = copy;
}

static int
config_int(const json_t *config, const char *key, int fallback)
{
	const json_t *value = json_object_get(config, key);

	return json_is_integer(value) ? (int) json_integer_value(value) : fallback;
}

static bool
load_position(TideSource *source, TideError *err)
{
	const char *values[1] = {source->info->name};
	PGresult *res;

	if (!tide_pg_exec(source->pg, tide_q_position_get, 1, values, &res, err))
		return false;
	if (PQntuples(res) == 1)
	{
		set_text(&source->sent, tide_pg_value(res, 0, 0));
		set_text(&source->confirmed, tide_pg_value(res, 0, 1));
		set_text(&source->from, source->sent);
	}
	PQclear(res);
	return true;
}

static bool
save_position(TideSource *source, TidePg *pg, TideError *err)
{
	char epoch[24];
	const char *values[4] = {source->info->name, epoch, source->sent, source->confirmed};

	if (!source->dirty)
		return true;
	snprintf(epoch, sizeof(epoch), "%lld", (long long) source->info->epoch);
	if (!tide_pg_exec(pg, tide_q_position_save, 4, values, NULL, err))
		return false;
	source->dirty = false;
	source->saved_at_ms = tide_monotonic_ms();
	return true;
}

static void
outbox_close(TideSource *source)
{
	TideError ignored;

	/* Best effort: finish what the connection is at, then save where we are. */
	if (source->pg != NULL)
	{
		if (!source->pending || tide_pg_finish(source->pg, 1000, NULL, &ignored))
			(void) save_position(source, source->pg, &ignored);
		tide_pg_close(source->pg);
	}
	tide_pg_close(source->aux);
	free(source->from);
	free(source->to);
	free(source->generation);
	free(source->next_generation);
	free(source->again_until);
	free(source->sent);
	free(source->confirmed);
	free(source->stretch_from);
	free(source->stretch_to);
	free(source);
}

static bool
outbox_open(const TidePipelineInfo *info, TideSource **result, TideError *err)
{
	TideSource *source = tide_zalloc(sizeof(*source));

	source->info = info;
	source->batch_size = config_int(info->config, "batch_size", DEFAULT_BATCH_SIZE);
	source->poll_interval_ms = config_int(info->config, "poll_interval_ms", DEFAULT_POLL_MS);
	source->poll_ms = FIRST_POLL_MS;
	if (!tide_pg_open(info->conninfo, info->name, info->hard_stop, &source->pg, err) ||
		!tide_pg_exec(source->pg, tide_q_outbox_session, 0, NULL, NULL, err) ||
		!tide_pg_prepare(source->pg, tide_q_outbox_fetch, err) ||
		!tide_pg_prepare(source->pg, tide_q_wake_wait, err) || !load_position(source, err))
	{
		outbox_close(source);
		return false;
	}
	*result = source;
	return true;
}

/* Sends the next fetch, unless the connection already is at something. */
static bool
outbox_start(TideSource *source, TideError *err)
{
	char epoch[24];
	char after[24];
	char max_events[16];
	char max_bytes[16];
	const char *values[8] = {source->info->name, epoch,		 source->info->target,
							 source->from,		 source->to, source->to ? after : NULL,
							 max_events,		 max_bytes};

	if (source->pending != NOTHING)
		return true;
	if (source->dirty && tide_monotonic_ms() - source->saved_at_ms >= SAVE_INTERVAL_MS &&
		!save_position(source, source->pg, err))
		return false;
	snprintf(epoch, sizeof(epoch), "%lld", (long long) source->info->epoch);
	snprintf(after, sizeof(after), "%lld", (long long) source->after_seq);
	snprintf(max_events, sizeof(max_events), "%d", source->batch_size);
	snprintf(max_bytes, sizeof(max_bytes), "%d", MAX_BATCH_BYTES);
	if (!tide_pg_start(source->pg, tide_q_outbox_fetch, 8, values, NULL, NULL, err))
		return false;
	source->pending = FETCH;
	return true;
}

static TideSlice
slice(TideBatch *batch, const PGresult *res, int row, int col)
{
	TideSlice result = {NULL, 0};

	if (PQgetisnull(res, row, col))
		return result;
	result.len = (size_t) PQgetlength(res, row, col);
	result.ptr = tide_arena_memdup(batch->arena, PQgetvalue(res, row, col), result.len);
	return result;
}

static TideSlice
borrowed(const char *text)
{
	TideSlice result = {text, strlen(text)};

	return result;
}

static void
add_event(TideSource *source, TideBatch *batch, const PGresult *res, int row)
{
	TideEvent *event = tide_batch_add(batch);

	event->id = slice(batch, res, row, F_EVENT_ID);
	event->origin = borrowed(source->info->region);
	event->outbox = borrowed(source->info->target);
	event->entity = slice(batch, res, row, F_ENTITY);
	event->op = slice(batch, res, row, F_OP);
	event->key = slice(batch, res, row, F_KEY);
	event->payload = slice(batch, res, row, F_PAYLOAD);
	event->headers = slice(batch, res, row, F_HEADERS);
	event->published_us = tide_pg_int64(res, row, F_PUBLISHED);
	event->committed_us = tide_pg_int64(res, row, F_COMMITTED);
	event->position = (uint64_t) tide_pg_int64(res, row, F_SEQ);
	batch->bytes += event->payload.len;
}

/* Does the snapshot show everything that the other one shows?  Both are ours: they parse. */
static bool
reached(const char *snapshot, const char *other)
{
	size_t len[2] = {strlen(snapshot), strlen(other)};
	size_t max[2] = {tide_snapshot_max_xip(snapshot, len[0]), tide_snapshot_max_xip(other, len[1])};
	uint64_t *xip[2] = {tide_zalloc((max[0] + 1) * sizeof(uint64_t)),
						tide_zalloc((max[1] + 1) * sizeof(uint64_t))};
	TideSnapshot a;
	TideSnapshot b;
	bool result = !tide_snapshot_parse(snapshot, len[0], xip[0], max[0], &a) ||
				  !tide_snapshot_parse(other, len[1], xip[1], max[1], &b) ||
				  tide_snapshot_compare(&a, &b) >= 0;

	free(xip[0]);
	free(xip[1]);
	return result;
}

/* Moves on to where the fetch ended: within the window, or to the next one. */
static void
advance(TideSource *source, TideBatch *batch, const PGresult *res, int trailer)
{
	const char *end = tide_pg_value(res, trailer, F_WINDOW_END);
	bool more = strcmp(PQgetvalue(res, trailer, F_MORE), "t") == 0;

	free(source->generation);
	source->generation = source->next_generation;
	source->next_generation = NULL;
	set_text(&source->next_generation, tide_pg_value(res, trailer, F_GENERATION));
	source->can_wait = source->next_generation != NULL;

	batch->more = more || batch->n_events > 0;
	batch->again = source->again_until != NULL;
	if (more)
	{
		set_text(&source->to, end);
		source->after_seq = tide_pg_int64(res, trailer - 1, F_SEQ);
		return;
	}
	set_text(&source->from, end);
	set_text(&source->to, NULL);
	if (source->again_until != NULL && reached(end, source->again_until))
		set_text(&source->again_until, NULL);
	batch->position.len = strlen(end);
	batch->position.ptr = tide_arena_memdup(batch->arena, end, batch->position.len);
}

static bool
finish_fetch(TideSource *source, TideBatch *batch, int timeout_ms, TideError *err)
{
	PGresult *res;
	int n_rows;

	if (!tide_pg_finish(source->pg, timeout_ms, &res, err))
		return false;
	source->pending = NOTHING;
	n_rows = PQntuples(res);
	if (n_rows == 0)
	{
		PQclear(res);
		return tide_error(err, TIDE_ERR_INTERNAL, "",
						  "outbox \"%s\": a fetch came back without its last row",
						  source->info->target);
	}
	for (int row = 0; row < n_rows - 1; row++)
		add_event(source, batch, res, row);
	advance(source, batch, res, n_rows - 1);
	PQclear(res);
	return true;
}

/*
 * Sleeps until something may have been committed: woken by the server if it
 * can, with growing pauses otherwise.  The position is not saved here: at a
 * steady trickle that would be a transaction between each event and the next.
 * outbox_start() does it when it is due, at the latest after this wait.
 */
static bool
start_wait(TideSource *source, TideError *err)
{
	const char *values[4] = {"outbox", source->info->target, source->generation, "400"};

	if (source->can_wait && source->generation != NULL)
	{
		if (!tide_pg_start(source->pg, tide_q_wake_wait, 4, values, NULL, NULL, err))
			return false;
		source->pending = WAIT;
		return true;
	}
	if (!source->can_wait)
	{
		(void) tide_stop_sleep(source->info->stop, source->poll_ms);
		source->poll_ms = source->poll_ms * 2 < source->poll_interval_ms ? source->poll_ms * 2
																		 : source->poll_interval_ms;
	}
	return true;
}

static bool
finish_wait(TideSource *source, int timeout_ms, TideError *err)
{
	if (!tide_pg_finish(source->pg, timeout_ms < WAIT_SLICE_MS ? timeout_ms : WAIT_SLICE_MS, NULL,
						err))
		return false;
	source->pending = NOTHING;
	return true;
}

/* One turn of waiting: finishes what is pending, or starts the next thing. */
static bool
turn(TideSource *source, TideBatch *batch, int timeout_ms, TideError *err)
{
	if (source->pending == WAIT)
		return finish_wait(source, timeout_ms, err) && outbox_start(source, err);
	if (source->pending == NOTHING)
		return outbox_start(source, err);
	if (!finish_fetch(source, batch, timeout_ms < WAIT_SLICE_MS ? timeout_ms : WAIT_SLICE_MS, err))
		return false;
	if (batch->n_events > 0)
	{
		source->poll_ms = FIRST_POLL_MS;
		return true;
	}
	return start_wait(source, err);
}

static bool
outbox_finish(TideSource *source, TideBatch *batch, int timeout_ms, TideError *err)
{
	long long end = tide_monotonic_ms() + timeout_ms;

	while (batch->n_events == 0 && !tide_stop_requested(source->info->stop))
	{
		long long left = end - tide_monotonic_ms();

		if (left <= 0)
			break;
		if (!turn(source, batch, (int) left, err))
		{
			if (err->class != TIDE_ERR_TIMEOUT)
				return false;
			tide_error_clear(err); /* nothing came in this slice */
		}
	}
	tide_count(source->info->metrics, TIDE_EVENTS_READ, batch->n_events);
	return true;
}

static void
move_text(char **field, TideSlice value, bool *dirty)
{
	if (value.len == 0 || (*field != NULL && strcmp(*field, value.ptr) == 0))
		return;
	set_text(field, value.ptr);
	*dirty = true;
}

/* A batch inside a window has no position: only whole windows count as sent. */
static bool
outbox_confirm(TideSource *source, const TideBatch *batch, TideError *err)
{
	(void) err;
	move_text(&source->sent, batch->position, &source->dirty);
	return true;
}

/*
 * A stretch that is one part of a large window ends inside it: its position
 * reads "window end@sequence number", and only the last part confirms.
 */
static bool
outbox_settled(TideSource *source, TideSlice position, TideError *err)
{
	const char *part = position.len > 0 ? strchr(position.ptr, '@') : NULL;

	(void) err;
	if (part == NULL)
	{
		move_text(&source->confirmed, position, &source->dirty);
		set_text(&source->stretch_to, NULL);
		return true;
	}
	free(source->stretch_to);
	source->stretch_to = tide_printf("%.*s", (int) (part - position.ptr), position.ptr);
	source->stretch_after = strtoll(part + 1, NULL, 10);
	return true;
}

static bool
open_aux(TideSource *source, TideError *err)
{
	return source->aux != NULL || tide_pg_open(source->info->conninfo, source->info->name,
											   source->info->hard_stop, &source->aux, err);
}

/* Takes over the ids and, from the last row, where the stretch ends. */
static void
take_stretch(TideBatch *batch, const PGresult *res)
{
	int trailer = PQntuples(res) - 1;
	const char *end = PQgetvalue(res, trailer, 2);

	for (int row = 0; row < trailer; row++)
	{
		if (PQgetlength(res, row, 0) > 0)
			tide_batch_add(batch)->id = slice(batch, res, row, 0);
	}
	if (strcmp(PQgetvalue(res, trailer, 3), "t") == 0)
		batch->position.ptr = tide_arena_printf(batch->arena, "%s@%s", end,
												PQgetvalue(res, trailer - 1, 1));
	else
		batch->position.ptr = tide_arena_strdup(batch->arena, end);
	batch->position.len = strlen(batch->position.ptr);
}

static bool
outbox_unconfirmed(TideSource *source, TideBatch *batch, size_t max, TideError *err)
{
	char after[24];
	char limit[24];
	const char *values[6] = {source->info->target,
							 source->confirmed,
							 source->sent,
							 source->stretch_to,
							 source->stretch_to ? after : NULL,
							 limit};
	PGresult *res;

	tide_batch_reset(batch);
	if (source->sent == NULL ||
		(source->confirmed != NULL && strcmp(source->sent, source->confirmed) == 0))
		return true;
	snprintf(after, sizeof(after), "%lld", (long long) source->stretch_after);
	snprintf(limit, sizeof(limit), "%zu", max);
	if (!open_aux(source, err) ||
		!tide_pg_exec(source->aux, tide_q_outbox_unconfirmed, 6, values, &res, err))
		return false;
	take_stretch(batch, res);
	PQclear(res);
	set_text(&source->stretch_from, source->confirmed);
	/* Nothing in between: it is confirmed as it stands. */
	return batch->n_events > 0 || outbox_settled(source, batch->position, err);
}

static bool
outbox_reread(TideSource *source, TideSlice position, const TideSlice *ids, size_t n_ids,
			  TideBatch *batch, TideError *err)
{
	TideArray *array = tide_array_new(TIDE_ARRAY_TEXT, n_ids);
	const char *part = strchr(position.ptr, '@');
	size_t end_len = part ? (size_t) (part - position.ptr) : position.len;
	const char *values[4] = {source->info->target, source->stretch_from, NULL, NULL};
	int lengths[4] = {0, 0, 0, 0};
	const int formats[4] = {0, 0, 0, 1};
	PGresult *res = NULL;
	bool ok;

	tide_batch_reset(batch);
	values[2] = tide_arena_memdup(batch->arena, position.ptr, end_len);
	for (size_t i = 0; i < n_ids; i++)
		tide_array_add(array, ids[i].ptr, ids[i].len);
	values[3] = tide_array_data(array, &lengths[3]);
	ok = open_aux(source, err) &&
		 tide_pg_start(source->aux, tide_q_outbox_reread, 4, values, lengths, formats, err) &&
		 tide_pg_finish(source->aux, -1, &res, err);
	tide_array_free(array);
	for (int row = 0; ok && row < PQntuples(res); row++)
		add_event(source, batch, res, row);
	PQclear(res);
	return ok;
}

/* Before anything was read: the connection is idle. */
static bool
outbox_rewind(TideSource *source, TideError *err)
{
	if (source->confirmed == NULL || source->sent == NULL ||
		strcmp(source->confirmed, source->sent) == 0)
		return true;
	tide_log(TIDE_LOG_WARN,
			 "what the broker had accepted is gone: sending again what no destination"
			 " has confirmed");
	set_text(&source->again_until, source->sent);
	set_text(&source->sent, source->confirmed);
	set_text(&source->from, source->confirmed);
	source->dirty = true;
	return save_position(source, source->pg, err);
}

const TideSourceOps tide_source_outbox = {
	.type = "outbox",
	.open = outbox_open,
	.start = outbox_start,
	.finish = outbox_finish,
	.confirm = outbox_confirm,
	.unconfirmed = outbox_unconfirmed,
	.settled = outbox_settled,
	.reread = outbox_reread,
	.rewind = outbox_rewind,
	.close = outbox_close,
};
