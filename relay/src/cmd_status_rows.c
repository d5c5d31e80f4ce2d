/*
 * cmd_status_rows.c
 *		The part of "pg_tide status" about rows: links, their copies, slots.
 *
 * Owns: how links and slots look as tables, as a bar and as lines.  Does not
 * own: the numbers, which are those of the document (queries.sql, "status").
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "mem.h"
#include "pg_json.h"
#include "status.h"

#define BAR_WIDTH 24

/* 1234567 as "1.2 M": what a person compares at a glance.  Negative: nobody knows. */
static char *
short_count(double n)
{
	if (n < 0)
		return tide_strdup("?");
	if (n < 100000)
		return tide_printf("%.0f", n);
	if (n < 1e6)
		return tide_printf("%.0f k", n / 1e3);
	if (n < 1e9)
		return tide_printf("%.1f M", n / 1e6);
	return tide_printf("%.1f G", n / 1e9);
}

static char *
format_rate(const json_t *row, const char *key)
{
	const json_t *value = json_object_get(row, key);

	return json_is_number(value) ? tide_printf("%.0f", json_number_value(value)) : tide_strdup("-");
}

/* "[######..................]  25 %  1 of 3 tables, 20 k of 80 k rows, 12 MB" */
static char *
copy_text(const json_t *copy)
{
	double fraction = json_number_value(json_object_get(copy, "fraction"));
	int full = (int) floor(fraction * BAR_WIDTH);
	const json_t *total = json_object_get(copy, "rows_total");
	char bar[BAR_WIDTH + 1];
	char *rows = short_count((double) tide_json_int(copy, "rows_done"));
	char *rows_total = short_count(json_is_number(total) ? json_number_value(total) : -1);
	char *bytes = tide_format_bytes(copy, "bytes_done");
	char *text;

	for (int i = 0; i < BAR_WIDTH; i++)
		bar[i] = i < full ? '#' : '.';
	bar[BAR_WIDTH] = '\0';
	text = tide_printf("[%s] %3.0f %%  %lld of %lld tables, %s of %s rows, %s", bar,
					   floor(fraction * 100), tide_json_int(copy, "tables_copied"),
					   tide_json_int(copy, "tables"), rows, rows_total, bytes);
	free(rows);
	free(rows_total);
	free(bytes);
	return text;
}

static bool
copy_unfinished(const json_t *copy)
{
	return tide_json_int(copy, "tables_copied") < tide_json_int(copy, "tables");
}

/* Tables that can't take all rows, or the last error. */
static char *
note_drift(const json_t *row)
{
	const char *drift = tide_json_text(row, "drift");

	return drift != NULL ? tide_printf("tables differ (see tide.schema_drift): %s", drift)
						 : tide_status_last_error(row);
}

/*
 * The bar while a copy is unfinished, and why rows had to be copied again, if
 * they had; otherwise the last error.  A bar whose link is in trouble says so.
 */
static char *
note_link(const json_t *row)
{
	const json_t *copy = json_object_get(row, "progress");
	const char *reason = tide_json_text(row, "last_resync");
	const char *state = tide_json_text(row, "state");
	char *bar;
	char *note;

	if (state != NULL && strcmp(state, "error") == 0)
		return tide_status_last_error(row);
	if (!copy_unfinished(copy))
		return note_drift(row);
	bar = copy_text(copy);
	note = tide_printf("copy %s%s%s", bar, reason != NULL ? "; again, because: " : "",
					   reason != NULL ? reason : "");
	free(bar);
	return note;
}

static const TideStatusColumn link_columns[] = {
	{{"LINK FROM", false}, "region", tide_format_text},
	{{"BY", false}, "transport", tide_format_text},
	{{"STATE", false}, "state", tide_format_text},
	{{"LAG", true}, "lag_seconds", tide_format_seconds},
	{{"BEHIND", true}, "lag_bytes", tide_format_bytes},
	{{"POSITION", false}, "position", tide_format_text},
	{{"TRANSACTIONS", true}, "transactions", tide_format_text},
	{{"ROWS", true}, "rows", tide_format_text},
	{{"ROWS/S", true}, "rows_per_second", format_rate},
	{{"PARKED", true}, "parked", tide_format_text},
	{{"OWNER", false}, "owner", tide_format_text},
};

/* Shown where a link has more than one. */
static const TideStatusColumn lane_columns[] = {
	{{"LANE FROM", false}, "region", tide_format_text},
	{{"LANE", false}, "lane", tide_format_text},
	{{"STATE", false}, "state", tide_format_text},
	{{"HELD", false}, "held", tide_format_yes},
	{{"LAG", true}, "lag_seconds", tide_format_seconds},
	{{"BEHIND", true}, "lag_bytes", tide_format_bytes},
	{{"CLASSES", false}, "class_list", tide_format_text},
	{{"WAITS FOR", false}, "reason", tide_format_text},
};

static const TideStatusColumn slot_columns[] = {
	{{"SLOT", false}, "slot", tide_format_text},
	{{"FOR", false}, "region", tide_format_text},
	{{"ACTIVE", false}, "active", tide_format_yes},
	{{"WAL", false}, "wal_status", tide_format_text},
	{{"RETAINED", true}, "retained_bytes", tide_format_bytes},
	{{"ROOM", true}, "safe_bytes", tide_format_bytes},
	{{"TIME TO FULL", true}, "seconds_to_full", tide_format_seconds},
};

static const TideStatusColumn sync_columns[] = {
	{{"SYNC CLASS", false}, "class", tide_format_text},
	{{"WAITS FOR", false}, "peer", tide_format_text},
	{{"LISTED", false}, "listed", tide_format_yes},
	{{"CONNECTED", false}, "connected", tide_format_yes},
	{{"BEHIND", true}, "lag_bytes", tide_format_bytes},
	{{"WAITING", true}, "waiting", tide_format_text},
	{{"WAITS", true}, "waits", tide_format_text},
	{{"ENDED", true}, "waits_ended", tide_format_text},
	{{"LAST ENDED", false}, "last_ended", tide_format_text},
};

void
tide_status_print_rows(FILE *out, const json_t *status)
{
	TIDE_STATUS_TABLE(out, json_object_get(status, "links"), link_columns, note_link);
	TIDE_STATUS_TABLE(out, json_object_get(status, "sync"), sync_columns, NULL);
	TIDE_STATUS_TABLE(out, json_object_get(status, "lanes"), lane_columns, NULL);
	TIDE_STATUS_TABLE(out, json_object_get(status, "slots"), slot_columns, NULL);
}

static void
line_link(FILE *out, const char *time, const json_t *link)
{
	const json_t *copy = json_object_get(link, "progress");
	char *lag = tide_format_seconds(link, "lag_seconds");
	char *behind = tide_format_bytes(link, "lag_bytes");
	char *rate = format_rate(link, "rows_per_second");
	char *bar = copy_unfinished(copy) ? copy_text(copy) : NULL;

	fprintf(out, "%s link from ", time);
	tide_write_safely(out, tide_json_text(link, "region"));
	fprintf(out, ": %s, lag %s, behind %s, %lld rows (%s/s), %lld transactions, %lld parked",
			tide_json_text(link, "state"), lag, behind, tide_json_int(link, "rows"), rate,
			tide_json_int(link, "transactions"), tide_json_int(link, "parked"));
	fprintf(out, "%s%s\n", bar != NULL ? ", copy " : "", bar != NULL ? bar : "");
	free(bar);
	free(rate);
	free(behind);
	free(lag);
}

void
tide_status_line_links(FILE *out, const char *time, const json_t *status)
{
	const json_t *links = json_object_get(status, "links");

	for (size_t i = 0; i < json_array_size(links); i++)
		line_link(out, time, json_array_get(links, i));
}
