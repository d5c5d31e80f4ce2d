/*
 * sink_stdout.c
 *		Sink "stdout": one JSON line per event on standard output, for looking and for pipes.
 *
 * Owns: the line's form.  An event counts as stored once it was written and
 * flushed; a closed pipe is an error like any other sink's.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mem.h"
#include "sink_stdout.h"
#include "tide_time.h"

struct TideSink
{
	const TidePipelineInfo *info;
};

static bool
stdout_open(const TidePipelineInfo *info, TideSink **result, TideError *err)
{
	TideSink *sink = tide_zalloc(sizeof(*sink));

	(void) err;
	sink->info = info;
	*result = sink;
	return true;
}

static void
set_string(json_t *line, const char *key, TideSlice value)
{
	if (value.ptr != NULL)
		json_object_set_new(line, key, json_stringn(value.ptr, value.len));
	else
		json_object_set_new(line, key, json_null());
}

/* Payload and headers are JSON already and go out byte for byte. */
static void
write_event(const TideEvent *event)
{
	json_t *line = json_object();
	char published[TIDE_TIME_TEXT];
	char *text;

	set_string(line, "event_id", event->id);
	set_string(line, "origin", event->origin);
	set_string(line, "outbox", event->outbox);
	set_string(line, "entity", event->entity);
	set_string(line, "op", event->op);
	set_string(line, "key", event->key);
	tide_time_format(published, event->published_us);
	json_object_set_new(line, "published_at", json_string(published));
	text = json_dumps(line, JSON_COMPACT | JSON_ENSURE_ASCII);
	json_decref(line);
	if (text == NULL)
		tide_out_of_memory(0);
	printf("%.*s,\"payload\":%s,\"headers\":%s}\n", (int) strlen(text) - 1, text,
		   event->payload.ptr, event->headers.ptr);
	free(text);
}

static bool
stdout_start(TideSink *sink, TideBatch *batch, TideError *err)
{
	(void) sink;
	(void) err;
	for (size_t i = 0; i < batch->n_events; i++)
		write_event(&batch->events[i]);
	return true;
}

static bool
stdout_finish(TideSink *sink, TideBatch *batch, TideError *err)
{
	if (fflush(stdout) != 0 || ferror(stdout))
	{
		clearerr(stdout);
		return tide_error(err, TIDE_ERR_UNAVAILABLE, "",
						  "pipeline \"%s\" can't write to standard output: %s", sink->info->name,
						  strerror(errno));
	}
	batch->n_stored = batch->n_events;
	return true;
}

static void
stdout_close(TideSink *sink)
{
	free(sink);
}

const TideSinkOps tide_sink_stdout = {
	.type = "stdout",
	.open = stdout_open,
	.start = stdout_start,
	.finish = stdout_finish,
	.close = stdout_close,
};
