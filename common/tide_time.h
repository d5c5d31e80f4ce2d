/*
 * tide_time.h
 *		RFC 3339 times to and from microseconds since 1970-01-01 UTC.
 *
 * Owns: the proleptic Gregorian calendar, years 0001 to 9999.  Does not own: a
 * clock or time zones.
 */
#ifndef TIDE_TIME_H
#define TIDE_TIME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TIDE_TIME_TEXT 32
#define TIDE_TIME_MIN INT64_C(-62135596800000000) /* 0001-01-01T00:00:00.000000Z */
#define TIDE_TIME_MAX INT64_C(253402300799999999) /* 9999-12-31T23:59:59.999999Z */

/* 2026-11-21T08:15:30.123456Z; false and "" outside the years above. */
extern bool tide_time_format(char out[TIDE_TIME_TEXT], int64_t unix_us);

/*
 * YYYY-MM-DDThh:mm:ss[.f{1,9}](Z|+hh:mm|-hh:mm), the whole text; 't', 'z' and a
 * space for the T are taken too.  Digits beyond microseconds are cut off, a
 * leap second (:60) is the second after it.  False if not, or out of range.
 */
extern bool tide_time_parse(const char *text, size_t len, int64_t *unix_us);

#endif /* TIDE_TIME_H */
