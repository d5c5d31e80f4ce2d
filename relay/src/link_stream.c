/*
 * link_stream.c
 *		A link's streaming: frames from the transport to tide.apply.
 *
 * Owns: the one loop.  It polls everything at once and never waits for
 * anything in particular: while a frame is being applied the next one is
 * collected, whoever has to be answered is, and a slow apply slows nobody but
 * the frames behind it.  A lane that is held back is a slow apply: nothing is fed to it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "link_internal.h"
#include "log.h"
#include "tide_frame.h"

#define FLUSHED_MS 100 /* between two questions about what is durable; everybody gets a turn */
#define MAX_FDS (TIDE_TRANSPORT_FDS + 4)

typedef struct Loop
{
	TideLink *link;
	long long flushed_at; /* when to ask next */
	bool awaited;		  /* somebody waits for what was applied last */
} Loop;

/* ---- waiting ---- */

/* The shorter of two times, of which -1 is the longest. */
static int
shorter(int a, int b)
{
	return a < 0 || (b >= 0 && b < a) ? b : a;
}

static bool
wait_for_something(Loop *loop, TideError *err)
{
	TideLink *link = loop->link;
	struct pollfd fds[MAX_FDS];
	int timeout;
	int n = tide_apply_poll(link->apply, fds, &timeout);

	if (link->transport->patience != NULL)
		timeout = shorter(timeout,
						  link->transport->patience(link->source, tide_apply_busy(link->apply)));
	n += link->transport->poll(link->source, fds + n);
	n += tide_link_watch_poll(link->watch, fds + n);
	fds[n].fd = tide_stop_fd(link->pipeline->drain);
	fds[n].events = POLLIN;
	/* Once it is raised it stays so, and would end every further wait at once. */
	if (!tide_stop_requested(link->pipeline->drain))
		n++;
	if (poll(fds, (nfds_t) n, shorter(timeout, FLUSHED_MS)) < 0 && errno != EINTR)
		return tide_error(err, TIDE_ERR_INTERNAL, "", "poll: %s", strerror(errno));
	return true;
}

/* ---- frames ---- */

static void
close_source(TideLink *link)
{
	if (link->source != NULL)
		link->transport->close(link->source);
	link->source = NULL;
}

/* The origin's answers first: some are told to the source. */
static bool
open_anew(TideLink *link, TideError *err)
{
	if (!tide_link_watch_rest(link->watch, err))
		return false;
	close_source(link);
	return link->transport->open(link, tide_apply_position(link->apply), &link->source, err);
}

/* A transaction that came in parts was refused: from its beginning again, carefully. */
static bool
begin_again(TideLink *link, const TideError *why, TideError *err)
{
	tide_log_error(TIDE_LOG_WARN, why,
				   "a large transaction was refused; taking it again, looking at each change");
	tide_error_clear(err);
	return open_anew(link, err);
}

static bool
turn_apply(TideLink *link, TideError *err)
{
	uint64_t before = tide_apply_position(link->apply);
	TideError why;

	if (tide_apply_turn(link->apply, err))
	{
		if (tide_apply_position(link->apply) != before)
			link->pipeline->progressed = true;
		return true;
	}
	why = *err;
	return tide_apply_rewind(link->apply) && begin_again(link, &why, err);
}

static bool
ask_flushed(Loop *loop, TideError *err)
{
	long long now = tide_monotonic_ms();

	if (now < loop->flushed_at)
		return true;
	loop->flushed_at = now + FLUSHED_MS;
	return tide_apply_ask_flushed(loop->link->apply, err);
}

static bool
feed_apply(Loop *loop, TideError *err)
{
	TideLink *link = loop->link;
	TideFrame frame;
	bool have;

	if (tide_apply_busy(link->apply))
		return true;
	/* Before what comes next: that would only keep them waiting. */
	if (loop->awaited && !tide_apply_in_transaction(link->apply))
	{
		loop->awaited = false;
		return tide_apply_ask_flushed(link->apply, err);
	}
	/* What is being applied holds locks: a transaction that has begun is brought to its end. */
	if (tide_link_watch_held(link->watch) && !tide_apply_in_transaction(link->apply))
		return ask_flushed(loop, err);
	if (!link->transport->next(link->source, &frame, &have, err))
		return false;
	if (!have)
		return ask_flushed(loop, err);
	loop->awaited = loop->awaited || (frame.flags & TIDE_FRAME_SYNC) != 0;
	return tide_apply_start(link->apply, &frame, err);
}

/* One round.  last: nothing new is begun. */
static bool
turn(Loop *loop, bool last, TideError *err)
{
	TideLink *link = loop->link;

	/* The apply first, if what it needs is there: reading takes its time. */
	return wait_for_something(loop, err) && turn_apply(link, err) &&
		   (last || feed_apply(loop, err)) && link->transport->turn(link->source, err) &&
		   (last ? ask_flushed(loop, err) : feed_apply(loop, err)) &&
		   link->transport->confirm(link->source, tide_apply_flushed(link->apply), err) &&
		   (last || tide_link_watch_turn(link->watch, err));
}

/*
 * What is under way is finished, unless it is a part of a transaction: its end may be far.
 * What is here is confirmed, too: nobody else will do it while we are away.
 */
static bool
finish(Loop *loop, TideError *err)
{
	TideApply *apply = loop->link->apply;

	while (tide_apply_busy(apply) || (!tide_apply_in_transaction(apply) &&
									  tide_apply_flushed(apply) < tide_apply_position(apply)))
	{
		if (!turn(loop, true, err))
			return false;
	}
	return true;
}

/* Nothing is under way; what is only read ahead does not count. */
static bool
is_idle(const TideLink *link)
{
	return !tide_apply_busy(link->apply) && !tide_apply_in_transaction(link->apply);
}

static bool
run_loop(Loop *loop, TideError *err)
{
	TideLink *link = loop->link;

	while (!tide_stop_requested(link->pipeline->drain))
	{
		if (!turn(loop, false, err))
			return false;
		/* Copying needs both sides idle, and takes a while: not in the middle of a transaction. */
		if (tide_link_watch_wanted(link->watch) && is_idle(link))
			return finish(loop, err);
		if (link->transport->heavy != NULL && is_idle(link) &&
			link->transport->heavy(link->source) && !open_anew(link, err))
			return false;
	}
	return finish(loop, err);
}

bool
tide_link_stream(TideLink *link, TideError *err)
{
	Loop loop = {.link = link};
	bool ok = tide_apply_new(link->home, link->pipeline->spec.name, link->pipeline->spec.epoch,
							 link->pipeline->spec.metrics, link->spec.position, &link->apply,
							 err) &&
			  link->transport->open(link, link->spec.position, &link->source, err) &&
			  tide_link_phase(link, "streaming", err);

	if (ok)
	{
		tide_pipeline_opened(link->pipeline);
		link->watch = tide_link_watch_new(link);
		ok = run_loop(&loop, err);
		tide_link_watch_end(link->watch);
		link->spec.position = tide_apply_position(link->apply);
	}
	tide_link_watch_free(link->watch);
	link->watch = NULL;
	close_source(link);
	tide_apply_free(link->apply);
	link->apply = NULL;
	return ok;
}
