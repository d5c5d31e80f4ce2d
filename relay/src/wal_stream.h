/*
 * wal_stream.h
 *		PostgreSQL's replication protocol: slots, and reading what pgoutput decodes.
 *
 * Owns: a connection in replication mode, its commands, the messages of a
 * stream, status updates and when they are due.  Does not own: what the
 * messages mean (common/tide_capture.h), frames (wal_frames.h), which position
 * may be confirmed: that is the caller's word, and WAL behind it may be gone.
 *
 * Positions are LSNs as numbers, 0 is none.  Times are microseconds since 1970
 * on the origin's clock.  One thread per connection.
 */
#ifndef TIDE_WAL_STREAM_H
#define TIDE_WAL_STREAM_H

#include "pg.h"

typedef struct TideWal TideWal;

/*
 * Connects in replication mode, with settings that make values' text form the
 * same everywhere.  Errors that are about replication name the setting or
 * attribute.  stop may be NULL.
 */
extern bool tide_wal_open(const char *conninfo, const char *what, const TideStop *stop,
						  TideWal **wal, TideError *err);
extern void tide_wal_close(TideWal *wal); /* NULL is fine */

typedef struct TideWalIdentity
{
	uint64_t system_id;
	uint32_t timeline;
	uint64_t wal_end;
} TideWalIdentity;

extern bool tide_wal_identify(TideWal *wal, TideWalIdentity *identity, TideError *err);

typedef struct TideWalSlot
{
	uint64_t position;	/* everything that commits behind it will be streamed */
	char snapshot[128]; /* what was visible there; as long as wal says and does nothing else */
} TideWalSlot;

/*
 * Makes a logical slot for pgoutput and exports its snapshot.  A temporary one
 * ends with the connection.  Waits for transactions that are running; after
 * TIDE_ERR_TIMEOUT (timeout_ms >= 0) wal can only be closed, and makes none.
 */
extern bool tide_wal_create_slot(TideWal *wal, const char *name, bool temporary, int timeout_ms,
								 TideWalSlot *slot, TideError *err);

/* Drops it; true too if there is none.  TIDE_ERR_THROTTLED (55006) if somebody streams from it. */
extern bool tide_wal_drop_slot(TideWal *wal, const char *name, TideError *err);

typedef struct TideWalStart
{
	const char *slot;
	const char *publications; /* comma list of plain lower-case names */
	uint64_t position;		  /* what committed before it is not wanted */
	bool standby;			  /* its name for synchronous_standby_names: the slot's */
	bool only_local;		  /* no transactions with a replication origin (servers from 16 on) */
} TideWalStart;

extern bool tide_wal_start(TideWal *wal, const TideWalStart *start, TideError *err);

typedef enum TideWalEvent
{
	TIDE_WAL_WAIT, /* nothing more here now: poll the socket */
	TIDE_WAL_DATA, /* a message of pgoutput */
	TIDE_WAL_KEEPALIVE
} TideWalEvent;

typedef struct TideWalMessage
{
	TideWalEvent event;
	const char *data; /* of TIDE_WAL_DATA; until the next read */
	size_t len;
	uint64_t wal_end; /* of a keepalive: everything before it was decoded and sent */
	int64_t sent_us;
} TideWalMessage;

/* Never waits.  TIDE_ERR_UNAVAILABLE when the server ended the stream. */
extern bool tide_wal_read(TideWal *wal, TideWalMessage *message, TideError *err);

/* Frees the data of the last message, before the next read does. */
extern void tide_wal_release(TideWal *wal);

/*
 * Sends a status update if one is due: the server asked, confirmed moved, or
 * a few seconds have passed.  confirmed is the promise; received is for
 * show.  Never waits; call it at least once a second, whatever else is going on.
 */
extern bool tide_wal_status(TideWal *wal, uint64_t received, uint64_t confirmed, TideError *err);

/* The same, whether it is due or not. */
extern bool
tide_wal_status_now(TideWal *wal, uint64_t received, uint64_t confirmed, TideError *err);

/*
 * Until it is called with false, not every little thing that comes wakes who polls.  Returns how long
 * it may be polled at most, in milliseconds; -1: any time.
 */
extern int tide_wal_rest(TideWal *wal, bool rest);

extern int tide_wal_socket(const TideWal *wal);
extern short tide_wal_poll_events(const TideWal *wal);

#endif /* TIDE_WAL_STREAM_H */
