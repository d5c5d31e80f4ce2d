/*
 * link_internal.h
 *		What the parts of a link's thread share, and the seam to what carries its frames.
 *
 * One thread per link.  It has a connection to its own database on which frames
 * are applied (home), another for reports while a copy runs, and one to the
 * origin for questions and heartbeats (control).  Only home and the transport
 * are needed all the time; a control connection that fails is opened again.
 */
#ifndef TIDE_LINK_INTERNAL_H
#define TIDE_LINK_INTERNAL_H

#include <poll.h>

#include "link.h"
#include "link_apply.h"

typedef struct TideLink TideLink;
typedef struct TideFrameSource TideFrameSource; /* a transport's own */

#define TIDE_TRANSPORT_FDS 4

/*
 * What carries frames from the origin to here.  A new one is a file and a line
 * in link.c.  Functions return true, or false with *err filled; after a failure
 * the source is closed and everything opened anew, after a pause.
 */
typedef struct TideTransport
{
	const char *name;  /* as in tide.link */
	bool needs_origin; /* the origin's database must be reachable all the time */

	/* ---- before streaming; these may wait, on link->control too ---- */

	/* Nothing was ever taken: makes the origin keep its changes from *position on. */
	bool (*reserve)(TideLink *link, uint64_t *position, TideError *err);

	/*
	 * Can what follows link->spec.position still be had?  If not, why goes into
	 * gap (else it stays empty): rows have to be copied again.  An error means
	 * that it can't be known, or that a person has to decide.
	 */
	bool (*check)(TideLink *link, char *gap, size_t gap_size, TideError *err);

	/* The link is removed: undoes reserve.  True too if there is nothing to undo. */
	bool (*release)(TideLink *link, TideError *err);

	/* ---- streaming; only open may wait ---- */

	/* Frames from position on (any before it may come, too: they are skipped). */
	bool (*open)(TideLink *link, uint64_t position, TideFrameSource **source, TideError *err);

	/* What to poll; returns how many of fds (TIDE_TRANSPORT_FDS) were filled in. */
	int (*poll)(const TideFrameSource *source, struct pollfd *fds);

	/* Takes what has come and answers who has to be answered.  At least once in 200 ms. */
	bool (*turn)(TideFrameSource *source, TideError *err);

	/* The next frame, if there is one.  Its data stays until next is called again. */
	bool (*next)(TideFrameSource *source, TideFrame *frame, bool *have, TideError *err);

	/* Everything before position is durable here. */
	bool (*confirm)(TideFrameSource *source, uint64_t position, TideError *err);

	/* The origin's WAL has come so far; may be NULL. */
	void (*wal_end)(TideFrameSource *source, uint64_t wal_end);

	void (*close)(TideFrameSource *source);
} TideTransport;

extern const TideTransport tide_transport_direct; /* link_direct.c */

/* tide.relay_link() */
typedef struct TideLinkSpec
{
	int id;
	char *region;
	char *conninfo; /* may be a reference to a secret */
	char *transport;
	char *slot;
	bool copy;
	char *phase;
	bool removing;
	uint64_t position;	/* 0: nothing yet */
	uint64_t system_id; /* of the origin when the position was written */
	uint32_t timeline;
	json_t *options;
} TideLinkSpec;

/* tide.rows_identify() at the origin */
typedef struct TideLinkOrigin
{
	bool known; /* the rest is filled in */
	uint64_t system_id;
	uint32_t timeline;
	uint64_t wal_end; /* the furthest heard of */
	int server_version;
} TideLinkOrigin;

typedef struct TideLinkWatch TideLinkWatch; /* link_watch.c */

struct TideLink
{
	TidePipeline *pipeline;
	TideLinkSpec spec;
	TideLinkOrigin origin;
	const TideTransport *transport;
	TidePg *home;
	TidePg *control; /* NULL while there is none; see tide_link_control */
	TideFrameSource *source;
	TideApply *apply;
	TideLinkWatch *watch;
};

/* Opens link->control and asks who is there, if that was not done.  Waits. */
extern bool tide_link_control(TideLink *link, TideError *err);

/* Puts the origin's name before an error that came from there; returns false. */
extern bool tide_link_at_origin(const TideLink *link, TideError *err);

/* The conninfo with its reference resolved; to be given to tide_secret_free.  NULL: err is filled. */
extern char *tide_link_conninfo(const TideLink *link, TideError *err);

/* Options of the link, with their defaults. */
extern size_t tide_link_max_frame(const TideLink *link);
extern int tide_link_compression(const TideLink *link, int default_level);

/* A statement at home with (pipeline, epoch, more ...); values[0] and [1] are filled in here. */
extern bool tide_link_home_exec(TideLink *link, const char *sql, int n_params, const char **values,
								PGresult **res, TideError *err);

#endif /* TIDE_LINK_INTERNAL_H */
