/*
 * pg_error.c
 *		From libpq's results and messages to the relay's error type.
 *
 * Owns: what each SQLSTATE means for a retry, and keeping passwords out of
 * messages.  The decision itself (retry, dead-letter, give up) is made from
 * the class, by whoever got the error.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mem.h"
#include "pg_internal.h"

#define INSTALL_HINT                                                                             \
	"run CREATE EXTENSION pg_tide in this database (or ALTER EXTENSION pg_tide UPDATE after an " \
	"upgrade)"

/*
 * By prefix of the SQLSTATE; the first match counts, so the exact ones come
 * first.  A state that is not listed is INTERNAL.
 */
static const struct
{
	const char *prefix;
	TideErrorClass class;
	const char *hint; /* where the server gives none */
} sqlstates[] = {
	{"08", TIDE_ERR_UNAVAILABLE, NULL},
	{"57P", TIDE_ERR_UNAVAILABLE, NULL}, /* shutdown, crash, starting up, dropped */
	{"53300", TIDE_ERR_UNAVAILABLE, "raise max_connections, or close idle sessions"},
	{"25006", TIDE_ERR_UNAVAILABLE,
	 "the server is read-only: connect to the primary (target_session_attrs=read-write)"},
	{"57014", TIDE_ERR_TIMEOUT,
	 "somebody cancelled the statement, or statement_timeout is too short"},
	{"25P0", TIDE_ERR_TIMEOUT, NULL},	 /* idle-in-transaction limits */
	{"40", TIDE_ERR_THROTTLED, NULL},	 /* serialization failure, deadlock */
	{"55P03", TIDE_ERR_THROTTLED, NULL}, /* lock not available */
	{"55006", TIDE_ERR_THROTTLED, NULL}, /* object in use */
	{"53", TIDE_ERR_THROTTLED, NULL},	 /* disk full, out of memory */
	{"58", TIDE_ERR_UNAVAILABLE, NULL},	 /* the server's own I/O */
	{"28", TIDE_ERR_AUTH, NULL},
	{"42501", TIDE_ERR_PERMISSION, "grant the role tide_relay to the role the relay connects as"},
	{"3D000", TIDE_ERR_CONFIG, "create the database, or correct the connection string"},
	{"3F000", TIDE_ERR_CONFIG, INSTALL_HINT},
	{"42883", TIDE_ERR_CONFIG, INSTALL_HINT},
	{"42P01", TIDE_ERR_CONFIG, INSTALL_HINT},
	{"42", TIDE_ERR_CONFIG, NULL},
	{"0A", TIDE_ERR_CONFIG, NULL},
	{"22", TIDE_ERR_DATA, NULL},
	{"23", TIDE_ERR_DATA, NULL},
	{"44", TIDE_ERR_DATA, NULL}, /* check option of a view */
	{"54", TIDE_ERR_DATA, NULL}, /* too long, too deep */
	{"P0", TIDE_ERR_DATA, NULL}, /* raised by a trigger or function of the user's */
	{"TD001", TIDE_ERR_STALE, NULL},
	{"TD", TIDE_ERR_CONFIG, NULL},
};

#define N_SQLSTATES (sizeof(sqlstates) / sizeof(sqlstates[0]))

static TideErrorClass
class_of(const char *sqlstate, const char **hint)
{
	*hint = NULL;
	for (size_t i = 0; i < N_SQLSTATES; i++)
	{
		if (strncmp(sqlstate, sqlstates[i].prefix, strlen(sqlstates[i].prefix)) == 0)
		{
			*hint = sqlstates[i].hint;
			return sqlstates[i].class;
		}
	}
	return TIDE_ERR_INTERNAL;
}

/* libpq's messages are indented lines; ours is one.  Changes text in place. */
static void
join_lines(char *text)
{
	char *to = text;

	for (const char *from = text; *from != '\0'; from++)
	{
		bool space = isspace((unsigned char) *from);

		if (space && (to == text || to[-1] == ' '))
			continue;
		*to++ = space ? ' ' : *from;
	}
	if (to > text && to[-1] == ' ')
		to--;
	*to = '\0';
}

/* A failed connection without a SQLSTATE: lost, or never there. */
static void
broken_connection(TidePg *pg, const PGresult *res, TideError *err)
{
	char *text = tide_strdup(res != NULL ? PQresultErrorMessage(res) : PQerrorMessage(pg->conn));

	join_lines(text);
	tide_error(err, PQstatus(pg->conn) == CONNECTION_BAD ? TIDE_ERR_UNAVAILABLE : TIDE_ERR_INTERNAL,
			   "", "%s: %s", pg->where, text[0] != '\0' ? text : "no result");
	free(text);
}

void
tide_pg_error(TidePg *pg, const PGresult *res, TideError *err)
{
	const char *state = res != NULL ? PQresultErrorField(res, PG_DIAG_SQLSTATE) : NULL;
	const char *primary = res != NULL ? PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY) : NULL;
	const char *detail = res != NULL ? PQresultErrorField(res, PG_DIAG_MESSAGE_DETAIL) : NULL;
	const char *hint = res != NULL ? PQresultErrorField(res, PG_DIAG_MESSAGE_HINT) : NULL;
	const char *our_hint;
	TideErrorClass class;

	if (err == NULL)
		return;
	if (state == NULL || primary == NULL)
	{
		broken_connection(pg, res, err);
		return;
	}
	class = class_of(state, &our_hint);
	if (detail != NULL)
		tide_error(err, class, state, "%s (%s)", primary, detail);
	else
		tide_error(err, class, state, "%s", primary);

	/* The server's hint about a missing function is about types; ours is to the point. */
	if (our_hint != NULL && (hint == NULL || strcmp(our_hint, INSTALL_HINT) == 0))
		hint = our_hint;
	if (hint != NULL)
		tide_error_hint(err, "%s", hint);
}

/*
 * In a verbose message the SQLSTATE stands as "FATAL:  28P01: ...".  Finds the
 * last one (several hosts may have been tried), copies it and cuts it out.
 */
static bool
extract_sqlstate(char *text, char *state)
{
	bool found = false;
	char *s = text;

	while ((s = strstr(s, ":  ")) != NULL)
	{
		size_t n = 0;

		while (n < 5 && isalnum((unsigned char) s[3 + n]))
			n++;
		if (n == 5 && s[8] == ':' && s[9] == ' ')
		{
			memcpy(state, s + 3, 5);
			state[5] = '\0';
			found = true;
			memmove(s + 3, s + 10, strlen(s + 10) + 1);
		}
		s += 3;
	}
	return found;
}

/* Cuts out the lines that say where in the server's source the error arose. */
static void
remove_locations(char *text)
{
	char *s;

	while ((s = strstr(text, "\nLOCATION:  ")) != NULL)
	{
		char *end = s + 1 + strcspn(s + 1, "\n");

		memmove(s, end, strlen(end) + 1);
	}
}

/* What only libpq's own words tell, as it has no codes.  The relay never sets a locale. */
static TideErrorClass
class_by_words(PGconn *conn, const char *text)
{
	static const char *const tls_words[] = {"SSL error", "certificate", "SSL was required",
											"GSSAPI",	 "SCRAM",		"authentication method"};
	static const char *const config_words[] = {"invalid connection option",
											   "invalid sslmode",
											   "invalid port number",
											   "invalid integer value",
											   "definition of service",
											   "could not match",
											   "service file"};

	if (PQconnectionNeedsPassword(conn))
		return TIDE_ERR_AUTH;
	for (size_t i = 0; i < sizeof(tls_words) / sizeof(tls_words[0]); i++)
	{
		if (strstr(text, tls_words[i]) != NULL)
			return TIDE_ERR_AUTH;
	}
	for (size_t i = 0; i < sizeof(config_words) / sizeof(config_words[0]); i++)
	{
		if (strstr(text, config_words[i]) != NULL)
			return TIDE_ERR_CONFIG;
	}
	return TIDE_ERR_UNAVAILABLE;
}

bool
tide_pg_connect_error(PGconn *conn, TideError *err)
{
	char *text = tide_strdup(PQerrorMessage(conn));
	char state[6] = "";
	const char *hint = NULL;
	TideErrorClass class;

	remove_locations(text);
	if (extract_sqlstate(text, state))
		class = class_of(state, &hint);
	else
		class = class_by_words(conn, text);
	join_lines(text);
	tide_error(err, class, state, "%s", text);
	if (class == TIDE_ERR_AUTH)
		hint = "check user, password (passfile, PGPASSWORD) and the server's pg_hba.conf";
	if (hint != NULL)
		tide_error_hint(err, "%s", hint);
	free(text);
	return false;
}

/*
 * libpq says what is wrong with a connection string by quoting parts of it, or
 * all.  Any part may be a password, so what is between the first and the last
 * quote goes.
 */
bool
tide_pg_conninfo_error(const char *libpq_message, TideError *err)
{
	char *text = tide_strdup(libpq_message != NULL ? libpq_message : "not understood");
	char *first = strchr(text, '"');
	char *last = strrchr(text, '"');

	if (first != NULL && last > first)
	{
		tide_error(err, TIDE_ERR_CONFIG, "", "connection string: %.*s\"...%s", (int) (first - text),
				   text, last);
	}
	else
		tide_error(err, TIDE_ERR_CONFIG, "", "connection string: %s", text);
	if (err != NULL)
		join_lines(err->message);
	tide_error_hint(err, "write keyword=value pairs or a postgresql:// URI; quote values that "
						 "have spaces");
	free(text);
	return false;
}
