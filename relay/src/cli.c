/*
 * cli.c
 *		The command line: commands and options as tables.
 */
#include "cli.h"

#include <errno.h>
#include <getopt.h>
#include <libpq-fe.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "help_config.h"
#include "log.h"

#define MAX_OPTIONS 16

struct TideCliArgs
{
	const TideCommand *command;
	const char *values[MAX_OPTIONS]; /* parallel to the command's table; borrowed from argv */
	const char *operand;
};

static TideExitCode run_version(const TideCliArgs *args);
static TideExitCode run_help(const TideCliArgs *args);

static const TideCliOption no_options[] = {{NULL, '\0', NULL, NULL, NULL}};

static const TideCommand cmd_version = {
	.name = "version",
	.summary = "show the version",
	.options = no_options,
	.run = run_version,
};

static const TideCommand cmd_help = {
	.name = "help",
	.operands = "[COMMAND | config | exit-codes]",
	.summary = "show how to use pg_tide, or one command",
	.options = no_options,
	.run = run_help,
};

static const TideCommand *const commands[] = {
	&tide_cmd_relay, &tide_cmd_status, &tide_cmd_doctor, &cmd_version, &cmd_help,
};

#define N_COMMANDS (sizeof(commands) / sizeof(commands[0]))

static const struct
{
	const char *name;
	int value;
	const char *meaning;
} exit_codes[] = {
#define EXIT_ROW(name, value, meaning) {#name, value, meaning},
	TIDE_EXIT_CODES(EXIT_ROW)
#undef EXIT_ROW
};

TideExitCode
tide_exit_code(const TideError *err)
{
	switch (err->class)
	{
		case TIDE_ERR_NONE:
			return TIDE_EXIT_OK;
		case TIDE_ERR_UNAVAILABLE:
		case TIDE_ERR_TIMEOUT:
		case TIDE_ERR_THROTTLED:
			return TIDE_EXIT_UNAVAILABLE;
		case TIDE_ERR_AUTH:
			return TIDE_EXIT_AUTH;
		case TIDE_ERR_PERMISSION:
			return TIDE_EXIT_PERMISSION;
		case TIDE_ERR_CONFIG:
			return TIDE_EXIT_CONFIG;
		case TIDE_ERR_STOPPED:
			return TIDE_EXIT_UNDRAINED;
		case TIDE_ERR_DATA:
		case TIDE_ERR_STALE:
		case TIDE_ERR_INTERNAL:
			break;
	}
	return TIDE_EXIT_INTERNAL;
}

TideExitCode
tide_cli_fail(const TideError *err)
{
	fprintf(stderr, "pg_tide: %s%s%s%s\n", err->message, err->code[0] != '\0' ? " [" : "",
			err->code, err->code[0] != '\0' ? "]" : "");
	if (err->hint[0] != '\0')
		fprintf(stderr, "hint: %s\n", err->hint);
	return tide_exit_code(err);
}

TideExitCode
tide_cli_usage_error(const char *fmt, ...)
{
	va_list args;

	fputs("pg_tide: ", stderr);
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fputs("\nhint: \"pg_tide help\" lists the commands, \"pg_tide COMMAND --help\" the options\n",
		  stderr);
	return TIDE_EXIT_USAGE;
}

/* ---- what a command sees of its options ---- */

static size_t
option_index(const TideCliArgs *args, const char *name)
{
	for (size_t i = 0; args->command->options[i].name != NULL; i++)
	{
		if (strcmp(args->command->options[i].name, name) == 0)
			return i;
	}
	tide_log(TIDE_LOG_ERROR, "option --%s is not in the table of %s", name, args->command->name);
	abort();
}

const char *
tide_cli_value(const TideCliArgs *args, const char *name)
{
	size_t i = option_index(args, name);

	return args->values[i] != NULL ? args->values[i] : args->command->options[i].default_text;
}

bool
tide_cli_flag(const TideCliArgs *args, const char *name)
{
	return args->values[option_index(args, name)] != NULL;
}

const char *
tide_cli_operand(const TideCliArgs *args)
{
	return args->operand;
}

bool
tide_cli_int(const TideCliArgs *args, const char *name, int min, int max, int *value)
{
	const char *text = tide_cli_value(args, name);
	char *end;
	long number;

	errno = 0;
	number = strtol(text, &end, 10);
	if (errno != 0 || end == text || *end != '\0' || number < min || number > max)
	{
		tide_cli_usage_error("--%s: \"%s\" is not a number from %d to %d", name, text, min, max);
		return false;
	}
	*value = (int) number;
	return true;
}

bool
tide_cli_init_log(const TideCliArgs *args)
{
	const char *level_name = tide_cli_value(args, "log-level");
	const char *format_name = tide_cli_value(args, "log-format");
	TideLogLevel level;
	TideLogFormat format;

	if (!tide_log_level_parse(level_name, &level))
	{
		tide_cli_usage_error("--log-level: \"%s\" is none of error, warn, info, debug", level_name);
		return false;
	}
	if (!tide_log_format_parse(format_name, &format))
	{
		tide_cli_usage_error("--log-format: \"%s\" is none of text, json", format_name);
		return false;
	}
	tide_log_init(level, format);
	return true;
}

/* ---- help ---- */

static void
print_overview(FILE *out)
{
	fprintf(out,
			"pg_tide %s: moves events and rows between PostgreSQL databases\n\n"
			"usage: pg_tide COMMAND [OPTIONS]\n\ncommands:\n",
			TIDE_VERSION);
	for (size_t i = 0; i < N_COMMANDS; i++)
		fprintf(out, "  %-10s %s\n", commands[i]->name, commands[i]->summary);
	fputs(
		"\n\"pg_tide COMMAND --help\" shows a command's options, \"pg_tide help config\" the keys of\n"
		"pipelines and links, \"pg_tide help exit-codes\" what the exit status means.\n",
		out);
}

static void
print_option(FILE *out, const TideCliOption *option)
{
	char left[64];

	snprintf(left, sizeof(left), "%c%c%s --%s%s%s", option->letter != '\0' ? '-' : ' ',
			 option->letter != '\0' ? option->letter : ' ', option->letter != '\0' ? "," : " ",
			 option->name, option->argument != NULL ? " " : "",
			 option->argument != NULL ? option->argument : "");
	fprintf(out, "  %-28s %s", left, option->help);
	if (option->default_text != NULL)
		fprintf(out, " (default: %s)", option->default_text);
	putc('\n', out);
}

static void
print_command_help(FILE *out, const TideCommand *command)
{
	static const TideCliOption help_option = {"help", '\0', NULL, NULL, "show this"};

	fprintf(out, "pg_tide %s: %s\n\nusage: pg_tide %s [OPTIONS]%s%s\n\noptions:\n", command->name,
			command->summary, command->name, command->operands != NULL ? " " : "",
			command->operands != NULL ? command->operands : "");
	for (const TideCliOption *option = command->options; option->name != NULL; option++)
		print_option(out, option);
	print_option(out, &help_option);
}

static void
print_exit_codes(FILE *out)
{
	fputs("exit status of pg_tide:\n", out);
	for (size_t i = 0; i < sizeof(exit_codes) / sizeof(exit_codes[0]); i++)
		fprintf(out, "  %3d  %-12s %s\n", exit_codes[i].value, exit_codes[i].name,
				exit_codes[i].meaning);
}

static const TideCommand *
find_command(const char *name)
{
	for (size_t i = 0; i < N_COMMANDS; i++)
	{
		if (strcmp(commands[i]->name, name) == 0)
			return commands[i];
	}
	return NULL;
}

static TideExitCode
run_help(const TideCliArgs *args)
{
	const char *topic = tide_cli_operand(args);
	const TideCommand *command;

	if (topic == NULL)
		print_overview(stdout);
	else if (strcmp(topic, "exit-codes") == 0)
		print_exit_codes(stdout);
	else if (strcmp(topic, "config") == 0)
		tide_print_config_help(stdout);
	else if ((command = find_command(topic)) != NULL)
		print_command_help(stdout, command);
	else
		return tide_cli_usage_error("there is no command \"%s\"", topic);
	return TIDE_EXIT_OK;
}

static TideExitCode
run_version(const TideCliArgs *args)
{
	int libpq = PQlibVersion();

	(void) args;
	printf("pg_tide %s (libpq %d.%d)\n", TIDE_VERSION, libpq / 10000, libpq % 10000);
	return TIDE_EXIT_OK;
}

/* ---- parsing ---- */

#define HELP_VALUE 1000
#define FIRST_LONG_VALUE 1001

/* getopt's two tables, made from ours.  An option's value is its index + FIRST_LONG_VALUE. */
static void
make_getopt_tables(const TideCommand *command, struct option *longs, char *shorts)
{
	size_t n = 0;

	*shorts++ = ':'; /* tells a missing argument from an unknown option */
	for (; command->options[n].name != NULL; n++)
	{
		const TideCliOption *option = &command->options[n];

		longs[n] = (struct option){option->name,
								   option->argument != NULL ? required_argument : no_argument, NULL,
								   FIRST_LONG_VALUE + (int) n};
		if (option->letter != '\0')
		{
			*shorts++ = option->letter;
			if (option->argument != NULL)
				*shorts++ = ':';
		}
	}
	*shorts = '\0';
	longs[n++] = (struct option){"help", no_argument, NULL, HELP_VALUE};
	longs[n] = (struct option){NULL, 0, NULL, 0};
}

static size_t
index_of_value(const TideCommand *command, int value)
{
	size_t i = 0;

	if (value >= FIRST_LONG_VALUE)
		return (size_t) (value - FIRST_LONG_VALUE);
	while (command->options[i].letter != value)
		i++;
	return i;
}

/* argv[0] is the command's name.  false: *code says how to exit. */
static bool
parse_options(TideCliArgs *args, int argc, char **argv, TideExitCode *code)
{
	struct option longs[MAX_OPTIONS + 2];
	char shorts[2 * MAX_OPTIONS + 2];
	int value;

	make_getopt_tables(args->command, longs, shorts);
	opterr = 0;
	optind = 1;
	while ((value = getopt_long(argc, argv, shorts, longs, NULL)) != -1)
	{
		if (value == HELP_VALUE)
		{
			print_command_help(stdout, args->command);
			*code = TIDE_EXIT_OK;
			return false;
		}
		if (value == ':' || value == '?')
		{
			*code = tide_cli_usage_error("%s: %s \"%s\"", args->command->name,
										 value == ':' ? "no argument given to" : "unknown option",
										 argv[optind - 1]);
			return false;
		}
		args->values[index_of_value(args->command, value)] = optarg != NULL ? optarg : "";
	}
	if (optind < argc && args->command->operands != NULL)
		args->operand = argv[optind++];
	if (optind < argc)
	{
		*code = tide_cli_usage_error("%s: \"%s\" is not expected here", args->command->name,
									 argv[optind]);
		return false;
	}
	return true;
}

/* What people type without thinking. */
static const char *
command_name(const char *word)
{
	if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "-?") == 0)
		return "help";
	if (strcmp(word, "--version") == 0 || strcmp(word, "-V") == 0)
		return "version";
	return word;
}

int
tide_cli_main(int argc, char **argv)
{
	TideCliArgs args = {0};
	TideExitCode code;

	if (argc < 2)
	{
		print_overview(stderr);
		return TIDE_EXIT_USAGE;
	}
	args.command = find_command(command_name(argv[1]));
	if (args.command == NULL)
		return tide_cli_usage_error("there is no command \"%s\"", argv[1]);
	if (parse_options(&args, argc - 1, argv + 1, &code))
		code = args.command->run(&args);
	if (fflush(stdout) != 0 && code == TIDE_EXIT_OK)
	{
		fprintf(stderr, "pg_tide: could not write the output: %s\n", strerror(errno));
		code = TIDE_EXIT_INTERNAL;
	}
	return code;
}
