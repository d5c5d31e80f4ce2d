/*
 * nats_pull.c
 *		Asking a JetStream consumer for messages ahead of time.
 *
 * Owns: see nats_pull.h.
 */
#include "nats_pull.h"

#include <stdio.h>
#include <string.h>

#include "nats_message.h"
#include "stop.h"
#include "tide_text.h"

#define PULL_EXPIRES_MS 30000
#define HEARTBEAT_MS 1500
#define SILENCE_MS 4000 /* no message and no heartbeat: look what is wrong */
#define MAX_QUEUE_BYTES ((size_t) 16 << 20)
#define NS_PER_MS INT64_C(1000000)

void
tide_pull_init(TidePull *pull, TideJs *js, const TideConsumerWant *consumer, size_t max_messages)
{
	*pull = (TidePull){.js = js, .consumer = consumer, .max_messages = max_messages};
	pull->mean_bytes = 1024;
	snprintf(pull->prefix, sizeof(pull->prefix), "%s.pull.", tide_nats_inbox(tide_js_nats(js)));
	snprintf(pull->subject, sizeof(pull->subject), "%s.CONSUMER.MSG.NEXT.%s.%s", tide_js_prefix(js),
			 consumer->stream, consumer->name);
}

void
tide_pull_inbox(const TidePull *pull, char *subject, size_t size)
{
	snprintf(subject, size, "%s*", pull->prefix);
}

void
tide_pull_begin(TidePull *pull)
{
	pull->credit = 0;
	pull->heard_at = tide_monotonic_ms();
}

/* How many messages to have asked for: not more than memory is meant for. */
static size_t
wanted_credit(const TidePull *pull)
{
	size_t by_bytes = MAX_QUEUE_BYTES / pull->mean_bytes;

	if (by_bytes < 1)
		by_bytes = 1;
	return pull->max_messages < by_bytes ? pull->max_messages : by_bytes;
}

/*
 * The server ends a request before it has sent that much for it, however small
 * recent messages were.  A message that the server takes at all must fit.
 */
static size_t
request_bytes(const TidePull *pull)
{
	natsConnection *conn = tide_nats_connection(tide_js_nats(pull->js));
	size_t largest = (size_t) natsConnection_GetMaxPayload(conn) + TIDE_NATS_MAX_HEADER_BYTES;

	return largest > MAX_QUEUE_BYTES ? largest : MAX_QUEUE_BYTES;
}

bool
tide_pull_more(TidePull *pull, TideError *err)
{
	TideNats *nats = tide_js_nats(pull->js);
	size_t wanted = wanted_credit(pull);
	char body[160];
	char reply[TIDE_PULL_SUBJECT + 24];
	natsStatus s;

	if (pull->credit > wanted / 2)
		return true;
	snprintf(reply, sizeof(reply), "%s%llu", pull->prefix,
			 (unsigned long long) tide_nats_serial(nats));
	snprintf(body, sizeof(body),
			 "{\"batch\":%zu,\"max_bytes\":%zu,\"expires\":%lld,\"idle_heartbeat\":%lld}",
			 wanted - pull->credit, request_bytes(pull), (long long) (PULL_EXPIRES_MS * NS_PER_MS),
			 (long long) (HEARTBEAT_MS * NS_PER_MS));
	s = natsConnection_PublishRequestString(tide_nats_connection(nats), pull->subject, reply, body);
	if (s != NATS_OK)
		return tide_nats_error(nats, s, "asking for messages", err);
	if (pull->credit == 0)
		tide_nats_flush(nats);
	pull->credit = wanted;
	return true;
}

static void
give_back_credit(TidePull *pull, natsMsg *msg)
{
	const char *text = NULL;
	uint64_t unused = 0;

	if (natsMsgHeader_Get(msg, "Nats-Pending-Messages", &text) != NATS_OK || text == NULL ||
		!tide_parse_u64(text, strlen(text), &unused))
		unused = pull->credit; /* the server does not say: ask anew for everything */
	pull->credit -= unused < pull->credit ? (size_t) unused : pull->credit;
}

bool
tide_pull_is_status(const TidePull *pull, natsMsg *msg)
{
	return strncmp(natsMsg_GetSubject(msg), pull->prefix, strlen(pull->prefix)) == 0;
}

bool
tide_pull_status(TidePull *pull, natsMsg *msg, TideError *err)
{
	const char *status = "";
	const char *text = "";

	(void) natsMsgHeader_Get(msg, "Status", &status);
	(void) natsMsgHeader_Get(msg, "Description", &text);
	pull->heard_at = tide_monotonic_ms();
	if (strcmp(status, "100") == 0)
		return true; /* heartbeat */
	if (strcmp(status, "408") == 0 || strcmp(status, "404") == 0 ||
		strcmp(text, "Leadership Change") == 0 ||
		strcmp(text, "Message Size Exceeds MaxBytes") == 0)
	{
		give_back_credit(pull, msg);
		return true;
	}
	return tide_error(
		err, strstr(text, "push based") != NULL ? TIDE_ERR_CONFIG : TIDE_ERR_UNAVAILABLE, status,
		"consumer \"%s\" of stream \"%s\": %s", pull->consumer->name, pull->consumer->stream, text);
}

void
tide_pull_got(TidePull *pull, size_t bytes)
{
	pull->heard_at = tide_monotonic_ms();
	if (pull->credit > 0)
		pull->credit--;
	pull->mean_bytes = (pull->mean_bytes * 15 + bytes + 512) / 16 + 1;
}

bool
tide_pull_check_silence(TidePull *pull, TideError *err)
{
	TideConsumerState state;

	if (pull->credit == 0 || tide_monotonic_ms() - pull->heard_at < SILENCE_MS)
		return true;
	if (!tide_consumer_load(pull->js, pull->consumer, &state, err))
		return false;
	if (!state.exists)
		return tide_error(err, TIDE_ERR_UNAVAILABLE, TIDE_JS_CONSUMER_NOT_FOUND,
						  "consumer \"%s\" of stream \"%s\" is gone", pull->consumer->name,
						  pull->consumer->stream);
	tide_pull_begin(pull); /* our request got lost, or is older than the server's restart */
	return tide_pull_more(pull, err);
}
