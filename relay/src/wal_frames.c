/*
 * wal_frames.c
 *		From a slot to frames: the WAL stream and the capture put together.
 *
 * Two buffers of frames take turns: one is out with whoever asked for it, the
 * other is made ahead as soon as enough is collected for it.  When that is so
 * and as much again is collected, nothing more is read; the server's walsender
 * then waits, but it is still answered, as its patience is limited.
 *
 * The server sends every change by itself, and being woken for each costs both sides more
 * than the change.  So while nobody can take a frame, or what comes committed a while ago (a
 * backlog, to which a few more milliseconds don't matter), it is read by the clock, and what
 * the server sends meanwhile joins into larger packets; and frames of a backlog are made when
 * they are worth it.
 */
#include "wal_frames.h"

#include <stdlib.h>
#include <string.h>

#include "mem.h"
#include "tide_capture.h"

#define TURN_MS 30								 /* one turn reads no longer than this */
#define LOOK_EVERY 64							 /* messages between two looks at the clock */
#define BACKLOG_US 100000						 /* what committed so long ago is one */
#define BACKLOG_FRAME_MS 10						 /* a frame is made after this time ... */
#define BACKLOG_FRAME_BYTES ((size_t) 256 << 10) /* ... or when there is so much for it */
#define EMPTY_FRAME_MS 10000 /* a position that moves without frames is told this often */
#define EMPTY_FRAME_BYTES ((uint64_t) 16 << 20) /* ... or when it has moved this far */
#define KEPT_MEMORY ((size_t) 8 << 20)	/* a frame's buffer that grew larger is given back */
#define LONG_BYTES ((size_t) 16 << 20)	/* copying so many takes a while */
#define HEAVY_BYTES ((size_t) 64 << 20) /* a message of so many is rare */
#define HEAVY_MS 60000					/* by then the slot need not decode it again */

/* A frame and what TideFrame says of it. */
typedef struct Built
{
	TideBuf buf;
	TideFrame frame;
} Built;

struct TideWalFrames
{
	TideWal *wal;
	TideCapture *capture;
	bool streaming;
	size_t max_frame;
	int level;

	Built built[2];
	int out;	/* which of them is with the caller; the other is made ahead */
	bool ahead; /* it is */

	uint64_t offered; /* end of the last frame made */
	long long offered_at;
	uint64_t confirmed;
	uint64_t awaited;  /* end of the last frame whose confirmation somebody waits for */
	uint64_t answered; /* ... and how far they have been told */
	uint64_t wal_end;
	long long heavy_at;	 /* when the last very large message came; 0: none did */
	bool backlog;		 /* the last reading brought something that committed long ago */
	int64_t origin_us;	 /* the origin's clock ... */
	long long origin_at; /* ... at this time of ours */
};

bool
tide_wal_frames_open(const TideWalFramesOptions *opts, TideWalFrames **result, TideError *err)
{
	TideWalFrames *frames = tide_zalloc(sizeof(*frames));
	const TideWalStart start = {.slot = opts->slot,
								.publications = opts->publications,
								.standby = opts->standby,
								.position = opts->known_end != 0 ? 0 : opts->start,
								.only_local = opts->server_version >= 160000};

	frames->max_frame = opts->max_frame > 0 ? opts->max_frame : TIDE_MAX_FRAME_DEFAULT;
	frames->level = opts->level;
	/* Nothing is confirmed until the caller says so: start may be ahead of what is durable. */
	frames->offered = frames->wal_end = opts->start;
	frames->offered_at = frames->origin_at = tide_monotonic_ms();
	frames->origin_us = tide_wall_us();
	tide_buf_init(&frames->built[0].buf);
	tide_buf_init(&frames->built[1].buf);
	frames->capture = tide_capture_new(opts->region, opts->system_id, opts->timeline, opts->start);
	if (frames->capture != NULL && opts->known_end != 0)
		tide_capture_expect(frames->capture, opts->known_end, opts->known_us);
	if (frames->capture == NULL)
		tide_error(err, TIDE_ERR_CONFIG, "", "no region can be called \"%s\"", opts->region);
	else if (tide_wal_open(opts->conninfo, opts->what, opts->stop, &frames->wal, err) &&
			 tide_wal_start(frames->wal, &start, err))
	{
		frames->streaming = true;
		*result = frames;
		return true;
	}
	tide_wal_frames_close(frames);
	*result = NULL;
	return false;
}

void
tide_wal_frames_close(TideWalFrames *frames)
{
	TideError ignored;

	if (frames == NULL)
		return;
	/* The server should not keep what nobody needs until somebody streams again. */
	if (frames->streaming)
		(void) tide_wal_status_now(frames->wal, tide_capture_position(frames->capture),
								   frames->confirmed, &ignored);
	tide_wal_close(frames->wal);
	tide_capture_free(frames->capture);
	tide_buf_free(&frames->built[0].buf);
	tide_buf_free(&frames->built[1].buf);
	free(frames);
}

static bool
is_full(const TideWalFrames *frames)
{
	return frames->ahead && tide_capture_size(frames->capture) >= frames->max_frame;
}

int
tide_wal_frames_poll(const TideWalFrames *frames, struct pollfd *fds)
{
	short events = tide_wal_poll_events(frames->wal);

	/* What is not going to be read now must not wake anybody. */
	fds[0].fd = tide_wal_socket(frames->wal);
	fds[0].events = is_full(frames) ? (short) (events & ~POLLIN) : events;
	fds[0].revents = 0;
	return 1;
}

int
tide_wal_frames_patience(TideWalFrames *frames, bool busy)
{
	int most = tide_wal_rest(frames->wal, busy || frames->backlog);

	return is_full(frames) ? -1 : most;
}

/* ---- making frames ---- */

static int64_t
origin_now(const TideWalFrames *frames)
{
	return frames->origin_us + (tide_monotonic_ms() - frames->origin_at) * 1000;
}

static uint64_t
later(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static void
describe(TideFrame *frame, const TideBuf *buf, const TideFrameHeader *header)
{
	frame->data = buf->data;
	frame->len = buf->len;
	frame->flags = header->flags;
	frame->start = header->start;
	frame->end = header->end;
	frame->raw_bytes = header->raw_len;
}

/* Before something that takes a while: the server counts the time since it last heard of us. */
static bool
reassure(TideWalFrames *frames, size_t bytes, TideError *err)
{
	return bytes < LONG_BYTES ||
		   tide_wal_status_now(frames->wal, tide_capture_position(frames->capture),
							   frames->confirmed, err);
}

/* Into the buffer that is not out. */
static bool
make_frame(TideWalFrames *frames, bool empty, bool *made, TideError *err)
{
	Built *built = &frames->built[!frames->out];
	TideFrameHeader header;

	tide_wal_release(frames->wal);
	if (!reassure(frames, tide_capture_size(frames->capture), err))
		return false;
	frames->wal_end = later(frames->wal_end, tide_capture_position(frames->capture));
	if (!tide_capture_frame(frames->capture, true, empty, frames->level, origin_now(frames),
							frames->wal_end, &built->buf, made))
		return tide_error(err, TIDE_ERR_DATA, "", "a change is too large for a frame");
	if (!*made)
		return true;
	tide_frame_peek(built->buf.data, built->buf.len, &header);
	describe(&built->frame, &built->buf, &header);
	frames->offered = header.end;
	if (header.flags & TIDE_FRAME_SYNC)
		frames->awaited = header.end;
	frames->offered_at = tide_monotonic_ms();
	return true;
}

/* ---- reading ---- */

bool
tide_wal_frames_other_history(const TideWalFrames *frames)
{
	return tide_capture_missed(frames->capture);
}

static bool
check_history(const TideWalFrames *frames, TideError *err)
{
	if (!tide_capture_missed(frames->capture))
		return true;
	return tide_error(
		err, TIDE_ERR_CONFIG, "TD011",
		"the server went back in time and on from there: the last transaction that was"
		" taken is not in its WAL");
}

static bool
take_message(TideWalFrames *frames, const TideWalMessage *message, TideError *err)
{
	const char *wrong;

	frames->origin_us = message->sent_us;
	if (message->event == TIDE_WAL_KEEPALIVE)
	{
		tide_capture_advance(frames->capture, message->wal_end);
		return check_history(frames, err);
	}
	if (message->len >= HEAVY_BYTES)
		frames->heavy_at = tide_monotonic_ms();
	if (!reassure(frames, message->len, err))
		return false;
	wrong = tide_capture_message(frames->capture, message->data, message->len);
	if (wrong == NULL)
		return check_history(frames, err);
	return tide_error(err, TIDE_ERR_INTERNAL, "", "can't understand what the server decoded: %s",
					  wrong);
}

/* Is there room for more?  Makes some if it can. */
static bool
make_room(TideWalFrames *frames, bool *room, TideError *err)
{
	*room = tide_capture_size(frames->capture) < frames->max_frame;
	if (*room)
		return true;
	if (frames->ahead)
		return true;
	if (!make_frame(frames, false, &frames->ahead, err))
		return false;
	*room = true;
	return true;
}

static bool
read_messages(TideWalFrames *frames, TideError *err)
{
	long long end = tide_monotonic_ms() + TURN_MS;

	for (unsigned n = 1;; n++)
	{
		TideWalMessage message;
		bool room;

		if (!make_room(frames, &room, err))
			return false;
		if (!room || (n % LOOK_EVERY == 0 && tide_monotonic_ms() > end))
			return true;
		if (!tide_wal_read(frames->wal, &message, err))
			return false;
		if (message.event == TIDE_WAL_WAIT)
			return true;
		if (!take_message(frames, &message, err))
			return false;
	}
}

/* After reading: is this a backlog, and what time is it there? */
static void
look_at_clocks(TideWalFrames *frames, int64_t origin_us)
{
	int64_t commit_us = tide_capture_commit_us(frames->capture);
	bool something = frames->origin_us != origin_us;

	frames->backlog = something && commit_us != 0 && frames->origin_us - commit_us > BACKLOG_US;
	if (something)
		frames->origin_at = tide_monotonic_ms();
}

bool
tide_wal_frames_turn(TideWalFrames *frames, TideError *err)
{
	int64_t origin_us = frames->origin_us;

	if (!read_messages(frames, err))
		return false;
	look_at_clocks(frames, origin_us);
	return tide_wal_status(frames->wal, tide_capture_position(frames->capture), frames->confirmed,
						   err);
}

/* Has the position moved far, or for long, without a frame that says so? */
static bool
empty_frame_due(const TideWalFrames *frames)
{
	uint64_t position = tide_capture_position(frames->capture);

	if (position <= frames->offered || tide_capture_in_transaction(frames->capture))
		return false;
	return position - frames->offered > EMPTY_FRAME_BYTES ||
		   tide_monotonic_ms() - frames->offered_at > EMPTY_FRAME_MS;
}

/* Of a backlog: is more to come that the frame should wait for? */
static bool
worth_waiting(const TideWalFrames *frames)
{
	size_t size = tide_capture_size(frames->capture);

	return frames->backlog && size < BACKLOG_FRAME_BYTES && size < frames->max_frame &&
		   tide_monotonic_ms() - frames->offered_at < BACKLOG_FRAME_MS;
}

bool
tide_wal_frames_next(TideWalFrames *frames, TideFrame *frame, bool *have, TideError *err)
{
	bool something = (tide_capture_transactions(frames->capture) > 0 ||
					  tide_capture_size(frames->capture) >= frames->max_frame) &&
					 !worth_waiting(frames);
	bool empty = !something && empty_frame_due(frames);

	*have = frames->ahead;
	if (!*have && (something || empty) && !make_frame(frames, empty, have, err))
		return false;
	if (!*have)
		return true;
	frames->ahead = false;
	if (frames->built[frames->out].buf.cap > KEPT_MEMORY)
		tide_buf_free(&frames->built[frames->out].buf);
	frames->out = !frames->out;
	*frame = frames->built[frames->out].frame;
	return true;
}

bool
tide_wal_frames_full(const TideWalFrames *frames)
{
	return frames->ahead || tide_capture_size(frames->capture) >= frames->max_frame;
}

bool
tide_wal_frames_heavy(const TideWalFrames *frames)
{
	return frames->heavy_at != 0 && tide_monotonic_ms() - frames->heavy_at > HEAVY_MS &&
		   !frames->ahead && tide_capture_size(frames->capture) == 0 &&
		   !tide_capture_in_transaction(frames->capture);
}

void
tide_wal_frames_confirm(TideWalFrames *frames, uint64_t position)
{
	/* Of another history nothing is confirmed, or the slot would no longer have what shows it. */
	if (!tide_capture_expects(frames->capture) && !tide_capture_missed(frames->capture))
		frames->confirmed = later(frames->confirmed, position);
}

bool
tide_wal_frames_answer(TideWalFrames *frames, TideError *err)
{
	if (frames->answered >= frames->awaited || frames->confirmed <= frames->answered)
		return true;
	frames->answered = frames->confirmed;
	return tide_wal_status_now(frames->wal, tide_capture_position(frames->capture),
							   frames->confirmed, err);
}

void
tide_wal_frames_wal_end(TideWalFrames *frames, uint64_t wal_end)
{
	frames->wal_end = later(frames->wal_end, wal_end);
}
