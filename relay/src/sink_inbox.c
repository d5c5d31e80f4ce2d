/*
 * sink_inbox.c
 *		Sink "inbox": events straight into an inbox, over libpq.
 *
 * Owns: handing a batch to tide.inbox_receive in one statement, which is one
 * transaction and one round trip.  Does not own: deduplication and echoes (the
 * inbox does that), or what becomes of a batch that is refused (deliver.c).
 *
 * Serves two directions.  For an outbox pipeline the inbox is in another
 * database (config: conninfo, inbox), which remembers our region, pipeline and
 * epoch so as to refuse a stale relay.  For an inbox pipeline it is at home,
 * and the source's position is stored in the same transaction.
 */
#include <stdlib.h>
#include <string.h>

#include "mem.h"
#include "queries.h"
#include "secret.h"
#include "sink_inbox.h"

/* Parameters of tide.inbox_receive. */
enum
{
	P_INBOX,
	P_PIPELINE,
	P_EPOCH,
	P_SOURCE_REGION,
	P_IDS,
	P_ORIGINS,
	P_OUTBOXES,
	P_ENTITIES,
	P_OPS,
	P_KEYS,
	P_PAYLOADS,
	P_HEADERS,
	P_PUBLISHED,
	P_COMMITTED,
	P_POSITION,
	N_PARAMS
};

#define FIRST_ARRAY P_IDS
#define N_ARRAYS (P_COMMITTED - P_IDS + 1)

static const TideArrayType array_types[N_ARRAYS] = {
	TIDE_ARRAY_TEXT, TIDE_ARRAY_TEXT,  TIDE_ARRAY_TEXT,	 TIDE_ARRAY_TEXT, TIDE_ARRAY_TEXT,
	TIDE_ARRAY_TEXT, TIDE_ARRAY_JSONB, TIDE_ARRAY_JSONB, TIDE_ARRAY_INT8, TIDE_ARRAY_INT8};

struct TideSink
{
	const TidePipelineInfo *info;
	TidePg *pg;
	const char *inbox;
	const char *source_region; /* NULL: the inbox is at home */
	char epoch[24];
	TideArray *arrays[N_ARRAYS];
};

static void
inbox_close(TideSink *sink)
{
	tide_pg_close(sink->pg);
	for (int i = 0; i < N_ARRAYS; i++)
		tide_array_free(sink->arrays[i]);
	free(sink);
}

/* Connects to the database the configuration names; its conninfo may be a reference. */
static bool
connect_remote(TideSink *sink, TideError *err)
{
	const char *conninfo = json_string_value(json_object_get(sink->info->config, "conninfo"));
	char *resolved = NULL;
	bool ok;

	if (conninfo == NULL)
		return tide_error(err, TIDE_ERR_CONFIG, "", "pipeline \"%s\" has no conninfo",
						  sink->info->name);
	if (tide_secret_is_reference(conninfo))
	{
		if (!tide_secret_resolve(conninfo, "conninfo", &resolved, NULL, err))
			return false;
		conninfo = resolved;
	}
	ok = tide_pg_open(conninfo, sink->info->name, sink->info->stop, &sink->pg, err);
	tide_secret_free(resolved);
	return ok;
}

static bool
inbox_open(const TidePipelineInfo *info, TideSink **result, TideError *err)
{
	TideSink *sink = tide_zalloc(sizeof(*sink));
	bool remote = json_object_get(info->config, "sink_type") != NULL;

	sink->info = info;
	snprintf(sink->epoch, sizeof(sink->epoch), "%lld", (long long) info->epoch);
	for (int i = 0; i < N_ARRAYS; i++)
		sink->arrays[i] = tide_array_new(array_types[i], 1000);
	if (remote)
	{
		sink->inbox = json_string_value(json_object_get(info->config, "inbox"));
		sink->source_region = info->region;
	}
	else
		sink->inbox = info->target;
	if ((remote ? !connect_remote(sink, err)
				: !tide_pg_open(info->conninfo, info->name, info->stop, &sink->pg, err)) ||
		!tide_pg_prepare(sink->pg, tide_q_inbox_receive, err))
	{
		inbox_close(sink);
		return false;
	}
	*result = sink;
	return true;
}

static void
add_slice(TideSink *sink, int param, TideSlice value)
{
	tide_array_add(sink->arrays[param - FIRST_ARRAY], value.ptr, value.len);
}

static void
add_time(TideSink *sink, int param, int64_t us)
{
	if (us == 0)
		tide_array_add(sink->arrays[param - FIRST_ARRAY], NULL, 0);
	else
		tide_array_add_int8(sink->arrays[param - FIRST_ARRAY], us);
}

static void
fill_arrays(TideSink *sink, const TideBatch *batch)
{
	for (int i = 0; i < N_ARRAYS; i++)
		tide_array_reset(sink->arrays[i]);
	for (size_t i = 0; i < batch->n_events; i++)
	{
		const TideEvent *event = &batch->events[i];

		add_slice(sink, P_IDS, event->id);
		add_slice(sink, P_ORIGINS, event->origin);
		add_slice(sink, P_OUTBOXES, event->outbox);
		add_slice(sink, P_ENTITIES, event->entity);
		add_slice(sink, P_OPS, event->op);
		add_slice(sink, P_KEYS, event->key);
		add_slice(sink, P_PAYLOADS, event->payload);
		add_slice(sink, P_HEADERS, event->headers);
		add_time(sink, P_PUBLISHED, event->published_us);
		add_time(sink, P_COMMITTED, event->committed_us);
	}
}

static bool
inbox_start(TideSink *sink, TideBatch *batch, TideError *err)
{
	const char *values[N_PARAMS] = {sink->inbox, sink->info->name, sink->epoch,
									sink->source_region};
	int lengths[N_PARAMS] = {0};
	int formats[N_PARAMS] = {0};

	fill_arrays(sink, batch);
	for (int i = 0; i < N_ARRAYS; i++)
	{
		values[FIRST_ARRAY + i] = tide_array_data(sink->arrays[i], &lengths[FIRST_ARRAY + i]);
		formats[FIRST_ARRAY + i] = 1;
	}
	/* The outbox's own position means nothing at another database. */
	if (sink->source_region == NULL && batch->position.len > 0)
		values[P_POSITION] = batch->position.ptr;
	return tide_pg_start(sink->pg, tide_q_inbox_receive, N_PARAMS, values, lengths, formats, err);
}

static bool
inbox_finish(TideSink *sink, TideBatch *batch, TideError *err)
{
	PGresult *res;

	if (!tide_pg_finish(sink->pg, -1, &res, err))
		return false;
	batch->n_stored = (size_t) tide_pg_int64(res, 0, 0);
	batch->n_duplicates = (size_t) tide_pg_int64(res, 0, 1);
	batch->n_echoes = (size_t) tide_pg_int64(res, 0, 2);
	PQclear(res);
	return true;
}

const TideSinkOps tide_sink_inbox = {
	.type = "inbox",
	.open = inbox_open,
	.start = inbox_start,
	.finish = inbox_finish,
	.close = inbox_close,
};
