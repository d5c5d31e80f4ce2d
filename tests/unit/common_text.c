/*
 * common_text.c
 *		Tests of names, UTF-8, numbers.
 *
 * Owns: cases and properties of tide_text.
 */
#include "common_test.h"

#include "tide_text.h"

static void
names(void **state)
{
	static const char *const good[] = {"a", "us-east", "order_events", "9", "-", "_", "A-z_0"};
	static const char *const bad[] = {"",	 "a b",			"a.b", "a'b", "a\"b",
									  "--;", "caf\xC3\xA9", "a/b", "a\n"};
	char longest[64];

	(void) state;
	for (size_t i = 0; i < LENGTH(good); i++)
		assert_true(tide_name_ok(good[i], strlen(good[i])));
	for (size_t i = 0; i < LENGTH(bad); i++)
		assert_false(tide_name_ok(bad[i], strlen(bad[i])));
	memset(longest, 'x', sizeof(longest));
	assert_true(tide_name_ok(longest, 63));
	assert_false(tide_name_ok(longest, 64));
	assert_false(tide_name_ok("a\0b", 3));
	assert_false(tide_name_ok(NULL, 0));
}

/* Encodes as the definition says, for every code point there could be. */
static size_t
encode(uint32_t c, char out[4])
{
	if (c < 0x80)
	{
		out[0] = (char) c;
		return 1;
	}
	if (c < 0x800)
	{
		out[0] = (char) (0xC0 | c >> 6);
		out[1] = (char) (0x80 | (c & 0x3F));
		return 2;
	}
	if (c < 0x10000)
	{
		out[0] = (char) (0xE0 | c >> 12);
		out[1] = (char) (0x80 | (c >> 6 & 0x3F));
		out[2] = (char) (0x80 | (c & 0x3F));
		return 3;
	}
	out[0] = (char) (0xF0 | c >> 18);
	out[1] = (char) (0x80 | (c >> 12 & 0x3F));
	out[2] = (char) (0x80 | (c >> 6 & 0x3F));
	out[3] = (char) (0x80 | (c & 0x3F));
	return 4;
}

static void
utf8_every_code_point(void **state)
{
	(void) state;
	for (uint32_t c = 0; c < 0x120000; c++)
	{
		char s[4];
		size_t len = encode(c, s);
		bool valid = c <= 0x10FFFF && (c < 0xD800 || c > 0xDFFF);

		assert_int_equal(tide_utf8_sequence(s, len), valid ? len : 0);
		if (len > 1)
			assert_int_equal(tide_utf8_sequence(s, len - 1), 0);
	}
}

static void
utf8_bad(void **state)
{
	static const char *const bad[] = {"\x80",
									  "\xC0\xAF",
									  "\xC1\xBF",
									  "\xE0\x80\x80",
									  "\xE0\x9F\xBF",
									  "\xF0\x80\x80\x80",
									  "\xF0\x8F\xBF\xBF",
									  "\xF5\x80\x80\x80",
									  "\xFF",
									  "a\xC3",
									  "\xE2\x28\xA1",
									  "\xE2\x82\x28"};

	(void) state;
	for (size_t i = 0; i < LENGTH(bad); i++)
		assert_false(tide_utf8_valid(bad[i], strlen(bad[i])));
	assert_true(tide_utf8_valid("", 0));
}

static void
numbers(void **state)
{
	static const struct
	{
		const char *text;
		bool ok;
		uint64_t value;
	} cases[] = {
		{"0", true, 0},
		{"007", true, 7},
		{"18446744073709551615", true, UINT64_MAX},
		{"18446744073709551616", false, 0},
		{"99999999999999999999", false, 0},
		{"", false, 0},
		{"-1", false, 0},
		{"+1", false, 0},
		{" 1", false, 0},
		{"1 ", false, 0},
		{"1a", false, 0},
		{"18446744073709551614", true, UINT64_MAX - 1},
		{"184467440737095516150", false, 0},
	};

	(void) state;
	for (size_t i = 0; i < LENGTH(cases); i++)
	{
		uint64_t value = 42;

		assert_int_equal(tide_parse_u64(cases[i].text, strlen(cases[i].text), &value), cases[i].ok);
		assert_true(value == (cases[i].ok ? cases[i].value : 42));
	}
}

static void
ascii(void **state)
{
	(void) state;
	assert_true(tide_ascii_equal("Nats-MSG", 8, "nats-msg", 8));
	assert_false(tide_ascii_equal("a", 1, "ab", 2));
	assert_false(tide_ascii_equal("[", 1, "{", 1));
	for (int c = 0; c < 256; c++)
	{
		assert_int_equal(tide_is_space((char) c), c == ' ' || (c >= 9 && c <= 13));
		assert_int_equal(tide_is_control((char) c), c < 32 || c == 127);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names),	cmocka_unit_test(utf8_every_code_point),
		cmocka_unit_test(utf8_bad), cmocka_unit_test(numbers),
		cmocka_unit_test(ascii),
	};

	return cmocka_run_group_tests_name("common_text", tests, NULL, NULL);
}
