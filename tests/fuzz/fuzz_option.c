/*
 * fuzz_option.c
 *		Fuzzes the checks of option values.
 *
 * Owns: that whatever is refused comes with words, and that a secret is never in them.
 */
#include "fuzz.h"

#include "tide_options.h"

/* Long enough not to occur in our own words by chance. */
#define SECRET "hunter2-SWORDFISH"

static void
check_value(const TideOption *option, const char *value, size_t len)
{
	TideBuf message;
	TideBuf hint;

	tide_buf_init(&message);
	tide_buf_init(&hint);
	if (tide_option_check_string(option, value, len, &message, &hint))
		CHECK(message.len == 0 && hint.len == 0 && memchr(value, '\0', len) == NULL);
	else
	{
		CHECK(message.len > 0 && hint.len > 0);
		CHECK(strstr(message.data, option->key) != NULL);
		CHECK(tide_utf8_valid(message.data, message.len) && tide_utf8_valid(hint.data, hint.len));
		if (option->type == TIDE_OPT_SECRET || option->type == TIDE_OPT_CONNINFO ||
			option->type == TIDE_OPT_URLS)
			CHECK(strstr(message.data, SECRET) == NULL && strstr(hint.data, SECRET) == NULL);
	}
	tide_buf_free(&message);
	tide_buf_free(&hint);
}

static const char *
get(void *arg, const char *key)
{
	const char *text = arg;

	/* Whether a key is there, and with what, is decided by the input. */
	return text[0] != '\0' && strchr(text, key[0]) != NULL ? text : NULL;
}

/* The first byte chooses side, connector and option; the rest is the value. */
int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const connectors[] = {"nats", "inbox", "stdout"};
	TideSide side = size > 0 && data[0] & 1 ? TIDE_SIDE_SINK : TIDE_SIDE_SOURCE;
	const char *connector = connectors[size > 0 ? data[0] / 2 % 3 : 0];
	const TideOption *option = NULL;
	char *value;
	double number = 0;

	if (size == 0)
		return 0;
	value = fuzz_string(data + 1, size - 1);
	if (size > sizeof(number))
		memcpy(&number, data + 1, sizeof(number));
	while ((option = tide_option_next(side, connector, option)) != NULL)
	{
		check_value(option, value, size - 1);
		if (tide_option_check_number(option, number, NULL, NULL))
			CHECK(number >= (double) option->min && number <= (double) option->max);
	}
	{
		TideBuf message;
		TideBuf hint;

		tide_buf_init(&message);
		tide_buf_init(&hint);
		if (tide_option_find(side, connector, value) == NULL)
			tide_option_unknown(side, connector, value, &message, &hint);
		if (tide_utf8_valid(value, strlen(value)))
			CHECK(tide_utf8_valid(tide_buf_cstr(&message), message.len));
		(void) tide_options_check_set(side, connector, get, value, &message, &hint);
		tide_buf_free(&message);
		tide_buf_free(&hint);
	}
	free(value);
	return 0;
}
