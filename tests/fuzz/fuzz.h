/*
 * fuzz.h
 *		What the fuzzers share.
 *
 * Owns: the entry point's shape and CHECK, which stays on in every build.
 *
 * A fuzzer looks for crashes and for broken promises: each CHECK is a sentence
 * of a header in common/.
 */
#ifndef TIDE_FUZZ_H
#define TIDE_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(condition)                                                            \
	do                                                                              \
	{                                                                               \
		if (!(condition))                                                           \
		{                                                                           \
			fprintf(stderr, "%s:%d: broken: %s\n", __FILE__, __LINE__, #condition); \
			abort();                                                                \
		}                                                                           \
	}                                                                               \
	while (0)

/* The input as a C string of exactly its size on the heap, so that reading past it is seen. */
static inline char *
fuzz_string(const uint8_t *data, size_t size)
{
	char *s = malloc(size + 1);

	CHECK(s != NULL);
	if (size > 0)
		memcpy(s, data, size);
	s[size] = '\0';
	return s;
}

#endif /* TIDE_FUZZ_H */
