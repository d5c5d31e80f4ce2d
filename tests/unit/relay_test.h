/*
 * relay_test.h
 *		What every unit test of the relay's parts includes.
 */
#ifndef RELAY_TEST_H
#define RELAY_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define assert_contains(text, part)                              \
	do                                                           \
	{                                                            \
		if (strstr((text), (part)) == NULL)                      \
			fail_msg("\"%s\" is not in \"%s\"", (part), (text)); \
	}                                                            \
	while (0)

#define assert_lacks(text, part)                             \
	do                                                       \
	{                                                        \
		if (strstr((text), (part)) != NULL)                  \
			fail_msg("\"%s\" is in \"%s\"", (part), (text)); \
	}                                                        \
	while (0)

#endif /* RELAY_TEST_H */
