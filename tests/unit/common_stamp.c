/*
 * common_stamp.c
 *		Tests of stamps, the clock's step and regions' numbers.
 *
 * Owns: that bytes, text and values have the same order, and that nothing else
 * than a stamp is taken for one.
 */
#include "common_test.h"

#include "tide_stamp.h"

/* Clocks near each other and near the ends, origins of few values: ties are wanted. */
static TideStamp
random_stamp(void)
{
	static const int64_t clocks[] = {0, 1, 255, 256, INT64_C(1) << 32, INT64_MAX - 1, INT64_MAX};
	static const uint32_t origins[] = {0, 1, 255, 256, UINT32_MAX};
	TideStamp stamp = {.clock = clocks[test_below(LENGTH(clocks))],
					   .origin = origins[test_below(LENGTH(origins))]};

	if (test_below(2) == 0)
		stamp.clock = (int64_t) (test_random() >> 1);
	if (test_below(2) == 0)
		stamp.origin = (uint32_t) test_random();
	return stamp;
}

static int
sign(int value)
{
	return value < 0 ? -1 : value > 0 ? 1 : 0;
}

static void
region_numbers(void **state)
{
	(void) state;
	/* FNV-1a's own test vectors. */
	assert_int_equal(tide_region_id("", 0), 0x811C9DC5);
	assert_int_equal(tide_region_id("a", 1), 0xE40C292C);
	assert_int_equal(tide_region_id("foobar", 6), 0xBF9CF968);
	/* A known preimage of zero, which stands for nobody. */
	assert_int_equal(tide_region_id("\xCC\x24\x31\xC4", 4), 1);
}

static void
clock_steps(void **state)
{
	(void) state;
	assert_true(tide_clock_next(100, 0) == 100);
	assert_true(tide_clock_next(100, 99) == 100);
	assert_true(tide_clock_next(100, 100) == 101);
	assert_true(tide_clock_next(100, 5000) == 5001);
	assert_true(tide_clock_next(-7, 0) == 1);
	assert_true(tide_clock_next(-7, INT64_MIN) == 1);
	assert_true(tide_clock_next(0, INT64_MAX - 1) == INT64_MAX);
	assert_true(tide_clock_next(0, INT64_MAX) == INT64_MAX);

	test_seed("clock_steps");
	for (int64_t seen = 0, i = 0; i < 100000; i++)
	{
		int64_t physical = (int64_t) test_below(1000) + i / 10;
		int64_t next = tide_clock_next(physical, seen);

		assert_true(next > seen && next >= physical);
		assert_true(next == physical || next == seen + 1);
		seen = next;
	}
}

static void
layout(void **state)
{
	static const uint8_t expected[] = {0x01, 0x23, 0x45, 0x67, 0x89, 0xAB,
									   0xCD, 0xEF, 0xFE, 0xDC, 0xBA, 0x98};
	const TideStamp stamp = {.clock = INT64_C(0x0123456789ABCDEF), .origin = 0xFEDCBA98};
	uint8_t bytes[TIDE_STAMP_LEN];
	TideStamp back;
	char text[TIDE_STAMP_TEXT];

	(void) state;
	tide_stamp_encode(stamp, bytes);
	assert_memory_equal(bytes, expected, sizeof(expected));
	for (size_t len = 0; len < TIDE_STAMP_LEN; len++)
		assert_false(tide_stamp_decode(bytes, len, &back));
	bytes[0] |= 0x80;
	assert_false(tide_stamp_decode(bytes, sizeof(bytes), &back));
	tide_stamp_format((TideStamp){.clock = 1795269893841175, .origin = 0xAB}, text);
	assert_string_equal(text, "1795269893841175@000000ab");
	tide_stamp_format((TideStamp){.clock = INT64_MIN, .origin = 0}, text);
	assert_string_equal(text, "0@00000000");
}

static void
order_and_round_trips(void **state)
{
	(void) state;
	test_seed("order_and_round_trips");
	for (int i = 0; i < 200000; i++)
	{
		TideStamp a = random_stamp();
		TideStamp b = random_stamp();
		TideStamp back;
		uint8_t bytes[2][TIDE_STAMP_LEN + 3];
		char text[TIDE_STAMP_TEXT];

		tide_stamp_encode(a, bytes[0]);
		tide_stamp_encode(b, bytes[1]);
		/* Longer ones are read too: the rest is for later versions. */
		assert_true(tide_stamp_decode(bytes[0], TIDE_STAMP_LEN + test_below(4), &back));
		assert_int_equal(tide_stamp_compare(a, back), 0);
		assert_int_equal(tide_stamp_compare(a, b), -tide_stamp_compare(b, a));
		assert_int_equal(tide_stamp_compare(a, b),
						 sign(memcmp(bytes[0], bytes[1], TIDE_STAMP_LEN)));
		tide_stamp_format(a, text);
		assert_true(tide_stamp_parse(text, strlen(text), &back));
		assert_int_equal(tide_stamp_compare(a, back), 0);
	}
}

static void
parses_strictly(void **state)
{
	static const char *const bad[] = {
		"",
		"@",
		"0",
		"0@",
		"@00000000",
		"1@0000000",
		"1@000000000",
		"01@00000000",
		"00@00000000",
		"-1@00000000",
		"+1@0000000",
		" 1@00000000",
		"1@00000000 ",
		"1@0000000g",
		"1@0000000A",
		"1 @0000000",
		"1@ 0000000",
		"1@-0000001",
		"1@@0000000",
		"0x1@00000000",
		"1@0x000000",
		"1.0@0000000",
		"1@00000000\n",
		"9223372036854775808@00000000",
		"18446744073709551616@00000000",
	};
	TideStamp stamp = {.clock = 7, .origin = 7};

	(void) state;
	for (size_t i = 0; i < LENGTH(bad); i++)
	{
		assert_false(tide_stamp_parse(bad[i], strlen(bad[i]), &stamp));
		assert_true(stamp.clock == 7 && stamp.origin == 7);
	}
	assert_true(tide_stamp_parse("9223372036854775807@ffffffff", 28, &stamp));
	assert_true(stamp.clock == INT64_MAX && stamp.origin == UINT32_MAX);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(region_numbers),  cmocka_unit_test(clock_steps),
		cmocka_unit_test(layout),		   cmocka_unit_test(order_and_round_trips),
		cmocka_unit_test(parses_strictly),
	};

	return cmocka_run_group_tests_name("common_stamp", tests, NULL, NULL);
}
