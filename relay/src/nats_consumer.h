/*
 * nats_consumer.h
 *		The durable consumer of an inbound pipeline.
 *
 * Owns: creating it exactly where reading has to go on, and what its state
 * says.  Does not own: pulling messages (source_nats.c).
 */
#ifndef TIDE_NATS_CONSUMER_H
#define TIDE_NATS_CONSUMER_H

#include "nats_api.h"

typedef struct TideConsumerWant
{
	const char *stream;
	const char *name;
	const char *filter;
	int64_t ack_wait_ms;
	int64_t max_ack_pending;
	uint64_t first_seq; /* of the stream */
	bool allowed;		/* may create and delete */
} TideConsumerWant;

typedef struct TideConsumerState
{
	bool exists;
	bool ours;	  /* pg_tide made it */
	bool usable;  /* pull, acknowledged, the filter wanted */
	bool ack_all; /* an acknowledgement stands for all messages before it, too */
	uint64_t delivered_cseq;
	uint64_t delivered_sseq;
	uint64_t acked_sseq;  /* it and all before it need not come again */
	uint64_t pending;	  /* not delivered yet */
	uint64_t ack_pending; /* delivered, not acknowledged yet */
	char filter[1025];
} TideConsumerState;

extern bool tide_consumer_load(TideJs *js, const TideConsumerWant *want, TideConsumerState *state,
							   TideError *err);

typedef struct TideConsumerPlace
{
	bool exact; /* false: not ours to move, used from wherever it stands */
	bool ack_all;
	uint64_t next_cseq; /* the consumer sequence its next message will have */
} TideConsumerPlace;

/* Makes the consumer's next message the first one after after_sseq, if we may. */
extern bool tide_consumer_place(TideJs *js, const TideConsumerWant *want, uint64_t after_sseq,
								TideConsumerPlace *place, TideError *err);

#endif /* TIDE_NATS_CONSUMER_H */
