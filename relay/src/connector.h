/*
 * connector.h
 *		The seam between pipelines and the outside: sources and sinks.
 *
 * Owns: the two tables of functions a connector implements, and the table that
 * names them all.  Does not own: any connector.  A new broker is one source
 * file, one sink file, one line in connectors.c and one test.
 *
 * A pipeline thread calls these functions, and only that thread, with straight
 * blocking code.  Every call that can wait takes its time limit from the
 * caller and gives up early when the pipeline is asked to stop
 * (tide_stop_requested, stop.h), returning false with TIDE_ERR_STOPPED.
 * All functions return true on success, or false with *err filled; after a
 * failure the pipeline closes the connector and opens it anew, after a pause.
 */
#ifndef TIDE_CONNECTOR_H
#define TIDE_CONNECTOR_H

#include <jansson.h>

#include "event.h"
#include "metrics.h"
#include "pg.h"
#include "stop.h"

/* What a connector may know of the pipeline it serves.  Borrowed; outlives the connector. */
typedef struct TidePipelineInfo
{
	const char *name;	/* pipeline name */
	const char *region; /* this database's region name */
	const char *target; /* name of the local outbox, or of the local inbox */
	json_t *
		config; /* the pipeline's configuration, checked by the database; secrets still references */
	int64_t epoch;		  /* ownership epoch; the database refuses older ones */
	const char *conninfo; /* how to reach the home database */

	/*
	 * stop: no new work, please.  A source gets one that is raised when the
	 * pipeline drains, so that it stops waiting for events; a sink gets one that
	 * is raised only when the drain ran out of time.  hard_stop is always the
	 * latter, for what a source has to bring to an end.
	 */
	TideStop *stop;
	TideStop *hard_stop;
	TideMetrics *metrics; /* this pipeline's counters */

	/*
	 * Is our lease on the pipeline still fresh?  To be asked before anything
	 * leaves for a broker: a process that was stopped and woke up may have
	 * lost the pipeline meanwhile.
	 */
	bool (*lease_fresh)(const struct TidePipelineInfo *info);
	void *lease_arg;
} TidePipelineInfo;

typedef struct TideSource TideSource;
typedef struct TideSink TideSink;

typedef struct TideSourceOps
{
	const char *type; /* "outbox", "nats", … */

	bool (*open)(const TidePipelineInfo *info, TideSource **source, TideError *err);

	/*
	 * start() begins reading the next batch and returns at once; finish()
	 * waits up to timeout_ms for it.  Between the two the pipeline waits for
	 * the sink, so that both ends work at the same time.  finish() is given an
	 * empty batch; if it leaves it empty, nothing was there within the time.
	 */
	bool (*start)(TideSource *source, TideError *err);
	bool (*finish)(TideSource *source, TideBatch *batch, int timeout_ms, TideError *err);

	/* The whole batch is stored at the destination (or dead-lettered): it need not come again. */
	bool (*confirm)(TideSource *source, const TideBatch *batch, TideError *err);

	/*
	 * What the destination later said it has, for sinks whose acceptance is not
	 * yet a commit at the destination (see TideSinkOps.ask).  May be NULL.
	 * unconfirmed() reads the ids of the oldest stretch of accepted but
	 * unconfirmed events (at most max) into batch (ids only) and its end into
	 * batch->position; n_events == 0: all is confirmed.
	 * settled() records that the destination has everything up to position; the
	 * pipeline also calls it after confirm() when the sink's acceptance is a commit.
	 * reread() reads again, in order, those events of the stretch that ends at
	 * position whose ids are in ids.  Only the latest stretch can be reread.
	 */
	bool (*unconfirmed)(TideSource *source, TideBatch *batch, size_t max, TideError *err);
	bool (*settled)(TideSource *source, TideSlice position, TideError *err);
	bool (*reread)(TideSource *source, TideSlice position, const TideSlice *ids, size_t n_ids,
				   TideBatch *batch, TideError *err);

	/*
	 * Goes back to what is confirmed and reads on from there, durably; what was
	 * sent before is marked so (batch->again).  For a sink that lost what it had
	 * accepted.  May be NULL.
	 */
	bool (*rewind)(TideSource *source, TideError *err);

	void (*close)(TideSource *source);
} TideSourceOps;

/* A destination's answer to "do you have these?" */
typedef struct TideAnswer
{
	TideSlice region;		  /* who answered */
	TideSlice position;		  /* which question (its batch->position) */
	const TideSlice *missing; /* ids it does not have */
	size_t n_missing;
	uint64_t pending; /* messages it knows of but has not read yet */
} TideAnswer;

typedef struct TideSinkOps
{
	const char *type; /* "inbox", "nats", "stdout", … */

	bool (*open)(const TidePipelineInfo *info, TideSink **sink, TideError *err);

	/*
	 * start() hands the batch over and returns as soon as it can; finish()
	 * returns true when every event is accepted durably (at a database:
	 * committed) or individually rejected (event->reject).  A batch must stay
	 * untouched between the two.  Order of events with the same key is kept.
	 */
	bool (*start)(TideSink *sink, TideBatch *batch, TideError *err);
	bool (*finish)(TideSink *sink, TideBatch *batch, TideError *err);

	/*
	 * For sinks that hand events to a broker: ask the destinations whether
	 * they have committed these events, and collect answers that have come
	 * (never blocks longer than timeout_ms).  NULL: accepted is committed.
	 */
	bool (*ask)(TideSink *sink, const TideBatch *ids, TideError *err);
	bool (*answer)(TideSink *sink, TideArena *arena, TideAnswer *answer, bool *got, int timeout_ms,
				   TideError *err);

	/*
	 * Names what keeps accepted events until destinations have them (a stream,
	 * with the time it was created).  Another name than last time: they are gone.
	 * NULL: nothing does.
	 */
	const char *(*store)(TideSink *sink);

	void (*close)(TideSink *sink);
} TideSinkOps;

extern const TideSourceOps *tide_source_by_type(const char *type); /* NULL if unknown */
extern const TideSinkOps *tide_sink_by_type(const char *type);

#endif /* TIDE_CONNECTOR_H */
