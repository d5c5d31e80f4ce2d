/*
 * common_test.h
 *		What the unit tests of common/ share: cmocka, a seeded generator.
 *
 * Owns: the random numbers of property tests.  Does not own: any case.
 *
 * Each property test calls test_seed(), which prints the seed; the environment
 * variable TIDE_TEST_SEED repeats a run.
 */
#ifndef COMMON_TEST_H
#define COMMON_TEST_H

/* cmocka.h needs these before it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

static uint64_t test_state;

static inline void
test_seed(const char *what)
{
	const char *given = getenv("TIDE_TEST_SEED");
	uint64_t seed = given != NULL ? strtoull(given, NULL, 10) : (uint64_t) time(NULL);

	printf("%s: TIDE_TEST_SEED=%llu\n", what, (unsigned long long) seed);
	test_state = seed;
}

/* splitmix64 */
static inline uint64_t
test_random(void)
{
	uint64_t z = test_state += UINT64_C(0x9E3779B97F4A7C15);

	z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
	return z ^ (z >> 31);
}

/* 0 to n - 1 */
static inline size_t
test_below(size_t n)
{
	return (size_t) (test_random() % n);
}

/* A random string over an alphabet, with a NUL; at most max bytes. */
static inline size_t
test_string(char *out, size_t max, const char *alphabet)
{
	size_t len = test_below(max + 1);

	for (size_t i = 0; i < len; i++)
		out[i] = alphabet[test_below(strlen(alphabet))];
	out[len] = '\0';
	return len;
}

static inline void
test_bytes(char *out, size_t len)
{
	for (size_t i = 0; i < len; i++)
		out[i] = (char) test_random();
}

#endif /* COMMON_TEST_H */
