/*
 * link_apply.h
 *		Handing frames to tide.apply, one at a time, without waiting.
 *
 * Owns: the statement under way, the database transaction around open frames,
 * what follows when a frame is refused (again, carefully, or not at all), what
 * is known to be durable, counting what was applied.  Does not own: the home connection, where
 * frames come from.
 */
#ifndef TIDE_LINK_APPLY_H
#define TIDE_LINK_APPLY_H

#include <poll.h>

#include "metrics.h"
#include "wal_frames.h"

typedef struct TideApply TideApply;

/*
 * home: a connection of its own, borrowed, that nobody else uses while a
 * statement is under way.  pipeline (its name) and metrics are borrowed, too.
 */
extern bool tide_apply_new(TidePg *home, const char *pipeline, int64_t epoch, TideMetrics *metrics,
						   uint64_t position, TideApply **apply, TideError *err);
extern void tide_apply_free(TideApply *apply); /* NULL is fine */

/* Only when not busy.  The frame's data must stay where it is until it is not busy any more. */
extern bool tide_apply_start(TideApply *apply, const TideFrame *frame, TideError *err);

/*
 * One step onwards; never waits.  After a failure the connection may be in the middle of a
 * transaction and has to be closed, unless tide_apply_rewind says otherwise.
 */
extern bool tide_apply_turn(TideApply *apply, TideError *err);
extern bool tide_apply_busy(const TideApply *apply);
extern bool tide_apply_in_transaction(const TideApply *apply); /* between open frames */

/* Asks what is durable by now, if something is not and nothing else is under way. */
extern bool tide_apply_ask_flushed(TideApply *apply, TideError *err);

extern uint64_t tide_apply_position(const TideApply *apply); /* applied up to here */
extern uint64_t tide_apply_flushed(const TideApply *apply);	 /* durable up to here */

/*
 * After a failure in the middle of an open frame's transaction: true if frames
 * should come again from tide_apply_position() on; they will then be applied
 * carefully.  The transaction has been rolled back, the connection is usable.
 */
extern bool tide_apply_rewind(TideApply *apply);

/* What to poll (at most one; returns how many), and how long at most (-1: any time). */
extern int tide_apply_poll(const TideApply *apply, struct pollfd *fds, int *timeout_ms);

#endif /* TIDE_LINK_APPLY_H */
