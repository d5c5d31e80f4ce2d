/*
 * tide_options.h
 *		The one table of pipeline configuration keys.
 *
 * Owns: which keys exist for which connector, their types, limits, defaults
 * and the rules between them, and the words of the errors about them.  Does not
 * own: JSON.  The extension checks a configuration with it when it is set, the
 * relay takes defaults from it when it reads one; nothing else lists keys.
 *
 * Messages and hints: functions append to message (what is wrong, naming the
 * key) and hint (what to do); either may be NULL.  Never a secret's value.
 */
#ifndef TIDE_OPTIONS_H
#define TIDE_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tide_buf.h"
#include "tide_text.h"

/* On which side of a broker the pipeline is. */
typedef enum TideSide
{
	TIDE_SIDE_SINK = 1,	  /* relay_set_outbox: outbox to sink_type */
	TIDE_SIDE_SOURCE = 2, /* relay_set_inbox: source_type to inbox */
	TIDE_SIDE_LINK = 4	  /* link_add: rows, by transport */
} TideSide;

typedef enum TideOptionType
{
	TIDE_OPT_STRING, /* any text without control bytes */
	TIDE_OPT_INT,
	TIDE_OPT_BOOL,
	TIDE_OPT_SECONDS,	/* duration; may have a fraction */
	TIDE_OPT_CONNECTOR, /* sink_type, source_type, transport */
	TIDE_OPT_URLS,		/* comma list of nats:// and tls:// */
	TIDE_OPT_SUBJECT,	/* without wildcards */
	TIDE_OPT_FILTER,	/* subject, wildcards allowed */
	TIDE_OPT_TEMPLATE,
	TIDE_OPT_NATS_NAME, /* stream, consumer or domain */
	TIDE_OPT_NAME,		/* a name of ours */
	TIDE_OPT_CONNINFO,	/* libpq string or URI without a clear password; or a secret reference */
	TIDE_OPT_SECRET,	/* env:NAME or file:/path */
	TIDE_OPT_FILE,		/* absolute path */
	TIDE_OPT_RESYNC		/* "auto" or "manual" */
} TideOptionType;

/* Which JSON type a value must have. */
typedef enum TideJsonKind
{
	TIDE_JSON_STRING,
	TIDE_JSON_NUMBER,
	TIDE_JSON_BOOL
} TideJsonKind;

typedef struct TideOption
{
	const char *connector; /* "nats", "direct", "inbox", "stdout"; NULL: all of that side */
	unsigned sides;		   /* TideSide bits */
	const char *key;
	TideOptionType type;
	bool required;
	int64_t min; /* for TIDE_OPT_INT and TIDE_OPT_SECONDS */
	int64_t max;
	const char *default_text; /* NULL: none */
	const char *help;		  /* one line */
} TideOption;

/* The key that names the connector: "sink_type", "source_type" or "transport". */
extern const char *tide_connector_key(TideSide side);
extern bool tide_connector_known(TideSide side, const char *connector);
/* Says that connector (NULL: none given) is not one of this side's, and which there are. */
extern void
tide_connector_unknown(TideSide side, const char *connector, TideBuf *message, TideBuf *hint);

/* NULL if this connector has no such key. */
extern const TideOption *tide_option_find(TideSide side, const char *connector, const char *key);
/* Iterates; previous NULL begins, NULL ends. */
extern const TideOption *
tide_option_next(TideSide side, const char *connector, const TideOption *previous);
/* Appends the keys, comma-separated. */
extern void tide_option_list(TideBuf *out, TideSide side, const char *connector);
/* Says that key is unknown, with the nearest key or the list in the hint. */
extern void tide_option_unknown(TideSide side, const char *connector, const char *key,
								TideBuf *message, TideBuf *hint);

extern TideJsonKind tide_option_json_kind(const TideOption *option);
/* Says that option wants another JSON type than got ("string", "array", ...). */
extern void
tide_option_wrong_type(const TideOption *option, const char *got, TideBuf *message, TideBuf *hint);

/* Checks one value of the right JSON type.  value needs no NUL. */
extern bool tide_option_check_string(const TideOption *option, const char *value, size_t len,
									 TideBuf *message, TideBuf *hint);
extern bool
tide_option_check_number(const TideOption *option, double value, TideBuf *message, TideBuf *hint);

/*
 * The rules between keys: required ones present, exclusive ones not together,
 * pairs complete.  get returns a string value as a NUL-terminated string, a
 * number as text, "true"/"false" for a boolean, "" for a value of another type,
 * NULL for an absent key.
 */
typedef const char *(*TideOptionGet)(void *arg, const char *key);
extern bool tide_options_check_set(TideSide side, const char *connector, TideOptionGet get,
								   void *arg, TideBuf *message, TideBuf *hint);

/* Defaults by type.  The option must have one of that type (0, false otherwise). */
extern int64_t tide_option_default_int(const TideOption *option); /* int and seconds */
extern bool tide_option_default_bool(const TideOption *option);

#endif /* TIDE_OPTIONS_H */
