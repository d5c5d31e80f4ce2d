/*
 * metrics.h
 *		Counters, gauges and latency histograms of the relay and its pipelines.
 *
 * Owns: the numbers, and writing them in Prometheus' text format (0.0.4).
 * Does not own: HTTP.  One writer thread per TideMetrics; readers are the HTTP
 * threads, so every field is atomic and relaxed order is enough.
 */
#ifndef TIDE_METRICS_H
#define TIDE_METRICS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define TIDE_HISTOGRAM_BUCKETS 24

typedef struct TideHistogram
{
	_Atomic uint64_t buckets[TIDE_HISTOGRAM_BUCKETS + 1]; /* last one: +Inf */
	_Atomic uint64_t count;
	_Atomic uint64_t sum_us;
} TideHistogram;

typedef enum TideCounter
{
	TIDE_EVENTS_READ,		  /* taken from the source */
	TIDE_EVENTS_DELIVERED,	  /* stored at the sink */
	TIDE_EVENTS_DEDUPLICATED, /* the sink had them already */
	TIDE_EVENTS_ECHOED,		  /* of this region's own making, dropped */
	TIDE_EVENTS_FAILED,		  /* dead-lettered */
	TIDE_EVENTS_RESENT,		  /* accepted by a broker but missing at the destination, sent again */
	TIDE_EVENTS_CONFIRMED,	  /* known to be committed at the destination */
	TIDE_BATCHES,
	TIDE_BYTES,	  /* payload bytes delivered */
	TIDE_RETRIES, /* times the pipeline failed and tried again */

	/* Of links and of publishing rows. */
	TIDE_ROWS_APPLIED,	   /* changes that were written here */
	TIDE_ROWS_KEPT,		   /* ... that lost against the row that is here, or came again */
	TIDE_ROWS_SKIPPED,	   /* ... of tables not taken, or already in a copy */
	TIDE_ROWS_PARKED,	   /* ... that could not be applied */
	TIDE_ROW_TRANSACTIONS, /* of the origin */
	TIDE_ROW_BYTES_RAW,	   /* of their records */
	TIDE_ROW_BYTES_WIRE,   /* of the frames, as they travelled */
	TIDE_ROWS_COPIED,	   /* by first copies */
	TIDE_BYTES_COPIED,
	TIDE_RESYNCS,		/* times everything had to be copied again */
	TIDE_FRAMES_SENT,	/* to a broker */
	TIDE_FRAMES_STORED, /* ... that it has acknowledged */
	TIDE_REWINDS,		/* times that frames were published again, or asked for again */
	TIDE_N_COUNTERS
} TideCounter;

typedef enum TideGauge
{
	TIDE_G_STATE,			 /* index into the pipeline's state table */
	TIDE_G_OLDEST_UNSENT_US, /* age of the oldest event not yet delivered */
	TIDE_G_UNCONFIRMED,		 /* events accepted by a broker, not confirmed by a destination */
	TIDE_G_IN_FLIGHT,
	TIDE_G_LAST_DELIVERY_US, /* wall clock, microseconds since 1970 */

	/* Of links and of publishing rows. */
	TIDE_G_LAG_US,		   /* how old what is here is */
	TIDE_G_LAG_BYTES,	   /* the origin's WAL that is not applied yet */
	TIDE_G_SLOT_RETAINED,  /* bytes of WAL that the origin keeps for the slot */
	TIDE_G_COPY_TABLES,	   /* that wait for their first copy, or are in it */
	TIDE_G_CLASSES_DIFFER, /* 1: the origin declares a class differently */
	TIDE_G_HELD,		   /* 1: waits for more important lanes */
	TIDE_G_TABLES_DRIFTED, /* that can't take all of the origin's rows as they are */
	TIDE_N_GAUGES
} TideGauge;

typedef struct TideMetrics
{
	_Atomic uint64_t counters[TIDE_N_COUNTERS];
	_Atomic int64_t gauges[TIDE_N_GAUGES];
	TideHistogram commit_to_delivered; /* publisher's commit until stored at this pipeline's sink */
} TideMetrics;

static inline void
tide_count(TideMetrics *m, TideCounter c, uint64_t n)
{
	atomic_fetch_add_explicit(&m->counters[c], n, memory_order_relaxed);
}

static inline void
tide_gauge(TideMetrics *m, TideGauge g, int64_t value)
{
	atomic_store_explicit(&m->gauges[g], value, memory_order_relaxed);
}

/* What was true of a pipeline that no longer runs is not true of the next. */
static inline void
tide_gauges_reset(TideMetrics *m)
{
	for (int g = 0; g < TIDE_N_GAUGES; g++)
		tide_gauge(m, (TideGauge) g, 0);
}

extern void tide_histogram_add(TideHistogram *h, int64_t us);

/* What the exposition needs to know of one pipeline; strings borrowed for the call. */
typedef struct TideMetricsEntry
{
	const char *pipeline;
	const char *direction; /* "outbox", "inbox", "handler" */
	const char *state;	   /* name of the current state */
	bool owned;			   /* does this relay own it, or is it the spare? */
	const TideMetrics *metrics;
} TideMetricsEntry;

/* Writes the whole exposition: process metrics, then each family over all pipelines. */
extern void tide_metrics_write(FILE *out, const TideMetricsEntry *entries, size_t n_entries,
							   const char *region, const char *version);

#endif /* TIDE_METRICS_H */
