/*
 * tide_option_check.c
 *		Checks one value of a pipeline's configuration against its option.
 *
 * Owns: what each type of option accepts, and the words when it does not.  Does
 * not own: the table of options (tide_options.c), whose header it shares.
 *
 * No function here repeats a value it refuses: it may be a secret.
 */
#include <string.h>

#include "tide_conninfo.h"
#include "tide_options.h"
#include "tide_subject.h"
#include "tide_template.h"

#define STRING_MAX 4095	  /* bytes; no option needs more */
#define NATS_NAME_MAX 255 /* what servers accept */

/* clang-format off */
#define HINT_SECRET \
	"Put the secret into an environment variable of the relay and write \"env:NAME\", or into a " \
	"file that only the relay can read and write \"file:/path\"."
#define HINT_PASSWORD \
	"Take the password out and use a password file (passfile=), a service or a certificate, or " \
	"write \"env:NAME\" or \"file:/path\" to have the relay read the whole string from there."
/* clang-format on */
#define HINT_SUBJECT "A subject is words separated by single dots, such as orders.insert.us-east."
#define HINT_URL "Write nats://host:4222 or tls://host:4222; separate several with commas."

/* One check at work: which option, and where the words go. */
typedef struct Check
{
	const TideOption *option;
	TideBuf *message;
	TideBuf *hint;
} Check;

static bool
fail(const Check *check, const char *what, const char *hint)
{
	if (check->message != NULL)
		tide_buf_printf(check->message, "option \"%s\" %s", check->option->key, what);
	if (check->hint != NULL)
		tide_buf_append_str(check->hint, hint);
	return false;
}

static bool
check_connector(const Check *check, const char *value)
{
	TideSide side = (TideSide) check->option->sides; /* these keys have one side each */

	if (tide_connector_known(side, value))
		return true;
	tide_connector_unknown(side, value, check->message, check->hint);
	return false;
}

static bool
check_urls(const Check *check, const char *value)
{
	TideSpan rest = {value, strlen(value)};
	TideSpan url;

	while (tide_url_next(&rest, &url))
	{
		switch (tide_url_check(url))
		{
			case TIDE_URL_OK:
				break;
			case TIDE_URL_USERINFO:
				return fail(
					check, "has a user, password or token in clear before an '@'",
					"Use the options user and password, token, nkey_seed or credentials_file; "
					"secrets are references such as \"env:NAME\" or \"file:/path\".");
			case TIDE_URL_SCHEME:
				return fail(check, "has an entry that begins with neither nats:// nor tls://",
							HINT_URL);
			case TIDE_URL_MALFORMED:
				return fail(check, "has an entry without a proper host and port", HINT_URL);
		}
	}
	return true;
}

static bool
check_subject(const Check *check, const char *value, bool allow_wildcards)
{
	if (tide_subject_valid(value, allow_wildcards))
	{
		if (value[0] == '$' && !allow_wildcards)
			return fail(check, "begins with '$': such subjects belong to the broker", HINT_SUBJECT);
		return true;
	}
	if (!allow_wildcards && tide_subject_valid(value, true))
		return fail(check, "has a wildcard, but messages are published to one subject",
					"Use \"subject_template\" for a subject that varies.");
	return fail(check, "is not a NATS subject",
				allow_wildcards ? HINT_SUBJECT
					" '*' stands for one word, '>' at the end for all further ones."
								: HINT_SUBJECT);
}

static bool
check_template(const Check *check, const char *value)
{
	TideTemplate tpl;
	TideTemplateError error;
	char text[200];
	TideBuf what;

	if (tide_template_parse(&tpl, value, strlen(value), &error))
		return true;
	tide_buf_init_fixed(&what, text, sizeof(text));
	if (error.position > 0)
		tide_buf_printf(&what, "is wrong at character %zu: ", error.position);
	tide_buf_append_str(&what, error.message);
	return fail(check, tide_buf_cstr(&what), error.hint);
}

static bool
check_nats_name(const Check *check, const char *value)
{
	if (strlen(value) > NATS_NAME_MAX)
		return fail(check, "is longer than 255 bytes", "Use a shorter name.");
	if (strpbrk(value, " \t.*>/\\") != NULL)
		return fail(check, "has a character that NATS does not take in a name",
					"Leave out spaces, '.', '*', '>', '/' and '\\'.");
	return true;
}

static bool
check_conninfo(const Check *check, const char *value)
{
	if (tide_secret_parse(value, strlen(value), NULL, NULL))
		return true;
	switch (tide_conninfo_scan(value))
	{
		case TIDE_CONNINFO_OK:
			return true;
		case TIDE_CONNINFO_PASSWORD:
			return fail(check, "has a password in clear", HINT_PASSWORD);
		case TIDE_CONNINFO_MALFORMED:
			break;
	}
	return fail(check, "is neither a libpq connection string nor a secret reference",
				"Write keyword=value pairs such as host=db1 dbname=app, a postgresql:// URI, "
				"\"env:NAME\" or \"file:/path\".");
}

static bool
check_by_type(const Check *check, const char *value)
{
	switch (check->option->type)
	{
		case TIDE_OPT_STRING:
			return true;
		case TIDE_OPT_CONNECTOR:
			return check_connector(check, value);
		case TIDE_OPT_URLS:
			return check_urls(check, value);
		case TIDE_OPT_SUBJECT:
			return check_subject(check, value, false);
		case TIDE_OPT_FILTER:
			return check_subject(check, value, true);
		case TIDE_OPT_TEMPLATE:
			return check_template(check, value);
		case TIDE_OPT_NATS_NAME:
			return check_nats_name(check, value);
		case TIDE_OPT_NAME:
			return tide_name_ok(value, strlen(value)) ||
				   fail(check, "is not a name", "Use 1 to 63 letters (a-z), digits, '_' and '-'.");
		case TIDE_OPT_CONNINFO:
			return check_conninfo(check, value);
		case TIDE_OPT_SECRET:
			return tide_secret_parse(value, strlen(value), NULL, NULL) ||
				   fail(check, "must be a reference to a secret, not the secret", HINT_SECRET);
		case TIDE_OPT_FILE:
			return tide_path_ok(value, strlen(value)) ||
				   fail(check, "is not the absolute path of a file",
						"Write the path from '/' on, as the relay's machine sees it.");
		case TIDE_OPT_RESYNC:
			return strcmp(value, "auto") == 0 || strcmp(value, "manual") == 0 ||
				   fail(check, "is neither \"auto\" nor \"manual\"",
						"auto copies the rows again by itself, manual waits for a person.");
		case TIDE_OPT_INT:
		case TIDE_OPT_BOOL:
		case TIDE_OPT_SECONDS:
			break;
	}
	tide_option_wrong_type(check->option, "string", check->message, check->hint);
	return false;
}

bool
tide_option_check_string(const TideOption *option, const char *value, size_t len, TideBuf *message,
						 TideBuf *hint)
{
	const Check check = {option, message, hint};
	char text[STRING_MAX + 1];

	if (len == 0)
		return fail(&check, "is empty", "Give it a value, or leave it out.");
	if (len > STRING_MAX)
		return fail(&check, "is longer than 4095 bytes", "Use a shorter value.");
	for (size_t i = 0; i < len; i++)
	{
		/* Line ends are harmless, and usual, between a connection string's settings. */
		if (tide_is_control(value[i]) &&
			!(option->type == TIDE_OPT_CONNINFO && tide_is_space(value[i])))
			return fail(&check, "has a control character", "Remove it.");
	}
	if (!tide_utf8_valid(value, len))
		return fail(&check, "is not valid UTF-8", "Correct its encoding.");
	memcpy(text, value, len);
	text[len] = '\0';
	return check_by_type(&check, text);
}

TideJsonKind
tide_option_json_kind(const TideOption *option)
{
	switch (option->type)
	{
		case TIDE_OPT_INT:
		case TIDE_OPT_SECONDS:
			return TIDE_JSON_NUMBER;
		case TIDE_OPT_BOOL:
			return TIDE_JSON_BOOL;
		default:
			return TIDE_JSON_STRING;
	}
}

void
tide_option_wrong_type(const TideOption *option, const char *got, TideBuf *message, TideBuf *hint)
{
	static const char *const wanted[] = {
		[TIDE_JSON_STRING] = "a string",
		[TIDE_JSON_NUMBER] = "a number",
		[TIDE_JSON_BOOL] = "true or false",
	};
	static const char *const hints[] = {
		[TIDE_JSON_STRING] = "Write it in double quotes",
		[TIDE_JSON_NUMBER] = "Write it without quotes",
		[TIDE_JSON_BOOL] = "Write true or false, without quotes",
	};
	TideJsonKind kind = tide_option_json_kind(option);

	if (message != NULL)
		tide_buf_printf(message, "option \"%s\" must be %s, not %s", option->key, wanted[kind],
						got);
	if (hint != NULL)
		tide_buf_printf(hint, "%s (%s).", hints[kind], option->help);
}

bool
tide_option_check_number(const TideOption *option, double value, TideBuf *message, TideBuf *hint)
{
	const Check check = {option, message, hint};

	if (tide_option_json_kind(option) != TIDE_JSON_NUMBER)
	{
		tide_option_wrong_type(option, "number", message, hint);
		return false;
	}
	/* Written so that NaN fails too. */
	if (!(value >= (double) option->min && value <= (double) option->max))
	{
		if (message != NULL)
			tide_buf_printf(message, "option \"%s\" must be between %lld and %lld", option->key,
							(long long) option->min, (long long) option->max);
		if (hint != NULL)
			tide_buf_printf(hint, "It is: %s.", option->help);
		return false;
	}
	if (option->type == TIDE_OPT_INT && value != (double) (int64_t) value)
		return fail(&check, "must be a whole number", "Remove the fraction.");
	return true;
}
