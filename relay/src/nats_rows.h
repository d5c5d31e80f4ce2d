/*
 * nats_rows.h
 *		Frames of rows on NATS: what the publisher and the links agree on.
 *
 * Owns: the stream and its subjects, frames as messages and back, what a region
 * and the publisher tell each other.  Does not own: making frames, publishing
 * (rows_publish.c), reading (link_nats.c).
 *
 * Stream TIDE_ROWS_<region>, in the JetStream domain of the region that
 * publishes; others source it from there.  Subject tide.rows.<region>.frames.
 * Frames for one destination alone: stream TIDE_ROWS_<region>+<destination>, subject
 * tide.rows.<region>.<destination>.frames, so that a broker's permissions can keep others away.
 * One message is one frame, or a part of one that is larger than max_payload:
 *
 *	Nats-Msg-Id	<region>:<start>:<end>:<number>.<part>#<run>
 *	Tide-Frame	<run> <number> <start> <end> <flags>
 *	Tide-Part	<part>/<parts>, from 1
 *
 * A run is one uninterrupted stretch of decoding: within it frames are numbered
 * and follow each other without gap.  A publisher that begins anew begins a new
 * run, perhaps before the end of the one before.  The run is in the id because
 * the same changes may be cut into frames in another way then: neither the
 * stream nor a reader may take a frame of one run for its like of another.
 *
 * What regions tell each other is plain NATS, not JetStream; nobody keeps it:
 *
 *	_TIDE.rows.<region>.confirm	a destination has durably come so far
 *	_TIDE.rows.<region>.rewind	a destination lacks what follows its position; answered
 *	_TIDE.rows.<region>.where	where are you, and where could you rewind to? answered
 *
 * A publisher for one destination is told _TIDE.rows.<region>.<destination>.confirm and so on.
 */
#ifndef TIDE_NATS_ROWS_H
#define TIDE_NATS_ROWS_H

#include "nats_provision.h"
#include "wal_frames.h"

#define TIDE_ROWS_RUN 48 /* size of a run's name */
#define TIDE_ROWS_SUBJECT 200

/* A region's stream.  want points into the rest: not to be copied. */
typedef struct TideRowsStream
{
	char name[256];
	char subject[TIDE_ROWS_SUBJECT]; /* frames are published on it */
	char filter[TIDE_ROWS_SUBJECT];	 /* covers all of the region's subjects */
	TideProvision want;
} TideRowsStream;

/*
 * Fills stream.  options: of a link or of the publisher; borrowed.  region: who
 * publishes.  destination: for whom alone; NULL: for all.  origin: the stream is
 * that region's own, not a copy of it.
 */
extern void tide_rows_stream(const json_t *options, const char *region, const char *destination,
							 bool origin, TideRowsStream *stream);

/* ---- frames as messages ---- */

typedef struct TideRowsLabel
{
	char run[TIDE_ROWS_RUN];
	uint64_t number; /* of the frame in its run, from 1 */
	uint64_t start;
	uint64_t end;
	uint8_t flags; /* TIDE_FRAME_OPEN, TIDE_FRAME_CONTINUES */
	uint32_t part; /* from 1 */
	uint32_t parts;
} TideRowsLabel;

/* How many bytes of a frame go into one message of a server that takes max_payload. */
extern size_t tide_rows_part_size(size_t max_payload);

/* A message with these bytes.  Only memory can fail. */
extern natsStatus
tide_rows_message(const char *region, const char *subject, const char *reply,
				  const TideRowsLabel *label, const char *data, size_t len, natsMsg **msg);

/* false: no message of ours. */
extern bool tide_rows_label(natsMsg *msg, TideRowsLabel *label);

/*
 * The label of the stream's first message from *seq on, or (0) of its last one;
 * *seq becomes its number, 0 if there is none.  label->parts is 0 for a message
 * that is not ours.
 */
extern bool tide_rows_label_at(TideJs *js, const TideRowsStream *stream, uint64_t *seq,
							   TideRowsLabel *label, TideError *err);

/* Putting parts together; memory is that of one frame. */
typedef struct TideRowsParts
{
	TideBuf data;
	TideRowsLabel label; /* of the last part taken; parts 0: none */
} TideRowsParts;

/*
 * Adds a message.  *whole: data is a complete frame now, until the next call.  What does not fit to
 * the parts before it throws those away: a frame is complete or does not exist.
 */
extern bool tide_rows_add_part(TideRowsParts *parts, const TideRowsLabel *label, natsMsg *msg,
							   bool *whole, TideError *err);

/* Has the frame something for somebody who has everything before position? */
extern bool tide_rows_needed(const TideRowsLabel *label, uint64_t position);

/* ---- what regions tell each other ---- */

typedef enum TideRowsTopic
{
	TIDE_ROWS_CONFIRM,
	TIDE_ROWS_REWIND,
	TIDE_ROWS_WHERE
} TideRowsTopic;

/* A destination's message. */
typedef struct TideRowsNote
{
	char region[64]; /* the destination's */
	uint64_t position;
} TideRowsNote;

/* The publisher's answer. */
typedef struct TideRowsAnswer
{
	char domain[256]; /* JetStream domain of its stream; "": none */
	uint64_t from;	  /* the earliest position it can go back to */
	uint64_t end;	  /* it has published so far */
	uint64_t wal_end; /* of its WAL */
	uint64_t system_id;
	uint32_t timeline;
	bool known; /* the destination is one of those it waits for */
} TideRowsAnswer;

extern void tide_rows_topic(TideRowsTopic topic, const char *region, const char *destination,
							char *subject, size_t size);

/* region: who publishes; destination: for whom alone, or NULL.  reply may be NULL. */
extern bool
tide_rows_tell(TideNats *nats, TideRowsTopic topic, const char *region, const char *destination,
			   const char *reply, const TideRowsNote *note, TideError *err);
extern bool tide_rows_read_note(natsMsg *msg, TideRowsNote *note);
extern bool
tide_rows_reply(TideNats *nats, const char *reply, const TideRowsAnswer *answer, TideError *err);
extern bool tide_rows_read_answer(natsMsg *msg, TideRowsAnswer *answer);

#endif /* TIDE_NATS_ROWS_H */
