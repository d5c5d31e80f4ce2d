/*
 * nats_foreign.c
 *		Messages that pg_tide did not send, as events.
 *
 * Owns: see nats_foreign.h.
 */
#include "nats_foreign.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "tide_header.h"
#include "tide_json.h"
#include "tide_time.h"

#define MAX_ID_BYTES 512

/* The message's headers by name; foreign senders write any case. */
typedef struct Headers
{
	natsMsg *msg;
	const char **names;
	int n;
} Headers;

static const char *
find(const Headers *h, const char *name)
{
	const char *value = NULL;

	for (int i = 0; i < h->n; i++)
	{
		if (strcasecmp(h->names[i], name) == 0 &&
			natsMsgHeader_Get(h->msg, h->names[i], &value) == NATS_OK && value != NULL &&
			value[0] != '\0')
			return value;
	}
	return NULL;
}

/* The value, percent-decoded if that gives text; otherwise made text by encoding it. */
static TideSlice
readable(TideArena *arena, const char *value)
{
	TideBuf buf;
	TideSlice out;

	tide_buf_init(&buf);
	if (!tide_header_decode(&buf, value, strlen(value)) ||
		!tide_utf8_valid(tide_buf_cstr(&buf), buf.len) ||
		memchr(tide_buf_cstr(&buf), '\0', buf.len) != NULL)
	{
		tide_buf_reset(&buf);
		if (tide_utf8_valid(value, strlen(value)))
			tide_buf_append_str(&buf, value);
		else
			tide_header_encode(&buf, value, strlen(value));
	}
	out = (TideSlice){tide_arena_memdup(arena, tide_buf_cstr(&buf), buf.len), buf.len};
	tide_buf_free(&buf);
	return out;
}

static uint64_t
fnv1a(uint64_t hash, const char *data, size_t len)
{
	for (size_t i = 0; i < len; i++)
		hash = (hash ^ (unsigned char) data[i]) * UINT64_C(1099511628211);
	return hash;
}

/*
 * An id for a message without one.  Where it was first stored names it: for a
 * sourced message that is what the server noted (the same in every region that
 * sources it), together with a hash, as the note does not tell a stream from
 * one made later under the same name.
 */
static TideSlice
place_id(const Headers *h, const TideJsAck *ack, const TideMessageSource *from, TideArena *arena)
{
	const char *sourced = find(h, "Nats-Stream-Source");
	char *text;

	if (sourced != NULL)
	{
		const char *subject = natsMsg_GetSubject(h->msg);
		uint64_t hash = fnv1a(UINT64_C(14695981039346656037), subject, strlen(subject));

		hash = fnv1a(hash, natsMsg_GetData(h->msg), (size_t) natsMsg_GetDataLength(h->msg));
		text = tide_arena_printf(arena, "%.200s:%016llx", readable(arena, sourced).ptr,
								 (unsigned long long) hash);
	}
	else
		text = tide_arena_printf(
			arena, "%s:%s:%s:%llu", from->stream, from->domain != NULL ? from->domain : "_",
			from->created[0] != '\0' ? from->created : "_", (unsigned long long) ack->stream_seq);
	return (TideSlice){text, strlen(text)};
}

static TideSlice
message_id(const Headers *h, const TideJsAck *ack, const TideMessageSource *from, TideArena *arena)
{
	const char *id = find(h, "Nats-Msg-Id");
	const char *ce_id = find(h, "ce-id");
	const char *ce_source = find(h, "ce-source");
	TideSlice out = {NULL, 0};

	if (id != NULL)
		out = readable(arena, id);
	else if (ce_id != NULL)
	{
		char *text = tide_arena_printf(arena, "%s%s%s",
									   ce_source != NULL ? readable(arena, ce_source).ptr : "",
									   ce_source != NULL ? " " : "", readable(arena, ce_id).ptr);

		out = (TideSlice){text, strlen(text)};
	}
	/* Ids that no index could hold are not ids. */
	return out.len == 0 || out.len > MAX_ID_BYTES ? place_id(h, ack, from, arena) : out;
}

static void
set_entity_and_op(const Headers *h, TideArena *arena, TideEvent *event)
{
	const char *type = find(h, "ce-type");
	const char *subject = natsMsg_GetSubject(h->msg);
	TideSlice whole = readable(arena, type != NULL ? type : subject);
	const char *dot = type != NULL ? strrchr(whole.ptr, '.') : strchr(whole.ptr, '.');

	event->op = (TideSlice){"message", 7};
	event->entity = whole;
	if (dot == NULL || dot == whole.ptr)
		return;
	event->entity.len = (size_t) (dot - whole.ptr);
	event->entity.ptr = tide_arena_memdup(arena, whole.ptr, event->entity.len);
	if (type != NULL && dot[1] != '\0')
		event->op = (TideSlice){dot + 1, strlen(dot + 1)};
}

static TideSlice
dump(TideArena *arena, json_t *value)
{
	char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
	TideSlice out = {text != NULL ? tide_arena_strdup(arena, text) : "null",
					 text != NULL ? strlen(text) : 4};

	free(text);
	json_decref(value);
	return out;
}

static TideSlice
base64(TideArena *arena, const unsigned char *data, size_t len)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	size_t size = (len + 2) / 3 * 4 + 2;
	char *out = tide_arena_alloc(arena, size + 1);
	char *p = out;

	*p++ = '"';
	for (size_t i = 0; i < len; i += 3)
	{
		size_t n = len - i < 3 ? len - i : 3;
		unsigned v = (unsigned) data[i] << 16 | (n > 1 ? (unsigned) data[i + 1] << 8 : 0) |
					 (n > 2 ? (unsigned) data[i + 2] : 0);

		*p++ = digits[v >> 18];
		*p++ = digits[v >> 12 & 63];
		*p++ = n > 1 ? digits[v >> 6 & 63] : '=';
		*p++ = n > 2 ? digits[v & 63] : '=';
	}
	*p++ = '"';
	*p = '\0';
	return (TideSlice){out, size};
}

/* The body as JSON; *kind says how it was made so (NULL: it was JSON). */
static TideSlice
body(natsMsg *msg, TideArena *arena, const char **kind)
{
	const char *data = natsMsg_GetData(msg);
	size_t len = (size_t) natsMsg_GetDataLength(msg);

	*kind = NULL;
	if (len == 0)
	{
		*kind = "empty";
		return (TideSlice){"null", 4};
	}
	if (tide_json_check(data, len) != TIDE_JSON_INVALID)
		return (TideSlice){tide_arena_memdup(arena, data, len), len};
	if (tide_utf8_valid(data, len) && memchr(data, '\0', len) == NULL)
	{
		*kind = "text";
		return dump(arena, json_stringn(data, len));
	}
	*kind = "base64";
	return base64(arena, (const unsigned char *) data, len);
}

static json_t *
json_text(TideSlice text)
{
	return json_stringn(text.ptr, text.len);
}

/* Headers of the broker's own are not the sender's, and the id is kept as such. */
static bool
keep_header(const char *name)
{
	return strncasecmp(name, "Nats-", 5) != 0 && strcasecmp(name, "Status") != 0 &&
		   strcasecmp(name, "Description") != 0;
}

static TideSlice
headers_json(const Headers *h, const char *body_kind, TideArena *arena)
{
	json_t *object = json_object();

	for (int i = 0; i < h->n; i++)
	{
		const char **values = NULL;
		int n = 0;
		TideSlice name;

		if (!keep_header(h->names[i]) ||
			natsMsgHeader_Values(h->msg, h->names[i], &values, &n) != NATS_OK)
			continue;
		name = readable(arena, h->names[i]);
		if (n == 1)
			json_object_set_new(object, name.ptr, json_text(readable(arena, values[0])));
		else
		{
			json_t *list = json_array();

			for (int v = 0; v < n; v++)
				json_array_append_new(list, json_text(readable(arena, values[v])));
			json_object_set_new(object, name.ptr, list);
		}
		free(values);
	}
	json_object_set_new(object, "nats-subject",
						json_text(readable(arena, natsMsg_GetSubject(h->msg))));
	if (body_kind != NULL)
		json_object_set_new(object, "tide-body", json_string(body_kind));
	return dump(arena, object);
}

void
tide_foreign_decode(natsMsg *msg, const TideJsAck *ack, const TideMessageSource *from,
					TideArena *arena, TideEvent *event)
{
	Headers h = {.msg = msg};
	const char *kind;
	const char *key;
	const char *time;

	if (natsMsgHeader_Keys(msg, &h.names, &h.n) != NATS_OK)
		h.n = 0;
	event->id = message_id(&h, ack, from, arena);
	set_entity_and_op(&h, arena, event);
	key = find(&h, "ce-partitionkey");
	if (key == NULL)
		key = find(&h, "ce-subject");
	if (key != NULL)
		event->key = readable(arena, key);
	time = find(&h, "ce-time");
	if (time == NULL || !tide_time_parse(time, strlen(time), &event->published_us))
		event->published_us = ack->timestamp_ns / 1000;
	event->payload = body(msg, arena, &kind);
	event->headers = headers_json(&h, kind, arena);
	free(h.names);
}
