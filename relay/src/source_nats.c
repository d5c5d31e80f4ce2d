/*
 * source_nats.c
 *		The source "nats": reads a JetStream stream through a durable consumer.
 *
 * Owns: see source_nats.h.
 *
 * Messages are asked for ahead ("pull requests" with credit for many messages)
 * and arrive by themselves; finish() only takes what is there.  So there is no
 * round trip per batch, a lone message is seen at once, and under load batches
 * fill up without anybody waiting.
 *
 * The invariant that keeps order per key: messages are handed on in the order
 * of their consumer sequence, without a gap.  A gap means that something was
 * lost between the server and us; then the source fails, and the next one has
 * the consumer made again behind the last committed position.
 */
#include "source_nats.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "mem.h"
#include "nats_consumer.h"
#include "nats_fetch.h"
#include "nats_home.h"
#include "nats_message.h"
#include "nats_peer.h"
#include "nats_provision.h"
#include "nats_pull.h"

#define STEP_MS 50		 /* other subscriptions are looked at this often */
#define LOOK_MS 5000	 /* between two looks at the stream's settings */
#define WHO_FIRST_MS 500 /* at opening, answers are waited for this long */
#define WHO_MAX_MS 3000	 /* between two questions while nothing feeds the subject */
#define STALE_SOURCE_MS 3000
#define SETTLE_MS 5000 /* after a source was stale its numbers are not trusted */
#define MAX_BATCH_BYTES ((size_t) 8 << 20)
#define SUBJECT_SIZE 300

struct TideSource
{
	const TidePipelineInfo *info;
	TideNats *nats;
	TideJs *js;
	TidePg *pg; /* home database; NULL until needed */
	TideProvision want;
	TideConsumerWant consumer;
	char created[64];		 /* of the stream */
	bool waiting;			 /* there is no stream yet that gets any of our subject */
	TideConsumerPlace place; /* where the consumer stands; exact: gaps are errors */

	natsSubscription *messages;	 /* <inbox>.pull.* */
	natsSubscription *questions; /* _TIDE.have.<stream> */
	TidePull pull;
	size_t batch_size;
	uint64_t last_sseq; /* handed to the pipeline */
	uint64_t confirmed_sseq;

	TideWho *who;
	bool fed;	  /* the stream captures or sources all of our subject */
	bool touched; /* ... or at least some of it */
	int who_pause_ms;
	long long who_at;
	long long look_at;
	long long distrust_until; /* the sources' lag may be wrong until then */
};

static void nats_source_close(TideSource *src);

/*
 * The stream
 */

static void
note_stream(TideSource *src, const TideStreamState *state)
{
	const char *subject = src->want.reads;

	src->fed = state->exists &&
			   (tide_stream_captures(state, subject) || tide_stream_sources(state, subject));
	src->touched = state->exists && tide_stream_touches(state, subject);
}

/* What of the subject wanted does that region publish?  NULL: nothing we could name. */
static const char *
common_subject(const char *wanted, const char *published)
{
	if (tide_subject_covers(wanted, published))
		return published;
	return tide_subject_covers(published, wanted) ? wanted : NULL;
}

/* Takes in one answer: another domain publishes what we want, so the stream shall source it. */
static bool
follow_answer(TideSource *src, const TideWhoAnswer *answer, TideError *err)
{
	const char *own = tide_js_domain(src->js);
	const char *filter = common_subject(src->want.reads, answer->subject);
	TideStreamState state = {0};

	if (filter == NULL || answer->domain[0] == '\0' || own == NULL ||
		strcmp(answer->domain, own) == 0 || strcmp(answer->region, src->info->region) == 0)
		return true; /* the same JetStream: its outbound pipeline sees to the stream */
	if (!tide_provision_source(src->js, &src->want, answer->domain, filter, &state, err))
		return false;
	tide_log(TIDE_LOG_INFO,
			 "stream \"%s\" sources \"%s\" from domain \"%s\", where region \"%s\""
			 " publishes it",
			 src->want.stream, filter, answer->domain, answer->region);
	note_stream(src, &state);
	snprintf(src->created, sizeof(src->created), "%s", state.created);
	tide_stream_clear(&state);
	return true;
}

static bool
poll_answers(TideSource *src, int wait_ms, TideError *err)
{
	long long deadline = tide_monotonic_ms() + wait_ms;
	bool got = true;

	while (got || tide_monotonic_ms() < deadline)
	{
		TideWhoAnswer answer;
		long long left = deadline - tide_monotonic_ms();

		if (!tide_who_next(src->who, left > 0 ? (int) left : 0, &answer, &got, err))
			return false;
		if (!got)
			break;
		if (!follow_answer(src, &answer, err))
			return false;
		if (src->fed)
			deadline = 0; /* take what else is there, wait for nothing more */
	}
	return true;
}

/* Looks at the stream; *exists tells whether there is one. */
static bool
look_at_stream(TideSource *src, bool *exists, TideError *err)
{
	TideStreamState state = {0};

	if (!tide_stream_load(src->js, src->want.stream, &state, err))
		return false;
	*exists = state.exists;
	if (state.exists && src->created[0] != '\0' && strcmp(state.created, src->created) != 0)
	{
		tide_stream_clear(&state);
		return tide_error(err, TIDE_ERR_UNAVAILABLE, "", "stream \"%s\" was deleted and made again",
						  src->want.stream);
	}
	note_stream(src, &state);
	if (state.exists)
	{
		if (tide_stream_source_lag(&state, STALE_SOURCE_MS) > 0)
			src->distrust_until = tide_monotonic_ms() + SETTLE_MS;
	}
	tide_stream_clear(&state);
	src->look_at = tide_monotonic_ms() + LOOK_MS;
	return true;
}

/* Asks the other regions who publishes our subject, at growing intervals. */
static bool
ask_who(TideSource *src, TideError *err)
{
	src->who_pause_ms = src->who_pause_ms * 2 < WHO_MAX_MS ? src->who_pause_ms * 2 : WHO_MAX_MS;
	src->who_at = tide_monotonic_ms() + src->who_pause_ms;
	return tide_who_ask(src->who, err);
}

/*
 * The consumer
 */

/* The stream sequence after which to go on: 0 if the stored position is not this stream's. */
static uint64_t
parse_position(const TideSource *src, const char *text, const TideStreamState *state)
{
	const char *domain = tide_js_domain(src->js);
	const char *bar1 = text != NULL ? strchr(text, '|') : NULL;
	const char *bar2 = bar1 != NULL ? strchr(bar1 + 1, '|') : NULL;
	uint64_t seq;

	if (bar2 == NULL || !tide_parse_u64(bar2 + 1, strlen(bar2 + 1), &seq))
		return 0;
	if (domain == NULL)
		domain = "_";
	if ((size_t) (bar1 - text) == strlen(state->created) &&
		memcmp(text, state->created, strlen(state->created)) == 0 &&
		(size_t) (bar2 - bar1 - 1) == strlen(domain) &&
		memcmp(bar1 + 1, domain, strlen(domain)) == 0 && seq <= state->last_seq)
		return seq;
	tide_log(
		TIDE_LOG_WARN,
		"stream \"%s\" is not the one that was read before (position %s, stream"
		" created %s, last sequence %llu): reading from its beginning, the inbox drops what it has",
		src->want.stream, text, state->created, (unsigned long long) state->last_seq);
	return 0;
}

static bool
load_position(TideSource *src, const TideStreamState *state, uint64_t *after, TideError *err)
{
	const TidePipelineInfo *info = src->info;
	TideArena *arena;
	const char *text = NULL;
	bool ok;

	if (src->pg == NULL && !tide_home->open(info->conninfo, info->name, info->stop, &src->pg, err))
		return false;
	arena = tide_arena_new();
	ok = tide_home->position(src->pg, info->name, arena, &text, err);
	*after = ok ? parse_position(src, text, state) : 0;
	tide_arena_free(arena);
	return ok;
}

/* Provisions the stream and stands the consumer where reading goes on. */
static bool
begin(TideSource *src, TideError *err)
{
	TideStreamState state = {0};
	uint64_t after = 0;
	bool ok;

	if (!tide_provision_stream(src->js, &src->want, &state, err))
		return false;
	note_stream(src, &state);
	if (!src->fed)
	{
		tide_stream_clear(&state);
		if (!ask_who(src, err) || !poll_answers(src, src->who_pause_ms, err) ||
			!tide_stream_load(src->js, src->want.stream, &state, err))
			return false;
		note_stream(src, &state);
	}
	src->waiting = !src->touched;
	if (src->waiting)
	{
		tide_stream_clear(&state);
		return true;
	}
	snprintf(src->created, sizeof(src->created), "%s", state.created);
	src->consumer.first_seq = state.first_seq;
	ok = load_position(src, &state, &after, err) &&
		 tide_consumer_place(src->js, &src->consumer, after, &src->place, err);
	tide_stream_clear(&state);
	src->last_sseq = src->confirmed_sseq = after;
	tide_pull_begin(&src->pull);
	src->look_at = tide_monotonic_ms() + LOOK_MS;
	return ok;
}

static bool
read_config(TideSource *src, TideError *err)
{
	const json_t *config = src->info->config;
	const char *name = tide_nats_opt(config, "durable_name");

	if (name == NULL)
		name = tide_nats_opt(config, "consumer_group");
	if (name == NULL)
		return tide_error(err, TIDE_ERR_CONFIG, "", "the configuration has no \"durable_name\"");
	if (!tide_provision_read(config, NULL, NULL, &src->want, err))
		return false;
	src->batch_size = (size_t) tide_nats_opt_int(config, TIDE_SIDE_SOURCE, "batch_size");
	src->consumer = (TideConsumerWant){
		.stream = src->want.stream,
		.name = name,
		.filter = src->want.reads,
		.ack_wait_ms = tide_nats_opt_ms(config, TIDE_SIDE_SOURCE, "ack_wait"),
		.max_ack_pending = tide_nats_opt_int(config, TIDE_SIDE_SOURCE, "max_ack_pending"),
		.allowed = src->want.allowed,
	};
	return true;
}

static bool
subscribe_all(TideSource *src, TideError *err)
{
	char subject[SUBJECT_SIZE + 2];

	tide_pull_init(&src->pull, src->js, &src->consumer, src->batch_size * 2);
	tide_pull_inbox(&src->pull, subject, sizeof(subject));
	if (!tide_nats_subscribe(src->nats, subject, &src->messages, err))
		return false;
	tide_have_subject(subject, sizeof(subject), src->want.stream);
	return tide_nats_subscribe(src->nats, subject, &src->questions, err);
}

static bool
nats_source_open(const TidePipelineInfo *info, TideSource **out, TideError *err)
{
	TideSource *src = tide_zalloc(sizeof(*src));
	bool ok;

	*out = NULL;
	src->info = info;
	src->who_pause_ms = WHO_FIRST_MS / 2;
	ok = read_config(src, err) &&
		 tide_nats_open(info->config, info->name, info->stop, &src->nats, err) &&
		 tide_js_open(src->nats, tide_nats_opt(info->config, "domain"), &src->js, err) &&
		 tide_who_new(src->nats, src->want.stream, src->want.reads, info->region,
					  tide_js_domain(src->js), &src->who, err) &&
		 subscribe_all(src, err) && begin(src, err);
	if (!ok)
	{
		nats_source_close(src);
		return false;
	}
	if (src->waiting)
		tide_log(TIDE_LOG_INFO,
				 "stream \"%s\" does not get \"%s\" yet and no region said that it publishes that:"
				 " waiting",
				 src->want.stream, src->want.reads);
	*out = src;
	return true;
}

static void
nats_source_close(TideSource *src)
{
	if (src == NULL)
		return;
	tide_who_free(src->who);
	tide_js_close(src->js);
	tide_nats_close(src->nats);
	if (src->pg != NULL)
		tide_home->close(src->pg);
	free(src);
}

/*
 * Messages
 */

static bool
pull(TideSource *src, TideError *err)
{
	return src->waiting || tide_pull_more(&src->pull, err);
}

static bool
pass_error(TideError *err, const TideError *local)
{
	if (err != NULL)
		*err = *local;
	return false;
}

static bool
acknowledge(TideSource *src, const char *reply, TideError *err)
{
	natsStatus s = natsConnection_PublishString(tide_nats_connection(src->nats), reply, "+ACK");

	return s == NATS_OK || tide_nats_error(src->nats, s, "acknowledging", err);
}

static void
add_event(TideSource *src, TideBatch *batch, natsMsg *msg, const TideJsAck *ack)
{
	TideEvent *event = tide_batch_add(batch);
	TideMessageSource from = {src->want.stream, tide_js_domain(src->js), src->created};

	tide_message_decode(msg, ack, &from, batch->arena, event);
	if (natsMsg_GetReply(msg) != NULL)
		event->source_ref = tide_arena_strdup(batch->arena, natsMsg_GetReply(msg));
	batch->bytes += (size_t) natsMsg_GetDataLength(msg);
}

static bool
handle_message(TideSource *src, TideBatch *batch, natsMsg *msg, TideError *err)
{
	const char *reply = natsMsg_GetReply(msg);
	TideJsAck ack;

	if (tide_pull_is_status(&src->pull, msg))
		return tide_pull_status(&src->pull, msg, err);
	if (reply == NULL || !tide_js_ack_parse(reply, &ack))
		return true;
	tide_pull_got(&src->pull, (size_t) natsMsg_GetDataLength(msg));
	if (src->place.exact && ack.consumer_seq != src->place.next_cseq)
		return tide_error(
			err, TIDE_ERR_UNAVAILABLE, "gap",
			"messages of stream \"%s\" were lost on"
			" their way here (consumer sequence %llu came, %llu was due): reading again"
			" from %llu",
			src->want.stream, (unsigned long long) ack.consumer_seq,
			(unsigned long long) src->place.next_cseq,
			(unsigned long long) src->confirmed_sseq + 1);
	src->place.next_cseq = ack.consumer_seq + 1;
	if (src->place.exact && ack.stream_seq <= src->last_sseq)
	{
		/* Delivered again: ours is to come, or was, and did not reach the server. */
		return ack.stream_seq > src->confirmed_sseq || acknowledge(src, reply, err);
	}
	if (ack.stream_seq > src->last_sseq)
		src->last_sseq = ack.stream_seq;
	add_event(src, batch, msg, &ack);
	return true;
}

/*
 * libnats reported "no responders": the consumer is gone, or somebody sent a
 * message that looks like that (nats_fetch.h).  Such a message was the next one
 * to come, so it is the stream's next one for us, and is read from there.
 */
static bool
handle_no_responders(TideSource *src, TideBatch *batch, TideError *err)
{
	TideConsumerState state;
	TideJsAck ack = {.timestamp_ns = tide_wall_us() * 1000};
	natsMsg *msg = NULL;
	bool ours;

	if (!tide_consumer_load(src->js, &src->consumer, &state, err) ||
		(state.exists && !tide_fetch_next(src->js, src->want.stream, src->want.reads,
										  src->last_sseq + 1, &msg, &ack.stream_seq, err)))
		return false;
	ours = msg != NULL && natsMsg_IsNoResponders(msg);
	if (ours)
	{
		add_event(src, batch, msg, &ack);
		src->last_sseq = ack.stream_seq;
		src->place.next_cseq++;
		tide_pull_got(&src->pull, (size_t) natsMsg_GetDataLength(msg));
	}
	natsMsg_Destroy(msg);
	return ours ||
		   tide_error(err, TIDE_ERR_UNAVAILABLE, "503", "consumer \"%s\" of stream \"%s\" is gone",
					  src->consumer.name, src->consumer.stream);
}

/* Waits up to timeout_ms for one message, then takes what else is there. */
static bool
take_messages(TideSource *src, TideBatch *batch, int timeout_ms, TideError *err)
{
	uint64_t queued = 1;

	while (queued > 0 && batch->n_events < src->batch_size && batch->bytes < MAX_BATCH_BYTES)
	{
		natsMsg *msg = NULL;
		TideError local;
		bool ok;

		if (!tide_nats_next(src->nats, src->messages, timeout_ms, &msg, &local))
		{
			if (strcmp(local.code, "503") == 0)
				ok = handle_no_responders(src, batch, err);
			else
				return pass_error(err, &local);
		}
		else if (msg == NULL)
			break;
		else
			ok = handle_message(src, batch, msg, err);
		tide_nats_discard(src->nats, msg);
		if (!ok || !pull(src, err))
			return false;
		if (natsSubscription_QueuedMsgs(src->messages, &queued) != NATS_OK)
			queued = 0;
		if (batch->n_events == 0 && queued == 0)
			break; /* only a heartbeat came */
		batch->more = queued > 0;
	}
	return true;
}

/*
 * Other regions' questions
 */

/* Messages that the inbox has not got yet but will get without anybody's help. */
static bool
count_pending(TideSource *src, uint64_t *pending, TideError *err)
{
	TideConsumerState consumer;
	TideStreamState stream = {0};
	uint64_t lag;

	if (!tide_consumer_load(src->js, &src->consumer, &consumer, err) ||
		!tide_stream_load(src->js, src->want.stream, &stream, err))
		return false;
	lag = tide_stream_source_lag(&stream, STALE_SOURCE_MS);
	tide_stream_clear(&stream);
	if (lag > 0)
		src->distrust_until = tide_monotonic_ms() + SETTLE_MS;
	else if (tide_monotonic_ms() < src->distrust_until)
		lag = 1;
	*pending = consumer.pending + consumer.ack_pending + lag;
	return true;
}

static bool
answer_question(TideSource *src, natsMsg *msg, TideArena *arena, TideError *err)
{
	const TidePipelineInfo *info = src->info;
	TideHaveQuestion question;
	TideAnswer answer = {.region = {info->region, strlen(info->region)}};
	TideSlice *missing = NULL;
	uint64_t before;
	uint64_t after = 0;

	if (natsMsg_GetReply(msg) == NULL || !tide_have_parse_question(msg, arena, &question))
		return true;
	if (strcmp(question.region.ptr, info->region) == 0 ||
		!tide_subject_covers(src->want.reads, question.subject.ptr))
		return true; /* not meant for us */
	if (!count_pending(src, &before, err))
		return false;
	if (src->pg == NULL && !tide_home->open(info->conninfo, info->name, info->stop, &src->pg, err))
		return false;
	if (!tide_home->missing(src->pg, info->target, question.ids, question.n_ids, arena, &missing,
							&answer.n_missing, err))
		return false;
	/* What was on its way before or after that may be what is missing. */
	if (answer.n_missing > 0 && !count_pending(src, &after, err))
		return false;
	answer.position = question.position;
	answer.missing = missing;
	answer.pending = before > after ? before : after;
	return tide_have_reply(src->nats, natsMsg_GetReply(msg), &answer, err);
}

/* Answers one question at most: messages go first. */
static bool
serve_questions(TideSource *src, TideError *err)
{
	uint64_t queued = 0;
	natsMsg *msg = NULL;
	TideArena *arena;
	TideError local = {0};
	bool ok;

	if (src->waiting || natsSubscription_QueuedMsgs(src->questions, &queued) != NATS_OK ||
		queued == 0)
		return true;
	if (!tide_nats_next(src->nats, src->questions, 0, &msg, err))
		return false;
	if (msg == NULL)
		return true;
	arena = tide_arena_new();
	ok = answer_question(src, msg, arena, &local);
	tide_arena_free(arena);
	natsMsg_Destroy(msg);
	if (ok || local.class == TIDE_ERR_STOPPED)
		return ok || tide_error(err, local.class, local.code, "%s", local.message);

	/* Not answering harms nobody: the question comes again.  The connection may be of no use. */
	tide_log_error(TIDE_LOG_WARN, &local, "could not tell another region what inbox \"%s\" has",
				   src->info->target);
	if (src->pg != NULL)
		tide_home->close(src->pg);
	src->pg = NULL;
	return true;
}

/* The things that have their own pace: who publishes our subject, is the stream as it was. */
static bool
do_chores(TideSource *src, TideError *err)
{
	long long now = tide_monotonic_ms();
	bool exists = true;
	bool was_fed = src->fed;

	if (now >= src->look_at && !src->waiting)
	{
		if (!look_at_stream(src, &exists, err))
			return false;
		if (!exists)
			return tide_error(err, TIDE_ERR_UNAVAILABLE, TIDE_JS_STREAM_NOT_FOUND,
							  "stream \"%s\" was deleted", src->want.stream);
	}
	if (src->fed)
		return true;
	if (was_fed)
		return tide_error(err, TIDE_ERR_UNAVAILABLE, "",
						  "stream \"%s\" does not take \"%s\" any more", src->want.stream,
						  src->want.reads);
	if (now >= src->who_at)
	{
		if (!look_at_stream(src, &exists, err) || (!src->fed && !ask_who(src, err)))
			return false;
	}
	if (!src->fed && !poll_answers(src, 0, err))
		return false;
	return !src->waiting || !src->touched || begin(src, err);
}

/*
 * The table's functions
 */

static bool
nats_source_start(TideSource *src, TideError *err)
{
	return pull(src, err);
}

static void
set_position(TideSource *src, TideBatch *batch)
{
	const char *domain = tide_js_domain(src->js);
	char *text;

	if (batch->n_events == 0)
		return;
	text = tide_arena_printf(batch->arena, "%s|%s|%llu", src->created,
							 domain != NULL ? domain : "_", (unsigned long long) src->last_sseq);
	batch->position = (TideSlice){text, strlen(text)};
}

static bool
nats_source_finish(TideSource *src, TideBatch *batch, int timeout_ms, TideError *err)
{
	long long deadline = tide_monotonic_ms() + timeout_ms;

	for (;;)
	{
		long long left = deadline - tide_monotonic_ms();

		if (!serve_questions(src, err) || !do_chores(src, err) || !pull(src, err))
			return false;
		if (!take_messages(src, batch, left > STEP_MS ? STEP_MS : left > 0 ? (int) left : 0, err))
			return false;
		if (batch->n_events > 0)
		{
			tide_count(src->info->metrics, TIDE_EVENTS_READ, batch->n_events);
			set_position(src, batch);
			return true;
		}
		if (!src->waiting && !tide_pull_check_silence(&src->pull, err))
			return false;
		if (tide_monotonic_ms() >= deadline)
			return true;
	}
}

static bool
nats_source_confirm(TideSource *src, const TideBatch *batch, TideError *err)
{
	for (size_t i = batch->n_events; i > 0; i--)
	{
		const TideEvent *event = &batch->events[i - 1];

		if (event->position > src->confirmed_sseq)
			src->confirmed_sseq = event->position;
		if (event->source_ref == NULL)
			continue;
		if (!acknowledge(src, event->source_ref, err))
			return false;
		if (src->place.ack_all)
			break;
	}
	return true;
}

const TideSourceOps tide_source_nats = {
	.type = "nats",
	.open = nats_source_open,
	.start = nats_source_start,
	.finish = nats_source_finish,
	.confirm = nats_source_confirm,
	.close = nats_source_close,
};
