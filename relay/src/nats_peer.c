/*
 * nats_peer.c
 *		What relays of different regions ask each other over NATS.
 *
 * Owns: see nats_peer.h.
 */
#include "nats_peer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mem.h"
#include "tide_uuid.h"

#define SUBJECT_SIZE 300

static json_t *
load(natsMsg *msg)
{
	json_t *object = json_loadb(natsMsg_GetData(msg), (size_t) natsMsg_GetDataLength(msg), 0, NULL);

	if (!json_is_object(object))
	{
		json_decref(object);
		return NULL;
	}
	return object;
}

static const char *
text_of(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text != NULL ? text : "";
}

/* Takes ownership of object. */
static bool
send_json(TideNats *nats, const char *subject, const char *reply, json_t *object, TideError *err)
{
	char *text = json_dumps(object, JSON_COMPACT);
	int len = text != NULL ? (int) strlen(text) : 0;
	natsStatus s;

	json_decref(object);
	if (text == NULL)
		return tide_error(err, TIDE_ERR_INTERNAL, "", "could not write a message for %s", subject);
	if (len > natsConnection_GetMaxPayload(tide_nats_connection(nats)))
	{
		tide_error(err, TIDE_ERR_CONFIG, "",
				   "a question about delivered events needs %d bytes, more"
				   " than max_payload of \"%s\" allows",
				   len, tide_nats_url(nats));
		tide_error_hint(err, "Raise max_payload in the server's configuration to 1MB or more.");
		free(text);
		return false;
	}
	if (reply != NULL)
		s = natsConnection_PublishRequest(tide_nats_connection(nats), subject, reply, text, len);
	else
		s = natsConnection_Publish(tide_nats_connection(nats), subject, text, len);
	free(text);
	if (s != NATS_OK)
		return tide_nats_error(nats, s, "asking other regions", err);
	tide_nats_flush(nats);
	return true;
}

/*
 * Who: answering.  The callback runs in a thread of libnats and may still be
 * running when the connection is closed, so the answer's data is freed by the
 * subscription's own last act.
 */

typedef struct WhoData
{
	char subject[TIDE_SUBJECT_MAX + 1];
	char *answer; /* JSON, ready to send */
} WhoData;

static void
who_data_free(void *closure)
{
	WhoData *data = closure;

	free(data->answer);
	free(data);
}

static void
on_who(natsConnection *conn, natsSubscription *sub, natsMsg *msg, void *closure)
{
	const WhoData *data = closure;
	const char *reply = natsMsg_GetReply(msg);
	json_t *question = load(msg);
	const char *asked = text_of(question, "subject");

	(void) sub;
	if (reply != NULL && tide_subject_valid(asked, true) &&
		tide_subject_overlaps(asked, data->subject))
		(void) natsConnection_PublishString(conn, reply, data->answer);
	json_decref(question);
	natsMsg_Destroy(msg);
}

bool
tide_who_serve(TideNats *nats, const char *stream, const char *region, const char *domain,
			   const char *subject, TideError *err)
{
	WhoData *data = tide_zalloc(sizeof(*data));
	json_t *answer = json_pack("{s:s, s:s, s:s, s:s}", "region", region, "domain",
							   domain != NULL ? domain : "", "stream", stream, "subject", subject);
	natsSubscription *sub = NULL;
	char name[SUBJECT_SIZE];
	natsStatus s;

	snprintf(data->subject, sizeof(data->subject), "%s", subject);
	data->answer = json_dumps(answer, JSON_COMPACT);
	json_decref(answer);
	snprintf(name, sizeof(name), "_TIDE.who.%s", stream);
	s = natsConnection_Subscribe(&sub, tide_nats_connection(nats), name, on_who, data);
	if (s != NATS_OK)
	{
		who_data_free(data);
		return tide_nats_error(nats, s, "subscribing", err);
	}
	tide_nats_own(nats, sub);
	s = natsSubscription_SetOnCompleteCB(sub, who_data_free, data);
	return s == NATS_OK || tide_nats_error(nats, s, "subscribing", err);
}

/*
 * Who: asking
 */

struct TideWho
{
	TideNats *nats;
	natsSubscription *sub;
	const char *subject;
	const char *region;
	const char *domain;
	char question[SUBJECT_SIZE];
	char reply[SUBJECT_SIZE];
};

bool
tide_who_new(TideNats *nats, const char *stream, const char *subject, const char *region,
			 const char *domain, TideWho **out, TideError *err)
{
	TideWho *who = tide_zalloc(sizeof(*who));

	*out = NULL;
	who->nats = nats;
	who->subject = subject;
	who->region = region;
	who->domain = domain;
	snprintf(who->question, sizeof(who->question), "_TIDE.who.%s", stream);
	snprintf(who->reply, sizeof(who->reply), "%s.who", tide_nats_inbox(nats));
	if (!tide_nats_subscribe(nats, who->reply, &who->sub, err))
	{
		free(who);
		return false;
	}
	*out = who;
	return true;
}

void
tide_who_free(TideWho *who)
{
	if (who == NULL)
		return;
	free(who);
}

bool
tide_who_ask(TideWho *who, TideError *err)
{
	return send_json(who->nats, who->question, who->reply,
					 json_pack("{s:s, s:s, s:s}", "subject", who->subject, "region", who->region,
							   "domain", who->domain != NULL ? who->domain : ""),
					 err);
}

bool
tide_who_next(TideWho *who, int timeout_ms, TideWhoAnswer *answer, bool *got, TideError *err)
{
	natsMsg *msg = NULL;
	json_t *object;
	TideError local = {0};

	*got = false;
	if (!tide_nats_next(who->nats, who->sub, timeout_ms, &msg, &local))
	{
		if (strcmp(local.code, "503") == 0)
			return true;
		if (err != NULL)
			*err = local;
		return false;
	}
	if (msg == NULL)
		return true;
	object = load(msg);
	natsMsg_Destroy(msg);
	snprintf(answer->region, sizeof(answer->region), "%s", text_of(object, "region"));
	snprintf(answer->domain, sizeof(answer->domain), "%s", text_of(object, "domain"));
	snprintf(answer->subject, sizeof(answer->subject), "%s", text_of(object, "subject"));
	*got = answer->region[0] != '\0' && tide_subject_valid(answer->subject, true);
	json_decref(object);
	return true;
}

/*
 * Have.  Ids that are UUIDs in their usual form travel as 32 hex digits without
 * anything between, so that thousands fit; others as JSON strings.
 */

#define PACKED 32

static json_t *
pack_ids(const TideSlice *ids, size_t n, json_t **others)
{
	char *hex = tide_malloc(n * PACKED + 1);
	size_t len = 0;
	json_t *packed;

	*others = json_array();
	for (size_t i = 0; i < n; i++)
	{
		uint8_t uuid[16];
		char text[TIDE_UUID_TEXT + 1];

		if (tide_uuid_parse(uuid, ids[i].ptr, ids[i].len))
		{
			tide_uuid_format(text, uuid);
			if (memcmp(text, ids[i].ptr, TIDE_UUID_TEXT) == 0)
			{
				for (int c = 0; c < TIDE_UUID_TEXT; c++)
				{
					if (text[c] != '-')
						hex[len++] = text[c];
				}
				continue;
			}
		}
		json_array_append_new(*others, json_stringn(ids[i].ptr, ids[i].len));
	}
	packed = json_stringn(hex, len);
	free(hex);
	return packed;
}

static TideSlice
copy_text(TideArena *arena, const char *text, size_t len)
{
	return (TideSlice){tide_arena_memdup(arena, text, len), len};
}

static TideSlice
unpack_uuid(TideArena *arena, const char *hex)
{
	char text[TIDE_UUID_TEXT + 1];
	int p = 0;

	for (int i = 0; i < PACKED; i++)
	{
		if (i == 8 || i == 12 || i == 16 || i == 20)
			text[p++] = '-';
		text[p++] = hex[i];
	}
	return copy_text(arena, text, TIDE_UUID_TEXT);
}

static bool
unpack_ids(const json_t *object, TideArena *arena, TideSlice **ids, size_t *n)
{
	const json_t *packed = json_object_get(object, "uuids");
	const json_t *others = json_object_get(object, "ids");
	const char *hex = json_string_value(packed);
	size_t n_packed = json_string_length(packed) / PACKED;
	size_t i;
	json_t *item;

	if (hex == NULL || !json_is_array(others))
		return false;
	*ids = tide_arena_alloc(arena, (n_packed + json_array_size(others) + 1) * sizeof(TideSlice));
	*n = 0;
	for (i = 0; i < n_packed; i++)
		(*ids)[(*n)++] = unpack_uuid(arena, hex + i * PACKED);
	json_array_foreach (others, i, item)
	{
		if (!json_is_string(item))
			return false;
		(*ids)[(*n)++] = copy_text(arena, json_string_value(item), json_string_length(item));
	}
	return true;
}

void
tide_have_subject(char *out, size_t size, const char *stream)
{
	snprintf(out, size, "_TIDE.have.%s", stream);
}

bool
tide_have_ask(TideNats *nats, const char *stream, const char *reply, const TideHaveQuestion *q,
			  TideError *err)
{
	char subject[SUBJECT_SIZE];
	json_t *others;
	json_t *packed = pack_ids(q->ids, q->n_ids, &others);

	tide_have_subject(subject, sizeof(subject), stream);
	return send_json(nats, subject, reply,
					 json_pack("{s:s%, s:s%, s:s%, s:o, s:o}", "region", q->region.ptr,
							   q->region.len, "subject", q->subject.ptr, q->subject.len, "position",
							   q->position.ptr, q->position.len, "uuids", packed, "ids", others),
					 err);
}

bool
tide_have_reply(TideNats *nats, const char *reply, const TideAnswer *a, TideError *err)
{
	json_t *others;
	json_t *packed = pack_ids(a->missing, a->n_missing, &others);

	return send_json(nats, reply, NULL,
					 json_pack("{s:s%, s:s%, s:I, s:o, s:o}", "region", a->region.ptr,
							   a->region.len, "position", a->position.ptr, a->position.len,
							   "pending", (json_int_t) a->pending, "uuids", packed, "ids", others),
					 err);
}

static TideSlice
member(const json_t *object, const char *key, TideArena *arena)
{
	const json_t *value = json_object_get(object, key);

	if (!json_is_string(value))
		return (TideSlice){NULL, 0};
	return copy_text(arena, json_string_value(value), json_string_length(value));
}

bool
tide_have_parse_question(natsMsg *msg, TideArena *arena, TideHaveQuestion *q)
{
	json_t *object = load(msg);
	bool ok;

	*q = (TideHaveQuestion){0};
	q->region = member(object, "region", arena);
	q->subject = member(object, "subject", arena);
	q->position = member(object, "position", arena);
	ok = object != NULL && q->region.len > 0 && q->position.ptr != NULL && q->subject.ptr != NULL &&
		 tide_subject_valid(q->subject.ptr, true) && unpack_ids(object, arena, &q->ids, &q->n_ids);
	json_decref(object);
	return ok;
}

bool
tide_have_parse_answer(natsMsg *msg, TideArena *arena, TideAnswer *a)
{
	json_t *object = load(msg);
	TideSlice *missing = NULL;
	bool ok;

	*a = (TideAnswer){0};
	a->region = member(object, "region", arena);
	a->position = member(object, "position", arena);
	a->pending = (uint64_t) json_integer_value(json_object_get(object, "pending"));
	ok = object != NULL && a->region.len > 0 && a->position.ptr != NULL &&
		 unpack_ids(object, arena, &missing, &a->n_missing);
	a->missing = missing;
	json_decref(object);
	return ok;
}
