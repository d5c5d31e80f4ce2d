/*
 * nats_rows.c
 *		Frames of rows on NATS: what the publisher and the links agree on.
 *
 * Owns: see nats_rows.h.
 */
#include "nats_rows.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mem.h"
#include "nats_fetch.h"
#include "nats_message.h"
#include "pg.h"
#include "tide_frame.h"

#define STREAM_PREFIX "TIDE_ROWS_"
#define FRAME_HEADER "Tide-Frame"
#define PART_HEADER "Tide-Part"
#define HEADER_ROOM 2048 /* more than subject, reply and headers of a message ever need */
#define MIN_PART 1024
#define WAY 136					   /* two regions' names */
#define DUPLICATE_WINDOW_MS 120000 /* ids never come again; the server wants one anyway */
/* A frame of incompressible records, its header and the origin's name. */
#define MAX_FRAME_BYTES (TIDE_FRAME_MAX_RAW + TIDE_FRAME_HEADER + 256)

/* ---- the stream ---- */

/* In subjects: the region that publishes, and whom for. */
static void
way(const char *region, const char *destination, char *tokens, size_t size)
{
	if (destination != NULL)
		snprintf(tokens, size, "%s.%s", region, destination);
	else
		snprintf(tokens, size, "%s", region);
}

void
tide_rows_stream(const json_t *options, const char *region, const char *destination, bool origin,
				 TideRowsStream *stream)
{
	const char *name = tide_nats_opt(options, "stream");
	const char *domain = tide_nats_opt(options, "peer_domain");
	char tokens[WAY];

	*stream = (TideRowsStream){0};
	way(region, destination, tokens, sizeof(tokens));
	if (destination != NULL) /* no region's name has a "+", so no stream is called like another */
		snprintf(stream->name, sizeof(stream->name), STREAM_PREFIX "%s+%s", region, destination);
	else if (name != NULL)
		snprintf(stream->name, sizeof(stream->name), "%s", name);
	else
		snprintf(stream->name, sizeof(stream->name), STREAM_PREFIX "%s", region);
	snprintf(stream->subject, sizeof(stream->subject), "tide.rows.%s.frames", tokens);
	snprintf(stream->filter, sizeof(stream->filter), "tide.rows.%s.*", tokens);
	stream->want = (TideProvision){
		.stream = stream->name,
		.allowed = tide_nats_opt_bool(options, TIDE_SIDE_LINK, "provision"),
		.max_age_ms = tide_nats_opt_ms(options, TIDE_SIDE_LINK, "max_age"),
		.max_bytes = tide_nats_opt_int(options, TIDE_SIDE_LINK, "max_bytes"),
		.drop_old = true,
		.duplicate_window_ms = DUPLICATE_WINDOW_MS,
		.replicas = tide_nats_opt_int(options, TIDE_SIDE_LINK, "replicas"),
	};
	if (origin)
		snprintf(stream->want.captures, sizeof(stream->want.captures), "%s", stream->filter);
	else
	{
		stream->want.reads = stream->filter;
		stream->want.peer_domain = domain;
	}
}

/* ---- frames as messages ---- */

size_t
tide_rows_part_size(size_t max_payload)
{
	return max_payload > HEADER_ROOM + MIN_PART ? max_payload - HEADER_ROOM : MIN_PART;
}

natsStatus
tide_rows_message(const char *region, const char *subject, const char *reply,
				  const TideRowsLabel *label, const char *data, size_t len, natsMsg **msg)
{
	char id[320];
	char frame[160];
	char part[32];
	char start[TIDE_LSN_TEXT];
	char end[TIDE_LSN_TEXT];
	natsStatus s;

	tide_lsn_format(label->start, start);
	tide_lsn_format(label->end, end);
	snprintf(id, sizeof(id), "%s:%s:%s:%" PRIu64 ".%" PRIu32 "#%s", region, start, end,
			 label->number, label->part, label->run);
	snprintf(frame, sizeof(frame), "%s %" PRIu64 " %s %s %u", label->run, label->number, start, end,
			 (unsigned) label->flags);
	snprintf(part, sizeof(part), "%" PRIu32 "/%" PRIu32, label->part, label->parts);
	s = natsMsg_Create(msg, subject, reply, data, (int) len);
	if (s == NATS_OK)
		s = natsMsgHeader_Set(*msg, TIDE_NATS_MSG_ID, id);
	if (s == NATS_OK)
		s = natsMsgHeader_Set(*msg, FRAME_HEADER, frame);
	if (s == NATS_OK && label->parts > 1)
		s = natsMsgHeader_Set(*msg, PART_HEADER, part);
	return s;
}

/* The word at *text, which moves behind it and the one blank (or end) that follows. */
static bool
next_word(const char **text, char *word, size_t size)
{
	size_t len = strcspn(*text, " ");

	if (len == 0 || len >= size)
		return false;
	memcpy(word, *text, len);
	word[len] = '\0';
	*text += len;
	if (**text == ' ')
		(*text)++;
	return true;
}

static bool
next_lsn(const char **text, uint64_t *lsn)
{
	char word[TIDE_LSN_TEXT + 1];

	if (!next_word(text, word, sizeof(word)))
		return false;
	*lsn = tide_lsn_parse(word);
	return *lsn != 0 || strcmp(word, "0/0") == 0;
}

static bool
next_number(const char **text, uint64_t *number)
{
	char word[24];

	return next_word(text, word, sizeof(word)) && tide_parse_u64(word, strlen(word), number);
}

static bool
read_part(const char *text, TideRowsLabel *label)
{
	const char *slash = strchr(text, '/');
	uint64_t part;
	uint64_t parts;

	if (slash == NULL || !tide_parse_u64(text, (size_t) (slash - text), &part) ||
		!tide_parse_u64(slash + 1, strlen(slash + 1), &parts) || part < 1 || part > parts ||
		parts > UINT32_MAX)
		return false;
	label->part = (uint32_t) part;
	label->parts = (uint32_t) parts;
	return true;
}

bool
tide_rows_label(natsMsg *msg, TideRowsLabel *label)
{
	const char *text = NULL;
	const char *part = NULL;
	TideRowsLabel read = {.part = 1, .parts = 1};
	uint64_t flags;

	*label = (TideRowsLabel){0};
	if (natsMsgHeader_Get(msg, FRAME_HEADER, &text) != NATS_OK || text == NULL ||
		!next_word(&text, read.run, sizeof(read.run)) || !next_number(&text, &read.number) ||
		!next_lsn(&text, &read.start) || !next_lsn(&text, &read.end) ||
		!next_number(&text, &flags) || flags > UINT8_MAX)
		return false;
	read.flags = (uint8_t) flags;
	if (natsMsgHeader_Get(msg, PART_HEADER, &part) == NATS_OK && part != NULL &&
		!read_part(part, &read))
		return false;
	*label = read;
	return true;
}

bool
tide_rows_label_at(TideJs *js, const TideRowsStream *stream, uint64_t *seq, TideRowsLabel *label,
				   TideError *err)
{
	natsMsg *msg = NULL;
	uint64_t found = 0;
	bool ok = *seq > 0 ? tide_fetch_next(js, stream->name, stream->filter, *seq, &msg, &found, err)
					   : tide_fetch_last(js, stream->name, stream->subject, &msg, &found, err);

	*label = (TideRowsLabel){0};
	if (!ok)
		return false;
	*seq = msg != NULL ? found : 0;
	if (msg != NULL)
		(void) tide_rows_label(msg, label);
	natsMsg_Destroy(msg);
	return true;
}

/* Is that the part that follows what was taken? */
static bool
follows(const TideRowsLabel *before, const TideRowsLabel *label)
{
	if (label->part == 1)
		return true;
	return before->parts == label->parts && before->part + 1 == label->part &&
		   before->number == label->number && strcmp(before->run, label->run) == 0;
}

bool
tide_rows_add_part(TideRowsParts *parts, const TideRowsLabel *label, natsMsg *msg, bool *whole,
				   TideError *err)
{
	size_t len = (size_t) natsMsg_GetDataLength(msg);

	*whole = false;
	if (label->part == 1)
		tide_buf_reset(&parts->data);
	if (!follows(&parts->label, label) || len > MAX_FRAME_BYTES - parts->data.len)
	{
		parts->label = (TideRowsLabel){0};
		return true;
	}
	if (!tide_buf_append(&parts->data, natsMsg_GetData(msg), len))
		return tide_error(err, TIDE_ERR_INTERNAL, "", "no memory for a frame of %zu bytes",
						  parts->data.len + len);
	parts->label = *label;
	*whole = label->part == label->parts;
	return true;
}

bool
tide_rows_needed(const TideRowsLabel *label, uint64_t position)
{
	/* The transaction that an open frame is part of ends somewhere behind start. */
	return label->end > position || ((label->flags & TIDE_FRAME_OPEN) && label->start >= position);
}

/* ---- what regions tell each other ---- */

void
tide_rows_topic(TideRowsTopic topic, const char *region, const char *destination, char *subject,
				size_t size)
{
	static const char *const names[] = {
		[TIDE_ROWS_CONFIRM] = "confirm",
		[TIDE_ROWS_REWIND] = "rewind",
		[TIDE_ROWS_WHERE] = "where",
	};

	char tokens[WAY];

	way(region, destination, tokens, sizeof(tokens));
	snprintf(subject, size, "_TIDE.rows.%s.%s", tokens, names[topic]);
}

/* Takes ownership of object. */
static bool
send_json(TideNats *nats, const char *subject, const char *reply, json_t *object, TideError *err)
{
	char *text = json_dumps(object, JSON_COMPACT);
	natsStatus s = NATS_NO_MEMORY;

	json_decref(object);
	if (text != NULL && reply != NULL)
		s = natsConnection_PublishRequestString(tide_nats_connection(nats), subject, reply, text);
	else if (text != NULL)
		s = natsConnection_PublishString(tide_nats_connection(nats), subject, text);
	free(text);
	return s == NATS_OK || tide_nats_error(nats, s, "telling another region", err);
}

bool
tide_rows_tell(TideNats *nats, TideRowsTopic topic, const char *region, const char *destination,
			   const char *reply, const TideRowsNote *note, TideError *err)
{
	char subject[TIDE_ROWS_SUBJECT];
	char position[TIDE_LSN_TEXT];

	tide_rows_topic(topic, region, destination, subject, sizeof(subject));
	tide_lsn_format(note->position, position);
	return send_json(nats, subject, reply,
					 json_pack("{s:s, s:s}", "region", note->region, "position", position), err);
}

static json_t *
load(natsMsg *msg)
{
	return json_loadb(natsMsg_GetData(msg), (size_t) natsMsg_GetDataLength(msg), 0, NULL);
}

static uint64_t
lsn_of(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text != NULL ? tide_lsn_parse(text) : 0;
}

bool
tide_rows_read_note(natsMsg *msg, TideRowsNote *note)
{
	json_t *object = load(msg);
	const char *region = json_string_value(json_object_get(object, "region"));

	*note = (TideRowsNote){.position = lsn_of(object, "position")};
	snprintf(note->region, sizeof(note->region), "%s", region != NULL ? region : "");
	json_decref(object);
	return note->region[0] != '\0' && note->position != 0;
}

static void
set_lsn(json_t *object, const char *key, uint64_t lsn)
{
	char text[TIDE_LSN_TEXT];

	tide_lsn_format(lsn, text);
	json_object_set_new(object, key, json_string(text));
}

bool
tide_rows_reply(TideNats *nats, const char *reply, const TideRowsAnswer *answer, TideError *err)
{
	json_t *object = json_pack("{s:s, s:I, s:b}", "domain", answer->domain, "timeline",
							   (json_int_t) answer->timeline, "known", (int) answer->known);
	char system_id[24];

	snprintf(system_id, sizeof(system_id), "%" PRIu64, answer->system_id);
	json_object_set_new(object, "system_id", json_string(system_id));
	set_lsn(object, "from", answer->from);
	set_lsn(object, "end", answer->end);
	set_lsn(object, "wal_end", answer->wal_end);
	return send_json(nats, reply, NULL, object, err);
}

bool
tide_rows_read_answer(natsMsg *msg, TideRowsAnswer *answer)
{
	json_t *object = load(msg);
	const char *domain = json_string_value(json_object_get(object, "domain"));
	const char *system_id = json_string_value(json_object_get(object, "system_id"));
	bool ok = domain != NULL && system_id != NULL;

	*answer = (TideRowsAnswer){
		.from = lsn_of(object, "from"),
		.end = lsn_of(object, "end"),
		.wal_end = lsn_of(object, "wal_end"),
		.timeline = (uint32_t) json_integer_value(json_object_get(object, "timeline")),
		.known = json_is_true(json_object_get(object, "known")),
	};
	if (ok)
	{
		snprintf(answer->domain, sizeof(answer->domain), "%s", domain);
		ok = tide_parse_u64(system_id, strlen(system_id), &answer->system_id) && answer->from != 0;
	}
	json_decref(object);
	return ok;
}
