/*
 * common_header.c
 *		Tests of header encoding and names.
 *
 * Owns: cases, and decode(encode(x)) == x for any bytes.
 */
#include "common_test.h"

#include "tide_header.h"

static void
encodes(void **state)
{
	static const struct
	{
		const char *plain;
		const char *encoded;
	} cases[] = {
		{"", ""},
		{"plain-Text_1.2/3;a=b", "plain-Text_1.2/3;a=b"},
		{"a b", "a%20b"},
		{"100%", "100%25"},
		{"\"q\"", "%22q%22"},
		{"a\r\nb: c", "a%0D%0Ab:%20c"},
		{"Euro \xE2\x82\xAC", "Euro%20%E2%82%AC"},
		{"\x7F\x01\xFF", "%7F%01%FF"},
	};

	(void) state;
	for (size_t i = 0; i < LENGTH(cases); i++)
	{
		TideBuf out;

		tide_buf_init(&out);
		assert_true(tide_header_encode(&out, cases[i].plain, strlen(cases[i].plain)));
		assert_string_equal(tide_buf_cstr(&out), cases[i].encoded);
		tide_buf_free(&out);
	}
}

static void
decodes_strictly(void **state)
{
	static const char *const bad[] = {"%",	 "%4",	"a%4", "%zz",  "%4z",
									  "%z4", "a\r", "\n",  "%%41", "%-1"};
	TideBuf out;

	(void) state;
	tide_buf_init(&out);
	tide_buf_append_str(&out, "kept");
	for (size_t i = 0; i < LENGTH(bad); i++)
	{
		if (tide_header_decode(&out, bad[i], strlen(bad[i])))
			fail_msg("took \"%s\"", bad[i]);
		assert_string_equal(out.data, "kept");
	}
	assert_false(tide_header_decode(&out, "a\0b", 3));
	assert_false(tide_header_decode(&out, "%41", 2));
	assert_true(tide_header_decode(&out, " a b\t%e2%82%AC\xE2", 15));
	assert_string_equal(out.data, "kept a b\t\xE2\x82\xAC\xE2");
	tide_buf_free(&out);
}

static void
round_trips(void **state)
{
	(void) state;
	test_seed("round_trips");
	for (int run = 0; run < 20000; run++)
	{
		char plain[64];
		size_t len = test_below(sizeof(plain));
		TideBuf encoded;
		TideBuf decoded;

		test_bytes(plain, len);
		tide_buf_init(&encoded);
		tide_buf_init(&decoded);
		assert_true(tide_header_encode(&encoded, plain, len));
		for (size_t i = 0; i < encoded.len; i++)
			assert_true(encoded.data[i] > 0x20 && encoded.data[i] < 0x7F && encoded.data[i] != '"');
		assert_true(tide_header_decode(&decoded, tide_buf_cstr(&encoded), encoded.len));
		assert_int_equal(decoded.len, len);
		assert_memory_equal(tide_buf_cstr(&decoded), plain, len);
		tide_buf_free(&encoded);
		tide_buf_free(&decoded);
	}
}

static void
names(void **state)
{
	static const char *const good[] = {
		"traceparent", "X-Request-Id", "a",	   "a!#$%&'*+-.^_`|~9", "cemetery",
		"natsy",	   "tide",		   "nats", "Content-Typed",		"content-encoding"};
	static const char *const bad[] = {
		"",		  "a b",   "a:b",		"a\r",	   "a\"",	"a(b)",	 "caf\xC3\xA9",	 "Nats-Msg-Id",
		"NATS-x", "ce-id", "CE-Source", "tide-op", "Tide-", "nats-", "Content-Type", "content-type",
		"a/b",	  "a=b",
	};
	char longest[TIDE_HEADER_NAME_MAX + 1];

	(void) state;
	for (size_t i = 0; i < LENGTH(good); i++)
	{
		if (!tide_header_name_ok(good[i], strlen(good[i])))
			fail_msg("refused \"%s\"", good[i]);
	}
	for (size_t i = 0; i < LENGTH(bad); i++)
	{
		if (tide_header_name_ok(bad[i], strlen(bad[i])))
			fail_msg("took \"%s\"", bad[i]);
	}
	memset(longest, 'x', sizeof(longest));
	assert_true(tide_header_name_ok(longest, TIDE_HEADER_NAME_MAX));
	assert_false(tide_header_name_ok(longest, TIDE_HEADER_NAME_MAX + 1));
	assert_false(tide_header_name_ok("a\0b", 3));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(encodes),
		cmocka_unit_test(decodes_strictly),
		cmocka_unit_test(round_trips),
		cmocka_unit_test(names),
	};

	return cmocka_run_group_tests_name("common_header", tests, NULL, NULL);
}
