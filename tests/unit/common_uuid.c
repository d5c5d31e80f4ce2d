/*
 * common_uuid.c
 *		Tests of event ids.
 *
 * Owns: the RFC's own example, order and round trips.
 */
#include "common_test.h"

#include "tide_uuid.h"

#define MAX_US ((INT64_C(1) << 48) * 1000 - 1)

/* RFC 9562, appendix A.6: 2022-02-22 14:22:22.00 GMT-05:00, rand_b as there. */
static void
rfc_example(void **state)
{
	static const uint8_t random[8] = {0x18, 0xC4, 0xDC, 0x0C, 0x0C, 0x07, 0x39, 0x8F};
	uint8_t uuid[16];
	char text[TIDE_UUID_TEXT + 1];

	(void) state;
	tide_uuid7(uuid, INT64_C(1645557742000) * 1000, random);
	tide_uuid_format(text, uuid);
	/* The RFC has random bits where we have the microseconds, here none. */
	assert_string_equal(text, "017f22e2-79b0-7000-98c4-dc0c0c07398f");
}

static void
clamps(void **state)
{
	static const uint8_t random[8] = {0};
	uint8_t uuid[16];
	int64_t us;

	(void) state;
	tide_uuid7(uuid, -5, random);
	assert_true(tide_uuid7_unix_us(uuid, &us));
	assert_true(us == 0);
	tide_uuid7(uuid, INT64_MAX, random);
	assert_true(tide_uuid7_unix_us(uuid, &us));
	assert_true(us == MAX_US);
	uuid[6] = 0x40;
	assert_false(tide_uuid7_unix_us(uuid, &us));
	uuid[6] = 0x70;
	uuid[8] = 0xC0;
	assert_false(tide_uuid7_unix_us(uuid, &us));
}

static void
every_microsecond(void **state)
{
	static const uint8_t random[8] = {0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF};
	uint8_t previous[16] = {0};

	(void) state;
	for (int64_t us = 1000; us < 4000; us++)
	{
		uint8_t uuid[16];
		int64_t back;

		tide_uuid7(uuid, us, random);
		assert_true(tide_uuid7_unix_us(uuid, &back));
		assert_true(back == us);
		assert_true(memcmp(previous, uuid, 16) < 0);
		memcpy(previous, uuid, 16);
	}
}

static void
round_trips(void **state)
{
	(void) state;
	test_seed("round_trips");
	for (int i = 0; i < 20000; i++)
	{
		uint8_t random[8];
		uint8_t a[16];
		uint8_t b[16];
		char text[2][TIDE_UUID_TEXT + 1];
		int64_t us_a = (int64_t) (test_random() % (MAX_US + 1));
		int64_t us_b = (int64_t) (test_random() % (MAX_US + 1));
		int64_t back;

		test_bytes((char *) random, sizeof(random));
		tide_uuid7(a, us_a, random);
		tide_uuid_format(text[0], a);
		assert_true(tide_uuid_parse(b, text[0], TIDE_UUID_TEXT));
		assert_memory_equal(a, b, 16);
		assert_true(tide_uuid7_unix_us(b, &back));
		assert_true(back == us_a);

		tide_uuid7(b, us_b, random);
		tide_uuid_format(text[1], b);
		if (us_a != us_b)
			assert_int_equal(strcmp(text[0], text[1]) < 0, us_a < us_b);
	}
}

static void
parses_strictly(void **state)
{
	static const char *const bad[] = {
		"",
		"017f22e2-79b0-7000-98c4-dc0c0c07398",
		"017f22e2-79b0-7000-98c4-dc0c0c07398ff",
		"017f22e279b0-7000-98c4-dc0c0c07398ff",
		"017f22e2-79b0-7000-98c4-dc0c0c07398g",
		"{17f22e2-79b0-7000-98c4-dc0c0c07398}",
		"017f22e2 79b0-7000-98c4-dc0c0c07398f",
		"017f22e2-79b0-7000-98c4-dc0c0c0739-f",
		"017f22e-279b0-7000-98c4-dc0c0c07398f",
	};
	uint8_t uuid[16] = {7};

	(void) state;
	for (size_t i = 0; i < LENGTH(bad); i++)
	{
		assert_false(tide_uuid_parse(uuid, bad[i], strlen(bad[i])));
		assert_int_equal(uuid[0], 7);
	}
	assert_true(tide_uuid_parse(uuid, "017F22E2-79b0-7000-98C4-DC0C0C07398F", TIDE_UUID_TEXT));
	assert_int_equal(uuid[15], 0x8F);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rfc_example),		 cmocka_unit_test(clamps),
		cmocka_unit_test(every_microsecond), cmocka_unit_test(round_trips),
		cmocka_unit_test(parses_strictly),
	};

	return cmocka_run_group_tests_name("common_uuid", tests, NULL, NULL);
}
