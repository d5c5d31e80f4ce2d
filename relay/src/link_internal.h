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
typedef struct TideTableList TideTableList;
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
	bool for_one;	   /* frames are made for this region alone: residency can be kept */

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

	/*
	 * busy: a frame is being applied, so nothing can follow it yet and the poll need not end for
	 * every little thing that comes.  Returns how long it may wait at most, in milliseconds; -1:
	 * any time.  May be NULL.
	 */
	int (*patience)(TideFrameSource *source, bool busy);

	/* Takes what has come and answers who has to be answered.  At least once in 200 ms. */
	bool (*turn)(TideFrameSource *source, TideError *err);

	/* The next frame, if there is one.  Its data stays until next is called again. */
	bool (*next)(TideFrameSource *source, TideFrame *frame, bool *have, TideError *err);

	/* Does it keep memory that opening it anew would free, and nothing that this would lose?  May be NULL. */
	bool (*heavy)(const TideFrameSource *source);

	/* Everything before position is durable here. */
	bool (*confirm)(TideFrameSource *source, uint64_t position, TideError *err);

	/* The origin's WAL has come so far; may be NULL. */
	void (*wal_end)(TideFrameSource *source, uint64_t wal_end);

	void (*close)(TideFrameSource *source);
} TideTransport;

extern const TideTransport tide_transport_direct; /* link_direct.c */
extern const TideTransport tide_transport_nats;	  /* link_nats.c */

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
	uint64_t commit_end; /* of the last transaction taken, where it ended; 0: none */
	int64_t commit_us;	 /* when it committed */
	char *lanes;		 /* that come by this pipeline, comma-separated: "main", "low" or both */
} TideLinkSpec;

/* tide.rows_identify() at the origin */
typedef struct TideLinkOrigin
{
	bool known; /* the rest is filled in */
	uint64_t system_id;
	uint32_t timeline;
	uint64_t wal_end; /* the furthest heard of */
	int64_t built_us; /* its clock when it made the last frame; 0: the transport does not tell */
	int server_version;
} TideLinkOrigin;

typedef struct TideLinkWatch TideLinkWatch;

struct TideLink
{
	TidePipeline *pipeline;
	TideLinkSpec spec;
	TideLinkOrigin origin;
	const TideTransport *transport;
	TidePg *home;	 /* frames are applied here */
	TidePg *reports; /* to our database, too: what must not wait for an apply */
	TidePg *control; /* to the origin; NULL while there is none, see tide_link_control */
	TideFrameSource *source;
	TideApply *apply;
	TideLinkWatch *watch;
	TideTableList *refused; /* tables whose copy failed: left alone for a while */

	/* A snapshot that reserve left for the first copy, and the connection that keeps it; or NULL. */
	TideWal *snapshot_wal;
	TideWalSlot snapshot;

	uint64_t slot_confirmed; /* as the slot was when it was last looked at */
	bool other_history;		 /* the stream has turned out to be no continuation of what is here */
};

/* ---- link.c ---- */

/*
 * Opens link->control and asks who is there, if that was not done.  Waits.
 * TD012 if it is not the cluster that the position is about.
 */
extern bool tide_link_control(TideLink *link, TideError *err);

/* Puts the origin's name before an error that came from there; returns false. */
extern bool tide_link_at_origin(const TideLink *link, TideError *err);

/* The conninfo with its reference resolved, for tide_secret_free.  NULL: err is filled. */
extern char *tide_link_conninfo(const TideLink *link, TideError *err);

/* This region's name for the origin, if it makes frames for it alone; else NULL: the same for all. */
extern const char *tide_link_destination(const TideLink *link);

/* A connection in replication mode to the origin. */
extern bool tide_link_open_wal(const TideLink *link, TideWal **wal, TideError *err);

/* An option of the link that is a number or a boolean, or its default (common/tide_options.c). */
extern long long tide_link_option(const TideLink *link, const char *key);

/*
 * A statement of our database's with (pipeline, epoch, more ...): values[0] and
 * values[1] are filled in here, n_params counts them.
 */
extern bool tide_link_exec(const TideLink *link, TidePg *pg, const char *sql, int n_params,
						   const char **values, PGresult **res, TideError *err);

/* relay_link_phase */
extern bool tide_link_phase(TideLink *link, const char *phase, TideError *err);

/* ---- link_tables.c: which tables the two sides have ---- */

typedef struct TideTable
{
	char *schema;
	char *name;
	bool wanted;   /* here: added, and not copied yet */
	int64_t wish;  /* of ours, as copy_end() asks it back */
	char *columns; /* arrays as text */
	char *types;
	bool binary;
	char *copy_sql;
	int64_t rows_estimate;
	int64_t bytes;
	long long retry_at; /* of tide_link.refused */
} TideTable;

struct TideTableList
{
	TideTable *tables;
	size_t n;
};

/* From the answers of rows_tables and relay_link_tables. */
extern TideTableList *tide_tables_there(const PGresult *res);
extern TideTableList *tide_tables_here(const PGresult *res);
extern void tide_tables_free(TideTableList *list); /* NULL is fine */
extern TideTable *tide_tables_find(const TideTableList *list, const char *schema, const char *name);

/* How many tables are wanted here, published there and not left alone; keeps only those in there. */
extern size_t
tide_tables_to_copy(const TideLink *link, const TideTableList *here, TideTableList *there);

/*
 * Asks the origin what it publishes by which lane, and tells our database, waiting.  here: may be
 * NULL; else the tables as they then are here.
 */
extern bool tide_link_look(TideLink *link, TideTableList **here, TideError *err);

/* Asks both sides, waiting.  *there: what is to be copied (may be empty). */
extern bool tide_link_tables(TideLink *link, TideTableList **there, TideError *err);

/* Leaves a table alone for a while, as its copy failed. */
extern void tide_link_refuse(TideLink *link, const TideTable *table);

/* ---- link_watch.c: heartbeats, lag, tables that appear ---- */

extern TideLinkWatch *tide_link_watch_new(TideLink *link);
extern void tide_link_watch_free(TideLinkWatch *watch); /* NULL is fine */

/* What is asked is brought to its end: others may use the connections again. */
extern void tide_link_watch_end(TideLinkWatch *watch);

extern int tide_link_watch_poll(const TideLinkWatch *watch, struct pollfd *fds); /* at most two */

/* Takes answers, asks what is due.  Never waits. */
extern bool tide_link_watch_turn(TideLinkWatch *watch, TideError *err);

/* Waits until nothing is asked of the origin: its connection can be used for something else. */
extern bool tide_link_watch_rest(TideLinkWatch *watch, TideError *err);

/* Is the lane to wait for more important ones? */
extern bool tide_link_watch_held(const TideLinkWatch *watch);

/* Is there a table to be copied? */
extern bool tide_link_watch_wanted(const TideLinkWatch *watch);

/* ---- link_copy.c, link_stream.c: the two phases ---- */

/* Copies what is wanted; waits until that is done.  A table that is refused does not fail it. */
extern bool tide_link_copy(TideLink *link, TideTableList *tables, TideError *err);

/* Streams until asked to stop, until a table wants to be copied, or until it fails. */
extern bool tide_link_stream(TideLink *link, TideError *err);

#endif /* TIDE_LINK_INTERNAL_H */
