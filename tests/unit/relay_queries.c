/*
 * relay_queries.c
 *		Tests of relay/sql/queries.sql as sql2c.pl made it: what a review would look
 *		for in every statement.  That they run is shown by the whole-system tests.
 */
#include "relay_test.h"

#include <stdbool.h>

#include "queries.h"

static void
names_are_unique(void **state)
{
	(void) state;
	assert_non_null(tide_queries[0].name);
	for (const TideQuery *a = tide_queries; a->name != NULL; a++)
	{
		for (const TideQuery *b = a + 1; b->name != NULL; b++)
			assert_string_not_equal(a->name, b->name);
	}
}

static bool
begins_with(const char *sql, const char *word)
{
	size_t len = strlen(word);

	return strncmp(sql, word, len) == 0 && (sql[len] == ' ' || sql[len] == '\0');
}

/* One statement each, without its semicolon and without comments. */
static void
are_single_statements(void **state)
{
	(void) state;
	for (const TideQuery *query = tide_queries; query->name != NULL; query++)
	{
		assert_true(begins_with(query->sql, "SELECT") || begins_with(query->sql, "CALL") ||
					begins_with(query->sql, "BEGIN") || begins_with(query->sql, "COMMIT") ||
					begins_with(query->sql, "ROLLBACK") || begins_with(query->sql, "LISTEN"));
		assert_lacks(query->sql, ";");
		assert_lacks(query->sql, "--");
	}
}

/* $1 to $n, none left out, each with a cast. */
static void
parameters_have_casts(void **state)
{
	(void) state;
	for (const TideQuery *query = tide_queries; query->name != NULL; query++)
	{
		unsigned long seen = 0;

		for (const char *s = strchr(query->sql, '$'); s != NULL; s = strchr(s + 1, '$'))
		{
			char *end;
			unsigned long n = strtoul(s + 1, &end, 10);

			assert_true(n >= 1 && n <= 30);
			seen |= 1UL << n;
			if (strncmp(end, "::", 2) != 0)
				fail_msg("%s: $%lu has no cast", query->name, n);
		}
		/* Bits 1 to n: no gap means that adding the lowest clears them all. */
		assert_int_equal((seen + 2) & seen, 0);
	}
}

/* Every function or table of a FROM, a SELECT or a CALL is schema-qualified. */
static void
tide_is_named(void **state)
{
	(void) state;
	for (const TideQuery *query = tide_queries; query->name != NULL; query++)
	{
		if (strchr(query->sql, '(') == NULL && strstr(query->sql, "FROM") == NULL)
			continue; /* "SELECT 1" */
		if (strstr(query->sql, "tide.") == NULL && strstr(query->sql, "pg_catalog.") == NULL)
			fail_msg("%s names no schema", query->name);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_are_unique),
		cmocka_unit_test(are_single_statements),
		cmocka_unit_test(parameters_have_casts),
		cmocka_unit_test(tide_is_named),
	};

	return cmocka_run_group_tests_name("relay_queries", tests, NULL, NULL);
}
