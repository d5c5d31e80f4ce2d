/*
 * relay_log.c
 *		Tests of relay/src/log.c: no text can forge, break or hide in a line.
 */
#include "relay_test.h"

#include <jansson.h>

#include "log.h"

static char *line;
static size_t line_len;

static const char *
format(TideLogFormat form, const char *pipeline, const char *message, const TideError *error)
{
	const TideLogRecord record = {
		.level = TIDE_LOG_WARN,
		.time_us = INT64_C(1795255200123456),
		.pipeline = pipeline,
		.message = message,
		.error = error,
	};
	FILE *out;

	free(line);
	line = NULL;
	out = open_memstream(&line, &line_len);
	tide_log_format(out, form, &record);
	fclose(out);
	return line;
}

static void
plain_lines(void **state)
{
	TideError err;

	(void) state;
	assert_string_equal(format(TIDE_LOG_TEXT, NULL, "started", NULL),
						"time=2026-11-21T10:00:00.123Z level=warn msg=started\n");
	tide_error(&err, TIDE_ERR_AUTH, "28P01", "password authentication failed");
	tide_error_hint(&err, "look");
	assert_string_equal(format(TIDE_LOG_TEXT, "us-orders", "could not connect", &err),
						"time=2026-11-21T10:00:00.123Z level=warn pipeline=us-orders "
						"msg=\"could not connect\" error=\"password authentication failed\" "
						"class=auth code=28P01 hint=look\n");
	tide_error(&err, TIDE_ERR_INTERNAL, NULL, "x");
	assert_string_equal(format(TIDE_LOG_TEXT, NULL, "", &err),
						"time=2026-11-21T10:00:00.123Z level=warn msg=\"\" error=x "
						"class=internal\n");
}

/* Every hostile text stays inside its quotes, in one line. */
static void
hostile_text(void **state)
{
	static const char *const texts[] = {
		"a\nlevel=error msg=\"forged\"",
		"a\r\nb",
		"\" level=error \"",
		"back\\slash\\\"",
		"tab\tbell\a escape\x1b[31mred del\x7f",
		"half \xC3",
		"stray \x80\xFF continuation",
		"overlong \xC0\xAF surrogate \xED\xA0\x80",
		"next line \xC2\x85 separators \xE2\x80\xA8 \xE2\x80\xA9",
	};

	(void) state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
	{
		const char *text = format(TIDE_LOG_TEXT, texts[i], texts[i], NULL);
		json_t *object;
		int quotes = 0;

		assert_ptr_equal(strchr(text, '\n'), text + line_len - 1);
		for (const char *s = text; *s != '\n'; s++)
		{
			assert_true((unsigned char) *s >= 0x20 && *s != 0x7F);
			if (*s == '\\')
				s++;
			else if (*s == '"')
				quotes++;
			else if (quotes % 2 == 0)
				assert_true((unsigned char) *s < 0x80);
		}
		assert_int_equal(quotes, 4);
		assert_null(strstr(text, "\xC2\x85"));
		assert_null(strstr(text, "\xE2\x80\xA8"));

		text = format(TIDE_LOG_JSON, texts[i], texts[i], NULL);
		object = json_loadb(text, line_len, 0, NULL);
		assert_non_null(object);
		assert_int_equal(json_object_size(object), 4);
		assert_ptr_equal(strchr(text, '\n'), text + line_len - 1);
		json_decref(object);
	}
}

static void
keeps_other_languages(void **state)
{
	(void) state;
	assert_contains(format(TIDE_LOG_TEXT, NULL, "Z\xC3\xBCrich \xF0\x9F\x8C\x8A", NULL),
					"msg=\"Z\xC3\xBCrich \xF0\x9F\x8C\x8A\"");
}

static void
names(void **state)
{
	TideLogLevel level;
	TideLogFormat form;

	(void) state;
	assert_true(tide_log_level_parse("debug", &level));
	assert_int_equal(level, TIDE_LOG_DEBUG);
	assert_false(tide_log_level_parse("loud", &level));
	assert_true(tide_log_format_parse("json", &form));
	assert_int_equal(form, TIDE_LOG_JSON);
	assert_false(tide_log_format_parse("", &form));
	tide_log_init(TIDE_LOG_WARN, TIDE_LOG_TEXT);
	assert_true(tide_log_enabled(TIDE_LOG_ERROR));
	assert_false(tide_log_enabled(TIDE_LOG_INFO));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plain_lines),
		cmocka_unit_test(hostile_text),
		cmocka_unit_test(keeps_other_languages),
		cmocka_unit_test(names),
	};
	int failed = cmocka_run_group_tests_name("relay_log", tests, NULL, NULL);

	free(line);
	return failed;
}
