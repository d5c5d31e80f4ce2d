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
	int64_t		ack_wait_ms;
	int64_t		max_ack_pending;
	bool		allowed;		/* may create and delete */
} TideConsumerWant;

typedef struct TideConsumerState
{
	bool		exists;
	bool		ours;			/* pg_tide made it */
	bool		usable;			/* pull, explicit acks, the filter wanted */
	uint64_t	delivered_cseq;
	uint64_t	delivered_sseq;
	uint64_t	pending;		/* not delivered yet */
	uint64_t	ack_pending;	/* delivered, not acknowledged yet */
	char		filter[1025];
} TideConsumerState;

extern bool tide_consumer_load(TideJs *js, const TideConsumerWant *want, TideConsumerState *state,
							   TideError *err);

/*
 * Makes the consumer's next message the first one after after_sseq.  *exact
 * false: we may not, so a consumer made by somebody else is used from wherever
 * it stands.  *next_cseq: the consumer sequence its next message will have.
 */
extern bool tide_consumer_place(TideJs *js, const TideConsumerWant *want, uint64_t after_sseq,
								bool *exact, uint64_t *next_cseq, TideError *err);

#endif							/* TIDE_NATS_CONSUMER_H */
