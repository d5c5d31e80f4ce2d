/*
 * nats_peer.h
 *		What relays of different regions ask each other over NATS.
 *
 * Owns: the two questions, their subjects and their JSON.  Does not own: what
 * is done with the answers.
 *
 *	_TIDE.who.<stream>	"who publishes subjects like these, and in which JetStream
 *						domain?"  Asked by inbound pipelines, answered by outbound
 *						ones.
 *	_TIDE.have.<stream>	"which of these events has your inbox?"  Asked by outbound
 *						pipelines, answered by inbound ones.
 *
 * These are plain messages, not JetStream's: they cross leaf nodes and gateways
 * as they are, and nobody keeps them.  An unanswered question is asked again.
 * Accounts with restricted permissions must allow publishing and subscribing to
 * _TIDE.> and _INBOX.>.
 */
#ifndef TIDE_NATS_PEER_H
#define TIDE_NATS_PEER_H

#include "connector.h"
#include "nats_conn.h"
#include "tide_subject.h"

/*
 * Who
 */

/* Answers, from a thread of libnats, as long as the connection lives.  domain NULL: none. */
extern bool tide_who_serve(TideNats *nats, const char *stream, const char *region,
						   const char *domain, const char *subject, TideError *err);

typedef struct TideWhoAnswer
{
	char region[64];
	char domain[256];					/* "": none */
	char subject[TIDE_SUBJECT_MAX + 1]; /* what that region publishes */
} TideWhoAnswer;

typedef struct TideWho TideWho;

/* A way to ask; the strings are borrowed. */
extern bool tide_who_new(TideNats *nats, const char *stream, const char *subject,
						 const char *region, const char *domain, TideWho **who, TideError *err);
extern void tide_who_free(TideWho *who);
extern bool tide_who_ask(TideWho *who, TideError *err);
/* *got false: none within timeout_ms.  Nobody listening is no error. */
extern bool
tide_who_next(TideWho *who, int timeout_ms, TideWhoAnswer *answer, bool *got, TideError *err);

/*
 * Have
 */

typedef struct TideHaveQuestion
{
	TideSlice region;	/* who asks: the events' origin */
	TideSlice subject;	/* what its stream captures */
	TideSlice position; /* names the question */
	TideSlice *ids;
	size_t n_ids;
} TideHaveQuestion;

extern void tide_have_subject(char *out, size_t size, const char *stream);

/* Sends; fails with TIDE_ERR_CONFIG if the server's max_payload is too small for it. */
extern bool tide_have_ask(TideNats *nats, const char *stream, const char *reply,
						  const TideHaveQuestion *question, TideError *err);
extern bool
tide_have_reply(TideNats *nats, const char *reply, const TideAnswer *answer, TideError *err);

/* False if the message is not one of ours; everything is copied to arena. */
extern bool tide_have_parse_question(natsMsg *msg, TideArena *arena, TideHaveQuestion *question);
extern bool tide_have_parse_answer(natsMsg *msg, TideArena *arena, TideAnswer *answer);

#endif /* TIDE_NATS_PEER_H */
