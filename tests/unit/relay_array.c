/*
 * relay_array.c
 *		Tests of relay/src/pg_array.c: the bytes a server expects.
 */
#include "relay_test.h"

#include "pg.h"

static void
check(TideArray *array, const char *bytes, size_t len)
{
	int got_len;
	const char *got = tide_array_data(array, &got_len);

	assert_int_equal(got_len, len);
	assert_memory_equal(got, bytes, len);
}

#define CHECK(array, bytes) check(array, bytes, sizeof(bytes) - 1)

static void
text_arrays(void **state)
{
	TideArray *array = tide_array_new(TIDE_ARRAY_TEXT, 0);

	(void) state;
	CHECK(array, "\0\0\0\0"
				 "\0\0\0\0"
				 "\0\0\0\31");
	tide_array_add(array, "ab", 2);
	tide_array_add(array, "", 0);
	tide_array_add(array, "{\"x'\\", 5);
	CHECK(array, "\0\0\0\1"
				 "\0\0\0\0"
				 "\0\0\0\31"
				 "\0\0\0\3"
				 "\0\0\0\1"
				 "\0\0\0\2"
				 "ab"
				 "\0\0\0\0"
				 "\0\0\0\5"
				 "{\"x'\\");
	tide_array_reset(array);
	tide_array_add(array, NULL, 0);
	CHECK(array, "\0\0\0\1"
				 "\0\0\0\1"
				 "\0\0\0\31"
				 "\0\0\0\1"
				 "\0\0\0\1"
				 "\377\377\377\377");

	/* The flag for NULLs does not outlive a reset. */
	tide_array_reset(array);
	tide_array_add(array, "z", 1);
	CHECK(array, "\0\0\0\1"
				 "\0\0\0\0"
				 "\0\0\0\31"
				 "\0\0\0\1"
				 "\0\0\0\1"
				 "\0\0\0\1"
				 "z");
	tide_array_free(array);
	tide_array_free(NULL);
}

static void
jsonb_arrays(void **state)
{
	TideArray *array = tide_array_new(TIDE_ARRAY_JSONB, 2);

	(void) state;
	tide_array_add(array, "{}", 2);
	tide_array_add(array, NULL, 0);
	CHECK(array, "\0\0\0\1"
				 "\0\0\0\1"
				 "\0\0\16\332"
				 "\0\0\0\2"
				 "\0\0\0\1"
				 "\0\0\0\3"
				 "\1{}"
				 "\377\377\377\377");
	tide_array_free(array);
}

static void
int8_arrays(void **state)
{
	TideArray *array = tide_array_new(TIDE_ARRAY_INT8, 2);

	(void) state;
	tide_array_add_int8(array, 1);
	tide_array_add_int8(array, -2);
	tide_array_add_int8(array, INT64_C(0x0102030405060708));
	CHECK(array, "\0\0\0\1"
				 "\0\0\0\0"
				 "\0\0\0\24"
				 "\0\0\0\3"
				 "\0\0\0\1"
				 "\0\0\0\10"
				 "\0\0\0\0\0\0\0\1"
				 "\0\0\0\10"
				 "\377\377\377\377\377\377\377\376"
				 "\0\0\0\10"
				 "\1\2\3\4\5\6\7\10");
	tide_array_free(array);
}

static void
large_arrays(void **state)
{
	TideArray *array = tide_array_new(TIDE_ARRAY_TEXT, 1);
	char *big = calloc(1, 1000000);
	int len;

	(void) state;
	memset(big, 'x', 1000000);
	for (int i = 0; i < 20; i++)
		tide_array_add(array, big, 1000000);
	assert_int_equal(tide_array_data(array, &len)[15], 20);
	assert_int_equal(len, 20 + 20 * 1000004);
	free(big);
	tide_array_free(array);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(text_arrays),
		cmocka_unit_test(jsonb_arrays),
		cmocka_unit_test(int8_arrays),
		cmocka_unit_test(large_arrays),
	};

	return cmocka_run_group_tests_name("relay_array", tests, NULL, NULL);
}
