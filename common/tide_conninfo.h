/*
 * tide_conninfo.h
 *		Looks into libpq connection strings, broker URLs and secret references.
 *
 * Owns: finding secrets that stand there in clear.  Does not own: connecting,
 * or resolving references.
 */
#ifndef TIDE_CONNINFO_H
#define TIDE_CONNINFO_H

#include <stdbool.h>
#include <stddef.h>

#include "tide_text.h"

typedef enum TideConninfoState
{
	TIDE_CONNINFO_OK,
	TIDE_CONNINFO_PASSWORD, /* a non-empty password, sslpassword or the like in clear */
	TIDE_CONNINFO_MALFORMED /* libpq would not take it either */
} TideConninfoState;

/* keyword=value form or postgres:// and postgresql:// URIs, read the way libpq reads them. */
extern TideConninfoState tide_conninfo_scan(const char *conninfo);
extern bool tide_conninfo_has_password(const char *conninfo);

typedef enum TideSecretKind
{
	TIDE_SECRET_ENV, /* env:NAME */
	TIDE_SECRET_FILE /* file:/absolute/path */
} TideSecretKind;

/* Is value a reference to a secret?  name (may be NULL) gets what follows the colon. */
extern bool tide_secret_parse(const char *value, size_t len, TideSecretKind *kind, TideSpan *name);

/* An absolute path of a file: no control bytes, no '/' at the end, at most 4095 bytes. */
extern bool tide_path_ok(const char *path, size_t len);

typedef enum TideUrlState
{
	TIDE_URL_OK,
	TIDE_URL_USERINFO, /* user, password or token in clear before an '@' */
	TIDE_URL_SCHEME,   /* neither nats:// nor tls:// */
	TIDE_URL_MALFORMED /* host or port missing or impossible, or a path behind them */
} TideUrlState;

/* One URL, nats://host[:port] or tls://host[:port]; host may be [v6]. */
extern TideUrlState tide_url_check(TideSpan url);

/*
 * Iterates over a comma list: *rest begins as the whole list; each call cuts
 * one entry off, without spaces around it (it may be empty), and returns false
 * when there is none left.
 */
extern bool tide_url_next(TideSpan *rest, TideSpan *url);

#endif /* TIDE_CONNINFO_H */
