/*
 * link_nats.c
 *		The transport "nats": frames that the origin's relay published, from a stream.
 *
 * Owns: the stream here and its consumer, where reading begins, which frames are
 * handed on, telling the publisher what is durable and what is missing.  Does
 * not own: what messages look like (nats_rows.h), asking for them (nats_pull.h).
 *
 * What a frame is worth is decided by its positions alone, never by where it is
 * in the stream: frames come again, in other pieces, after every restart of the
 * publisher.  Three rules keep the chain whole:
 *
 * - What ends before our position is skipped.
 * - What begins behind it is not for us yet (a gap).  If the stream has nothing
 *   more that helps, the publisher is asked to go back.
 * - The parts of a large transaction are of one run, one behind the other, or
 *   none of them counts.
 *
 * A message is acknowledged when what it brought is durable here.  So a relay
 * that starts anew finds its place by what is not acknowledged, and by positions
 * when that does not help.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "link_nats.h"
#include "log.h"
#include "mem.h"
#include "nats_mailbox.h"
#include "nats_pull.h"
#include "tide_frame.h"
#include "tide_js.h"

#define MAX_ASKED 64		/* messages asked for at a time, most of them a frame each */
#define ACK_WAIT_MS 3600000 /* nothing is delivered again while we live: a new consumer does that */
#define ASK_MS 1500			/* how long the publisher's answer is waited for while opening */
#define TELL_MS 1000		/* between two reports of what is durable */
#define GAP_PATIENCE_MS 2000 /* what is missing may be on its way */
#define GAP_LIMIT_MS 10000	 /* ... also if much else is */
#define REWIND_FIRST_MS 4000 /* between two requests ... */
#define REWIND_MAX_MS 60000	 /* ... growing to this: it may be on a long way */
#define MAX_REWINDS 7		 /* that bring nothing; then rows are copied again */
#define STUCK_MS 60000		 /* between two parts of a transaction: rows are locked meanwhile */
#define STALE_SOURCE_MS 3000
#define STREAM_WAIT_MS 3000
#define STREAM_PAUSE_MS 200
#define SUSPECT_MS 10000
#define SILENCE_MS 15000 /* without any frame, although there is a heartbeat every second */
#define MAX_SILENCES 3	 /* answered ones; then the stream here is made anew */
#define SHORT_SEARCH 8	 /* messages that are read rather than searched */

/* What comes to the mailbox. */
typedef enum Tag
{
	MESSAGE,
	ANSWER
} Tag;

/* A message that came and is not acknowledged. */
typedef struct Entry
{
	char *reply;
	TideRowsLabel label;
} Entry;

/* A queue in one piece of memory; what is taken off at the front is moved away now and then. */
typedef struct Queue
{
	void *items;
	size_t size; /* of an item */
	size_t first;
	size_t n;
	size_t cap;
} Queue;

struct TideFrameSource
{
	TideLink *link;
	TideNats *nats;
	TideJs *js;
	TideRowsStream stream;
	TideMailbox *box;
	TidePull pull;
	TideConsumerWant consumer;
	TideConsumerPlace place;
	char consumer_name[80];
	char answer_subject[TIDE_ROWS_SUBJECT];

	Queue messages; /* natsMsg *: arrived, not looked at */
	Queue entries;	/* Entry */
	TideRowsParts parts;
	uint64_t last_sseq;

	/* The chain. */
	uint64_t position;	 /* everything before it was handed on */
	TideRowsLabel given; /* of the frame handed on last */
	uint64_t given_sseq;
	long long given_at;
	bool open; /* it was a part of a transaction whose end has not come */

	uint64_t durable;
	long long tell_at;

	/* What is missing. */
	bool gap;
	uint64_t pending; /* messages in the stream behind the last one that came */
	long long gap_since;
	long long rewind_at;
	long long rewind_ms;
	int rewinds;

	long long suspect_at;

	long long frame_at; /* when the last message with a frame came */
	long long silence_at;
	int silences;
};

static void nats_close(TideFrameSource *source);

/* ---- queues ---- */

static void *
queue_add(Queue *queue)
{
	if (queue->first > 0 && queue->first + queue->n == queue->cap)
	{
		memmove(queue->items, (char *) queue->items + queue->first * queue->size,
				queue->n * queue->size);
		queue->first = 0;
	}
	if (queue->n == queue->cap)
	{
		queue->cap = queue->cap * 2 + 64;
		queue->items = tide_realloc(queue->items, queue->cap * queue->size);
	}
	return (char *) queue->items + (queue->first + queue->n++) * queue->size;
}

static void *
queue_first(const Queue *queue)
{
	return queue->n > 0 ? (char *) queue->items + queue->first * queue->size : NULL;
}

static void
queue_drop(Queue *queue)
{
	queue->first++;
	if (--queue->n == 0)
		queue->first = 0;
}

/* ---- where reading begins ---- */

/*
 * The number of the message after which to read, by a search for the first one
 * that position needs.  Runs overlap, so there may be several such places; a
 * wrong one shows as a gap, and what helps comes later in the stream or on
 * request.
 */
static bool
search(TideFrameSource *source, uint64_t low, uint64_t high, uint64_t *after, TideError *err)
{
	TideRowsLabel label;

	/* What is up to low is not needed, what is from high on is, or does not exist. */
	while (high - low > SHORT_SEARCH)
	{
		uint64_t middle = low + (high - low) / 2;
		uint64_t seq = middle;

		if (!tide_rows_label_at(source->js, &source->stream, &seq, &label, err))
			return false;
		if (seq == 0 || seq >= high || tide_rows_needed(&label, source->position))
			high = middle;
		else
			low = seq;
	}
	*after = low;
	return true;
}

static bool
find_place(TideFrameSource *source, const TideStreamState *state, uint64_t *after, TideError *err)
{
	TideConsumerState consumer;
	TideRowsLabel label;
	uint64_t begin = state->first_seq > 0 ? state->first_seq - 1 : 0;
	uint64_t seq;

	*after = begin;
	if (!tide_consumer_load(source->js, &source->consumer, &consumer, err))
		return false;
	if (consumer.exists && consumer.ours && consumer.acked_sseq > begin &&
		consumer.acked_sseq <= state->last_seq)
		*after = consumer.acked_sseq;
	seq = *after + 1;
	if (seq > state->last_seq)
		return true;
	if (!tide_rows_label_at(source->js, &source->stream, &seq, &label, err))
		return false;
	/* It fits, or is all there is. */
	if (seq == 0 || (label.parts > 0 && label.start <= source->position &&
					 tide_rows_needed(&label, source->position)))
		return true;
	if (label.start > source->position)
		return search(source, begin, seq, after, err); /* this database went back in time */
	return search(source, *after, state->last_seq + 1, after, err);
}

/* What the publisher is told; it answers all but confirmations. */
static bool
tell(TideFrameSource *source, TideRowsTopic topic, uint64_t position, TideError *err)
{
	TideRowsNote note;

	tide_nats_link_note(source->link, position, &note);
	return tide_rows_tell(source->nats, topic, source->link->spec.region,
						  tide_link_destination(source->link),
						  topic == TIDE_ROWS_CONFIRM ? NULL : source->answer_subject, &note, err);
}

/* ---- opening ---- */

/* Is there a stream here that gets the origin's frames?  Makes one if that is how they come. */
static bool
look_for_stream(TideFrameSource *source, TideStreamState *state, bool *found, TideError *err)
{
	TideLink *link = source->link;
	const TideProvision *want = &source->stream.want;
	const char *own = tide_js_domain(source->js);
	TideRowsAnswer answer;
	bool heard = false;

	*found = false;
	if (!tide_provision_stream(source->js, want, state, err))
		return false;
	*found = state->exists &&
			 (tide_stream_captures(state, want->reads) || tide_stream_sources(state, want->reads));
	if (*found)
		return true;
	tide_stream_clear(state);
	if (!tide_nats_link_where(link, source->nats, &answer, &heard, err))
		return false;
	*found = heard && answer.domain[0] != '\0' && own != NULL && strcmp(answer.domain, own) != 0;
	return !*found ||
		   tide_provision_source(source->js, want, answer.domain, want->reads, state, err);
}

/* At first the origin's relay may still be about to make its stream. */
static bool
open_stream(TideFrameSource *source, TideStreamState *state, TideError *err)
{
	long long end = tide_monotonic_ms() + STREAM_WAIT_MS;
	bool found;

	do
	{
		if (!look_for_stream(source, state, &found, err))
			return false;
		if (found)
			return true;
		if (!tide_stop_sleep(source->link->pipeline->drain, STREAM_PAUSE_MS))
			return tide_error(err, TIDE_ERR_STOPPED, "", "asked to stop");
	}
	while (tide_monotonic_ms() < end);
	return tide_error(
		err, TIDE_ERR_UNAVAILABLE, TIDE_JS_STREAM_NOT_FOUND,
		"there is no stream \"%s\" at \"%s\" yet: the relay of region \"%s\" makes it",
		source->stream.name, tide_nats_url(source->nats), source->link->spec.region);
}

static bool
begin(TideFrameSource *source, TideError *err)
{
	TideStreamState state = {0};
	char subject[TIDE_ROWS_SUBJECT];
	uint64_t after = 0;
	bool ok;

	if (!open_stream(source, &state, err))
		return false;
	snprintf(source->consumer_name, sizeof(source->consumer_name), "tide_%s",
			 tide_nats_link_region(source->link));
	source->consumer = (TideConsumerWant){
		.stream = source->stream.name,
		.name = source->consumer_name,
		.filter = source->stream.filter,
		.ack_wait_ms = ACK_WAIT_MS,
		.max_ack_pending = -1,
		.first_seq = state.first_seq,
		.allowed = source->stream.want.allowed,
	};
	ok = find_place(source, &state, &after, err) &&
		 tide_consumer_place(source->js, &source->consumer, after, &source->place, err);
	tide_stream_clear(&state);
	if (!ok)
		return false;
	source->last_sseq = after;
	tide_pull_init(&source->pull, source->js, &source->consumer, MAX_ASKED);
	tide_pull_inbox(&source->pull, subject, sizeof(subject));
	snprintf(source->answer_subject, sizeof(source->answer_subject), "%s.answer",
			 tide_nats_inbox(source->nats));
	tide_pull_begin(&source->pull);
	return tide_mailbox_subscribe(source->box, subject, MESSAGE, err) &&
		   tide_mailbox_subscribe(source->box, source->answer_subject, ANSWER, err) &&
		   tide_pull_more(&source->pull, err);
}

static bool
nats_open(TideLink *link, uint64_t position, TideFrameSource **out, TideError *err)
{
	TideFrameSource *source = tide_zalloc(sizeof(*source));
	const json_t *options = link->spec.options;

	*out = NULL;
	source->link = link;
	source->position = position;
	source->messages.size = sizeof(natsMsg *);
	source->entries.size = sizeof(Entry);
	source->frame_at = tide_monotonic_ms();
	tide_buf_init(&source->parts.data);
	tide_rows_stream(options, link->spec.region, tide_link_destination(link), false,
					 &source->stream);
	if (!tide_nats_link_connect(link, &source->nats, err) ||
		!tide_js_open(source->nats, tide_nats_opt(options, "domain"), &source->js, err) ||
		!tide_mailbox_new(source->nats, &source->box, err) || !begin(source, err))
	{
		nats_close(source);
		return false;
	}
	*out = source;
	return true;
}

static void
nats_close(TideFrameSource *source)
{
	natsMsg **msg;
	Entry *entry;
	TideError ignored;

	for (; (msg = queue_first(&source->messages)) != NULL; queue_drop(&source->messages))
		natsMsg_Destroy(*msg);
	for (; (entry = queue_first(&source->entries)) != NULL; queue_drop(&source->entries))
		free(entry->reply);
	free(source->messages.items);
	free(source->entries.items);
	tide_buf_free(&source->parts.data);
	if (source->durable > 0)
		(void) tell(source, TIDE_ROWS_CONFIRM, source->durable, &ignored);
	if (source->nats != NULL)
		tide_nats_flush(source->nats);
	tide_js_close(source->js);
	tide_nats_close(source->nats);
	tide_mailbox_free(source->box);
	free(source);
}

static int
nats_poll(const TideFrameSource *source, struct pollfd *fds)
{
	fds[0] = (struct pollfd){.fd = tide_mailbox_fd(source->box), .events = POLLIN};
	return 1;
}

/* ---- telling the publisher ---- */

static bool
tell_durable(TideFrameSource *source, TideError *err)
{
	long long now = tide_monotonic_ms();

	if (source->durable == 0 || now < source->tell_at)
		return true;
	source->tell_at = now + TELL_MS;
	return tell(source, TIDE_ROWS_CONFIRM, source->durable, err);
}

/* Is there more on its way to the stream here? */
static bool
is_coming(TideFrameSource *source, bool *coming, TideError *err)
{
	TideStreamState state = {0};

	if (!tide_stream_load(source->js, source->stream.name, &state, err))
		return false;
	*coming = state.exists && tide_stream_sources(&state, source->stream.filter) &&
			  tide_stream_source_lag(&state, STALE_SOURCE_MS) > 0;
	tide_stream_clear(&state);
	return true;
}

/* Something is missing, and the stream has nothing more that would help. */
static bool
ask_for_missing(TideFrameSource *source, TideError *err)
{
	TideLink *link = source->link;
	long long now = tide_monotonic_ms();
	char lsn[TIDE_LSN_TEXT];
	bool coming = false;

	if (!source->gap || now < source->rewind_at || now - source->gap_since < GAP_PATIENCE_MS ||
		(source->pending > 0 && now - source->gap_since < GAP_LIMIT_MS))
		return true;
	if (now - source->gap_since < GAP_LIMIT_MS && !is_coming(source, &coming, err))
		return false;
	if (coming)
	{
		source->rewind_at = now + GAP_PATIENCE_MS;
		return true;
	}
	tide_lsn_format(source->position, lsn);
	if (source->rewinds == MAX_REWINDS)
	{
		tide_nats_link_memory(link)->hopeless = source->position;
		return tide_error(err, TIDE_ERR_UNAVAILABLE, "gap",
						  "what follows %s did not come from region \"%s\", although asked for",
						  lsn, link->spec.region);
	}
	if (source->rewinds == 0)
		tide_log(TIDE_LOG_WARN,
				 "rows of region \"%s\" behind %s were lost on their way; asking for"
				 " them again",
				 link->spec.region, lsn);
	source->rewinds++;
	tide_count(link->pipeline->spec.metrics, TIDE_REWINDS, 1);
	source->rewind_at = now + source->rewind_ms;
	source->rewind_ms = source->rewind_ms * 2 < REWIND_MAX_MS ? source->rewind_ms * 2
															  : REWIND_MAX_MS;
	return tell(source, TIDE_ROWS_REWIND, source->position, err);
}

/*
 * Nothing has come for long.  If the publisher can be heard and has published
 * more, what carries its stream to here is broken: first it is asked to publish
 * again, then the stream here is made anew.
 */
static bool
look_at_silence(TideFrameSource *source, TideError *err)
{
	long long now = tide_monotonic_ms();

	if (source->gap || now - source->frame_at < SILENCE_MS || now < source->silence_at)
		return true;
	source->silence_at = now + SILENCE_MS / 3;
	return tell(source, source->silences == 1 ? TIDE_ROWS_REWIND : TIDE_ROWS_WHERE,
				source->position, err);
}

static bool
renew_stream(TideFrameSource *source, TideError *err)
{
	TideStreamState state = {0};
	const char *name = source->stream.name;
	bool copy;

	if (!tide_stream_load(source->js, name, &state, err))
		return false;
	copy = state.exists && tide_stream_sources(&state, source->stream.filter) &&
		   !tide_stream_captures(&state, source->stream.filter);
	tide_stream_clear(&state);
	if (copy && !tide_provision_drop(source->js, &source->stream.want, err))
		return false;
	return tide_error(err, TIDE_ERR_UNAVAILABLE, "silence",
					  "stream \"%s\" at \"%s\" brings nothing of what region \"%s\" publishes%s",
					  name, tide_nats_url(source->nats), source->link->spec.region,
					  copy ? ": it is made anew" : "");
}

static bool
handle_answer(TideFrameSource *source, natsMsg *msg, TideError *err)
{
	TideLink *link = source->link;
	TideRowsAnswer answer;

	if (natsMsg_IsNoResponders(msg) || !tide_rows_read_answer(msg, &answer))
		return true;
	if (answer.from > source->position || !answer.known || answer.timeline != link->spec.timeline ||
		answer.system_id != link->spec.system_id)
		return tide_error(err, TIDE_ERR_UNAVAILABLE, "TD011",
						  "region \"%s\" can't publish what follows: looking at what to do",
						  link->spec.region);
	if (tide_monotonic_ms() - source->frame_at < SILENCE_MS || answer.end <= source->position)
	{
		source->silences = 0;
		return true;
	}
	return ++source->silences <= MAX_SILENCES || renew_stream(source, err);
}

/* ---- frames ---- */

static bool
acknowledge(TideFrameSource *source, const char *reply, TideError *err)
{
	natsStatus s = natsConnection_PublishString(tide_nats_connection(source->nats), reply, "+ACK");

	return s == NATS_OK || tide_nats_error(source->nats, s, "acknowledging", err);
}

/* What of a message is worth looking at?  Remembers it until what it brought is durable. */
static bool
take_in(TideFrameSource *source, natsMsg *msg, TideRowsLabel *label, bool *fresh, TideError *err)
{
	const char *reply = natsMsg_GetReply(msg);
	Entry *entry;
	TideJsAck ack;

	*fresh = false;
	if (reply == NULL || !tide_js_ack_parse(reply, &ack))
		return true;
	tide_pull_got(&source->pull, (size_t) natsMsg_GetDataLength(msg));
	if (source->place.exact && ack.consumer_seq != source->place.next_cseq)
		return tide_error(err, TIDE_ERR_UNAVAILABLE, "gap",
						  "messages of stream \"%s\" were lost on their way here",
						  source->stream.name);
	source->place.next_cseq = ack.consumer_seq + 1;
	source->pending = ack.pending;
	if (ack.stream_seq <= source->last_sseq)
		return true; /* delivered again: it is among the entries, or was acknowledged */
	source->last_sseq = ack.stream_seq;
	*fresh = tide_rows_label(msg, label);
	if (*fresh)
		source->frame_at = tide_monotonic_ms();
	entry = queue_add(&source->entries);
	*entry = (Entry){tide_strdup(reply), *label};
	return true;
}

/*
 * The transaction whose parts were handed on has no end in the stream.  It has
 * to be undone, so all is opened anew; and these parts are not taken again.
 */
static bool
leads_nowhere(TideFrameSource *source, const char *why, TideError *err)
{
	TideNatsMemory *memory = tide_nats_link_memory(source->link);

	memory->stuck_position = source->position;
	memory->stuck_seq = source->given_sseq;
	return tide_error(err, TIDE_ERR_UNAVAILABLE, "gap", "region \"%s\" %s",
					  source->link->spec.region, why);
}

static bool
is_stuck(const TideFrameSource *source)
{
	const TideNatsMemory *memory = tide_nats_link_memory(source->link);

	return memory->stuck_position == source->position && source->last_sseq <= memory->stuck_seq;
}

/* Rows that are locked for a transaction can't wait for its end for ever. */
static bool
look_at_transaction(TideFrameSource *source, TideError *err)
{
	if (!source->open || source->messages.n > 0 ||
		tide_monotonic_ms() - source->given_at < STUCK_MS)
		return true;
	return leads_nowhere(source, "does not send the end of a transaction", err);
}

/* Has the frame the place in the chain where we are? */
static bool
fits(TideFrameSource *source, const TideRowsLabel *label, bool *gap, TideError *err)
{
	bool continues = (label->flags & TIDE_FRAME_CONTINUES) != 0;
	bool next = label->number == source->given.number + 1 &&
				strcmp(label->run, source->given.run) == 0;

	*gap = false;
	if (source->open && !(continues && next))
		return leads_nowhere(source, "began publishing anew in the middle of a transaction", err);
	if ((label->flags & (TIDE_FRAME_OPEN | TIDE_FRAME_CONTINUES)) && is_stuck(source))
		return false;
	if (!tide_rows_needed(label, source->position))
		return false;
	*gap = label->start > source->position || (continues && !source->open);
	return !*gap;
}

static void
note_gap(TideFrameSource *source)
{
	if (source->gap)
		return;
	source->gap = true;
	source->gap_since = tide_monotonic_ms();
	source->rewind_at = 0;
	source->rewind_ms = REWIND_FIRST_MS;
	source->rewinds = 0;
}

/* The frame that was put together, as whoever applies it sees it. */
static bool
describe(TideFrameSource *source, const TideRowsLabel *label, TideFrame *frame)
{
	const TideBuf *data = &source->parts.data;
	TideFrameHeader header;
	const uint8_t *body;
	const char *wrong = tide_frame_open(data->data, data->len, &header, &body);
	const int kept = TIDE_FRAME_OPEN | TIDE_FRAME_CONTINUES;

	if (wrong == NULL && (header.start != label->start || header.end != label->end ||
						  (header.flags & kept) != (label->flags & kept)))
		wrong = "its header is about another frame";
	if (wrong != NULL)
	{
		tide_log(TIDE_LOG_WARN, "a frame of region \"%s\" is damaged: %s",
				 source->link->spec.region, wrong);
		return false;
	}
	source->link->origin.built_us = header.built_us;
	if (header.wal_end > source->link->origin.wal_end)
		source->link->origin.wal_end = header.wal_end;
	*frame = (TideFrame){
		.data = data->data,
		.len = data->len,
		.flags = header.flags,
		.start = header.start,
		.end = header.end,
		.raw_bytes = header.raw_len,
	};
	return true;
}

/*
 * A frame that is not needed, the newest there is, made when the origin's WAL
 * was not as far as we are: did the origin go back in time?  Or it is just an
 * old frame; the publisher knows.
 */
static bool
suspect(TideFrameSource *source, TideError *err)
{
	long long now = tide_monotonic_ms();
	TideFrameHeader header;
	const uint8_t *body;

	if (source->pending > 0 || now < source->suspect_at ||
		tide_frame_open(source->parts.data.data, source->parts.data.len, &header, &body) != NULL ||
		header.wal_end >= source->position)
		return true;
	source->suspect_at = now + SUSPECT_MS;
	return tell(source, TIDE_ROWS_WHERE, source->position, err);
}

/* A whole frame has come: is it the one to go on with? */
static bool
judge_frame(TideFrameSource *source, const TideRowsLabel *label, TideFrame *frame, bool *have,
			TideError *err)
{
	TideError local = {0};
	bool gap;

	if (!fits(source, label, &gap, &local))
	{
		if (gap)
			note_gap(source);
		if (local.class == TIDE_ERR_NONE)
			return gap || suspect(source, err);
		*err = local;
		return false;
	}
	if (!describe(source, label, frame))
	{
		note_gap(source);
		return true;
	}
	source->given = *label;
	source->given_sseq = source->last_sseq;
	source->given_at = tide_monotonic_ms();
	source->open = (label->flags & TIDE_FRAME_OPEN) != 0;
	if (!source->open)
		source->position = label->end;
	source->gap = false;
	source->silences = 0;
	*have = true;
	return true;
}

static bool
nats_next(TideFrameSource *source, TideFrame *frame, bool *have, TideError *err)
{
	natsMsg **first;

	*have = false;
	while (!*have && (first = queue_first(&source->messages)) != NULL)
	{
		natsMsg *msg = *first;
		TideRowsLabel label = {0};
		bool fresh;
		bool whole = false;
		bool ok;

		queue_drop(&source->messages);
		ok = take_in(source, msg, &label, &fresh, err) &&
			 (!fresh || tide_rows_add_part(&source->parts, &label, msg, &whole, err)) &&
			 (!whole || judge_frame(source, &label, frame, have, err));
		tide_nats_discard(source->nats, msg);
		if (!ok)
			return false;
	}
	return true;
}

/* ---- turns ---- */

static bool
sort_message(TideFrameSource *source, natsMsg *msg, int tag, TideError *err)
{
	bool ok = true;

	if (tag == ANSWER)
		ok = handle_answer(source, msg, err);
	else if (tide_pull_is_status(&source->pull, msg))
	{
		if (natsMsg_IsNoResponders(msg))
			ok = tide_error(err, TIDE_ERR_UNAVAILABLE, "503",
							"consumer \"%s\" of stream \"%s\" is gone", source->consumer.name,
							source->consumer.stream);
		else
			ok = tide_pull_status(&source->pull, msg, err);
	}
	else
	{
		natsMsg **place = queue_add(&source->messages);

		*place = msg;
		source->pull.heard_at = tide_monotonic_ms();
		return true;
	}
	tide_nats_discard(source->nats, msg);
	return ok;
}

static bool
nats_turn(TideFrameSource *source, TideError *err)
{
	natsMsg *msg;
	int tag;

	if (!tide_mailbox_alive(source->box, err))
		return false;
	while (tide_mailbox_take(source->box, &msg, &tag))
	{
		if (!sort_message(source, msg, tag, err))
			return false;
	}
	return tell_durable(source, err) && ask_for_missing(source, err) &&
		   look_at_silence(source, err) && look_at_transaction(source, err) &&
		   tide_pull_more(&source->pull, err) &&
		   (source->messages.n > 0 || tide_pull_check_silence(&source->pull, err));
}

static bool
nats_confirm(TideFrameSource *source, uint64_t position, TideError *err)
{
	Entry *entry;
	char *last = NULL;
	bool ok = true;

	if (position <= source->durable)
		return true;
	source->durable = position;
	while (ok && (entry = queue_first(&source->entries)) != NULL &&
		   !tide_rows_needed(&entry->label, position))
	{
		free(last);
		last = entry->reply;
		queue_drop(&source->entries);
		if (!source->place.ack_all)
			ok = acknowledge(source, last, err);
	}
	if (ok && last != NULL && source->place.ack_all)
		ok = acknowledge(source, last, err);
	free(last);
	return ok;
}

const TideTransport tide_transport_nats = {
	.name = "nats",
	.needs_origin = false,
	.reserve = tide_nats_link_reserve,
	.check = tide_nats_link_check,
	.release = tide_nats_link_release,
	.open = nats_open,
	.poll = nats_poll,
	.turn = nats_turn,
	.next = nats_next,
	.confirm = nats_confirm,
	.close = nats_close,
};
