/*
 * nats_message.c
 *		An event as a NATS message: encoding, and decoding our own.
 *
 * Owns: see nats_message.h.  Foreign messages are in nats_foreign.c.
 */
#include "nats_message.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "nats_foreign.h"
#include "tide_header.h"
#include "tide_json.h"
#include "tide_time.h"

#define LINE_BYTES 12	  /* "NATS/1.0\r\n" and the empty line */
#define SEPARATOR_BYTES 4 /* ": " and "\r\n" */
#define EMPTY_VALUE "\"\""

/* A message in the making; the first error stops all further steps. */
typedef struct Maker
{
	natsMsg *msg;
	natsStatus status;
	size_t header_bytes;
	TideBuf value; /* scratch for one value */
} Maker;

static void
put_raw(Maker *m, const char *name, const char *value)
{
	if (m->status != NATS_OK)
		return;
	m->status = natsMsgHeader_Set(m->msg, name, value);
	m->header_bytes += strlen(name) + strlen(value) + SEPARATOR_BYTES;
}

/*
 * Nothing is written for NULL.  An empty value is written as EMPTY_VALUE, which no
 * encoded text looks like: libnats takes a header without a value for the
 * beginning of the next line, and would give that line as the value.
 */
static void
put(Maker *m, const char *name, TideSlice value)
{
	if (value.ptr == NULL)
		return;
	tide_buf_reset(&m->value);
	if (value.len == 0)
		tide_buf_append_str(&m->value, EMPTY_VALUE);
	else if (!tide_header_encode(&m->value, value.ptr, value.len))
		m->status = NATS_NO_MEMORY;
	put_raw(m, name, tide_buf_cstr(&m->value));
}

static void
put_time(Maker *m, const char *name, int64_t us)
{
	char text[TIDE_TIME_TEXT];

	if (us != 0 && tide_time_format(text, us))
		put_raw(m, name, text);
}

/* NULL for "{}" and for what jansson can't read (numbers beyond a double): no matter here. */
static json_t *
parse_headers(const TideEvent *event)
{
	if (event->headers.ptr == NULL || event->headers.len <= 2)
		return NULL;
	return json_loadb(event->headers.ptr, event->headers.len, JSON_DECODE_INT_AS_REAL, NULL);
}

static const json_t *
event_type_of(const json_t *headers)
{
	const json_t *type = json_object_get(headers, "event_type");

	return json_is_string(type) && json_string_length(type) > 0 ? type : NULL;
}

/* ce-source, ce-type: made of several values, so encoded as a whole. */
static void
put_cloudevents(Maker *m, const TideEvent *event, const char *region, const json_t *headers)
{
	const json_t *type = event_type_of(headers);
	char text[400];

	put_raw(m, "ce-specversion", "1.0");
	put(m, "ce-id", event->id);
	snprintf(text, sizeof(text), "/pg_tide/%s/%s",
			 event->origin.ptr != NULL ? event->origin.ptr : region,
			 event->outbox.ptr != NULL ? event->outbox.ptr : "");
	put(m, "ce-source", (TideSlice){text, strlen(text)});
	if (type != NULL)
		put(m, "ce-type", (TideSlice){json_string_value(type), json_string_length(type)});
	else
	{
		snprintf(text, sizeof(text), "tide.%.160s.%.160s",
				 event->entity.ptr != NULL ? event->entity.ptr : "",
				 event->op.ptr != NULL ? event->op.ptr : "");
		put(m, "ce-type", (TideSlice){text, strlen(text)});
	}
	put_time(m, "ce-time", event->published_us);
	if (event->key.len > 0)
		put(m, "ce-subject", event->key);
	put_raw(m, "content-type", "application/json");
}

static void
put_tide(Maker *m, const TideEvent *event, const char *region)
{
	if (event->origin.ptr != NULL)
		put(m, "Tide-Origin", event->origin);
	else
		put(m, "Tide-Origin", (TideSlice){region, strlen(region)});
	put(m, "Tide-Outbox", event->outbox);
	put(m, "Tide-Entity", event->entity);
	put(m, "Tide-Op", event->op);
	put(m, "Tide-Key", event->key);
	put_time(m, "Tide-Published-At", event->published_us);
	put_time(m, "Tide-Committed-At", event->committed_us);
	if (event->headers.ptr != NULL && event->headers.len > 2)
		put(m, "Tide-Headers", event->headers);
}

/* The application's own headers, where another program may look for them; not empty ones. */
static void
put_application(Maker *m, json_t *headers)
{
	const char *name;
	json_t *value;

	json_object_foreach (headers, name, value)
	{
		if (json_string_length(value) > 0 && tide_header_name_ok(name, strlen(name)))
			put(m, name, (TideSlice){json_string_value(value), json_string_length(value)});
	}
}

natsStatus
tide_message_encode(const TideEvent *event, const char *region, const char *subject,
					const char *reply, natsMsg **msg, TideMessageSize *size)
{
	Maker m = {.status = NATS_OK, .header_bytes = LINE_BYTES};
	json_t *headers = parse_headers(event);

	*msg = NULL;
	tide_buf_init(&m.value);
	m.status = natsMsg_Create(&m.msg, subject, reply, event->payload.ptr, (int) event->payload.len);
	if (m.status == NATS_OK)
	{
		put_application(&m, headers); /* first: never over one of ours */
		put(&m, TIDE_NATS_MSG_ID, event->id);
		put_cloudevents(&m, event, region, headers);
		put_tide(&m, event, region);
	}
	json_decref(headers);
	tide_buf_free(&m.value);
	if (m.status != NATS_OK)
	{
		natsMsg_Destroy(m.msg);
		return m.status;
	}
	*size = (TideMessageSize){m.header_bytes, m.header_bytes + event->payload.len};
	*msg = m.msg;
	return NATS_OK;
}

void
tide_message_template_values(const TideEvent *event, const char *region, const char *outbox,
							 TideBuf *scratch, TideTemplateValues *values)
{
	json_t *headers = parse_headers(event);
	const json_t *type = event_type_of(headers);

	*values = (TideTemplateValues){0};
	values->value[TIDE_VAR_OP] = (TideSpan){event->op.ptr, event->op.len};
	values->value[TIDE_VAR_ENTITY] = (TideSpan){event->entity.ptr, event->entity.len};
	values->value[TIDE_VAR_KEY] = (TideSpan){event->key.ptr, event->key.len};
	values->value[TIDE_VAR_OUTBOX] = (TideSpan){outbox, strlen(outbox)};
	values->value[TIDE_VAR_REGION] = (TideSpan){region, strlen(region)};
	if (type != NULL)
	{
		tide_buf_reset(scratch);
		tide_buf_append(scratch, json_string_value(type), json_string_length(type));
		values->value[TIDE_VAR_EVENT_TYPE] = (TideSpan){tide_buf_cstr(scratch), scratch->len};
	}
	json_decref(headers);
}

/*
 * Back
 */

/*
 * Restores a value of ours.  *out stays NULL if the header is absent; false if
 * it is not something we wrote (such a message is taken as foreign).
 */
static bool
get(natsMsg *msg, const char *name, TideBuf *scratch, TideArena *arena, TideSlice *out)
{
	const char *value = NULL;

	*out = (TideSlice){NULL, 0};
	if (natsMsgHeader_Get(msg, name, &value) != NATS_OK || value == NULL)
		return true;
	tide_buf_reset(scratch);
	if (strcmp(value, EMPTY_VALUE) == 0)
		value = "";
	if (!tide_header_decode(scratch, value, strlen(value)) ||
		!tide_utf8_valid(tide_buf_cstr(scratch), scratch->len) ||
		memchr(tide_buf_cstr(scratch), '\0', scratch->len) != NULL)
		return false;
	out->ptr = tide_arena_memdup(arena, tide_buf_cstr(scratch), scratch->len);
	out->len = scratch->len;
	return true;
}

static bool
get_time(natsMsg *msg, const char *name, int64_t *us)
{
	const char *value = NULL;

	*us = 0;
	if (natsMsgHeader_Get(msg, name, &value) != NATS_OK || value == NULL)
		return true;
	return tide_time_parse(value, strlen(value), us);
}

static bool
is_object(TideSlice text)
{
	return tide_json_first(text.ptr, text.len) == '{' &&
		   tide_json_check(text.ptr, text.len) != TIDE_JSON_INVALID;
}

/* All that tide_message_encode writes must be there and be readable. */
static bool
decode_ours(natsMsg *msg, TideBuf *scratch, TideArena *arena, TideEvent *event)
{
	const char *data = natsMsg_GetData(msg);
	int len = natsMsg_GetDataLength(msg);
	const char *probe = NULL;

	if (natsMsgHeader_Get(msg, "Tide-Origin", &probe) != NATS_OK ||
		tide_json_check(data, (size_t) len) == TIDE_JSON_INVALID ||
		!get(msg, "ce-id", scratch, arena, &event->id) ||
		!get(msg, "Tide-Origin", scratch, arena, &event->origin) ||
		!get(msg, "Tide-Outbox", scratch, arena, &event->outbox) ||
		!get(msg, "Tide-Entity", scratch, arena, &event->entity) ||
		!get(msg, "Tide-Op", scratch, arena, &event->op) ||
		!get(msg, "Tide-Key", scratch, arena, &event->key) ||
		!get(msg, "Tide-Headers", scratch, arena, &event->headers) ||
		!get_time(msg, "Tide-Published-At", &event->published_us) ||
		!get_time(msg, "Tide-Committed-At", &event->committed_us))
		return false;
	if (event->id.len == 0 || event->origin.len == 0 || event->entity.ptr == NULL ||
		event->op.ptr == NULL)
		return false;
	if (event->headers.ptr == NULL)
		event->headers = (TideSlice){"{}", 2};
	else if (!is_object(event->headers))
		return false;
	event->payload = (TideSlice){tide_arena_memdup(arena, data, (size_t) len), (size_t) len};
	return true;
}

void
tide_message_decode(natsMsg *msg, const TideJsAck *ack, const TideMessageSource *from,
					TideArena *arena, TideEvent *event)
{
	TideBuf scratch;

	tide_buf_init(&scratch);
	*event = (TideEvent){0};
	if (!decode_ours(msg, &scratch, arena, event))
	{
		*event = (TideEvent){0};
		tide_foreign_decode(msg, ack, from, arena, event);
	}
	event->position = ack->stream_seq;
	tide_buf_free(&scratch);
}
