/*
 * common_time.c
 *		Tests of RFC 3339 times.
 *
 * Owns: cases, and every day from 0001 to 9999 against a naive calendar.
 */
#include "common_test.h"

#include "tide_time.h"

#define DAY INT64_C(86400000000)

static void
known(void **state)
{
	static const struct
	{
		const char *text;
		int64_t us;
		const char *formatted;
	} cases[] = {
		{"1970-01-01T00:00:00Z", 0, "1970-01-01T00:00:00.000000Z"},
		{"2022-02-22T14:22:22-05:00", INT64_C(1645557742000000), "2022-02-22T19:22:22.000000Z"},
		{"2022-02-22t14:22:22.123456789z", INT64_C(1645539742123456),
		 "2022-02-22T14:22:22.123456Z"},
		{"2022-02-22 14:22:22.5+00:00", INT64_C(1645539742500000), "2022-02-22T14:22:22.500000Z"},
		{"1969-12-31T23:59:59.999999Z", -1, "1969-12-31T23:59:59.999999Z"},
		{"1969-12-31T23:59:59.9999999Z", -1, "1969-12-31T23:59:59.999999Z"},
		{"2016-12-31T23:59:60Z", INT64_C(1483228800000000), "2017-01-01T00:00:00.000000Z"},
		{"2000-02-29T23:59:59+23:59", INT64_C(951782459000000), "2000-02-29T00:00:59.000000Z"},
		{"0001-01-01T00:00:00Z", TIDE_TIME_MIN, "0001-01-01T00:00:00.000000Z"},
		{"9999-12-31T23:59:59.999999Z", TIDE_TIME_MAX, "9999-12-31T23:59:59.999999Z"},
		{"1970-01-01T00:00:00-00:00", 0, "1970-01-01T00:00:00.000000Z"},
	};

	(void) state;
	for (size_t i = 0; i < LENGTH(cases); i++)
	{
		int64_t us;
		char text[TIDE_TIME_TEXT];

		if (!tide_time_parse(cases[i].text, strlen(cases[i].text), &us))
			fail_msg("refused %s", cases[i].text);
		assert_true(us == cases[i].us);
		assert_true(tide_time_format(text, us));
		assert_string_equal(text, cases[i].formatted);
	}
}

static void
refuses(void **state)
{
	static const char *const bad[] = {
		"",
		"2022",
		"2022-02-22",
		"2022-02-22T14:22Z",
		"2022-02-22T14:22:22",
		"2022-02-22T14:22:22.Z",
		"2022-02-22T14:22:22.1234567890Z",
		"2022-02-22T24:00:00Z",
		"2022-02-22T14:60:00Z",
		"2022-02-22T14:22:61Z",
		"2022-02-29T00:00:00Z",
		"1900-02-29T00:00:00Z",
		"2022-00-01T00:00:00Z",
		"2022-13-01T00:00:00Z",
		"2022-04-31T00:00:00Z",
		"2022-01-00T00:00:00Z",
		"0000-01-01T00:00:00Z",
		"2022-02-22T14:22:22+5:00",
		"2022-02-22T14:22:22+0500",
		"2022-02-22T14:22:22+24:00",
		"2022-02-22T14:22:22+00:60",
		"2022-02-22T14:22:22Z ",
		" 2022-02-22T14:22:22Z",
		"0001-01-01T00:00:00+00:01",
		"9999-12-31T23:59:59-00:01",
		"9999-12-31T23:59:60Z",
		"2022-2-22T14:22:22Z",
		"20220222T142222Z",
		"2022-02-22T14:22:22,5Z",
		"+022-02-22T14:22:22Z",
		"2022-02-22T14:22:22UTC",
		"2022-02-22T-1:22:22Z",
	};
	int64_t us = 42;
	char text[TIDE_TIME_TEXT];

	(void) state;
	for (size_t i = 0; i < LENGTH(bad); i++)
	{
		if (tide_time_parse(bad[i], strlen(bad[i]), &us))
			fail_msg("took \"%s\"", bad[i]);
		assert_true(us == 42);
	}
	assert_false(tide_time_format(text, TIDE_TIME_MIN - 1));
	assert_string_equal(text, "");
	assert_false(tide_time_format(text, TIDE_TIME_MAX + 1));
	assert_false(tide_time_format(text, INT64_MIN));
	assert_false(tide_time_format(text, INT64_MAX));
}

static int
days_in_month(int year, int month)
{
	if (month == 2)
		return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) ? 29 : 28;
	return month == 4 || month == 6 || month == 9 || month == 11 ? 30 : 31;
}

/* Counts the days up one by one. */
static void
every_day(void **state)
{
	int64_t us = TIDE_TIME_MIN + 1;

	(void) state;
	for (int year = 1; year <= 9999; year++)
	{
		for (int month = 1; month <= 12; month++)
		{
			for (int day = 1; day <= days_in_month(year, month); day++, us += DAY)
			{
				char expected[64];
				char text[TIDE_TIME_TEXT];
				int64_t back;

				snprintf(expected, sizeof(expected), "%04d-%02d-%02dT00:00:00.000001Z", year, month,
						 day);
				if (!tide_time_format(text, us) || strcmp(text, expected) != 0 ||
					!tide_time_parse(text, strlen(text), &back) || back != us)
					fail_msg("%s, %s", text, expected);
			}
		}
	}
	assert_true(us == TIDE_TIME_MAX + 2);
}

static void
round_trips(void **state)
{
	(void) state;
	test_seed("round_trips");
	for (int run = 0; run < 100000; run++)
	{
		int64_t us = TIDE_TIME_MIN +
					 (int64_t) (test_random() % (uint64_t) (TIDE_TIME_MAX - TIDE_TIME_MIN + 1));
		int64_t back;
		char text[TIDE_TIME_TEXT];

		assert_true(tide_time_format(text, us));
		assert_true(tide_time_parse(text, strlen(text), &back));
		assert_true(back == us);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(known),
		cmocka_unit_test(refuses),
		cmocka_unit_test(every_day),
		cmocka_unit_test(round_trips),
	};

	return cmocka_run_group_tests_name("common_time", tests, NULL, NULL);
}
