/*
 * cmd_status.c
 *		"pg_tide status": what a database's pipelines, links, outboxes and inboxes are at.
 *
 * One query returns everything as one document (queries.sql, "status");
 * --json prints it, otherwise it becomes tables.  Links and slots are in
 * cmd_status_rows.c, --watch is in cmd_status_watch.c.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "mem.h"
#include "pg_json.h"
#include "queries.h"
#include "status.h"

static const TideCliOption options[] = {
	{"dbname", 'd', "CONNINFO", NULL, "libpq connection string or URI (default: PG* variables)"},
	{"json", '\0', NULL, NULL, "print one JSON document"},
	{"watch", '\0', NULL, NULL, "show it again every second, until interrupted"},
	{"log-level", '\0', "LEVEL", "warn", "error, warn, info or debug"},
	{"log-format", '\0', "FORMAT", "text", "text or json"},
	{NULL, '\0', NULL, NULL, NULL},
};

char *
tide_format_text(const json_t *row, const char *key)
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
	char *text = tide_format_text(row, key);
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
	char *text = tide_format_text(row, key);
	char *fraction = strchr(text, '.');

	if (fraction != NULL && strlen(fraction) > 4)
		fraction[4] = '\0'; /* milliseconds */
	return text;
}

char *
tide_format_bytes(const json_t *row, const char *key)
{
	static const char *const units[] = {"B", "kB", "MB", "GB", "TB"};
	double value = json_number_value(json_object_get(row, key));
	size_t unit = 0;

	if (!json_is_number(json_object_get(row, key)))
		return tide_strdup("-");
	while (fabs(value) >= 10240 && unit + 1 < sizeof(units) / sizeof(units[0]))
	{
		value /= 1024;
		unit++;
	}
	return tide_printf("%.0f %s", value, units[unit]);
}

char *
tide_format_seconds(const json_t *row, const char *key)
{
	double value = json_number_value(json_object_get(row, key));

	if (!json_is_number(json_object_get(row, key)))
		return tide_strdup("-");
	if (value < 9.95)
		return tide_printf("%.1f s", value);
	if (value < 600)
		return tide_printf("%.0f s", value);
	if (value < 36000)
		return tide_printf("%.0f min", value / 60);
	if (value < 864000)
		return tide_printf("%.0f h", value / 3600);
	return tide_printf("%.0f d", value / 86400);
}

static char *
format_state(const json_t *row, const char *key)
{
	return tide_json_bool(row, "enabled") ? tide_format_text(row, key) : tide_strdup("disabled");
}

char *
tide_format_yes(const json_t *row, const char *key)
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

static const TideStatusColumn pipeline_columns[] = {
	{{"PIPELINE", false}, "name", tide_format_text},
	{{"DIRECTION", false}, "direction", tide_format_text},
	{{"TARGET", false}, "target", tide_format_text},
	{{"STATE", false}, "state", format_state},
	{{"LAG", true}, "lag", format_interval},
	{{"OWNER", false}, "owner", tide_format_text},
};

static const TideStatusColumn outbox_columns[] = {
	{{"OUTBOX", false}, "outbox", tide_format_text},
	{{"ENABLED", false}, "enabled", tide_format_yes},
	{{"RETENTION", true}, "retention", tide_format_text},
	{{"SEGMENTS", true}, "segments", format_segments},
	{{"SIZE", true}, "bytes", tide_format_bytes},
	{{"PIPELINES", false}, "pipelines", format_list},
};

static const TideStatusColumn inbox_columns[] = {
	{{"INBOX", false}, "name", tide_format_text},
	{{"PENDING", true}, "pending", tide_format_text},
	{{"LEASED", true}, "leased", tide_format_text},
	{{"RETRYING", true}, "retrying", tide_format_text},
	{{"DEAD", true}, "dead", tide_format_text},
	{{"OLDEST PENDING", false}, "oldest_pending", format_time},
	{{"HANDLER", false}, "handler", tide_format_text},
};

char *
tide_status_last_error(const json_t *row)
{
	const char *error = tide_json_text(row, "last_error");
	char *when;
	char *note;

	if (error == NULL)
		return NULL;
	when = format_time(row, "last_error_at");
	note = tide_printf("last error%s%s: %s", when[0] != '-' ? " at " : "",
					   when[0] != '-' ? when : "", error);
	free(when);
	return note;
}

#define MAX_COLUMNS 12

void
tide_status_table(FILE *out, const json_t *rows, const TideStatusColumn *columns, size_t n_columns,
				  TideFormatNote make_note)
{
	TideTableColumn looks[MAX_COLUMNS];
	TideTable *table;

	if (json_array_size(rows) == 0)
		return;
	for (size_t c = 0; c < n_columns; c++)
		looks[c] = columns[c].look;
	table = tide_table_new(looks, n_columns);
	for (size_t r = 0; r < json_array_size(rows); r++)
	{
		const json_t *row = json_array_get(rows, r);
		char *note;

		for (size_t c = 0; c < n_columns; c++)
		{
			char *text = columns[c].format(row, columns[c].key);

			tide_table_cell(table, text);
			free(text);
		}
		note = make_note != NULL ? make_note(row) : NULL;
		if (note != NULL)
			tide_table_note(table, note);
		free(note);
	}
	putc('\n', out);
	tide_table_write(table, out);
	tide_table_free(table);
}

static void
print_field(FILE *out, const char *name, const char *value, const char *remark)
{
	fprintf(out, "%-12s ", name);
	tide_write_safely(out, value != NULL ? value : "-");
	fprintf(out, "%s\n", remark);
}

void
tide_status_print(FILE *out, const json_t *status)
{
	print_field(out, "region", tide_json_text(status, "region"),
				tide_json_bool(status, "region_named") ? "" : " (made up; see tide.region_init)");
	print_field(out, "database", tide_json_text(status, "database"), "");
	print_field(out, "server", tide_json_text(status, "server_version"), "");
	print_field(out, "extension", tide_json_text(status, "extension_version"), "");
	print_field(out, "wake-up",
				tide_json_bool(status, "preloaded")
					? "at commit"
					: "by polling (pg_tide is not in shared_preload_libraries)",
				"");
	fprintf(out, "%-12s %lld\n", "dead letters", tide_json_int(status, "dead_letters"));
	TIDE_STATUS_TABLE(out, json_object_get(status, "pipelines"), pipeline_columns,
					  tide_status_last_error);
	tide_status_print_rows(out, status);
	TIDE_STATUS_TABLE(out, json_object_get(status, "outboxes"), outbox_columns, NULL);
	TIDE_STATUS_TABLE(out, json_object_get(status, "inboxes"), inbox_columns, NULL);
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
	if (tide_cli_flag(args, "watch"))
		return tide_status_watch(tide_cli_value(args, "dbname"), tide_cli_flag(args, "json"));
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
		tide_status_print(stdout, status);
	json_decref(status);
	return TIDE_EXIT_OK;
}

const TideCommand tide_cmd_status = {
	.name = "status",
	.summary = "show pipelines, links, outboxes and inboxes of a database",
	.options = options,
	.run = run,
};
