/*
 * cli.h
 *		The command line: commands and options as tables.
 *
 * Owns: parsing, --help made from the tables, and how a command's failure is
 * shown.  Does not own: what a command does (cmd_*.c).
 */
#ifndef TIDE_CLI_H
#define TIDE_CLI_H

#include <stdbool.h>

#include "error.h"
#include "exit_codes.h"

typedef struct TideCliOption
{
	const char *name;		  /* long name, without dashes */
	char letter;			  /* short form; '\0': none */
	const char *argument;	  /* its name in --help; NULL: a flag */
	const char *default_text; /* taken if absent; NULL: none */
	const char *help;
} TideCliOption;

typedef struct TideCliArgs TideCliArgs;

typedef struct TideCommand
{
	const char *name;
	const char *operands;		  /* for --help; NULL: takes none */
	const char *summary;		  /* one line */
	const TideCliOption *options; /* ends with a row without a name */
	TideExitCode (*run)(const TideCliArgs *args);
} TideCommand;

/* The option's value or default; NULL: absent.  name must be in the command's table. */
extern const char *tide_cli_value(const TideCliArgs *args, const char *name);
extern bool tide_cli_flag(const TideCliArgs *args, const char *name);
extern const char *tide_cli_operand(const TideCliArgs *args); /* NULL: none */

/* Number between min and max, or a message on standard error and false. */
extern bool tide_cli_int(const TideCliArgs *args, const char *name, int min, int max, int *value);

/* Sets the log up from --log-level and --log-format; false: a message was written. */
extern bool tide_cli_init_log(const TideCliArgs *args);

/* A command's last words on standard error; returns the exit code that fits. */
extern TideExitCode tide_cli_fail(const TideError *err);
/* The same for wrong usage, with a pointer to --help. */
extern TideExitCode
tide_cli_usage_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

extern int tide_cli_main(int argc, char **argv);

extern const TideCommand tide_cmd_relay;
extern const TideCommand tide_cmd_status;
extern const TideCommand tide_cmd_doctor;

#endif /* TIDE_CLI_H */
