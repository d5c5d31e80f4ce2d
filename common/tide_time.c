/*
 * tide_time.c
 *		RFC 3339 times to and from microseconds since 1970-01-01 UTC.
 *
 * Owns: the proleptic Gregorian calendar, years 0001 to 9999.  Does not own: a
 * clock or time zones.
 */
#include "tide_time.h"

#include <stdio.h>

#include "tide_text.h"

#define US_PER_SECOND INT64_C(1000000)
#define SECONDS_PER_DAY INT64_C(86400)
#define DAYS_0001_TO_1970 INT64_C(719162)

typedef struct Civil
{
	int year;
	int month; /* 1 to 12 */
	int day;   /* 1 to 31 */
} Civil;

/* Days before each month of a year that is no leap year; [12] is the whole year. */
static const int days_before[] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365};

static bool
is_leap(int year)
{
	return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
}

static int
month_start(int year, int month)
{
	return days_before[month - 1] + (month > 2 && is_leap(year));
}

/* Days from 0001-01-01 to the first of January of year. */
static int64_t
year_start(int year)
{
	int64_t y = year - 1;

	return y * 365 + y / 4 - y / 100 + y / 400;
}

static int64_t
days_from_civil(Civil date)
{
	return year_start(date.year) + month_start(date.year, date.month) + date.day - 1;
}

static Civil
civil_from_days(int64_t days)
{
	Civil date = {.month = 12};
	int in_year;

	/* The mean year never undershoots by more than one, so one step corrects it. */
	date.year = (int) (days * 400 / 146097) + 1;
	if (year_start(date.year) > days)
		date.year--;
	else if (year_start(date.year + 1) <= days)
		date.year++;
	in_year = (int) (days - year_start(date.year));
	while (month_start(date.year, date.month) > in_year)
		date.month--;
	date.day = in_year - month_start(date.year, date.month) + 1;
	return date;
}

bool
tide_time_format(char out[TIDE_TIME_TEXT], int64_t unix_us)
{
	uint64_t us;
	unsigned second;
	Civil date;

	out[0] = '\0';
	if (unix_us < TIDE_TIME_MIN || unix_us > TIDE_TIME_MAX)
		return false;
	us = (uint64_t) (unix_us - TIDE_TIME_MIN);
	second = (unsigned) (us / US_PER_SECOND % SECONDS_PER_DAY);
	date = civil_from_days((int64_t) (us / US_PER_SECOND / SECONDS_PER_DAY));
	snprintf(out, TIDE_TIME_TEXT, "%04u-%02u-%02uT%02u:%02u:%02u.%06uZ",
			 (unsigned) date.year % 10000, (unsigned) date.month % 100, (unsigned) date.day % 100,
			 second / 3600, second / 60 % 60, second % 60, (unsigned) (us % US_PER_SECOND));
	return true;
}

typedef struct Cursor
{
	const char *p;
	const char *end;
} Cursor;

static bool
take_char(Cursor *c, const char *allowed)
{
	if (c->p == c->end)
		return false;
	for (; *allowed != '\0'; allowed++)
	{
		if (*c->p == *allowed)
		{
			c->p++;
			return true;
		}
	}
	return false;
}

/* Exactly digits digits, within low and high. */
static bool
take_int(Cursor *c, int digits, int low, int high, int *value)
{
	*value = 0;
	for (int i = 0; i < digits; i++, c->p++)
	{
		if (c->p == c->end || *c->p < '0' || *c->p > '9')
			return false;
		*value = *value * 10 + (*c->p - '0');
	}
	return *value >= low && *value <= high;
}

static bool
take_date(Cursor *c, int64_t *days)
{
	Civil date;

	if (!take_int(c, 4, 1, 9999, &date.year) || !take_char(c, "-") ||
		!take_int(c, 2, 1, 12, &date.month) || !take_char(c, "-") ||
		!take_int(c, 2, 1, 31, &date.day))
		return false;
	if (date.day > days_before[date.month] - days_before[date.month - 1] +
					   (date.month == 2 && is_leap(date.year)))
		return false;
	*days = days_from_civil(date);
	return true;
}

static bool
take_fraction(Cursor *c, int *us)
{
	int digits = 0;

	*us = 0;
	if (!take_char(c, "."))
		return true;
	for (; c->p < c->end && *c->p >= '0' && *c->p <= '9'; c->p++, digits++)
	{
		if (digits < 6)
			*us = *us * 10 + (*c->p - '0');
	}
	if (digits < 1 || digits > 9)
		return false;
	for (; digits < 6; digits++)
		*us *= 10;
	return true;
}

static bool
take_clock(Cursor *c, int *seconds, int *us)
{
	int hour;
	int minute;
	int second;

	if (!take_int(c, 2, 0, 23, &hour) || !take_char(c, ":") || !take_int(c, 2, 0, 59, &minute) ||
		!take_char(c, ":") || !take_int(c, 2, 0, 60, &second))
		return false;
	*seconds = hour * 3600 + minute * 60 + second;
	return take_fraction(c, us);
}

static bool
take_offset(Cursor *c, int *seconds)
{
	int hour;
	int minute;
	bool west = c->p < c->end && *c->p == '-';

	*seconds = 0;
	if (take_char(c, "Zz"))
		return true;
	if (!take_char(c, "+-") || !take_int(c, 2, 0, 23, &hour) || !take_char(c, ":") ||
		!take_int(c, 2, 0, 59, &minute))
		return false;
	*seconds = hour * 3600 + minute * 60;
	if (west)
		*seconds = -*seconds;
	return true;
}

bool
tide_time_parse(const char *text, size_t len, int64_t *unix_us)
{
	Cursor c = {text, text + len};
	int64_t days;
	int64_t total;
	int seconds;
	int us;
	int offset;

	if (!take_date(&c, &days) || !take_char(&c, "Tt ") || !take_clock(&c, &seconds, &us) ||
		!take_offset(&c, &offset) || c.p != c.end)
		return false;
	total = ((days - DAYS_0001_TO_1970) * SECONDS_PER_DAY + seconds - offset) * US_PER_SECOND + us;
	if (total < TIDE_TIME_MIN || total > TIDE_TIME_MAX)
		return false;
	*unix_us = total;
	return true;
}
