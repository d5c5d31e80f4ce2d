/*
 * nats_conn.c
 *		A connection to NATS: options, waiting, and libnats' errors as ours.
 *
 * Owns: see nats_conn.h.
 *
 * libnats calls back from threads of its own, also after a connection was
 * destroyed.  What such a callback touches is a "slot" that lives as long as
 * the process and is used again; a late callback can at worst leave a stale
 * note there.
 */
#include "nats_conn.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mem.h"
#include "nats_nkey.h"
#include "secret.h"

#define INBOX_SIZE 128
#define CONNECT_TIMEOUT_MS 5000
#define WRITE_DEADLINE_MS 5000
#define PING_INTERVAL_MS 3000 /* two unanswered: a black hole is noticed within 10 s */
#define MAX_PINGS_OUT 2
#define IO_BUFFER_BYTES (128 * 1024)
#define MAX_SERVERS 16
#define STOP_STEP_MS 50 /* how long a stop request may go unseen while waiting */
#define URL_SIZE 256
#define SEPARATORS ", \t\r\n"
#define DISCARD_CHUNK 64
#define DISCARD_BYTES 262144

/* What libnats' threads may write. */
typedef struct NatsSlot
{
	struct NatsSlot *next_free;
	pthread_mutex_t lock;
	char refused[200]; /* last permission violation, in the server's words */
} NatsSlot;

struct TideNats
{
	natsConnection *conn;
	char inbox[INBOX_SIZE];
	const TideStop *stop;
	NatsSlot *slot;
	uint64_t serial;
	char url[URL_SIZE];
	natsMsg *discarded[DISCARD_CHUNK];
	size_t n_discarded;
	size_t discarded_bytes;
	natsSubscription **subs; /* all of this connection's */
	size_t n_subs;
};

static pthread_mutex_t slots_lock = PTHREAD_MUTEX_INITIALIZER;
static NatsSlot *free_slots;

/*
 * At exit libnats frees a list of OpenSSL's that OpenSSL frees, too; the second
 * one to do so crashes, unless libnats is that one.  Exit handlers run last
 * come, first served, so libnats must register its own before anybody has used
 * OpenSSL (libpq does).  Closing what is not open does that and nothing else.
 */
static void __attribute__((constructor)) register_exit_handler_first(void)
{
	nats_Close();
}

bool
tide_nats_init(TideError *err)
{
	natsStatus s = nats_Open(-1);

	if (s != NATS_OK)
		return tide_error(err, TIDE_ERR_INTERNAL, "", "could not start the NATS library: %s",
						  natsStatus_GetText(s));
	return true;
}

void
tide_nats_shutdown(void)
{
	nats_CloseAndWait(2000);
}

static NatsSlot *
slot_take(void)
{
	NatsSlot *slot;

	pthread_mutex_lock(&slots_lock);
	slot = free_slots;
	if (slot != NULL)
		free_slots = slot->next_free;
	pthread_mutex_unlock(&slots_lock);
	if (slot == NULL)
	{
		slot = tide_zalloc(sizeof(*slot));
		pthread_mutex_init(&slot->lock, NULL);
	}
	pthread_mutex_lock(&slot->lock);
	slot->refused[0] = '\0';
	pthread_mutex_unlock(&slot->lock);
	return slot;
}

static void
slot_give(NatsSlot *slot)
{
	pthread_mutex_lock(&slots_lock);
	slot->next_free = free_slots;
	free_slots = slot;
	pthread_mutex_unlock(&slots_lock);
}

/* libnats' own handler would print to standard error. */
static void
on_async_error(natsConnection *conn, natsSubscription *sub, natsStatus s, void *closure)
{
	NatsSlot *slot = closure;
	const char *text = NULL;

	(void) sub;
	if (s != NATS_NOT_PERMITTED)
		return;
	if (natsConnection_GetLastError(conn, &text) == NATS_OK || text == NULL)
		text = "permissions violation";
	pthread_mutex_lock(&slot->lock);
	snprintf(slot->refused, sizeof(slot->refused), "%s", text);
	pthread_mutex_unlock(&slot->lock);
}

bool
tide_nats_refused(TideNats *nats, char *text, size_t size)
{
	bool refused;

	pthread_mutex_lock(&nats->slot->lock);
	refused = nats->slot->refused[0] != '\0';
	if (refused)
		snprintf(text, size, "%s", nats->slot->refused);
	nats->slot->refused[0] = '\0';
	pthread_mutex_unlock(&nats->slot->lock);
	return refused;
}

/*
 * Configuration values
 */

const char *
tide_nats_opt(const json_t *config, const char *key)
{
	return json_string_value(json_object_get(config, key));
}

static const char *
connector_of(const json_t *config, TideSide side)
{
	const char *name = tide_nats_opt(config, tide_connector_key(side));

	return name != NULL ? name : "nats";
}

static const TideOption *
option_of(const json_t *config, TideSide side, const char *key)
{
	return tide_option_find(side, connector_of(config, side), key);
}

int64_t
tide_nats_opt_int(const json_t *config, TideSide side, const char *key)
{
	json_t *value = json_object_get(config, key);
	const TideOption *option;

	if (json_is_number(value))
		return (int64_t) json_number_value(value);
	option = option_of(config, side, key);
	return option != NULL ? tide_option_default_int(option) : 0;
}

int64_t
tide_nats_opt_ms(const json_t *config, TideSide side, const char *key)
{
	json_t *value = json_object_get(config, key);

	if (json_is_number(value))
		return (int64_t) (json_number_value(value) * 1000.0);
	return tide_nats_opt_int(config, side, key) * 1000;
}

bool
tide_nats_opt_bool(const json_t *config, TideSide side, const char *key)
{
	json_t *value = json_object_get(config, key);
	const TideOption *option;

	if (json_is_boolean(value))
		return json_is_true(value);
	option = option_of(config, side, key);
	return option != NULL && tide_option_default_bool(option);
}

/*
 * Connecting
 */

/* What libnats says of the last error, without where in its sources; NULL: no more than text. */
static const char *
error_detail(natsStatus s, const char *text)
{
	natsStatus last = NATS_OK;
	const char *detail = nats_GetLastError(&last);
	const char *colon;

	if (detail == NULL || last != s)
		return NULL;
	if (*detail == '(' && (colon = strstr(detail, "): ")) != NULL)
		detail = colon + 3;
	return strcmp(detail, text) != 0 ? detail : NULL;
}

static void
destroy_discarded(TideNats *nats)
{
	for (size_t i = 0; i < nats->n_discarded; i++)
		natsMsg_Destroy(nats->discarded[i]);
	nats->n_discarded = 0;
	nats->discarded_bytes = 0;
}

/* Copies url without what stands between "//" and '@'. */
static void
url_without_credentials(const char *url, char *out, size_t size)
{
	const char *slashes = strstr(url, "//");
	const char *host = slashes != NULL ? slashes + 2 : url;
	const char *at = strrchr(host, '@');

	if (at != NULL)
		snprintf(out, size, "%.*s%s", (int) (host - url), url, at + 1);
	else
		snprintf(out, size, "%s", url);
}

static natsStatus
set_servers(natsOptions *opts, const char *list)
{
	char *copy = tide_strdup(list);
	char *p = copy;
	const char *servers[MAX_SERVERS];
	int n = 0;
	natsStatus s;

	for (p += strspn(p, SEPARATORS); *p != '\0' && n < MAX_SERVERS; p += strspn(p, SEPARATORS))
	{
		servers[n++] = p;
		p += strcspn(p, SEPARATORS);
		if (*p != '\0')
			*p++ = '\0';
	}
	s = n > 0 ? natsOptions_SetServers(opts, servers, n) : NATS_INVALID_ARG;
	free(copy);
	return s;
}

static bool
resolve(const json_t *config, const char *key, char **value, TideError *err)
{
	const char *reference = tide_nats_opt(config, key);

	*value = NULL;
	return reference == NULL || tide_secret_resolve(reference, key, value, NULL, err);
}

static natsStatus
sign_nonce(char **error, unsigned char **signature, int *len, const char *nonce, void *closure)
{
	(void) error;
	return nats_Sign(closure, nonce, signature, len);
}

/* The seed is needed until the connection is made. */
static bool
set_nkey(natsOptions *opts, char *seed, natsStatus *s, TideError *err)
{
	char public_key[TIDE_NKEY_PUBLIC_SIZE];

	if (!tide_nkey_public(seed, public_key))
	{
		tide_error(err, TIDE_ERR_CONFIG, "", "\"nkey_seed\" does not lead to a user's nkey seed");
		tide_error_hint(err, "It has 58 characters and begins with SU; nk -gen user makes one.");
		return false;
	}
	if (*s == NATS_OK)
		*s = natsOptions_SetNKey(opts, public_key, sign_nonce, seed);
	return true;
}

/* Who we are: at most one of credentials file, nkey, token, user and password. */
static bool
set_credentials(natsOptions *opts, const json_t *config, char **seed, natsStatus *s, TideError *err)
{
	const char *file = tide_nats_opt(config, "credentials_file");
	const char *user = tide_nats_opt(config, "user");
	char *token = NULL;
	char *password = NULL;
	bool ok;

	ok = resolve(config, "nkey_seed", seed, err) && resolve(config, "token", &token, err) &&
		 resolve(config, "password", &password, err);
	if (ok && file != NULL)
		*s = natsOptions_SetUserCredentialsFromFiles(opts, file, NULL);
	else if (ok && *seed != NULL)
		ok = set_nkey(opts, *seed, s, err);
	else if (ok && token != NULL)
		*s = natsOptions_SetToken(opts, token);
	else if (ok && user != NULL)
		*s = natsOptions_SetUserInfo(opts, user, password != NULL ? password : "");
	tide_secret_free(token);
	tide_secret_free(password);
	return ok;
}

static void
set_tls(natsOptions *opts, const json_t *config, natsStatus *s)
{
	const char *url = tide_nats_opt(config, "url");
	const char *ca = tide_nats_opt(config, "tls_ca_file");
	const char *cert = tide_nats_opt(config, "tls_cert_file");
	const char *key = tide_nats_opt(config, "tls_key_file");
	const char *name = tide_nats_opt(config, "tls_server_name");

	if (ca == NULL && cert == NULL && name == NULL &&
		!json_is_true(json_object_get(config, "tls")) &&
		(url == NULL || strstr(url, "tls://") == NULL))
		return;
	if (*s == NATS_OK)
		*s = natsOptions_SetSecure(opts, true);
	if (*s == NATS_OK && ca != NULL)
		*s = natsOptions_LoadCATrustedCertificates(opts, ca);
	if (*s == NATS_OK && cert != NULL && key != NULL)
		*s = natsOptions_LoadCertificatesChain(opts, cert, key);
	if (*s == NATS_OK && name != NULL)
		*s = natsOptions_SetExpectedHostname(opts, name);
}

static natsStatus
set_behaviour(natsOptions *opts, const char *what, NatsSlot *slot)
{
	char name[128];
	natsStatus s;

	snprintf(name, sizeof(name), "pg_tide %s", what);
	s = natsOptions_SetName(opts, name);
	if (s == NATS_OK)
		s = natsOptions_SetAllowReconnect(opts, false);
	if (s == NATS_OK)
		s = natsOptions_SetFailRequestsOnDisconnect(opts, true);
	if (s == NATS_OK)
		s = natsOptions_SetTimeout(opts, CONNECT_TIMEOUT_MS);
	if (s == NATS_OK)
		s = natsOptions_SetWriteDeadline(opts, WRITE_DEADLINE_MS);
	if (s == NATS_OK)
		s = natsOptions_SetPingInterval(opts, PING_INTERVAL_MS);
	if (s == NATS_OK)
		s = natsOptions_SetMaxPingsOut(opts, MAX_PINGS_OUT);
	if (s == NATS_OK)
		s = natsOptions_SetIOBufSize(opts, IO_BUFFER_BYTES);
	if (s == NATS_OK)
		s = natsOptions_SetErrorHandler(opts, on_async_error, slot);
	return s;
}

static bool
make_options(const json_t *config, const char *what, NatsSlot *slot, natsOptions **opts,
			 char **seed, TideError *err)
{
	const char *url = tide_nats_opt(config, "url");
	natsStatus s = NATS_OK;
	bool ok;

	if (url == NULL)
		return tide_error(err, TIDE_ERR_CONFIG, "", "the configuration has no \"url\"");
	*opts = NULL;
	s = natsOptions_Create(opts);
	if (s == NATS_OK)
		s = set_servers(*opts, url);
	if (s == NATS_OK)
		s = set_behaviour(*opts, what, slot);
	set_tls(*opts, config, &s);
	ok = set_credentials(*opts, config, seed, &s, err);
	if (ok && s != NATS_OK)
	{
		const char *text = natsStatus_GetText(s);
		const char *detail = error_detail(s, text);

		ok = tide_error(err, TIDE_ERR_CONFIG, "", "NATS settings for \"%s\" can't be used: %s", url,
						detail != NULL ? detail : text);
		tide_error_hint(err, "Look at url, tls_* and credentials_file in the configuration.");
	}
	if (!ok)
		natsOptions_Destroy(*opts);
	return ok;
}

/*
 * libnats frees messages in a thread of its own and wakes it for each one that
 * comes while it sleeps.  Handing over many at once saves most of the wake-ups.
 */
void
tide_nats_discard(TideNats *nats, natsMsg *msg)
{
	if (msg == NULL)
		return;
	nats->discarded[nats->n_discarded++] = msg;
	nats->discarded_bytes += (size_t) natsMsg_GetDataLength(msg);
	if (nats->n_discarded == DISCARD_CHUNK || nats->discarded_bytes > DISCARD_BYTES)
		destroy_discarded(nats);
}

/* Two failures to connect of which libnats' status alone does not say what to do. */
static void
connect_error(TideNats *nats, natsStatus s, const json_t *config, TideError *err)
{
	tide_nats_error(nats, s, "connecting", err);
	if (err == NULL)
		return;
	if (s == NATS_ERR && tide_nats_opt(config, "credentials_file") != NULL)
	{
		err->class = TIDE_ERR_AUTH;
		tide_error_hint(err, "Is the file named in credentials_file there, readable for the relay,"
							 " and complete?");
	}
	else if (s == NATS_PROTOCOL_ERROR && tide_nats_opt(config, "tls_cert_file") == NULL)
		tide_error_hint(err, "The server hung up during the handshake: if it asks for client"
							 " certificates, set tls_cert_file and tls_key_file.");
}

/* As the library makes them, but the first word is ours to choose. */
static natsStatus
make_inbox(TideNats *nats, const json_t *config)
{
	const char *prefix = tide_nats_opt(config, "inbox_prefix");
	natsInbox *made = NULL;
	natsStatus s = natsInbox_Create(&made);

	if (s == NATS_OK && prefix != NULL)
		snprintf(nats->inbox, sizeof(nats->inbox), "%s%s", prefix, strchr(made, '.'));
	else if (s == NATS_OK)
		snprintf(nats->inbox, sizeof(nats->inbox), "%s", made);
	natsInbox_Destroy(made);
	return s;
}

bool
tide_nats_open(const json_t *config, const char *what, const TideStop *stop, TideNats **out,
			   TideError *err)
{
	TideNats *nats = tide_zalloc(sizeof(*nats));
	natsOptions *opts = NULL;
	char *seed = NULL;
	natsStatus s;

	*out = NULL;
	nats->stop = stop;
	nats->slot = slot_take();
	if (!make_options(config, what, nats->slot, &opts, &seed, err))
	{
		tide_secret_free(seed);
		tide_nats_close(nats);
		return false;
	}
	url_without_credentials(tide_nats_opt(config, "url"), nats->url, sizeof(nats->url));
	s = natsConnection_Connect(&nats->conn, opts);
	natsOptions_Destroy(opts);
	tide_secret_free(seed);
	if (s == NATS_OK)
		s = make_inbox(nats, config);
	if (s != NATS_OK)
	{
		connect_error(nats, s, config, err);
		tide_nats_close(nats);
		return false;
	}
	char url[URL_SIZE];

	if (natsConnection_GetConnectedUrl(nats->conn, url, sizeof(url)) == NATS_OK)
		url_without_credentials(url, nats->url, sizeof(nats->url));
	*out = nats;
	return true;
}

void
tide_nats_close(TideNats *nats)
{
	if (nats == NULL)
		return;
	destroy_discarded(nats);
	/* Ends the thread that reads, and with it all use of the subscriptions. */
	natsConnection_Close(nats->conn);
	for (size_t i = 0; i < nats->n_subs; i++)
		natsSubscription_Destroy(nats->subs[i]);
	free(nats->subs);
	natsConnection_Destroy(nats->conn);
	slot_give(nats->slot);
	free(nats);
}

natsConnection *
tide_nats_connection(const TideNats *nats)
{
	return nats->conn;
}

const char *
tide_nats_url(const TideNats *nats)
{
	return nats->url;
}

const char *
tide_nats_inbox(const TideNats *nats)
{
	return nats->inbox;
}

uint64_t
tide_nats_serial(TideNats *nats)
{
	return ++nats->serial;
}

/*
 * Talking
 */

static bool
stop_error(TideError *err)
{
	return tide_error(err, TIDE_ERR_STOPPED, "", "asked to stop");
}

bool
tide_nats_next(TideNats *nats, natsSubscription *sub, int timeout_ms, natsMsg **msg, TideError *err)
{
	long long deadline = tide_monotonic_ms() + timeout_ms;

	*msg = NULL;
	for (;;)
	{
		long long left = timeout_ms == 0 ? 0 : deadline - tide_monotonic_ms();
		int64_t step = left > STOP_STEP_MS ? STOP_STEP_MS : left;
		natsStatus s = natsSubscription_NextMsg(msg, sub, step > 0 ? step : 0);

		if (s == NATS_OK)
			return true;
		*msg = NULL;
		if (s == NATS_NO_RESPONDERS)
			return tide_error(err, TIDE_ERR_UNAVAILABLE, "503",
							  "nothing at \"%s\" answers on that subject", nats->url);
		if (s != NATS_TIMEOUT)
			return tide_nats_error(nats, s, "waiting for a message", err);
		if (nats->stop != NULL && tide_stop_requested(nats->stop))
			return stop_error(err);
		if (left <= STOP_STEP_MS)
			return true;
	}
}

/*
 * libnats writes either at once for every message or about 1 ms later; a ping
 * is the only thing of the public interface that empties its buffer when we
 * want it.  Its pong is not waited for beyond 1 ms.
 */
void
tide_nats_flush(TideNats *nats)
{
	(void) natsConnection_FlushTimeout(nats->conn, 1);
}

void
tide_nats_own(TideNats *nats, natsSubscription *sub)
{
	nats->subs = tide_realloc(nats->subs, (nats->n_subs + 1) * sizeof(*nats->subs));
	nats->subs[nats->n_subs++] = sub;
}

bool
tide_nats_subscribe(TideNats *nats, const char *subject, natsSubscription **sub, TideError *err)
{
	natsStatus s = natsConnection_SubscribeSync(sub, nats->conn, subject);

	if (s == NATS_OK)
		tide_nats_own(nats, *sub);
	if (s == NATS_OK)
		s = natsSubscription_SetPendingLimits(*sub, -1, -1);
	if (s != NATS_OK)
		return tide_nats_error(nats, s, "subscribing", err);
	return true;
}

static TideErrorClass
class_of(natsStatus s)
{
	switch (s)
	{
		case NATS_CONNECTION_AUTH_FAILED:
		case NATS_SSL_ERROR:
		case NATS_SECURE_CONNECTION_WANTED:
		case NATS_SECURE_CONNECTION_REQUIRED:
			return TIDE_ERR_AUTH;
		case NATS_NOT_PERMITTED:
			return TIDE_ERR_PERMISSION;
		case NATS_TIMEOUT:
			return TIDE_ERR_TIMEOUT;
		case NATS_NO_MEMORY:
		case NATS_INVALID_ARG:
		case NATS_ILLEGAL_STATE:
			return TIDE_ERR_INTERNAL;
		case NATS_INVALID_SUBJECT:
		case NATS_NO_SERVER_SUPPORT:
			return TIDE_ERR_CONFIG;
		default:
			return TIDE_ERR_UNAVAILABLE;
	}
}

bool
tide_nats_error(TideNats *nats, natsStatus s, const char *doing, TideError *err)
{
	const char *text = natsStatus_GetText(s);
	const char *detail = error_detail(s, text);
	char code[24];

	snprintf(code, sizeof(code), "NATS-%d", (int) s);
	if (detail != NULL)
		tide_error(err, class_of(s), code, "NATS at \"%s\", %s: %s (%s)", nats->url, doing, text,
				   detail);
	else
		tide_error(err, class_of(s), code, "NATS at \"%s\", %s: %s", nats->url, doing, text);
	if (class_of(s) == TIDE_ERR_AUTH)
		tide_error_hint(err,
						"Check credentials_file, nkey_seed, token, user and password, and tls_*"
						" in the pipeline's configuration.");
	else if (s == NATS_NO_SERVER)
		tide_error_hint(err, "Is nats-server running there, and \"url\" right?");
	return false;
}
