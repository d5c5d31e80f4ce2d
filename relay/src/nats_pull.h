/*
 * nats_pull.h
 *		Asking a JetStream consumer for messages ahead of time.
 *
 * Owns: pull requests, how many messages were asked for and have not come
 * (credit), what the server says about requests, noticing its silence.  Does not
 * own: the subscription on which messages arrive, what they mean, the consumer
 * (nats_consumer.h).
 *
 * Messages arrive by themselves while there is credit.  So there is no round
 * trip per batch, a lone message is seen at once, and memory is bounded by what
 * was asked for.
 */
#ifndef TIDE_NATS_PULL_H
#define TIDE_NATS_PULL_H

#include "nats_api.h"
#include "nats_consumer.h"

#define TIDE_PULL_SUBJECT 300

typedef struct TidePull
{
	TideJs *js; /* borrowed, as is consumer */
	const TideConsumerWant *consumer;
	size_t max_messages;			/* asked for at a time */
	char prefix[TIDE_PULL_SUBJECT]; /* status messages come below it */
	char subject[2 * TIDE_PULL_SUBJECT];
	size_t credit;
	size_t mean_bytes; /* of recent messages, to bound what is asked for */
	long long heard_at;
} TidePull;

extern void
tide_pull_init(TidePull *pull, TideJs *js, const TideConsumerWant *consumer, size_t max_messages);

/* What to subscribe to, <inbox>.pull.*; both the messages and the server's words come there. */
extern void tide_pull_inbox(const TidePull *pull, char *subject, size_t size);

/* The consumer was made or found: nothing is asked for. */
extern void tide_pull_begin(TidePull *pull);

/* Asks for more when half of what was asked for has come. */
extern bool tide_pull_more(TidePull *pull, TideError *err);

/* Is msg about a request, in place of a message?  Then to be given to tide_pull_status. */
extern bool tide_pull_is_status(const TidePull *pull, natsMsg *msg);
extern bool tide_pull_status(TidePull *pull, natsMsg *msg, TideError *err);

/* A message has come. */
extern void tide_pull_got(TidePull *pull, size_t bytes);

/* Nothing was heard although something should have been: looks whether the consumer is there. */
extern bool tide_pull_check_silence(TidePull *pull, TideError *err);

#endif /* TIDE_NATS_PULL_H */
