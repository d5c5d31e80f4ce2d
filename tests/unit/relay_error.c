/*
 * relay_error.c
 *		Tests of relay/src/error.c: filling, cutting, and what classes mean.
 */
#include "relay_test.h"

#include "error.h"
#include "exit_codes.h"
#include "tide_text.h"

static void
fills_and_clears(void **state)
{
	TideError err;

	(void) state;
	assert_false(tide_error(&err, TIDE_ERR_CONFIG, "42P01", "pipeline %s", "a"));
	tide_error_hint(&err, "do %d", 1);
	assert_int_equal(err.class, TIDE_ERR_CONFIG);
	assert_string_equal(err.code, "42P01");
	assert_string_equal(err.message, "pipeline a");
	assert_string_equal(err.hint, "do 1");

	/* A new error does not keep the old one's hint. */
	tide_error(&err, TIDE_ERR_DATA, NULL, "x");
	assert_string_equal(err.hint, "");
	assert_string_equal(err.code, "");

	tide_error_clear(&err);
	assert_int_equal(err.class, TIDE_ERR_NONE);
	assert_string_equal(err.message, "");
	assert_false(tide_error(NULL, TIDE_ERR_DATA, NULL, "nobody wants to know"));
	tide_error_hint(NULL, "x");
	tide_error_clear(NULL);
}

static void
takes_its_own_text_as_argument(void **state)
{
	TideError err;

	(void) state;
	tide_error(&err, TIDE_ERR_DATA, "22P02", "inner");
	tide_error(&err, err.class, err.code, "outer: %s", err.message);
	assert_string_equal(err.message, "outer: inner");
	assert_string_equal(err.code, "22P02");
}

/* A long message ends at a character's boundary, wherever the cut falls. */
static void
cuts_between_characters(void **state)
{
	char text[1024];
	TideError err;

	(void) state;
	for (size_t shift = 0; shift < 4; shift++)
	{
		memset(text, 'x', shift);
		for (size_t i = shift; i + 4 < sizeof(text); i += 4)
			memcpy(text + i, "\xF0\x9F\x8C\x8A", 4);
		text[sizeof(text) - 8] = '\0';
		tide_error(&err, TIDE_ERR_DATA, NULL, "%s", text);
		tide_error_hint(&err, "%s", text);
		assert_true(strlen(err.message) > sizeof(err.message) - 5);
		assert_true(tide_utf8_valid(err.message, strlen(err.message)));
		assert_true(tide_utf8_valid(err.hint, strlen(err.hint)));
	}
}

static void
classes_decide_about_retries(void **state)
{
	static const struct
	{
		TideErrorClass class;
		bool retryable;
		TideExitCode code;
	} expected[] = {
		{TIDE_ERR_UNAVAILABLE, true, TIDE_EXIT_UNAVAILABLE},
		{TIDE_ERR_TIMEOUT, true, TIDE_EXIT_UNAVAILABLE},
		{TIDE_ERR_THROTTLED, true, TIDE_EXIT_UNAVAILABLE},
		{TIDE_ERR_AUTH, false, TIDE_EXIT_AUTH},
		{TIDE_ERR_PERMISSION, false, TIDE_EXIT_PERMISSION},
		{TIDE_ERR_CONFIG, false, TIDE_EXIT_CONFIG},
		{TIDE_ERR_DATA, false, TIDE_EXIT_INTERNAL},
		{TIDE_ERR_STALE, false, TIDE_EXIT_INTERNAL},
		{TIDE_ERR_STOPPED, false, TIDE_EXIT_UNDRAINED},
		{TIDE_ERR_INTERNAL, false, TIDE_EXIT_INTERNAL},
	};

	(void) state;
	for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++)
	{
		TideError err = {.class = expected[i].class};

		assert_int_equal(tide_error_retryable(&err), expected[i].retryable);
		assert_int_equal(tide_exit_code(&err), expected[i].code);
		assert_string_not_equal(tide_error_class_name(expected[i].class), "unknown");
	}
	assert_string_equal(tide_error_class_name((TideErrorClass) 99), "unknown");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fills_and_clears),
		cmocka_unit_test(takes_its_own_text_as_argument),
		cmocka_unit_test(cuts_between_characters),
		cmocka_unit_test(classes_decide_about_retries),
	};

	return cmocka_run_group_tests_name("relay_error", tests, NULL, NULL);
}
