/*
 * tide_js.h
 *		What JetStream tells about a message in its reply subject.
 *
 * Owns: both forms of that subject.  Does not own: acknowledging.
 */
#ifndef TIDE_JS_H
#define TIDE_JS_H

#include <stdbool.h>
#include <stdint.h>

#include "tide_text.h"

typedef struct TideJsAck
{
	TideSpan domain;  /* absent: none given; spans point into the reply */
	TideSpan account; /* account hash; absent in the old form */
	TideSpan stream;
	TideSpan consumer;
	uint64_t delivered; /* how many times, from 1 */
	uint64_t stream_seq;
	uint64_t consumer_seq;
	int64_t timestamp_ns; /* when the stream stored it, since 1970-01-01 UTC */
	uint64_t pending;	  /* messages for this consumer behind this one */
} TideJsAck;

/*
 * $JS.ACK.<stream>.<consumer>.<delivered>.<sseq>.<cseq>.<ts>.<pending>, or with
 * <domain>.<account> after ACK (domain "_": none) and possibly a last token
 * that is ignored.  False if reply is anything else; *out is untouched then.
 */
extern bool tide_js_ack_parse(const char *reply, TideJsAck *out);

#endif /* TIDE_JS_H */
