/*
 * rows_send.h
 *		Frames to a JetStream stream, with many on their way at once.
 *
 * Owns: cutting a frame into messages, the window of those not acknowledged,
 * what the stream's answers mean.  Does not own: where frames come from and what
 * an acknowledgement is worth (rows_publish.c).
 */
#ifndef TIDE_ROWS_SEND_H
#define TIDE_ROWS_SEND_H

#include "connector.h"
#include "nats_mailbox.h"
#include "nats_rows.h"

typedef struct TideRowsSend TideRowsSend;

/* All is borrowed.  Answers come to box with that tag: to be given to tide_rows_send_answer. */
extern bool
tide_rows_send_new(const TidePipelineInfo *info, TideJs *js, const TideRowsStream *stream,
				   TideMailbox *box, int tag, TideRowsSend **send, TideError *err);
extern void tide_rows_send_free(TideRowsSend *send); /* NULL is fine */

/* A new run begins; what is on its way is not waited for any more. */
extern void tide_rows_send_begin(TideRowsSend *send, const char *run);

/* Only when not busy.  The frame's data must stay where it is until it is not busy any more. */
extern void tide_rows_send_start(TideRowsSend *send, const TideFrame *frame);
extern bool tide_rows_send_busy(const TideRowsSend *send);

/* Publishes what the window has room for, and notices a stream that is silent. */
extern bool tide_rows_send_turn(TideRowsSend *send, TideError *err);

/* A message of the mailbox. */
extern bool tide_rows_send_answer(TideRowsSend *send, natsMsg *msg, TideError *err);

#endif /* TIDE_ROWS_SEND_H */
