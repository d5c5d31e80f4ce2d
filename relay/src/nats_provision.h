/*
 * nats_provision.h
 *		The stream a pipeline needs: made, completed or verified.
 *
 * Owns: what a stream must look like, and who may change it.  Does not own: the
 * consumer (source_nats.c) or asking other regions (nats_peer.h).
 *
 * A stream whose description says that pg_tide made it gets what is missing
 * (a subject, a source) and keeps everything else.  Any other stream is only
 * looked at: what is missing is an error that names the setting.
 */
#ifndef TIDE_NATS_PROVISION_H
#define TIDE_NATS_PROVISION_H

#include "nats_api.h"
#include "tide_subject.h"

#define TIDE_NATS_MADE_BY "made by pg_tide"

/* What a pipeline's configuration asks of its stream.  Strings borrowed from the configuration. */
typedef struct TideProvision
{
	const char *stream;
	char captures[TIDE_SUBJECT_MAX + 1]; /* subject of this region's own events; "": inbound */
	const char *reads;					 /* subject an inbound pipeline consumes; NULL: outbound */
	const char *peer_domain;			 /* source "reads" from there; NULL: not asked for */
	bool allowed;						 /* may create and change */
	int64_t max_age_ms;					 /* 0: unlimited */
	int64_t max_bytes;					 /* 0 or less: unlimited */
	bool drop_old;						 /* at max_bytes: what is dropped can be had elsewhere */
	int64_t duplicate_window_ms;
	int64_t replicas;
} TideProvision;

/* A stream as STREAM.INFO shows it. */
typedef struct TideStreamState
{
	bool exists;
	bool ours;		  /* pg_tide made it */
	char created[64]; /* text of the server, tells a stream from its successor */
	uint64_t first_seq;
	uint64_t last_seq;
	uint64_t messages;
	int64_t duplicate_window_us; /* for how long it remembers what it has */
	json_t *info;				 /* the whole answer; NULL if it does not exist */
} TideStreamState;

/* The text of an outbound pipeline's subject template, whichever way it was given. */
extern const char *tide_provision_template(const json_t *config);

/* Outbound: outbox and region fill the template.  Inbound: both NULL. */
extern bool tide_provision_read(const json_t *config, const char *outbox, const char *region,
								TideProvision *want, TideError *err);

/*
 * Makes it so, or says why it can't be.  Without a peer domain an inbound
 * pipeline does not create a stream: state->exists is false then, and true is
 * returned.  state is the caller's to clear.
 */
extern bool tide_provision_stream(TideJs *js, const TideProvision *want, TideStreamState *state,
								  TideError *err);

/* Has the stream take filter from the stream of the same name in another domain. */
extern bool tide_provision_source(TideJs *js, const TideProvision *want, const char *domain,
								  const char *filter, TideStreamState *state, TideError *err);

/*
 * Deletes the stream if pg_tide made it, it may be changed, and it does nothing
 * but what want asks of it.
 */
extern bool tide_provision_drop(TideJs *js, const TideProvision *want, TideError *err);

extern bool
tide_stream_load(TideJs *js, const char *stream, TideStreamState *state, TideError *err);
extern void tide_stream_clear(TideStreamState *state);

/* Does the stream get everything that subject matches, by capture or from a source? */
extern bool tide_stream_captures(const TideStreamState *state, const char *subject);
extern bool tide_stream_sources(const TideStreamState *state, const char *subject);

/* Does it get anything at all that subject matches? */
extern bool tide_stream_touches(const TideStreamState *state, const char *subject);

/*
 * How many messages the sources have not brought yet, as far as known; at least
 * 1 if one of them was not heard of for stale_ms.
 */
extern uint64_t tide_stream_source_lag(const TideStreamState *state, int64_t stale_ms);

#endif /* TIDE_NATS_PROVISION_H */
