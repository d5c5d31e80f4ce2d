/*
 * nats_fetch.c
 *		One message read from a stream directly, past any consumer.
 *
 * Owns: see nats_fetch.h.
 */
#include "nats_fetch.h"

#include <stdlib.h>
#include <string.h>

#include "mem.h"

#define NO_MESSAGE "10037"

/* Decodes base64; the result is NUL-terminated and the caller's.  What is no digit is skipped. */
static char *
base64_decode(const char *text, size_t *len)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	char *out = tide_malloc(strlen(text) / 4 * 3 + 4);
	unsigned acc = 0;
	int bits = 0;

	*len = 0;
	for (; *text != '\0'; text++)
	{
		const char *digit = strchr(digits, *text);

		if (digit == NULL)
			continue;
		acc = acc << 6 | (unsigned) (digit - digits);
		bits += 6;
		if (bits >= 8)
		{
			bits -= 8;
			out[(*len)++] = (char) (acc >> bits);
		}
	}
	out[*len] = '\0';
	return out;
}

/* "NATS/1.0\r\nName: value\r\n...\r\n": splits it in place. */
static natsStatus
add_headers(natsMsg *msg, char *block)
{
	natsStatus s = NATS_OK;
	char *line = strstr(block, "\r\n");

	while (s == NATS_OK && line != NULL)
	{
		char *name = line + 2;
		char *end = strstr(name, "\r\n");
		char *colon = strchr(name, ':');

		if (end == NULL || end == name)
			break;
		*end = '\0';
		if (colon != NULL && colon < end)
		{
			*colon = '\0';
			s = natsMsgHeader_Add(msg, name, colon + 1 + strspn(colon + 1, " \t"));
		}
		*end = '\r';
		line = end;
	}
	return s;
}

static natsStatus
make_message(const json_t *stored, natsMsg **msg)
{
	const char *subject = json_string_value(json_object_get(stored, "subject"));
	const char *headers = json_string_value(json_object_get(stored, "hdrs"));
	const char *data = json_string_value(json_object_get(stored, "data"));
	size_t len = 0;
	char *body = base64_decode(data != NULL ? data : "", &len);
	natsStatus s = natsMsg_Create(msg, subject, NULL, body, (int) len);

	free(body);
	if (s == NATS_OK && headers != NULL)
	{
		char *block = base64_decode(headers, &len);

		s = add_headers(*msg, block);
		free(block);
		if (s != NATS_OK)
			natsMsg_Destroy(*msg);
	}
	return s;
}

/* Takes ownership of request. */
static bool
fetch(TideJs *js, const char *stream, json_t *request, natsMsg **msg, uint64_t *seq, TideError *err)
{
	json_t *reply = NULL;
	json_t *stored;
	TideError local = {0};
	natsStatus s;
	bool ok;

	*msg = NULL;
	ok = tide_js_requestf(js, request, &reply, &local, "STREAM.MSG.GET.%s", stream);
	json_decref(request);
	if (!ok && strcmp(local.code, NO_MESSAGE) == 0)
		return true;
	if (!ok)
	{
		if (err != NULL)
			*err = local;
		return false;
	}
	stored = json_object_get(reply, "message");
	*seq = tide_js_u64(stored, "seq");
	s = make_message(stored, msg);
	json_decref(reply);
	return s == NATS_OK || tide_nats_error(tide_js_nats(js), s, "reading a message", err);
}

bool
tide_fetch_next(TideJs *js, const char *stream, const char *filter, uint64_t from_seq,
				natsMsg **msg, uint64_t *seq, TideError *err)
{
	json_t *request = json_pack("{s:I, s:s}", "seq", (json_int_t) from_seq, "next_by_subj", filter);

	return fetch(js, stream, request, msg, seq, err);
}

bool
tide_fetch_last(TideJs *js, const char *stream, const char *subject, natsMsg **msg, uint64_t *seq,
				TideError *err)
{
	return fetch(js, stream, json_pack("{s:s}", "last_by_subj", subject), msg, seq, err);
}
