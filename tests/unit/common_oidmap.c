/*
 * common_oidmap.c
 *		Tests of the table from numbers to pointers.
 *
 * Owns: that it finds what was added, and only that, while it grows.
 */
#include "common_test.h"

#include "tide_oidmap.h"

#define MAX_OIDS 3000

static size_t released;

static void
release(void *value)
{
	(void) value;
	released++;
}

static void
empty(void **state)
{
	TideOidMap map = {0};

	(void) state;
	assert_null(tide_oidmap_get(&map, 0));
	assert_null(tide_oidmap_get(&map, 16384));
	tide_oidmap_free(&map, release);
	assert_int_equal(released, 0);
}

/* Numbers in a row, spread, and such that differ only in high bits. */
static uint32_t
nth(int spread, uint32_t i)
{
	return spread == 0 ? 16384 + i : spread == 1 ? i * UINT32_C(2654435769) : i << 19;
}

static void
finds_all(void **state)
{
	static char values[MAX_OIDS];

	(void) state;
	for (int spread = 0; spread < 3; spread++)
	{
		TideOidMap map = {0};

		released = 0;
		for (uint32_t i = 0; i < MAX_OIDS; i++)
		{
			assert_null(tide_oidmap_get(&map, nth(spread, i)));
			assert_true(tide_oidmap_add(&map, nth(spread, i), &values[i]));
			if (i % 97 != 0)
				continue;
			for (uint32_t j = 0; j <= i; j++)
				assert_ptr_equal(tide_oidmap_get(&map, nth(spread, j)), &values[j]);
		}
		assert_int_equal(map.n, MAX_OIDS);
		assert_true(map.cap >= 2 * map.n);
		tide_oidmap_free(&map, release);
		assert_int_equal(released, MAX_OIDS);
		assert_null(tide_oidmap_get(&map, nth(spread, 0)));
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(empty),
		cmocka_unit_test(finds_all),
	};

	return cmocka_run_group_tests_name("common_oidmap", tests, NULL, NULL);
}
