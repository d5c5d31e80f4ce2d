/*
 * nats_consumer.c
 *		The durable consumer of an inbound pipeline.
 *
 * Owns: see nats_consumer.h.
 *
 * Where reading goes on is decided by the position that the inbox committed,
 * not by the server's memory of acknowledgements: those are sent after the
 * commit and may be lost.  A consumer that stands elsewhere is deleted and made
 * again at the right place, so no message comes late, out of its key's order,
 * because the server waited for an acknowledgement that never arrived.
 */
#include "nats_consumer.h"

#include <stdio.h>
#include <string.h>

#include "log.h"
#include "nats_provision.h"

#define NS_PER_MS INT64_C(1000000)
#define ACK_ALL_MAX 10000000 /* sequence numbers an old server walks through in 0.4 s */

static const char *
text_of(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text != NULL ? text : "";
}

bool
tide_consumer_load(TideJs *js, const TideConsumerWant *want, TideConsumerState *state,
				   TideError *err)
{
	json_t *info;
	json_t *config;
	TideError local;

	*state = (TideConsumerState){0};
	if (!tide_js_requestf(js, NULL, &info, &local, "CONSUMER.INFO.%s.%s", want->stream, want->name))
	{
		if (strcmp(local.code, TIDE_JS_CONSUMER_NOT_FOUND) == 0)
			return true;
		if (err != NULL)
			*err = local;
		return false;
	}
	config = json_object_get(info, "config");
	state->exists = true;
	state->ours = strncmp(text_of(config, "description"), TIDE_NATS_MADE_BY,
						  strlen(TIDE_NATS_MADE_BY)) == 0;
	snprintf(state->filter, sizeof(state->filter), "%s", text_of(config, "filter_subject"));
	state->ack_all = strcmp(text_of(config, "ack_policy"), "all") == 0;
	state->usable = text_of(config, "deliver_subject")[0] == '\0' &&
					(state->ack_all || strcmp(text_of(config, "ack_policy"), "explicit") == 0) &&
					strcmp(state->filter, want->filter) == 0;
	state->delivered_cseq = tide_js_u64(json_object_get(info, "delivered"), "consumer_seq");
	state->delivered_sseq = tide_js_u64(json_object_get(info, "delivered"), "stream_seq");
	state->acked_sseq = tide_js_u64(json_object_get(info, "ack_floor"), "stream_seq");
	state->pending = tide_js_u64(info, "num_pending");
	state->ack_pending = tide_js_u64(info, "num_ack_pending");
	json_decref(info);
	return true;
}

static bool
create(TideJs *js, const TideConsumerWant *want, uint64_t after_sseq, bool ack_all, TideError *err)
{
	json_t *request = json_pack(
		"{s:s, s:{s:s, s:s, s:s, s:I, s:i, s:I, s:s, s:s, s:I, s:s}}", "stream_name", want->stream,
		"config", "durable_name", want->name, "description", TIDE_NATS_MADE_BY, "ack_policy",
		ack_all ? "all" : "explicit", "ack_wait", (json_int_t) want->ack_wait_ms * NS_PER_MS,
		"max_deliver", -1, "max_ack_pending", (json_int_t) want->max_ack_pending, "filter_subject",
		want->filter, "deliver_policy", "by_start_sequence", "opt_start_seq",
		(json_int_t) after_sseq + 1, "replay_policy", "instant");
	bool ok = tide_js_requestf(js, request, NULL, err, "CONSUMER.DURABLE.CREATE.%s.%s",
							   want->stream, want->name);

	json_decref(request);
	return ok;
}

/*
 * Acknowledgements stand for all before them: messages are committed in order,
 * batch by batch.  But at the first one a new consumer gets, servers before
 * 2.10.15 walk through all sequence numbers from 0 on, with the stream locked.
 * Where that would be felt, each message is acknowledged.
 */
static bool
create_as_wanted(TideJs *js, const TideConsumerWant *want, uint64_t after_sseq,
				 TideConsumerPlace *place, TideError *err)
{
	bool ack_all = after_sseq < ACK_ALL_MAX && want->first_seq < ACK_ALL_MAX;

	*place = (TideConsumerPlace){.exact = true, .ack_all = ack_all, .next_cseq = 1};
	return create(js, want, after_sseq, ack_all, err);
}

/* A consumer that is not ours to change. */
static bool
use_as_is(const TideConsumerWant *want, const TideConsumerState *state, TideConsumerPlace *place,
		  TideError *err)
{
	if (!state->usable)
	{
		tide_error(err, TIDE_ERR_CONFIG, "",
				   "consumer \"%s\" of stream \"%s\" can't be used and was not"
				   " made by pg_tide (filter_subject \"%s\", wanted \"%s\")",
				   want->name, want->stream, state->filter, want->filter);
		tide_error_hint(
			err, "It must be a pull consumer with ack_policy explicit or all, and that filter; or"
				 " name another one in \"durable_name\".");
		return false;
	}
	tide_log(TIDE_LOG_WARN,
			 "consumer \"%s\" of stream \"%s\" is used as it is: after a fault,"
			 " messages may come out of order",
			 want->name, want->stream);
	*place = (TideConsumerPlace){false, state->ack_all, state->delivered_cseq + 1};
	return true;
}

bool
tide_consumer_place(TideJs *js, const TideConsumerWant *want, uint64_t after_sseq,
					TideConsumerPlace *place, TideError *err)
{
	TideConsumerState state;

	if (!tide_consumer_load(js, want, &state, err))
		return false;
	if (state.exists && state.ours && state.usable && state.ack_pending == 0 &&
		state.delivered_sseq == after_sseq)
	{
		*place = (TideConsumerPlace){true, state.ack_all, state.delivered_cseq + 1};
		return true;
	}
	if (state.exists && (!state.ours || !want->allowed))
		return use_as_is(want, &state, place, err);
	if (!want->allowed)
	{
		tide_error(err, TIDE_ERR_CONFIG, TIDE_JS_CONSUMER_NOT_FOUND,
				   "stream \"%s\" has no consumer"
				   " \"%s\" and \"provision\" is false",
				   want->stream, want->name);
		tide_error_hint(err,
						"Create a durable pull consumer with that name, ack_policy explicit and"
						" filter_subject \"%s\", or set \"provision\" to true.",
						want->filter);
		return false;
	}
	if (state.exists &&
		!tide_js_requestf(js, NULL, NULL, err, "CONSUMER.DELETE.%s.%s", want->stream, want->name))
		return false;
	return create_as_wanted(js, want, after_sseq, place, err);
}
