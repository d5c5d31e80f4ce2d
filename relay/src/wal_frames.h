/*
 * wal_frames.h
 *		From a slot to frames: the WAL stream and the capture put together.
 *
 * Owns: when a frame is made (at once for whoever is idle, larger ones for
 * whoever is busy), how much is read ahead, the origin's clock and WAL end as
 * frames tell them.  Does not own: who takes the frames: a direct link
 * (link_direct.c) or the publisher (rows_publish.c).
 *
 * Memory is bounded: at most one finished frame and one that is being collected
 * (and the largest single change); the rest waits in the server.
 */
#ifndef TIDE_WAL_FRAMES_H
#define TIDE_WAL_FRAMES_H

#include <poll.h>

#include "wal_stream.h"

/* A frame on its way.  data belongs to whoever made it, until the next one is asked for. */
typedef struct TideFrame
{
	const char *data;
	size_t len;		  /* bytes on the wire */
	uint8_t flags;	  /* TIDE_FRAME_OPEN, TIDE_FRAME_CONTINUES, TIDE_FRAME_SYNC */
	uint64_t start;	  /* see TideFrameHeader */
	uint64_t end;	  /* the position once it is applied */
	size_t raw_bytes; /* of its records, before compression */
} TideFrame;

#define TIDE_MAX_FRAME_DEFAULT (1024 * 1024)

typedef struct TideWalFramesOptions
{
	const char *conninfo;
	const char *what; /* names the connection */
	const TideStop *stop;
	const char *slot;
	bool standby; /* commits at the origin may wait for this reader */
	const char *publications;
	const char *region; /* the origin's name */
	uint64_t system_id;
	uint32_t timeline;
	int server_version; /* as server_version_num */
	uint64_t start;
	uint64_t known_end; /* the last transaction before start ended here; 0: never mind ... */
	int64_t known_us; /* ... and committed then: the stream must have it, see tide_capture_expect */
	size_t max_frame; /* bytes of records; 0: the default */
	int level;		  /* of compression; 0: none */
} TideWalFramesOptions;

typedef struct TideWalFrames TideWalFrames;

/* Connects and starts streaming.  opts' strings are needed only during the call; stop longer. */
extern bool
tide_wal_frames_open(const TideWalFramesOptions *opts, TideWalFrames **frames, TideError *err);
extern void tide_wal_frames_close(TideWalFrames *frames); /* NULL is fine */

/* What to poll before the next turn; returns how many were filled in (one). */
extern int tide_wal_frames_poll(const TideWalFrames *frames, struct pollfd *fds);

/*
 * Before polling.  busy: no frame can be taken now, so the poll need not end for what comes.
 * Returns how long it may wait at most, in milliseconds; -1: any time.
 */
extern int tide_wal_frames_patience(TideWalFrames *frames, bool busy);

/* Takes what has come, as far as there is room; answers the server.  Never waits. */
extern bool tide_wal_frames_turn(TideWalFrames *frames, TideError *err);

/*
 * The next frame, if there is something to send; *have says so.  Ask only when
 * the one before is done with.  Now and then it is an empty one, which only
 * carries a position.
 */
extern bool
tide_wal_frames_next(TideWalFrames *frames, TideFrame *frame, bool *have, TideError *err);

/* The stream turned out not to have the transaction that was known; its turn has failed. */
extern bool tide_wal_frames_other_history(const TideWalFrames *frames);

/* Is one ready that is as large as they get?  Then waiting for more to go with it gains nothing. */
extern bool tide_wal_frames_full(const TideWalFrames *frames);

/*
 * Did a very large message come a while ago, and is nothing collected?  libpq and the server keep memory
 * of that size until the connection ends: then it is time to open it anew.
 */
extern bool tide_wal_frames_heavy(const TideWalFrames *frames);

/* Everything before this position is durable where it was wanted.  Sent at the next turn. */
extern void tide_wal_frames_confirm(TideWalFrames *frames, uint64_t position);

/* Sends it now, if a commit at the origin waits for it. */
extern bool tide_wal_frames_answer(TideWalFrames *frames, TideError *err);

/* How far the origin's WAL is, by other means (a heartbeat's position): frames tell it. */
extern void tide_wal_frames_wal_end(TideWalFrames *frames, uint64_t wal_end);

#endif /* TIDE_WAL_FRAMES_H */
