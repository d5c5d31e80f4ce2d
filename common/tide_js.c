/*
 * tide_js.c
 *		What JetStream tells about a message in its reply subject.
 *
 * Owns: both forms of that subject.  Does not own: acknowledging.
 */
#include "tide_js.h"

#include <string.h>

#define OLD_TOKENS 9  /* $JS.ACK and seven more */
#define NEW_TOKENS 11 /* domain and account after ACK; a 12th may follow */
#define MAX_TOKENS 12

/* Splits at dots; 0 if there are too many tokens or an empty one. */
static size_t
split(const char *reply, TideSpan token[MAX_TOKENS])
{
	size_t n = 0;

	for (;;)
	{
		size_t len = strcspn(reply, ".");

		if (n == MAX_TOKENS || len == 0)
			return 0;
		token[n++] = (TideSpan){reply, len};
		if (reply[len] == '\0')
			return n;
		reply += len + 1;
	}
}

static bool
token_is(TideSpan token, const char *text)
{
	return token.len == strlen(text) && memcmp(token.ptr, text, token.len) == 0;
}

static bool
number(TideSpan token, uint64_t *value)
{
	return tide_parse_u64(token.ptr, token.len, value);
}

bool
tide_js_ack_parse(const char *reply, TideJsAck *out)
{
	TideSpan token[MAX_TOKENS];
	size_t n = split(reply, token);
	const TideSpan *rest = token + 2; /* what both forms have in common begins here */
	TideJsAck ack = {0};
	uint64_t timestamp;

	if ((n != OLD_TOKENS && n != NEW_TOKENS && n != MAX_TOKENS) || !token_is(token[0], "$JS") ||
		!token_is(token[1], "ACK"))
		return false;
	if (n >= NEW_TOKENS)
	{
		if (!token_is(token[2], "_"))
			ack.domain = token[2];
		ack.account = token[3];
		rest = token + 4;
	}
	ack.stream = rest[0];
	ack.consumer = rest[1];
	if (!number(rest[2], &ack.delivered) || !number(rest[3], &ack.stream_seq) ||
		!number(rest[4], &ack.consumer_seq) || !number(rest[5], &timestamp) ||
		!number(rest[6], &ack.pending) || timestamp > INT64_MAX)
		return false;
	ack.timestamp_ns = (int64_t) timestamp;
	*out = ack;
	return true;
}
