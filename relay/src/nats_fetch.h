/*
 * nats_fetch.h
 *		One message read from a stream directly, past any consumer.
 *
 * Owns: turning JetStream's JSON form of a stored message into a message.  For
 * finding a place in a stream (rows), and because libnats takes every message
 * that has an empty body and a header "Status: 503" for its server's word that
 * nobody answers, and drops it, whoever sent it.
 */
#ifndef TIDE_NATS_FETCH_H
#define TIDE_NATS_FETCH_H

#include "nats_api.h"

/*
 * The first message from from_seq on whose subject filter matches; *msg NULL:
 * none.  The message is the caller's; it has no reply subject.
 */
extern bool tide_fetch_next(TideJs *js, const char *stream, const char *filter, uint64_t from_seq,
							natsMsg **msg, uint64_t *seq, TideError *err);

/* The last message with that subject. */
extern bool tide_fetch_last(TideJs *js, const char *stream, const char *subject, natsMsg **msg,
							uint64_t *seq, TideError *err);

#endif /* TIDE_NATS_FETCH_H */
