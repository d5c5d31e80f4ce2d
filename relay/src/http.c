/*
 * http.c
 *		The relay's small web server: metrics and health, read-only.
 *
 * One thread serves everybody: answers are made from memory in well under a
 * millisecond.  What a hostile client can use up is bounded: connections, memory
 * per connection, idle time.  There is no TLS and no login; the default is the
 * loopback address, and a proxy goes in front of anything wider.
 */
#include "http.h"

#include <errno.h>
#include <microhttpd.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "log.h"
#include "mem.h"

#define MAX_CONNECTIONS 64
#define CONNECTION_MEMORY (32 * 1024)
#define IDLE_TIMEOUT_S 10

struct TideHttp
{
	TideHttpCallbacks callbacks;
	struct MHD_Daemon *daemon;
	bool loopback; /* only reachable from this machine */
	int port;
};

/* An endpoint writes its body and returns the HTTP status. */
typedef struct Endpoint
{
	const char *path;
	const char *content_type;
	unsigned (*serve)(TideHttp *http, FILE *out);
} Endpoint;

static const char index_page[] =
	"<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>pg_tide</title></head>\n"
	"<body><h1>pg_tide</h1>\n<ul>\n"
	"<li><a href=\"/metrics\">/metrics</a>: numbers for Prometheus</li>\n"
	"<li><a href=\"/livez\">/livez</a>: 200 while the relay's main loop turns</li>\n"
	"<li><a href=\"/readyz\">/readyz</a>: 200 when it is connected and its pipelines were open; "
	"each pipeline's state</li>\n"
	"</ul></body></html>\n";

static unsigned
serve_index(TideHttp *http, FILE *out)
{
	(void) http;
	fputs(index_page, out);
	return MHD_HTTP_OK;
}

static unsigned
serve_metrics(TideHttp *http, FILE *out)
{
	http->callbacks.metrics(http->callbacks.arg, out);
	return MHD_HTTP_OK;
}

static unsigned
serve_livez(TideHttp *http, FILE *out)
{
	bool live = http->callbacks.live(http->callbacks.arg);

	fputs(live ? "{\"live\": true}\n" : "{\"live\": false}\n", out);
	return live ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE;
}

static unsigned
serve_readyz(TideHttp *http, FILE *out)
{
	return http->callbacks.ready(http->callbacks.arg, out) ? MHD_HTTP_OK
														   : MHD_HTTP_SERVICE_UNAVAILABLE;
}

static const Endpoint endpoints[] = {
	{"/", "text/html; charset=utf-8", serve_index},
	{"/metrics", "text/plain; version=0.0.4; charset=utf-8", serve_metrics},
	{"/livez", "application/json", serve_livez},
	{"/readyz", "application/json", serve_readyz},
};

/* On every answer. */
static const struct
{
	const char *name;
	const char *value;
} fixed_headers[] = {
	{"Content-Security-Policy",
	 "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"},
	{"X-Content-Type-Options", "nosniff"},
	{"Referrer-Policy", "no-referrer"},
	{"Cross-Origin-Resource-Policy", "same-origin"},
	{"Cache-Control", "no-store"},
};

/* Takes over body (from malloc). */
static enum MHD_Result
answer(struct MHD_Connection *connection, unsigned status, const char *content_type, char *body,
	   size_t len)
{
	struct MHD_Response *response = MHD_create_response_from_buffer(len, body,
																	MHD_RESPMEM_MUST_FREE);
	enum MHD_Result result;

	if (response == NULL)
	{
		free(body);
		return MHD_NO;
	}
	MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, content_type);
	for (size_t i = 0; i < sizeof(fixed_headers) / sizeof(fixed_headers[0]); i++)
		MHD_add_response_header(response, fixed_headers[i].name, fixed_headers[i].value);
	if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
		MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
	result = MHD_queue_response(connection, status, response);
	MHD_destroy_response(response);
	return result;
}

static enum MHD_Result
answer_text(struct MHD_Connection *connection, unsigned status, const char *text)
{
	return answer(connection, status, "text/plain; charset=utf-8", tide_strdup(text), strlen(text));
}

/* The host of a Host header without its port, brackets kept. */
static size_t
host_length(const char *host)
{
	const char *end = host[0] == '[' ? strchr(host, ']') : strchr(host, ':');

	if (end == NULL)
		return strlen(host);
	return (size_t) (end - host) + (host[0] == '[' ? 1 : 0);
}

/*
 * A web page anywhere can have its own name resolve to 127.0.0.1 and so read
 * from here with the visitor's browser; but the browser then sends that page's
 * name.  A program that sends no name is no browser.
 */
static bool
is_local_name(const char *host)
{
	static const char *const names[] = {"localhost", "[::1]", "ip6-localhost"};
	size_t len;

	if (host == NULL)
		return true;
	len = host_length(host);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
	{
		if (len == strlen(names[i]) && strncasecmp(host, names[i], len) == 0)
			return true;
	}
	/* 127.x.y.z, digits and dots only: "127.0.0.1.example.com" is somebody's name. */
	return strncmp(host, "127.", 4) == 0 && strspn(host, "0123456789.") == len;
}

static enum MHD_Result
handle_request(void *arg, struct MHD_Connection *connection, const char *url, const char *method,
			   const char *version, const char *upload_data, size_t *upload_data_size, void **state)
{
	TideHttp *http = arg;

	(void) version;
	(void) upload_data;
	(void) upload_data_size;
	(void) state;
	if (http->loopback && !is_local_name(MHD_lookup_connection_value(connection, MHD_HEADER_KIND,
																	 MHD_HTTP_HEADER_HOST)))
		return answer_text(connection, MHD_HTTP_FORBIDDEN,
						   "This server answers only to local names.\n");

	for (size_t i = 0; i < sizeof(endpoints) / sizeof(endpoints[0]); i++)
	{
		char *body = NULL;
		size_t len = 0;
		FILE *out;
		unsigned status;

		if (strcmp(url, endpoints[i].path) != 0)
			continue;
		if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
			return answer_text(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "Only GET and HEAD.\n");
		out = open_memstream(&body, &len);
		if (out == NULL)
			return MHD_NO;
		status = endpoints[i].serve(http, out);
		fclose(out);
		return answer(connection, status, endpoints[i].content_type, body, len);
	}
	return answer_text(connection, MHD_HTTP_NOT_FOUND, "There is nothing here; see /.\n");
}

static void
log_from_library(void *arg, const char *fmt, va_list args)
{
	char message[512];

	(void) arg;
	vsnprintf(message, sizeof(message), fmt, args);
	tide_log(TIDE_LOG_DEBUG, "http: %.*s", (int) strcspn(message, "\n"), message);
}

/* Splits "HOST:PORT"; host is the caller's to free. */
static bool
split_address(const char *address, char **host, const char **port, TideError *err)
{
	const char *colon = strrchr(address, ':');
	const char *start = address;
	const char *end = colon;

	if (colon == NULL || colon[1] == '\0' || strspn(colon + 1, "0123456789") != strlen(colon + 1) ||
		strlen(colon + 1) > 5 || strtol(colon + 1, NULL, 10) > 65535)
		goto malformed;
	if (address[0] == '[')
	{
		if (end == address + 1 || end[-1] != ']')
			goto malformed;
		start++;
		end--;
	}
	else if (memchr(address, ':', (size_t) (colon - address)) != NULL)
		goto malformed;
	*host = tide_printf("%.*s", (int) (end - start), start);
	*port = colon + 1;
	return true;

malformed:
	tide_error(err, TIDE_ERR_CONFIG, "", "--http: \"%s\" is no address", address);
	tide_error_hint(err,
					"write ADDR:PORT (for example " TIDE_HTTP_DEFAULT "), [V6]:PORT, :PORT for all "
					"addresses, or none");
	return false;
}

static bool
is_loopback(const struct sockaddr *addr)
{
	if (addr->sa_family == AF_INET)
		return ntohl(((const struct sockaddr_in *) addr)->sin_addr.s_addr) >> 24 == 127;
	if (addr->sa_family == AF_INET6)
		return IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *) addr)->sin6_addr);
	return false;
}

/* Binds and listens; -1 with errno on failure. */
static int
listen_on(const struct addrinfo *info)
{
	int fd = socket(info->ai_family, info->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK,
					info->ai_protocol);
	int on = 1;
	int off = 0;

	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (info->ai_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
	if (bind(fd, info->ai_addr, info->ai_addrlen) != 0 || listen(fd, MAX_CONNECTIONS) != 0)
	{
		int saved_errno = errno;

		close(fd);
		errno = saved_errno;
		return -1;
	}
	return fd;
}

static bool
open_listener(TideHttp *http, const char *address, int *fd, TideError *err)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
	struct addrinfo *list = NULL;
	union
	{
		struct sockaddr any;
		struct sockaddr_in v4;
		struct sockaddr_in6 v6;
	} bound = {.v6 = {0}};
	socklen_t bound_len = sizeof(bound);
	const char *port;
	char *host;
	int saved_errno;
	int rc;

	*fd = -1;
	if (!split_address(address, &host, &port, err))
		return false;
	rc = getaddrinfo(host[0] != '\0' ? host : NULL, port, &hints, &list);
	free(host);
	if (rc != 0)
		return tide_error(err, TIDE_ERR_CONFIG, "", "--http: can't resolve %s: %s", address,
						  gai_strerror(rc));
	for (const struct addrinfo *info = list; info != NULL && *fd < 0; info = info->ai_next)
	{
		*fd = listen_on(info);
		http->loopback = is_loopback(info->ai_addr);
	}
	saved_errno = errno;
	freeaddrinfo(list);
	if (*fd < 0)
	{
		tide_error(err, TIDE_ERR_CONFIG, "", "--http: can't listen on %s: %s", address,
				   strerror(saved_errno));
		tide_error_hint(err, "choose another address with --http ADDR:PORT, or --http none");
		return false;
	}
	if (getsockname(*fd, &bound.any, &bound_len) == 0)
		http->port = ntohs(bound.any.sa_family == AF_INET6 ? bound.v6.sin6_port
														   : bound.v4.sin_port);
	return true;
}

bool
tide_http_start(const char *address, const TideHttpCallbacks *callbacks, TideHttp **out,
				TideError *err)
{
	TideHttp *http = tide_zalloc(sizeof(TideHttp));
	int fd;

	*out = NULL;
	http->callbacks = *callbacks;
	if (!open_listener(http, address, &fd, err))
	{
		free(http);
		return false;
	}
	http->daemon = MHD_start_daemon(
		MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL | MHD_USE_ERROR_LOG, 0, NULL, NULL,
		handle_request, http, MHD_OPTION_EXTERNAL_LOGGER, log_from_library, NULL,
		MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT, (unsigned) MAX_CONNECTIONS,
		MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t) CONNECTION_MEMORY,
		MHD_OPTION_CONNECTION_TIMEOUT, (unsigned) IDLE_TIMEOUT_S, MHD_OPTION_END);
	if (http->daemon == NULL)
	{
		close(fd);
		free(http);
		return tide_error(err, TIDE_ERR_INTERNAL, "", "--http: could not start the web server");
	}
	*out = http;
	return true;
}

void
tide_http_stop(TideHttp *http)
{
	if (http == NULL)
		return;
	MHD_stop_daemon(http->daemon); /* closes the listening socket too */
	free(http);
}

int
tide_http_port(const TideHttp *http)
{
	return http->port;
}
