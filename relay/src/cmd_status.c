/*
 * cmd_status.c
 *		"pg_tide status": what a database's pipelines, outboxes and inboxes are at.
 *
 * One query returns everything as one document (queries.sql, "status");
 * --json prints it, otherwise it becomes tables.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "mem.h"
#include "pg_json.h"
#include "queries.h"
#include "table.h"

static const TideCliOption options[] = {
	{"dbname", 'd', "CONNINFO", NULL, "libpq connection string or URI (default: PG* variables)"},
	{"json", '\0', NULL, NULL, "print one JSON document"},
	{"log-level", '\0', "LEVEL", "warn", "error, warn, info or debug"},
	{"log-format", '\0', "FORMAT", "text", "text or json"},
	{NULL, '\0', NULL, NULL, NULL},
};

/* How a member of a row's object becomes a cell; the text is the caller's to free. */
typedef char *(*FormatCell)(const json_t *row, const char *key);

typedef struct Column
{
	TideTableColumn look;
	const char *key;
	FormatCell format;
} Column;

static char *
format_text(const json_t *row, const char *key)
{
	const json_t *value = json_object_get(row, key);

	if (json_is_string(value))
		return tide_strdup(json_string_value(value));
	if (json_is_integer(value))
		return tide_printf("%lld", (long long) json_integer_value(value));
	return tide_strdup("-");
}

/* 2026-11-21T10:09:26.123456+00:00 is too wide: seconds will do. */
static char *
format_time(const json_t *row, const char *key)
{
	char *text = format_text(row, key);
	char *fraction = strchr(text, '.');
	char *day_end = strchr(text, 'T');

	if (fraction != NULL)
		*fraction = '\0';
	if (day_end != NULL)
		*day_end = ' ';
	return text;
}

static char *
format_interval(const json_t *row, const char *key)
{
	char *text = format_text(row, key);
	char *fraction = strchr(text, '.');

	if (fraction != NULL && strlen(fraction) > 4)
		fraction[4] = '\0'; /* milliseconds */
	return text;
}

static char *
format_bytes(const json_t *row, const char *key)
{
	static const char *const units[] = {"B", "kB", "MB", "GB", "TB"};
	double value = (double) tide_json_int(row, key);
	size_t unit = 0;

	while (value >= 10240 && unit + 1 < sizeof(units) / sizeof(units[0]))
	{
		value /= 1024;
		unit++;
	}
	return tide_printf("%.0f %s", value, units[unit]);
}

static char *
format_state(const json_t *row, const char *key)
{
	return tide_json_bool(row, "enabled") ? format_text(row, key) : tide_strdup("disabled");
}

static char *
format_enabled(const json_t *row, const char *key)
{
	return tide_strdup(tide_json_bool(row, key) ? "yes" : "no");
}

static char *
format_list(const json_t *row, const char *key)
{
	const json_t *list = json_object_get(row, key);
	char *text = tide_strdup("");

	for (size_t i = 0; i < json_array_size(list); i++)
	{
		const char *name = json_string_value(json_array_get(list, i));
		char *longer = tide_printf("%s%s%s", text, i > 0 ? ", " : "", name != NULL ? name : "?");

		free(text);
		text = longer;
	}
	if (text[0] != '\0')
		return text;
	free(text);
	return tide_strdup("-");
}

/* "2 of 3": how many segments hold events, the current one included. */
static char *
format_segments(const json_t *row, const char *key)
{
	const json_t *segments = json_object_get(row, key);
	int used = 0;

	for (size_t i = 0; i < json_array_size(segments); i++)
	{
		const json_t *segment = json_array_get(segments, i);

		used += tide_json_bool(segment, "current") || tide_json_text(segment, "closed_at") != NULL;
	}
	return tide_printf("%d of %zu", used, json_array_size(segments));
}

static const Column pipeline_columns[] = {
	{{"PIPELINE", false}, "name", format_text}, {{"DIRECTION", false}, "direction", format_text},
	{{"TARGET", false}, "target", format_text}, {{"STATE", false}, "state", format_state},
	{{"LAG", true}, "lag", format_interval},	{{"OWNER", false}, "owner", format_text},
};

static const Column outbox_columns[] = {
	{{"OUTBOX", false}, "outbox", format_text},
	{{"ENABLED", false}, "enabled", format_enabled},
	{{"RETENTION", true}, "retention", format_text},
	{{"SEGMENTS", true}, "segments", format_segments},
	{{"SIZE", true}, "bytes", format_bytes},
	{{"PIPELINES", false}, "pipelines", format_list},
};

static const Column inbox_columns[] = {
	{{"INBOX", false}, "name", format_text},
	{{"PENDING", true}, "pending", format_text},
	{{"LEASED", true}, "leased", format_text},
	{{"RETRYING", true}, "retrying", format_text},
	{{"DEAD", true}, "dead", format_text},
	{{"OLDEST PENDING", false}, "oldest_pending", format_time},
	{{"HANDLER", false}, "handler", format_text},
};

static void
note_last_error(TideTable *table, const json_t *row)
{
	const char *error = tide_json_text(row, "last_error");
	char *when;
	char *note;

	if (error == NULL)
		return;
	when = format_time(row, "last_error_at");
	note = tide_printf("last error%s%s: %s", when[0] != '-' ? " at " : "",
					   when[0] != '-' ? when : "", error);
	tide_table_note(table, note);
	free(note);
	free(when);
}

static void
print_table(const json_t *rows, const Column *columns, size_t n_columns)
{
	TideTableColumn looks[8];
	TideTable *table;

	if (json_array_size(rows) == 0)
		return;
	for (size_t c = 0; c < n_columns; c++)
		looks[c] = columns[c].look;
	table = tide_table_new(looks, n_columns);
	for (size_t r = 0; r < json_array_size(rows); r++)
	{
		const json_t *row = json_array_get(rows, r);

		for (size_t c = 0; c < n_columns; c++)
		{
			char *text = columns[c].format(row, columns[c].key);

			tide_table_cell(table, text);
			free(text);
		}
		note_last_error(table, row);
	}
	putchar('\n');
	tide_table_write(table, stdout);
	tide_table_free(table);
}

#define PRINT_TABLE(rows, columns) \
	print_table(rows, columns, sizeof(columns) / sizeof((columns)[0]))

static void
print_field(const char *name, const char *value, const char *remark)
{
	printf("%-12s ", name);
	tide_write_safely(stdout, value != NULL ? value : "-");
	printf("%s\n", remark);
}

static void
print_status(const json_t *status)
{
	print_field("region", tide_json_text(status, "region"),
				tide_json_bool(status, "region_named") ? "" : " (made up; see tide.region_init)");
	print_field("database", tide_json_text(status, "database"), "");
	print_field("server", tide_json_text(status, "server_version"), "");
	print_field("extension", tide_json_text(status, "extension_version"), "");
	print_field("wake-up",
				tide_json_bool(status, "preloaded")
					? "at commit"
					: "by polling (pg_tide is not in shared_preload_libraries)",
				"");
	printf("%-12s %lld\n", "dead letters", tide_json_int(status, "dead_letters"));
	PRINT_TABLE(json_object_get(status, "pipelines"), pipeline_columns);
	PRINT_TABLE(json_object_get(status, "outboxes"), outbox_columns);
	PRINT_TABLE(json_object_get(status, "inboxes"), inbox_columns);
}

static TideExitCode
run(const TideCliArgs *args)
{
	TideError err = {0};
	TidePg *pg = NULL;
	json_t *status = NULL;
	bool ok;

	if (!tide_cli_init_log(args))
		return TIDE_EXIT_USAGE;
	ok = tide_pg_open(tide_cli_value(args, "dbname"), "status", NULL, &pg, &err) &&
		 tide_pg_json(pg, tide_q_status, &status, &err);
	tide_pg_close(pg);
	if (!ok)
		return tide_cli_fail(&err);
	if (tide_cli_flag(args, "json"))
	{
		json_dumpf(status, stdout, JSON_INDENT(2) | JSON_SORT_KEYS);
		putchar('\n');
	}
	else
		print_status(status);
	json_decref(status);
	return TIDE_EXIT_OK;
}

const TideCommand tide_cmd_status = {
	.name = "status",
	.summary = "show pipelines, outboxes and inboxes of a database",
	.options = options,
	.run = run,
};
