/*
 * common_subject.c
 *		Tests of subjects and their wildcards.
 *
 * Owns: cases, and the algebra checked against all subjects of a small world.
 */
#include "common_test.h"

#include "tide_subject.h"

static void
validity(void **state)
{
	static const struct
	{
		const char *subject;
		bool plain;
		bool pattern;
	} cases[] = {
		{"orders.insert.us-east", true, true},
		{"a", true, true},
		{"caf\xC3\xA9.x", true, true},
		{"orders.*.us-east", false, true},
		{"*", false, true},
		{">", false, true},
		{"a.>", false, true},
		{"*.*.>", false, true},
		{"$JS.API", true, true},
		{"a.>.b", false, false},
		{">.a", false, false},
		{"a*", false, false},
		{"a.b>", false, false},
		{"**", false, false},
		{"", false, false},
		{".", false, false},
		{".a", false, false},
		{"a.", false, false},
		{"a..b", false, false},
		{"a b", false, false},
		{"a\tb", false, false},
		{"a\r\nb", false, false},
		{"a\x7F", false, false},
		{"a\xFF", false, false},
	};
	char longest[TIDE_SUBJECT_MAX + 2];

	(void) state;
	for (size_t i = 0; i < LENGTH(cases); i++)
	{
		if (tide_subject_valid(cases[i].subject, false) != cases[i].plain ||
			tide_subject_valid(cases[i].subject, true) != cases[i].pattern)
			fail_msg("\"%s\"", cases[i].subject);
	}
	memset(longest, 'a', sizeof(longest));
	longest[TIDE_SUBJECT_MAX + 1] = '\0';
	assert_false(tide_subject_valid(longest, false));
	longest[TIDE_SUBJECT_MAX] = '\0';
	assert_true(tide_subject_valid(longest, false));
}

static void
relations(void **state)
{
	static const struct
	{
		const char *a;
		const char *b;
		bool covers; /* a covers b */
		bool overlaps;
	} cases[] = {
		{"orders.*.us-east", "orders.insert.us-east", true, true},
		{"orders.*.us-east", "orders.insert.eu-west", false, false},
		{"orders.*.us-east", "orders.us-east", false, false},
		{"orders.>", "orders.*.us-east", true, true},
		{"orders.>", "orders", false, false},
		{"orders.*", "orders.>", false, true},
		{">", "a.b.c", true, true},
		{">", ">", true, true},
		{"*.>", ">", false, true},
		{">", "*.>", true, true},
		{"a.*", "*.b", false, true},
		{"a.*.c", "a.>", false, true},
		{"a.b", "a.b.>", false, false},
		{"*", "a", true, true},
		{"a", "*", false, true},
		{"*.*", ">", false, true},
		{"a", "ab", false, false},
	};

	(void) state;
	for (size_t i = 0; i < LENGTH(cases); i++)
	{
		if (tide_subject_covers(cases[i].a, cases[i].b) != cases[i].covers ||
			tide_subject_overlaps(cases[i].a, cases[i].b) != cases[i].overlaps ||
			tide_subject_overlaps(cases[i].b, cases[i].a) != cases[i].overlaps)
			fail_msg("%s, %s", cases[i].a, cases[i].b);
	}
}

/* All subjects of 1 to 4 tokens over three words; a pattern under test has at most 3 tokens. */
#define MAX_TOKENS 4
#define WORLD (3 + 9 + 27 + 81)

static const char *const words[] = {"a", "b", "c"};
static char world[WORLD][2 * MAX_TOKENS];

static void
make_world(void)
{
	size_t n = 0;
	size_t count = 1;

	for (size_t tokens = 1; tokens <= MAX_TOKENS; tokens++)
	{
		count *= LENGTH(words);
		for (size_t i = 0; i < count; i++, n++)
		{
			size_t rest = i;

			for (size_t t = 0; t < tokens; t++, rest /= LENGTH(words))
			{
				world[n][2 * t] = words[rest % LENGTH(words)][0];
				world[n][2 * t + 1] = t + 1 < tokens ? '.' : '\0';
			}
		}
	}
	assert_int_equal(n, WORLD);
}

/* What matching means, said another way: token by token, recursively. */
static bool
model_matches(const char *pattern, const char *subject)
{
	if (pattern[0] == '>')
		return true;
	if (pattern[0] != '*' && pattern[0] != subject[0])
		return false;
	if (pattern[1] == '\0' || subject[1] == '\0')
		return pattern[1] == subject[1];
	return model_matches(pattern + 2, subject + 2);
}

static void
random_pattern(char *out)
{
	size_t tokens = 1 + test_below(MAX_TOKENS - 1);

	for (size_t t = 0; t < tokens; t++)
	{
		char token = "ab**"[test_below(4)];

		if (t + 1 == tokens && test_below(3) == 0)
			token = '>';
		out[2 * t] = token;
		out[2 * t + 1] = t + 1 < tokens ? '.' : '\0';
	}
}

/*
 * "c" occurs in no pattern and the world is one token deeper than patterns, so
 * for these patterns the small world decides as all subjects would.
 */
static void
algebra(void **state)
{
	(void) state;
	make_world();
	test_seed("algebra");
	for (int run = 0; run < 20000; run++)
	{
		char a[2 * MAX_TOKENS];
		char b[2 * MAX_TOKENS];
		bool covers = true;
		bool overlaps = false;

		random_pattern(a);
		random_pattern(b);
		assert_true(tide_subject_valid(a, true));
		for (size_t i = 0; i < WORLD; i++)
		{
			bool in_a = model_matches(a, world[i]);
			bool in_b = model_matches(b, world[i]);

			assert_int_equal(tide_subject_matches(a, world[i]), in_a);
			covers &= in_a || !in_b;
			overlaps |= in_a && in_b;
		}
		if (tide_subject_covers(a, b) != covers || tide_subject_overlaps(a, b) != overlaps)
			fail_msg("%s, %s", a, b);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(validity),
		cmocka_unit_test(relations),
		cmocka_unit_test(algebra),
	};

	return cmocka_run_group_tests_name("common_subject", tests, NULL, NULL);
}
