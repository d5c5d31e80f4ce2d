/*
 * common_route.c
 *		Tests of routing decisions.
 *
 * Owns: the echo rule's cases.
 */
#include "common_test.h"

#include "tide_route.h"

static void
echoes(void **state)
{
	(void) state;
	assert_true(tide_is_echo("us-east", 7, "us-east", 7));
	assert_false(tide_is_echo("us-east", 7, "us-east-2", 9));
	assert_false(tide_is_echo("us-east-2", 9, "us-east", 7));
	assert_false(tide_is_echo("us-east", 7, "eu-west", 7));
	assert_false(tide_is_echo("US-EAST", 7, "us-east", 7));
	assert_false(tide_is_echo(NULL, 0, "us-east", 7));
	assert_false(tide_is_echo("", 0, "us-east", 7));
	assert_false(tide_is_echo("", 0, "", 0));
	assert_false(tide_is_echo("us-east", 7, NULL, 0));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(echoes),
	};

	return cmocka_run_group_tests_name("common_route", tests, NULL, NULL);
}
