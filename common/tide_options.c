/*
 * tide_options.c
 *		The one table of pipeline configuration keys.
 *
 * Owns: the table, the search in it, and the rules between keys.  Does not
 * own: checking one value (tide_option_check.c).
 */
#include "tide_options.h"

#include <stdlib.h>
#include <string.h>

#define SINK TIDE_SIDE_SINK
#define SOURCE TIDE_SIDE_SOURCE
#define LINK TIDE_SIDE_LINK
#define BOTH (TIDE_SIDE_SINK | TIDE_SIDE_SOURCE)
#define ALL (BOTH | TIDE_SIDE_LINK)

#define NATS "nats"
#define INBOX "inbox"
#define STDOUT "stdout"
#define DIRECT "direct"

#define DAYS(n) ((n) *86400)
#define YEAR DAYS(365)

/* The largest integer that every JSON reader keeps exactly. */
#define JSON_INT_MAX INT64_C(9007199254740991)

/* clang-format off */
static const TideOption options[] = {
	/* connector, sides, key, type, required, min, max, default, help */
	{NULL, SINK, "sink_type", TIDE_OPT_CONNECTOR, true, 0, 0, NULL,
		"where events go: nats, inbox or stdout"},
	{NULL, SOURCE, "source_type", TIDE_OPT_CONNECTOR, true, 0, 0, NULL,
		"where events come from: nats"},
	{NULL, LINK, "transport", TIDE_OPT_CONNECTOR, false, 0, 0, "direct",
		"how rows come: direct (from the other region's server) or nats"},
	{NULL, BOTH, "batch_size", TIDE_OPT_INT, false, 1, 10000, "1000",
		"most events moved in one transaction"},
	{NULL, BOTH, "poll_interval_ms", TIDE_OPT_INT, false, 1, 60000, "250",
		"longest pause between two looks for new events when nothing wakes the relay (ms)"},

	{NULL, LINK, "copy", TIDE_OPT_BOOL, false, 0, 0, "true",
		"copy the rows that are there before changes are applied"},
	{NULL, LINK, "priority", TIDE_OPT_INT, false, 0, 100, "50",
		"how important the link is: one with a lower number waits while this one is late"},
	{NULL, LINK, "copy_workers", TIDE_OPT_INT, false, 1, 8, "2",
		"tables copied at the same time"},
	{NULL, LINK, "max_frame", TIDE_OPT_INT, false, 65536, 16777216, "1048576",
		"size in bytes, before compression, at which a frame of changes is closed"},
	{DIRECT, LINK, "compression", TIDE_OPT_INT, false, 0, 19, "0",
		"zstd level of frames; 0: none"},
	{NATS, LINK, "compression", TIDE_OPT_INT, false, 0, 19, "3",
		"zstd level of frames; 0: none"},
	{NULL, LINK, "resync", TIDE_OPT_RESYNC, false, 0, 0, "auto",
		"when changes were lost: auto copies the rows again, manual waits for tide.link_resync()"},
	{NULL, LINK, "ddl", TIDE_OPT_BOOL, false, 0, 0, "true",
		"run the statements that tide.ddl() ran there; false: they are parked"},
	{NULL, LINK, "ddl_superuser", TIDE_OPT_BOOL, false, 0, 0, NULL,
		"... also those of a role that is a superuser here; default: true if it was a superuser who called tide.link_add()"},
	{NULL, LINK, "paused", TIDE_OPT_BOOL, false, 0, 0, "false",
		"do not start yet; tide.link_resume() does"},

	{NATS, ALL, "url", TIDE_OPT_URLS, true, 0, 0, NULL,
		"comma-separated list of nats:// or tls:// servers of one cluster"},
	{NATS, BOTH, "stream", TIDE_OPT_NATS_NAME, true, 0, 0, NULL,
		"JetStream stream that keeps the messages"},
	{NATS, LINK, "stream", TIDE_OPT_NATS_NAME, false, 0, 0, NULL,
		"JetStream stream that keeps the frames; default: TIDE_ROWS_ and the region"},
	{NATS, LINK, "own_stream", TIDE_OPT_BOOL, false, 0, 0, "false",
		"the other region publishes a stream for this one alone, with what residency lets it have"},
	{NATS, SINK, "subject_template", TIDE_OPT_TEMPLATE, false, 0, 0, "{outbox}.{op}",
		"subject of each message, with variables such as {op} and {entity}"},
	{NATS, SINK, "subject", TIDE_OPT_SUBJECT, false, 0, 0, NULL,
		"one subject for all messages, instead of subject_template"},
	{NATS, SOURCE, "subject", TIDE_OPT_FILTER, true, 0, 0, NULL,
		"which of the stream's subjects to take; wildcards allowed"},
	{NATS, SOURCE, "durable_name", TIDE_OPT_NATS_NAME, false, 0, 0, NULL,
		"name of the durable consumer"},
	{NATS, SOURCE, "consumer_group", TIDE_OPT_NATS_NAME, false, 0, 0, NULL,
		"another name for durable_name"},
	{NATS, ALL, "domain", TIDE_OPT_NATS_NAME, false, 0, 0, NULL,
		"JetStream domain behind url; default: the server's own"},
	{NATS, SOURCE, "peer_domain", TIDE_OPT_NATS_NAME, false, 0, 0, NULL,
		"the other region's JetStream domain; the local stream then sources subject from there"},
	{NATS, LINK, "peer_domain", TIDE_OPT_NATS_NAME, false, 0, 0, NULL,
		"the other region's JetStream domain; the local stream then sources the frames from there"},
	{NATS, LINK, "peer_url", TIDE_OPT_URLS, false, 0, 0, NULL,
		"servers the other region's relay publishes to; default: url"},
	{NATS, SINK, "max_in_flight", TIDE_OPT_INT, false, 1, 100000, "4096",
		"most messages published and not yet acknowledged"},
	{NATS, SOURCE, "ack_wait", TIDE_OPT_SECONDS, false, 1, 3600, "30",
		"seconds after which an unacknowledged message is delivered again"},
	{NATS, SOURCE, "max_ack_pending", TIDE_OPT_INT, false, 1, 1000000, "20000",
		"most messages delivered and not yet acknowledged"},

	{NATS, ALL, "inbox_prefix", TIDE_OPT_NAME, false, 0, 0, "_INBOX",
		"first word of the subjects on which this relay gets answers, so that permissions can keep others from them"},
	{NATS, ALL, "credentials_file", TIDE_OPT_FILE, false, 0, 0, NULL,
		"path of a NATS credentials file, on the relay's machine"},
	{NATS, ALL, "nkey_seed", TIDE_OPT_SECRET, false, 0, 0, NULL,
		"reference to an nkey seed"},
	{NATS, ALL, "token", TIDE_OPT_SECRET, false, 0, 0, NULL,
		"reference to a NATS token"},
	{NATS, ALL, "user", TIDE_OPT_STRING, false, 0, 0, NULL,
		"NATS user; needs password"},
	{NATS, ALL, "password", TIDE_OPT_SECRET, false, 0, 0, NULL,
		"reference to the NATS user's password"},
	{NATS, ALL, "tls", TIDE_OPT_BOOL, false, 0, 0, "false",
		"require TLS; a tls:// server always does"},
	{NATS, ALL, "tls_ca_file", TIDE_OPT_FILE, false, 0, 0, NULL,
		"path of the certificates that the server's is checked against; default: the system's"},
	{NATS, ALL, "tls_cert_file", TIDE_OPT_FILE, false, 0, 0, NULL,
		"path of the client certificate; needs tls_key_file"},
	{NATS, ALL, "tls_key_file", TIDE_OPT_FILE, false, 0, 0, NULL,
		"path of the client certificate's key; needs tls_cert_file"},
	{NATS, ALL, "tls_server_name", TIDE_OPT_STRING, false, 0, 0, NULL,
		"host name the server's certificate must have; default: the one in url"},

	{NATS, ALL, "provision", TIDE_OPT_BOOL, false, 0, 0, "true",
		"may the relay create the stream and the consumer"},
	{NATS, ALL, "duplicate_window", TIDE_OPT_SECONDS, false, 1, YEAR, "7200",
		"seconds for which a created stream refuses a message it already has"},
	{NATS, ALL, "replicas", TIDE_OPT_INT, false, 1, 5, "1",
		"copies of a created stream within its cluster"},
	{NATS, ALL, "max_age", TIDE_OPT_SECONDS, false, 0, 100 * (int64_t) YEAR, "604800",
		"seconds for which a created stream keeps messages; 0: for ever"},
	{NATS, ALL, "max_bytes", TIDE_OPT_INT, false, -1, JSON_INT_MAX, "-1",
		"size limit of a created stream in bytes; -1: none"},

	{INBOX, SINK, "conninfo", TIDE_OPT_CONNINFO, true, 0, 0, NULL,
		"libpq string or URI of the other database, or env:NAME or file:/path that has it"},
	{INBOX, SINK, "inbox", TIDE_OPT_NAME, true, 0, 0, NULL,
		"inbox in that database"},
};
/* clang-format on */

#define N_OPTIONS (sizeof(options) / sizeof(options[0]))

typedef struct Connector
{
	const char *name;
	unsigned sides;
} Connector;

static const Connector connectors[] = {
	{NATS, ALL},
	{DIRECT, LINK},
	{INBOX, SINK},
	{STDOUT, SINK},
};

#define N_CONNECTORS (sizeof(connectors) / sizeof(connectors[0]))

/* What must hold between two keys a and b. */
typedef enum RuleKind
{
	EXCLUSIVE, /* not both */
	NEEDS,	   /* a only together with b */
	ONE_OF,	   /* at least one */
	EQUAL,	   /* the same, if both are there */
	DIFFERENT, /* not the same, if both are there */
	AT_MOST	   /* number a <= number b (its default if absent), where b 0 is no limit */
} RuleKind;

typedef struct Rule
{
	const char *connector;
	unsigned sides;
	RuleKind kind;
	const char *a;
	const char *b;
	const char *hint;
} Rule;

#define HINT_ONE_LOGIN "Log in one way: credentials_file, nkey_seed, token, or user with password."

static const Rule rules[] = {
	{NATS, SINK, EXCLUSIVE, "subject", "subject_template",
	 "Keep \"subject\" for one subject, or \"subject_template\" for one that varies."},
	{NATS, SOURCE, ONE_OF, "durable_name", "consumer_group",
	 "Name the durable consumer, for example after this region."},
	{NATS, SOURCE, EQUAL, "durable_name", "consumer_group",
	 "Both name the durable consumer: give one, or the same text twice."},
	{NATS, LINK, EXCLUSIVE, "own_stream", "stream",
	 "A stream for one region is called TIDE_ROWS_, the region it comes from, +, and the one it is for: TIDE_ROWS_us-east+eu-west."},
	{NATS, SOURCE | LINK, DIFFERENT, "peer_domain", "domain",
	 "\"domain\" is this region's JetStream domain, \"peer_domain\" the other region's."},
	{NATS, ALL, NEEDS, "user", "password", "Add \"password\": \"env:NAME\" or \"file:/path\"."},
	{NATS, ALL, NEEDS, "password", "user", "Add \"user\"."},
	{NATS, ALL, EXCLUSIVE, "credentials_file", "nkey_seed", HINT_ONE_LOGIN},
	{NATS, ALL, EXCLUSIVE, "credentials_file", "token", HINT_ONE_LOGIN},
	{NATS, ALL, EXCLUSIVE, "credentials_file", "user", HINT_ONE_LOGIN},
	{NATS, ALL, EXCLUSIVE, "nkey_seed", "token", HINT_ONE_LOGIN},
	{NATS, ALL, EXCLUSIVE, "nkey_seed", "user", HINT_ONE_LOGIN},
	{NATS, ALL, EXCLUSIVE, "token", "user", HINT_ONE_LOGIN},
	{NATS, ALL, NEEDS, "tls_cert_file", "tls_key_file", "Add \"tls_key_file\"."},
	{NATS, ALL, NEEDS, "tls_key_file", "tls_cert_file", "Add \"tls_cert_file\"."},
	{NATS, ALL, AT_MOST, "duplicate_window", "max_age",
	 "A stream can't remember messages for longer than it keeps them: raise \"max_age\" or lower "
	 "\"duplicate_window\"."},
};

#define N_RULES (sizeof(rules) / sizeof(rules[0]))

static void
add(TideBuf *buf, const char *text)
{
	if (buf != NULL)
		tide_buf_append_str(buf, text);
}

static void
add_quoted(TideBuf *buf, const char *before, const char *text, const char *after)
{
	if (buf != NULL)
		tide_buf_printf(buf, "%s\"%s\"%s", before, text, after);
}

/* How much of a user's text to repeat in a message: not too much, and no half characters. */
static int
shown_length(const char *text)
{
	size_t len = strlen(text);
	size_t shown = 0;

	while (shown < len && shown < TIDE_NAME_MAX)
	{
		size_t sequence = tide_utf8_sequence(text + shown, len - shown);

		if (sequence == 0)
			break;
		shown += sequence;
	}
	return (int) shown;
}

const char *
tide_connector_key(TideSide side)
{
	switch (side)
	{
		case TIDE_SIDE_SINK:
			return "sink_type";
		case TIDE_SIDE_SOURCE:
			return "source_type";
		case TIDE_SIDE_LINK:
			break;
	}
	return "transport";
}

bool
tide_connector_known(TideSide side, const char *connector)
{
	for (size_t i = 0; i < N_CONNECTORS; i++)
	{
		if ((connectors[i].sides & side) && connector != NULL &&
			strcmp(connectors[i].name, connector) == 0)
			return true;
	}
	return false;
}

void
tide_connector_unknown(TideSide side, const char *connector, TideBuf *message, TideBuf *hint)
{
	const char *separator = " is one of: ";

	if (connector == NULL)
		add_quoted(message, "", tide_connector_key(side), " is missing");
	else if (message != NULL)
		tide_buf_printf(message, "\"%s\" can't be \"%.*s\"", tide_connector_key(side),
						shown_length(connector), connector);
	add_quoted(hint, "", tide_connector_key(side), "");
	for (size_t i = 0; i < N_CONNECTORS; i++)
	{
		if ((connectors[i].sides & side) == 0)
			continue;
		add(hint, separator);
		add(hint, connectors[i].name);
		separator = ", ";
	}
	add(hint, ".");
}

static bool
belongs(const TideOption *option, TideSide side, const char *connector)
{
	if ((option->sides & side) == 0)
		return false;
	if (option->connector == NULL)
		return true;
	return connector != NULL && strcmp(option->connector, connector) == 0;
}

const TideOption *
tide_option_next(TideSide side, const char *connector, const TideOption *previous)
{
	size_t i = previous == NULL ? 0 : (size_t) (previous - options) + 1;

	for (; i < N_OPTIONS; i++)
	{
		if (belongs(&options[i], side, connector))
			return &options[i];
	}
	return NULL;
}

const TideOption *
tide_option_find(TideSide side, const char *connector, const char *key)
{
	const TideOption *option = NULL;

	while ((option = tide_option_next(side, connector, option)) != NULL)
	{
		if (strcmp(option->key, key) == 0)
			return option;
	}
	return NULL;
}

void
tide_option_list(TideBuf *out, TideSide side, const char *connector)
{
	const TideOption *option = NULL;
	const char *separator = "";

	while ((option = tide_option_next(side, connector, option)) != NULL)
	{
		add(out, separator);
		add(out, option->key);
		separator = ", ";
	}
}

/* Keys longer than this are compared by their beginning. */
#define DISTANCE_MAX 32

static size_t
compared_length(const char *key)
{
	size_t len = strlen(key);

	return len < DISTANCE_MAX ? len : DISTANCE_MAX;
}

/* Single-byte insertions, deletions and replacements that turn a into b. */
static size_t
edit_distance(const char *a, const char *b)
{
	size_t row[DISTANCE_MAX + 1];
	size_t a_len = compared_length(a);
	size_t b_len = compared_length(b);

	for (size_t j = 0; j <= b_len; j++)
		row[j] = j;
	for (size_t i = 1; i <= a_len; i++)
	{
		size_t diagonal = row[0];

		row[0] = i;
		for (size_t j = 1; j <= b_len; j++)
		{
			size_t best = diagonal + (a[i - 1] != b[j - 1]);

			diagonal = row[j];
			if (row[j - 1] + 1 < best)
				best = row[j - 1] + 1;
			if (diagonal + 1 < best)
				best = diagonal + 1;
			row[j] = best;
		}
	}
	return row[b_len];
}

/* The key that the writer may have meant: at most a third of it differs.  Or NULL. */
static const TideOption *
nearest(TideSide side, const char *connector, const char *key)
{
	const TideOption *option = NULL;
	const TideOption *found = NULL;
	size_t least = compared_length(key) / 3 + 1;

	while ((option = tide_option_next(side, connector, option)) != NULL)
	{
		size_t distance = edit_distance(key, option->key);

		if (distance < least)
		{
			least = distance;
			found = option;
		}
	}
	return found;
}

void
tide_option_unknown(TideSide side, const char *connector, const char *key, TideBuf *message,
					TideBuf *hint)
{
	const TideOption *meant = nearest(side, connector, key);
	const TideOption *elsewhere = side == LINK ? NULL
											   : tide_option_find(side == SINK ? SOURCE : SINK,
																  connector, key);

	if (message != NULL)
		tide_buf_printf(message, "unknown option \"%.*s\" for %s \"%s\"", shown_length(key), key,
						tide_connector_key(side), connector != NULL ? connector : "");
	if (hint == NULL)
		return;
	if (meant != NULL)
		tide_buf_printf(hint, "Did you mean \"%s\"? ", meant->key);
	else if (elsewhere != NULL)
		tide_buf_printf(hint, "\"%s\" is an option of the %s side only. ", key,
						side == SINK ? "inbox" : "outbox");
	add(hint, "The options are: ");
	tide_option_list(hint, side, connector);
	add(hint, ".");
}

/* The number a key has, by configuration or default; false if neither. */
static bool
number_of(const Rule *rule, const char *key, TideOptionGet get, void *arg, bool defaults,
		  double *value)
{
	TideSide side = (TideSide) (rule->sides & -rule->sides); /* any that has the rule will do */
	const TideOption *option = tide_option_find(side, rule->connector, key);
	const char *text = get(arg, key);

	if (text == NULL && defaults && option != NULL)
		text = option->default_text;
	if (text == NULL || text[0] == '\0')
		return false;
	*value = strtod(text, NULL);
	return true;
}

/* What is wrong between a and b, as the words between their names; NULL if nothing. */
static const char *
broken(const Rule *rule, TideOptionGet get, void *arg)
{
	const char *a = get(arg, rule->a);
	const char *b = get(arg, rule->b);
	double na;
	double nb;

	switch (rule->kind)
	{
		case EXCLUSIVE:
			return a != NULL && b != NULL ? "can't be used together with" : NULL;
		case NEEDS:
			return a != NULL && b == NULL ? "can't be used without" : NULL;
		case ONE_OF:
			return a == NULL && b == NULL ? "is missing, and so is" : NULL;
		case EQUAL:
			return a != NULL && b != NULL && strcmp(a, b) != 0 ? "must be the same as" : NULL;
		case DIFFERENT:
			return a != NULL && b != NULL && strcmp(a, b) == 0 ? "must not be the same as" : NULL;
		case AT_MOST:
			if (!number_of(rule, rule->a, get, arg, false, &na) ||
				!number_of(rule, rule->b, get, arg, true, &nb))
				return NULL;
			return nb > 0 && na > nb ? "must not be greater than" : NULL;
	}
	return NULL;
}

static bool
check_required(TideSide side, const char *connector, TideOptionGet get, void *arg, TideBuf *message,
			   TideBuf *hint)
{
	const TideOption *option = NULL;

	while ((option = tide_option_next(side, connector, option)) != NULL)
	{
		if (!option->required || get(arg, option->key) != NULL)
			continue;
		if (message != NULL)
			tide_buf_printf(message, "option \"%s\" is missing for %s \"%s\"", option->key,
							tide_connector_key(side), connector);
		if (hint != NULL)
			tide_buf_printf(hint, "Add \"%s\": %s.", option->key, option->help);
		return false;
	}
	return true;
}

bool
tide_options_check_set(TideSide side, const char *connector, TideOptionGet get, void *arg,
					   TideBuf *message, TideBuf *hint)
{
	if (!tide_connector_known(side, connector))
	{
		tide_connector_unknown(side, connector, message, hint);
		return false;
	}
	if (!check_required(side, connector, get, arg, message, hint))
		return false;
	for (size_t i = 0; i < N_RULES; i++)
	{
		const Rule *rule = &rules[i];
		const char *what;

		if ((rule->sides & side) == 0 || strcmp(rule->connector, connector) != 0)
			continue;
		what = broken(rule, get, arg);
		if (what == NULL)
			continue;
		if (message != NULL)
			tide_buf_printf(message, "option \"%s\" %s \"%s\"", rule->a, what, rule->b);
		add(hint, rule->hint);
		return false;
	}
	return true;
}

int64_t
tide_option_default_int(const TideOption *option)
{
	if (option == NULL || option->default_text == NULL)
		return 0;
	return strtoll(option->default_text, NULL, 10);
}

bool
tide_option_default_bool(const TideOption *option)
{
	return option != NULL && option->default_text != NULL &&
		   strcmp(option->default_text, "true") == 0;
}
