/*
 * tide_capture.h
 *		From the messages of pgoutput to the records of frames.
 *
 * Owns: understanding pgoutput (protocol version 1, binary, with messages), what
 * is left out (transactions that arrived by a link, foreign messages, empty
 * transactions), when a frame is full.  Does not own: the connection they come
 * from, when a frame is sent, compression (tide_frame.h).
 *
 * A transaction with an origin was applied here by a link (extension/src/apply.c
 * tags it): it is dropped whole, so nothing travels in circles.  Servers from 16
 * on drop it themselves when asked to (option origin 'none').
 */
#ifndef TIDE_CAPTURE_H
#define TIDE_CAPTURE_H

#include "tide_frame.h"

/*
 * Prefix of the logical messages that are ours.  The content is one record: 'H', or 'Y' without a
 * payload, which says that the transaction's commit waits for an answer (TIDE_FRAME_SYNC).
 */
#define TIDE_MESSAGE_PREFIX "tide"

typedef struct TideCapture TideCapture;

/*
 * region: this origin's name.  start: position of the first frame.  NULL: out of
 * memory, or no region can have that name.
 */
extern TideCapture *
tide_capture_new(const char *region, uint64_t system_id, uint32_t timeline, uint64_t start);
extern void tide_capture_free(TideCapture *capture);

/*
 * Takes one message (the payload of XLogData).  NULL, or what is wrong with it;
 * after that only tide_capture_free is allowed.  The text lives in capture.
 */
extern const char *tide_capture_message(TideCapture *capture, const void *data, size_t len);

/*
 * The stream begins before what is known (start), whose last transaction ended at end and committed
 * at commit_us (microseconds since 1970).  If the stream passes end without that one, it is of
 * a server with another history, restored and written on: tide_capture_missed() says so from
 * then on, and nothing that it has must be used.
 */
extern void tide_capture_expect(TideCapture *capture, uint64_t end, int64_t commit_us);
extern bool tide_capture_missed(const TideCapture *capture);
extern bool
tide_capture_expects(const TideCapture *capture); /* it has neither come nor been missed */

/* Bytes of records collected and not framed yet, whole and unfinished transactions. */
extern size_t tide_capture_size(const TideCapture *capture);
extern uint32_t tide_capture_transactions(const TideCapture *capture); /* whole ones among them */
extern bool tide_capture_in_transaction(const TideCapture *capture);

/* When the transaction that is or was under way last committed, microseconds since 1970; 0: none yet. */
extern int64_t tide_capture_commit_us(const TideCapture *capture);

/* End of the last whole transaction seen, also of dropped ones: what is safe once frames are. */
extern uint64_t tide_capture_position(const TideCapture *capture);

/* A keepalive said that nothing of ours is before this position.  Ignored inside transactions. */
extern void tide_capture_advance(TideCapture *capture, uint64_t position);

/*
 * Makes a frame of what was collected.  Whole transactions if there are any (an
 * unfinished one stays for the next frame); if there is only a part of one and
 * partial is true, that part (TIDE_FRAME_OPEN).  The last part of a transaction
 * gets a frame of its own: to send all there is, call until *made is false, which
 * it is if there was nothing.  With even_empty an empty frame is made then, that
 * only carries the position.  built_us, wal_end: see TideFrameHeader.  false: out
 * of memory or too large; nothing is lost then.
 */
extern bool tide_capture_frame(TideCapture *capture, bool partial, bool even_empty, int level,
							   int64_t built_us, uint64_t wal_end, TideBuf *out, bool *made);

#endif /* TIDE_CAPTURE_H */
