/*
 * log.h
 *		Log records on standard error, one line each.
 *
 * Owns: levels, the two line formats, and escaping so that hostile text (a
 * payload, a server's message, a pipeline's name) can't forge or break a line.
 * Does not own: what is worth logging.  An error is logged once, where the
 * decision about it is made.  All functions may be called from any thread.
 */
#ifndef TIDE_LOG_H
#define TIDE_LOG_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "error.h"

typedef enum TideLogLevel
{
	TIDE_LOG_ERROR,
	TIDE_LOG_WARN,
	TIDE_LOG_INFO,
	TIDE_LOG_DEBUG
} TideLogLevel;

typedef enum TideLogFormat
{
	TIDE_LOG_TEXT, /* key=value, quoted where needed */
	TIDE_LOG_JSON  /* one JSON object per line */
} TideLogFormat;

/* Before any thread is started; default: info, text. */
extern void tide_log_init(TideLogLevel level, TideLogFormat format);
extern bool tide_log_level_parse(const char *name, TideLogLevel *level);
extern bool tide_log_format_parse(const char *name, TideLogFormat *format);
extern bool tide_log_enabled(TideLogLevel level);

/* Names the pipeline this thread works for in all its records; copied; NULL: none. */
extern void tide_log_set_pipeline(const char *name);

extern void
tide_log(TideLogLevel level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/*
 * Logs err with what was being done ("could not open the sink").  The record
 * carries the error's message, class, code and hint as fields of their own.
 */
extern void tide_log_error(TideLogLevel level, const TideError *err, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* One record, and how it becomes a line: apart, so that tests can look at it. */
typedef struct TideLogRecord
{
	TideLogLevel level;
	int64_t time_us;	  /* microseconds since 1970 */
	const char *pipeline; /* NULL: none */
	const char *message;
	const TideError *error; /* NULL: none */
} TideLogRecord;

extern void tide_log_format(FILE *out, TideLogFormat format, const TideLogRecord *record);

#endif /* TIDE_LOG_H */
