/*
 * link_direct.c
 *		The transport "direct": a slot at the origin, read by the destination's relay.
 *
 * Owns: the slot's life and what its state says about gaps.  Does not own:
 * frames (wal_frames.c).
 *
 * The slot is confirmed only up to what is durable here, so it never is ahead
 * of the position.  If it is, this database went back in time (a backup was
 * restored) and what lies between is gone from the origin's WAL.  If the
 * origin's WAL ends before the position, the origin did, and what was taken from
 * there meanwhile is no more.  And if it has been written on past the position, the last
 * transaction that came is not found in the stream, which begins with what the slot has.
 */
#include <stdlib.h>
#include <string.h>

#include "link_internal.h"
#include "log.h"
#include "mem.h"
#include "queries.h"
#include "secret.h"

/* While somebody streams from the slot: a stream of ours that has ended, or an earlier owner's. */
#define TRIES 40
#define PAUSE_MS 100
#define FREE_EVERY 5 /* tries; then whoever holds it silently is made to let go */

struct TideFrameSource
{
	TideLink *link;
	TideWalFrames *frames;
};

/* ---- the slot ---- */

typedef struct Slot
{
	bool exists;
	char plugin[64];
	char wal_status[16];
	uint64_t confirmed;
	uint64_t wal_end; /* of the server, just now */
} Slot;

/* One of that name which somebody else made is an error: it is neither read nor dropped. */
static bool
look_at_slot(TideLink *link, Slot *slot, TideError *err)
{
	const char *values[1] = {link->spec.slot};
	PGresult *res;

	memset(slot, 0, sizeof(*slot));
	if (!tide_link_control(link, err))
		return false;
	if (!tide_pg_exec(link->control, tide_q_rows_slot, 1, values, &res, err))
		return tide_link_at_origin(link, err);
	if (PQntuples(res) == 1)
	{
		slot->exists = true;
		snprintf(slot->plugin, sizeof(slot->plugin), "%s", PQgetvalue(res, 0, 1));
		snprintf(slot->wal_status, sizeof(slot->wal_status), "%s", PQgetvalue(res, 0, 2));
		slot->confirmed = tide_pg_lsn(res, 0, 3);
		slot->wal_end = tide_pg_lsn(res, 0, 4) + (uint64_t) tide_pg_int64(res, 0, 5);
		tide_gauge(link->pipeline->spec.metrics, TIDE_G_SLOT_RETAINED, tide_pg_int64(res, 0, 5));
	}
	PQclear(res);
	if (!slot->exists || strcmp(slot->plugin, "pgoutput") == 0)
		return true;
	return tide_error(err, TIDE_ERR_CONFIG, "",
					  "region \"%s\": slot \"%s\" is not ours: its plugin is \"%s\"",
					  link->spec.region, link->spec.slot, slot->plugin);
}

/* Ends a walsender that an earlier owner of this link left behind. */
static bool
free_slot(TideLink *link, TideError *err)
{
	const char *values[1] = {link->spec.slot};

	if (!tide_link_control(link, err))
		return false;
	if (!tide_pg_exec(link->control, tide_q_rows_slot_free, 1, values, NULL, err))
		return tide_link_at_origin(link, err);
	return true;
}

static bool
in_use(const TideError *err)
{
	return strcmp(err->code, "55006") == 0;
}

/* Another relay may own the link by now, and the slot: nothing is done to it on an old lease. */
static bool
check_lease(const TideLink *link, TideError *err)
{
	const TidePipelineInfo *info = &link->pipeline->source_info;

	while (!info->lease_fresh(info))
	{
		if (!tide_stop_sleep(link->pipeline->drain, PAUSE_MS))
			return tide_error(err, TIDE_ERR_STOPPED, "", "stopped while the database was silent");
	}
	return true;
}

static bool
drop_slot(TideLink *link, TideWal *wal, TideError *err)
{
	for (int n = 1; check_lease(link, err); n++)
	{
		if (tide_wal_drop_slot(wal, link->spec.slot, err))
			return true;
		if (!in_use(err) || n == TRIES)
			return tide_link_at_origin(link, err);
		if (n % FREE_EVERY == 0 && !free_slot(link, err))
			return false;
		if (!tide_stop_sleep(link->pipeline->drain, PAUSE_MS))
			return tide_error(err, TIDE_ERR_STOPPED, "", "asked to stop");
	}
	return false;
}

static bool
direct_reserve(TideLink *link, uint64_t *position, TideError *err)
{
	TideWal *wal;
	Slot slot;

	if (!look_at_slot(link, &slot, err) || !tide_link_open_wal(link, &wal, err))
		return false;
	/* One that is there, with no position to go with it, is of an attempt that died here. */
	if ((!slot.exists || drop_slot(link, wal, err)) && check_lease(link, err))
	{
		if (tide_wal_create_slot(wal, link->spec.slot, false, -1, &link->snapshot, err))
		{
			link->snapshot_wal = wal;
			*position = link->snapshot.position;
			return true;
		}
		tide_link_at_origin(link, err);
	}
	tide_wal_close(wal);
	return false;
}

static bool
direct_check(TideLink *link, char *gap, size_t gap_size, TideError *err)
{
	char confirmed[TIDE_LSN_TEXT];
	char position[TIDE_LSN_TEXT];
	char wal_end[TIDE_LSN_TEXT];
	Slot slot;

	if (!look_at_slot(link, &slot, err))
		return false;
	link->slot_confirmed = slot.confirmed;
	tide_lsn_format(slot.wal_end, wal_end);
	tide_lsn_format(slot.confirmed, confirmed);
	tide_lsn_format(link->spec.position, position);
	if (!slot.exists)
		snprintf(gap, gap_size, "slot \"%s\" is not there any more", link->spec.slot);
	else if (strcmp(slot.wal_status, "lost") == 0)
		snprintf(gap, gap_size,
				 "slot \"%s\" was too far behind: the server has removed WAL that it needed "
				 "(max_slot_wal_keep_size)",
				 link->spec.slot);
	else if (link->spec.timeline != link->origin.timeline)
		snprintf(gap, gap_size, "the server is on timeline %u, was %u: a standby was promoted",
				 (unsigned) link->origin.timeline, (unsigned) link->spec.timeline);
	else if (slot.confirmed > link->spec.position)
		snprintf(gap, gap_size, "this database went back in time: it is at %s, slot \"%s\" at %s",
				 position, link->spec.slot, confirmed);
	else if (slot.wal_end < link->spec.position)
		snprintf(gap, gap_size,
				 "the server went back in time: it is at %s, rows were taken up to %s", wal_end,
				 position);
	return true;
}

static bool
direct_release(TideLink *link, TideError *err)
{
	TideWal *wal;
	bool ok;

	if (!tide_link_open_wal(link, &wal, err))
		return false;
	ok = drop_slot(link, wal, err);
	tide_wal_close(wal);
	return ok;
}

/* ---- streaming ---- */

static bool
find_publications(TideLink *link, char **publications, TideError *err)
{
	const char *values[2] = {tide_link_destination(link), link->spec.lanes};
	PGresult *res;

	*publications = NULL;
	if (!tide_link_control(link, err))
		return false;
	if (!tide_pg_exec(link->control, tide_q_rows_publications, 2, values, &res, err))
		return tide_link_at_origin(link, err);
	if (!PQgetisnull(res, 0, 0))
		*publications = tide_strdup(PQgetvalue(res, 0, 0));
	PQclear(res);
	if (*publications != NULL)
		return true;
	tide_error(err, TIDE_ERR_CONFIG, "42704", "region \"%s\" has lost its publications",
			   link->spec.region);
	tide_error_hint(err, "tide.table_add() makes them");
	return false;
}

static bool
open_frames(TideLink *link, const TideWalFramesOptions *opts, TideWalFrames **frames,
			TideError *err)
{
	for (int n = 1;; n++)
	{
		if (tide_wal_frames_open(opts, frames, err))
			return true;
		if (!in_use(err) || n == TRIES)
			return tide_link_at_origin(link, err);
		if (n % FREE_EVERY == 0 && (!check_lease(link, err) || !free_slot(link, err)))
			return false;
		if (!tide_stop_sleep(link->pipeline->drain, PAUSE_MS))
			return tide_error(err, TIDE_ERR_STOPPED, "", "asked to stop");
	}
}

/*
 * Whoever reads other publications than before does not see transactions that wrote nothing of theirs, the
 * last one that was taken perhaps among them: then there is none to be looked for.
 */
static bool
forget_other_lanes(TideLink *link, TideError *err)
{
	const char *values[3] = {NULL, NULL, link->spec.lanes};
	PGresult *res;

	if (!tide_link_exec(link, link->home, tide_q_relay_link_reads, 3, values, &res, err))
		return false;
	if (PQgetvalue(res, 0, 0)[0] != 't')
		link->spec.commit_end = 0;
	PQclear(res);
	return true;
}

static bool
direct_open(TideLink *link, uint64_t position, TideFrameSource **result, TideError *err)
{
	TideWalFramesOptions opts = {
		.what = link->pipeline->spec.name,
		.stop = link->pipeline->drain,
		.slot = link->spec.slot,
		.standby = true,
		.region = link->spec.region,
		.system_id = link->origin.system_id,
		.timeline = link->origin.timeline,
		.server_version = link->origin.server_version,
		.start = position,
		.max_frame = (size_t) tide_link_option(link, "max_frame"),
		.level = (int) tide_link_option(link, "compression"),
	};
	TideWalFrames *frames = NULL;
	char *publications;
	char *conninfo;

	if (!forget_other_lanes(link, err))
		return false;
	/* What the slot still has of the time before must be what came from there. */
	if (link->slot_confirmed != 0 && link->slot_confirmed < link->spec.commit_end &&
		link->spec.commit_end <= position)
	{
		opts.known_end = link->spec.commit_end;
		opts.known_us = link->spec.commit_us;
	}
	if (!find_publications(link, &publications, err))
		return false;
	conninfo = tide_link_conninfo(link, err);
	if (conninfo != NULL)
	{
		opts.conninfo = conninfo;
		opts.publications = publications;
		(void) open_frames(link, &opts, &frames, err);
	}
	tide_secret_free(conninfo);
	free(publications);
	if (frames == NULL)
		return false;
	/* Opened once more by the same attempt, the slot will be far beyond it. */
	link->spec.commit_end = 0;
	tide_wal_frames_wal_end(frames, link->origin.wal_end);
	*result = tide_zalloc(sizeof(**result));
	(*result)->link = link;
	(*result)->frames = frames;
	return true;
}

static int
direct_poll(const TideFrameSource *source, struct pollfd *fds)
{
	return tide_wal_frames_poll(source->frames, fds);
}

static int
direct_patience(TideFrameSource *source, bool busy)
{
	return tide_wal_frames_patience(source->frames, busy);
}

static bool
direct_turn(TideFrameSource *source, TideError *err)
{
	if (tide_wal_frames_turn(source->frames, err))
		return true;
	source->link->other_history = tide_wal_frames_other_history(source->frames);
	return false;
}

static bool
direct_next(TideFrameSource *source, TideFrame *frame, bool *have, TideError *err)
{
	return tide_wal_frames_next(source->frames, frame, have, err);
}

static bool
direct_heavy(const TideFrameSource *source)
{
	return tide_wal_frames_heavy(source->frames);
}

static bool
direct_confirm(TideFrameSource *source, uint64_t position, TideError *err)
{
	tide_wal_frames_confirm(source->frames, position);
	return tide_wal_frames_answer(source->frames, err);
}

static void
direct_wal_end(TideFrameSource *source, uint64_t wal_end)
{
	tide_wal_frames_wal_end(source->frames, wal_end);
}

static void
direct_close(TideFrameSource *source)
{
	tide_wal_frames_close(source->frames);
	free(source);
}

const TideTransport tide_transport_direct = {
	.name = "direct",
	.needs_origin = true,
	.for_one = true,
	.reserve = direct_reserve,
	.check = direct_check,
	.release = direct_release,
	.open = direct_open,
	.poll = direct_poll,
	.patience = direct_patience,
	.turn = direct_turn,
	.next = direct_next,
	.heavy = direct_heavy,
	.confirm = direct_confirm,
	.wal_end = direct_wal_end,
	.close = direct_close,
};
