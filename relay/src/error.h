/*
 * error.h
 *		The relay's one error type.
 *
 * Owns: classes of failure, what each means for a retry, and the SQLSTATE or
 * broker code that came with it.  Does not own: logging.  An error is filled
 * where it happens, travels up by pointer, and is logged once, where the
 * decision about it is made (the pipeline loop or the command).
 */
#ifndef TIDE_ERROR_H
#define TIDE_ERROR_H

#include <stdbool.h>

/* What kind of thing went wrong decides what is done about it (see error.c). */
typedef enum TideErrorClass
{
	TIDE_ERR_NONE = 0,
	TIDE_ERR_UNAVAILABLE, /* peer down, connection lost, name not resolved */
	TIDE_ERR_TIMEOUT,	  /* peer did not answer in time */
	TIDE_ERR_THROTTLED,	  /* peer is full or asks us to slow down */
	TIDE_ERR_AUTH,		  /* credentials missing, wrong or expired; TLS refused */
	TIDE_ERR_PERMISSION,  /* we are known but may not do this */
	TIDE_ERR_CONFIG,	  /* the configuration can't work as written */
	TIDE_ERR_DATA,		  /* this one event can't be stored; others can */
	TIDE_ERR_STALE,		  /* another relay owns the pipeline now */
	TIDE_ERR_STOPPED,	  /* we were asked to stop; not a failure */
	TIDE_ERR_INTERNAL	  /* a bug or exhausted memory */
} TideErrorClass;

typedef struct TideError
{
	TideErrorClass class;
	char code[24];	   /* SQLSTATE, JetStream error code, errno name; may be "" */
	char message[512]; /* names the thing: pipeline, host, stream, setting */
	char hint[256];	   /* what to do about it; may be "" */
} TideError;

/* Fills *err (if not NULL) and returns false, so that callers can "return tide_error(...)". */
extern bool tide_error(TideError *err, TideErrorClass class, const char *code, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
extern void
tide_error_hint(TideError *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
extern void tide_error_clear(TideError *err);

/* Is trying the same thing again, later, likely to help without anybody's action? */
extern bool tide_error_retryable(const TideError *err);
extern const char *tide_error_class_name(TideErrorClass class);

#endif /* TIDE_ERROR_H */
