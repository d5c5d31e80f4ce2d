/*
 * sink_nats.c
 *		The sink "nats": publishes events to a JetStream stream.
 *
 * Owns: see sink_nats.h.
 *
 * Publishing is a window: up to max_in_flight messages are on their way, and
 * each answer (JetStream's PubAck) comes to a reply subject that carries the
 * message's number.  What keeps the order per key:
 *
 * - Messages leave in the batch's order on one connection, and any failure that
 *   is not about one message alone ends the sink; the pipeline opens a new one
 *   and sends the whole batch again.  What was stored already is recognised by
 *   its Nats-Msg-Id.
 * - A stream that refuses (full, say) and accepts again in the middle of a
 *   window would store a later message before an earlier one.  So a new sink
 *   begins with a window of one and doubles it with every answered round:
 *   while a stream refuses, only one message at a time knocks.
 */
#include "sink_nats.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "log.h"
#include "mem.h"
#include "nats_message.h"
#include "nats_peer.h"
#include "nats_provision.h"

#define ACK_TIMEOUT_MS 8000 /* without any answer while some are due */
#define LEASE_CHUNK 256		/* messages sent between two looks at our lease */
#define REPLY_SIZE 160
#define MANY_WAITING 64 /* above this, answers are collected in bulk */
#define BULK_PAUSE_NS 200000

struct TideSink
{
	const TidePipelineInfo *info;
	TideNats *nats;
	TideJs *js;
	TideProvision want;
	char store[128]; /* the stream and when it was created */
	TideTemplate tpl;
	natsSubscription *acks;	   /* <inbox>.ack.* */
	natsSubscription *answers; /* <inbox>.have */
	char ack_prefix[REPLY_SIZE];
	char have_reply[REPLY_SIZE];
	TideBuf subject;
	TideBuf scratch;

	int64_t trust_us; /* younger events are recognised by the stream if it has them */
	size_t max_in_flight;
	size_t window; /* grows to max_in_flight */
	size_t round;  /* answers until the window doubles */

	/* The batch at work.  Message i has the number base + i in its reply subject. */
	TideBatch *batch;
	uint64_t base;
	size_t n_sent;			 /* events [0, n_sent) were published or rejected */
	size_t n_waiting;		 /* of these, not yet answered */
	bool *answered;			 /* in the batch's arena */
	long long last_progress; /* monotonic ms */

	/* How a plain acceptance by our stream begins, up to its sequence; "": not known yet. */
	char usual[300];
	size_t usual_len;
};

static void nats_sink_close(TideSink *sink);

/*
 * Opening
 */

static bool
read_template(TideSink *sink, TideError *err)
{
	const char *text = tide_provision_template(sink->info->config);
	TideTemplateError te;

	if (!tide_template_parse(&sink->tpl, text, strlen(text), &te))
	{
		tide_error(err, TIDE_ERR_CONFIG, "", "subject_template \"%s\" is no template: %s", text,
				   te.message);
		tide_error_hint(err, "%s", te.hint);
		return false;
	}
	return true;
}

static bool
subscribe_replies(TideSink *sink, TideError *err)
{
	const char *inbox = tide_nats_inbox(sink->nats);
	char subject[REPLY_SIZE + 2];

	snprintf(sink->ack_prefix, sizeof(sink->ack_prefix), "%s.ack.", inbox);
	snprintf(sink->have_reply, sizeof(sink->have_reply), "%s.have", inbox);
	snprintf(subject, sizeof(subject), "%s*", sink->ack_prefix);
	return tide_nats_subscribe(sink->nats, subject, &sink->acks, err) &&
		   tide_nats_subscribe(sink->nats, sink->have_reply, &sink->answers, err);
}

static bool
open_stream(TideSink *sink, TideError *err)
{
	const TidePipelineInfo *info = sink->info;
	TideStreamState state = {0};

	if (!tide_js_open(sink->nats, tide_nats_opt(info->config, "domain"), &sink->js, err) ||
		!tide_provision_stream(sink->js, &sink->want, &state, err))
		return false;
	sink->trust_us = state.duplicate_window_us / 2;
	snprintf(sink->store, sizeof(sink->store), "%s %s", sink->want.stream, state.created);
	tide_stream_clear(&state);
	return tide_who_serve(sink->nats, sink->want.stream, info->region, tide_js_domain(sink->js),
						  sink->want.captures, err);
}

static bool
nats_sink_open(const TidePipelineInfo *info, TideSink **out, TideError *err)
{
	TideSink *sink = tide_zalloc(sizeof(*sink));
	bool ok;

	*out = NULL;
	sink->info = info;
	sink->max_in_flight = (size_t) tide_nats_opt_int(info->config, TIDE_SIDE_SINK, "max_in_flight");
	sink->window = sink->round = 1;
	tide_buf_init(&sink->subject);
	tide_buf_init(&sink->scratch);
	ok = read_template(sink, err) &&
		 tide_provision_read(info->config, info->target, info->region, &sink->want, err) &&
		 tide_nats_open(info->config, info->name, info->stop, &sink->nats, err) &&
		 subscribe_replies(sink, err) && open_stream(sink, err);
	if (!ok)
	{
		nats_sink_close(sink);
		return false;
	}
	*out = sink;
	return true;
}

static void
nats_sink_close(TideSink *sink)
{
	if (sink == NULL)
		return;
	tide_js_close(sink->js);
	tide_nats_close(sink->nats);
	tide_buf_free(&sink->subject);
	tide_buf_free(&sink->scratch);
	free(sink);
}

/*
 * Rejecting one event
 */

static void __attribute__((format(printf, 5, 6)))
reject(TideSink *sink, TideEvent *event, const char *code, const char *hint, const char *fmt, ...)
{
	TideError *why = tide_arena_zalloc(sink->batch->arena, sizeof(*why));
	char text[200];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	tide_error(why, TIDE_ERR_DATA, code, "stream \"%s\" can't take event %s: %s", sink->want.stream,
			   event->id.ptr, text);
	tide_error_hint(why, "%s", hint);
	event->reject = why;
}

/* Would the server refuse this very message whatever happens?  Then it is not sent. */
static bool
too_large(TideSink *sink, TideEvent *event, const TideMessageSize *size)
{
	size_t limit = (size_t) natsConnection_GetMaxPayload(tide_nats_connection(sink->nats));

	if (size->total > limit)
	{
		reject(sink, event, "max_payload", "Raise max_payload in the NATS server's configuration.",
			   "the message has %zu bytes with its headers, max_payload is %zu", size->total,
			   limit);
		return true;
	}
	if (size->headers > TIDE_NATS_MAX_HEADER_BYTES)
	{
		reject(sink, event, TIDE_JS_HEADER_TOO_LARGE, "Move large headers into the payload.",
			   "its headers have %zu bytes, JetStream takes at most %d", size->headers,
			   TIDE_NATS_MAX_HEADER_BYTES);
		return true;
	}
	return false;
}

/*
 * Publishing
 */

static bool
render_subject(TideSink *sink, TideEvent *event)
{
	TideTemplateValues values;

	tide_message_template_values(event, sink->info->region, sink->info->target, &sink->scratch,
								 &values);
	tide_buf_reset(&sink->subject);
	if (tide_template_render(&sink->tpl, &values, &sink->subject))
		return true;
	reject(sink, event, "subject", "Use variables with short values in \"subject_template\".",
		   "its subject would have more than %d bytes", TIDE_SUBJECT_MAX);
	return false;
}

/*
 * May the stream take this message id for a duplicate although it is to be
 * stored, or have forgotten that it is one?
 *
 * - An event that a destination lacks although a stream once took it would be
 *   dropped under the same id.
 * - An old event may have been published before, for longer ago than the stream
 *   remembers.  Then it is stored twice, and a stream of another region that
 *   gets both copies at once, after a cut, stops sourcing at the second: the
 *   server tries the same one again and again until its own memory fades.
 */
static bool
needs_own_id(const TideSink *sink, const TideEvent *event)
{
	return sink->batch->again || tide_wall_us() - event->published_us > sink->trust_us;
}

/* Another message id for such an event.  Inboxes know it by ce-id. */
static natsStatus
mark_again(natsMsg *msg, const TideEvent *event)
{
	char *id = NULL;
	natsStatus s;

	if (asprintf(&id, "%s#%lld", event->id.ptr, tide_wall_us()) < 0)
		return NATS_NO_MEMORY;
	s = natsMsgHeader_Set(msg, TIDE_NATS_MSG_ID, id);
	free(id);
	return s;
}

/* Publishes event i, or rejects it. */
static bool
publish_one(TideSink *sink, size_t i, TideError *err)
{
	TideEvent *event = &sink->batch->events[i];
	char reply[REPLY_SIZE + 24];
	TideMessageSize size;
	natsMsg *msg;
	natsStatus s;

	sink->answered[i] = true; /* until it is on its way */
	if (!render_subject(sink, event))
		return true;
	snprintf(reply, sizeof(reply), "%s%" PRIu64, sink->ack_prefix, sink->base + (uint64_t) i);
	s = tide_message_encode(event, sink->info->region, tide_buf_cstr(&sink->subject), reply, &msg,
							&size);
	if (s == NATS_OK)
		s = natsMsgHeader_Set(msg, "Nats-Expected-Stream", sink->want.stream);
	if (s == NATS_OK && needs_own_id(sink, event))
		s = mark_again(msg, event);
	if (s == NATS_OK)
	{
		size.headers += strlen("Nats-Expected-Stream: \r\n") + strlen(sink->want.stream);
		size.total += strlen("Nats-Expected-Stream: \r\n") + strlen(sink->want.stream);
		if (too_large(sink, event, &size))
		{
			tide_nats_discard(sink->nats, msg);
			return true;
		}
		s = natsConnection_PublishMsg(tide_nats_connection(sink->nats), msg);
	}
	tide_nats_discard(sink->nats, msg);
	if (s != NATS_OK)
		return tide_nats_error(sink->nats, s, "publishing", err);
	sink->answered[i] = false;
	sink->n_waiting++;
	return true;
}

/* Publishes as much of the batch as the window allows. */
static bool
publish_more(TideSink *sink, TideError *err)
{
	const TidePipelineInfo *info = sink->info;
	size_t n = 0;

	while (sink->n_sent < sink->batch->n_events && sink->n_waiting < sink->window)
	{
		if (n++ % LEASE_CHUNK == 0 && !info->lease_fresh(info))
			return tide_error(err, TIDE_ERR_STALE, "",
							  "this relay may have lost pipeline \"%s\":"
							  " nothing more is published",
							  info->name);
		if (!publish_one(sink, sink->n_sent, err))
			return false;
		sink->n_sent++;
	}
	if (n > 0)
	{
		tide_nats_flush(sink->nats);
		sink->last_progress = tide_monotonic_ms();
		tide_gauge(info->metrics, TIDE_G_IN_FLIGHT, (int64_t) sink->n_waiting);
	}
	return true;
}

/*
 * Answers
 */

/* An error object for message i: about this message alone, or about the stream? */
static bool
refused(TideSink *sink, TideEvent *event, const json_t *error, TideError *err)
{
	char doing[320];
	TideError local;

	snprintf(doing, sizeof(doing), "a message for stream \"%s\" at \"%s\"", sink->want.stream,
			 tide_nats_url(sink->nats));
	tide_js_error(error, doing, &local);
	if (strcmp(local.code, TIDE_JS_MESSAGE_TOO_LARGE) == 0)
		reject(sink, event, local.code, "Raise the stream's max_msg_size.",
			   "with a payload of %zu bytes it is larger than the stream's max_msg_size",
			   event->payload.len);
	else if (strcmp(local.code, TIDE_JS_HEADER_TOO_LARGE) == 0)
		reject(sink, event, local.code, "Move large headers into the payload.",
			   "its headers (%zu bytes as given) are more than the %d bytes JetStream takes",
			   event->headers.len, TIDE_NATS_MAX_HEADER_BYTES);
	else
	{
		if (err != NULL)
			*err = local;
		return false;
	}
	return true;
}

/* A PubAck. */
static bool
accepted(TideSink *sink, const json_t *ack, bool *ours, TideError *err)
{
	if (!tide_js_accepted(sink->js, sink->want.stream, ack, ours, err))
		return false;
	if (*ours && json_is_true(json_object_get(ack, "duplicate")))
		sink->batch->n_duplicates++;
	else if (*ours)
		sink->batch->n_stored++;
	return true;
}

/*
 * Nearly all answers are {"stream":"S", ... "seq":N} with another N: one that
 * was parsed and found good shows how the others look.
 */
static void
learn_usual(TideSink *sink, natsMsg *msg)
{
	const char *data = natsMsg_GetData(msg);
	size_t len = (size_t) natsMsg_GetDataLength(msg);
	size_t digits = 0;

	sink->usual_len = 0;
	if (len < 2 || data[len - 1] != '}')
		return;
	len--;
	while (digits < len && data[len - 1 - digits] >= '0' && data[len - 1 - digits] <= '9')
		digits++;
	len -= digits;
	if (digits == 0 || len >= sizeof(sink->usual))
		return;
	memcpy(sink->usual, data, len);
	sink->usual[len] = '\0';
	if (strstr(sink->usual, "\"seq\"") != NULL && strstr(sink->usual, "uplicate") == NULL)
		sink->usual_len = len;
}

static bool
is_usual(const TideSink *sink, natsMsg *msg)
{
	const char *data = natsMsg_GetData(msg);
	size_t len = (size_t) natsMsg_GetDataLength(msg);
	uint64_t seq;

	return sink->usual_len > 0 && len > sink->usual_len + 1 && data[len - 1] == '}' &&
		   memcmp(data, sink->usual, sink->usual_len) == 0 &&
		   tide_parse_u64(data + sink->usual_len, len - sink->usual_len - 1, &seq);
}

static void
settle(TideSink *sink, size_t i)
{
	sink->answered[i] = true;
	sink->n_waiting--;
	sink->last_progress = tide_monotonic_ms();
	if (--sink->round == 0)
	{
		sink->window = sink->window * 2 < sink->max_in_flight ? sink->window * 2
															  : sink->max_in_flight;
		sink->round = sink->window;
	}
}

static bool
handle_answer(TideSink *sink, natsMsg *msg, TideError *err)
{
	const char *number = natsMsg_GetSubject(msg) + strlen(sink->ack_prefix);
	uint64_t serial = 0;
	size_t i;
	json_t *answer;
	json_t *error;
	bool ours = true;
	bool ok;

	if (!tide_parse_u64(number, strlen(number), &serial) || serial < sink->base ||
		(i = (size_t) (serial - sink->base)) >= sink->n_sent || sink->answered[i])
		return true; /* second answer, or to a batch given up */
	if (is_usual(sink, msg))
	{
		sink->batch->n_stored++;
		settle(sink, i);
		return true;
	}
	answer = json_loadb(natsMsg_GetData(msg), (size_t) natsMsg_GetDataLength(msg), 0, NULL);
	error = json_object_get(answer, "error");
	if (error != NULL)
		ok = refused(sink, &sink->batch->events[i], error, err);
	else
		ok = accepted(sink, answer, &ours, err);
	json_decref(answer);
	if (ok && ours)
	{
		if (error == NULL)
			learn_usual(sink, msg);
		settle(sink, i);
	}
	return ok;
}

/* Nothing is there that stores the subject: the stream, or JetStream, is gone. */
static bool
no_stream(TideSink *sink, TideError *err)
{
	tide_error(err, TIDE_ERR_UNAVAILABLE, "503", "no stream at \"%s\" captures \"%s\"",
			   tide_nats_url(sink->nats), sink->want.captures);
	tide_error_hint(
		err, "Stream \"%s\" was deleted or changed; it is set up again if \"provision\" allows.",
		sink->want.stream);
	return false;
}

static bool
no_answer(TideSink *sink, TideError *err)
{
	char words[200];

	if (tide_nats_refused(sink->nats, words, sizeof(words)))
		return tide_error(err, TIDE_ERR_PERMISSION, "", "NATS at \"%s\" refused to publish: %s",
						  tide_nats_url(sink->nats), words);
	return tide_error(err, TIDE_ERR_TIMEOUT, "",
					  "stream \"%s\" at \"%s\" acknowledged nothing for"
					  " %d ms",
					  sink->want.stream, tide_nats_url(sink->nats), ACK_TIMEOUT_MS);
}

/*
 * While many answers are due, waiting for each would mean a change of threads
 * per answer; a short sleep lets them gather.
 */
static void
let_gather(TideSink *sink)
{
	const struct timespec pause = {.tv_nsec = BULK_PAUSE_NS};
	uint64_t queued = 0;

	if (sink->n_waiting > MANY_WAITING &&
		natsSubscription_QueuedMsgs(sink->acks, &queued) == NATS_OK && queued < MANY_WAITING)
		nanosleep(&pause, NULL);
}

/* Waits for one answer (up to timeout_ms) and takes all that are there. */
static bool
take_answers(TideSink *sink, int timeout_ms, TideError *err)
{
	uint64_t queued = 1;

	let_gather(sink);
	while (queued > 0 && sink->n_waiting > 0)
	{
		natsMsg *msg = NULL;
		bool ok;

		if (!tide_nats_next(sink->nats, sink->acks, timeout_ms, &msg, err))
			return err != NULL && strcmp(err->code, "503") == 0 ? no_stream(sink, err) : false;
		if (msg == NULL)
			break;
		ok = handle_answer(sink, msg, err);
		tide_nats_discard(sink->nats, msg);
		if (!ok)
			return false;
		if (natsSubscription_QueuedMsgs(sink->acks, &queued) != NATS_OK)
			queued = 0;
	}
	if (sink->n_waiting > 0 && tide_monotonic_ms() - sink->last_progress > ACK_TIMEOUT_MS)
		return no_answer(sink, err);
	return true;
}

/*
 * The table's functions
 */

static bool
nats_sink_start(TideSink *sink, TideBatch *batch, TideError *err)
{
	sink->base += sink->batch != NULL ? sink->n_sent : 0;
	sink->batch = batch;
	sink->n_sent = sink->n_waiting = 0;
	sink->answered = tide_arena_zalloc(batch->arena, batch->n_events * sizeof(bool) + 1);
	sink->last_progress = tide_monotonic_ms();
	batch->n_stored = batch->n_duplicates = batch->n_echoes = 0;
	return publish_more(sink, err);
}

static bool
nats_sink_finish(TideSink *sink, TideBatch *batch, TideError *err)
{
	while (sink->n_waiting > 0 || sink->n_sent < batch->n_events)
	{
		if (sink->n_waiting > 0 && !take_answers(sink, ACK_TIMEOUT_MS / 2, err))
			return false;
		if (!publish_more(sink, err))
			return false;
	}
	tide_gauge(sink->info->metrics, TIDE_G_IN_FLIGHT, 0);
	return true;
}

static bool
nats_sink_ask(TideSink *sink, const TideBatch *ids, TideError *err)
{
	const TidePipelineInfo *info = sink->info;
	TideSlice *list = tide_arena_alloc(ids->arena, (ids->n_events + 1) * sizeof(TideSlice));
	TideHaveQuestion question = {
		.region = {info->region, strlen(info->region)},
		.subject = {sink->want.captures, strlen(sink->want.captures)},
		.position = ids->position,
		.ids = list,
		.n_ids = ids->n_events,
	};

	for (size_t i = 0; i < ids->n_events; i++)
		list[i] = ids->events[i].id;
	return tide_have_ask(sink->nats, sink->want.stream, sink->have_reply, &question, err);
}

static bool
nats_sink_answer(TideSink *sink, TideArena *arena, TideAnswer *answer, bool *got, int timeout_ms,
				 TideError *err)
{
	natsMsg *msg = NULL;
	TideError local = {0};

	*got = false;
	if (!tide_nats_next(sink->nats, sink->answers, timeout_ms, &msg, &local))
	{
		if (strcmp(local.code, "503") == 0)
			return true; /* nobody listens: the other region is away */
		if (err != NULL)
			*err = local;
		return false;
	}
	if (msg == NULL)
		return true;
	*got = tide_have_parse_answer(msg, arena, answer);
	natsMsg_Destroy(msg);
	return true;
}

static const char *
nats_sink_store(TideSink *sink)
{
	return sink->store;
}

const TideSinkOps tide_sink_nats = {
	.type = "nats",
	.open = nats_sink_open,
	.start = nats_sink_start,
	.finish = nats_sink_finish,
	.ask = nats_sink_ask,
	.answer = nats_sink_answer,
	.store = nats_sink_store,
	.close = nats_sink_close,
};
