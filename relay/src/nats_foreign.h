/*
 * nats_foreign.h
 *		Messages that pg_tide did not send, as events.
 *
 * Owns: what their id, entity, op, key and payload are.  Does not own: our own
 * messages (nats_message.c).
 *
 *	id		Nats-Msg-Id, or ce-source and ce-id, or where the stream keeps it
 *	entity	ce-type up to its last dot, or the subject's first token
 *	op		ce-type's last part, or "message"
 *	key		ce-partitionkey, or ce-subject
 *	payload	the body if it is JSON; else a JSON string with it and a header
 *			"tide-body": "text", "base64" or (null) "empty"
 *	headers	everything else, and "nats-subject"
 */
#ifndef TIDE_NATS_FOREIGN_H
#define TIDE_NATS_FOREIGN_H

#include "nats_message.h"

extern void tide_foreign_decode(natsMsg *msg, const TideJsAck *ack, const TideMessageSource *from,
								TideArena *arena, TideEvent *event);

#endif /* TIDE_NATS_FOREIGN_H */
