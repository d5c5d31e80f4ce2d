/*
 * nats_api.c
 *		JetStream's API as raw JSON requests.
 *
 * Owns: see nats_api.h.
 */
#include "nats_api.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mem.h"

#define API_TIMEOUT_MS 5000
#define STEP_MS 100 /* how soon a refusal is noticed */
#define SUBJECT_SIZE 600

struct TideJs
{
	TideNats *nats;
	natsSubscription *replies; /* <inbox>.api.* */
	char prefix[300];
	char *domain;
};

/* What a refusal means for a retry; unknown codes go by their HTTP-like class. */
static const struct
{
	int err_code;
	TideErrorClass class;
	const char *hint;
} js_errors[] = {
	{10002, TIDE_ERR_THROTTLED,
	 "The account's JetStream limits are reached: raise them or make room."},
	{10008, TIDE_ERR_UNAVAILABLE, "The JetStream cluster has no leader right now."},
	{10009, TIDE_ERR_UNAVAILABLE, ""},
	{10014, TIDE_ERR_UNAVAILABLE, ""},
	{10023, TIDE_ERR_THROTTLED,
	 "JetStream's storage limits are reached: raise max_file_store or make room."},
	{10026, TIDE_ERR_THROTTLED, "Raise the stream's or account's max_consumers."},
	{10027, TIDE_ERR_THROTTLED, "Raise the account's number of streams."},
	{10028, TIDE_ERR_THROTTLED, "Raise JetStream's max_memory_store."},
	{10039, TIDE_ERR_CONFIG, "Enable JetStream for this account in the server's configuration."},
	{10047, TIDE_ERR_THROTTLED, "Raise JetStream's max_file_store or make room."},
	{10059, TIDE_ERR_UNAVAILABLE, ""},
	{10060, TIDE_ERR_CONFIG,
	 "Another stream captures this subject: correct \"stream\" or \"subject_template\"."},
	{10065, TIDE_ERR_CONFIG,
	 "Another stream captures these subjects already: name it in \"stream\" or change the subjects."},
	{10074, TIDE_ERR_CONFIG, "num_replicas needs a JetStream cluster of at least that size."},
	{10076, TIDE_ERR_CONFIG, "Add a jetstream block to the server's configuration."},
	{10093, TIDE_ERR_UNAVAILABLE,
	 "The stream does not take this subject yet: it comes with the pipeline that publishes it, or with peer_domain."},
	{10077, TIDE_ERR_THROTTLED,
	 "The stream is at its limit: raise max_bytes or max_msgs, or make room."},
	{10109, TIDE_ERR_CONFIG, "The stream is sealed and takes nothing any more."},
	{10113, TIDE_ERR_CONFIG, "The account wants max_bytes on every stream: set \"max_bytes\"."},
	{10118, TIDE_ERR_UNAVAILABLE, ""},
	{10119, TIDE_ERR_UNAVAILABLE, ""},
	{10122, TIDE_ERR_CONFIG, "Lower \"max_bytes\" below the account's limit per stream."},
};

uint64_t
tide_js_u64(const json_t *object, const char *key)
{
	return (uint64_t) json_integer_value(json_object_get(object, key));
}

bool
tide_js_error(const json_t *error, const char *doing, TideError *err)
{
	int status = (int) tide_js_u64(error, "code");
	int err_code = (int) tide_js_u64(error, "err_code");
	const char *text = json_string_value(json_object_get(error, "description"));
	const char *hint = "";
	TideErrorClass class = status == 503 || status >= 500 ? TIDE_ERR_UNAVAILABLE
						   : status == 403				  ? TIDE_ERR_PERMISSION
														  : TIDE_ERR_CONFIG;
	char code[24];

	for (size_t i = 0; i < sizeof(js_errors) / sizeof(js_errors[0]); i++)
	{
		if (js_errors[i].err_code == err_code)
		{
			class = js_errors[i].class;
			hint = js_errors[i].hint;
		}
	}
	snprintf(code, sizeof(code), "%d", err_code);
	tide_error(err, class, code, "JetStream refused %s: %s", doing,
			   text != NULL ? text : "no reason given");
	if (hint[0] != '\0')
		tide_error_hint(err, "%s", hint);
	return false;
}

/* We may not ask that: the server says so apart from the request, at about the same time. */
static bool
refused(TideJs *js, const char *subject, TideError *err)
{
	char words[200];

	if (!tide_nats_refused(js->nats, words, sizeof(words)))
		return false;
	tide_error(err, TIDE_ERR_PERMISSION, "", "NATS at \"%s\" refused %s: %s",
			   tide_nats_url(js->nats), subject, words);
	tide_error_hint(err,
					"Allow this user the stream's subjects, %s.>, $JS.ACK.>, _INBOX.> and"
					" _TIDE.>.",
					js->prefix);
	return true;
}

/* Nobody answered: JetStream is off, or the domain is not there. */
static bool
no_answer(TideJs *js, const char *subject, bool timed_out, TideError *err)
{
	if (timed_out)
		return tide_error(err, TIDE_ERR_TIMEOUT, "",
						  "JetStream at \"%s\" did not answer %s within %d ms",
						  tide_nats_url(js->nats), subject, API_TIMEOUT_MS);
	tide_error(err, TIDE_ERR_UNAVAILABLE, "503", "NATS at \"%s\" has no JetStream that answers %s",
			   tide_nats_url(js->nats), subject);
	tide_error_hint(err,
					"Is there a jetstream block in the server's configuration, and is \"domain\""
					" (if set) the name of a domain that this server reaches?");
	return false;
}

/* Waits for the answer whose subject is reply; answers to requests given up are dropped. */
static bool
wait_answer(TideJs *js, const char *subject, const char *reply, json_t **answer, TideError *err)
{
	long long deadline = tide_monotonic_ms() + API_TIMEOUT_MS;

	for (;;)
	{
		long long left = deadline - tide_monotonic_ms();
		natsMsg *msg = NULL;
		json_error_t je;

		if (refused(js, subject, err))
			return false;
		if (left <= 0)
			return no_answer(js, subject, true, err);
		if (!tide_nats_next(js->nats, js->replies, left > STEP_MS ? STEP_MS : (int) left, &msg,
							err))
		{
			if (err != NULL && strcmp(err->code, "503") == 0)
				return no_answer(js, subject, false, err);
			return false;
		}
		if (msg == NULL)
			continue;
		if (strcmp(natsMsg_GetSubject(msg), reply) != 0)
		{
			natsMsg_Destroy(msg);
			continue;
		}
		*answer = json_loadb(natsMsg_GetData(msg), (size_t) natsMsg_GetDataLength(msg), 0, &je);
		natsMsg_Destroy(msg);
		if (*answer == NULL)
			return tide_error(err, TIDE_ERR_UNAVAILABLE, "",
							  "JetStream at \"%s\" answered %s with"
							  " something that is not JSON: %s",
							  tide_nats_url(js->nats), subject, je.text);
		return true;
	}
}

bool
tide_js_request(TideJs *js, const char *op, const json_t *body, json_t **reply, TideError *err)
{
	char subject[SUBJECT_SIZE];
	char inbox[200];
	char *text = body != NULL ? json_dumps(body, JSON_COMPACT) : NULL;
	json_t *answer = NULL;
	json_t *error;
	natsStatus s;

	if (reply != NULL)
		*reply = NULL;
	(void) tide_nats_refused(js->nats, inbox, sizeof(inbox)); /* forget older ones */
	snprintf(subject, sizeof(subject), "%s.%s", js->prefix, op);
	snprintf(inbox, sizeof(inbox), "%s.api.%llu", tide_nats_inbox(js->nats),
			 (unsigned long long) tide_nats_serial(js->nats));
	s = natsConnection_PublishRequest(tide_nats_connection(js->nats), subject, inbox, text,
									  text != NULL ? (int) strlen(text) : 0);
	free(text);
	if (s != NATS_OK)
		return tide_nats_error(js->nats, s, "asking JetStream", err);
	tide_nats_flush(js->nats);
	if (!wait_answer(js, subject, inbox, &answer, err))
		return false;
	error = json_object_get(answer, "error");
	if (error != NULL)
	{
		tide_js_error(error, op, err);
		json_decref(answer);
		return false;
	}
	if (reply != NULL)
		*reply = answer;
	else
		json_decref(answer);
	return true;
}

bool
tide_js_requestf(TideJs *js, const json_t *body, json_t **reply, TideError *err, const char *fmt,
				 ...)
{
	char op[SUBJECT_SIZE];
	va_list args;

	va_start(args, fmt);
	vsnprintf(op, sizeof(op), fmt, args);
	va_end(args);
	return tide_js_request(js, op, body, reply, err);
}

bool
tide_js_open(TideNats *nats, const char *domain, TideJs **out, TideError *err)
{
	TideJs *js = tide_zalloc(sizeof(*js));
	char subject[200];
	json_t *info = NULL;
	const char *own;

	*out = NULL;
	js->nats = nats;
	if (domain != NULL)
		snprintf(js->prefix, sizeof(js->prefix), "$JS.%s.API", domain);
	else
		snprintf(js->prefix, sizeof(js->prefix), "$JS.API");
	snprintf(subject, sizeof(subject), "%s.api.*", tide_nats_inbox(nats));
	if (!tide_nats_subscribe(nats, subject, &js->replies, err) ||
		!tide_js_request(js, "INFO", NULL, &info, err))
	{
		tide_js_close(js);
		return false;
	}
	own = json_string_value(json_object_get(info, "domain"));
	if (own == NULL)
		own = domain;
	js->domain = own != NULL && own[0] != '\0' ? tide_strdup(own) : NULL;
	json_decref(info);
	*out = js;
	return true;
}

void
tide_js_close(TideJs *js)
{
	if (js == NULL)
		return;
	free(js->domain);
	free(js);
}

bool
tide_js_accepted(const TideJs *js, const char *stream, const json_t *ack, bool *ours,
				 TideError *err)
{
	const char *by = json_string_value(json_object_get(ack, "stream"));
	const char *domain = json_string_value(json_object_get(ack, "domain"));

	*ours = domain == NULL || js->domain == NULL || strcmp(domain, js->domain) == 0;
	if (!*ours || (by != NULL && strcmp(by, stream) == 0))
		return true;
	*ours = false;
	tide_error(err, TIDE_ERR_CONFIG, TIDE_JS_WRONG_STREAM,
			   "a message for stream \"%s\" was stored by stream \"%s\"", stream,
			   by != NULL ? by : "?");
	tide_error_hint(err, "Two streams capture this subject: correct \"stream\" or their subjects.");
	return false;
}

TideNats *
tide_js_nats(const TideJs *js)
{
	return js->nats;
}

const char *
tide_js_prefix(const TideJs *js)
{
	return js->prefix;
}

const char *
tide_js_domain(const TideJs *js)
{
	return js->domain;
}
