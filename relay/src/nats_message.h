/*
 * nats_message.h
 *		An event as a NATS message, and back.
 *
 * Owns: which header carries what, in both directions, and what becomes of
 * messages that pg_tide did not send.  Does not own: subjects, sending.
 *
 * Body: the payload's JSON text, byte for byte.  Headers: Nats-Msg-Id (event
 * id; with a suffix when an event is sent again, which a stream must not take
 * for the copy it once had), CloudEvents 1.0 in binary mode (ce-*; ce-id is
 * always the event id), content-type, Tide-* with all that is needed to restore the event exactly, and those of the application's
 * headers that are strings with a safe name, as headers of their own (so that
 * traceparent works).  Values are percent-encoded (common/tide_header.h); an empty one of ours is "".
 */
#ifndef TIDE_NATS_MESSAGE_H
#define TIDE_NATS_MESSAGE_H

#include <nats/nats.h>

#include "event.h"
#include "tide_js.h"
#include "tide_template.h"

/* JetStream keeps at most this much of headers; more is refused (err_code 10097). */
#define TIDE_NATS_MAX_HEADER_BYTES 65535

typedef struct TideMessageSize
{
	size_t headers; /* bytes on the wire, the "NATS/1.0" line included */
	size_t total;	/* headers and body */
} TideMessageSize;

#define TIDE_NATS_MSG_ID "Nats-Msg-Id"

/*
 * Makes the message for an event.  region stands in for the origin if the
 * event has none.  The message is the caller's to destroy; only memory can fail
 * (*msg NULL).
 */
extern natsStatus
tide_message_encode(const TideEvent *event, const char *region, const char *subject,
					const char *reply, natsMsg **msg, TideMessageSize *size);

/*
 * Values for a subject template.  scratch keeps the event type and must live as
 * long as the values are used.
 */
extern void
tide_message_template_values(const TideEvent *event, const char *region, const char *outbox,
							 TideBuf *scratch, TideTemplateValues *values);

/* Where a message came from, for the ids of foreign ones. */
typedef struct TideMessageSource
{
	const char *stream;
	const char *domain;	 /* NULL: none */
	const char *created; /* of the stream */
} TideMessageSource;

/*
 * Fills event from a message; everything is copied to arena.  Never fails:
 * what is not recognisably ours becomes a foreign event (origin NULL) with an
 * id that is the same whenever and wherever the message is read again.
 */
extern void tide_message_decode(natsMsg *msg, const TideJsAck *ack, const TideMessageSource *from,
								TideArena *arena, TideEvent *event);

#endif /* TIDE_NATS_MESSAGE_H */
