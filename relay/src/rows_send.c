/*
 * rows_send.c
 *		Frames to a JetStream stream, with many on their way at once.
 *
 * Owns: see rows_send.h.
 *
 * Messages leave in order on one connection.  Any failure ends the run: the
 * next one begins behind what the stream really has, or earlier.
 */
#include "rows_send.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mem.h"

#define ACK_TIMEOUT_MS 8000 /* without any answer while some are due */
#define MAX_IN_FLIGHT 256	/* messages; a power of two */
#define MAX_BYTES_IN_FLIGHT ((size_t) 8 << 20)

struct TideRowsSend
{
	const TidePipelineInfo *info;
	TideJs *js;
	TideNats *nats;
	const TideRowsStream *stream;
	char ack_prefix[TIDE_ROWS_SUBJECT];
	size_t part_size;

	TideRowsLabel label; /* of the message sent last, or of the frame at work */
	TideFrame frame;	 /* at work while label.part < label.parts */
	size_t offset;

	/* What is not acknowledged: message n has n in its reply subject and its size at n modulo. */
	uint64_t next; /* number of the next message */
	uint64_t oldest;
	size_t sizes[MAX_IN_FLIGHT]; /* 0: acknowledged */
	bool last[MAX_IN_FLIGHT];	 /* the last one of its frame */
	size_t bytes;				 /* sum of sizes */
	long long last_progress;
};

bool
tide_rows_send_new(const TidePipelineInfo *info, TideJs *js, const TideRowsStream *stream,
				   TideMailbox *box, int tag, TideRowsSend **out, TideError *err)
{
	TideRowsSend *send = tide_zalloc(sizeof(*send));
	natsConnection *conn = tide_nats_connection(tide_js_nats(js));
	char subject[TIDE_ROWS_SUBJECT + 2];

	send->info = info;
	send->js = js;
	send->nats = tide_js_nats(js);
	send->stream = stream;
	send->part_size = tide_rows_part_size((size_t) natsConnection_GetMaxPayload(conn));
	snprintf(send->ack_prefix, sizeof(send->ack_prefix), "%s.ack.", tide_nats_inbox(send->nats));
	snprintf(subject, sizeof(subject), "%s*", send->ack_prefix);
	if (!tide_mailbox_subscribe(box, subject, tag, err))
	{
		free(send);
		return false;
	}
	*out = send;
	return true;
}

void
tide_rows_send_free(TideRowsSend *send)
{
	free(send);
}

void
tide_rows_send_begin(TideRowsSend *send, const char *run)
{
	send->label = (TideRowsLabel){0};
	snprintf(send->label.run, sizeof(send->label.run), "%s", run);
	send->oldest = send->next;
	send->bytes = 0;
	memset(send->sizes, 0, sizeof(send->sizes));
}

void
tide_rows_send_start(TideRowsSend *send, const TideFrame *frame)
{
	size_t parts = (frame->len + send->part_size - 1) / send->part_size;

	send->frame = *frame;
	send->offset = 0;
	send->label.number++;
	send->label.start = frame->start;
	send->label.end = frame->end;
	send->label.flags = frame->flags;
	send->label.part = 0;
	send->label.parts = (uint32_t) parts;
}

bool
tide_rows_send_busy(const TideRowsSend *send)
{
	return send->label.part < send->label.parts;
}

/* ---- publishing ---- */

static bool
room(const TideRowsSend *send)
{
	return send->next - send->oldest < MAX_IN_FLIGHT && send->bytes < MAX_BYTES_IN_FLIGHT;
}

static bool
publish_part(TideRowsSend *send, TideError *err)
{
	size_t left = send->frame.len - send->offset;
	size_t len = left < send->part_size ? left : send->part_size;
	char reply[TIDE_ROWS_SUBJECT + 24];
	natsMsg *msg = NULL;
	natsStatus s;

	send->label.part++;
	snprintf(reply, sizeof(reply), "%s%" PRIu64, send->ack_prefix, send->next);
	s = tide_rows_message(send->info->region, send->stream->subject, reply, &send->label,
						  send->frame.data + send->offset, len, &msg);
	if (s == NATS_OK)
		s = natsMsgHeader_Set(msg, "Nats-Expected-Stream", send->stream->name);
	if (s == NATS_OK)
		s = natsConnection_PublishMsg(tide_nats_connection(send->nats), msg);
	tide_nats_discard(send->nats, msg);
	if (s != NATS_OK)
		return tide_nats_error(send->nats, s, "publishing", err);
	send->last[send->next % MAX_IN_FLIGHT] = !tide_rows_send_busy(send);
	send->sizes[send->next++ % MAX_IN_FLIGHT] = len;
	send->bytes += len;
	send->offset += len;
	return true;
}

static bool
check_answers(const TideRowsSend *send, TideError *err)
{
	char words[200];

	if (send->oldest == send->next || tide_monotonic_ms() - send->last_progress < ACK_TIMEOUT_MS)
		return true;
	if (tide_nats_refused(send->nats, words, sizeof(words)))
		return tide_error(err, TIDE_ERR_PERMISSION, "", "NATS at \"%s\" refused to publish: %s",
						  tide_nats_url(send->nats), words);
	return tide_error(err, TIDE_ERR_TIMEOUT, "",
					  "stream \"%s\" at \"%s\" acknowledged no rows for %d ms", send->stream->name,
					  tide_nats_url(send->nats), ACK_TIMEOUT_MS);
}

bool
tide_rows_send_turn(TideRowsSend *send, TideError *err)
{
	bool sent = false;

	if (!check_answers(send, err))
		return false;
	while (tide_rows_send_busy(send) && room(send))
	{
		if (!send->info->lease_fresh(send->info))
			return tide_error(err, TIDE_ERR_STALE, "",
							  "this relay may have lost pipeline \"%s\": nothing more is published",
							  send->info->name);
		if (send->oldest == send->next)
			send->last_progress = tide_monotonic_ms();
		if (!publish_part(send, err))
			return false;
		sent = true;
	}
	if (sent)
	{
		tide_nats_flush(send->nats);
		tide_gauge(send->info->metrics, TIDE_G_IN_FLIGHT, (int64_t) (send->next - send->oldest));
	}
	return true;
}

/* ---- answers ---- */

static void
settle(TideRowsSend *send, uint64_t number)
{
	if (send->last[number % MAX_IN_FLIGHT])
		tide_count(send->info->metrics, TIDE_FRAMES_STORED, 1);
	send->bytes -= send->sizes[number % MAX_IN_FLIGHT];
	send->sizes[number % MAX_IN_FLIGHT] = 0;
	while (send->oldest < send->next && send->sizes[send->oldest % MAX_IN_FLIGHT] == 0)
		send->oldest++;
	send->last_progress = tide_monotonic_ms();
	tide_gauge(send->info->metrics, TIDE_G_IN_FLIGHT, (int64_t) (send->next - send->oldest));
}

static bool
judge_answer(TideRowsSend *send, natsMsg *msg, bool *ours, TideError *err)
{
	json_t *answer = json_loadb(natsMsg_GetData(msg), (size_t) natsMsg_GetDataLength(msg), 0, NULL);
	const json_t *error = json_object_get(answer, "error");
	bool ok;

	*ours = false;
	if (error != NULL)
		ok = tide_js_error(error, "a frame of rows", err);
	else
		ok = tide_js_accepted(send->js, send->stream->name, answer, ours, err);
	json_decref(answer);
	return ok;
}

bool
tide_rows_send_answer(TideRowsSend *send, natsMsg *msg, TideError *err)
{
	const char *text = natsMsg_GetSubject(msg) + strlen(send->ack_prefix);
	uint64_t number = 0;
	bool ours;

	if (!tide_parse_u64(text, strlen(text), &number) || number < send->oldest ||
		number >= send->next || send->sizes[number % MAX_IN_FLIGHT] == 0)
		return true; /* second answer, or of a run given up */
	if (natsMsg_IsNoResponders(msg))
		return tide_error(err, TIDE_ERR_UNAVAILABLE, "503", "no stream at \"%s\" captures \"%s\"",
						  tide_nats_url(send->nats), send->stream->subject);
	if (!judge_answer(send, msg, &ours, err))
		return false;
	if (ours)
		settle(send, number);
	return true;
}
