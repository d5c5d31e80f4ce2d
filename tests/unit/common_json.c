/*
 * common_json.c
 *		Tests of the JSON scanner.
 *
 * Owns: the grammar's edges, nesting, and random edits of good documents.
 */
#include "common_test.h"

#include "tide_json.h"

static void
grammar(void **state)
{
	static const char *const good[] = {
		"null",
		" true\n",
		"false",
		"0",
		"-0",
		"1e400",
		"-1.5E+10",
		"123456789012345678901234567890",
		"\"\"",
		"\"\\u0000\\n\\\"\\\\\\/\"",
		"\"caf\xC3\xA9\"",
		"[]",
		"[ ]",
		"{}",
		"{ }",
		"[1,[2,{\"a\":[]}],{}]",
		"{\"a\":1,\"a\":{\"b\":null}}",
		"\"\\ud800\"",
		"\"\x7F\"",
	};
	static const char *const bad[] = {
		"",			" ",		 "nul",			"nulll",	  "True",
		"01",		"1.",		 ".5",			"-",		  "+1",
		"1e",		"1e+",		 "0x1",			"NaN",		  "\"",
		"\"\\\"",	"\"\\x\"",	 "\"\\u12g4\"", "\"\\u123",	  "\"a\nb\"",
		"\"\xFF\"", "\"\xC3\"",	 "[",			"]",		  "[1",
		"[1,",		"[1,]",		 "[,1]",		"[1 2]",	  "{",
		"{\"a\"",	"{\"a\":",	 "{\"a\":1",	"{\"a\":1,}", "{,}",
		"{1:2}",	"{\"a\" 1}", "{\"a\":}",	"[}",		  "{]",
		"[1}",		"{\"a\":1]", "1 2",			"[] []",	  "\xEF\xBB\xBFnull",
		"'a'",		"{a:1}",	 "//x\n1",		"[1]]",
	};

	(void) state;
	for (size_t i = 0; i < LENGTH(good); i++)
	{
		if (tide_json_check(good[i], strlen(good[i])) != TIDE_JSON_VALID)
			fail_msg("refused %s", good[i]);
	}
	for (size_t i = 0; i < LENGTH(bad); i++)
	{
		if (tide_json_check(bad[i], strlen(bad[i])) != TIDE_JSON_INVALID)
			fail_msg("took %s", bad[i]);
	}
	assert_int_equal(tide_json_check("1\0", 2), TIDE_JSON_INVALID);
	assert_int_equal(tide_json_check("\"\0\"", 3), TIDE_JSON_INVALID);
	assert_int_equal(tide_json_first(" \n {", 4), '{');
	assert_int_equal(tide_json_first(" ", 1), '\0');
}

static void
nesting(void **state)
{
	size_t len = 2 * (TIDE_JSON_MAX_DEPTH + 1);
	char *text = malloc(len);

	(void) state;
	assert_non_null(text);
	memset(text, '[', len / 2);
	memset(text + len / 2, ']', len / 2);
	assert_int_equal(tide_json_check(text, len), TIDE_JSON_TOO_DEEP);
	assert_int_equal(tide_json_check(text + 1, len - 2), TIDE_JSON_VALID);
	assert_int_equal(tide_json_check(text + 1, len - 3), TIDE_JSON_INVALID);
	free(text);
}

/* A prefix of an object or array is never JSON, whatever it contains. */
static void
prefixes(void **state)
{
	static const char text[] =
		"{\"a\":[1,2.5e3,{\"b\":\"\\u00e9\xC3\xA9\"}],\"c\":{},\"d\":[[],[null,true,false]]}";

	(void) state;
	assert_int_equal(tide_json_check(text, sizeof(text) - 1), TIDE_JSON_VALID);
	for (size_t len = 0; len < sizeof(text) - 1; len++)
		assert_int_equal(tide_json_check(text, len), TIDE_JSON_INVALID);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(grammar),
		cmocka_unit_test(nesting),
		cmocka_unit_test(prefixes),
	};

	return cmocka_run_group_tests_name("common_json", tests, NULL, NULL);
}
