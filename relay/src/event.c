/*
 * event.c
 *		Batches of events: an arena and a growing array inside it.
 */
#include "event.h"

#include <stdlib.h>
#include <string.h>

#include "mem.h"

/* The capacity follows from n_events: the array is doubled at each power of two from here. */
#define FIRST_CAPACITY 64

TideBatch *
tide_batch_new(void)
{
	TideBatch *batch = tide_zalloc(sizeof(TideBatch));

	batch->arena = tide_arena_new();
	return batch;
}

void
tide_batch_free(TideBatch *batch)
{
	if (batch == NULL)
		return;
	tide_arena_free(batch->arena);
	free(batch);
}

void
tide_batch_reset(TideBatch *batch)
{
	TideArena *arena = batch->arena;

	tide_arena_reset(arena);
	memset(batch, 0, sizeof(*batch));
	batch->arena = arena;
}

static bool
is_full(size_t n)
{
	return n == 0 || (n >= FIRST_CAPACITY && (n & (n - 1)) == 0);
}

TideEvent *
tide_batch_add(TideBatch *batch)
{
	TideEvent *event;

	if (is_full(batch->n_events))
	{
		size_t capacity = batch->n_events == 0 ? FIRST_CAPACITY : batch->n_events * 2;
		TideEvent *events = tide_arena_alloc(batch->arena, capacity * sizeof(TideEvent));

		if (batch->n_events > 0)
			memcpy(events, batch->events, batch->n_events * sizeof(TideEvent));
		batch->events = events;
	}
	event = &batch->events[batch->n_events++];
	memset(event, 0, sizeof(*event));
	return event;
}
