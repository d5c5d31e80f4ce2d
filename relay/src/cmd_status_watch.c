/*
 * cmd_status_watch.c
 *		"pg_tide status --watch": the status again every second.
 *
 * Owns: the loop, its end by a signal, what changes between two looks (rates),
 * redrawing a terminal.  On a terminal the tables are drawn over the last ones;
 * elsewhere each link and pipeline is a line a second, and with --json each
 * document is one line.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"
#include "mem.h"
#include "pg_json.h"
#include "queries.h"
#include "status.h"
#include "stop.h"

#define LOOK_MS 1000

typedef enum WatchStyle
{
	WATCH_TERMINAL,
	WATCH_LINES,
	WATCH_JSON
} WatchStyle;

typedef struct Watch
{
	const char *conninfo;
	WatchStyle style;
	TideStop *stop;
	TidePg *pg;		/* NULL: not connected */
	json_t *before; /* the last document */
	long long before_ms;
} Watch;

/* ---- the end ---- */

static TideStop *volatile interrupted;

static void
handle_signal(int signo)
{
	(void) signo;
	tide_stop_request(interrupted);
}

static void
catch_signals(TideStop *stop)
{
	struct sigaction action = {.sa_handler = handle_signal};

	interrupted = stop;
	sigemptyset(&action.sa_mask);
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
}

/* ---- what changes between two looks ---- */

static const json_t *
find_link(const json_t *status, const char *region)
{
	const json_t *links = json_object_get(status, "links");

	for (size_t i = 0; region != NULL && i < json_array_size(links); i++)
	{
		const json_t *link = json_array_get(links, i);
		const char *name = tide_json_text(link, "region");

		if (name != NULL && strcmp(name, region) == 0)
			return link;
	}
	return NULL;
}

static void
add_rates(const Watch *watch, json_t *status, double seconds)
{
	const json_t *links = json_object_get(status, "links");
	double wal = (double) (tide_json_int(status, "wal_bytes") -
						   tide_json_int(watch->before, "wal_bytes")) /
				 seconds;
	const json_t *slots = json_object_get(status, "slots");

	for (size_t i = 0; i < json_array_size(links); i++)
	{
		json_t *link = json_array_get(links, i);
		const json_t *old = find_link(watch->before, tide_json_text(link, "region"));
		long long rows = tide_json_int(link, "rows") - tide_json_int(old, "rows");

		if (old != NULL && rows >= 0)
			json_object_set_new(link, "rows_per_second", json_real((double) rows / seconds));
	}
	for (size_t i = 0; wal > 0 && i < json_array_size(slots); i++)
	{
		json_t *slot = json_array_get(slots, i);
		const json_t *room = json_object_get(slot, "safe_bytes");

		if (json_is_number(room))
			json_object_set_new(slot, "seconds_to_full", json_real(json_number_value(room) / wal));
	}
}

/* ---- showing ---- */

static void
now_text(char *buffer, size_t size)
{
	time_t now = time(NULL);
	struct tm parts;

	gmtime_r(&now, &parts);
	strftime(buffer, size, "%Y-%m-%dT%H:%M:%SZ", &parts);
}

/* Draws over what is there, a line at a time, so that nothing flickers; what does not fit is cut. */
static void
draw(const char *text)
{
	struct winsize size = {0};
	int rows = 24;

	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 2)
		rows = size.ws_row;
	fputs("\033[H", stdout);
	for (int row = 1; *text != '\0' && row < rows; row++)
	{
		size_t len = strcspn(text, "\n");
		size_t fits = size.ws_col > 0 && len > size.ws_col ? size.ws_col : len;

		while (fits < len && fits > 0 && ((unsigned char) text[fits] & 0xC0) == 0x80)
			fits--; /* not in the middle of a character */
		fwrite(text, 1, fits, stdout);
		fputs("\033[K\n", stdout);
		text += len + (text[len] == '\n');
	}
	fputs("\033[J", stdout);
}

static void
line_pipelines(FILE *out, const char *time, const json_t *status)
{
	const json_t *pipelines = json_object_get(status, "pipelines");

	for (size_t i = 0; i < json_array_size(pipelines); i++)
	{
		const json_t *pipeline = json_array_get(pipelines, i);
		char *lag = tide_format_seconds(pipeline, "lag_seconds");

		fprintf(out, "%s pipeline ", time);
		tide_write_safely(out, tide_json_text(pipeline, "name"));
		fprintf(out, ": %s, lag %s\n", tide_json_text(pipeline, "state"), lag);
		free(lag);
	}
}

static void
show_tables(const char *time, const json_t *status)
{
	char *text = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&text, &size);

	if (out == NULL)
		tide_out_of_memory(0);
	fprintf(out, "%s, every second; ^C ends it\n", time);
	tide_status_print(out, status);
	fclose(out);
	draw(text);
	free(text);
}

static void
show(const Watch *watch, const json_t *status)
{
	char time[32];

	now_text(time, sizeof(time));
	switch (watch->style)
	{
		case WATCH_TERMINAL:
			show_tables(time, status);
			break;
		case WATCH_LINES:
			tide_status_line_links(stdout, time, status);
			line_pipelines(stdout, time, status);
			break;
		case WATCH_JSON:
			json_dumpf(status, stdout, JSON_COMPACT | JSON_SORT_KEYS);
			putchar('\n');
			break;
	}
}

/* Why nothing can be shown at the moment; on standard error where somebody parses the output. */
static void
show_error(const Watch *watch, const TideError *err)
{
	char time[32];

	now_text(time, sizeof(time));
	if (watch->style == WATCH_TERMINAL)
		fputs("\033[H\033[J", stdout);
	fprintf(watch->style == WATCH_TERMINAL ? stdout : stderr, "%s %s; trying again\n", time,
			err->message);
}

/* ---- the loop ---- */

static bool
read_status(Watch *watch, json_t **status, TideError *err)
{
	if (watch->pg == NULL && !tide_pg_open(watch->conninfo, "status", watch->stop, &watch->pg, err))
		return false;
	if (tide_pg_json(watch->pg, tide_q_status, status, err))
		return true;
	tide_pg_close(watch->pg);
	watch->pg = NULL;
	return false;
}

static void
look(Watch *watch, json_t *status)
{
	long long now = tide_monotonic_ms();

	if (watch->before != NULL && now > watch->before_ms)
		add_rates(watch, status, (double) (now - watch->before_ms) / 1000);
	show(watch, status);
	json_decref(watch->before);
	watch->before = status;
	watch->before_ms = now;
}

/* False: the first look failed, and *err says why. */
static bool
loop(Watch *watch, TideError *err)
{
	bool seen = false;

	do
	{
		json_t *status = NULL;

		tide_error_clear(err);
		if (read_status(watch, &status, err))
		{
			if (!seen && watch->style == WATCH_TERMINAL)
				fputs("\033[2J", stdout);
			look(watch, status);
			seen = true;
		}
		else if (err->class == TIDE_ERR_STOPPED)
			break;
		else if (!seen)
			return false;
		else
			show_error(watch, err);
		/* Nobody reads any more: there is nobody to tell. */
		if (fflush(stdout) != 0)
			break;
	}
	while (tide_stop_sleep(watch->stop, LOOK_MS));
	return true;
}

static WatchStyle
choose_style(bool as_json)
{
	const char *term = getenv("TERM");

	if (as_json)
		return WATCH_JSON;
	if (isatty(STDOUT_FILENO) && term != NULL && strcmp(term, "dumb") != 0)
		return WATCH_TERMINAL;
	return WATCH_LINES;
}

TideExitCode
tide_status_watch(const char *conninfo, bool as_json)
{
	Watch watch = {.conninfo = conninfo, .style = choose_style(as_json), .stop = tide_stop_new()};
	TideError err = {0};
	bool ok;

	if (watch.stop == NULL)
	{
		tide_error(&err, TIDE_ERR_INTERNAL, "", "could not set up signals: %s", strerror(errno));
		return tide_cli_fail(&err);
	}
	catch_signals(watch.stop);
	ok = loop(&watch, &err);
	tide_pg_close(watch.pg);
	json_decref(watch.before);
	/* The handler may still be called: what it writes to lives as long as the process. */
	return ok ? TIDE_EXIT_OK : tide_cli_fail(&err);
}
