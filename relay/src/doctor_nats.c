/*
 * doctor_nats.c
 *		The doctor's look at what a nats pipeline connects to.
 *
 * Owns: recognising set-ups that break the promise (each region goes on alone,
 * nothing is lost by a cut), and naming the setting.  Does not own: changing
 * anything; it only asks.
 */
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "doctor.h"
#include "nats_peer.h"
#include "nats_provision.h"

#define INFO_TIMEOUT_S 2
#define INFO_SIZE 32768
#define WHO_WAIT_MS 600
#define MAX_PEERS 16
#define NS_PER_S INT64_C(1000000000)
#define RETRY_HORIZON_S 120
#define SMALL_PAYLOAD 1048576
#define STALE_SOURCE_S 10
#define NEARLY_FULL 0.8

typedef struct Check
{
	TideDoctor *doctor;
	const char *pipeline;
	bool outbound;
	json_t *config;
	TideNats *nats;
	TideJs *js;
	json_t *server; /* what the server says of itself (INFO); NULL: could not be read */
	TideProvision want;
	TideStreamState stream;
	json_t *stream_config;			/* borrowed from stream.info */
	TideWhoAnswer peers[MAX_PEERS]; /* other regions' outbound pipelines of this subject */
	int n_peers;
	int n_findings; /* warnings and errors */
} Check;

static void __attribute__((format(printf, 5, 6)))
found(Check *c, TideDoctorLevel level, const char *what, const char *hint, const char *fmt, ...)
{
	char id[64];
	char message[600];
	va_list args;

	va_start(args, fmt);
	vsnprintf(message, sizeof(message), fmt, args);
	va_end(args);
	snprintf(id, sizeof(id), "nats.%s", what);
	if (level == TIDE_DOCTOR_WARN || level == TIDE_DOCTOR_ERROR)
		c->n_findings++;
	tide_doctor_report(c->doctor, level, id, c->pipeline, message, hint);
}

static void
found_error(Check *c, const char *what, const TideError *err)
{
	found(c, TIDE_DOCTOR_ERROR, what, err->hint[0] != '\0' ? err->hint : NULL, "%s", err->message);
}

static const char *
text_of(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text != NULL ? text : "";
}

static int64_t
number_of(const json_t *object, const char *key)
{
	return json_integer_value(json_object_get(object, key));
}

/*
 * The server's INFO line, which it sends to everybody before TLS or login.
 * libnats reads it and tells nobody, so it is read once more.
 */

static int
connect_to(const char *host, const char *port)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
	struct addrinfo *list = NULL;
	struct timeval limit = {.tv_sec = INFO_TIMEOUT_S};
	int fd = -1;

	if (getaddrinfo(host, port, &hints, &list) != 0)
		return -1;
	for (struct addrinfo *a = list; a != NULL && fd < 0; a = a->ai_next)
	{
		fd = socket(a->ai_family, a->ai_socktype, a->ai_protocol);
		if (fd < 0)
			continue;
		setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
		setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
		if (connect(fd, a->ai_addr, a->ai_addrlen) != 0)
		{
			close(fd);
			fd = -1;
		}
	}
	freeaddrinfo(list);
	return fd;
}

static json_t *
read_info(int fd)
{
	char *line = malloc(INFO_SIZE);
	size_t len = 0;
	json_t *info = NULL;

	while (line != NULL && len < INFO_SIZE - 1)
	{
		ssize_t n = recv(fd, line + len, INFO_SIZE - 1 - len, 0);

		if (n <= 0)
			break;
		len += (size_t) n;
		line[len] = '\0';
		if (memchr(line, '\n', len) != NULL)
		{
			if (strncmp(line, "INFO ", 5) == 0)
				info = json_loads(line + 5, JSON_DISABLE_EOF_CHECK, NULL);
			break;
		}
	}
	free(line);
	return info;
}

static void
load_server_info(Check *c)
{
	const char *url = tide_nats_url(c->nats);
	const char *host = strstr(url, "//");
	const char *colon;
	char name[256];
	int fd;

	host = host != NULL ? host + 2 : url;
	colon = strrchr(host, ':');
	if (colon == NULL || colon == host)
		return;
	if (*host == '[' && colon[-1] == ']')
		snprintf(name, sizeof(name), "%.*s", (int) (colon - host - 2), host + 1);
	else
		snprintf(name, sizeof(name), "%.*s", (int) (colon - host), host);
	fd = connect_to(name, colon + 1);
	if (fd < 0)
		return;
	c->server = read_info(fd);
	close(fd);
}

/*
 * The server
 */

static void
check_server(Check *c)
{
	const char *version = text_of(c->server, "version");
	char *rest = NULL;
	long major = strtol(version, &rest, 10);
	long minor = *rest == '.' ? strtol(rest + 1, NULL, 10) : 0;
	int64_t max_payload = natsConnection_GetMaxPayload(tide_nats_connection(c->nats));

	if (major == 0)
		found(c, TIDE_DOCTOR_SKIP, "version", NULL, "the version of \"%s\" could not be read",
			  tide_nats_url(c->nats));
	else if (major < 2 || (major == 2 && minor < 10))
		found(
			c, TIDE_DOCTOR_NOTE, "sync",
			"Nothing to do: the outbox keeps each event until its"
			" destination has it, and sends again what was lost. A server from 2.10.23 on could be"
			" set to jetstream { sync_interval: always }.",
			"nats-server %s acknowledges before it has synced to disk and can't be told otherwise:"
			" a power failure may lose its last 2 minutes",
			version);
	else
		found(c, TIDE_DOCTOR_NOTE, "sync",
			  "If the outbox's keeping of events until the destination has"
			  " them is not enough: jetstream { sync_interval: always }, at the price of speed.",
			  "nats-server %s syncs to disk every 2 minutes unless sync_interval says otherwise",
			  version);
	if (max_payload < SMALL_PAYLOAD)
		found(c, TIDE_DOCTOR_NOTE, "max_payload",
			  "Raise max_payload in the server's configuration if"
			  " events are larger.",
			  "the server's max_payload is %lld bytes: larger events become dead"
			  " letters",
			  (long long) max_payload);
}

/* One JetStream for both regions, or one for each? */
static void
check_domain(Check *c)
{
	const char *own = tide_js_domain(c->js);
	const char *here = text_of(c->server, "cluster");
	const char *there = text_of(json_object_get(c->stream.info, "cluster"), "name");

	if (c->server != NULL && here[0] != '\0' && there[0] != '\0' && strcmp(here, there) != 0)
		found(
			c, TIDE_DOCTOR_ERROR, "gateway",
			"Give each region a JetStream of its own"
			" (jetstream { domain: ... }) joined by leaf nodes, as in demo/.",
			"stream \"%s\" lives in cluster \"%s\", but \"url\" leads to cluster \"%s\": a gateway only"
			" makes it reachable, and a cut stops this region",
			c->want.stream, there, here);
	for (int i = 0; i < c->n_peers; i++)
	{
		if (strcmp(c->peers[i].domain, own != NULL ? own : "") != 0)
			continue;
		found(
			c, TIDE_DOCTOR_WARN, "domain",
			"Give each region a JetStream of its own, with"
			" jetstream { domain: ... } in the server's configuration, as in demo/.",
			"region \"%s\" uses the same JetStream (domain \"%s\"): when the link is cut, the region"
			" without it stops",
			c->peers[i].region, c->peers[i].domain);
		return;
	}
	if (own == NULL && c->n_peers == 0)
		found(c, TIDE_DOCTOR_NOTE, "domain",
			  "For more than one region set jetstream { domain: ... } in"
			  " the server's configuration.",
			  "the JetStream at \"%s\" has no domain", tide_nats_url(c->nats));
}

/*
 * The stream
 */

static void
check_limits(Check *c)
{
	const json_t *numbers = json_object_get(c->stream.info, "state");
	int64_t max_bytes = number_of(c->stream_config, "max_bytes");
	int64_t max_msgs = number_of(c->stream_config, "max_msgs");
	int64_t window_s = number_of(c->stream_config, "duplicate_window") / NS_PER_S;
	int64_t wanted_s = c->want.duplicate_window_ms / 1000;
	bool drops = strcmp(text_of(c->stream_config, "discard"), "old") == 0;

	if (drops && (max_bytes > 0 || max_msgs > 0))
		found(c, TIDE_DOCTOR_WARN, "discard",
			  "Set discard to new: a full stream then refuses, and the"
			  " outbox keeps what does not fit.",
			  "stream \"%s\" has discard old and a limit (max_bytes"
			  " %lld, max_msgs %lld): when full, it drops messages nobody has read",
			  c->want.stream, (long long) max_bytes, (long long) max_msgs);
	if ((max_bytes > 0 &&
		 (double) number_of(numbers, "bytes") > (double) max_bytes * NEARLY_FULL) ||
		(max_msgs > 0 && (double) number_of(numbers, "messages") > (double) max_msgs * NEARLY_FULL))
		found(c, TIDE_DOCTOR_WARN, "full", "Raise the limit, or lower max_age.",
			  "stream \"%s\" is nearly full: %lld bytes of %lld, %lld messages of %lld",
			  c->want.stream, (long long) number_of(numbers, "bytes"), (long long) max_bytes,
			  (long long) number_of(numbers, "messages"), (long long) max_msgs);
	if (c->outbound &&
		(window_s < RETRY_HORIZON_S || (c->stream.ours && window_s < wanted_s &&
										json_object_get(c->config, "duplicate_window") != NULL)))
		found(
			c, TIDE_DOCTOR_WARN, "duplicate_window",
			"Raise the stream's duplicate_window (nats stream"
			" edit --dupe-window); inboxes drop duplicates in any case.",
			"stream \"%s\" recognises duplicates for %lld s only (duplicate_window); a publisher may try"
			" again after %lld s",
			c->want.stream, (long long) window_s,
			(long long) (wanted_s > RETRY_HORIZON_S ? wanted_s : RETRY_HORIZON_S));
}

static void
check_kind(Check *c)
{
	if (strcmp(text_of(c->stream_config, "storage"), "file") != 0)
		found(c, TIDE_DOCTOR_ERROR, "storage", "Create the stream anew with storage file.",
			  "stream \"%s\" has storage %s: a restart of the server loses it", c->want.stream,
			  text_of(c->stream_config, "storage"));
	if (json_is_true(json_object_get(c->stream_config, "sealed")))
		found(c, TIDE_DOCTOR_ERROR, "sealed", "Name another stream.", "stream \"%s\" is sealed",
			  c->want.stream);
	if (json_is_object(json_object_get(c->stream_config, "mirror")))
		found(c, TIDE_DOCTOR_ERROR, "mirror", "Name another stream.", "stream \"%s\" is a mirror",
			  c->want.stream);
	if (strcmp(text_of(c->stream_config, "retention"), "limits") != 0)
		found(
			c, TIDE_DOCTOR_WARN, "retention", "Create the stream anew with retention limits.",
			"stream \"%s\" has retention %s: a message is gone once one consumer has acknowledged it",
			c->want.stream, text_of(c->stream_config, "retention"));
	if (number_of(c->stream_config, "num_replicas") <= 1)
		found(
			c, TIDE_DOCTOR_NOTE, "replicas", "In a cluster, set num_replicas to 3.",
			"stream \"%s\" has one copy (num_replicas 1): while its server is away, the region's events"
			" wait in their outbox",
			c->want.stream);
}

/* Subjects of ours that the stream lacks; subjects of others that it takes off the wire. */
static void
check_subjects(Check *c)
{
	const char *own = tide_js_domain(c->js);

	if (c->outbound && !tide_stream_captures(&c->stream, c->want.captures))
		found(c, TIDE_DOCTOR_ERROR, "subjects",
			  c->stream.ours && c->want.allowed ? "The relay adds it when it opens the pipeline."
												: "Add it to the stream's subjects.",
			  "stream \"%s\" does not capture \"%s\"", c->want.stream, c->want.captures);
	for (int i = 0; i < c->n_peers; i++)
	{
		if (strcmp(c->peers[i].domain, own != NULL ? own : "") == 0 ||
			!tide_stream_captures(&c->stream, c->peers[i].subject))
			continue;
		found(
			c, TIDE_DOCTOR_ERROR, "wide_subjects",
			"Narrow the stream's subjects to this region's own;"
			" the relay then has it source the others'.",
			"stream \"%s\" captures \"%s\" off the wire, which region \"%s\" publishes to domain \"%s\":"
			" live traffic crosses, but everything published during a cut never arrives",
			c->want.stream, c->peers[i].subject, c->peers[i].region, c->peers[i].domain);
	}
}

static void
check_sources(Check *c)
{
	json_t *sources = json_object_get(c->stream.info, "sources");
	size_t i;
	json_t *source;

	if (!tide_stream_captures(&c->stream, c->want.reads) &&
		!tide_stream_sources(&c->stream, c->want.reads))
		found(
			c, c->n_peers > 0 && c->stream.ours ? TIDE_DOCTOR_WARN : TIDE_DOCTOR_ERROR, "source",
			"Set \"peer_domain\" to the other region's JetStream domain, or start its relay: it tells"
			" its domain when asked.",
			"stream \"%s\" neither captures nor sources \"%s\": nothing"
			" arrives",
			c->want.stream, c->want.reads);
	json_array_foreach (sources, i, source)
	{
		int64_t active = number_of(source, "active");
		const char *api = text_of(json_object_get(source, "external"), "api");

		if (active < 0 || active > STALE_SOURCE_S * NS_PER_S)
			found(c, TIDE_DOCTOR_WARN, "source_silent",
				  "Look at the link between the regions, and"
				  " whether the stream exists there.",
				  "stream \"%s\" has not heard of its source %s %s", c->want.stream, api,
				  active < 0 ? "since it started" : "for more than 10 s");
	}
}

/*
 * The consumer
 */

static void
check_consumer(Check *c)
{
	const char *name = tide_nats_opt(c->config, "durable_name");
	json_t *info = NULL;
	json_t *config;
	TideError err;

	if (name == NULL)
		name = tide_nats_opt(c->config, "consumer_group");
	if (name == NULL)
		return;
	if (!tide_js_requestf(c->js, NULL, &info, &err, "CONSUMER.INFO.%s.%s", c->want.stream, name))
	{
		if (strcmp(err.code, TIDE_JS_CONSUMER_NOT_FOUND) == 0)
			found(c, TIDE_DOCTOR_WARN, "consumer",
				  "The relay creates it when it opens the pipeline, if"
				  " \"provision\" allows.",
				  "stream \"%s\" has no consumer \"%s\"", c->want.stream, name);
		else
			found_error(c, "consumer", &err);
		return;
	}
	config = json_object_get(info, "config");
	if (strcmp(text_of(config, "filter_subject"), c->want.reads) != 0)
		found(c, TIDE_DOCTOR_ERROR, "consumer_filter",
			  "Delete the consumer, or name another one in"
			  " \"durable_name\".",
			  "consumer \"%s\" has filter_subject \"%s\", the pipeline's subject is"
			  " \"%s\"",
			  name, text_of(config, "filter_subject"), c->want.reads);
	if (text_of(config, "deliver_subject")[0] != '\0')
		found(c, TIDE_DOCTOR_ERROR, "consumer_push", "Name another one in \"durable_name\".",
			  "consumer \"%s\" is a push consumer", name);
	if (number_of(info, "num_pending") > 0 &&
		number_of(info, "num_ack_pending") >= number_of(config, "max_ack_pending"))
		found(c, TIDE_DOCTOR_WARN, "ack_pending",
			  "Is the inbox being written? A larger max_ack_pending"
			  " helps only if it is slow.",
			  "consumer \"%s\" waits for acknowledgements: %lld of"
			  " max_ack_pending %lld, with %lld messages behind them",
			  name, (long long) number_of(info, "num_ack_pending"),
			  (long long) number_of(config, "max_ack_pending"),
			  (long long) number_of(info, "num_pending"));
	json_decref(info);
}

/*
 * Putting it together
 */

/* Which other regions publish what this pipeline reads, or anything that this stream captures? */
static void
load_peers(Check *c)
{
	const char *region = tide_doctor_region(c->doctor);
	long long deadline = tide_monotonic_ms() + WHO_WAIT_MS;
	TideWho *who = NULL;
	TideError err;

	if (region == NULL)
		region = "";
	if (!tide_who_new(c->nats, c->want.stream, c->outbound ? ">" : c->want.reads, region,
					  tide_js_domain(c->js), &who, &err))
		return;
	if (tide_who_ask(who, &err))
	{
		while (c->n_peers < MAX_PEERS && tide_monotonic_ms() < deadline)
		{
			TideWhoAnswer *peer = &c->peers[c->n_peers];
			bool got;

			if (!tide_who_next(who, (int) (deadline - tide_monotonic_ms()), peer, &got, &err) ||
				!got)
				break;
			if (strcmp(peer->region, region) != 0)
				c->n_peers++;
		}
	}
	tide_who_free(who);
}

static bool
load_stream(Check *c)
{
	TideError err;

	if (!tide_stream_load(c->js, c->want.stream, &c->stream, &err))
	{
		found_error(c, "stream", &err);
		return false;
	}
	c->stream_config = json_object_get(c->stream.info, "config");
	if (!c->stream.exists)
		found(c, TIDE_DOCTOR_WARN, "stream",
			  c->want.allowed ? "The relay creates it when it opens the"
								" outbound pipeline, or knows the other region's domain."
							  : "Create it, or set"
								" \"provision\" to true.",
			  "stream \"%s\" does not exist", c->want.stream);
	return c->stream.exists;
}

static void
check_all(Check *c)
{
	load_server_info(c);
	load_peers(c);
	check_server(c);
	if (!load_stream(c))
		return;
	check_domain(c);
	check_kind(c);
	check_limits(c);
	check_subjects(c);
	if (!c->outbound)
	{
		check_sources(c);
		check_consumer(c);
	}
	if (c->n_findings == 0)
		found(c, TIDE_DOCTOR_OK, "stream", NULL, "stream \"%s\" at \"%s\"%s%s is as it should be",
			  c->want.stream, tide_nats_url(c->nats),
			  tide_js_domain(c->js) != NULL ? ", domain " : "",
			  tide_js_domain(c->js) != NULL ? tide_js_domain(c->js) : "");
}

void
tide_doctor_check_nats(TideDoctor *d, const char *pipeline, const char *direction,
					   const char *target, json_t *config)
{
	Check c = {.doctor = d, .pipeline = pipeline, .config = config};
	const char *region = tide_doctor_region(d);
	TideError err;

	c.outbound = strcmp(direction, "outbox") == 0;
	if (!tide_provision_read(config, c.outbound ? target : NULL,
							 region != NULL ? region : "unknown", &c.want, &err))
		found_error(&c, "config", &err);
	else if (!tide_nats_open(config, "doctor", NULL, &c.nats, &err))
		found_error(&c, "connect", &err);
	else if (!tide_js_open(c.nats, tide_nats_opt(config, "domain"), &c.js, &err))
		found_error(&c, "jetstream", &err);
	else
		check_all(&c);
	tide_stream_clear(&c.stream);
	json_decref(c.server);
	tide_js_close(c.js);
	tide_nats_close(c.nats);
}
