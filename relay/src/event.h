/*
 * event.h
 *		What travels through a pipeline: events, and batches of them.
 *
 * Owns: the in-memory form of an event between a source and a sink.  Does not
 * own: how a source finds events or how a sink stores them.
 *
 * Memory: everything an event points to lives in its batch's arena and dies
 * with it in one call.  Sources allocate there; sinks only read.
 */
#ifndef TIDE_EVENT_H
#define TIDE_EVENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "arena.h"
#include "error.h"

/* Bytes with a length, always followed by a NUL that len does not count.  ptr == NULL is SQL NULL. */
typedef struct TideSlice
{
	const char *ptr;
	size_t len;
} TideSlice;

typedef struct TideEvent
{
	TideSlice id;	  /* event id: UUIDv7 as text, or a foreign message's own id */
	TideSlice origin; /* region that published it; NULL: a foreign message */
	TideSlice outbox; /* outbox it was published to; may be NULL */
	TideSlice entity;
	TideSlice op;
	TideSlice key;		  /* may be NULL: no order asked for */
	TideSlice payload;	  /* JSON text, exactly as published */
	TideSlice headers;	  /* JSON text of an object */
	int64_t published_us; /* microseconds since 1970-01-01 UTC; 0 unknown */
	int64_t committed_us; /* when the publishing transaction committed; 0 unknown */
	uint64_t position;	  /* the source's own sequence number of the event */
	void *source_ref;	  /* the source's handle (for example the broker message); may be NULL */

	/*
	 * Set by a sink's finish() when this one event can't be stored and never
	 * will: the pipeline dead-letters it and goes on.  Class TIDE_ERR_DATA.
	 */
	TideError *reject;
} TideEvent;

typedef struct TideBatch
{
	TideArena *arena; /* owns every byte the events point to */
	TideEvent *events;
	size_t n_events;
	size_t bytes; /* payload bytes, for limits and metrics */

	/*
	 * The source's position once the whole batch is stored, as text that only
	 * the source understands.  A sink that can (the inbox of the database that
	 * also keeps the position) stores it in the same transaction.
	 */
	TideSlice position;
	bool more; /* the source has more right now: don't wait before the next read */
	bool
		again; /* sent before, but a destination lacks it: must not be taken for a duplicate on the way */

	/* Filled by the sink's finish(), for metrics. */
	size_t n_stored;
	size_t n_duplicates;
	size_t n_echoes; /* of this region's own making, dropped */
} TideBatch;

extern TideBatch *tide_batch_new(void);
extern void tide_batch_free(TideBatch *batch);
extern void tide_batch_reset(TideBatch *batch); /* empties it, keeps one arena block */
/* Appends a zeroed event; the array lives in the arena. */
extern TideEvent *tide_batch_add(TideBatch *batch);

#endif /* TIDE_EVENT_H */
