/*
 * log.c
 *		Log records on standard error, one line each.
 *
 * A record is made complete in memory and handed to the kernel in one write,
 * so that lines of different threads never mix.
 */
#include "log.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "mem.h"
#include "stop.h"
#include "tide_text.h"

#define MAX_PIPELINE_NAME 64

static const char *const level_names[] = {
	[TIDE_LOG_ERROR] = "error",
	[TIDE_LOG_WARN] = "warn",
	[TIDE_LOG_INFO] = "info",
	[TIDE_LOG_DEBUG] = "debug",
};

static const char *const format_names[] = {
	[TIDE_LOG_TEXT] = "text",
	[TIDE_LOG_JSON] = "json",
};

static TideLogLevel max_level = TIDE_LOG_INFO;
static TideLogFormat line_format = TIDE_LOG_TEXT;
static _Thread_local char thread_pipeline[MAX_PIPELINE_NAME];

void
tide_log_init(TideLogLevel level, TideLogFormat format)
{
	max_level = level;
	line_format = format;
}

static bool
find_name(const char *const *names, size_t n, const char *name, size_t *found)
{
	for (size_t i = 0; i < n; i++)
	{
		if (strcmp(names[i], name) == 0)
		{
			*found = i;
			return true;
		}
	}
	return false;
}

bool
tide_log_level_parse(const char *name, TideLogLevel *level)
{
	size_t i;

	if (!find_name(level_names, sizeof(level_names) / sizeof(level_names[0]), name, &i))
		return false;
	*level = (TideLogLevel) i;
	return true;
}

bool
tide_log_format_parse(const char *name, TideLogFormat *format)
{
	size_t i;

	if (!find_name(format_names, sizeof(format_names) / sizeof(format_names[0]), name, &i))
		return false;
	*format = (TideLogFormat) i;
	return true;
}

bool
tide_log_enabled(TideLogLevel level)
{
	return level <= max_level;
}

void
tide_log_set_pipeline(const char *name)
{
	snprintf(thread_pipeline, sizeof(thread_pipeline), "%s", name != NULL ? name : "");
}

/*
 * Length of the character at s that may be shown as it is; 0 if it may not:
 * invalid bytes, control characters of the C1 range, and the line separators
 * U+2028 and U+2029, which some viewers obey.
 */
static size_t
shown_length(const char *s)
{
	size_t len = tide_utf8_sequence(s, strlen(s));
	bool c1 = len == 2 && memcmp(s, "\xC2\xA0", 2) < 0;
	bool separator = len == 3 && memcmp(s, "\xE2\x80", 2) == 0 &&
					 (s[2] == '\xA8' || s[2] == '\xA9');

	return c1 || separator ? 0 : len;
}

/*
 * Writes text between double quotes.  The escapes are JSON's, in both formats;
 * a byte that is no part of a valid character becomes \u00XX.
 */
static void
write_quoted(FILE *out, const char *text)
{
	putc('"', out);
	while (*text != '\0')
	{
		unsigned char c = (unsigned char) *text;
		size_t len = shown_length(text);

		if (c == '"' || c == '\\')
			fprintf(out, "\\%c", c);
		else if (c == '\n')
			fputs("\\n", out);
		else if (len == 0 || c < 0x20 || c == 0x7F)
			fprintf(out, "\\u%04x", c);
		else
			fwrite(text, 1, len, out);
		text += len > 0 ? len : 1;
	}
	putc('"', out);
}

static bool
is_plain(const char *text)
{
	if (*text == '\0')
		return false;
	for (const char *s = text; *s != '\0'; s++)
	{
		bool plain = (*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') ||
					 (*s >= '0' && *s <= '9') || strchr("_-.:/+", *s) != NULL;

		if (!plain)
			return false;
	}
	return true;
}

static void
write_field(FILE *out, TideLogFormat format, const char *key, const char *value)
{
	if (value == NULL)
		return;
	if (format == TIDE_LOG_JSON)
	{
		fprintf(out, ",\"%s\":", key);
		write_quoted(out, value);
		return;
	}
	fprintf(out, " %s=", key);
	if (is_plain(value))
		fputs(value, out);
	else
		write_quoted(out, value);
}

static const char *
not_empty(const char *text)
{
	return text[0] != '\0' ? text : NULL;
}

void
tide_log_format(FILE *out, TideLogFormat format, const TideLogRecord *record)
{
	time_t seconds = (time_t) (record->time_us / 1000000);
	struct tm utc;
	char when[32];

	gmtime_r(&seconds, &utc);
	strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%S", &utc);
	fprintf(out, format == TIDE_LOG_JSON ? "{\"time\":\"%s.%03dZ\"" : "time=%s.%03dZ", when,
			(int) (record->time_us % 1000000 / 1000));
	write_field(out, format, "level", level_names[record->level]);
	write_field(out, format, "pipeline", record->pipeline);
	write_field(out, format, "msg", record->message);
	if (record->error != NULL)
	{
		write_field(out, format, "error", record->error->message);
		write_field(out, format, "class", tide_error_class_name(record->error->class));
		write_field(out, format, "code", not_empty(record->error->code));
		write_field(out, format, "hint", not_empty(record->error->hint));
	}
	fputs(format == TIDE_LOG_JSON ? "}\n" : "\n", out);
}

static void
log_record(TideLogLevel level, const TideError *error, const char *fmt, va_list args)
{
	TideLogRecord record = {.level = level, .time_us = tide_wall_us(), .error = error};
	char *message;
	char *line = NULL;
	size_t line_len = 0;
	FILE *out;
	ssize_t ignored;

	if (vasprintf(&message, fmt, args) < 0)
		tide_out_of_memory(strlen(fmt));
	record.message = message;
	record.pipeline = not_empty(thread_pipeline);

	out = open_memstream(&line, &line_len);
	if (out == NULL)
		tide_out_of_memory(0);
	tide_log_format(out, line_format, &record);
	fclose(out);
	ignored = write(STDERR_FILENO, line, line_len);
	(void) ignored; /* nowhere to complain */
	free(line);
	free(message);
}

void
tide_log(TideLogLevel level, const char *fmt, ...)
{
	va_list args;

	if (!tide_log_enabled(level))
		return;
	va_start(args, fmt);
	log_record(level, NULL, fmt, args);
	va_end(args);
}

void
tide_log_error(TideLogLevel level, const TideError *err, const char *fmt, ...)
{
	va_list args;

	if (!tide_log_enabled(level))
		return;
	va_start(args, fmt);
	log_record(level, err, fmt, args);
	va_end(args);
}
