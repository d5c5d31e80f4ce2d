/*
 * deliver.c
 *		Bringing a batch to the sink, one bad event notwithstanding.
 *
 * Owns: waiting for a fresh lease before anything leaves, finding the one event
 * that makes a whole batch fail (by halving), dead letters, and counting.
 * Does not own: reading, and retrying after a failure that is not the events'
 * own fault (pipeline.c).
 */
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "pipeline_internal.h"
#include "queries.h"

#define LEASE_POLL_MS 20

/* Waits until our lease is fresh; a stale owner finds out from the coordinator meanwhile. */
static bool
wait_for_lease(TidePipeline *pipeline, TideError *err)
{
	while (!pipeline->sink_info.lease_fresh(&pipeline->sink_info))
	{
		if (!tide_stop_sleep(pipeline->drain, LEASE_POLL_MS))
			return tide_error(err, TIDE_ERR_STOPPED, "", "stopped while the database was silent");
	}
	return true;
}

/* ---- dead letters ---- */

static bool
dead_letter(TidePipeline *pipeline, const TideEvent *event, TideError *err)
{
	char epoch[24];
	const TideError *why = event->reject;
	const char *values[12] = {
		pipeline->spec.name, epoch,			event->id.ptr,	event->origin.ptr,	event->outbox.ptr,
		event->entity.ptr,	 event->op.ptr, event->key.ptr, event->payload.ptr, event->headers.ptr,
		why->code,			 why->message};
	int lengths[12] = {0};
	int formats[12] = {0};

	snprintf(epoch, sizeof(epoch), "%lld", (long long) pipeline->spec.epoch);
	lengths[8] = (int) event->payload.len;
	formats[8] = 1; /* bytea: it may be anything but valid */
	tide_log_error(TIDE_LOG_WARN, why, "event %s goes to the dead letters", event->id.ptr);
	return tide_pipeline_home(pipeline, err) &&
		   tide_pg_start(pipeline->home, tide_q_dead_letter_add, 12, values, lengths, formats,
						 err) &&
		   tide_pg_finish(pipeline->home, -1, NULL, err);
}

static bool
bury_rejected(TidePipeline *pipeline, const TideBatch *batch, TideError *err)
{
	for (size_t i = 0; i < batch->n_events; i++)
	{
		if (batch->events[i].reject == NULL)
			continue;
		if (!dead_letter(pipeline, &batch->events[i], err))
			return false;
		tide_count(pipeline->spec.metrics, TIDE_EVENTS_FAILED, 1);
	}
	return true;
}

/* ---- halving ---- */

static void
reject(TideBatch *batch, TideEvent *event, const TideError *err)
{
	event->reject = tide_arena_alloc(batch->arena, sizeof(TideError));
	*event->reject = *err;
}

/*
 * Delivers events [from, to) of a batch whose delivery as a whole failed with
 * a data error, by halves, until only the offending events are left alone.
 * The position goes with the last part, when all before it is stored.
 */
static bool
deliver_part(TidePipeline *pipeline, TideBatch *batch, size_t from, size_t to, TideError *err)
{
	TideBatch part = *batch;
	size_t middle = from + (to - from) / 2;

	part.events = batch->events + from;
	part.n_events = to - from;
	part.n_stored = part.n_duplicates = part.n_echoes = 0;
	if (to < batch->n_events)
		part.position.ptr = NULL, part.position.len = 0;
	if (pipeline->sink_ops->start(pipeline->sink, &part, err) &&
		pipeline->sink_ops->finish(pipeline->sink, &part, err))
	{
		batch->n_stored += part.n_stored;
		batch->n_duplicates += part.n_duplicates;
		batch->n_echoes += part.n_echoes;
		return true;
	}
	if (err->class != TIDE_ERR_DATA)
		return false;
	if (to - from == 1)
	{
		reject(batch, &batch->events[from], err);
		tide_error_clear(err);
		return true;
	}
	tide_error_clear(err);
	return deliver_part(pipeline, batch, from, middle, err) &&
		   deliver_part(pipeline, batch, middle, to, err);
}

/* ---- counting ---- */

static void
count_batch(TidePipeline *pipeline, const TideBatch *batch)
{
	long long now = tide_wall_us();
	TideMetrics *m = pipeline->spec.metrics;

	tide_count(m, TIDE_BATCHES, 1);
	tide_count(m, TIDE_BYTES, batch->bytes);
	tide_count(m, TIDE_EVENTS_DELIVERED, batch->n_stored);
	tide_count(m, TIDE_EVENTS_DEDUPLICATED, batch->n_duplicates);
	tide_count(m, TIDE_EVENTS_ECHOED, batch->n_echoes);
	tide_gauge(m, TIDE_G_LAST_DELIVERY_US, now);
	for (size_t i = 0; i < batch->n_events; i++)
	{
		const TideEvent *event = &batch->events[i];
		int64_t since = event->committed_us ? event->committed_us : event->published_us;

		if (since != 0 && event->reject == NULL)
			tide_histogram_add(&m->commit_to_delivered, now > since ? now - since : 0);
	}
}

/* ---- entry points ---- */

bool
tide_deliver_start(TidePipeline *pipeline, TideBatch *batch, TideError *err)
{
	batch->n_stored = batch->n_duplicates = batch->n_echoes = 0;
	return wait_for_lease(pipeline, err) && pipeline->sink_ops->start(pipeline->sink, batch, err);
}

static bool
finish_at_sink(TidePipeline *pipeline, TideBatch *batch, TideError *err)
{
	if (!pipeline->sink_ops->finish(pipeline->sink, batch, err))
	{
		if (err->class != TIDE_ERR_DATA)
			return false;
		tide_error_clear(err);
		batch->n_stored = batch->n_duplicates = batch->n_echoes = 0;
		if (!deliver_part(pipeline, batch, 0, batch->n_events, err))
			return false;
	}
	return bury_rejected(pipeline, batch, err);
}

bool
tide_deliver_finish(TidePipeline *pipeline, TideBatch *batch, TideError *err)
{
	if (!finish_at_sink(pipeline, batch, err) ||
		!pipeline->source_ops->confirm(pipeline->source, batch, err))
		return false;
	/* What a database committed needs no further word from anybody. */
	if (pipeline->confirmation == NULL && pipeline->source_ops->settled != NULL)
	{
		if (!pipeline->source_ops->settled(pipeline->source, batch->position, err))
			return false;
		tide_count(pipeline->spec.metrics, TIDE_EVENTS_CONFIRMED, batch->n_events);
	}
	count_batch(pipeline, batch);
	return true;
}

bool
tide_deliver_again(TidePipeline *pipeline, TideBatch *batch, TideError *err)
{
	batch->again = true;
	if (!tide_deliver_start(pipeline, batch, err) || !finish_at_sink(pipeline, batch, err))
		return false;
	tide_count(pipeline->spec.metrics, TIDE_EVENTS_RESENT, batch->n_events);
	return true;
}
