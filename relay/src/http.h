/*
 * http.h
 *		The relay's small web server: metrics and health, read-only.
 *
 * Owns: listening, routing, limits and headers.  Does not own: what the
 * answers say; that comes from callbacks, which run on the server's thread and
 * must neither wait nor touch a database.
 */
#ifndef TIDE_HTTP_H
#define TIDE_HTTP_H

#include <stdbool.h>
#include <stdio.h>

#include "error.h"

typedef struct TideHttpCallbacks
{
	void (*metrics)(void *arg, FILE *out); /* Prometheus' text format */
	bool (*live)(void *arg);
	bool (*ready)(void *arg, FILE *out); /* writes a JSON object */
	void *arg;
} TideHttpCallbacks;

typedef struct TideHttp TideHttp;

#define TIDE_HTTP_DEFAULT "127.0.0.1:8017"

/*
 * Listens on address ("HOST:PORT", "[V6]:PORT", ":PORT" for all; port 0 lets the
 * system choose) and serves from a thread of its own.  callbacks is copied.
 * TIDE_ERR_CONFIG if the address makes no sense or is taken.
 */
extern bool tide_http_start(const char *address, const TideHttpCallbacks *callbacks,
							TideHttp **http, TideError *err);
extern void tide_http_stop(TideHttp *http); /* ends the thread; NULL is fine */
extern int tide_http_port(const TideHttp *http);

#endif /* TIDE_HTTP_H */
