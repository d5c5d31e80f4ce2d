/*
 * exit_codes.h
 *		What pg_tide's exit status means.
 *
 * Owns: the one list of exit codes.  "pg_tide help exit-codes" prints it, and
 * deploy/pg_tide@.service uses it (RestartPreventExitStatus).
 */
#ifndef TIDE_EXIT_CODES_H
#define TIDE_EXIT_CODES_H

#include "error.h"

/* X(name, value, meaning) */
#define TIDE_EXIT_CODES(X)                                                               \
	X(OK, 0, "all went well")                                                            \
	X(PROBLEM, 1, "doctor found something wrong")                                        \
	X(USAGE, 2, "unknown command or option, or a missing argument")                      \
	X(CONFIG, 3, "the configuration can't work as written")                              \
	X(UNAVAILABLE, 4, "the database can't be reached or did not answer")                 \
	X(AUTH, 5, "the database refused the credentials")                                   \
	X(PERMISSION, 6, "the database role may not do this")                                \
	X(UNDRAINED, 7, "stopped before everything in flight was finished; nothing is lost") \
	X(INTERNAL, 70, "a bug in pg_tide")                                                  \
	X(NO_MEMORY, 71, "out of memory")

typedef enum TideExitCode
{
#define TIDE_EXIT_ENUM(name, value, meaning) TIDE_EXIT_##name = (value),
	TIDE_EXIT_CODES(TIDE_EXIT_ENUM)
#undef TIDE_EXIT_ENUM
} TideExitCode;

/* The exit code for a command that ended with this error. */
extern TideExitCode tide_exit_code(const TideError *err);

#endif /* TIDE_EXIT_CODES_H */
